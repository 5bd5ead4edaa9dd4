"""The two-stage pipeline: what a search returns, and what a bundle must be."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.answerability import Answerability
from secondstage.calibration import Calibration
from secondstage.collection import Collection
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.files import MANIFEST, read_json, write_json, write_manifest
from secondstage.firststage.bm25 import Bm25
from secondstage.run import Ranking, Scores
from secondstage.serve import Pipeline, Result, Verdict, write_verdict

QUERIES = ["water of the river", "key of the piano", "a king and his queen", "unheard of"]


@pytest.fixture(scope="module")
def loaded(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


@pytest.fixture(scope="module")
def pipeline(loaded: Pipeline) -> Pipeline:
    """The same with a weight at which all three orders differ."""
    return Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=0.5)


@pytest.fixture
def bundle(run_folder: Path, tmp_path: Path) -> Path:
    """A copy, free to be broken."""
    shutil.copytree(run_folder / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def place(ranking: Ranking, doc_id: str) -> int:
    return ranking.doc_ids.index(doc_id)


@pytest.mark.parametrize("query", QUERIES)
def test_results_are_what_the_three_runs_say(pipeline: Pipeline, query: str) -> None:
    results = pipeline.search(query, 20)
    first, reranked, fused = (run["q"] for run in pipeline.rank({"q": query}))
    assert len({first.doc_ids, reranked.doc_ids, fused.doc_ids}) == 3
    assert [result.rank for result in results] == list(range(1, 21))
    assert tuple(result.doc_id for result in results) == fused.doc_ids
    for i, result in enumerate(results):
        document = pipeline.documents.by_id(result.doc_id)
        assert (result.title, result.text) == (document.title, document.text)
        assert result.score == fused.scores[i]
        assert result.reranker_score == reranked.scores[place(reranked, result.doc_id)]
        assert result.first_stage_rank == place(first, result.doc_id) + 1
        assert result.first_stage_score == first.scores[place(first, result.doc_id)]
        assert result.retriever == first.retrievers[place(first, result.doc_id)]


def test_the_runs_hold_the_same_candidates(pipeline: Pipeline) -> None:
    runs = pipeline.rank({f"q{i}": query for i, query in enumerate(QUERIES)})
    assert [run.name for run in runs] == ["first_stage", "reranked", "pipeline"]
    for run in runs:
        assert list(run) == ["q0", "q1", "q2", "q3"]
        for query_id, ranking in run.items():
            assert set(ranking.doc_ids) == set(runs.first_stage[query_id].doc_ids)
            assert len(set(ranking.doc_ids)) == 20
            assert (np.diff(ranking.scores) < 0).all()


def test_scores_of_the_reranker_are_those_of_the_pairs(pipeline: Pipeline) -> None:
    results = pipeline.search(QUERIES[0], 20)
    expected = pipeline.reranker.score([(QUERIES[0], pipeline.documents.by_id(r.doc_id).content) for r in results])
    assert [r.reranker_score for r in results] == pytest.approx(expected, abs=1e-5)


def test_a_query_alone_and_among_others_has_the_same_results(pipeline: Pipeline) -> None:
    runs = pipeline.rank({f"q{i}": query for i, query in enumerate(QUERIES)})
    alone = pipeline.rank({"q2": QUERIES[2]})
    for run, single in zip(runs, alone, strict=True):
        found, expected = (dict(zip(x["q2"].doc_ids, x["q2"].scores.tolist(), strict=True)) for x in (run, single))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("weight", "stage"), [(0.0, 0), (1.0, 1)])
def test_a_weight_of_0_or_1_gives_one_stage(loaded: Pipeline, weight: float, stage: int) -> None:
    extreme = Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=weight)
    runs = extreme.rank({"q": QUERIES[0]})
    assert runs.pipeline["q"].doc_ids == runs[stage]["q"].doc_ids


@pytest.mark.parametrize(("top_n", "found"), [(1, 1), (3, 3), (20, 20), (21, 20), (1000, 20)])
def test_top_n_is_a_prefix(pipeline: Pipeline, top_n: int, found: int) -> None:
    results = pipeline.search(QUERIES[1], top_n)
    assert len(results) == found
    assert results == pipeline.search(QUERIES[1], 20)[:found]


def test_ten_results_are_usual_and_all_are_json(pipeline: Pipeline) -> None:
    results = pipeline.search(QUERIES[1])
    assert len(results) == 10
    read = [Result(**found) for found in json.loads(json.dumps([result._asdict() for result in results]))]
    assert read == results


@pytest.mark.parametrize("query", ["", " ", "\n\t "])
def test_an_empty_query_is_refused(pipeline: Pipeline, query: str) -> None:
    with pytest.raises(UserError, match="the query is empty: give at least one word"):
        pipeline.search(query)


@pytest.mark.parametrize("top_n", [0, -3])
def test_fewer_than_one_result_is_refused(pipeline: Pipeline, top_n: int) -> None:
    with pytest.raises(UserError, match=f"top_n is {top_n}, must be at least 1"):
        pipeline.search("water", top_n)


@pytest.mark.parametrize("query", ["water " * 5000, "😀 𝔘𝔫𝔦", "?", "\x00", "of the"])
def test_odd_queries_find_something(pipeline: Pipeline, query: str) -> None:
    assert len(pipeline.search(query, 5)) == 5


def test_unknown_words_find_nothing_with_bm25_alone(loaded: Pipeline) -> None:
    bm25 = Bm25.build(Bm25Config(), loaded.documents)
    lexical = Pipeline(bm25, loaded.reranker, loaded.documents, depth=20, weight=0.5)
    assert lexical.search("unheard") == []
    found = lexical.search("piano", 50)
    assert {result.doc_id for result in found} == {f"piano-{i}" for i in range(8)}
    assert {result.retriever for result in found} == {"bm25"}
    runs = lexical.rank({"a": "unheard", "b": "piano"})
    assert [len(run["a"].doc_ids) for run in runs] == [0, 0, 0]
    assert [len(run["b"].doc_ids) for run in runs] == [8, 8, 8]


def test_no_queries_have_no_runs(pipeline: Pipeline) -> None:
    assert [len(run) for run in pipeline.rank({})] == [0, 0, 0]


# --- depth, and other scorers


@pytest.mark.parametrize("depth", [1, 7, 20, 40])
def test_another_depth_for_once(pipeline: Pipeline, depth: int) -> None:
    queries = {f"q{i}": query for i, query in enumerate(QUERIES)}
    usual, other = pipeline.rank(queries), pipeline.rank(queries, depth=depth)
    deep = Pipeline(pipeline.first_stage, pipeline.reranker, pipeline.documents, depth=depth, weight=0.5)
    for run, expected in zip(other, deep.rank(queries), strict=True):
        for query_id in queries:
            assert run[query_id].doc_ids == expected[query_id].doc_ids
            assert len(run[query_id].doc_ids) == depth
    shared = min(depth, 20)
    assert other.first_stage.top(shared)["q0"].doc_ids == usual.first_stage.top(shared)["q0"].doc_ids
    assert pipeline.depth == 20


class Lengths:
    """Scores a document by its length, the shortest best."""

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return np.array([-len(document) for _, document in pairs], np.float32)


def test_another_scorer_orders_the_same_candidates(pipeline: Pipeline) -> None:
    other = pipeline.with_scorer(Lengths())
    before, runs = pipeline.rank({"q": QUERIES[0]}), other.rank({"q": QUERIES[0]})
    assert runs.first_stage["q"].doc_ids == before.first_stage["q"].doc_ids
    lengths = [len(content) for content in pipeline.documents.contents(runs.reranked["q"].doc_ids)]
    assert lengths == sorted(lengths)
    assert (other.depth, other.weight, other.reranker) == (pipeline.depth, pipeline.weight, pipeline.reranker)
    # The pipeline itself goes on with its own.
    assert pipeline.scorer is pipeline.reranker
    assert pipeline.rank({"q": QUERIES[0]}).pipeline["q"].doc_ids == before.pipeline["q"].doc_ids


# --- probabilities and confidence


def calibrated(
    pipeline: Pipeline, calibration: Calibration | None, answerability: Answerability | None = None
) -> Pipeline:
    """The same pipeline with another calibration, its scores by length: they spread widely."""
    reranker = copy.copy(pipeline.reranker)
    reranker.calibration = calibration
    first, documents = pipeline.first_stage, pipeline.documents
    made = Pipeline(first, reranker, documents, depth=20, weight=0.5, answerability=answerability)
    return made.with_scorer(Lengths())


MAPS = [
    Calibration("temperature", 0.125),
    Calibration("platt", 0.25, 7.0),
    Calibration("isotonic", x=(-60.0, -40.0, -20.0), y=(0.1, 0.4, 0.9)),
    Calibration("platt", 0.5, 1.0, basis="list"),
]


@pytest.mark.parametrize("calibration", MAPS, ids=lambda c: f"{c.method} of the {c.basis}")
@pytest.mark.parametrize("top_n", [1, 10, 20])
def test_probabilities_are_those_of_the_whole_list_however_few_are_shown(
    pipeline: Pipeline, calibration: Calibration, top_n: int
) -> None:
    found = calibrated(pipeline, calibration)
    ranking = found.rank({"q": QUERIES[1]}).reranked["q"]
    expected = dict(zip(ranking.doc_ids, calibration.of_list(ranking.scores).tolist(), strict=True))
    results = found.search(QUERIES[1], top_n)
    assert len(results) == top_n
    assert {result.doc_id: result.probability for result in results} == {
        result.doc_id: pytest.approx(expected[result.doc_id], abs=1e-12) for result in results
    }
    ordered = sorted(results, key=lambda result: result.reranker_score or 0.0)
    values = [result.probability for result in ordered]
    assert values == sorted(value for value in values if value is not None)
    assert len(set(expected.values())) > 3


def test_what_was_never_calibrated_has_no_probability(pipeline: Pipeline) -> None:
    results = calibrated(pipeline, None).search(QUERIES[1])
    assert [result.probability for result in results] == [None] * 10
    assert json.loads(json.dumps(results[0]._asdict()))["probability"] is None


def test_the_confidence_is_that_of_all_candidates(pipeline: Pipeline) -> None:
    model = Answerability((0.1, 0.02, 0.05), 0.5, 0.0)
    scores = calibrated(pipeline, None).rank({"q": QUERIES[2]}).reranked["q"].scores
    confidence = model.confidence(scores)
    assert 0.01 < confidence < 0.99
    for threshold, answerable in ((confidence - 1e-6, True), (confidence + 1e-6, False)):
        found = calibrated(pipeline, None, model._replace(threshold=threshold))
        for top_n in (1, 20):
            answer = found.answer(QUERIES[2], top_n)
            assert answer.confidence == pytest.approx(confidence)
            assert answer.answerable == answerable
            # What is probably no answer is given all the same: whoever asks decides.
            assert answer.results == found.search(QUERIES[2], top_n) != []


def test_without_a_fitted_threshold_everything_counts_as_answerable(pipeline: Pipeline) -> None:
    answer = pipeline.answer(QUERIES[0])
    assert (answer.confidence, answer.answerable) == (None, True)


def test_where_nothing_is_found_nothing_is_answerable(loaded: Pipeline) -> None:
    lexical = Pipeline(
        Bm25.build(Bm25Config(), loaded.documents),
        loaded.reranker,
        loaded.documents,
        depth=20,
        weight=0.5,
        answerability=Answerability((0.0, 0.0, 0.0), 9.0, 0.0),
    )
    assert lexical.answer("unheard")[:3] == ([], 0.0, False)
    assert lexical.answer("piano").answerable


def test_a_bundle_knows_its_calibration_and_its_threshold(loaded: Pipeline, run_folder: Path) -> None:
    settings = read_json(run_folder / "bundle" / "pipeline.json")
    assert loaded.answerability == Answerability.from_json(settings["answerability"])
    answer = loaded.answer(QUERIES[1])
    assert answer.confidence is not None
    assert loaded.answerability is not None
    assert answer.answerable == (answer.confidence >= loaded.answerability.threshold)
    assert all(0 < result.probability < 1 for result in answer.results if result.probability is not None)
    assert None not in [result.probability for result in answer.results]


# --- the verdict, and the way back to the first stage


def remade(bundle: Path, *, fallback: bool) -> str:
    """Change a bundle as if it had been made so, in the reranker's order, never judged; return its fingerprint."""
    found: dict[str, Any] = read_json(bundle / "pipeline.json")
    serve = {**found["serve"], "fallback": fallback}
    write_json(bundle / "pipeline.json", {**found, "serve": serve, "weight": 1.0, "depth": 20})
    (bundle / "verdict.json").unlink()
    manifest: dict[str, Any] = read_json(bundle / MANIFEST)
    details = {name: manifest[name] for name in manifest if name not in ("kind", "format", "secondstage", "files")}
    write_manifest(bundle, "bundle", **details)
    return str(manifest["fingerprint"])


