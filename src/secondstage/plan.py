"""The stages of a run: what each is made from, and which of them is already there.

A stage's fingerprint covers its own settings and what it reads of the stages before it. A stage folder whose manifest
carries the right fingerprint is not made again; any other is replaced, whole, once its successor is finished.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .compute import release_memory, within_memory
from .errors import UserError
from .files import (
    CARD,
    MANIFEST,
    IncompleteError,
    fingerprint,
    read_manifest,
    recover,
    refuse_foreign,
    replacing,
    sweep,
    write_manifest,
)
from .parallel import ALONE, Workers, wait
from .progress import say


class Stage(NamedTuple):
    """One stage of a run.

    Attributes:
        kind: what it makes; also the name of its folder.
        fingerprint: of everything that it depends on.
        make: fills an empty folder and returns details for the manifest.
        share: what several processes do together before one of them makes the stage: each computes its shards of what
            `make` will then find in files.
        reads: which files of the stages before it are read, by how their names (`kind/file`) begin; all by default.
        tidy: deletes what was kept for the case that making it is stopped; called once it is done.
        beside: digests of what it reads that no stage made, by name: asked when its turn comes.
    """

    kind: str
    fingerprint: str
    make: Callable[[Path], dict[str, Any]]
    share: Callable[[], None] | None = None
    reads: tuple[str, ...] = ("",)
    tidy: Callable[[], None] | None = None
    beside: Callable[[], Mapping[str, str]] = dict

    def after(self, manifests: Iterable[Mapping[str, Any]]) -> Stage:
        """The stage whose fingerprint also covers what is read of the stages with these manifests.

        A timed training that was made again is another one, though no setting changed; and a stage that reads only the
        documents of a collection is not made again for new labels.
        """
        files = {f"{found['kind']}/{name}": digest for found in manifests for name, digest in found["files"].items()}
        # A model's card tells times: it is for people.
        read = {name: digest for name, digest in files.items() if name.startswith(self.reads) and not told(name)}
        return self._replace(fingerprint=fingerprint(self.fingerprint, read | dict(self.beside())))


def told(name: str) -> bool:
    """Whether a file is a model's card."""
    return name.rpartition("/")[2] == CARD


@contextlib.contextmanager
def claimed(output: Path, kinds: Iterable[str]) -> Iterator[None]:
    """Hold the output folder for this process, and clear away what killed ones left of the stages named.

    Raises:
        UserError: it cannot be written, or another run holds it.
    """
    from filelock import FileLock, Timeout

    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(f"another run is writing to {output}: wait for it, or choose another output") from None
    except OSError as error:
        raise UserError(f"cannot write to the output folder {output}: {error.strerror or error}") from None
    try:
        for kind in kinds:
            recover(output / kind)
            sweep(output / kind)
        yield
    finally:
        lock.release()


def carry_out(stage: Stage, output: Path, team: Workers = ALONE) -> dict[str, Any]:
    """Make a stage if it is not there yet; return its manifest.

    Every process of a team calls this for the same stages in the same order. They share what can be shared, then the
    lead makes the stage.

    Raises:
        UserError: what is there has another format: it is left alone; or another process failed.
    """
    folder = output / stage.kind
    wait()  # all have seen the stage before: nothing is replaced under anybody's eyes
    manifest = done(stage, output)
    if manifest is not None:
        if team.lead:
            if stage.tidy is not None:
                stage.tidy()  # a kill may have come before it
            say(f"{stage.kind}: done before ({manifest['seconds']:.0f} s)")
        return manifest
    if team.lead:
        say(f"{stage.kind} …")
    start = time.monotonic()
    with within_memory("Lower the batch_tokens of what was computed; the same command goes on from here"):
        if stage.share is not None and team.size > 1:
            stage.share()
            release_memory()
        wait()
        if team.lead:
            manifest = _make(stage, folder, start)
        wait()
    return manifest or read_manifest(folder, stage.kind)


def _make(stage: Stage, folder: Path, start: float) -> dict[str, Any]:
    with replacing(folder) as temporary:
        details = stage.make(temporary)
        seconds = round(time.monotonic() - start, 2)
        manifest = write_manifest(temporary, stage.kind, fingerprint=stage.fingerprint, seconds=seconds, **details)
    release_memory()
    if stage.tidy is not None:
        stage.tidy()
    say(f"{stage.kind}: {seconds:.0f} s")
    return manifest


def done(stage: Stage, output: Path) -> dict[str, Any] | None:
    """The manifest of a stage that is there, whole, and made from what it would be made from now.

    Raises:
        UserError: the stage's folder is something else, has another format, or was changed on purpose since it was
            made: it is left alone.
    """
    folder = output / stage.kind
    refuse_foreign(folder, stage.kind)
    try:
        manifest = read_manifest(folder, stage.kind) if (folder / MANIFEST).exists() else {}
    except IncompleteError:
        return None
    if "updated" in manifest:  # no run makes such a one again
        raise UserError(
            f"{folder} holds documents added or removed by `secondstage documents`, which this run would undo: move it "
            "or delete it, or choose another output folder"
        )
    return manifest if manifest.get("fingerprint") == stage.fingerprint else None


def describe_os_error(error: OSError) -> str:
    """A failed read or write in words, with the way out."""
    place = f" ({error.filename})" if error.filename else ""
    reason = error.strerror or str(error) or os.strerror(error.errno or 0)
    return f"{reason}{place}: nothing was half-written; mend this and run the same command again to go on"
