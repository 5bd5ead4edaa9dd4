"""Why queries fail: each cause planted and found, windows over what is cut off, and what people and programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Collection, Document, Documents, Qrels
from secondstage.decoder import DecoderReranker
from secondstage.errors import UserError
from secondstage.measures import evaluate
from secondstage.reranker import Reranker
from secondstage.run import Run, Scores, rank
from secondstage.scorecache import CachedScorer
from secondstage.scoring import rerank
from secondstage.serve.cascade import Runs, drive, reranking
from secondstage.serve.fuse import fuse
from secondstage.serve.proof.diagnosis import CAUSES, Failure, Placed, Reader, diagnose
from secondstage.serve.proof.failures import as_records, describe, summarise
from secondstage.serve.proof.windows import Cut, cut_off

from .test_decoder import small
from .test_decoder import tokenizer as byte_tokenizer

AsDocuments = Callable[[Sequence[str]], Documents]
Lists = Mapping[str, Sequence[str]]

# What the tokenizer puts around a pair.
SPECIAL = 3
LONG = "water " * 40
EVIDENT, DULL, DULL_TOO, CUT_OFF, SEEN, EVIDENT_TOO, SHOUTED, ALIKE = (f"d{i}" for i in range(8))
TEXTS = [
    "queen or rook",
    "the flood",
    "the boat",
    LONG + "queen",
    "queen " + LONG,
    "the queen and the rook",
    "THE QUEEN; the bishop!",
    "the queen the bishop",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


class Finder:
    """Scores 1 for "queen" and 1 for "rook" in what it sees of a document."""

    overhead = SPECIAL

    def __init__(self, tokenizer: Any, max_length: int = 24) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.calls: list[Sequence[tuple[str, str]]] = []

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.calls.append(pairs)
        words = [{"queen", "rook"}.intersection(seen(self.tokenizer, *pair, self.max_length)) for pair in pairs]
        return np.array([len(found) for found in words], np.float32)


@pytest.fixture
def finder(tokenizer: Any) -> Finder:
    return Finder(tokenizer)


@pytest.fixture
def documents(as_documents: AsDocuments) -> Documents:
    return as_documents(TEXTS)


def seen(tokenizer: Any, query: str, document: str, max_length: int) -> list[str]:
    """The tokens of the document that are left of a pair."""
    found = tokenizer(query, document, truncation=True, max_length=max_length)
    tokens = tokenizer.convert_ids_to_tokens(found["input_ids"])
    return [token for token, part in zip(tokens, found.sequence_ids(0), strict=True) if part == 1]


def asked(query_ids: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(query_ids, "the king")


def run_all(scorer: Reader, lists: Lists, documents: Documents, weight: float) -> Runs:
    """The runs of a pipeline whose first stage gives these lists."""
    first = Run("first_stage", {q: rank(ids, 9 - np.arange(len(ids)), ["bm25"] * len(ids)) for q, ids in lists.items()})
    reranked = rerank(scorer, first, asked(lists), documents)
    return Runs(first, reranked, fuse(first, reranked, weight))


def found(
    finder: Finder, lists: Lists, qrels: Qrels, documents: Documents, *, weight: float = 1.0, cutoff: int = 2
) -> dict[str, Failure]:
    runs = run_all(finder, lists, documents, weight)
    finder.calls.clear()
    failures = diagnose(runs, qrels, asked([*lists, *qrels]), documents, finder, weight=weight, cutoff=cutoff)
    return {failure.query_id: failure for failure in failures}


PLANTED: Lists = {
    "truncated": (EVIDENT, DULL, DULL_TOO, CUT_OFF),
    "fine": (DULL, DULL_TOO, EVIDENT),
    "unjudged": (EVIDENT, DULL, DULL_TOO),
    "reranker_error": (EVIDENT, DULL, DULL_TOO),
    "first_stage_miss": (EVIDENT, DULL),
}
PLANTED_QRELS: Qrels = {
    "truncated": {CUT_OFF: 1},
    "fine": {EVIDENT: 1},
    "unjudged": {DULL_TOO: 1},
    "reranker_error": {DULL_TOO: 1, EVIDENT: 0},
    "first_stage_miss": {DULL_TOO: 1, ALIKE: 2, EVIDENT: 0},
}


def test_each_planted_cause_is_found(finder: Finder, documents: Documents) -> None:
    failures = found(finder, PLANTED, PLANTED_QRELS, documents)
    assert list(failures) == [query_id for query_id in PLANTED_QRELS if query_id != "fine"]
    assert all(failure.cause == query_id for query_id, failure in failures.items())
    assert set(failures) == set(CAUSES)


def test_a_failure_shows_its_documents(finder: Finder, documents: Documents) -> None:
    failures = found(finder, PLANTED, PLANTED_QRELS, documents)
    rival = Placed(EVIDENT, 1, 1, 1, 9.0, 2.0)
    assert {failure.rival for failure in failures.values()} == {rival}
    truncated = failures["truncated"]
    assert truncated.relevant
    assert truncated.relevant[:5] == (CUT_OFF, 4, 4, 4, 6.0)
    assert truncated.window is not None
    assert truncated.window.endswith("water queen")
    assert truncated[5:7] + truncated[8:] == (None, 2 + 41 + 3, 1.0)
    error = failures["reranker_error"]
    assert (error.doc_id, error.blame, error.tokens, error.window) == (DULL_TOO, "reranker", 2 + 2 + 3, None)
    miss = failures["first_stage_miss"]
    assert miss == Failure("first_stage_miss", "first_stage_miss", ALIKE, None, rival)


def test_a_long_document_with_its_evidence_in_sight_is_not_truncated(finder: Finder, documents: Documents) -> None:
    lists = {"q": (EVIDENT, EVIDENT_TOO, SEEN)}
    failure = found(finder, lists, {"q": {SEEN: 1, EVIDENT: 0}}, documents)["q"]
    assert failure.cause == "reranker_error"
    assert failure.tokens is not None
    assert failure.tokens > finder.max_length
    assert failure.window_score == 0.0


def test_a_window_that_is_better_but_not_enough_is_no_truncation(finder: Finder, documents: Documents) -> None:
    lists = {"q": (EVIDENT, EVIDENT_TOO, DULL, CUT_OFF)}
    qrels: Qrels = {"q": {CUT_OFF: 1, EVIDENT: 0}}
    failure = found(finder, lists, qrels, documents)["q"]
    assert (failure.cause, failure.window_score) == ("reranker_error", 1.0)
    assert found(finder, lists, qrels, documents, cutoff=3)["q"].cause == "truncated"


def test_the_relevant_document_that_came_nearest_is_shown(finder: Finder, documents: Documents) -> None:
    lists = {"q": (EVIDENT, EVIDENT_TOO, DULL_TOO, DULL)}
    failure = found(finder, lists, {"q": {DULL: 2, DULL_TOO: 1}}, documents)["q"]
    assert failure.relevant
    assert failure.relevant[:4] == (DULL_TOO, 3, 3, 3)


def test_of_a_truncation_the_document_that_was_cut_is_shown(finder: Finder, documents: Documents) -> None:
    lists = {"q": (EVIDENT, DULL_TOO, DULL, CUT_OFF)}
    failure = found(finder, lists, {"q": {DULL: 2, CUT_OFF: 1}}, documents)["q"]
    assert (failure.cause, failure.doc_id) == ("truncated", CUT_OFF)
    failure = found(finder, lists, {"q": {DULL: 1, CUT_OFF: 0}}, documents)["q"]
    assert (failure.cause, failure.doc_id) == ("unjudged", DULL)


def test_only_what_is_seen_in_full_length_needs_no_window(tokenizer: Any, documents: Documents) -> None:
    failure = found(Finder(tokenizer, 46), PLANTED, PLANTED_QRELS, documents, cutoff=1)["truncated"]
    assert (failure.cause, failure.tokens, failure.window) == ("unjudged", 46, None)
    failure = found(Finder(tokenizer, 45), PLANTED, PLANTED_QRELS, documents, cutoff=2)["truncated"]
    assert (failure.cause, failure.tokens, failure.window_score) == ("truncated", 46, 1.0)


def test_nearly_the_text_of_a_relevant_document_is_unjudged(finder: Finder, documents: Documents) -> None:
    """The first stage does not rank it first, so that only its text speaks for it."""
    qrels: Qrels = {"q": {ALIKE: 1}}
    failure = found(finder, {"q": (DULL, SHOUTED, ALIKE)}, qrels, documents, cutoff=1)["q"]
    assert (failure.cause, failure.rival and failure.rival[:4]) == ("unjudged", (SHOUTED, 2, 1, 1))
    assert found(finder, {"q": (DULL, EVIDENT, ALIKE)}, qrels, documents, cutoff=1)["q"].cause == "reranker_error"
    other: Qrels = {"q": {DULL_TOO: 1, ALIKE: 0}}
    assert found(finder, {"q": (DULL, SHOUTED, DULL_TOO)}, other, documents, cutoff=1)["q"].cause == "reranker_error"
    judged: Qrels = {"q": {ALIKE: 1, SHOUTED: 0}}
    assert found(finder, {"q": (DULL, SHOUTED, ALIKE)}, judged, documents, cutoff=1)["q"].cause == "reranker_error"


def test_at_weight_0_nothing_is_truncated_and_the_fusion_may_be_to_blame(finder: Finder, documents: Documents) -> None:
    lists = {"cut": (DULL, DULL_TOO, CUT_OFF), "found": (DULL, DULL_TOO, EVIDENT)}
    qrels: Qrels = {"cut": {CUT_OFF: 1, DULL: 0}, "found": {EVIDENT: 1}}
    failures = found(finder, lists, qrels, documents, weight=0.0)
    assert [(f.cause, f.blame) for f in failures.values()] == [("reranker_error", b) for b in ("reranker", "fusion")]
    assert failures["found"].relevant == Placed(EVIDENT, 3, 1, 3, 7.0, 2.0)
    assert [f.cause for f in found(finder, lists, qrels, documents).values()] == ["truncated"]


def test_who_is_to_blame_is_decided_at_the_cutoff(finder: Finder, documents: Documents) -> None:
    """The reranker alone has the document second."""
    lists = {"q": (DULL, DULL_TOO, EVIDENT, EVIDENT_TOO)}
    for cutoff, blame in ((1, "reranker"), (2, "fusion"), (3, "fusion")):
        qrels: Qrels = {"q": {EVIDENT_TOO: 1, DULL: 0}}
        assert found(finder, lists, qrels, documents, weight=0.0, cutoff=cutoff)["q"].blame == blame


def test_a_window_that_is_worse_is_no_truncation(finder: Finder, documents: Documents) -> None:
    """In its place, it would spread the reranker's scores, and so let the first stage lift the document to rank 2."""

    def runs(score: float) -> Runs:
        first = Run("first_stage", {"q": rank([CUT_OFF, DULL, EVIDENT], [1, 0.8, 0], ["bm25"] * 3)})
        reranked = first.rescored("reranked", [score, 0, 1])
        return Runs(first, reranked, fuse(first, reranked, 0.5))

    finder.score = lambda pairs, *, label=None: np.full(len(pairs), -1e6, np.float32)  # type: ignore[method-assign]
    assert runs(-1).pipeline["q"].doc_ids == (DULL, EVIDENT, CUT_OFF)
    assert runs(-1e6).pipeline["q"].doc_ids == (DULL, CUT_OFF, EVIDENT)
    qrels: Qrels = {"q": {CUT_OFF: 1, DULL: 0}}
    (failure,) = diagnose(runs(-1), qrels, asked("q"), documents, finder, weight=0.5, cutoff=2)
    assert (failure.cause, failure.window_score) == ("reranker_error", -1e6)


