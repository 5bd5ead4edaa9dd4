"""Text files read line by line, plain or gzipped, with the place of every fault."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from secondstage.errors import Faults, UserError
from secondstage.files import file_digest, fingerprint

JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, its line break kept; a byte order mark is dropped.

    Lines end at line feeds alone: JSON strings and documents may hold the other characters Python would break at.
    A line that is not UTF-8 is a fault and left out. Blank lines are kept: in a document they mean something.

    Raises:
        UserError: the file cannot be read to its end, so that what follows would silently be missing.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, 1):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    faults.add(f"{path}:{number}: not UTF-8: {error.reason} at byte {error.start + 1} of the line")
                    continue
                yield number, text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is no whole gzip file (read to line {number}): {error}: get it again") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def plain_name(path: Path) -> str:
    """The file's name without `.gz`."""
    return path.name.removesuffix(".gz")


def is_json_lines(path: Path) -> bool:
    """Whether a file is called one of JSON lines."""
    return plain_name(path).lower().endswith(JSON_LINES)


def files_fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """A digest of the files' contents and of the names given with them; where they lie does not matter.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        return fingerprint(sorted((name, file_digest(path)) for name, path in files))
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror or error}") from None
