"""How a bundle is opened: what is in it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from secondstage.backends.record import ENGINES_FOLDER
from secondstage.config import ServeConfig
from secondstage.errors import UserError
from secondstage.files import MANIFEST, interrupted, is_inside, read_json, read_manifest
from secondstage.pairmodel import PairModel
from secondstage.rerankers import load_reranker
from secondstage.version import __version__

KIND = "bundle"
SETTINGS = "pipeline.json"
RERANKER = "reranker"
# Formats of weights that run code when they are opened.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def read_bundle(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the settings of a bundle, after a look at all that its manifest names.

    Raises:
        UserError: the folder is no bundle, is incomplete, was changed, has another format, names what lies outside of
            it, or holds what would run code when it is opened.
    """
    if old := interrupted(folder):
        raise UserError(
            f"{folder} is missing: a command that was interrupted left {old}: give that command again, which puts it "
            "back, or rename the folder"
        )
    manifest = read_manifest(folder, KIND, verify=True)
    if not isinstance(manifest.get("fingerprint"), str):
        raise UserError(f"{folder / MANIFEST} has no fingerprint: make the bundle again")
    refuse_pickles(folder, manifest["files"])
    _refuse_foreign(folder, manifest["files"])
    settings = read_json(folder / SETTINGS)
    return manifest, settings


def _refuse_foreign(folder: Path, names: Mapping[str, str]) -> None:
    """Raise `UserError` if a model's folder holds what the manifest does not name.

    Libraries load what they find: adapters beside a model are put over weights whose digest is right.
    """
    models = {PurePosixPath(name).parent for name in names if PurePosixPath(name).name == "config.json"}
    for model in sorted(models):
        for path in sorted((folder / model).iterdir()):
            name = str(model / path.name)
            if path.is_file() and not path.name.startswith(".") and name not in names and name != MANIFEST:
                raise UserError(
                    f"{folder} holds {name}, which its manifest does not name: take it away, or make the bundle again"
                )


def refuse_pickles(folder: Path, names: Sequence[str] | Mapping[str, str]) -> None:
    """Raise `UserError` if weights are a pickle."""
    for name in names:
        if PurePosixPath(name).suffix.lower() in PICKLES:
            raise UserError(
                f"{folder / name} may be a pickle, which can run any code when it is opened, so it is refused: keep "
                "the weights as model.safetensors and make the bundle again"
            )


def stage_folders(folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> list[tuple[Path, int]]:
    """The folder and the depth of each reranker before the last one.

    Raises:
        UserError: one is not a folder of the bundle.
    """
    found = []
    for stage in settings.get("cascade") or ():
        name = str(stage["folder"])
        if not is_inside(name) or f"{name}/config.json" not in manifest["files"]:
            raise UserError(
                f"{folder / SETTINGS} names the reranker {name!r}, which is not a folder of the bundle: make it again"
            )
        found.append((folder / name, int(stage["depth"])))
    return found


def engines_of(bundle: Path, reranker: Path) -> Path:
    """The folder for engines of one of a bundle's rerankers."""
    name = reranker.relative_to(bundle).as_posix()
    return bundle / ENGINES_FOLDER if name == RERANKER else bundle / ENGINES_FOLDER / name


def open_reranker(folder: Path, config: ServeConfig) -> PairModel:
    """A reranker of a bundle, as its settings say."""
    return load_reranker(folder, batch_tokens=config.batch_tokens, precision=config.precision)


def serve_config(settings: Mapping[str, Any]) -> ServeConfig:
    """What the bundle was made with; `UserError` if this version does not know what it says."""
    try:
        return ServeConfig.model_validate_json(json.dumps(settings["serve"]))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise UserError(
            f"{SETTINGS}: this version ({__version__}) does not know what the bundle was made with: "
            f"serve.{'.'.join(map(str, fault['loc']))}: {fault['msg']}. Install the version that made it, or make it "
            "again"
        ) from None
