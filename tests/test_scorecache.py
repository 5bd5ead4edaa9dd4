"""Cached scores: the same as uncached ones, through kills, torn files and repetition, and never paid for twice."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.knownscores import RECORD
from secondstage.progress import bar
from secondstage.run import Scores
from secondstage.scorecache import HEADER, CachedScorer, read_scores
from secondstage.scoring import Constant, Random

Pairs = Sequence[tuple[str, str]]
PAIRS = [(f"query {i % 7}", f"document {i}") for i in range(50)]
FEW_TEXTS = st.sampled_from(["", "a", "b", "ab", "ba", "\0", "é"])


class Counting:
    """A scorer that counts what it is asked, and is killed when it is asked the chunk after `chunks`."""

    def __init__(self, chunks: int = sys.maxsize) -> None:
        self.chunks = chunks
        self.asked: Counter[tuple[str, str]] = Counter()
        self.labels: list[str | None] = []

    def score(self, pairs: Pairs, *, label: str | None = None) -> Scores:
        if len(self.labels) == self.chunks:
            raise KeyboardInterrupt
        self.labels.append(label)
        self.asked.update(pairs)
        return Random(1).score(pairs)


class Broken:
    """Gives no finite score to some documents, as a broken model does."""

    def score(self, pairs: Pairs, *, label: str | None = None) -> Scores:
        values = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
        return np.array([values.get(document, 1.5) for _, document in pairs], np.float32)


def expected(pairs: Pairs) -> list[float]:
    return list(Random(1).score(pairs))


@given(
    st.lists(st.lists(st.tuples(FEW_TEXTS, FEW_TEXTS), max_size=12), min_size=1, max_size=5),
    st.integers(1, 5),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_scorer_and_each_distinct_pair_is_scored_once(
    calls: list[list[tuple[str, str]]], chunk: int, reopen: bool
) -> None:
    inner = Counting()
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedScorer(inner, Path(folder) / "scores", chunk=chunk)
        for pairs in calls:
            if reopen:
                cached = CachedScorer(inner, Path(folder) / "scores", chunk=chunk)
            scores = cached.score(pairs)
            assert scores.dtype == np.float32
            assert scores.tolist() == expected(pairs)
    assert inner.asked == Counter({pair for pairs in calls for pair in pairs})


@given(st.permutations(PAIRS), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_pairs_nor_what_is_known_already_changes_a_score(
    pairs: list[tuple[str, str]], known: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores"
        CachedScorer(Counting(), path).score(PAIRS[:known])
        assert CachedScorer(Counting(), path).score(pairs).tolist() == expected(pairs)


@pytest.mark.parametrize("chunks", range(6))
def test_after_a_kill_only_what_is_missing_is_scored(chunks: int, tmp_path: Path) -> None:
    killed = Counting(chunks)
    with pytest.raises(KeyboardInterrupt):
        CachedScorer(killed, tmp_path / "scores", chunk=8).score(PAIRS)
    assert len(killed.asked) == 8 * chunks
    fresh = Counting()
    assert CachedScorer(fresh, tmp_path / "scores", chunk=8).score(PAIRS).tolist() == expected(PAIRS)
    assert killed.asked + fresh.asked == Counter(PAIRS)


def test_a_kill_that_was_survived_leaves_the_same_scorer_usable(tmp_path: Path) -> None:
    inner = Counting(2)
    cached = CachedScorer(inner, tmp_path / "scores", chunk=8)
    with pytest.raises(KeyboardInterrupt):
        cached.score(PAIRS)
    inner.chunks = sys.maxsize
    assert cached.score(PAIRS).tolist() == expected(PAIRS)
    assert inner.asked == Counter(PAIRS)
    assert len(read_scores(tmp_path / "scores")) == len(PAIRS)


def test_every_chunk_is_in_the_file_before_the_next_is_scored(tmp_path: Path) -> None:
    path, sizes = tmp_path / "scores", []

    class Watching:
        def score(self, pairs: Pairs, *, label: str | None = None) -> Scores:
            sizes.append(len(read_scores(path)))
            return Random(1).score(pairs)

    CachedScorer(Watching(), path, chunk=20).score(PAIRS)
    assert sizes == [0, 20, 40]


@pytest.mark.parametrize("left", range(RECORD.itemsize))
def test_a_torn_record_is_scored_again_and_the_file_is_whole_again(left: int, tmp_path: Path) -> None:
    path = tmp_path / "scores"
    CachedScorer(Counting(), path).score(PAIRS[:3])
    whole = path.read_bytes()
    assert len(whole) == len(HEADER) + 3 * RECORD.itemsize
    path.write_bytes(whole[: len(whole) - RECORD.itemsize + left])
    inner = Counting()
    assert CachedScorer(inner, path).score(PAIRS[:3]).tolist() == expected(PAIRS[:3])
    assert inner.asked == Counter([PAIRS[2]])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("left", range(len(HEADER)))
def test_a_torn_header_is_written_anew(left: int, tmp_path: Path) -> None:
    path = tmp_path / "scores"
    path.write_bytes(HEADER[:left])
    assert CachedScorer(Counting(), path).score(PAIRS).tolist() == expected(PAIRS)
    assert CachedScorer(Counting(0), path).score(PAIRS).tolist() == expected(PAIRS)


@pytest.mark.parametrize("content", [b"q0 Q0 d1 1 0.5 bm25\n", b"\0", HEADER.replace(b"1", b"2") + b"\0" * 40])
def test_another_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"precious is no score cache .* delete it"):
        CachedScorer(Counting(), path).score(PAIRS)
    assert path.read_bytes() == content


def test_nothing_is_read_or_made_before_there_is_something_to_score(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "scores"
    cached = CachedScorer(Counting(), path)
    assert cached.score([]).shape == (0,)
    assert not path.parent.exists()
    cached.score(PAIRS)
    assert path.is_file()


def test_scores_that_are_not_finite_are_handed_on_but_not_stored(tmp_path: Path) -> None:
    pairs = [("q", document) for document in ("nan", "fine", "inf", "-inf", "fine")]
    cached = CachedScorer(Broken(), tmp_path / "scores", chunk=2)
    assert np.array_equal(cached.score(pairs), Broken().score(pairs), equal_nan=True)
    assert len(read_scores(tmp_path / "scores")) == 1
    assert CachedScorer(Counting(0), tmp_path / "scores").score([("q", "fine")]).tolist() == [1.5]
    cached.scorer = mended = Counting()
    assert np.isfinite(cached.score(pairs)).all()
    assert sorted(document for _, document in mended.asked) == ["-inf", "inf", "nan"]


def test_one_bar_of_the_missing_pairs_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    def remembered(**settings: Any) -> Any:
        bars.append(bar(**settings))
        return bars[-1]

    monkeypatch.setattr("secondstage.scorecache.bar", remembered)
    inner = Counting()
    cached = CachedScorer(inner, tmp_path / "scores", chunk=8)
    cached.score(PAIRS[:10])
    for _ in range(2):
        cached.score(PAIRS, label="scoring")
    assert [(shown.desc, shown.n, shown.total) for shown in bars] == [("scoring", 40, 40)]
    assert set(inner.labels) == {None}


def test_a_scorer_that_gives_too_few_scores_is_caught_before_anything_is_stored(tmp_path: Path) -> None:
    class Short:
        def score(self, pairs: Pairs, *, label: str | None = None) -> Scores:
            return Random(1).score(pairs[1:])

    with pytest.raises(ValueError, match="50 pairs, but scores of shape"):
        CachedScorer(Short(), tmp_path / "scores").score(PAIRS)
    assert len(read_scores(tmp_path / "scores")) == 0


class Streaming(Counting):
    """Gives scores two by two, the last pairs first, and is killed after `chunks` of them."""

    def stream(self, pairs: Pairs) -> Iterator[tuple[list[int], list[float]]]:
        scores = Random(1).score(pairs)
        for part, start in enumerate(reversed(range(0, len(pairs), 2))):
            if part == self.chunks:
                raise KeyboardInterrupt
            places = list(range(start, min(start + 2, len(pairs))))
            self.asked.update(pairs[i] for i in places)
            yield places, [float(scores[i]) for i in places]


@pytest.mark.parametrize("parts", range(0, 26, 5))
def test_a_scorer_that_streams_loses_nothing_that_it_gave(parts: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        CachedScorer(Streaming(chunks=parts), tmp_path / "scores").score([*PAIRS, ("q", "one more")])
    assert len(read_scores(tmp_path / "scores")) == max(0, 2 * parts - (parts > 0))
    fresh = Streaming()
    cached = CachedScorer(fresh, tmp_path / "scores")
    assert cached.score(PAIRS).tolist() == expected(PAIRS)
    assert cached.scored == len(fresh.asked) == len(PAIRS) - max(0, 2 * parts - 2)
    assert fresh.labels == []  # never asked in chunks


def test_what_another_process_scored_is_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.scores"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    other = CachedScorer(Random(3), path)
    expected = other.score(PAIRS)
    assert not path.exists()
    monkeypatch.setenv("RANK", "0")
    lead = CachedScorer(Constant(), path)
    np.testing.assert_array_equal(lead.score(PAIRS), expected)
    assert lead.scored == 0