NO, YES = Verdict(False, "Do not ship."), Verdict(True, "Ship.")


@pytest.mark.parametrize(
    ("verdict", "configured", "asked", "falls_back"),
    [
        (NO, False, None, False),
        (NO, True, None, True),
        (NO, False, True, True),
        (NO, True, False, False),
        (YES, True, None, False),
        (YES, False, True, False),
        (None, True, None, True),
        (None, False, True, True),
        (None, False, None, False),
    ],
)
def test_a_refused_bundle_answers_as_the_first_stage_if_told_to(
    bundle: Path, verdict: Verdict | None, configured: bool, asked: bool | None, falls_back: bool
) -> None:
    fingerprint = remade(bundle, fallback=configured)
    if verdict:
        write_verdict(bundle, fingerprint, verdict)
    pipeline = Pipeline.load(bundle, fallback=asked)
    assert (pipeline.verdict, pipeline.refused) == (verdict, verdict == NO)
    runs = pipeline.rank({"q": QUERIES[0]})
    assert runs.first_stage["q"].doc_ids != runs.pipeline["q"].doc_ids
    results = pipeline.search(QUERIES[0], 20)
    expected = runs.first_stage if falls_back else runs.pipeline
    assert tuple(result.doc_id for result in results) == expected["q"].doc_ids
    assert [result.score for result in results] == expected["q"].scores.tolist()
    if falls_back:
        assert [(r.rank, r.score) for r in results] == [(r.first_stage_rank, r.first_stage_score) for r in results]
    # What the reranker says of each document is told in any case.
    by_id = dict(zip(runs.reranked["q"].doc_ids, runs.reranked["q"].scores.tolist(), strict=True))
    assert {result.doc_id: result.reranker_score for result in results} == by_id