def test_windows_may_be_scored_by_a_cache_and_then_only_once(
    finder: Finder, documents: Documents, tmp_path: Path
) -> None:
    lists = {"q": (DULL, DULL_TOO, CUT_OFF)}
    qrels: Qrels = {"q": {CUT_OFF: 1, DULL: 0}}
    runs = run_all(finder, lists, documents, 1.0)
    alone = diagnose(runs, qrels, asked("q"), documents, finder, weight=1.0, cutoff=2)
    finder.calls.clear()
    for calls in (1, 1):
        cached = CachedScorer(finder, tmp_path / "kept.scores")
        assert diagnose(runs, qrels, asked("q"), documents, finder, weight=1.0, cutoff=2, scorer=cached) == alone
        assert len(finder.calls) == calls
    assert [failure.cause for failure in alone] == ["truncated"]


def test_at_weight_0_the_first_stage_is_no_second_opinion(finder: Finder, documents: Documents) -> None:
    qrels: Qrels = {"q": {DULL_TOO: 1}}
    for first, cause in ((EVIDENT, "unjudged"), (DULL, "reranker_error")):
        lists = {"q": (first, EVIDENT_TOO, DULL_TOO)}
        assert found(finder, lists, qrels, documents, weight=0.0)["q"].cause == cause


