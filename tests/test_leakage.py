"""Leaks that were planted are found, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import Collection, Qrels
from secondstage.duplicates import near_duplicates
from secondstage.leakage import Leak, Met, count, find_leaks, leaking, met_in_training, spare, trained_on
from secondstage.lists import IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.synthetic import SYNTHETIC, SyntheticQuery, write_synthetic

QUERIES = {
    "t-same": "How long does dough rest?",
    "t-near": "Which saddle suits a bicycle for long distances in the mountains?",
    "t-document": "Why do pianos need tuning",
    "t-clean": "How do rivers flood",
    "t-own": "Is chess a sport",
    "train-same": "how long does DOUGH rest",
    "train-twin": "How long does dough -- rest",
    "train-near": "Which saddle suits a bicycle for long distance in the mountains?",
    "train-document": "Who repairs hammers and strings",
    "dev-same": "How long does dough rest",
    "dev-other": "When should snow be cleared from roofs",
}
TEST: Qrels = {
    "t-same": {"bread": 1},
    "t-near": {"bicycle": 1, "shared-but-not-relevant": 0},
    "t-document": {"piano-2": 2, "piano-1": 1},
    "t-clean": {"river": 1},
    "t-own": {"chess-1": 1},
}
OTHERS: dict[str, Qrels] = {
    "train": {
        "train-twin": {"yeast": 1},
        "train-same": {"flour": 1, "river": 0},
        "train-near": {"wheel": 1, "shared-but-not-relevant": 1},
        "train-document": {"piano-2": 1, "piano-1": 3},
        "t-own": {"chess-2": 1},
    },
    "dev": {"dev-same": {"oven": 1}, "dev-other": {"winter": 1, "piano-1": 1, "bicycle": 1}},
}
SIMILARITY = near_duplicates([QUERIES["t-near"]], [QUERIES["train-near"]])[0].similarity
PLANTED = [
    Leak("t-same", "same_text", "train", "train-same", 1.0),
    Leak("t-near", "near_duplicate", "train", "train-near", SIMILARITY),
    Leak("t-near", "document", "dev", "bicycle", 1.0),
    Leak("t-document", "document", "train", "piano-1", 1.0),
    Leak("t-own", "same_text", "train", "t-own", 1.0),
]


def backwards(qrels: Qrels) -> Qrels:
    return {query_id: dict(reversed(judged.items())) for query_id, judged in reversed(qrels.items())}


def test_planted_leaks_are_found_and_nothing_else() -> None:
    assert 0.8 <= SIMILARITY < 1
    assert find_leaks(QUERIES, TEST, OTHERS) == PLANTED


def test_the_first_split_given_is_named() -> None:
    found = find_leaks(QUERIES, TEST, {"dev": OTHERS["dev"], "train": OTHERS["train"]})
    assert found[0] == Leak("t-same", "same_text", "dev", "dev-same", 1.0)
    assert Leak("t-document", "document", "dev", "piano-1", 1.0) in found
    assert {leak[:2] for leak in found} == {leak[:2] for leak in PLANTED}


def test_an_earlier_split_comes_before_a_closer_query_and_in_a_split_the_closest_is_named() -> None:
    text = "how long a journey by river takes if it is not in flood"
    queries = {"t": text, "closest": f"{text} now", "far": f"{text} or frozen", "twin": f"{text} now!"}
    closest = near_duplicates([text], [queries["closest"]])[0].similarity
    far = near_duplicates([text], [queries["far"]])[0].similarity
    assert 0.8 <= far < closest
    apart: dict[str, Qrels] = {"train": {"far": {}}, "dev": {"closest": {}}}
    assert find_leaks(queries, {"t": {}}, apart) == [Leak("t", "near_duplicate", "train", "far", far)]
    together: dict[str, Qrels] = {"train": {"twin": {}, "far": {}, "closest": {}}}
    assert find_leaks(queries, {"t": {}}, together) == [Leak("t", "near_duplicate", "train", "closest", closest)]


def test_the_order_of_queries_and_judgements_does_not_matter() -> None:
    others = {split: backwards(qrels) for split, qrels in OTHERS.items()}
    assert find_leaks(dict(reversed(QUERIES.items())), TEST, others) == PLANTED
    found = find_leaks(QUERIES, backwards(TEST), others)
    assert sorted(found) == sorted(PLANTED)
    assert [leak.query_id for leak in found] == ["t-own", "t-document", "t-near", "t-near", "t-same"]


def test_levels_and_counts() -> None:
    leaks = find_leaks(QUERIES, TEST, OTHERS)
    assert leaking(leaks, "queries") == {"t-same", "t-near", "t-own"}
    assert leaking(leaks, "documents") == {"t-same", "t-near", "t-own", "t-document"}
    assert count(leaks) == {"same_text": 2, "near_duplicate": 1, "document": 2, "any": 4}


def test_a_query_of_the_same_text_does_not_count_as_near_duplicate_too() -> None:
    leaks = [Leak("t", "near_duplicate", "train", "a", 0.9), Leak("t", "same_text", "dev", "b", 1.0)]
    assert count(leaks) == {"same_text": 1, "near_duplicate": 0, "document": 0, "any": 1}


def test_choices_spare_what_training_gives_away_if_enough_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    met = Met({query_id: QUERIES[query_id] for query_id in OTHERS["train"]}, OTHERS["train"])
    given_away = {"same_text": 2, "near_duplicate": 1, "document": 1, "any": 4}
    assert spare(QUERIES, TEST, met) == (TEST, False, 1, given_away)
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 1)
    assert spare(QUERIES, TEST, met) == ({"t-clean": TEST["t-clean"]}, True, 1, given_away)
    # Where training gives nothing away, few are enough.
    monkeypatch.undo()
    assert spare(QUERIES, TEST, Met({}, {}))[:3] == (TEST, True, len(TEST))


def test_no_leak() -> None:
    assert find_leaks(QUERIES, TEST, {}) == []
    assert find_leaks(QUERIES, TEST, {"train": {}}) == []
    assert leaking([], "documents") == set()
    assert count([]) == {"same_text": 0, "near_duplicate": 0, "document": 0, "any": 0}


def test_a_test_set_against_itself_leaks_everywhere() -> None:
    assert count(find_leaks(QUERIES, TEST, {"train": TEST})) == {
        "same_text": 5,
        "near_duplicate": 0,
        "document": 5,
        "any": 5,
    }


@pytest.mark.parametrize(("threshold", "found"), [(SIMILARITY, 1), (min(1.0, SIMILARITY + 1e-6), 0)])
def test_the_threshold_counts(threshold: float, found: int) -> None:
    assert count(find_leaks(QUERIES, TEST, OTHERS, threshold))["near_duplicate"] == found


JUDGED = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2), max_size=3)
QRELS = st.dictionaries(st.sampled_from(["q0", "q1", "q2", "q3", "q4"]), JUDGED, max_size=5)
TEXT = st.sampled_from(["bread and butter", "Bread, and butter", "bread and butters", "a river", "a boat"])


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=5, max_size=5), QRELS, st.dictionaries(st.sampled_from(["train", "dev"]), QRELS))
def test_against_every_pair(texts: list[str], test: Qrels, others: Mapping[str, Qrels]) -> None:
    queries = {f"q{i}": text for i, text in enumerate(texts)}
    leaks = find_leaks(queries, test, others)
    assert len({leak[:2] for leak in leaks}) == len(leaks)
    similar = {
        (query_id, split)
        for split, qrels in others.items()
        for other_id in qrels
        for query_id in test
        if near_duplicates([queries[query_id]], [queries[other_id]])
    }
    shared = {
        (query_id, split)
        for split, qrels in others.items()
        for judged in qrels.values()
        for query_id, own in test.items()
        if any(own.get(doc_id, 0) > 0 and relevance > 0 for doc_id, relevance in judged.items())
    }
    assert leaking(leaks, "queries") == {query_id for query_id, _ in similar}
    assert leaking(leaks, "documents") == {query_id for query_id, _ in similar | shared}
    assert all((leak.query_id, leak.split) in (shared if leak.kind == "document" else similar) for leak in leaks)


# --- what training met


def candidate(doc_id: str, role: str, relevance: int = 0) -> Candidate:
    return Candidate(doc_id, relevance, relevance > 0, "bm25", 1, 0.5, role)


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    """Lists of a training query, of a synthetic one, and of two that lack a negative; a teacher scored the last."""
    negative = candidate("n", NEGATIVE)
    graded, relabelled, ignored = (
        candidate("graded", POSITIVE, 2),
        candidate("relabelled", POSITIVE),
        candidate("i", IGNORED, 1),
    )
    lists = [
        TrainingList("q-bread-0", (graded, relabelled, ignored, negative)),
        TrainingList("synthetic-1", (candidate("made-from", POSITIVE, 1), negative)),
        TrainingList("q-bread-1", (graded, ignored)),
        TrainingList("q-bread-2", (graded._replace(teacher_score=2.0), ignored._replace(teacher_score=1.0))),
    ]
    write_lists(tmp_path / "train", lists, ["large"])
    made = SyntheticQuery("synthetic-1", "Does dough rest?", "made-from", "question", "tiny")
    write_synthetic(tmp_path / SYNTHETIC, [made, made._replace(query_id="synthetic-2").dropped("round_trip", "")])
    return tmp_path


def test_what_training_met_is_what_its_lists_hold(mined: Path, collection: Collection) -> None:
    met = trained_on(mined, collection.queries)
    own = {query_id: collection.queries[query_id] for query_id in ("q-bread-0", "q-bread-2")}
    assert met.queries == {**own, "synthetic-1": "Does dough rest?"}
    assert met.qrels == {
        "q-bread-0": {"graded": 2, "relabelled": 1},
        "synthetic-1": {"made-from": 1},
        "q-bread-2": {"graded": 2},
    }
    assert met_in_training(collection, mined, trained=True) == met
    (mined / SYNTHETIC).unlink()
    with pytest.raises(KeyError, match="synthetic-1"):
        trained_on(mined, collection.queries)


def test_where_no_lists_are_known_the_train_split_was_met(collection: Collection, mined: Path) -> None:
    met = met_in_training(collection, None, trained=True)
    assert met.qrels == collection.qrels["train"]
    assert met.queries == {query_id: collection.queries[query_id] for query_id in collection.qrels["train"]}
    assert met_in_training(collection, mined, trained=False) == Met({}, {})
