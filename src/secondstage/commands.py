"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import firststage
from .collection import Collection
from .config import Config, EvaluateConfig, MineConfig, Section
from .errors import Faults, UserError
from .files import file_digest, fingerprint, read_json, read_manifest
from .firststage.bm25 import check_language
from .intake import write_collection
from .models import identity
from .parallel import Workers, workers
from .plan import Stage, carry_out, claimed, done
from .progress import say
from .scorecache import SCORES
from .sources import open_source
from .version import __version__

if TYPE_CHECKING:
    from secondstage.mine import Source

# What a command carries out: its own stage, and those before it.
UP_TO = {"mine": 3, "train": 4, "bundle": 5, "evaluate": 6}


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
    stages = plan(config, output, evaluating=command == "evaluate")[: UP_TO[command]]
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
                    f"{', '.join(splits)}"
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


def evaluated(config: EvaluateConfig) -> dict[str, str]:
    """What decides whether the further models and files of an evaluation are still the same.

    Raises:
        UserError: one is not there, or the key of the API is not set: before the work, not after it.
    """
    if config.remote is not None:
        from .remote import RemoteReranker

        RemoteReranker.from_config(config.remote)
    for bundle in config.replicates:
        read_manifest(Path(bundle).expanduser(), "bundle")
    models = [*config.rerankers.values(), *config.exports.values(), *config.replicates]
    found = {model: identity(model) for model in models}
    for name, file in config.slices.items():
        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"evaluate.slices: {name}: {path} is not there; give a file of query ids")
        found[f"slice {name}"] = file_digest(path)
    return found


def mined_from(config: MineConfig) -> dict[str, str]:
    """What decides whether teachers, generator and reviewed labels are still the same.

    Raises:
        UserError: one is not there, or a key is not set: before the work, not after it.
    """
    from . import teachers

    found = {f"teacher {name}": teachers.identity(teacher) for name, teacher in config.teachers.items()}
    if config.synthesize is not None and config.synthesize.model:
        found["generator"] = identity(config.synthesize.model)
    if config.reviewed is not None:
        path = Path(config.reviewed).expanduser()
        if not path.is_file():
            raise UserError(f"mine.reviewed: {path} is not there; give the suspicious.tsv of an earlier run, reviewed")
        found["reviewed"] = file_digest(path)
    return found


def replayed_steps(replay: str) -> Path:
    """The file of steps that `train.replay` names; `UserError` if there is none."""
    path = Path(replay).expanduser()
    path = path / "steps.jsonl" if path.is_dir() else path
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"train.replay: {path} is not there or is empty; give the train folder of an earlier run")
    return path


def plan(config: Config, output: Path, *, evaluating: bool = True) -> Sequence[Stage]:
    """The stages of a run, in order. Nothing is read yet but what the fingerprints need.

    What only an evaluation needs is looked for where there will be one. A stage's own fingerprint covers its settings
    and the version; what the stages before it made is added when its turn comes.
    """
    if config.first_stage.kind != "dense":
        check_language(config.first_stage.bm25.language)
    source = open_source(config.collection)
    folder = {kind: output / kind for kind in ("collection", "first_stage", "mine", "train", "bundle", "evaluation")}
    seed = config.seed

    dense = "" if config.first_stage.kind == "bm25" else identity(config.first_stage.dense.model)
    # Only what training needs: to change the pipeline must not train again.
    dev_depth = config.train.dev_depth
    replayed = "" if config.train.replay is None else file_digest(replayed_steps(config.train.replay))
    untrained = config.train.steps == 0
    # Where a collection lies does not matter, only what is in it.
    content = config.collection.model_copy(update={"source": None, "documents": None, "queries": None, "qrels": {}})

    def stage(kind: str, make: Callable[[Path], dict[str, Any]], section: Section, *others: object) -> Stage:
        return Stage(kind, fingerprint(kind, __version__, section.model_dump(mode="json"), others), make)

    def make_collection(target: Path) -> dict[str, Any]:
        return write_collection(
            source,
            target,
            dev_share=config.collection.dev_share,
            seed=seed,
            drop_invalid=config.collection.drop_invalid,
        )

    def make_first_stage(target: Path) -> dict[str, Any]:
        built = firststage.build(config.first_stage, Collection.load(folder["collection"]).documents)
        firststage.save(built, config.first_stage, target)
        return {}

    def make_lists(target: Path) -> dict[str, Any]:
        from secondstage.mine import mine

        return mine(mining_source(), target, dev_depth=dev_depth, dev_only=untrained)

    def mining_source() -> Source:
        from secondstage.mine import Source

        made_from = fingerprint(read_manifest(folder["first_stage"], "first_stage")["files"])
        return Source(
            Collection.load(folder["collection"]),
            firststage.load(folder["first_stage"]),
            made_from,
            config.mine,
            seed,
            output,
        )

    def share_lists(team: Workers) -> None:
        from secondstage.mine import share

        if not untrained:
            share(mining_source(), team)

    def make_reranker(target: Path) -> dict[str, Any]:
        from secondstage.train import train

        collection = Collection.load(folder["collection"])
        return train(collection, folder["mine"], config.train, seed=seed, folder=target)

    def make_bundle(target: Path) -> dict[str, Any]:
        from secondstage.serve import make_bundle

        collection = Collection.load(folder["collection"])
        return make_bundle(
            collection,
            folder["first_stage"],
            folder["train"],
            config.serve,
            target,
            seed=seed,
            scores=output / SCORES,
            dev_queries=config.mine.dev_queries,
            saw_train=not untrained,
        )

    def make_evaluation(target: Path) -> dict[str, Any]:
        from secondstage.serve import Start, evaluate_bundle

        start = Start(config.train.model, config.train.max_length, seed) if not untrained else None
        manifests = {kind: read_manifest(folder[kind], kind) for kind in ("first_stage", "mine", "train", "bundle")}
        evaluate_bundle(
            Collection.load(folder["collection"]),
            folder["bundle"],
            config.evaluate,
            start=start,
            seed=seed,
            folder=target,
            scores=output / SCORES,
            choices=manifests["bundle"]["choices"],
            serve=config.serve,
            seconds={kind: manifest["seconds"] for kind, manifest in manifests.items()},
            trained=not untrained,
        )
        return {}

    return (
        stage("collection", make_collection, content, source.fingerprint(), seed),
        stage("first_stage", make_first_stage, config.first_stage, dense),
        stage(
            "mine",
            make_lists,
            config.mine,
            dev_depth,
            seed,
            mined_from(config.mine),
            *(["dev only"] if untrained else []),
        )._replace(share=share_lists),
        stage("train", make_reranker, config.train, identity(config.train.model), replayed, seed),
        stage("bundle", make_bundle, config.serve, config.mine.dev_queries, seed),
        stage("evaluation", make_evaluation, config.evaluate, evaluated(config.evaluate) if evaluating else {}, seed),
    )
