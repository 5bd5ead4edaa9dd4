"""The lists that exports are compared on, and the pairs that calibrate."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.firststage.given import Given
from secondstage.serve import Pipeline
from secondstage.serve.export.rankedlists import calibration_pairs, lists_of


@pytest.fixture(scope="module")
def pipeline(run_folder: Path) -> Pipeline:
    return Pipeline.load(run_folder / "bundle")


def test_lists_are_of_dev_else_of_test(pipeline: Pipeline, run_folder: Path) -> None:
    collection = Collection.load(run_folder / "collection")
    found = lists_of(pipeline, collection, 7, pipeline.depth)
    assert found.basis == "dev"
    assert len(found.first) == len(found.qrels) == 7
    assert set(found.qrels) <= set(collection.qrels["dev"])
    query_id, doc_id = next(iter(found.first.pairs()))
    assert found.pairs[0] == (collection.queries[query_id], pipeline.documents.by_id(doc_id).content)
    assert len(found.pairs) == sum(len(ranking.doc_ids) for ranking in found.first.values())
    del collection.qrels["dev"]
    assert lists_of(pipeline, collection, 7, pipeline.depth).basis == "test"


def test_without_a_collection_documents_ask_by_their_titles(pipeline: Pipeline) -> None:
    found = lists_of(pipeline, None, 8, pipeline.depth)
    assert (found.basis, found.qrels, len(found.first)) == ("documents", {}, 8)
    assert set(found.queries.values()) <= {document.title for document in pipeline.documents}


def test_calibration_spares_the_queries_that_are_measured(pipeline: Pipeline, run_folder: Path) -> None:
    collection = Collection.load(run_folder / "collection")
    measured = lists_of(pipeline, collection, 7, pipeline.depth)
    pairs = calibration_pairs(pipeline, collection, measured)
    train = {collection.queries[query_id] for query_id in collection.qrels["train"]}
    assert {query for query, _ in pairs} == train
    assert len(pairs) <= 3 * len(train)
    del collection.qrels["train"]
    asked = {query for query, _ in calibration_pairs(pipeline, collection, measured)}
    assert asked
    assert not asked & set(measured.queries.values())
    assert calibration_pairs(pipeline, None, lists_of(pipeline, None, 8, pipeline.depth))


def test_a_run_is_calibrated_on_its_own_queries_where_there_are_no_others(pipeline: Pipeline, run_folder: Path) -> None:
    """It has no list for the title of a document."""
    collection = Collection.load(run_folder / "collection")
    del collection.qrels["dev"], collection.qrels["train"]
    measured = lists_of(pipeline, collection, 7, pipeline.depth)
    known = set(measured.queries.values())
    hits = dict(zip(known, pipeline.first_stage.search(list(known), 9), strict=True))
    run = Pipeline(Given(hits), pipeline.reranker, pipeline.documents, depth=5, weight=1.0)
    assert {query for query, _ in calibration_pairs(run, collection, measured)} == known


def test_the_collection_of_another_bundle_is_refused(pipeline: Pipeline, run_folder: Path) -> None:
    collection = Collection.load(run_folder / "collection")
    collection.qrels = {"dev": {"q-bread-2": {"not-here": 1}}}
    with pytest.raises(UserError, match="judges no document of this bundle"):
        lists_of(pipeline, collection, 7, pipeline.depth)
