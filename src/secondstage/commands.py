"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .config import Config
from .errors import Faults, UserError
from .files import read_json
from .parallel import workers
from .plan import Stage, carry_out, claimed, done
from .progress import say
from .stages import WARMUP_KINDS, Stages

# The stages that a command carries out, after those before them. Of a run that distils, the student is what is trained.
UP_TO = {
    "warmup": ("warmup",),
    "mine": ("mine",),
    "train": ("train", "student"),
    "bundle": ("bundle",),
    "evaluate": ("evaluation",),
}


def carry_out_up_to(command: str, config: Config) -> list[dict[str, Any]]:
    """Carry out every stage up to the command's own, skipping those that are done; return their manifests.

    Several processes, of `accelerate launch`, all call this: they mine and train together; the lead does the rest.
    """
    output = Path(config.output).expanduser()
    team = workers()
    stages = stages_of(command, config, output)
    manifests: list[dict[str, Any]] = []
    with claimed(output, [stage.kind for stage in stages]) if team.lead else nullcontext():
        for stage in stages if team.lead else ():
            done(stage, output)  # a folder that is to be left alone is refused before any work
        for stage in stages:
            manifests.append(carry_out(stage.after(manifests), output, team))
            if stage.kind == "evaluation" and team.lead:
                keep_verdict(output, manifests[-2])
            if len(manifests) == 1:
                for note in manifests[0]["notes"] if team.lead else ():
                    say(f"  {note}")
                check_splits(manifests[0], config, command)
    return manifests


def stages_of(command: str, config: Config, output: Path) -> list[Stage]:
    """The stages that a command carries out, in order; mining reads nothing of a warm-up, and waits for none.

    Raises:
        UserError: there is no such stage in this run.
    """
    stages = Stages(config, output).plan(evaluating=command == "evaluate")
    last = max((i for i, stage in enumerate(stages, 1) if stage.kind in UP_TO[command]), default=0)
    if not last:
        raise UserError(
            f"the config has no section {command}: give it a budget, e.g. {command}.minutes=5; see "
            "configs/no-queries.yaml"
        )
    return [stage for stage in stages[:last] if command != "mine" or stage.kind not in WARMUP_KINDS]


def check_splits(collection: Mapping[str, Any], config: Config, command: str) -> None:
    """Raise `UserError` if a split that a later stage needs is missing or useless: before the work, not after it."""
    splits, faults = collection["splits"], Faults(f"collection {collection['name']!r}")
    makes_lists = "train" in splits or config.mine.synthesize is not None
    distill = config.distill
    trains = config.train.steps != 0 and (distill is None or distill.trains)
    nothing_to_teach = not makes_lists and not trains and distill is not None and distill.queries is None
    if nothing_to_teach and command not in ("warmup", "mine"):
        faults.add(
            "no train split, and no unlabelled queries (distill.queries): a student learns from what the teacher makes "
            "of one of the two"
        )
    if not makes_lists and trains and command != "warmup":
        as_it_is = "train.model" if config.warmup is None else "the warmed-up model"
        faults.add(
            f"no train split: give qrels/train.tsv; without labels nothing can be trained (train.steps=0 takes "
            f"{as_it_is} as it is, mine.synthesize makes queries from documents)"
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
    makes_bundle = makes_lists or not (trains or nothing_to_teach)
    faults.raise_if_any("`secondstage bundle CONFIG` makes the pipeline without a proof" if makes_bundle else "")


def keep_verdict(output: Path, bundle: Mapping[str, Any]) -> None:
    """Put what the gate said into the bundle, where whoever serves it will see it."""
    from secondstage.serve import Verdict, write_verdict

    verdict = read_json(output / "evaluation" / "metrics.json")["verdict"]
    write_verdict(output / "bundle", bundle["fingerprint"], Verdict(verdict["passed"], verdict["sentence"]))
