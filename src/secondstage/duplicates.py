"""Near-duplicate texts: pairs whose character n-grams overlap enough, found exactly and within bounded memory."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Pair = tuple[str, str]
SHINGLE = 4
# An odd number with no pattern in its bits: n-grams are hashed by its powers.
FACTOR = np.uint64(0x9E3779B97F4A7C15)
# Texts whose hashes are held at a time, while pairs are compared whole.
HELD = 1024
# Candidate pairs, and the n-grams of those that are verified, are held in blocks of at most so many numbers.
BLOCK = 1 << 20
# More than the rounding error of threshold x size: a bound must never come out too strict.
SLACK = 1e-9


class Duplicate(NamedTuple):
    """A text on the left and the most similar one on the right, by index."""

    left: int
    right: int
    similarity: float


# Signs that make another question of the same words, as mathematical signs, currencies and pictures do: C# is not C.
SIGNS = frozenset("#%&*@^")
SYMBOLS = frozenset(("Sm", "Sc", "So"))


class _Characters(dict[int, int | str]):
    """For `str.translate`: letters, their marks (vowel signs, say) and digits stay, all else is a space."""

    def __missing__(self, code: int) -> int | str:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else self.other(chr(code))
        return self[code]

    def other(self, character: str) -> str:
        """What stands in for anything else."""
        return " "


class _WithSigns(_Characters):
    """The same, but signs and symbols stay, too, each a word of its own."""

    def other(self, character: str) -> str:
        return f" {character} " if character in SIGNS or unicodedata.category(character) in SYMBOLS else " "


_CHARACTERS, _WITH_SIGNS = _Characters(), _WithSigns()


def normalise(text: str) -> str:
    """The words of a text, without case: NFKC, casefold, runs of anything but letters and digits to one space."""
    return " ".join(_folded(text).translate(_CHARACTERS).split())


def question_key(text: str) -> str:
    """Equal for texts that ask the same: their words, as `normalise` has them, and the signs that tell C++ from C.

    Of a text without a word, the text, spaces aside.
    """
    folded = _folded(text)
    words = folded.translate(_CHARACTERS).split()
    return " ".join(folded.translate(_WITH_SIGNS).split() if words else text.split())


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def shingles(text: str) -> set[str]:
    """The character 4-grams of a normalised text; a shorter text is its only one."""
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


def near_duplicates(left: Sequence[str], right: Sequence[str], threshold: float = 0.8) -> list[Duplicate]:
    """The most similar text on the right of each text on the left that has one.

    Similarity is the Jaccard coefficient of the sets of character 4-grams of the normalised texts (Broder 1997), a text
    of fewer than 4 characters being compared whole. Texts that are the same once normalised have similarity 1. A claim
    and its negation, or one with another number, often pass as well: both are made from one text.

    The search is exact. Two sets as similar as the threshold t share one of the n - ceil(t n) + 1 rarest n-grams of
    each, n being the size of the set (the prefix filter of Chaudhuri, Ganti and Kaushik 2006), and the smaller has at
    least t times the size of the larger. Only pairs that pass both are compared.

    Args:
        left: `[n]` texts.
        right: `[m]` texts.
        threshold: the least similarity, in (0, 1].

    Returns:
        At most one duplicate for each text on the left, in that order; of equally similar ones the lowest index.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    _check(threshold)
    if not left or not right:
        return []
    # Each text is compared once, however often it is there: else a question asked a thousand times costs a million.
    texts, sources = [normalise(text) for text in left], _first(map(normalise, right))
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    best = _best(list(rows), list(sources), threshold)
    first = list(sources.values())
    found = [(i, best[rows[text]]) for i, text in enumerate(texts) if rows[text] in best]
    return [Duplicate(i, first[column], similarity) for i, (column, similarity) in found]