def test_all_windows_are_scored_at_once(finder: Finder, documents: Documents) -> None:
    lists = {f"q{i}": (EVIDENT, EVIDENT_TOO, DULL, CUT_OFF, SEEN) for i in range(3)}
    failures = found(finder, lists, {q: {CUT_OFF: 1, EVIDENT: 0} for q in lists}, documents)
    assert [failure.cause for failure in failures.values()] == ["reranker_error"] * 3
    assert len(finder.calls) == 1
    assert {window.count("queen") for _, window in finder.calls[0]} == {0, 1}


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_perfect_run_has_no_failures(finder: Finder, documents: Documents, weight: float) -> None:
    lists = {"q1": (EVIDENT, DULL), "q2": (CUT_OFF, SEEN, DULL)}
    assert found(finder, lists, {"q1": {EVIDENT: 1}, "q2": {CUT_OFF: 1, SEEN: 1}}, documents, weight=weight) == {}
    assert finder.calls == []


def test_a_query_without_a_relevant_document_cannot_fail(finder: Finder, documents: Documents) -> None:
    assert found(finder, {"q": (EVIDENT, DULL)}, {"q": {EVIDENT: 0, DULL: -1}, "none": {}}, documents) == {}


def test_what_is_not_there_is_a_miss_and_named(finder: Finder, documents: Documents) -> None:
    lists: Lists = {"q": (EVIDENT, DULL), "empty": ()}
    qrels: Qrels = {"q": {"gone": 1}, "empty": {"gone": 1, DULL_TOO: 1}, "unanswered": {DULL: 1, "gone": 2}}
    failures = found(finder, lists, qrels, documents)
    assert {failure.cause for failure in failures.values()} == {"first_stage_miss"}
    assert [failure.doc_id for failure in failures.values()] == ["gone", DULL_TOO, "gone"]
    assert [failure.rival is None for failure in failures.values()] == [False, True, True]
    text = describe(list(failures.values()), asked(qrels), documents, 5)
    assert text.count("relevant gone: not in the corpus") == 2
    records = as_records(list(failures.values()), asked(qrels), documents)
    assert [record["relevant"]["in_corpus"] for record in records] == [False, True, False]
    assert records[0]["relevant"]["text"] is None
    assert records[2]["rival"] is None


