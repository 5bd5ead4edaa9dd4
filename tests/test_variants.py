"""The same pipeline in other forms: what copies of its reranker lose, and how trainings with other seeds vary."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.files import write_manifest
from secondstage.firststage.bm25 import Bm25
from secondstage.measures import Values, evaluate, mean
from secondstage.reranker import Reranker
from secondstage.run import Run, Scores
from secondstage.serve import Pipeline
from secondstage.serve.cascade import Runs, Stage
from secondstage.serve.fuse import fuse
from secondstage.serve.proof import variants
from secondstage.serve.proof.queries import QuerySet, query_set
from secondstage.serve.proof.variants import exports, replicates
from secondstage.significance import compare

MEASURE = "nDCG@10"
STATISTICS: dict[str, Any] = {"resamples": 200, "seed": 13}


class Known(Reranker):
    """Scores a document by how many of the query's words it begins with, times `sign`: relevant ones begin with one."""

    def __init__(self, sign: float) -> None:
        super().__init__(None, None, max_length=64, origin=(f"known {sign}", "fp32"))
        self.sign = sign

    def stream(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        firsts = [document.partition("\n")[2].split()[0] for _, document in pairs]
        hits = [first in query.split() for first, (query, _) in zip(firsts, pairs, strict=True)]
        yield list(range(len(pairs))), np.array([self.sign * hit for hit in hits], np.float32)


class Hindmost:
    """Scores a document by its row in the corpus."""

    def __init__(self, documents: Documents) -> None:
        self.rows = {document.content: row for row, document in enumerate(documents)}

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return np.array([self.rows[document] for _, document in pairs], np.float32)


@pytest.fixture(scope="module")
def tested(collection: Collection) -> QuerySet:
    return query_set(collection, "test", None, 13)


@pytest.fixture(scope="module")
def pipeline(run_folder: Path) -> Pipeline:
    """The trained reranker alone decides, so that no export is hidden by a weight of 0."""
    loaded = Pipeline.load(run_folder / "bundle")
    return Pipeline(loaded.first_stage, loaded.reranker, loaded.documents, depth=20, weight=1.0)


@pytest.fixture(scope="module")
def runs(pipeline: Pipeline, tested: QuerySet) -> Runs:
    return pipeline.rank(tested.queries)


@pytest.fixture(scope="module")
def known(collection: Collection) -> Pipeline:
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    return Pipeline(bm25, Known(1.0), collection.documents, depth=20, weight=1.0)


def values(run: Run, tested: QuerySet) -> Values:
    return evaluate(run, tested.qrels, [MEASURE])[MEASURE]


# --- exports


def test_without_exports_nothing_is_found(pipeline: Pipeline, tested: QuerySet, runs: Runs, tmp_path: Path) -> None:
    assert exports(pipeline, tested, runs, {}, tmp_path, **STATISTICS) == {}


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_an_identical_copy_loses_exactly_nothing(
    pipeline: Pipeline, tested: QuerySet, run_folder: Path, tmp_path: Path, weight: float
) -> None:
    fused = Pipeline(pipeline.first_stage, pipeline.reranker, pipeline.documents, depth=20, weight=weight)
    shutil.copytree(run_folder / "bundle" / "reranker", tmp_path / "copy")
    folders = {"copy": str(tmp_path / "copy")}
    found = exports(fused, tested, fused.rank(tested.queries), folders, tmp_path / "scores", **STATISTICS)
    assert found == {"copy": {"order": "pipeline", "queries": 16, "delta": 0, "low": 0, "high": 0}}
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_a_broken_copy_is_compared_query_by_query(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, run_folder: Path, tmp_path: Path
) -> None:
    """A copy whose head was lost has another one, drawn at random."""
    broken = Reranker.load(run_folder / "bundle" / "reranker", precision="fp32")
    torch.manual_seed(4)
    torch.nn.init.normal_(broken.model.classifier.weight)
    broken.save(tmp_path / "broken")
    found = exports(pipeline, tested, runs, {"broken": str(tmp_path / "broken")}, tmp_path, **STATISTICS)["broken"]
    reranked = broken.rerank(runs.first_stage, tested.queries, pipeline.documents)
    assert found["order"] == "pipeline"  # its weight is 1
    expected = compare(values(reranked, tested), values(runs.pipeline, tested), **STATISTICS)
    assert found["queries"] == 16
    assert found["delta"] == pytest.approx(expected.delta) != 0
    assert (found["low"], found["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_what_a_broken_copy_loses(
    known: Pipeline, tested: QuerySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a reranker that is right, one that gives it the other sign, and one that gives no score at all."""
    signs = {"same": 2.0, "constant": 0.0, "reversed": -1.0}
    monkeypatch.setattr(variants, "open_reranker", lambda pipeline, folder: Known(signs[folder]))
    found = exports(known, tested, known.rank(tested.queries), {name: name for name in signs}, tmp_path, **STATISTICS)
    assert list(found) == list(signs)
    assert found["same"]["delta"] == 0
    assert found["reversed"]["delta"] < found["constant"]["delta"] <= 0
    assert found["reversed"]["high"] < 0


def test_a_small_weight_hides_no_broken_copy(
    known: Pipeline, tested: QuerySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline shows nothing of it: another engine, which orders by the reranker alone, does."""
    monkeypatch.setattr(variants, "open_reranker", lambda pipeline, folder: Known(-1.0))
    known.weight = 0.0
    found = exports(known, tested, known.rank(tested.queries), {"copy": "reversed"}, tmp_path, **STATISTICS)["copy"]
    assert (found["order"], found["high"] < 0) == ("reranked", True)


def test_an_export_of_one_query_has_no_interval(
    pipeline: Pipeline, collection: Collection, run_folder: Path, tmp_path: Path
) -> None:
    tested = query_set(collection, "test", 1, 13)
    folders = {"copy": str(run_folder / "bundle" / "reranker")}
    found = exports(pipeline, tested, pipeline.rank(tested.queries), folders, tmp_path, **STATISTICS)
    assert found == {"copy": {"order": "pipeline", "queries": 1, "delta": 0, "low": None, "high": None}}


def test_an_export_that_is_not_there_is_refused(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="nowhere"):
        exports(pipeline, tested, runs, {"int8": str(tmp_path / "nowhere")}, tmp_path, **STATISTICS)


def exported(weights: Path, graph: Path | None, to: str, folder: Path) -> str:
    """An export by hand: weights, perhaps with a graph beside them that need not be theirs."""
    shutil.copytree(weights, folder)
    if graph:
        shutil.copytree(graph, folder / to.removesuffix("-int8"), ignore=shutil.ignore_patterns("engine.json"))
    write_manifest(folder, "export", to=to, parity=None)
    return str(folder)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_of_an_export_to_an_engine_its_graph_is_scored(
    engine: str, known: Pipeline, tested: QuerySet, apart_model: Path, run_folder: Path, made_graphs: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Beside the graph lie weights: here other ones, which must not stand in for it."""
    apart = Reranker.load(apart_model, precision="fp32")
    pipeline = Pipeline(known.first_stage, apart, known.documents, depth=20, weight=1.0)
    runs = pipeline.rank(tested.queries)
    weights = run_folder / "bundle" / "reranker"
    folders = {
        "graph": exported(weights, made_graphs / engine, engine, tmp_path / "a"),
        "weights": exported(weights, None, "safetensors", tmp_path / "b"),
        "engine": str(made_graphs / engine),
    }
    found = exports(pipeline, tested, runs, folders, tmp_path / "scores", **STATISTICS)
    assert found["graph"]["delta"] == pytest.approx(0, abs=1e-6)
    assert found["engine"]["delta"] == pytest.approx(0, abs=1e-6)
    assert abs(found["weights"]["delta"]) > 1e-3


def test_an_export_that_cannot_be_scored_is_refused(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, run_folder: Path, made_graphs: Path, tmp_path: Path
) -> None:
    weights = run_folder / "bundle" / "reranker"
    broken = exported(weights, made_graphs / "onnx", "onnx", tmp_path / "broken")
    (tmp_path / "broken" / "onnx" / "model.onnx").write_bytes(b"garbage")
    cases = [
        (broken, "cannot be opened by onnxruntime"),
        (exported(weights, None, "vespa", tmp_path / "vespa"), "is an export to vespa, which only that engine opens"),
        (exported(weights, None, "onnx", tmp_path / "empty"), "model.onnx is missing"),
        (str(made_graphs / "onnx"), "was made from other weights"),
    ]
    for folder, words in cases:
        with pytest.raises(UserError, match=words):
            exports(pipeline, tested, runs, {"copy": folder}, tmp_path / "scores", **STATISTICS)


# --- replicates


def test_without_replicates_nothing_is_told(pipeline: Pipeline, tested: QuerySet, runs: Runs, tmp_path: Path) -> None:
    assert replicates(pipeline, tested, runs, (), tmp_path) is None


def test_mean_and_deviation_by_arithmetic(
    known: Pipeline, tested: QuerySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each training has its own reranker, weight and depth; all order the lists of this pipeline."""
    others = {
        name: Pipeline(known.first_stage, Known(sign), known.documents, depth=depth, weight=weight)
        for name, sign, weight, depth in (("a", -1.0, 1.0, 20), ("b", 1.0, 0.3, 20), ("c", -1.0, 1.0, 2))
    }
    monkeypatch.setattr(Pipeline, "load", lambda bundle: others[str(bundle)])
    runs = known.rank(tested.queries)
    found = replicates(known, tested, runs, ("a", "b", "c"), tmp_path)
    assert found is not None
    first = mean(values(runs.first_stage, tested))
    means = [mean(values(runs.pipeline, tested))]
    for other in others.values():
        reranked = other.reranker.rerank(runs.first_stage, tested.queries, known.documents)
        means.append(mean(values(fuse(runs.first_stage, reranked, other.weight, other.depth), tested)))
    assert len({round(value, 6) for value in (means[0], means[1], means[3])}) == 3
    assert found == {
        "count": 4,
        "mean": pytest.approx(fmean(means)),
        "sd": pytest.approx(stdev(means)),
        "min": pytest.approx(min(means)),
        "max": pytest.approx(max(means)),
        "gains": [pytest.approx(value - first, abs=1e-12) for value in means],
    }


def test_the_same_bundle_again_varies_by_nothing(
    tested: QuerySet, run_folder: Path, tmp_path: Path, collection: Collection
) -> None:
    pipeline = Pipeline.load(run_folder / "bundle")
    runs = pipeline.rank(tested.queries)
    found = replicates(pipeline, tested, runs, (str(run_folder / "bundle"),), tmp_path)
    assert found is not None
    own = mean(values(runs.pipeline, tested))
    gain = own - mean(values(runs.first_stage, tested))
    assert (found["count"], found["sd"], found["min"], found["max"]) == (2, 0, own, own)
    assert found["gains"] == [gain, gain]


def test_a_cascade_again_varies_by_nothing(
    known: Pipeline, tested: QuerySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the reranker before it, the last is given other documents."""
    stage = Stage(Hindmost(known.documents), 20)
    cascade = Pipeline(known.first_stage, Known(1.0), known.documents, depth=4, weight=1.0, cascade=[stage])
    monkeypatch.setattr(Pipeline, "load", lambda bundle: cascade)
    runs = cascade.rank(tested.queries)
    single = Pipeline(known.first_stage, Known(1.0), known.documents, depth=4, weight=1.0)
    own = mean(values(runs.pipeline, tested))
    assert own != pytest.approx(mean(values(single.rerank(runs.first_stage, tested.queries).pipeline, tested)))
    found = replicates(cascade, tested, runs, ("again",), tmp_path)
    assert found is not None
    assert (found["count"], found["sd"], found["min"], found["max"]) == (2, 0, own, own)


def test_a_bundle_over_other_documents_is_refused(
    known: Pipeline,
    tested: QuerySet,
    as_documents: Callable[[Sequence[str]], Documents],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = Pipeline(known.first_stage, Known(1.0), as_documents(["other"]), depth=20, weight=1.0)
    monkeypatch.setattr(Pipeline, "load", lambda bundle: stranger)
    runs = known.rank(tested.queries)
    missing = len({doc_id for _, doc_id in runs.first_stage.pairs()})
    with pytest.raises(UserError, match=rf"^evaluate.replicates: other/bundle lacks {missing} of the documents"):
        replicates(known, tested, runs, ("other/bundle",), tmp_path)


def test_a_folder_that_is_no_bundle_is_refused(
    pipeline: Pipeline, tested: QuerySet, runs: Runs, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not a bundle"):
        replicates(pipeline, tested, runs, (str(run_folder / "train"),), tmp_path)
