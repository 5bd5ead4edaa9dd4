"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .config import Config
from .errors import Faults, UserError
from .files import fingerprint, read_json
from .parallel import workers
from .plan import carry_out, claimed, done
from .progress import say
from .stages import Stages

# What a command carries out: a stage, and those before it. Of a run that distils, the student is what is trained.
UP_TO = {"mine": ("mine",), "train": ("train", "student"), "bundle": ("bundle",), "evaluate": ("evaluation",)}


def carry_out_up_to(command: str, config: Config) -> list[dict[str, Any]]:
    """Carry out every stage up to the command's own, skipping those that are done; return their manifests.

    Several processes, of `accelerate launch`, all call this: they mine together.
    """
    output = Path(config.output).expanduser()
    team = workers()
    if team.size > 1 and command != "mine":
        raise UserError(
            f"{team.size} processes were started for {command!r}, but only mining is shared among several yet: "
            f"start `secondstage mine` so, then `secondstage {command}` as one process, which goes on from there"
        )
    stages = Stages(config, output).plan(evaluating=command == "evaluate")
    stages = stages[: max(i for i, stage in enumerate(stages, 1) if stage.kind in UP_TO[command])]
    manifests: list[dict[str, Any]] = []
    with claimed(output, [stage.kind for stage in stages]) if team.lead else nullcontext():
        for stage in stages if team.lead else ():
            done(stage, output)  # a folder that is to be left alone is refused before any work
        for stage in stages:
            # What the stages before it made is part of what a stage is made from: a timed training that was made again
            # is another one, though no setting changed.
            made = [manifest["files"] for manifest in manifests]
            stage = stage._replace(fingerprint=fingerprint(stage.fingerprint, made))
            manifests.append(carry_out(stage, output, team))
            if stage.kind == "evaluation":
                keep_verdict(output, manifests[-2])
            if len(manifests) == 1:
                for note in manifests[0]["notes"] if team.lead else ():
                    say(f"  {note}")
                check_splits(manifests[0], config, command)
    return manifests


def check_splits(collection: Mapping[str, Any], config: Config, command: str) -> None:
    """Raise `UserError` if a split that a later stage needs is missing or useless: before the work, not after it."""
    splits, faults = collection["splits"], Faults(f"collection {collection['name']!r}")
    makes_lists = "train" in splits or config.mine.synthesize is not None
    if not makes_lists and config.train.steps == 0 and config.distill is not None and config.distill.queries is None:
        faults.add(
            "no train split, and no unlabelled queries (distill.queries): a student learns from what the teacher makes "
            "of one of the two"
        )
    if not makes_lists and config.train.steps != 0:
        faults.add(
            "no train split: give qrels/train.tsv; without labels nothing can be trained (train.steps=0 takes "
            "train.model as it is, mine.synthesize makes queries from documents)"
        )
    if command == "evaluate":
        for key, split in (
            ("split", config.evaluate.split),
            *(("extra_splits", name) for name in config.evaluate.extra_splits),
        ):
            if split not in splits:
                faults.add(
                    f"no {split!r} split, which evaluate.{key} names: nothing can be proven on it; there are "
                    f"{', '.join(splits) or 'none'}"
                )
            elif splits[split].get("answerable") == 0:  # not counted in a collection stored long ago
                faults.add(
                    f"no query of the {split!r} split, which evaluate.{key} names, has a relevant document "
                    f"({splits[split]['queries']} are judged): nothing can be measured on it"
                )
    makes_bundle = makes_lists or config.train.steps == 0
    faults.raise_if_any("`secondstage bundle CONFIG` makes the pipeline without a proof" if makes_bundle else "")


def keep_verdict(output: Path, bundle: Mapping[str, Any]) -> None:
    """Put what the gate said into the bundle, where whoever serves it will see it."""
    from secondstage.serve import Verdict, write_verdict

    verdict = read_json(output / "evaluation" / "metrics.json")["verdict"]
    write_verdict(output / "bundle", bundle["fingerprint"], Verdict(verdict["passed"], verdict["sentence"]))
