"""Training lists: what was written is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.files import read_json, write_json
from secondstage.lists import (
    DROPPED,
    IGNORED,
    NEGATIVE,
    POSITIVE,
    ROLES,
    SCHEMA,
    Candidate,
    TrainingList,
    has_labels,
    has_teacher,
    read_index,
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


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 20])
def test_every_list_is_read_once_and_in_order(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "lists"
    written = write_lists(folder, some_lists(count), ["large", "larger"], per_shard=7)
    assert list(read_lists(folder)) == list(some_lists(count))
    assert read_index(folder) == written
    candidates = sum(1 + i % 3 for i in range(count))
    assert written[:4] == (SCHEMA, ("large", "larger"), count, candidates)
    assert len(written.shards) == -(-count // 7)


texts = st.text(st.characters(codec="utf-8"), max_size=10)
candidates = st.builds(
    Candidate,
    texts,
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    texts,
    st.integers(0, 2**31 - 1),
    st.floats(width=32, allow_nan=False),
    st.sampled_from(ROLES),
    texts,
    st.none() | st.floats(width=32, allow_nan=False),
    st.lists(st.none() | st.floats(width=32, allow_nan=False), max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, st.lists(candidates, max_size=4).map(tuple), max_size=5))
def test_every_value_survives(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, tuple[Candidate, ...]]
) -> None:
    path = tmp_path_factory.mktemp("lists") / "lists"
    written = [TrainingList(*item) for item in found.items()]
    write_lists(path, written)
    assert list(read_lists(path)) == written


def test_a_score_is_kept_in_single_precision(tmp_path: Path) -> None:
    path = tmp_path / "lists"
    write_lists(path, [TrainingList("q", (candidate("d")._replace(score=0.1),))])
    (found,) = read_lists(path)
    assert found.candidates[0].score == float(np.float32(0.1))


def test_other_schemas_and_missing_shards_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    write_lists(folder, some_lists(9), per_shard=4)
    (folder / "00001.arrow").rename(folder / "elsewhere")
    with pytest.raises(UserError, match=r"lacks the shard 00001\.arrow: mine the lists again"):
        list(read_lists(folder))
    write_json(folder / "lists.json", read_json(folder / "lists.json") | {"schema": SCHEMA + 1})
    with pytest.raises(UserError, match=f"schema {SCHEMA + 1}; this version reads schema {SCHEMA}"):
        next(read_lists(folder))
    (folder / "lists.json").unlink()
    with pytest.raises(UserError, match=r"lists\.json is missing"):
        next(read_lists(folder))


def test_a_role_selects_its_candidates_in_order() -> None:
    roles = [("p1", POSITIVE), ("n1", NEGATIVE), ("p2", POSITIVE), ("n2", NEGATIVE)]
    training_list = TrainingList("q", tuple(candidate(doc_id, role) for doc_id, role in roles))
    assert [found.doc_id for found in training_list.with_role(POSITIVE)] == ["p1", "p2"]
    assert [found.doc_id for found in training_list.with_role(NEGATIVE)] == ["n1", "n2"]
    assert training_list.with_role("ignored") == ()
    assert TrainingList("q", ()).with_role(POSITIVE) == ()


def test_a_list_that_lacks_either_side_is_not_trained_on(tmp_path: Path) -> None:
    sides = {"both": (POSITIVE, NEGATIVE), "positives": (POSITIVE, "ignored"), "negatives": (NEGATIVE,), "none": ()}
    lists = [
        TrainingList(name, tuple(candidate(f"d{i}", role) for i, role in enumerate(roles)))
        for name, roles in sides.items()
    ]
    write_lists(tmp_path / "lists", lists)
    assert list(filter(has_labels, read_lists(tmp_path / "lists"))) == lists[:1]


def test_reading_may_stop_and_start_again(tmp_path: Path) -> None:
    path = tmp_path / "lists"
    write_lists(path, some_lists(5))
    assert next(read_lists(path)).query_id == "q0"
    assert len(list(read_lists(path))) == 5


@pytest.mark.parametrize(
    ("rows", "labels", "teacher"),
    [
        ([(POSITIVE, 1.0), (NEGATIVE, 0.0)], True, True),
        ([(POSITIVE, None), (NEGATIVE, 0.0)], True, False),
        ([(POSITIVE, 1.0), (IGNORED, 0.0)], False, True),
        ([(IGNORED, 1.0), (IGNORED, 0.0)], False, True),
        ([(NEGATIVE, 1.0), (DROPPED, 0.0)], False, False),
        ([], False, False),
    ],
)
def test_what_a_list_has_to_learn_from(rows: list[tuple[str, float | None]], labels: bool, teacher: bool) -> None:
    found = TrainingList("q", tuple(candidate("d", role)._replace(teacher_score=score) for role, score in rows))
    assert (has_labels(found), has_teacher(found)) == (labels, teacher)
