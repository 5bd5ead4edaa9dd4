"""Embeddings kept in files, so that no text is encoded twice.

A shard is one file of vectors (`.npy`, unit vectors; `.npz`, sparse ones), written whole or not at all, and named by
what produced it: the model's weights, modules and tokenizer, the precision, the prompt, and the texts themselves.
Nothing in the name is a name, so two models never share a shard, and a corpus that grew is encoded from its first
changed shard on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .compute import release_memory
from .encoder import Encoder, Vectors
from .files import fingerprint, writing_whole
from .parallel import Workers, wait, workers
from .progress import bar

# Where a run keeps such files, below its output: they belong to no stage and outlive them all.
EMBEDDINGS = "embeddings"
# Texts per file: what a kill loses at most.
SHARD = 8192
# Raised when the same inputs would give other vectors.
FORMAT = 1

T = TypeVar("T")
Made = TypeVar("Made", covariant=True)


class Encoding(Protocol[Made]):
    """A model that makes vectors of texts, of whatever kind."""

    @cached_property
    def digest(self) -> str:
        """Of everything that decides them but the texts and the prompt."""
        ...

    def encode(self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], object] | None = None) -> Made:
        """The vectors of some texts; `advance` hears of every so many texts that are done."""
        ...


@dataclass(frozen=True)
class Format(Generic[T]):
    """How vectors are kept in a file."""

    suffix: str
    write: Callable[[BinaryIO, T], None]


def _save(file: BinaryIO, vectors: Vectors) -> None:
    np.save(file, vectors)


NPY: Format[Vectors] = Format(".npy", _save)


class Embeddings:
    """The vectors of a corpus, shard by shard; where they lie in files, memory-mapped and read when asked for.

    Attributes:
        dimension: of the vectors.
        count: how many there are.
    """

    def __init__(self, shards: Sequence[Vectors | Path], dimension: int, sizes: Sequence[int]) -> None:
        self._shards = shards
        self.dimension = dimension
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.count = int(self.starts[-1])

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[Vectors]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Vectors:
        shard = self._shards[number]
        if isinstance(shard, Path):
            # Mapped anew each time, so that its pages are let go with the array.
            mapped: Vectors = np.load(shard, mmap_mode="r")
            return mapped
        return shard

    def take(self, rows: npt.ArrayLike) -> Vectors:
        """`[n, dimension]`: the vectors of some rows, in their order."""
        wanted = np.asarray(rows, np.int64)
        taken = np.empty((len(wanted), self.dimension), np.float32)
        homes = np.searchsorted(self.starts, wanted, side="right") - 1
        for home in np.unique(homes).tolist():
            here = np.flatnonzero(homes == home)
            taken[here] = self[home][wanted[here] - self.starts[home]]
        return taken


def encode(
    texts: Iterable[str],
    encoder: Encoder,
    prompt: str = "",
    folder: Path | None = None,
    *,
    total: int,
    label: str | None = None,
    together: bool = False,
) -> Embeddings:
    """Encode the texts, or find them encoded.

    Args:
        texts: in any number; never more than a shard of them is held.
        encoder: the model.
        prompt: stands before each text.
        folder: where the shards lie; none keeps the vectors in memory.
        total: how many texts there are.
        label: of a progress bar; none shows none.
        together: whether every process of the run calls this with the same texts: each then encodes its share, and all
            return when the last has. Needs `folder`.
    """
    found = encode_shards(texts, encoder, NPY, prompt, folder, total=total, label=label, together=together)
    return Embeddings([shard for shard, _ in found], encoder.dimension, [size for _, size in found])


def encode_shards(
    texts: Iterable[str],
    encoder: Encoding[T],
    kept: Format[T],
    prompt: str = "",
    folder: Path | None = None,
    *,
    total: int,
    label: str | None = None,
    together: bool = False,
) -> list[tuple[T | Path, int]]:
    """Encode the texts shard by shard, as `encode` does, with any model.

    Returns:
        Of each shard the vectors, or the file that holds them, and the number of its texts.
    """
    team = workers() if together and folder is not None else Workers()
    progress = bar(total=total, label=label, unit="text") if label else None
    advance = None if progress is None else progress.update
    shards: list[tuple[T | Path, int]] = []
    for number, shard in enumerate(_cut(texts)):
        if folder is None:
            shards.append((encoder.encode(shard, prompt, advance), len(shard)))
            continue
        path = folder / f"{shard_key(shard, encoder, prompt)}{kept.suffix}"
        shards.append((path, len(shard)))
        if team.owns(number) and not path.exists():
            made = encoder.encode(shard, prompt, advance)
            with writing_whole(path) as temporary, temporary.open("wb") as file:
                kept.write(file, made)
        elif advance is not None:
            advance(len(shard))
    if progress is not None:
        progress.close()
    if folder is not None:  # documents; not the few queries of a request, which may not wait for it
        release_memory()
    if team.size > 1:
        wait()
    return shards


def shard_key(texts: Sequence[str], encoder: Encoding[object], prompt: str) -> str:
    """The name of a shard's file, by what its vectors depend on."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        # With its length, so that no two lists of texts read the same.
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return fingerprint(FORMAT, encoder.digest, prompt, digest.hexdigest())[:40]


def _cut(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while shard := list(islice(remaining, SHARD)):
        yield shard
