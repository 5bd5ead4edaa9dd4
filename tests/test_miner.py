"""From candidates to lists: what people said again, what other queries say, teachers, copies, and what is spared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.config import FalseNegativesConfig
from secondstage.lists import DROPPED, FROM_CORPUS, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.mine.decisions import DUPLICATE, JUDGED, REVIEW, TEACHER
from secondstage.mine.synthesis import held_out_documents
from secondstage.synthetic import SyntheticQuery

from .conftest import TOPICS
from .test_source import SAME, Overlap, changed, review, source, teach

ROLES = [("drop", DROPPED), ("ignore", IGNORED), ("relabel", POSITIVE)]


def mined(
    collection: Collection, cache: Path, synthetic: Sequence[SyntheticQuery] = (), **settings: Any
) -> dict[str, TrainingList]:
    """The lists; every document of a topic is a candidate, and no policy forbids any."""
    made = source(collection, cache, **{"depth": 64, "negatives": 64, "max_share": None, **settings})
    miner = made.miner(made.teaching(), collection.qrels.get("train", {}), synthetic)
    return {found.query_id: found for shard in miner.asked.shards for found in miner.lists(shard)}


def of(found: TrainingList, doc_id: str) -> Candidate:
    (candidate,) = (candidate for candidate in found.candidates if candidate.doc_id == doc_id)
    return candidate


def test_a_review_makes_and_takes_away_positives(collection: Collection, tmp_path: Path) -> None:
    before = mined(collection, tmp_path)
    rows = ["q-bread-0 bread-0 no", "q-bread-0 bread-5 yes", "q-chess-1 winter-3 3"]
    after = mined(collection, tmp_path, reviewed=review(tmp_path / "r.tsv", *rows))
    bread, chess = after["q-bread-0"], after["q-chess-1"]
    assert [candidate.doc_id for candidate in bread.with_role(POSITIVE)] == ["bread-5"]
    assert of(bread, "bread-5")[1:3] + of(bread, "bread-5")[6:8] == (1, True, POSITIVE, REVIEW)
    assert of(bread, "bread-0")[1:3] + of(bread, "bread-0")[6:8] == (0, True, NEGATIVE, REVIEW)
    # The first stage missed it: a review is the word of a person, as qrels are.
    assert of(chess, "winter-3")[1:8] == (3, True, "qrels", 0, 0.0, POSITIVE, REVIEW)
    assert of(chess, "chess-1").role == POSITIVE
    touched = {"q-bread-0", "q-chess-1"}
    assert {query_id for query_id in before if before[query_id] != after[query_id]} == touched


def test_what_was_drawn_at_random_and_reviewed_stays(collection: Collection, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"negatives": 8, "random_share": 0.5}
    before = mined(collection, tmp_path, **settings)["q-bread-0"]
    drawn = [c.doc_id for c in before.candidates if c.retriever == FROM_CORPUS]
    no, yes = drawn[0], drawn[-1]
    reviewed = review(tmp_path / "r.tsv", f"q-bread-0 {no} no", f"q-bread-0 {yes} yes")
    after = mined(collection, tmp_path, **settings, reviewed=reviewed)["q-bread-0"]
    assert of(after, no)[1:3] + of(after, no)[6:8] == (0, True, NEGATIVE, REVIEW)
    assert of(after, yes)[6:8] == (POSITIVE, REVIEW)
    assert {c.doc_id for c in after.candidates} == {c.doc_id for c in before.candidates}


def test_yes_is_enough_for_a_positive(collection: Collection, tmp_path: Path) -> None:
    rows = ["q-bread-0 bread-5 yes", "q-bread-0 bread-6 1"]
    found = mined(collection, tmp_path, positive_from=2, reviewed=review(tmp_path / "r.tsv", *rows))["q-bread-0"]
    assert [(c.doc_id, c.relevance, c.decision) for c in found.with_role(POSITIVE)] == [("bread-5", 2, REVIEW)]
    # Judged relevant, but not enough, as the qrels' own positive is: never relabelled.
    low = {c.doc_id: (c.role, c.decision) for c in found.candidates if 0 < c.relevance < 2}
    assert low == dict.fromkeys(("bread-0", "bread-6"), (IGNORED, JUDGED))


@pytest.mark.parametrize(("action", "role"), ROLES)
def test_the_positive_of_another_query_with_the_same_text(
    beir_folder: Path, tmp_path: Path, action: str, role: str
) -> None:
    collection = changed(beir_folder, tmp_path, queries=SAME, train=["q-bread-4 bread-3 0"])
    settings: dict[str, Any] = (
        {} if action == FalseNegativesConfig().judged else {"false_negatives": {"judged": action}}
    )
    found = mined(collection, tmp_path, **settings)
    for query_id, own, other in (("q-bread-0", "bread-0", "bread-4"), ("q-bread-4", "bread-4", "bread-0")):
        assert of(found[query_id], own)[6:8] == (POSITIVE, "qrels")
        assert of(found[query_id], other)[6:8] == (role, JUDGED)
        assert of(found[query_id], other).relevance == (role == POSITIVE)
        assert of(found[query_id], "bread-3").role == NEGATIVE
    # Other queries name flour or bread as well, in other words.
    assert not any(c.decision == JUDGED for q in found.keys() - SAME.keys() for c in found[q].candidates)


def test_a_positive_that_a_review_took_away_is_none_of_the_same_text_elsewhere(
    beir_folder: Path, tmp_path: Path
) -> None:
    collection = changed(beir_folder, tmp_path, queries=SAME)
    found = mined(collection, tmp_path, reviewed=review(tmp_path / "r.tsv", "q-bread-0 bread-0 0"))
    assert of(found["q-bread-4"], "bread-0").role == NEGATIVE
    assert of(found["q-bread-0"], "bread-0")[6:8] == (NEGATIVE, REVIEW)
    assert of(found["q-bread-0"], "bread-4")[6:8] == (POSITIVE, JUDGED)


class AboveRelevant(Overlap):
    """Puts everything of the query's topic above what people called relevant."""

    def __init__(self, collection: Collection, reviewed: dict[str, str]) -> None:
        super().__init__()
        judged = {query_id: {*ids} for query_id, ids in collection.qrels["train"].items()}
        for query_id, doc_id in reviewed.items():
            judged[query_id].add(doc_id)
        self.relevant = {
            (collection.queries[query_id], collection.documents.by_id(doc_id).content)
            for query_id, doc_ids in judged.items()
            for doc_id in doc_ids
        }

    def score(self, query: str, text: str) -> float:
        (topic,) = {*query.split()} & {*TOPICS}
        return (1.0 if (query, text) in self.relevant else 2.0) * (topic in text.split())


