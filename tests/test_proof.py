"""The proof: honest baselines, exactly the same candidates, and the figures of another implementation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ir_measures
import pytest

from secondstage.collection import Collection, Documents, Qrels
from secondstage.config import Bm25Config, EvaluateConfig
from secondstage.errors import UserError
from secondstage.firststage import FirstStage
from secondstage.firststage.bm25 import Bm25
from secondstage.measures import evaluate
from secondstage.reranker import Reranker
from secondstage.run import Run, rank, read_trec
from secondstage.serve import Pipeline, evaluate_bundle
from secondstage.serve.evaluate import ideal_order, score_runs
from secondstage.significance import compare

DEPTH = 20
MEASURES = {"nDCG@10", "RR@10", "R@10", "R@50", f"R@{DEPTH}"}


class Fake(Reranker):
    """Scores every document by its relevance times `sign`."""

    def __init__(self, qrels: Qrels, sign: int) -> None:
        self.qrels, self.sign = qrels, sign

    def rerank(self, run: Run, queries: Mapping[str, str], documents: Documents, *, label: str | None = None) -> Run:
        return run.rescored("reranked", [self.sign * self.qrels[q].get(doc_id, 0) for q, doc_id in run.pairs()])


class Weak(Bm25):
    """BM25 that loses the first document of every list: recall has a ceiling."""

    def search(self, queries: Any, depth: int) -> Any:
        return [
            hits._replace(rows=hits.rows[k:], scores=hits.scores[k:], retrievers=hits.retrievers[k:])
            for k, hits in enumerate(super().search(queries, depth))
        ]


@pytest.fixture(scope="module")
def metrics(run_folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def runs(run_folder: Path) -> dict[str, Run]:
    return {path.stem: read_trec(path) for path in (run_folder / "evaluation" / "runs").glob("*.trec")}


def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


def proof(
    collection: Collection, first_stage: FirstStage, sign: int, folder: Path, weight: float = 0.5, **settings: Any
) -> dict[str, Any]:
    reranker = Fake({q: judged for qrels in collection.qrels.values() for q, judged in qrels.items()}, sign)
    pipeline = Pipeline(first_stage, reranker, collection.documents, depth=DEPTH, weight=weight)
    config = EvaluateConfig(**{"resamples": 200, **settings})
    return evaluate_bundle(collection, pipeline, config, seed=13, folder=folder)


def test_the_contract(metrics: dict[str, Any]) -> None:
    assert (metrics["split"], metrics["queries"], metrics["depth"]) == ("test", 16, DEPTH)
    assert metrics["systems"].keys() == {"first_stage", "reranked", "pipeline", "bm25", "dense"}
    assert all(values.keys() == MEASURES for values in metrics["systems"].values())
    assert metrics["comparisons"].keys() == {
        f"{system}_vs_{baseline}" for system in ("reranked", "pipeline") for baseline in ("first_stage", "bm25")
    }
    for comparison in metrics["comparisons"].values():
        assert comparison.keys() == {"nDCG@10", "RR@10"}
        for found in comparison.values():
            assert found.keys() == {"delta", "ci95", "p", "wins", "ties", "losses"}
            assert found["wins"] + found["ties"] + found["losses"] == 16
            low, high = found["ci95"]
            assert low <= found["delta"] <= high
            assert 0 < found["p"] <= 1
    assert metrics["seconds"].keys() == {"first_stage", "mine", "train", "evaluate"}


def test_the_figures_are_those_of_ir_measures(metrics: dict[str, Any], run_folder: Path, beir_folder: Path) -> None:
    lines = (beir_folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    qrels = [ir_measures.Qrel(q, d, int(r)) for q, d, r in map(str.split, lines)]
    read_run: Any = ir_measures.read_trec_run
    measures = [ir_measures.parse_measure(name) for name in sorted(MEASURES)]
    for system, values in metrics["systems"].items():
        run = list(read_run(str(run_folder / "evaluation" / "runs" / f"{system}.trec")))
        expected = {str(name): value for name, value in ir_measures.calc_aggregate(measures, qrels, run).items()}
        assert values == pytest.approx(expected, abs=1e-9), system


def test_comparisons_are_those_of_the_written_runs(
    metrics: dict[str, Any], runs: dict[str, Run], collection: Collection
) -> None:
    values = {name: evaluate(run, collection.split("test"), ["nDCG@10"])["nDCG@10"] for name, run in runs.items()}
    expected = compare(values["reranked"], values["first_stage"], resamples=200, seed=13)
    found = metrics["comparisons"]["reranked_vs_first_stage"]["nDCG@10"]
    assert found == {
        "delta": pytest.approx(expected.delta),
        "ci95": pytest.approx([expected.low, expected.high]),
        "p": expected.p,
        "wins": expected.wins,
        "ties": expected.ties,
        "losses": expected.losses,
    }
    systems = metrics["systems"]
    assert found["delta"] == pytest.approx(systems["reranked"]["nDCG@10"] - systems["first_stage"]["nDCG@10"])


def test_all_stages_order_exactly_the_same_candidates(runs: dict[str, Run], collection: Collection) -> None:
    first = runs["first_stage"]
    assert set(first) == set(collection.split("test"))
    for name in ("reranked", "pipeline"):
        assert list(runs[name]) == list(first)
        for query_id, ranking in runs[name].items():
            assert sorted(ranking.doc_ids) == sorted(first[query_id].doc_ids)
            assert len(ranking.doc_ids) == DEPTH
    assert any(runs["reranked"][q].doc_ids != first[q].doc_ids for q in first)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_reranker_that_knows_nothing_scores_exactly_as_the_first_stage(
    collection: Collection, tmp_path: Path, weight: float
) -> None:
    found = proof(collection, Weak(Bm25Config(), bm25(collection)._index), 0, tmp_path, weight)
    assert found["systems"]["reranked"] == found["systems"]["first_stage"] == found["systems"]["pipeline"]
    for comparison in found["comparisons"].values():
        assert comparison["nDCG@10"] == {
            "delta": 0,
            "ci95": [0, 0],
            "p": 1,
            "wins": 0,
            "ties": 16,
            "losses": 0,
        }


def test_an_oracle_reaches_the_ceiling_and_no_more(collection: Collection, tmp_path: Path) -> None:
    """The one relevant document is lost for all queries but the first few: no reranker can bring it back."""
    found = proof(collection, Weak(Bm25Config(), bm25(collection)._index), 1, tmp_path, weight=1.0)
    ceiling, systems = found["ceiling"], found["systems"]
    assert 0 < ceiling["recall"] < 0.5
    assert ceiling["oracle_nDCG@10"] == ceiling["recall"]  # one relevant document a query: found is first
    assert systems["reranked"]["nDCG@10"] == systems["pipeline"]["nDCG@10"] == ceiling["oracle_nDCG@10"]
    assert {values[f"R@{DEPTH}"] for values in systems.values()} == {ceiling["recall"]}


def test_the_worst_reranker_loses(collection: Collection, tmp_path: Path) -> None:
    found = proof(collection, bm25(collection), -1, tmp_path, weight=1.0)
    comparison = found["comparisons"]["reranked_vs_first_stage"]["RR@10"]
    assert (comparison["wins"], comparison["losses"]) == (0, 16)
    assert comparison["ci95"][1] < 0
    assert comparison["p"] == pytest.approx(1 / 201)


def test_a_single_retriever_is_not_compared_with_itself(collection: Collection, tmp_path: Path) -> None:
    found = proof(collection, bm25(collection), 1, tmp_path)
    assert found["systems"].keys() == {"first_stage", "reranked", "pipeline"}
    assert found["comparisons"].keys() == {"reranked_vs_first_stage", "pipeline_vs_first_stage"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"{name}.trec" for name in found["systems"]}


def test_a_query_without_results_counts_as_zero(collection: Collection, tmp_path: Path) -> None:
    class Mute(Bm25):
        def search(self, queries: Any, depth: int) -> Any:
            return super().search(["unheard", *queries[1:]], depth)

    found = proof(collection, Mute(Bm25Config(), bm25(collection)._index), 1, tmp_path)
    assert found["queries"] == 16
    assert found["systems"]["reranked"]["nDCG@10"] == found["ceiling"]["recall"] == 15 / 16


def test_extra_splits_stand_beside(collection: Collection, tmp_path: Path) -> None:
    found = proof(collection, bm25(collection), 1, tmp_path, extra_splits=("dev", "train"))
    assert found["extra_splits"].keys() == {"dev", "train"}
    assert found["extra_splits"]["train"]["queries"] == 32
    alone = proof(collection, bm25(collection), 1, tmp_path / "alone", split="dev")
    assert found["extra_splits"]["dev"] == alone
    assert len(read_trec(tmp_path / "runs" / "train" / "pipeline.trec")) == 32
    assert len(read_trec(tmp_path / "runs" / "pipeline.trec")) == 16


def test_a_query_without_a_relevant_document_is_left_out(beir_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    with (tmp_path / "beir" / "qrels" / "test.tsv").open("a") as file:
        file.write("q-bread-0\tbread-1\t0\n")
    (tmp_path / "beir" / "qrels" / "none.tsv").write_text("q-bread-0\tbread-1\t0\n")
    judged = Collection.read(tmp_path / "beir", tmp_path / "collection")
    assert len(judged.split("test")) == 17
    found = proof(judged, bm25(judged), 1, tmp_path)
    assert found["queries"] == 16
    assert "q-bread-0" not in read_trec(tmp_path / "runs" / "pipeline.trec")
    with pytest.raises(UserError, match="split 'none' of collection 'beir' has no query with a relevant document"):
        proof(judged, bm25(judged), 1, tmp_path, split="none")


def test_queries_can_be_fewer(collection: Collection, tmp_path: Path) -> None:
    found = proof(collection, bm25(collection), 1, tmp_path, max_queries=5)
    assert found["queries"] == 5
    assert len(read_trec(tmp_path / "runs" / "first_stage.trec")) == 5


def test_the_interval_is_named_by_its_confidence(collection: Collection, tmp_path: Path) -> None:
    found = proof(collection, bm25(collection), -1, tmp_path, confidence=0.9)
    assert "ci90" in found["comparisons"]["reranked_vs_first_stage"]["nDCG@10"]


def test_a_missing_split_is_refused_with_those_there_are(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'valid'; it has dev, test, train"):
        proof(collection, bm25(collection), 1, tmp_path, split="valid")
    with pytest.raises(UserError, match=r"no split 'human'"):
        proof(collection, bm25(collection), 1, tmp_path, extra_splits=("human",))


def test_graded_relevance_and_missed_positives_by_hand() -> None:
    """Of relevance 2 and 1, the list holds the 1 at rank 2; a missed document stays in the ideal."""
    first = Run("first_stage", {"q": rank(["x", "a", "y"], [3, 2, 1], ["bm25"] * 3)})
    qrels = {"q": {"a": 1, "missed": 2, "y": 0}}
    ideal = ideal_order(first, qrels)
    assert ideal["q"].doc_ids == ("a", "x", "y")
    found = score_runs({"first_stage": first, "reranked": ideal}, qrels, EvaluateConfig(resamples=100), seed=1, depth=3)
    log3 = 1.584962500721156
    best = 2 + 1 / log3
    assert found["systems"]["first_stage"]["nDCG@10"] == pytest.approx(1 / log3 / best)
    assert found["systems"]["reranked"]["nDCG@10"] == pytest.approx(1 / best)
    assert found["ceiling"] == {"recall": 0.5, "oracle_nDCG@10": pytest.approx(1 / best)}
    assert found["comparisons"].keys() == {"reranked_vs_first_stage"}
    assert found["systems"]["first_stage"].keys() == {"nDCG@10", "RR@10", "R@10", "R@50", "R@3"}