def near_pairs(pairs: Iterable[Pair], text_of: Callable[[str], str], threshold: float = 0.9) -> dict[Pair, float]:
    """Which of the given pairs are near-duplicates, and how similar they are.

    Similarity is that of `near_duplicates`. The search is exact, but that n-grams are compared by hashes of 64 bits.
    First the sizes of two sets must allow the threshold, then a sample of each: the n-grams whose hash is below a
    bound. No more can be shared than the samples share, and the smaller rest. Only pairs that pass are compared whole.
    Held of every text are its size and its sample, of at most `HELD` texts all hashes.

    Args:
        pairs: of ids.
        text_of: the text of an id; asked once for every id, and again for texts of pairs that are compared whole.
        threshold: the least similarity, in (0, 1].

    Returns:
        The similarity of each pair that reaches the threshold, sorted by ids.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    _check(threshold)
    bound = np.uint64(_bound(threshold))
    distinct = sorted(set(pairs))
    samples: dict[str, tuple[int, Hashes]] = {}
    for name in dict.fromkeys(name for pair in distinct for name in pair):
        hashes = _hashes(text_of(name))
        samples[name] = len(hashes), hashes[: np.searchsorted(hashes, bound, side="right")].copy()
    whole = lru_cache(maxsize=HELD)(lambda name: _hashes(text_of(name)))
    found: dict[Pair, float] = {}
    for left, right in distinct:
        if _may_be_near(*samples[left], *samples[right], threshold):
            shared = _shared(whole(left), whole(right))
            similarity = shared / (samples[left][0] + samples[right][0] - shared)
            if similarity >= threshold:
                found[left, right] = similarity
    return found


def _check(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold of near-duplicates is a share above 0 and up to 1, not {threshold}")


def _bound(threshold: float) -> int:
    """The largest hash of a sample, of about three times the n-grams that similar texts of one size may differ in."""
    share = min(1.0, max(1 / 16, 3 * (1 - threshold) / (1 + threshold)))
    return min(int(share * 2**64), 2**64 - 1)


def _hashes(text: str) -> Hashes:
    """The hashes of the n-grams of a text once normalised, sorted, each once."""
    # No normalised text holds a zero: a text shorter than an n-gram equals none but itself.
    encoded = normalise(text).ljust(SHINGLE, "\0").encode("utf-32-le")
    codes = np.frombuffer(encoded, np.uint32).astype(np.uint64)
    count = len(codes) - SHINGLE + 1
    hashes = np.zeros(count, np.uint64)
    for i in range(SHINGLE):
        hashes = (hashes + codes[i : i + count]) * FACTOR
    return np.unique(hashes)


def _may_be_near(size: int, sample: Hashes, other_size: int, other_sample: Hashes, threshold: float) -> bool:
    """Whether sizes and samples allow two sets of n-grams to be as similar as the threshold."""
    needed = threshold / (1 + threshold) * (size + other_size) - SLACK
    if min(size, other_size) < needed:
        return False
    rest = min(size - len(sample), other_size - len(other_sample))
    return min(len(sample), len(other_sample)) + rest >= needed and _shared(sample, other_sample) + rest >= needed


def _shared(left: Hashes, right: Hashes) -> int:
    return int(np.intersect1d(left, right, assume_unique=True).size)


def _first(texts: Iterable[str]) -> dict[str, int]:
    """Where each text is for the first time."""
    found: dict[str, int] = {}
    for i, text in enumerate(texts):
        found.setdefault(text, i)
    return found


def _best(left: list[str], right: list[str], threshold: float) -> dict[int, tuple[int, float]]:
    """The index and similarity of the most similar text on the right, by the index of that on the left."""
    matrix = _shingle_matrix([*left, *right])
    sizes: Integers = np.diff(matrix.indptr).astype(np.int64)
    prefixes = _prefixes(matrix, sizes, threshold)
    best: dict[int, tuple[int, float]] = {}
    for rows, columns in _candidates(prefixes[: len(left)], prefixes[len(left) :]):
        sides = sizes[rows], sizes[len(left) + columns]
        alike = np.minimum(*sides) >= threshold * np.maximum(*sides) - SLACK
        rows, columns, sums = rows[alike], columns[alike], (sides[0] + sides[1])[alike]
        overlaps = _overlaps(matrix, rows, len(left) + columns, int(sizes.max()))
        similarity = overlaps / (sums - overlaps)
        order = np.lexsort((columns, -similarity, rows))
        chosen = order[np.unique(rows[order], return_index=True)[1]]
        chosen = chosen[similarity[chosen] >= threshold]
        pairs = zip(columns[chosen].tolist(), similarity[chosen].tolist(), strict=True)
        best.update(zip(rows[chosen].tolist(), pairs, strict=True))
    return best


def _shingle_matrix(texts: list[str]) -> Any:
    """Which text holds which n-gram: a sparse `[texts, n-grams]` of ones, those of a row from rare to frequent."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer: Any = CountVectorizer
    matrix = vectorizer(analyzer=shingles, dtype=np.int32).fit_transform(texts)
    frequencies = np.bincount(matrix.indices, minlength=matrix.shape[1])
    ranks = np.empty(len(frequencies), dtype=matrix.indices.dtype)
    ranks[np.argsort(frequencies, kind="stable")] = np.arange(len(frequencies))
    matrix.indices = ranks[matrix.indices]
    matrix.has_sorted_indices = False
    matrix.sort_indices()
    return matrix


def _prefixes(matrix: Any, sizes: Integers, threshold: float) -> Any:
    """The rarest n-grams of each text: as many as are sure to hold one of any text that is similar enough."""
    from scipy.sparse import csr_matrix

    lengths = sizes - np.ceil(threshold * sizes - SLACK).astype(np.int64) + 1
    positions = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes)
    kept = positions < np.repeat(lengths, sizes)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)


def _candidates(left: Any, right: Any) -> Iterator[tuple[Integers, Integers]]:
    """The pairs that share an n-gram of their prefixes, as rows on either side; a left row's are in one block."""
    across = right.T.tocsr()
    height = max(1, BLOCK // right.shape[0])
    for start in range(0, left.shape[0], height):
        rows, columns = (left[start : start + height] @ across).nonzero()
        yield rows.astype(np.int64) + start, columns.astype(np.int64)


def _overlaps(matrix: Any, rows: Integers, others: Integers, longest: int) -> Integers:
    """How many n-grams each pair of rows shares."""
    size = max(1, BLOCK // longest)
    starts = range(0, len(rows), size)
    blocks = [matrix[rows[i : i + size]].multiply(matrix[others[i : i + size]]).sum(axis=1) for i in starts]
    return np.concatenate([np.empty(0, dtype=np.int64), *(np.asarray(block).ravel() for block in blocks)])