def test_a_cutoff_of_0_is_refused(finder: Finder, documents: Documents) -> None:
    with pytest.raises(UserError, match="the cutoff is 0, must be at least 1"):
        found(finder, PLANTED, PLANTED_QRELS, documents, cutoff=0)


@pytest.fixture(scope="module")
def reranker(tiny_model: Path) -> Reranker:
    import torch

    torch.manual_seed(1)  # the model has no head of its own
    return Reranker.load(tiny_model, max_length=24, precision="fp32")


class Told:
    """A scorer for whom one document has another score."""

    def __init__(self, scorer: Reranker, content: str, score: float) -> None:
        self.scorer, self.content, self.told = scorer, content, score

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        others = self.scorer.score(pairs)
        return np.array([self.told if c == self.content else s for (_, c), s in zip(pairs, others, strict=True)])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_real_reranker_decides_what_is_truncated(
    reranker: Reranker, collection: Collection, as_documents: AsDocuments, weight: float
) -> None:
    contents = [document.content for document in collection.documents]
    documents = as_documents(["\n".join(contents[i : i + 1 + i % 6]) for i in range(40)])
    rng = np.random.default_rng(5)
    lists = {f"q{i}": [f"d{j}" for j in rng.permutation(40)[:12]] for i in range(24)}
    qrels = {q: {f"d{j}": int(rng.integers(1, 3)) for j in rng.permutation(40)[:2]} for q in lists}
    runs = run_all(reranker, lists, documents, weight)
    failures = diagnose(runs, qrels, asked(lists), documents, reranker, weight=weight, cutoff=4)

    values = evaluate(runs.pipeline, qrels, ["RR@4"])["RR@4"]
    assert [failure.query_id for failure in failures] == [q for q in lists if values[q] == 0]
    summary = summarise(failures, len(lists), 4)
    assert sum(summary["counts"].values()) == summary["failed"] == len(failures) > 5
    assert (summary["counts"]["truncated"] > 0) == (weight > 0)
    for failure in failures:
        if failure.relevant and failure.window_score is not None:
            assert failure.window_score == pytest.approx(
                reranker.score([("the king", failure.window or "")])[0], abs=1e-5
            )
            best = max(failure.window_score, failure.relevant.reranker_score)
            told: Any = Told(reranker, documents.by_id(failure.doc_id).content, best)
            one = run_all(told, {failure.query_id: lists[failure.query_id]}, documents, weight)
            found_at = one.pipeline[failure.query_id].doc_ids.index(failure.doc_id)
            assert (found_at < 4) == (failure.cause == "truncated")


