"""Known scores: what a dictionary would say, in 20 bytes each."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage import knownscores
from secondstage.knownscores import RECORD, KnownScores, Records

# Few, so that they meet; zeros at the end, which numpy takes for padding.
DIGESTS = st.sampled_from([bytes(16), b"\1" + bytes(15), bytes(15) + b"\1", b"\xff" * 16, b"a" * 15 + b"\0", b"a" * 16])
TABLES = st.dictionaries(DIGESTS, st.floats(width=32, allow_nan=False, allow_infinity=False))


def records(table: dict[bytes, float]) -> Records:
    return np.array(list(table.items()), RECORD)


@given(st.lists(TABLES, max_size=3), st.lists(TABLES, max_size=4), st.lists(DIGESTS))
@settings(deadline=None)
def test_it_is_a_dictionary(
    read: list[dict[bytes, float]], added: list[dict[bytes, float]], asked: list[bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knownscores, "FRESH", 1)
        known, oracle = KnownScores(map(records, read)), dict[bytes, float]()
        for table in read:
            oracle |= table
        for table in added:
            new = {digest: score for digest, score in table.items() if digest not in oracle}
            known.add(new)
            oracle |= new
            assert len(known) == len(oracle)
            expected = [oracle.get(digest, math.nan) for digest in asked]
            np.testing.assert_array_equal(known.find(asked), np.array(expected, np.float32))


def test_a_score_takes_little_memory() -> None:
    count = 200_000
    digests = np.random.default_rng(1).bytes(16 * count)
    table = np.empty(count, RECORD)
    table["digest"], table["score"] = np.frombuffer(digests, "S16"), np.arange(count)
    tracemalloc.start()
    known = KnownScores([table])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25 * count
    assert known.find([digests[16 * i : 16 * i + 16] for i in (7, count - 1)]).tolist() == [7.0, count - 1.0]
