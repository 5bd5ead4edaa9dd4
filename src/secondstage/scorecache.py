"""Scores kept in a file, so that no pair is paid for twice.

The file is a header and records of 20 bytes: a BLAKE2b digest of the pair's texts and the score in single precision.
Records are only ever appended; a kill while writing tears the last one at most, which is then passed over and cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import UserError
from .knownscores import RECORD, KnownScores, Records
from .parallel import all_files, own_file
from .progress import bar
from .run import Scores
from .scoring import Scorer, StreamingScorer, as_scores, pair_digest

# Where a run keeps such files, below its output: they belong to no stage and outlive them all.
SCORES = "scores"
# Magic and version.
HEADER = b"secondstage scores 1\n"
# Pairs that are scored before they are written, by a scorer that does not stream: what a kill loses at most.
CHUNK = 4096


class CachedScorer:
    """A scorer that looks every pair up in a file and has only the missing ones scored, each distinct pair once.

    A file belongs to one scorer, for nothing in it names the model: the caller sees to that. Of several processes each
    appends to a file of its own beside it, and reads all of them, at its first call of `score`. Scores that are not
    finite are handed on, but not stored.

    Attributes:
        scorer: the one that scores what is missing.
        path: the file; it need not exist.
        chunk: pairs that are scored, then written, at a time, unless the scorer streams.
        scored: pairs that the scorer has given a score so far.
        found: pairs whose score was kept.
    """

    def __init__(
        self, scorer: Scorer, path: Path, *, chunk: int = CHUNK, shown: Callable[[str], str] | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
            scorer: see the class.
            path: see the class.
            chunk: see the class.
            shown: what the scorer reads of a document: by that its score is kept. None reads all.
        """
        self.scorer = scorer
        self.path = path
        self.chunk = chunk
        self.shown = shown
        self.scored = self.found = 0

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs.
            label: shows a progress bar of the missing pairs under this name.

        Returns:
            `[n]` scores, in the order of the pairs.

        Raises:
            UserError: the file is no score cache.
        """
        if self.shown is not None:
            pairs = [(query, self.shown(document)) for query, document in pairs]
        digests = [pair_digest(*pair) for pair in pairs]
        scores = self._known.find(digests)
        places: list[int] = np.flatnonzero(np.isnan(scores)).tolist()
        self.found += len(pairs) - len(places)
        if places:
            made = self._score_missing({digests[i]: pairs[i] for i in places}, label)
            scores[places] = [made[digests[i]] for i in places]
        return scores

    @cached_property
    def _known(self) -> KnownScores:
        return read_scores(*all_files(self.path))

    def _score_missing(self, missing: Mapping[bytes, tuple[str, str]], label: str | None) -> dict[bytes, float]:
        """Score, and store what can be stored."""
        digests, made = list(missing), dict[bytes, float]()
        shown = bar(total=len(digests), label=label, unit="pair") if label else nullcontext()
        with appending(own_file(self.path)) as file, shown as progress:
            for places, values in self._parts(list(missing.values())):
                found = dict(zip([digests[i] for i in places], as_scores(values, len(places)).tolist(), strict=True))
                finite = {digest: score for digest, score in found.items() if np.isfinite(score)}
                file.write(np.array(list(finite.items()), RECORD).tobytes())
                file.flush()
                self._known.add(finite)
                made.update(found)
                self.scored += len(finite)
                if progress is not None:
                    progress.update(len(places))
        return made

    def _parts(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[Sequence[int], object]]:
        """The places and scores of pairs that are scored together, as soon as they are."""
        if isinstance(self.scorer, StreamingScorer):
            yield from self.scorer.stream(pairs)
            return
        for start in range(0, len(pairs), self.chunk):
            places = range(start, min(start + self.chunk, len(pairs)))
            yield places, self.scorer.score(pairs[start : start + self.chunk])


def read_scores(*paths: Path) -> KnownScores:
    """Every whole record of score caches; none of a file that is not there.

    Raises:
        UserError: one is no score cache, or one of another version.
    """
    return KnownScores(map(_records, paths))


def _records(path: Path) -> Records:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return np.empty(0, RECORD)
    # A header that is cut short is that of a file whose writer was killed at once.
    if content[: len(HEADER)] != HEADER[: len(content)]:
        raise UserError(
            f"{path} is no score cache of this version of secondstage: if nothing else needs it, delete it, "
            "and the scores are computed again"
        )
    body = memoryview(content)[len(HEADER) :]
    return np.frombuffer(body[: len(body) - len(body) % RECORD.itemsize], RECORD)


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Open a score cache at its end, after what was torn is cut off; makes the file, and its folder, if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        torn = max(0, file.tell() - len(HEADER)) % RECORD.itemsize
        if file.tell() < len(HEADER):
            file.truncate(0)
            file.write(HEADER)
        elif torn:
            file.truncate(file.tell() - torn)
        yield file
