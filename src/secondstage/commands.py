"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import firststage
from .collection import Collection
from .config import Config, EvaluateConfig, Section
from .errors import Faults, UserError
from .files import file_digest, fingerprint, read_json, read_manifest
from .intake import write_collection
from .models import identity
from .plan import Stage, carry_out, claimed, done
from .progress import say
from .scorecache import SCORES
from .sources import open_source
from .version import __version__

# What a command carries out: its own stage, and those before it.
UP_TO = {"mine": 3, "train": 4, "bundle": 5, "evaluate": 6}


def carry_out_up_to(command: str, config: Config) -> list[dict[str, Any]]:
    """Carry out every stage up to the command's own, skipping those that are done; return their manifests."""
    output = Path(config.output).expanduser()
    stages = plan(config, output, evaluating=command == "evaluate")[: UP_TO[command]]
    manifests: list[dict[str, Any]] = []
    with claimed(output, [stage.kind for stage in stages]):
        for stage in stages:
            done(stage, output)  # a folder that is to be left alone is refused before any work
        for stage in stages:
            # What the stages before it made is part of what a stage is made from: a timed training that was made again
            # is another one, though no setting changed.
            made = [manifest["files"] for manifest in manifests]
            stage = stage._replace(fingerprint=fingerprint(stage.fingerprint, made))
            manifests.append(carry_out(stage, output))
            if stage.kind == "evaluation":
                keep_verdict(output, manifests[-2])
            if len(manifests) == 1:
                for note in manifests[0]["notes"]:
                    say(f"  {note}")
                check_splits(manifests[0], config, command)
    return manifests


def check_splits(collection: Mapping[str, Any], config: Config, command: str) -> None:
    """Raise `UserError` if a split is missing that a later stage would need: before the work, not after it."""
    splits, faults = collection["splits"], Faults(f"collection {collection['name']!r}")
    if "train" not in splits and config.train.steps != 0:
        faults.add(
            "no train split: give qrels/train.tsv; without labels nothing can be trained (train.steps=0 takes "
            "train.model as it is)"
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
    makes_bundle = "train" in splits or config.train.steps == 0
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

        RemoteReranker.from_settings(config.remote.url, config.remote.model, config.remote.api_key_env or "")
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
    retrieval = firststage.made_from(config.first_stage)
    source = open_source(config.collection)
    folder = {kind: output / kind for kind in ("collection", "first_stage", "mine", "train", "bundle", "evaluation")}
    seed = config.seed

    # The dev lists reach as deep as the pipeline may.
    dev_depth = max(config.serve.deepest, config.train.dev_depth)
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
        collection = Collection.load(folder["collection"])
        built = firststage.build(
            config.first_stage, collection.documents, cache=output / "embeddings", queries=collection.queries
        )
        firststage.save(built, config.first_stage, target)
        return {}

    def make_lists(target: Path) -> dict[str, Any]:
        from secondstage.mine import mine

        collection = Collection.load(folder["collection"])
        first_stage = firststage.load(folder["first_stage"])
        return mine(
            collection, first_stage, config.mine, seed=seed, dev_depth=dev_depth, folder=target, dev_only=untrained
        )

    def make_reranker(target: Path) -> dict[str, Any]:
        from secondstage.train import train

        collection = Collection.load(folder["collection"])
        return train(collection, folder["mine"], config.train, seed=seed, folder=target)

    def make_bundle(target: Path) -> dict[str, Any]:
        from secondstage.serve import make_bundle

        collection = Collection.load(folder["collection"])
        stages = (folder["first_stage"], folder["mine"], folder["train"])
        return make_bundle(collection, *stages, config.serve, target, seed=seed, scores=output / SCORES)

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
        stage("first_stage", make_first_stage, config.first_stage, retrieval),
        stage("mine", make_lists, config.mine, dev_depth, seed, *(["dev only"] if untrained else [])),
        stage("train", make_reranker, config.train, identity(config.train.model), replayed, seed),
        stage("bundle", make_bundle, config.serve, seed),
        stage("evaluation", make_evaluation, config.evaluate, evaluated(config.evaluate) if evaluating else {}, seed),
    )
