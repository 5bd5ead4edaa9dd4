"""Filters of synthetic queries: what each drops, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config, SynthesizeConfig
from secondstage.errors import UserError
from secondstage.firststage.bm25 import Bm25
from secondstage.mine.synthesis.filters import (
    drop_copies,
    drop_known,
    drop_lost,
    drop_repeated,
    is_copy,
    rank_of,
)
from secondstage.run import Scores
from secondstage.synthetic import SyntheticQuery, synthetic_qrels

SENTENCE = "A sourdough starter is a mixture of flour and water that wild yeast ferments."


def query(text: str, doc_id: str = "d0", kind: str = "question") -> SyntheticQuery:
    return SyntheticQuery(f"synthetic-{text}-{doc_id}", text, doc_id, kind, "fake")


def verdicts(queries: Sequence[SyntheticQuery]) -> list[tuple[str, str]]:
    assert all(query.kept == (query.rule == "") == (query.reason == "") for query in queries)
    return [(query.rule, query.reason) for query in queries]


# --- copies


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        (SENTENCE, True),
        (SENTENCE.upper().replace(" ", "\n"), True),
        ("a mixture of flour and water that wild yeast ferments", True),
        ("So: a mixture of flour and water that wild yeast ferments", True),
        ("What is the mixture of flour and water that wild yeast needs", False),  # 8 of 12 words
        ("sourdough starter", False),
        ("a mixture of flour and water", False),  # short
        ("mixture flour water wild yeast ferments sourdough starter", False),  # never in one piece
        ("", False),
    ],
)
def test_a_copy_is_most_of_the_query_in_one_piece(text: str, copied: bool) -> None:
    assert is_copy(text, f"Bread. {SENTENCE} Bake it.") is copied


def test_a_copy_of_a_text_without_spaces() -> None:
    text = "小麦粉と水を混ぜた生地を野生の酵母で発酵させたものを種と呼び、それでパンを焼く"
    assert is_copy(text, f"序。{text}。")
    assert not is_copy("生地を野生の酵母で", f"序。{text}。")


def test_titles_are_copies_on_purpose(as_documents: Callable[[Sequence[str]], Documents]) -> None:
    documents = as_documents([SENTENCE])
    made = [query(SENTENCE), query(SENTENCE, kind="title"), query("What ferments?"), query("").dropped("empty", "none")]
    assert verdicts(drop_copies(made, documents)) == [
        ("copy", "copies the document"), ("", ""), ("", ""), ("empty", "none")
    ]  # fmt: skip


# --- queries of the collection


def test_queries_near_real_ones_are_leaks_or_known(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    real = {
        "t1": "how long does sourdough bread keep",
        "d1": "why is rye bread so dark and heavy",
        "x1": "which flour is best for pizza dough",
        "u1": "how hot must an oven be for bread",
        "b1": "what is the best way to store rye bread",
    }
    splits = {"train": ("t1", "b1"), "dev": ("d1",), "human": ("x1", "b1")}
    monkeypatch.setattr(collection, "queries", real)
    qrels = {split: {query_id: {"bread-0": 1} for query_id in ids} for split, ids in splits.items()}
    monkeypatch.setattr(collection, "qrels", qrels)
    made = [
        query("How long does sourdough bread keep?"),
        query("why is rye bread so dark and heavy?"),
        query("Which flours is best for pizza dough"),
        query("How hot must an oven be for breads?"),
        query("what is the best way to store rye breads"),
        query("what makes rye bread dark"),
        query("why is rye bread so dark and heavy").dropped("empty", "none"),
    ]
    assert verdicts(drop_known(made, collection)) == [
        ("known", "duplicate of query t1"),
        ("leak", "near a dev query: d1"),
        ("leak", "near a human query: x1"),
        ("known", "duplicate of query u1"),
        ("leak", "near a human query: b1"),  # of train, too: that makes it no less a leak
        ("", ""),
        ("empty", "none"),
    ]


def test_a_collection_without_queries_knows_none(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "queries", {})
    monkeypatch.setattr(collection, "qrels", {})
    assert verdicts(drop_known([query("a")], collection)) == [("", "")]
    assert drop_known([], collection) == []


# --- the round trip


class Judge:
    """Scores a document by how often it has the word, and remembers what it was shown."""

    def __init__(self, word: str = "") -> None:
        self.word = word
        self.seen: list[tuple[str, Sequence[str]]] = []

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        self.seen += lists
        return [np.array([text.count(self.word) for text in texts], np.float32) for _, texts in lists]

    def report(self) -> Mapping[str, Any]:
        return {}


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


def test_a_query_must_lead_back_to_its_document(collection: Collection, bm25: Bm25) -> None:
    config = SynthesizeConfig(round_trip=2)
    made = [
        query("bread yeast", "bread-1"),
        query("bread yeast", "bread-5"),
        query("nothing like it", "bread-0"),
        query("bread", "bread-3").dropped("leak", "near"),
    ]
    found = drop_lost(made, collection, bm25, None, config)
    assert verdicts(found) == [("", ""), ("round_trip", "not found in top 2"), ("round_trip", "not found in top 2"),
                               ("leak", "near")]  # fmt: skip
    assert [q.rank for q in found] == [1, 0, 0, None]
    assert {q.teacher_rank for q in found} == {None}


def test_the_teacher_must_agree_among_what_was_found(collection: Collection, bm25: Bm25) -> None:
    config = SynthesizeConfig(round_trip=8, teacher_rank=1)
    contents = {d.doc_id: d.content for d in collection.documents}
    made = [query("bread flour", "bread-0"), query("bread flour", "bread-1"), query("zebra", "bread-1")]
    teacher = Judge("bread flour")  # the title of bread-0
    found = drop_lost(made, collection, bm25, teacher, config)
    # The words of the title occur in one document: the other ones, and with them bread-1, tie behind it.
    assert verdicts(found) == [("", ""), ("teacher", f"teacher rank {len(teacher.seen[1][1])}"),
                               ("round_trip", "not found in top 8")]  # fmt: skip
    assert found[0].teacher_rank == 1
    assert [text for text, _ in teacher.seen] == ["bread flour"] * 2
    for _, texts in teacher.seen:
        assert set(texts) < set(contents.values())
        assert len(texts) == 8


def test_a_teacher_who_tells_nothing_agrees_to_nothing(collection: Collection, bm25: Bm25) -> None:
    (found,) = drop_lost([query("bread flour", "bread-0")], collection, bm25, Judge("x"), SynthesizeConfig())
    assert found.rule == "teacher"


def test_the_teacher_reads_the_document_of_a_title_without_it(collection: Collection, bm25: Bm25) -> None:
    title = query("bread flour", "bread-0", "title")
    teacher = Judge("bread")
    drop_lost([title], collection, bm25, teacher, SynthesizeConfig())
    ((_, texts),) = teacher.seen
    assert "flour yeast oven dough crust" in texts
    assert "bread flour\nflour yeast oven dough crust" not in texts


def test_a_document_that_the_teacher_could_not_score_is_not_ranked(collection: Collection, bm25: Bm25) -> None:
    class Blind(Judge):
        def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
            found = super().score_lists(lists)
            return [np.where(scores > 0, np.nan, scores) for scores in found]

    # No rank is too low, but there is none.
    config = SynthesizeConfig(teacher_rank=99)
    made = [query("bread flour", "bread-0"), query("bread flour", "bread-1")]
    found = drop_lost(made, collection, bm25, Blind("bread flour"), config)
    assert verdicts(found) == [("teacher", "not scored by the teacher"), ("", "")]
    assert found[0].teacher_rank is None


def test_a_teacher_of_the_wrong_shape_is_an_error(collection: Collection, bm25: Bm25) -> None:
    class Short(Judge):
        def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
            return [np.zeros(1, np.float32) for _ in lists]

    with pytest.raises(UserError, match="the teacher gave 1 scores for the 8 documents"):
        drop_lost([query("bread flour", "bread-0")], collection, bm25, Short(), SynthesizeConfig())


@pytest.mark.parametrize(
    ("scores", "place", "rank"),
    [
        ([3, 2, 1], 0, 1),
        ([3, 2, 1], 2, 3),
        ([1, 1, 1], 0, 3),
        ([2, 1, 2], 0, 2),
        ([5], 0, 1),
        ([np.nan, 1, 2], 0, 3),
        ([np.nan, 1, 2], 1, 2),
        ([-np.inf, np.inf], 1, 1),
        ([np.nan, np.nan], 0, 2),
    ],
)
def test_equal_scores_stand_before(scores: list[float], place: int, rank: int) -> None:
    assert rank_of(np.array(scores, np.float32), place) == rank


# --- repetitions


def test_the_first_of_what_repeats_is_kept_and_the_same_text_has_all_documents() -> None:
    made = [
        query("how long does sourdough bread keep", "d0"),
        query("How long does sourdough bread keep?", "d1"),
        query("how long does sourdough bread keep", "d0"),
        query("how long does sourdough breads keep", "d2"),
        query("what is rye", "d3").dropped("round_trip", "not found in top 10"),
        query("what is rye", "d4"),
    ]
    found = drop_repeated(made)
    first = made[0].query_id
    assert verdicts(found) == [
        ("", ""),
        ("same_text", f"duplicate of {first}"),
        ("same_text", f"duplicate of {first}"),
        ("near_duplicate", f"near duplicate of {first}"),
        ("round_trip", "not found in top 10"),
        ("", ""),
    ]
    assert synthetic_qrels(found) == {first: {"d0": 1, "d1": 1}, made[5].query_id: {"d4": 1}}


def test_a_sign_makes_another_question_which_gives_its_document_to_none() -> None:
    made = [query("read a file in C++", "d0"), query("read a file in C#", "d1"), query("read a file in c++?", "d2")]
    found = drop_repeated(made)
    first = made[0].query_id
    assert [rule for rule, _ in verdicts(found)] == ["", "near_duplicate", "same_text"]
    assert synthetic_qrels(found) == {first: {"d0": 1, "d2": 1}}