class Hashed:
    """A scorer that knows nothing: each document has a score of its own."""

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return np.array([crc32(document.encode()) % 1000 / 100 for _, document in pairs], np.float32)


@pytest.mark.parametrize("weight", [0.5, 0.8, 1.0])
def test_of_a_cascade_the_last_reranker_decides_what_is_truncated_of_what_it_read(
    reranker: Reranker, collection: Collection, as_documents: AsDocuments, weight: float
) -> None:
    """The oracle is the cascade itself, told the score of the window."""
    contents = [document.content for document in collection.documents]
    documents = as_documents(["\n".join(contents[i : i + 1 + i % 6]) for i in range(40)])
    rng, depths = np.random.default_rng(5), (12, 7)
    lists = {f"q{i}": [f"d{j}" for j in rng.permutation(40)[:12]] for i in range(24)}
    qrels = {q: {ids[j]: 1 for j in rng.permutation(12)[:2]} for q, ids in lists.items()}

    def ask(last: Any, asked_lists: Lists) -> Runs:
        first = run_all(reranker, asked_lists, documents, weight).first_stage
        asking = reranking(first, asked(asked_lists), documents, 2, lambda stage: depths[stage])
        return drive(asking, [Hashed(), last]).runs(first, weight)

    runs = ask(reranker, lists)
    failures = diagnose(runs, qrels, asked(lists), documents, reranker, weight=weight, depth=7, cutoff=3)
    read = {q: runs.reranked[q].doc_ids[:7] for q in lists}
    seen = unread = 0
    for failure in failures:
        assert failure.relevant
        if failure.doc_id not in read[failure.query_id]:
            unread += 1
            assert (failure.window, failure.cause == "truncated") == (None, False)
        elif failure.window_score is not None:
            seen += 1
            best = max(failure.window_score, failure.relevant.reranker_score)
            told = Told(reranker, documents.by_id(failure.doc_id).content, best)
            pipeline = ask(told, {failure.query_id: lists[failure.query_id]}).pipeline[failure.query_id]
            assert (pipeline.doc_ids.index(failure.doc_id) < 3) == (failure.cause == "truncated")
    assert min(seen, unread) > 0
    assert any(failure.cause == "truncated" for failure in failures)


def test_the_summary_counts_every_cause(finder: Finder, documents: Documents) -> None:
    failures = list(found(finder, PLANTED, PLANTED_QRELS, documents).values())
    expected = {"cutoff": 2, "queries": 5, "failed": 4, "counts": dict.fromkeys(CAUSES, 1)}
    assert summarise(failures, 5, 2) == expected
    assert summarise([], 5, 2) == {"cutoff": 2, "queries": 5, "failed": 0, "counts": dict.fromkeys(CAUSES, 0)}


def test_the_records_hold_everything_as_json(finder: Finder, documents: Documents) -> None:
    failures = list(found(finder, PLANTED, PLANTED_QRELS, documents).values())
    records = as_records(failures, asked(PLANTED), documents)
    assert json.loads(json.dumps(records)) == records
    for record, failure in zip(records, failures, strict=True):
        assert record.keys() == {*Failure._fields, "query"}
        assert record["query"] == "the king"
        own = {name: record[name] for name in Failure._fields if name not in ("relevant", "rival")}
        assert own == {name: getattr(failure, name) for name in own}
        for placed, name in ((failure.relevant, "relevant"), (failure.rival, "rival")):
            place = placed._asdict() if placed else {**dict.fromkeys(Placed._fields), "doc_id": failure.doc_id}
            text = documents.by_id(str(place["doc_id"])).text
            assert record[name] == {**place, "in_corpus": True, "title": "", "text": text}


