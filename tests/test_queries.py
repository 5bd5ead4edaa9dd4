"""The queries of a test set: what is left out is counted, what is dubious is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from secondstage.collection import Collection, Qrels
from secondstage.errors import UserError
from secondstage.leakage import Met
from secondstage.serve.proof.queries import FEW, QuerySet, given_slices, left_out, query_set

LITTLE = "queries show very little: judge more"


def collection(
    qrels: Mapping[str, Qrels], synthetic: frozenset[str] = frozenset(), texts: Mapping[str, str] | None = None
) -> Collection:
    """Documents d0 to d99; a query's text is its id unless given."""
    ids = {query_id for split in qrels.values() for query_id in split}
    found = SimpleNamespace(
        name="hand-made",
        qrels=qrels,
        queries={query_id: f"text of {query_id}" for query_id in ids} | dict(texts or {}),
        documents={f"d{i}" for i in range(100)},
        synthetic=synthetic,
        split=lambda name: qrels[name],
    )
    return cast(Collection, cast(Any, found))


def numbered(count: int, relevance: int = 1, first: int = 0) -> Qrels:
    return {f"q{i}": {f"d{i}": relevance} for i in range(first, first + count)}


def notes(qrels: Qrels, max_queries: int | None = None) -> list[str]:
    return query_set(collection({"test": qrels}), "test", max_queries, 13).notes


def test_a_large_whole_set_needs_no_note() -> None:
    found = query_set(collection({"test": numbered(FEW)}), "test", None, 13)
    assert found == QuerySet(
        "test", {f"q{i}": f"text of q{i}" for i in range(FEW)}, numbered(FEW), frozenset(), [], (), []
    )


def test_queries_without_a_relevant_document_are_left_out_and_counted() -> None:
    judged = numbered(FEW) | numbered(3, 0, 50) | numbered(1, -1, 60)
    found = query_set(collection({"test": judged}), "test", None, 13)
    assert found.queries.keys() == found.qrels.keys() == numbered(FEW).keys()
    assert found.notes == ["4 judged queries without a relevant document are left out: no order of theirs is better"]


def test_a_choice_is_counted_and_is_the_seeds() -> None:
    whole = collection({"test": numbered(90)})
    one, again, two = (query_set(whole, "test", 40, seed) for seed in (13, 13, 14))
    assert one.notes == ["40 of 90 queries were chosen (evaluate.max_queries, seed 13)"]
    assert one.qrels == again.qrels != two.qrels
    assert len(one.queries) == 40
    assert notes(numbered(90), 90) == []


def test_what_the_collection_lacks_is_counted_once() -> None:
    judged = numbered(FEW)
    judged |= {"q1": {"d1": 1, "x": 1}, "q2": {"x": 2, "y": 1, "z": 0}}
    assert notes(judged) == ["2 relevant documents are not in the collection and count as missed"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (FEW, []),
        (FEW - 1, [f"{FEW - 1} {LITTLE}"]),
        (2, [f"2 {LITTLE}"]),
        (1, ["1 query shows very little: judge more"]),
    ],
)
def test_few_queries_are_called_few(count: int, expected: list[str]) -> None:
    assert notes(numbered(count)) == expected
    assert [note for note in notes(numbered(90), count) if "judge more" in note] == expected


def test_all_notes_together_in_this_order() -> None:
    judged = {query_id: {**row, "elsewhere": 1} for query_id, row in numbered(9).items()} | numbered(2, 0, 50)
    assert [note.split()[0] for note in notes(judged, 8)] == ["2", "8", "1", "8"]


@pytest.mark.parametrize("judged", [{}, numbered(2, 0), {"q0": {"d0": -1}}])
def test_a_split_without_any_relevant_document_is_refused(judged: Qrels) -> None:
    refusal = (
        f"split 'test' of collection 'hand-made' has no query with a relevant document \\({len(judged)} queries are "
        "judged\\): nothing can be measured on it"
    )
    with pytest.raises(UserError, match=refusal):
        query_set(collection({"test": judged}), "test", None, 13)


@pytest.mark.parametrize(
    ("synthetic", "origin"),
    [((), "human"), (("q0", "q1"), "synthetic"), (("q1",), "mixed"), (("q9", "elsewhere"), "human")],
)
def test_origin(synthetic: tuple[str, ...], origin: str) -> None:
    splits = {"test": numbered(2), "train": numbered(1, 1, 9)}
    found = query_set(collection(splits, frozenset(synthetic)), "test", None, 13)
    assert found.origin == origin
    assert found.synthetic == {"q0", "q1"}.intersection(synthetic)


