"""The proof: honest baselines, exactly the same candidates, and the figures of another implementation."""

from __future__ import annotations

import csv
import html
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

from secondstage.calibration import Calibration
from secondstage.collection import Collection
from secondstage.config import Bm25Config, EvaluateConfig, ServeConfig
from secondstage.errors import UserError
from secondstage.files import read_manifest
from secondstage.firststage import FirstStage
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.measures import evaluate
from secondstage.reranker import Reranker
from secondstage.run import Run, Scores, read_trec
from secondstage.scoring import Random
from secondstage.serve import Pipeline, Start, evaluate_bundle
from secondstage.serve.cascade import Stage
from secondstage.serve.depth import Timing
from secondstage.serve.fuse import MEASURE
from secondstage.serve.proof import evaluate as evaluating
from secondstage.significance import compare
from secondstage.synthetic import SYNTHETIC, SyntheticQuery, write_synthetic

DEPTH = 20
Metrics = dict[str, Any]
Prove = Callable[..., Metrics]


class Knowing(Reranker):
    """Scores every document by its relevance, whatever split it was judged in, times `sign`."""

    def __init__(self, collection: Collection, tokenizer: Any, sign: int) -> None:
        super().__init__(None, tokenizer, max_length=64, origin=(f"knowing {sign}", "fp32"))
        self.sign = sign
        self.calls: list[int] = []
        self.relevance = {
            (collection.queries[query_id], collection.documents.by_id(doc_id).content): relevance
            for qrels in collection.qrels.values()
            for query_id, judged in qrels.items()
            for doc_id, relevance in judged.items()
        }

    def stream(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        self.calls.append(len(pairs))
        yield list(range(len(pairs))), np.array([self.sign * self.relevance.get(p, 0) for p in pairs], np.float32)


class Weak(Bm25):
    """BM25 that loses the first k documents of the k-th list: recall has a ceiling."""

    def search(self, queries: Sequence[str], depth: int) -> Any:
        return [
            hits._replace(rows=hits.rows[k:], scores=hits.scores[k:], retrievers=hits.retrievers[k:])
            for k, hits in enumerate(super().search(queries, depth))
        ]


class Backwards(Bm25):
    """BM25's lists, the last document first."""

    def search(self, queries: Sequence[str], depth: int) -> Any:
        return [hits._replace(rows=hits.rows[::-1]) for hits in super().search(queries, depth)]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def prove(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prove:
    """Evaluates a pipeline of any first stage and `Knowing`; what it writes goes to `tmp_path`."""

    def evaluated(
        collection: Collection,
        first_stage: FirstStage,
        sign: int,
        *,
        weight: float = 1.0,
        serve: ServeConfig | None = None,
        reranker: Knowing | None = None,
        mined: Path | None = None,
        cascade: Sequence[Stage] = (),
        choices: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Metrics:
        reranker = reranker or Knowing(collection, tokenizer, sign)
        pipeline = Pipeline(first_stage, reranker, collection.documents, depth=DEPTH, weight=weight, cascade=cascade)
        monkeypatch.setattr(Pipeline, "load", lambda bundle: pipeline)
        return evaluate_bundle(
            collection,
            Path("bundle"),
            EvaluateConfig(**{"resamples": 200, "latency_queries": 2, **settings}),
            start=None,
            seed=13,
            folder=tmp_path,
            scores=tmp_path / "scores",
            choices=choices or {},
            serve=serve or ServeConfig(depth=DEPTH),
            seconds={},
            mined=mined,
        )

    return evaluated


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


@pytest.fixture
def weak(bm25: Bm25) -> Weak:
    return Weak(Bm25Config(), bm25._index)


@pytest.fixture
def backwards(bm25: Bm25) -> Backwards:
    return Backwards(Bm25Config(), bm25._index)


@pytest.fixture
def judged_anew(beir_folder: Path, tmp_path: Path) -> Callable[..., Collection]:
    """Stores the collection of `beir_folder` with further lines of qrels by split."""

    def stored(**qrels: Sequence[tuple[str, str, int]]) -> Collection:
        shutil.copytree(beir_folder, tmp_path / "beir")
        for split, rows in qrels.items():
            path = tmp_path / "beir" / "qrels" / f"{split}.tsv"
            if not path.exists():
                path.write_text("query-id\tcorpus-id\tscore\n")
            with path.open("a") as file:
                file.writelines(f"{query_id}\t{doc_id}\t{relevance}\n" for query_id, doc_id, relevance in rows)
        return Collection.read(tmp_path / "beir", tmp_path / "collection")

    return stored


@pytest.fixture(scope="module")
def metrics(run_folder: Path) -> Metrics:
    return read(run_folder / "evaluation")


@pytest.fixture(scope="module")
def runs(run_folder: Path) -> dict[str, Run]:
    return {path.stem: read_trec(path) for path in (run_folder / "evaluation" / "runs").glob("*.trec")}


def read(folder: Path) -> Metrics:
    """`metrics.json`, in which no number may be infinite or none at all."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    found: Metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    return found


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_query.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def comparison(tested: Mapping[str, Any], system: str, measure: str = MEASURE) -> dict[str, Any]:
    (found,) = (
        row
        for row in tested["comparisons"]
        if (row["system"], row["baseline"], row["measure"]) == (system, "first_stage", measure)
    )
    return dict(found)


def means(tested: Mapping[str, Any], system: str) -> dict[str, float]:
    return dict(tested["systems"][system]["measures"])


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


def timeless(found: Metrics) -> Metrics:
    """Without what no seed decides."""
    kept = json.loads(json.dumps({name: part for name, part in found.items() if name not in ("latency", "seconds")}))
    for tested in kept["test_sets"].values():
        for name in ("p50_ms", "p95_ms"):
            del tested["depth"][name]
    return dict(kept)


# --- a whole run


def test_the_contract(metrics: Metrics) -> None:
    assert list(metrics) == [
        *("verdict", "collection", "seed", "confidence", "resamples", "measure", "depth", "candidates", "weight"),
        *("max_length", "test_sets", "development", "latency", "exports", "replicates", "seconds"),
    ]
    assert (metrics["measure"], metrics["seed"], metrics["depth"], metrics["max_length"]) == ("nDCG@10", 13, DEPTH, 32)
    assert list(metrics["test_sets"]) == ["test"]
    tested = metrics["test_sets"]["test"]
    assert (tested["split"], tested["origin"], tested["queries"]) == ("test", "human", 16)
    assert tested["systems"].keys() == {
        *("first_stage", "identity", "random", "bm25", "dense", "untuned", "reranked", "pipeline", "oracle")
    }
    assert all(system["queries"] == 16 for system in tested["systems"].values())
    assert [(row["system"], row["baseline"]) for row in tested["comparisons"] if row["measure"] == "RR@10"] == [
        *((name, "first_stage") for name in ("reranked", "pipeline", "random", "bm25", "dense", "untuned")),
        *(("pipeline", name) for name in ("bm25", "dense")),
    ]
    for row in tested["comparisons"]:
        assert row["wins"] + row["ties"] + row["losses"] == row["queries"] == 16
        assert row["low"] <= row["delta"] <= row["high"]
        assert 0 < row["p"] <= row["p_holm"] <= 1
    assert metrics["seconds"].keys() == {"first_stage", "mine", "train", "bundle"}
    assert metrics["latency"]["queries"] == 16
    assert metrics["latency"]["first_stage_p50_ms"] > 0
    assert 0 < metrics["latency"]["p50_ms"] <= metrics["latency"]["p95_ms"]
    assert all(np.isfinite(list(numbers(metrics))))


def test_what_was_chosen_on_dev_is_told(metrics: Metrics, run_folder: Path) -> None:
    choices = read_manifest(run_folder / "bundle", "bundle")["choices"]
    assert metrics["development"] == choices
    assert metrics["weight"] == choices["fusion"]["weight"]


def test_the_figures_are_those_of_ir_measures(metrics: Metrics, run_folder: Path, beir_folder: Path) -> None:
    lines = (beir_folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    qrels = [ir_measures.Qrel(q, d, int(r)) for q, d, r in map(str.split, lines)]
    read_run: Any = ir_measures.read_trec_run
    tested = metrics["test_sets"]["test"]
    names = list(means(tested, "pipeline"))
    assert {"nDCG@10", "RR@10", f"R@{DEPTH}", f"AP@{DEPTH}", "Success@1", "Judged@10"} <= set(names)
    measures = [ir_measures.parse_measure(name) for name in names]
    for system in tested["systems"]:
        run = list(read_run(str(run_folder / "evaluation" / "runs" / f"{system}.trec")))
        expected = {str(name): value for name, value in ir_measures.calc_aggregate(measures, qrels, run).items()}
        assert means(tested, system) == pytest.approx(expected, abs=1e-9), system


def test_the_figures_are_the_means_of_the_table(metrics: Metrics, run_folder: Path) -> None:
    rows, tested = table(run_folder / "evaluation"), metrics["test_sets"]["test"]
    assert len(rows) == 16
    for system in tested["systems"]:
        values = [float(row[f"{system} {MEASURE}"]) for row in rows]
        assert np.mean(values) == pytest.approx(means(tested, system)[MEASURE], abs=1e-6)
    differences = [float(row[f"pipeline {MEASURE}"]) - float(row[f"first_stage {MEASURE}"]) for row in rows]
    assert [float(row["difference"]) for row in rows] == pytest.approx(differences, abs=2e-6)
    assert tested["differences"] == pytest.approx(sorted(differences, reverse=True), abs=2e-6)


def test_comparisons_are_those_of_the_written_runs(
    metrics: Metrics, runs: dict[str, Run], collection: Collection
) -> None:
    tested = metrics["test_sets"]["test"]
    for measure in (MEASURE, "RR@10"):
        values = {name: evaluate(run, collection.split("test"), [measure])[measure] for name, run in runs.items()}
        for system in ("reranked", "dense"):
            expected = compare(values[system], values["first_stage"], resamples=200, seed=13)
            found = comparison(tested, system, measure)
            assert (found["delta"], found["sd"]) == (pytest.approx(expected.delta), pytest.approx(expected.sd))
            assert (found["low"], found["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
            assert (found["p"], found["wins"], found["ties"]) == (expected.p, expected.wins, expected.ties)
            assert found["delta"] == pytest.approx(
                means(tested, system)[measure] - means(tested, "first_stage")[measure]
            )


def test_all_stages_order_exactly_the_same_candidates(runs: dict[str, Run], collection: Collection) -> None:
    first = runs["first_stage"]
    assert set(first) == set(collection.split("test"))
    for name in runs.keys() - {"bm25", "dense"}:
        assert list(runs[name]) == list(first), name
        for query_id, ranking in runs[name].items():
            assert len(ranking.doc_ids) == DEPTH
            assert sorted(ranking.doc_ids) == sorted(first[query_id].doc_ids)
    assert any(runs["reranked"][q].doc_ids != first[q].doc_ids for q in first)


def test_the_report_names_the_verdict(metrics: Metrics, run_folder: Path) -> None:
    report = html.unescape((run_folder / "evaluation" / "report.html").read_text(encoding="utf-8"))
    assert metrics["verdict"]["sentence"] in report
    assert all(check["text"] in metrics["verdict"]["sentence"] for check in metrics["verdict"]["checks"])
    assert not metrics["verdict"]["passed"]
    assert "Do not ship" in metrics["verdict"]["sentence"]


def test_the_same_seed_gives_the_same_metrics_and_no_pair_is_scored_again(
    metrics: Metrics, run_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_folder / "scores", tmp_path / "scores")
    before = {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()}
    assert len(before) == 2  # the reranker's and the untuned model's
    (tmp_path / "evaluation").mkdir()
    again = evaluate_bundle(
        Collection.load(run_folder / "collection"),
        run_folder / "bundle",
        EvaluateConfig(resamples=200),
        start=Start(str(tiny_model), 32, 13),
        seed=13,
        folder=tmp_path / "evaluation",
        scores=tmp_path / "scores",
        choices=metrics["development"],
        serve=ServeConfig(depth=DEPTH, precision="fp32"),
        seconds={},
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()} == before
    assert timeless(again) == timeless(metrics) == timeless(read(tmp_path / "evaluation"))
    for name in ("per_query.tsv", "runs/pipeline.trec", "runs/random.trec", "runs/untuned.trec"):
        assert (tmp_path / "evaluation" / name).read_bytes() == (run_folder / "evaluation" / name).read_bytes()


def test_only_timing_scores_anew(prove: Prove, collection: Collection, bm25: Bm25, tokenizer: Any) -> None:
    """A search that is timed scores one list at a time; whatever scores more has not looked it up."""
    reranker = Knowing(collection, tokenizer, 1)
    prove(collection, bm25, 1, reranker=reranker)
    assert max(reranker.calls) > DEPTH
    reranker.calls.clear()
    prove(collection, bm25, 1, reranker=reranker)
    assert 0 < max(reranker.calls) <= DEPTH


# --- rerankers whose worth is known


def test_identity_scores_exactly_as_the_first_stage(prove: Prove, collection: Collection, weak: Weak) -> None:
    tested = prove(collection, weak, -1)["test_sets"]["test"]
    assert means(tested, "identity") == means(tested, "first_stage") != means(tested, "reranked")
    assert means(tested, "oracle")[MEASURE] == tested["ceiling"]["oracle"] > means(tested, "pipeline")[MEASURE]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_reranker_that_knows_nothing_scores_exactly_as_the_first_stage(
    prove: Prove, collection: Collection, weak: Weak, weight: float
) -> None:
    found = prove(collection, weak, 0, weight=weight)
    tested = found["test_sets"]["test"]
    assert means(tested, "reranked") == means(tested, "first_stage") == means(tested, "pipeline")
    for name in ("reranked", "pipeline"):
        row = comparison(tested, name)
        assert (row["delta"], row["low"], row["high"], row["p"], row["ties"]) == (0, 0, 0, 1, 16)
    assert not found["verdict"]["passed"]
    assert tested["worst"] == []


def test_an_oracle_reaches_the_ceiling_and_no_more(prove: Prove, collection: Collection, weak: Weak) -> None:
    """The one relevant document is lost for all queries but the first few: no reranker can bring it back."""
    tested = prove(collection, weak, 1)["test_sets"]["test"]
    ceiling = tested["ceiling"]
    assert 0 < ceiling["recall"] < 0.5
    assert ceiling["oracle"] == ceiling["recall"]  # one relevant document a query: found is first
    assert means(tested, "reranked") == means(tested, "pipeline") == means(tested, "oracle")
    assert means(tested, "oracle")[MEASURE] == ceiling["oracle"] == tested["depth"]["oracle"][-1]
    assert {means(tested, name)[f"R@{DEPTH}"] for name in tested["systems"]} == {ceiling["recall"]}
    assert tested["diagnosis"]["counts"]["first_stage_miss"] == tested["diagnosis"]["failed"] > 0


def test_the_worst_reranker_loses(prove: Prove, collection: Collection, bm25: Bm25) -> None:
    found = prove(collection, bm25, -1)
    row = comparison(found["test_sets"]["test"], "reranked", "RR@10")
    assert (row["wins"], row["losses"]) == (0, 16)
    assert row["high"] < 0
    assert row["p"] == pytest.approx(1 / 201)
    assert "Do not ship" in found["verdict"]["sentence"]
    worst = found["test_sets"]["test"]["worst"]
    assert [case["delta"] for case in worst] == sorted(case["delta"] for case in worst)
    assert len(worst) == 10
    assert worst[0]["before"][0]["relevance"] == 1


def test_random_order_is_told_to_be_worse(prove: Prove, collection: Collection, bm25: Bm25) -> None:
    row = comparison(prove(collection, bm25, 1)["test_sets"]["test"], "random")
    assert row["high"] < 0
    assert row["p_holm"] < 0.05


def test_what_is_really_better_passes(prove: Prove, collection: Collection, backwards: Backwards) -> None:
    found = prove(collection, backwards, 1)
    row = comparison(found["test_sets"]["test"], "pipeline")
    assert (row["wins"], row["gap_closed"]) == (16, pytest.approx(1))
    assert found["test_sets"]["test"]["ceiling"] == {"recall": 1, "oracle": 1}
    assert row["low"] > 0
    assert found["verdict"]["passed"]
    assert found["verdict"]["sentence"].startswith("Ship: on test the pipeline beats the first stage")
    assert found["test_sets"]["test"]["worst"] == []


# --- one retriever, several splits, and splits that have something missing


def test_a_single_retriever_is_not_compared_with_itself(
    prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path
) -> None:
    tested = prove(collection, bm25, 1)["test_sets"]["test"]
    assert "bm25" not in tested["systems"]
    assert {row["baseline"] for row in tested["comparisons"]} == {"first_stage"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"{name}.trec" for name in tested["systems"]}


def test_a_cascade_is_timed_no_deeper_than_it_is_measured(
    prove: Prove, collection: Collection, bm25: Bm25, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def timed(pipeline: Pipeline, queries: Sequence[str], depths: Sequence[int]) -> Mapping[int, Timing]:
        asked.extend(depths)
        return dict.fromkeys(depths, Timing(1.0, 2.0))

    monkeypatch.setattr(evaluating, "time_searches", timed)
    for cascade, deepest in (([Stage(Knowing(collection, tokenizer, 1), 2 * DEPTH)], DEPTH), ([], 50)):
        asked.clear()
        serve = ServeConfig(depth=DEPTH, max_depth=50)
        found = prove(collection, bm25, 1, cascade=cascade, serve=serve)["test_sets"]["test"]
        assert max(asked) == deepest == found["depth"]["depths"][-1]
        assert found["depth"]["p95_ms"] == [2.0] * len(found["depth"]["depths"])


@pytest.mark.parametrize(("choices", "fitted_on"), [({}, "dev"), ({"calibrated": True}, "dev"),
                                                    ({"calibrated": False}, "this test set")])  # fmt: skip
def test_what_dev_did_not_fit_is_not_said_to_be_fitted_on_dev(
    prove: Prove, collection: Collection, bm25: Bm25, tokenizer: Any, choices: dict[str, bool], fitted_on: str
) -> None:
    """The model brings a calibration from elsewhere."""
    reranker = Knowing(collection, tokenizer, 1)
    reranker.calibration = Calibration("platt", 1.0, -4.0)
    found = prove(collection, bm25, 1, reranker=reranker, choices=choices)["test_sets"]["test"]["calibration"]
    assert found["fitted_on"].split(",")[0] == fitted_on
    assert (found["ece_inherited"] is None) == (fitted_on == "dev")


def test_a_query_without_results_counts_as_zero(prove: Prove, collection: Collection, bm25: Bm25) -> None:
    class Mute(Bm25):
        def search(self, queries: Sequence[str], depth: int) -> Any:
            return super().search(["unheard", *queries[1:]], depth)

    tested = prove(collection, Mute(Bm25Config(), bm25._index), 1)["test_sets"]["test"]
    assert tested["queries"] == 16
    assert means(tested, "reranked")[MEASURE] == tested["ceiling"]["recall"] == 15 / 16
    assert tested["diagnosis"]["counts"]["first_stage_miss"] == 1


def test_no_result_at_all(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    class Silent(Bm25):
        def search(self, queries: Sequence[str], depth: int) -> Any:
            return super().search(["unheard"] * len(queries), depth)

    found = prove(collection, Silent(Bm25Config(), bm25._index), 1)
    tested = found["test_sets"]["test"]
    assert set(means(tested, "pipeline").values()) == {0}
    assert tested["ceiling"] == {"recall": 0, "oracle": 0}
    assert (tested["calibration"], tested["answerability"]) == (None, None)
    assert comparison(tested, "pipeline")["gap_closed"] is None
    assert not found["verdict"]["passed"]
    assert timeless(read(tmp_path)) == timeless(found)


def test_extra_splits_stand_beside(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    found = prove(collection, bm25, 1, extra_splits=("dev", "train"))
    assert list(found["test_sets"]) == ["test", "dev", "train"]
    assert found["test_sets"]["train"]["queries"] == 32
    assert [row["split"] for row in table(tmp_path)] == ["test"] * 16 + ["dev"] * 16 + ["train"] * 32
    assert len(read_trec(tmp_path / "runs" / "train" / "pipeline.trec")) == 32
    assert len(read_trec(tmp_path / "runs" / "pipeline.trec")) == 16
    alone = timeless(prove(collection, bm25, 1, split="dev"))["test_sets"]["dev"]
    beside = timeless(found)["test_sets"]["dev"]
    # Only the first set is looked at below the pipeline's depth.
    assert len(alone.pop("depth")["depths"]) > len(beside.pop("depth")["depths"])
    assert alone == beside


def test_a_split_named_twice_is_tested_once(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    found = prove(collection, bm25, 1, extra_splits=("test", "dev", "dev"))
    assert list(found["test_sets"]) == ["test", "dev"]
    assert [row["split"] for row in table(tmp_path)] == ["test"] * 16 + ["dev"] * 16


def test_below_the_pipelines_depth_a_sample_is_looked_at(prove: Prove, collection: Collection, bm25: Bm25) -> None:
    serve = ServeConfig(max_depth=60)
    found = prove(collection, bm25, 1, serve=serve, depth_queries=3, extra_splits=("dev",))
    curve = found["test_sets"]["test"]["depth"]
    assert (curve["queries"], curve["depths"]) == (3, [5, 10, 20, 30, 50, 60])
    assert len(curve["p95_ms"]) == 6
    assert curve["recommended"] == DEPTH
    shallow = found["test_sets"]["dev"]["depth"]
    assert (shallow["queries"], shallow["depths"]) == (16, [5, 10, 20])


def test_a_query_without_a_relevant_document_is_left_out(
    prove: Prove, judged_anew: Callable[..., Collection], bm25: Bm25, tmp_path: Path
) -> None:
    judged = judged_anew(test=[("q-bread-0", "bread-1", 0)], none=[("q-bread-0", "bread-1", 0)])
    assert len(judged.split("test")) == 17
    tested = prove(judged, bm25, 1)["test_sets"]["test"]
    assert tested["queries"] == 16
    assert any(note.startswith("1 judged quer") for note in tested["notes"])
    assert "q-bread-0" not in read_trec(tmp_path / "runs" / "pipeline.trec")
    refusal = r"split 'none' of collection 'beir' has no query with a relevant document \(1 quer"
    with pytest.raises(UserError, match=refusal):
        prove(judged, bm25, 1, split="none")


def test_a_missing_split_is_refused_with_those_there_are(prove: Prove, collection: Collection, bm25: Bm25) -> None:
    with pytest.raises(UserError, match=r"no split 'valid'; it has dev, test, train"):
        prove(collection, bm25, 1, split="valid")
    with pytest.raises(UserError, match=r"no split 'human'"):
        prove(collection, bm25, 1, extra_splits=("human",))


def test_queries_can_be_fewer(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    tested = prove(collection, bm25, 1, max_queries=5)["test_sets"]["test"]
    assert tested["queries"] == 5
    assert "5 of 16 queries were chosen (evaluate.max_queries, seed 13)" in tested["notes"]
    assert len(read_trec(tmp_path / "runs" / "first_stage.trec")) == 5


def test_one_query_shows_nothing(prove: Prove, collection: Collection, weak: Weak, tmp_path: Path) -> None:
    found = prove(collection, weak, -1, max_queries=1)
    tested = read(tmp_path)["test_sets"]["test"]
    row = comparison(tested, "pipeline")
    assert (row["queries"], row["low"], row["high"], row["sd"], row["detectable"]) == (1, None, None, None, None)
    assert tested["depth"]["decay"]["low"] is None
    assert "1 query shows very little: judge more" in tested["notes"]
    assert not found["verdict"]["passed"]
    assert "fewer than 10 show nothing" in found["verdict"]["sentence"]
    assert (tmp_path / "report.html").stat().st_size > 0


def test_every_interval_has_the_confidence_asked_for(
    prove: Prove, collection: Collection, bm25: Bm25, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of the decay from the best depth to the deepest."""
    reranker = Knowing(collection, tokenizer, 0)
    monkeypatch.setattr(reranker, "stream", lambda pairs: [(list(range(len(pairs))), Random(1).score(pairs))])
    wide, narrow = (
        prove(collection, bm25, 0, reranker=reranker, confidence=c)["test_sets"]["test"] for c in (0.99, 0.6)
    )
    for one, other in (
        (comparison(wide, "pipeline"), comparison(narrow, "pipeline")),
        (wide["depth"]["decay"], narrow["depth"]["decay"]),
    ):
        assert one["low"] < other["low"] < other["delta"] < other["high"] < one["high"]


# --- leaks


def test_queries_shared_with_train_are_counted_and_the_rest_is_scored_apart(
    prove: Prove, judged_anew: Callable[..., Collection], weak: Weak, tmp_path: Path
) -> None:
    """Four training queries are tested as well; a fifth test query has a relevant document in common with train."""
    shared = [f"q-{name}-0" for name in ("bread", "bicycle", "garden", "piano")]
    rows = [(query_id, query_id.removeprefix("q-"), 1) for query_id in shared]
    collection = judged_anew(test=[*rows, ("q-chess-3", "river-1", 1)])
    tested = prove(collection, weak, 1)["test_sets"]["test"]
    leakage = tested["leakage"]
    assert leakage["against"] == ["train", "dev"]
    assert leakage["counts"] == {"same_text": 4, "near_duplicate": 0, "document": 5, "any": 5}
    assert leakage["free_of"] == {"queries": 16, "documents": 15}
    assert [(e["kind"], e["query_id"], e["split"], e["other_id"]) for e in leakage["examples"]][:4] == [
        ("same_text", query_id, "train", query_id) for query_id in shared
    ]
    by_query = {row["query_id"]: row for row in table(tmp_path)}
    for name, excluded in (("free", {*shared, "q-chess-3"}), ("free_of_text", set(shared))):
        kept = [row for query_id, row in by_query.items() if query_id not in excluded]
        for system in ("first_stage", "pipeline"):
            expected = np.mean([float(row[f"{system} {MEASURE}"]) for row in kept])
            assert leakage[name][system] == pytest.approx(expected, abs=1e-6)
        assert leakage[name]["queries"] == len(kept)
    assert by_query["q-chess-3"]["leaks"] == "document:train:river-1"
    assert by_query["q-bread-0"]["leaks"] == "same_text:train:q-bread-0 document:train:bread-0"
    assert by_query["q-bread-3"]["leaks"] == ""


def test_synthetic_queries_give_away_what_they_share_with_a_test_set(
    prove: Prove, judged_anew: Callable[..., Collection], weak: Weak, tmp_path: Path
) -> None:
    """Four test queries are in the train split, but were not mined: a query made from a document was."""
    shared = [f"q-{name}-0" for name in ("bread", "bicycle", "garden", "piano")]
    collection = judged_anew(test=[(query_id, query_id.removeprefix("q-"), 1) for query_id in shared])
    made = SyntheticQuery("synthetic-1", collection.queries["q-bread-3"].upper(), "bread-3", "question", "tiny")
    roles = [("bread-3", POSITIVE), ("river-1", NEGATIVE)]
    candidates = tuple(Candidate(doc_id, 0, False, "bm25", 1, 1.0, role) for doc_id, role in roles)
    write_lists(tmp_path / "mined" / "train", [TrainingList("synthetic-1", candidates)])
    write_synthetic(tmp_path / "mined" / SYNTHETIC, [made])
    leakage = prove(collection, weak, 1, mined=tmp_path / "mined")["test_sets"]["test"]["leakage"]
    assert leakage["against"] == ["train", "dev"]
    assert leakage["counts"] == {"same_text": 1, "near_duplicate": 0, "document": 1, "any": 1}
    assert leakage["free_of"] == {"queries": 19, "documents": 19}
    assert (leakage["examples"][0]["other_id"], leakage["examples"][0]["other"]) == ("synthetic-1", made.text)


def test_the_users_slices_are_scored(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("q-bread-3 a remark\n\nq-river-7\nq-of-another-split\n")
    tested = prove(collection, bm25, 1, slices={"mine": str(tmp_path / "mine.txt")})["test_sets"]["test"]
    sizes = {row["value"]: row["queries"] for row in tested["slices"] if row["slice"] == "mine"}
    assert sizes == {"in it": 2, "not in it": 14}
    assert {row["query_id"] for row in table(tmp_path) if row["mine"] == "in it"} == {"q-bread-3", "q-river-7"}
    assert not [note for note in tested["notes"] if "slices" in note]
    whole = means(tested, "pipeline")[MEASURE]
    for name in {row["slice"] for row in tested["slices"]}:
        rows = [row for row in tested["slices"] if row["slice"] == name]
        assert sum(row["queries"] for row in rows) == 16
        assert sum(row["queries"] * row["pipeline"] for row in rows) / 16 == pytest.approx(whole)


def test_a_slice_that_names_no_query_is_told(prove: Prove, collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    (tmp_path / "typo.txt").write_text("q-bred-3\n")
    tested = prove(collection, bm25, 1, slices={"mine": str(tmp_path / "typo.txt")})["test_sets"]["test"]
    assert "mine" not in {row["slice"] for row in tested["slices"]}
    assert f"evaluate.slices: mine is left out, as {tmp_path / 'typo.txt'} names none of these" in tested["notes"]