@pytest.mark.parametrize("level", ["none", "queries", "documents"])
def test_no_rule_makes_a_positive_of_what_dev_or_test_needs(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    # Drawn documents are of other topics: where all scores are the same, no rule knows anything.
    settings: dict[str, Any] = {
        "teachers": teach(monkeypatch, AboveRelevant(collection, {"q-bread-0": "bread-2"})),
        "exclude_leaks": level,
        "random_share": 0.2,
    }
    settings["false_negatives"] = {"teacher": "relabel", "relabel_most": None}
    reviewed = review(tmp_path / "r.tsv", "q-bread-0 bread-2 yes")
    found = mined(collection, tmp_path, **settings, reviewed=reviewed)
    held_out = held_out_documents(collection)
    seen = 0
    for query_id, training_list in found.items():
        topic = query_id.split("-")[1]
        for candidate in training_list.candidates:
            if candidate.doc_id.startswith(f"{topic}-") and candidate.decision == TEACHER:
                spared = level == "documents" and candidate.doc_id in held_out
                assert candidate.role == (IGNORED if spared else POSITIVE)
                seen += spared
    assert seen == (4 * 32 - 1 if level == "documents" else 0)
    # A person may.
    assert of(found["q-bread-0"], "bread-2")[6:8] == (POSITIVE, REVIEW)


class NoYeast(Overlap):
    """Gives what holds the word no score."""

    def score(self, query: str, text: str) -> float:
        return float("nan") if "yeast" in text.split() else super().score(query, text)


def test_each_document_has_its_own_score_and_what_has_none_has_none(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = mined(collection, tmp_path, teachers=teach(monkeypatch, NoYeast(), Overlap()), random_share=0.2)
    without = 0
    for query_id, training_list in found.items():
        words = {*collection.queries[query_id].split()}
        for candidate in training_list.candidates:
            text = collection.documents.by_id(candidate.doc_id).content.split()
            overlap = float(len(words & {*text}))
            assert candidate.teacher_scores == (None if "yeast" in text else overlap, overlap)
            assert candidate.teacher_score is not None  # the other one has spoken
            without += "yeast" in text
    assert without > 40
    alone = mined(collection, tmp_path, teachers=teach(monkeypatch, NoYeast()))["q-bread-0"]
    assert of(alone, "bread-0")[8:] == (None, (None,))
    assert of(alone, "bread-2")[8:] == (1.0, (1.0,))


COPY = {"_id": "a-copy", "title": "Bread, flour", "text": "flour yeast oven: dough crust!"}


@pytest.mark.parametrize(("action", "role"), [*ROLES, ("keep", NEGATIVE)])
def test_a_copy_of_a_positive(beir_folder: Path, tmp_path: Path, action: str, role: str) -> None:
    collection = changed(beir_folder, tmp_path, corpus=[COPY])
    settings: dict[str, Any] = (
        {} if action == FalseNegativesConfig().duplicate else {"false_negatives": {"duplicate": action}}
    )
    found = mined(collection, tmp_path, **settings)
    copy = of(found["q-bread-0"], "a-copy")
    assert (copy.role, copy.decision) == (role, "sampled" if action == "keep" else DUPLICATE)
    assert (copy.relevance, copy.judged) == (role == POSITIVE, False)
    # For who asks for something else it is as good a negative as the original.
    other = found["q-bread-5"]
    assert of(other, "a-copy").role == of(other, "bread-0").role == NEGATIVE


def test_the_teacher_sees_no_title_of_any_document_where_one_is_the_query(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Overlap()
    made = [
        SyntheticQuery("synthetic-a", "bread flour", "bread-0", "title", "title"),
        SyntheticQuery("synthetic-b", "bread yeast", "bread-1", "question", "a model"),
    ]
    found = mined(collection, tmp_path, made, teachers=teach(monkeypatch, teacher))
    shown = dict(teacher.lists)
    content = {doc_id: collection.documents.by_id(doc_id).content for doc_id in collection.documents.ids}
    for query, query_id in (("bread flour", "synthetic-a"), ("bread yeast", "synthetic-b")):
        doc_ids = [candidate.doc_id for candidate in found[query_id].candidates]
        text = {doc_id: collection.documents.by_id(doc_id).text for doc_id in doc_ids}
        expected = text if query_id == "synthetic-a" else content
        assert shown[query] == [expected[doc_id] for doc_id in doc_ids]
    assert [c.doc_id for c in found["synthetic-a"].with_role(POSITIVE)] == ["bread-0"]
