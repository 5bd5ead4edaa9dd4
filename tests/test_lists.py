"""Training lists: what was written is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.lists import (
    COLUMNS,
    LISTS_PER_BATCH,
    NEGATIVE,
    POSITIVE,
    Candidate,
    TrainingList,
    read_lists,
    write_lists,
)


def candidate(doc_id: str, role: str = NEGATIVE, rank: int = 1) -> Candidate:
    return Candidate(
        doc_id, int(role == POSITIVE), judged=role == POSITIVE, retriever="bm25", rank=rank, score=0.5, role=role
    )


def some_lists(count: int) -> Iterator[TrainingList]:
    """Lists of one to three candidates."""
    for i in range(count):
        yield TrainingList(f"q{i}", tuple(candidate(f"d{i}-{j}", rank=j) for j in range(1 + i % 3)))


def batches(path: Path) -> int:
    with pa.memory_map(str(path)) as source:
        return int(pa.ipc.open_file(source).num_record_batches)


@pytest.mark.parametrize(
    "count",
    [0, 1, LISTS_PER_BATCH - 1, LISTS_PER_BATCH, LISTS_PER_BATCH + 1, 2 * LISTS_PER_BATCH, 2 * LISTS_PER_BATCH + 7],
)
def test_every_list_is_read_once_and_in_order(tmp_path: Path, count: int) -> None:
    path = tmp_path / "lists.arrow"
    write_lists(path, some_lists(count))
    assert list(read_lists(path)) == list(some_lists(count))
    assert batches(path) == -(-count // LISTS_PER_BATCH)


texts = st.text(st.characters(codec="utf-8"), max_size=10)
candidates = st.builds(
    Candidate,
    texts,
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    texts,
    st.integers(0, 2**31 - 1),
    st.floats(width=32, allow_nan=False),
    st.sampled_from([POSITIVE, NEGATIVE]),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, st.lists(candidates, min_size=1, max_size=4).map(tuple), max_size=5))
def test_every_value_survives(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, tuple[Candidate, ...]]
) -> None:
    path = tmp_path_factory.mktemp("lists") / "lists.arrow"
    written = [TrainingList(*item) for item in found.items()]
    write_lists(path, written)
    assert list(read_lists(path)) == written


def test_a_score_is_kept_in_single_precision(tmp_path: Path) -> None:
    path = tmp_path / "lists.arrow"
    write_lists(path, [TrainingList("q", (candidate("d")._replace(score=0.1),))])
    (found,) = read_lists(path)
    assert found.candidates[0].score == float(np.float32(0.1))


def test_the_columns_are_those_of_a_candidate(tmp_path: Path) -> None:
    assert tuple(COLUMNS) == ("query_id", *Candidate._fields)
    path = tmp_path / "lists.arrow"
    write_lists(path, some_lists(3))
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.column_names == list(COLUMNS)
    assert table.column("doc_id").to_pylist() == ["d0-0", "d1-0", "d1-1", "d2-0", "d2-1", "d2-2"]


def test_a_role_selects_its_candidates_in_order() -> None:
    roles = [("p1", POSITIVE), ("n1", NEGATIVE), ("p2", POSITIVE), ("n2", NEGATIVE)]
    training_list = TrainingList("q", tuple(candidate(doc_id, role) for doc_id, role in roles))
    assert [found.doc_id for found in training_list.with_role(POSITIVE)] == ["p1", "p2"]
    assert [found.doc_id for found in training_list.with_role(NEGATIVE)] == ["n1", "n2"]
    assert training_list.with_role("ignored") == ()
    assert TrainingList("q", ()).with_role(POSITIVE) == ()


def test_reading_may_stop_and_start_again(tmp_path: Path) -> None:
    path = tmp_path / "lists.arrow"
    write_lists(path, some_lists(5))
    assert next(read_lists(path)).query_id == "q0"
    assert len(list(read_lists(path))) == 5