def test_the_text_groups_by_cause_and_cuts_what_is_long(finder: Finder, as_documents: AsDocuments) -> None:
    documents = as_documents([text + " bridge" * 100 if i < 3 else text for i, text in enumerate(TEXTS)])
    failures = list(found(finder, PLANTED, PLANTED_QRELS, documents).values())
    text = describe(failures, asked(PLANTED), documents, 3)
    lines = text.splitlines()
    assert lines[0] == "failed queries: 4"
    assert [line.split()[:2] for line in lines[1:5]] == [[cause, "1"] for cause in CAUSES]
    assert [line for line in lines[5:] if line in CAUSES] == list(CAUSES)
    assert [line for line in lines if line.startswith("  query")] == [f"  query {cause}: the king" for cause in CAUSES]
    assert "    relevant d3: first stage 4 (6.000), reranker 4 (" in text
    assert "    ranked first d0: first stage 1 (9.000), reranker 1 (2.000), pipeline 1" in text
    assert "46 tokens with the query; cut off, but scored 1.000:" in text
    assert max(map(len, lines)) <= 120
    rival = text.split("(2.000), pipeline 1\n")[-1]
    shown = " ".join(line.strip() for line in rival.splitlines())
    assert shown == documents.by_id(EVIDENT).text[:299] + "…"


def test_the_text_shows_so_many_of_each_cause(finder: Finder, documents: Documents) -> None:
    lists = {f"q{i}": (EVIDENT, DULL, DULL_TOO) for i in range(5)}
    failures = list(found(finder, lists, {q: {DULL_TOO: 1} for q in lists}, documents).values())
    text = describe(failures, asked(lists), documents, 2)
    assert (text.count("  query q"), "… and 3 more" in text) == (2, True)
    assert "more" not in describe(failures, asked(lists), documents, 5).split("\nunjudged\n")[1]
    assert len(describe([], {}, documents, 2).splitlines()) == 5


def test_the_text_tells_what_the_fusion_did(finder: Finder, documents: Documents) -> None:
    lists = {"q": (DULL, DULL_TOO, EVIDENT)}
    failures = list(found(finder, lists, {"q": {EVIDENT: 1}}, documents, weight=0.0).values())
    assert "1 of these are the fusion's" in describe(failures, asked(lists), documents, 2)


WORDS = st.lists(st.text("abcdefghij", min_size=1, max_size=4), min_size=1, max_size=120, unique=True)
QUERIES = st.integers(1, 60).map(lambda count: "king " * count)
TITLES = st.lists(st.text("klmnop", min_size=1, max_size=3), max_size=12, unique=True).map(" ".join)


@given(words=WORDS, query=QUERIES, title=TITLES, max_length=st.integers(22, 64))
def test_windows_fit_and_cover_what_is_not_seen(
    tokenizer: Any, words: list[str], query: str, title: str, max_length: int
) -> None:
    document = Document("d", title, " ".join(words))
    content = document.content
    whole = tokenizer(query, content, truncation=False, verbose=False)
    found = tokenizer(query, content, truncation=True, max_length=max_length, return_offsets_mapping=True)
    ends = [end for (_, end), part in zip(found["offset_mapping"], found.sequence_ids(0), strict=True) if part == 1]
    cut = cut_off(tokenizer, query, document, max_length, SPECIAL)

    assert cut.tokens == len(whole["input_ids"])
    assert bool(cut.windows) == (ends[-1] < len(content))
    covered = set(range(ends[-1]))
    for window in cut.windows:
        assert seen(tokenizer, query, window, max_length) == tokenizer.tokenize(window)
        stretch = window.removeprefix(f"{title}\n")
        assert content.count(stretch) == 1
        covered |= set(range(content.index(stretch), content.index(stretch) + len(stretch)))
    assert {i for i, letter in enumerate(content) if not letter.isspace()} <= covered


