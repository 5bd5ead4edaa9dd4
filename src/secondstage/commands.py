"""What the commands do: the stages of a run in order, each imported only when its turn comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import firststage
from .collection import Collection
from .config import Config
from .errors import Faults
from .files import fingerprint, read_manifest, write_json
from .intake import write_collection
from .models import identity
from .plan import Stage, carry_out, claimed
from .progress import say
from .sources import open_source

# What a command carries out: its own stage, and those before it.
UP_TO = {"mine": 3, "train": 4, "bundle": 5, "evaluate": 6}


def carry_out_up_to(command: str, config: Config) -> list[dict[str, Any]]:
    """Carry out every stage up to the command's own, skipping those that are done; return their manifests."""
    output = Path(config.output)
    first, *rest = plan(config, output)[: UP_TO[command]]
    with claimed(output):
        collection = carry_out(first, output)
        for note in collection["notes"]:
            say(f"  {note}")
        check_splits(collection, config, command)
        return [collection, *(carry_out(stage, output) for stage in rest)]


def check_splits(collection: Mapping[str, Any], config: Config, command: str) -> None:
    """Raise `UserError` if a split is missing that a later stage would need: before the work, not after it."""
    splits, faults = collection["splits"], Faults(f"collection {collection['name']!r}")
    if "train" not in splits:
        faults.add("no train split: give qrels/train.tsv; without labels nothing can be trained")
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
    faults.raise_if_any("`secondstage bundle CONFIG` makes the pipeline without a proof" if "train" in splits else "")


def plan(config: Config, output: Path) -> Sequence[Stage]:
    """The stages of a run, in order. Nothing is read yet but what the fingerprints need."""
    source = open_source(config.collection)
    folder = {kind: output / kind for kind in ("collection", "first_stage", "mine", "train", "bundle", "evaluation")}
    seed = config.seed

    def sign(kind: str, *parts: object) -> str:
        return fingerprint(kind, *parts)

    def settings(section: Any) -> Any:
        return section.model_dump(mode="json")

    collection_sign = sign("collection", source.fingerprint(), settings(config.collection), seed)
    dense = "" if config.first_stage.kind == "bm25" else identity(config.first_stage.dense.model)
    first_sign = sign("first_stage", collection_sign, settings(config.first_stage), dense)
    # The dev lists reach as deep as the pipeline will.
    dev_depth = max(config.serve.depth, config.train.dev_depth)
    mine_sign = sign("mine", first_sign, settings(config.mine), dev_depth, seed)
    train_sign = sign("train", mine_sign, settings(config.train), identity(config.train.model), seed)
    bundle_sign = sign("bundle", train_sign, settings(config.serve))

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

        collection = Collection.load(folder["collection"])
        first_stage = firststage.load(folder["first_stage"])
        return mine(collection, first_stage, config.mine, seed=seed, dev_depth=dev_depth, folder=target)

    def make_reranker(target: Path) -> dict[str, Any]:
        from secondstage.train import train

        collection = Collection.load(folder["collection"])
        return train(collection, folder["mine"], config.train, seed=seed, folder=target)

    def make_bundle(target: Path) -> dict[str, Any]:
        from secondstage.serve import make_bundle

        collection = Collection.load(folder["collection"])
        return make_bundle(collection, folder["first_stage"], folder["mine"], folder["train"], config.serve, target)

    def make_evaluation(target: Path) -> dict[str, Any]:
        from secondstage.serve import Pipeline, evaluate_bundle

        start = time.monotonic()
        collection = Collection.load(folder["collection"])
        metrics = evaluate_bundle(
            collection, Pipeline.load(folder["bundle"]), config.evaluate, seed=seed, folder=target
        )
        seconds = {kind: read_manifest(folder[kind], kind)["seconds"] for kind in ("first_stage", "mine", "train")}
        seconds["evaluate"] = round(time.monotonic() - start, 2)
        write_json(target / "metrics.json", metrics | {"seconds": seconds})
        return {}

    return (
        Stage("collection", collection_sign, make_collection),
        Stage("first_stage", first_sign, make_first_stage),
        Stage("mine", mine_sign, make_lists),
        Stage("train", train_sign, make_reranker),
        Stage("bundle", bundle_sign, make_bundle),
        Stage("evaluation", sign("evaluation", bundle_sign, settings(config.evaluate), seed), make_evaluation),
    )
