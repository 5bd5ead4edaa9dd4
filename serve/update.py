"""A bundle over other documents: added ones, and without removed ones. Nothing is trained again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from secondstage import firststage
from secondstage.collection import Document, Documents
from secondstage.config import FirstStageConfig
from secondstage.embeddings import EMBEDDINGS
from secondstage.errors import Faults, UserError
from secondstage.files import (
    FORMAT,
    MANIFEST,
    file_digest,
    fingerprint,
    interrupted,
    read_json,
    read_manifest,
    refuse_foreign,
    replacing,
    write_manifest,
)
from secondstage.firststage.renewal import check_renewable, renew
from secondstage.intake import valid_documents, write_documents
from secondstage.plan import claimed
from secondstage.progress import say
from secondstage.sources.records import json_documents
from secondstage.sources.text import read_lines

from .opening import KIND, read_bundle
from .verdict import FILE as VERDICT

# What is made anew, or no longer holds.
NOT_COPIED = ("documents.arrow", "first_stage", MANIFEST, VERDICT)
WRITTEN_ANEW = ("kind", "format", "secondstage", "files")


class Updated(NamedTuple):
    """What an update did: how many documents were added and removed, and how many there are now."""

    added: int
    removed: int
    documents: int


def update_documents(
    bundle: Path, *, add: Path | None = None, remove: Path | None = None, output: Path | None = None
) -> Updated:
    """Make a bundle anew over other documents.

    The vectors of documents that stay are taken over; the statistics of words are counted again. Models, depth, weight
    and calibration stay as they were chosen, on the old documents, and the gate's verdict, which was on those too, is
    left out. The manifest tells what was `updated`. New documents come after those that stay, so that the bundle is
    that of all of them in this order.

    Args:
        bundle: its folder.
        add: JSON lines of documents, as a BEIR corpus has them, perhaps with `.gz`.
        remove: document ids, one a line. A document in both files is replaced, and comes last.
        output: where to write; none replaces the bundle, whole or not at all.

    Raises:
        UserError: the bundle cannot be opened, a file is faulty, an id is not there or is there already, no document
            would be left, the first stage has no index, or a run or another update is writing there.
    """
    if add is None and remove is None:
        raise UserError("nothing to do: give --add, a file of documents, or --remove, a file of ids")
    bundle = bundle.absolute()  # the parent of "." is itself
    target = output.absolute() if output else bundle
    with _held(bundle, target):
        return _update(bundle, add, remove, target)


@contextmanager
def _held(bundle: Path, target: Path) -> Iterator[None]:
    """Keep runs and other updates away from what is replaced, and put right what a killed one left."""
    killed = interrupted(bundle) is not None
    if not killed:
        read_manifest(bundle, KIND)  # a wrong path is told before anything is written
    refuse_foreign(target, KIND)
    folders: dict[Path, set[str]] = {target.parent: {target.name}}
    if killed:
        folders.setdefault(bundle.parent, set()).add(bundle.name)
    with ExitStack() as stack:
        for folder, names in folders.items():
            stack.enter_context(claimed(folder, names))
        yield


def _update(bundle: Path, add: Path | None, remove: Path | None, target: Path) -> Updated:
    manifest, _ = read_bundle(bundle)
    refuse_foreign(target, KIND)
    config = FirstStageConfig.from_json(read_json(bundle / "first_stage" / "first_stage.json"))
    check_renewable(config)
    old = Documents(bundle / "documents.arrow")
    removed = _ids(remove, old) if remove else frozenset()
    kept = [row for row, doc_id in enumerate(old.ids) if doc_id not in removed]
    new = _documents(add, {old.ids[row] for row in kept}) if add else []
    if not kept and not new:
        raise UserError(f"{remove} removes every document: a bundle holds at least one")
    if not new and not removed:
        raise UserError(
            f"{' and '.join(str(path) for path in (add, remove) if path)} names nothing: the bundle is left as it is"
        )
    cache = bundle.parent / EMBEDDINGS
    with replacing(target) as folder:
        _copy(bundle, folder, manifest["files"])
        write_documents(_of_both(old, kept, new), folder / "documents.arrow")
        documents = Documents(folder / "documents.arrow")
        (folder / "first_stage").mkdir()
        made = renew(config, bundle / "first_stage", documents, kept, cache if cache.is_dir() else None)
        firststage.save(made, config, folder / "first_stage")
        write_manifest(folder, KIND, **_details(manifest, folder, len(new), len(removed), len(documents)))
        # What lies beside what the manifest covers, such as engines, goes on to do so.
        beside = [path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()]
        _copy(bundle, folder, [name for name in beside if name not in manifest["files"]])
    return Updated(len(new), len(removed), len(documents))


def _copy(bundle: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if name.partition("/")[0] not in NOT_COPIED:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bundle / name, folder / name)


def _ids(path: Path, documents: Documents) -> frozenset[str]:
    faults = Faults(f"{path}")
    found = {line.strip(): number for number, line in read_lines(path, faults) if line.strip()}
    for doc_id, number in found.items():
        if doc_id not in documents:
            faults.add(f"line {number}: there is no document {doc_id!r} in the bundle")
    faults.raise_if_any("Give the ids of documents that are there, one a line")
    return frozenset(found)


def _documents(path: Path, seen: set[str]) -> list[Document]:
    faults = Faults(f"{path}")
    found = list(valid_documents(json_documents(path, faults), seen, faults))
    faults.raise_if_any("Mend the file; to replace a document, name its id in the file of --remove as well")
    for note in faults.notes():
        say(f"  {note}")
    return found


def _of_both(old: Documents, kept: list[int], new: list[Document]) -> Iterator[Document]:
    yield from (old[row] for row in kept)
    yield from new


def _details(manifest: Mapping[str, Any], folder: Path, added: int, removed: int, documents: int) -> dict[str, Any]:
    """What the manifest says beside the digests: as before, with another fingerprint and the update in its lineage."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before = manifest["fingerprint"]
    step = {"added": added, "removed": removed, "at": now, "from": before}
    return {name: value for name, value in manifest.items() if name not in WRITTEN_ANEW} | {
        "fingerprint": fingerprint(before, FORMAT, file_digest(folder / "documents.arrow")),
        "documents": documents,
        "updated": [*manifest.get("updated", ()), step],
    }
