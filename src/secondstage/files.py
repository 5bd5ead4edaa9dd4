"""Artefacts on disk: written whole or not at all, with a manifest that says what they are and are made from."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError
from .version import __version__

# Raised whenever an artefact's layout changes, so that an older one is refused with a clear word instead of misread.
FORMAT = 1
MANIFEST = "manifest.json"
# A model's card: what was done and measured, for people.
CARD = "README.md"


class IncompleteError(UserError):
    """An artefact lacks a file that its manifest names."""


def fingerprint(*parts: object) -> str:
    """SHA-256 (hex) of the canonical JSON of `parts`; equal parts give equal fingerprints on any machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` (its own manifest left out), by relative POSIX path, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def write_json(path: Path, value: object) -> None:
    """Write JSON through a temporary file, so that a reader sees the old content or the new, never a part."""
    with writing_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Give an empty temporary file beside `path`, and put it in its place only if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by chance, not by process id: processes of two machines may have the same.
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o644)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file; `UserError` names the file if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def refuse_foreign(folder: Path, kind: str) -> None:
    """Raise `UserError` if `folder` holds anything that secondstage did not put there: it would be replaced."""
    if folder.is_file():
        raise UserError(f"{folder} is a file where a folder is to be written: choose another output folder")
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    ours = isinstance(manifest, Mapping) and manifest.get("kind") == kind
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise UserError(
            f"{folder} is not a {kind} folder of secondstage and is left alone: choose another output folder"
        )


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, and put it in its place only if the block ends well.

    What stood at `folder` stays until then, and stays for good if the block raises. A kill between the two renames
    leaves the old folder under its `.old` name, where `recover` finds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    temporary.chmod(0o755)
    old = _old_name(folder)
    try:
        yield temporary
        recover(folder)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        _discard(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def to_disk(folder: Path, *, below: bool = True) -> None:
    """Return when a folder is on the disk, with all that is below it: a rename may else outlive what it renamed.

    So what is read after a power cut is whole, or not there.
    """
    if os.name != "posix":
        return
    for path in [*(folder.rglob("*") if below else ()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError:
            if not path.is_dir():  # some file systems over a network know this of files alone
                raise
        finally:
            os.close(handle)


def interrupted(folder: Path) -> Path | None:
    """Where a kill inside `replacing` left what stood at `folder`, which is missing now; none if there was none."""
    old = _old_name(folder)
    return old if old.exists() and not folder.exists() else None


def recover(folder: Path) -> None:
    """Undo what a kill inside `replacing` left: bring an `.old` folder back, or delete it if it was replaced."""
    old = _old_name(folder)
    if old.exists():
        if folder.exists():
            _discard(old)
        else:
            old.rename(folder)


def sweep(folder: Path) -> None:
    """Delete what killed processes left of `replacing(folder)`. Call it only while nobody else replaces it."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what libraries raise where a file cannot be written into `OSError`: some have kinds of their own for it."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"cannot write {folder}: {error}") from error


def _discard(folder: Path) -> None:
    """Delete a folder, or a link to one and not what it links to."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _old_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def write_manifest(folder: Path, kind: str, **details: object) -> dict[str, Any]:
    """Write the manifest, last of all files: kind, format, version, the digest of every file, and `details`."""
    manifest = {
        "kind": kind,
        "format": FORMAT,
        "secondstage": __version__,
        **details,
        "files": folder_digests(folder),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path, kind: str, *, verify: bool = False) -> dict[str, Any]:
    """Read the manifest of an artefact.

    Args:
        folder: the artefact.
        kind: what it must be ("collection", "bundle", …).
        verify: also compare the digest of every file.

    Raises:
        UserError: no artefact, another kind, another format, or a file that is missing or was changed.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is not a {kind}: it holds no {MANIFEST}{_where(folder, kind)}")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, Mapping) or manifest.get("kind") != kind or "format" not in manifest:
        found = manifest.get("kind") if isinstance(manifest, Mapping) else None
        raise UserError(f"{folder} is not a {kind}: its manifest says {found!r}")
    if (found := manifest.get("format")) != FORMAT:
        made = manifest.get("secondstage")
        newer = isinstance(found, int) and found > FORMAT
        raise UserError(
            f"{folder} has format {found!r}, made by secondstage {made}; this version ({__version__}) reads format "
            f"{FORMAT}: {f'install secondstage {made} or newer to read it; to make it anew, ' if newer else ''}choose "
            "another output folder, or delete this one"
        )
    if not isinstance(manifest.get("files"), Mapping):
        raise UserError(f"{folder} is not a {kind}: its manifest names no files")
    outside = [name for name in manifest["files"] if not is_inside(name)]
    if outside:
        raise UserError(f"{folder}: its manifest names {outside[0]!r}, which lies outside of it: make it again")
    check_files(folder, manifest["files"], verify=verify)
    return dict(manifest)


def _where(folder: Path, kind: str) -> str:
    """Where the artefact is that was meant, perhaps: the output folder of a run, or another folder, was given."""
    if (folder / kind / MANIFEST).is_file():
        return f"; did you mean {folder / kind}?"
    return f"; a run makes one in its output folder, as runs/demo/{kind}" if kind in ("bundle", "collection") else ""


def is_inside(name: str) -> bool:
    """Whether a relative path stays below where it starts."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def check_files(folder: Path, digests: Mapping[str, str], *, verify: bool) -> None:
    """Raise `UserError` if a file named in `digests` is missing or, with `verify`, was changed."""
    faults = [name for name in digests if not (folder / name).is_file()]
    if faults:
        raise IncompleteError(f"{folder} is incomplete, missing: {', '.join(faults)}: make it again")
    if verify:
        faults = [name for name, digest in digests.items() if file_digest(folder / name) != digest]
        if faults:
            raise UserError(f"{folder} was changed since it was made ({', '.join(faults)}): make it again")