def test_leaks_are_sought_in_train_and_dev_alone() -> None:
    splits = {
        "train": {"t0": {"d0": 1}, "t1": {"d50": 1}},
        "dev": {"v0": {"d2": 1}},
        "test": numbered(4),
        "human": {"h0": {"d3": 1}},
    }
    whole = collection(splits, texts={"t1": "TEXT of q1!"})
    found = query_set(whole, "test", None, 13)
    assert found.against == ("train", "dev")
    assert [(leak.query_id, leak.kind, leak.split, leak.other_id) for leak in found.leaks] == [
        ("q0", "document", "train", "d0"),
        ("q1", "same_text", "train", "t1"),
        ("q2", "document", "dev", "d2"),
    ]
    seen = query_set(whole, "dev", None, 13)  # a split that training or its choices saw gives itself away
    assert [(leak.kind, leak.split) for leak in seen.leaks if leak.kind == "same_text"] == [("same_text", "dev")]
    assert query_set(collection({"test": numbered(4)}), "test", None, 13).leaks == []


def test_what_training_met_counts_and_not_what_it_could_have() -> None:
    splits = {"train": {"t0": {"d0": 1}, "t1": {"d50": 1}}, "test": numbered(3)}
    whole = collection(splits, texts={"t1": "text of q1"})
    met = Met({"t0": whole.queries["t0"], "synthetic-1": "Text of q2!"}, {"t0": {"d1": 1}, "synthetic-1": {"d60": 1}})
    found = query_set(whole, "test", None, 13, met)
    assert [(leak.query_id, leak.kind, leak.other_id) for leak in found.leaks] == [
        ("q1", "document", "d1"),  # a positive that was relabelled
        ("q2", "same_text", "synthetic-1"),
    ]
    nothing = query_set(whole, "test", None, 13, Met({}, {}))
    assert (nothing.leaks, nothing.against) == ([], ())


def test_of_queries_that_were_not_chosen_no_leak_is_told() -> None:
    whole = collection({"train": numbered(20, 1, 0), "test": numbered(20)})
    found = query_set(whole, "test", 5, 13)
    assert {leak.query_id for leak in found.leaks} == set(found.queries)


# --- the user's slices

QUERIES = {"q0": "a", "q1": "b", "q2": "c"}


def test_a_file_parts_the_queries(tmp_path: Path) -> None:
    (tmp_path / "ids.tsv").write_text("q2\t0.5\tsure\n\n  q0 remark\nq2\nelsewhere\n")
    found = given_slices({"mine": str(tmp_path / "ids.tsv")}, QUERIES)
    assert found == {"mine": {"in it": ["q0", "q2"], "not in it": ["q1"]}}


def test_ids_are_whole_words_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("q\nq11\nremark q0\nq1\n")
    assert given_slices({"mine": str(tmp_path / "ids")}, QUERIES) == {
        "mine": {"in it": ["q1"], "not in it": ["q0", "q2"]}
    }


@pytest.mark.parametrize("content", ["", "\n\n", "elsewhere\n"])
def test_a_file_that_names_none_of_them_makes_no_slice(tmp_path: Path, content: str) -> None:
    """It may be about another test set."""
    (tmp_path / "ids").write_text(content)
    (tmp_path / "more").write_text("q0")
    files = {"mine": str(tmp_path / "ids"), "other": str(tmp_path / "more")}
    found = given_slices(files, QUERIES)
    assert list(found) == ["other"]
    assert left_out(files, found) == [f"evaluate.slices: mine is left out, as {tmp_path / 'ids'} names none of these"]
    assert left_out({}, {}) == []
    assert given_slices({}, QUERIES) == {}


def test_all_queries_are_a_slice_whose_rest_is_empty(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("q0\nq1\nq2\n")
    found = given_slices({"mine": str(tmp_path / "ids")}, QUERIES)
    assert found == {"mine": {"in it": ["q0", "q1", "q2"], "not in it": []}}


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ids").write_text("q0\n")
    assert given_slices({"mine": "~/ids"}, QUERIES)["mine"]["in it"] == ["q0"]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes("größe\n".encode("latin-1"))
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "latin1"):
        with pytest.raises(UserError, match=f"evaluate.slices: mine: {path} cannot be read"):
            given_slices({"mine": str(path)}, QUERIES)