def test_there_are_windows_just_where_something_is_cut_off(tokenizer: Any) -> None:
    for asked, length, max_length in product(range(8, 14), range(8, 14), range(20, 26)):
        query, document = "king " * asked, "water " * length
        cut = cut_off(tokenizer, query, Document("d", "", document), max_length, SPECIAL)
        assert bool(cut.windows) == (len(seen(tokenizer, query, document, max_length)) < length)


@given(words=st.lists(st.text("abcdefghij", min_size=3, max_size=4), min_size=30, max_size=80, unique=True))
def test_windows_begin_at_a_word_and_hold_every_short_one_whole(tokenizer: Any, words: list[str]) -> None:
    tokens = 0
    unseen = set()
    for word in words:
        tokens += len(word)
        unseen |= {word} if tokens > 60 else set()
    cut = cut_off(tokenizer, "king", Document("d", "", " ".join(words)), 64, SPECIAL)
    assert unseen <= {word for window in cut.windows for word in window.split()}
    assert bool(unseen) == bool(cut.windows)
    assert {window.split()[0] for window in cut.windows} <= set(words)


@pytest.mark.parametrize(
    ("query", "count"), [("a query", 95), ("a query", 200), ("a query " * 40, 95), ("a query", 20)]
)
def test_what_a_decoder_does_not_see_beside_its_prompt_is_in_a_window(tmp_path: Path, query: str, count: int) -> None:
    """Every byte is a token, and the prompt takes half of all tokens."""
    own = byte_tokenizer()
    small("qwen3", len(own)).save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    decoder = DecoderReranker.load(tmp_path, precision="fp32", max_length=512)
    words = [f"w{i:03d}" for i in range(count)]

    def shown(content: str) -> set[str]:
        text = own.decode(decoder.tokenize([(query, content)])["input_ids"][0])
        return {word for word in words if word in text}

    document = Document("d", "", " ".join(words))
    cut = cut_off(own, query, document, decoder.max_length, decoder.overhead)
    assert decoder.overhead > 200
    assert cut.tokens == decoder.overhead + len(query) + len(document.text)
    assert bool(cut.windows) == (shown(document.text) != set(words))
    assert shown(document.text).union(*map(shown, cut.windows)) == set(words)


def test_windows_are_full_and_few(tokenizer: Any) -> None:
    """60 tokens of the document fit, 7 of them are repeated: 360 unseen ones need 7 windows."""
    cut = cut_off(tokenizer, "king", Document("d", "", "water " * 420), 64, SPECIAL)
    assert cut == Cut(424, ("water " * 59 + "water",) * 7)


def test_a_short_title_is_in_front_of_every_window_and_a_long_one_of_none(tokenizer: Any) -> None:
    for title, kept in (("the river", True), ("river " * 15, True), ("river " * 16, False)):
        cut = cut_off(tokenizer, "king", Document("d", title, LONG * 4), 64, SPECIAL)
        assert len(cut.windows) > 1
        assert {window.startswith(title + "\n") for window in cut.windows} == {kept}
        assert {len(tokenizer.tokenize(window)) for window in cut.windows} == {60}
    titled = cut_off(tokenizer, "king", Document("d", "river " * 90, ""), 64, SPECIAL)
    assert {window.strip() for window in titled.windows} == {("river " * 60).strip()}


class Silent:
    """A tokenizer that does not tell where its tokens lie."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str, **settings: Any) -> Any:
        assert "return_offsets_mapping" not in settings
        return self.tokenizer(text, **settings)


def test_a_tokenizer_without_offsets_will_do(tokenizer: Any) -> None:
    text = "water abc " * 30 + "queen"
    cut = cut_off(Silent(tokenizer), "king", Document("d", "", text), 64, SPECIAL)
    assert cut.tokens == 4 + 121
    assert all(len(tokenizer.tokenize(window)) <= 60 and window in text for window in cut.windows)
    assert cut.windows[-1].endswith("queen")
    assert cut_off(Silent(tokenizer), "king", Document("d", "", ""), 64, SPECIAL) == Cut(4, ())


def test_a_document_may_be_longer_than_the_model_reads_without_a_warning(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off(tokenizer, "king", Document("d", "", LONG * 10), 64, SPECIAL)
    assert caplog.text == ""
