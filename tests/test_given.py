"""A run made elsewhere as first stage: its lists, word for word, and what of it is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Collection, Documents
from secondstage.config import FirstStageConfig
from secondstage.errors import UserError
from secondstage.firststage import build, check_query, load, made_from, save, search_run
from secondstage.firststage.given import Given
from secondstage.serve.pipeline import Pipeline

AsDocuments = Callable[[Sequence[str]], Documents]
QUERIES = {"q1": "snow and ice", "q2": "rail", "q3": "never run"}


@pytest.fixture
def documents(as_documents: AsDocuments) -> Documents:
    return as_documents(["snow", "ice", "rail", "snow ice"])


def write(folder: Path, *lines: str, name: str = "lucene.trec") -> str:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_lists_are_those_of_the_file(documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "q1 Q0 d3 1 7.5 lucene", "q1 Q0 d0 2 3.25 lucene", "q2 Q0 d2 1 -1.5 lucene")
    given = Given.build([file], documents, QUERIES)
    assert capsys.readouterr().err == "  the run answers 2 of 3 queries\n"
    first, second, cut = *given.search(["snow and ice", "rail"], 10), given.search(["snow and ice"], 1)[0]
    assert (first.rows.tolist(), first.scores.tolist(), first.retrievers) == ([3, 0], [7.5, 3.25], ("lucene",) * 2)
    assert (second.rows.tolist(), second.scores.tolist(), second.retrievers) == ([2], [-1.5], ("lucene",))
    assert (cut.rows.tolist(), cut.scores.tolist(), cut.retrievers) == ([3], [7.5], ("lucene",))
    assert dict(given.parts()) == {"run": given}
    assert given.search([], 3) == []


def test_a_run_may_begin_with_a_byte_order_mark(documents: Documents, tmp_path: Path) -> None:
    path = tmp_path / "windows.trec"
    path.write_text("q1 Q0 d3 1 7.5 engine\nq1 Q0 d0 2 3.25 engine\n", encoding="utf-8-sig")
    (found,) = Given.build([str(path)], documents, QUERIES).search(["snow and ice"], 10)
    assert found.rows.tolist() == [3, 0]


def test_what_the_run_does_not_answer_is_empty_and_counted(
    documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Given.build([write(tmp_path, "q1 Q0 d3 1 7.5 lucene")], documents, QUERIES)
    capsys.readouterr()
    found = given.search(["snow and ice", "Rail", "snow  and ice"], 5)
    assert [len(hits.rows) for hits in found] == [1, 0, 0]
    assert "no list for 2 of 3 queries, 'Rail' first" in capsys.readouterr().err
    assert search_run(given, documents.ids, QUERIES, 5)["q3"].doc_ids == ()
    check_query(given, "snow and ice")
    with pytest.raises(UserError, match="has none for 'Rail': only the queries of the run can be searched"):
        check_query(given, "Rail")


def test_a_pipeline_refuses_what_the_run_does_not_answer(documents: Documents, tmp_path: Path) -> None:
    nothing: Any = None  # it is refused before anything is scored
    given = Given.build([write(tmp_path, "q1 Q0 d3 1 7.5 lucene")], documents, QUERIES)
    pipeline = Pipeline(given, nothing, documents, depth=5, weight=1.0)
    with pytest.raises(UserError, match="has none for 'never run'"):
        pipeline.search("never run")


def test_other_first_stages_answer_any_query(collection: Collection) -> None:
    check_query(build(FirstStageConfig(kind="bm25"), collection.documents), "anything")


def test_several_files_are_one_run(documents: Documents, tmp_path: Path) -> None:
    one = write(tmp_path, "q1 Q0 d3 1 7.5 a", name="one")
    two = write(tmp_path, "q2 Q0 d2 1 7.5 b", name="two")
    lists = Given.build([one, two], documents, QUERIES).search(["rail", "snow and ice"], 5)
    assert [(hits.rows.tolist(), hits.retrievers) for hits in lists] == [([2], ("b",)), ([3], ("a",))]
    with pytest.raises(UserError, match="query 'q2' has a list in another file"):
        Given.build([two, two], documents, QUERIES)


def test_documents_that_the_corpus_lacks_are_refused(documents: Documents, tmp_path: Path) -> None:
    file = write(tmp_path, "q1 Q0 d3 1 7.5 a", "q1 Q0 D3 2 7 a", "q2 Q0 d9 1 7 a")
    with pytest.raises(UserError, match=r"2 documents are not in the collection, 'D3' \(query 'q1'\) first"):
        Given.build([file], documents, QUERIES)


def test_queries_that_the_collection_lacks_are_counted(
    documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Given.build([write(tmp_path, "q1 Q0 d3 1 7 a", "x Q0 d3 1 7 a", "y Q0 d0 1 7 a")], documents, QUERIES)
    said = capsys.readouterr().err
    assert "answers 1 of 3 queries" in said
    assert "2 lists are of queries that the collection does not have" in said
    with pytest.raises(UserError, match="answers no query of the collection"):
        Given.build([write(tmp_path, "x Q0 d3 1 7 a")], documents, QUERIES)


@pytest.mark.parametrize(
    ("ranks", "scores", "contradict"),
    [
        ((1, 2, 3), (9, 8, 7), False),
        ((0, 1, 2), (9, 8, 7), False),
        ((10, 20, 30), (9, 8, 7), False),
        ((1, 2, 3), (7, 8, 9), True),  # a distance, where a score belongs
        ((1, 1, 2), (9, 8, 7), True),  # a rank twice
        ((1, 2, 3), (9, 9, 7), False),  # equal scores may stand in any order
        ((2, 1, 3), (9, 9, 7), False),
        ((2, 1, 3), (9, 9.5, 7), False),
        ((1, 3, 2), (9, 9, 9), False),
        (("-", "-", "-"), (9, 8, 7), True),
    ],
)
def test_ranks_that_contradict_scores_are_counted(
    documents: Documents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ranks: Sequence[object],
    scores: Sequence[float],
    contradict: bool,
) -> None:
    rows = zip(ranks, scores, strict=True)
    file = write(tmp_path, *(f"q1 Q0 d{i} {rank} {score} a" for i, (rank, score) in enumerate(rows)))
    (hits,) = Given.build([file], documents, QUERIES).search(["snow and ice"], 5)
    assert ("the ranks of 1 of 1 queries contradict their scores, 'q1' first" in capsys.readouterr().err) == contradict
    assert hits.rows.tolist() == sorted(range(3), key=lambda i: (-scores[i], -i))


def test_equal_texts_share_the_first_list(
    documents: Documents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "q1 Q0 d3 1 7 a", "q2 Q0 d0 1 7 a", "q3 Q0 d3 1 7 a")
    given = Given.build([file], documents, dict.fromkeys(QUERIES, "snow"))
    assert given.search(["snow"], 5)[0].rows.tolist() == [3]
    assert "  1 queries have the text of another query but another list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q1 Q0 d3 1 7.5", "line 1: not `query_id Q0 doc_id rank score name`"),
        ("q1 Q0 d3 1 nan a", "line 1: the score 'nan' is no finite number"),
    ],
)
def test_a_faulty_file_is_named(documents: Documents, tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Given.build([write(tmp_path, line)], documents, QUERIES)


def test_a_missing_file_is_named_before_any_work(documents: Documents, tmp_path: Path) -> None:
    config = FirstStageConfig(kind="run", run=(str(tmp_path / "none.trec"),))
    with pytest.raises(UserError, match=r"first_stage\.run: .*none\.trec is not there"):
        made_from(config)
    with pytest.raises(UserError, match=r"none\.trec cannot be read"):
        build(config, documents, queries=QUERIES)


def test_the_file_is_part_of_what_it_is_made_from(tmp_path: Path) -> None:
    config = FirstStageConfig(kind="run", run=(write(tmp_path, "q1 Q0 d3 1 7 a"),))
    before = made_from(config)
    os.utime(config.run[0], (0, 0))
    assert made_from(config) == before
    write(tmp_path, "q1 Q0 d2 1 7 a")
    assert made_from(config) != before


def test_another_engines_run_searches_as_the_engine_did(collection: Collection, tmp_path: Path) -> None:
    bm25 = build(FirstStageConfig(kind="bm25"), collection.documents)
    run = search_run(bm25, collection.documents.ids, collection.queries, 30, "lucene")
    run.write_trec(tmp_path / "lucene.trec")
    config = FirstStageConfig(kind="run", run=(str(tmp_path / "lucene.trec"),))
    folder = tmp_path / "first_stage"
    folder.mkdir()
    save(build(config, collection.documents, queries=collection.queries), config, folder)
    (tmp_path / "lucene.trec").unlink()
    given = load(folder)
    again = search_run(given, collection.documents.ids, collection.queries, 30)
    assert {query_id: ranking.doc_ids for query_id, ranking in again.items()} == {
        query_id: ranking.doc_ids for query_id, ranking in run.items()
    }
    assert all(np.array_equal(again[query_id].scores, ranking.scores) for query_id, ranking in run.items())
    assert {name for ranking in again.values() for name in ranking.retrievers} == {"lucene"}
