"""What a run reads beside its config and collection: models, files, endpoints; and whether they are still the same."""

from __future__ import annotations

from pathlib import Path

from .config import EvaluateConfig, MineConfig
from .errors import UserError
from .files import file_digest, read_manifest
from .models import identity, read_config


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


def mined_from(config: MineConfig, output: Path | None = None) -> dict[str, str]:
    """What decides whether teachers, generator and reviewed labels are still the same.

    Args:
        config: of the mining.
        output: the run's folder, if there is one: mining anew replaces its `mine/`, a review that lies there as well.

    Raises:
        UserError: one is not there, two teachers are the same, a key is not set, or the review would be replaced:
            before the work, not after it.
    """
    from . import teachers

    found = {f"teacher {name}": digest for name, digest in teachers.identities(config.teachers).items()}
    if config.synthesize is not None and config.synthesize.model:
        # Its weights are read when documents are asked about; whether there is such a model is told here.
        read_config(config.synthesize.model)
        found["generator"] = identity(config.synthesize.model)
    if config.reviewed is not None:
        path = Path(config.reviewed).expanduser()
        if output is not None and path.resolve().is_relative_to((output / "mine").resolve()):
            raise UserError(
                f"mine.reviewed: {path} is in {output / 'mine'}, which is replaced when mine is made again: "
                f"copy it elsewhere first, e.g. to {output / 'reviewed.tsv'}"
            )
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