def test_a_verdict_on_another_bundle_is_not_believed(bundle: Path) -> None:
    fingerprint = remade(bundle, fallback=True)
    write_verdict(bundle, fingerprint[::-1], NO)
    pipeline = Pipeline.load(bundle)
    assert (pipeline.verdict, pipeline.refused) == (None, False)
    # Never judged is not let through.
    assert (
        tuple(r.doc_id for r in pipeline.search("water", 20)) == pipeline.rank({"q": "water"}).first_stage["q"].doc_ids
    )


def test_the_verdict_of_a_run_is_in_its_bundle(loaded: Pipeline, run_folder: Path) -> None:
    said = read_json(run_folder / "evaluation" / "metrics.json")["verdict"]
    assert loaded.verdict == Verdict(said["passed"], said["sentence"])
    assert loaded.refused
    assert not loaded.fallback


def test_a_copied_bundle_works_where_nothing_else_is(
    beir_folder: Path, tiny_model: Path, collection: Collection, tmp_path: Path
) -> None:
    """The run, its collection and its models are deleted before the bundle is opened."""
    from secondstage.commands import carry_out_up_to
    from secondstage.configfile import check_config

    shutil.copytree(beir_folder, tmp_path / "beir")
    shutil.copytree(tiny_model, tmp_path / "model")
    model = str(tmp_path / "model")
    config = {
        "output": str(tmp_path / "out"),
        "collection": str(tmp_path / "beir"),
        "first_stage": {"kind": "hybrid", "dense": {"model": model, "query_prompt": "the "}},
        "train": {"model": model, "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"},
        "serve": {"depth": 15, "weight": 0.5, "precision": "fp32"},
    }
    carry_out_up_to("bundle", check_config(config))
    write_verdict(tmp_path / "out" / "bundle", read_json(tmp_path / "out" / "bundle" / MANIFEST)["fingerprint"], YES)
    queries = dict(enumerate(QUERIES))
    before = {i: Pipeline.load(tmp_path / "out" / "bundle").search(query) for i, query in queries.items()}
    shutil.copytree(tmp_path / "out" / "bundle", tmp_path / "elsewhere" / "renamed")
    for name in ("beir", "model", "out"):
        shutil.rmtree(tmp_path / name)
    moved = Pipeline.load(tmp_path / "elsewhere" / "renamed")
    assert (moved.depth, moved.weight, moved.reranker.max_length) == (15, 0.5, 32)
    assert moved.verdict == YES
    assert moved.reranker.calibration is not None
    assert all(None not in (found.probability for found in results) for results in before.values())
    assert {i: moved.search(query) for i, query in queries.items()} == before
    assert Pipeline.load(str(tmp_path / "elsewhere" / "renamed")).search("water", 1) == moved.search("water", 1)


FILES = [
    "documents.arrow",
    "pipeline.json",
    "reranker/model.safetensors",
    "first_stage/dense.faiss",
    "reranker/score.json",
]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"was changed since it was made \({name}\): make it again"):
        Pipeline.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"is incomplete, missing: {name}: make it again"):
        Pipeline.load(bundle)


def edit(change: Callable[[dict[str, object]], object], bundle: Path) -> None:
    manifest = read_json(bundle / MANIFEST)
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_another_format_is_refused(bundle: Path) -> None:
    edit(lambda manifest: manifest.update(format=0), bundle)
    with pytest.raises(UserError, match=r"has format 0, made by secondstage \d+\.\d+.*reads format 1"):
        Pipeline.load(bundle)


def test_another_kind_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a bundle: its manifest says 'mine'"):
        Pipeline.load(run_folder / "mine")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not a bundle"):
            Pipeline.load(folder)
