"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .config import MINED, TEACHER, Config, DistillConfig, StudentConfig, TrainConfig
from .distillation import RERANKER
from .errors import Faults, UserError
from .files import read_json
from .inputs import check_model, check_student
from .learning import STUDENT, speaking_of
from .models import read_config
from .networks import has_head
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
    check_models(config, stages, output)
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
        UserError: there is no such stage in this run, or it would make nothing.
    """
    run = Stages(config, output)
    if command == "mine" and run.untrained:
        raise UserError(
            "train.steps=0 takes train.model as it is, which needs no lists, so mine would make none: give a budget, "
            "e.g. train.minutes=4, or make the pipeline with `secondstage bundle CONFIG`"
        )
    stages = run.plan(evaluating=command == "evaluate")
    last = max((i for i, stage in enumerate(stages, 1) if stage.kind in UP_TO[command]), default=0)
    if not last:
        raise UserError(
            f"the config has no section {command}: give it a budget, e.g. {command}.minutes=5; see "
            "configs/no-queries.yaml"
        )
    return [stage for stage in stages[:last] if command != "mine" or stage.kind not in WARMUP_KINDS]


def check_models(config: Config, stages: Iterable[Stage], output: Path) -> None:
    """Raise `UserError` if a model that a training starts from is none, or has not what is asked for, or is taken as it
    is with a head that nobody trained, or if its tracker cannot start: before the work, not after it. What was trained
    before, of stages that are all there, is not looked at: its model may be gone."""
    kinds = _to_be_made(stages, output)
    if kinds & {"warmup", "train"}:
        if config.train.steps != 0 or config.warms or config.train.head == "yes_no":
            _check_start(config.train)
        else:
            check_model(config.train)
    if "train" in kinds:
        _check_tracker(config.train)
    if "student" in kinds and config.distill is not None:
        with speaking_of(STUDENT):
            teacher, cut = _cut_from(config, config.distill, output, made="train" not in kinds)
            check_student(config.distill, teacher, cut)
            student = config.distill.student
            if student.model != TEACHER:
                _check_start(student)
            elif teacher is not None and cut is None:
                _check_start(student.model_copy(update={"model": teacher}))
            _check_tracker(config.distill.student)
    if "train" not in kinds or config.train.steps != 0 or config.warms:
        return
    # The configuration of nearly all rerankers says that there is a head: only of others the weights are looked at.
    if not has_head(read_config(config.train.model), config.train.head):
        from secondstage.train.checks import refuse_new_head

        refuse_new_head(config.train)


def _to_be_made(stages: Iterable[Stage], output: Path) -> set[str]:
    """The stages from the first one on that is not there as it is planned now."""
    left, manifests = list(stages), list[dict[str, Any]]()
    while left and (found := done(left[0].after(manifests), output)):
        manifests.append(found)
        del left[0]
    return {stage.kind for stage in left}


def _check_start(training: TrainConfig) -> None:
    from secondstage.train.model import check_start

    check_start(training)


def _check_tracker(training: TrainConfig) -> None:
    if training.tracker != "none" and training.steps != 0:
        from secondstage.train.tracking import check_tracker

        check_tracker(training)


def _cut_from(
    config: Config, distill: DistillConfig, output: Path, *, made: bool
) -> tuple[str | None, StudentConfig | None]:
    """The model that a student may be cut from, and what that is cut to before; what this run made, where it did."""
    if not distill.trains:
        return (None if distill.teacher == MINED else distill.teacher), None
    return (str(output / "train" / RERANKER), None) if made else (config.train.model, config.train.student)


def check_splits(collection: Mapping[str, Any], config: Config, command: str) -> None:
    """Raise `UserError` if a split that a later stage needs is missing or useless: before the work, not after it."""
    splits, faults = collection["splits"], Faults(f"collection {collection['name']!r}")
    found = [*_learning_faults(splits, config, command)]
    for message in (*found, *(_proof_faults(splits, config) if command == "evaluate" else ())):
        faults.add(message)
    faults.raise_if_any("" if found else "`secondstage bundle CONFIG` makes the pipeline without a proof")


def _learning_faults(splits: Mapping[str, Any], config: Config, command: str) -> Iterator[str]:
    """Why nothing could be trained."""
    if command == "warmup":
        return
    distill, mine = config.distill, config.mine
    makes_lists = "train" in splits or mine.synthesize is not None
    if not makes_lists and config.trains:
        as_it_is = "train.model" if config.warmup is None else "the warmed-up model"
        yield (
            f"no train split: give qrels/train.tsv; without labels nothing can be trained (train.steps=0 takes "
            f"{as_it_is} as it is, mine.synthesize makes queries from documents)"
        )
    elif not makes_lists and distill is not None and distill.queries is None and command != "mine":
        yield (
            "no train split, and no unlabelled queries (distill.queries): a student learns from what the teacher makes "
            "of one of the two"
        )
    if mine.synthesize is None and (config.train.steps != 0 or distill is not None):
        train = splits.get("train", {})
        # Not counted in a collection stored long ago.
        if train.get("highest", mine.positive_from) < mine.positive_from:
            yield (
                f"no query of the train split has a judgement of mine.positive_from={mine.positive_from} or higher "
                f"({train['queries']} are judged, with {train['highest']} at most): nothing can be learnt from it; "
                "lower mine.positive_from, mend qrels/train.tsv, or give mine.synthesize, which makes queries from "
                "documents"
            )


def _proof_faults(splits: Mapping[str, Any], config: Config) -> Iterator[str]:
    """Why nothing could be proven."""
    asked = config.evaluate
    for key, split in (("split", asked.split), *(("extra_splits", name) for name in asked.extra_splits)):
        if split not in splits:
            cut = ", and collection.test_share=0.1 cuts one from train" if split == "test" and "train" in splits else ""
            yield (
                f"no {split!r} split, which evaluate.{key} names: nothing can be proven on it; there are "
                f"{', '.join(splits) or 'none'}{cut}"
            )
        elif splits[split].get("answerable") == 0:  # not counted in a collection stored long ago
            yield (
                f"no query of the {split!r} split, which evaluate.{key} names, has a relevant document "
                f"({splits[split]['queries']} are judged): nothing can be measured on it"
            )


def keep_verdict(output: Path, bundle: Mapping[str, Any]) -> None:
    """Put what the gate said into the bundle, where whoever serves it will see it."""
    from secondstage.serve import Verdict, write_verdict

    verdict = read_json(output / "evaluation" / "metrics.json")["verdict"]
    write_verdict(output / "bundle", bundle["fingerprint"], Verdict(verdict["passed"], verdict["sentence"]))
