"""A first stage that already ran elsewhere: the lists of a TREC run, made by Lucene, OpenSearch, Vespa or anyone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..collection import Documents
from ..errors import UserError
from ..progress import say
from ..run import Ranking, Run, read_trec, trec_columns
from . import FirstStage, Hits

NOTHING = Hits(np.empty(0, np.int64), np.empty(0, np.float32), ())


class Given:
    """The lists of a run by the text of their query: no other query can be answered."""

    def __init__(self, lists: Mapping[str, Hits]) -> None:
        self._lists = dict(lists)

    @classmethod
    def build(cls, files: Iterable[str], documents: Documents, queries: Mapping[str, str]) -> Given:
        """Read the runs, and say what of them is left out or was mended.

        The order is that of the scores, as trec_eval has it: where ranks contradict it, they are counted.

        Args:
            files: TREC runs; no query is in two of them.
            documents: the corpus that was searched.
            queries: text by query id.

        Raises:
            UserError: a file is missing or faulty, names a document that is not in the corpus, or answers a query
                that another file answers, or none of the collection.
        """
        rows = {doc_id: row for row, doc_id in enumerate(documents.ids)}
        found: dict[str, Ranking] = {}
        for name in files:
            path = Path(name).expanduser()
            run = _read(path)
            if twice := found.keys() & run.keys():
                raise UserError(f"{path}: query {min(twice)!r} has a list in another file of first_stage.run as well")
            _check_documents(path, run, rows)
            _say_contradictions(path, run)
            found |= run
        return cls(_by_text(found, queries, rows))

    @classmethod
    def load(cls, folder: Path) -> Given:
        """Open what `save` wrote."""
        import pyarrow as pa

        columns = pa.ipc.open_file(str(folder / "run.arrow")).read_all()
        lists = {}
        for text, rows, scores, retrievers in zip(*(column.to_pylist() for column in columns.columns), strict=True):
            lists[text] = Hits(np.array(rows, np.int64), np.array(scores, np.float32), tuple(retrievers))
        return cls(lists)

    def save(self, folder: Path) -> None:
        """Write the lists below `folder`."""
        import pyarrow as pa

        table = pa.table(
            {
                "text": pa.array(list(self._lists), pa.large_string()),
                "rows": pa.array([hits.rows for hits in self._lists.values()], pa.large_list(pa.int64())),
                "scores": pa.array([hits.scores for hits in self._lists.values()], pa.large_list(pa.float32())),
                "retrievers": pa.array(
                    [list(hits.retrievers) for hits in self._lists.values()], pa.large_list(pa.string())
                ),
            }
        )
        with pa.OSFile(str(folder / "run.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"run": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The lists of these queries, by their exact text; none for a query that the run does not answer."""
        unknown = [query for query in queries if not self.answers(query)]
        if unknown:
            say(f"  the run has no list for {len(unknown)} of {len(queries)} queries, {unknown[0]!r} first")
        hits = (self._lists.get(query, NOTHING) for query in queries)
        return [Hits(rows[:depth], scores[:depth], names[:depth]) for rows, scores, names in hits]

    def answers(self, query: str) -> bool:
        """Whether the run has a list for this query."""
        return query in self._lists

    def check(self, query: str) -> None:
        """Raise `UserError` if the run has no list for this query."""
        if not self.answers(query):
            raise UserError(
                f"the first stage is a run, a file of lists, and has none for {query!r}: only the queries of the run "
                "can be searched, word for word; for others choose a first_stage.kind that has an index"
            )


def _read(path: Path) -> Run:
    try:
        return read_trec(path)
    except OSError as error:
        raise UserError(f"first_stage.run: {path} cannot be read: {error.strerror or error}") from None


def _check_documents(path: Path, run: Run, rows: Mapping[str, int]) -> None:
    unknown = [(query_id, doc_id) for query_id, doc_id in run.pairs() if doc_id not in rows]
    if unknown:
        query_id, doc_id = unknown[0]
        raise UserError(
            f"{path}: {len(unknown)} documents are not in the collection, {doc_id!r} (query {query_id!r}) first: the "
            "run must have searched this very corpus, under the same ids"
        )


def _say_contradictions(path: Path, run: Run) -> None:
    """Count the queries whose column of ranks orders the documents otherwise than their scores, or has one twice."""
    ranks = _ranks(path)
    faulty = [query_id for query_id in run if not _agree(run[query_id], ranks[query_id])]
    if faulty:
        say(
            f"  {path}: the ranks of {len(faulty)} of {len(run)} queries contradict their scores, {faulty[0]!r} first: "
            "the scores decide, the highest first, as in trec_eval"
        )


def _ranks(path: Path) -> dict[str, dict[str, float]]:
    """The column of ranks, by query id and document id; what is no number is no rank."""
    ranks: dict[str, dict[str, float]] = {}
    for _, (query_id, _, doc_id, rank, *_) in trec_columns(path):
        ranks.setdefault(query_id, {})[doc_id] = float(rank) if rank.isdecimal() else float("nan")
    return ranks


def _agree(ranking: Ranking, ranks: Mapping[str, float]) -> bool:
    """Whether the ranks rise where the scores fall; equal scores, lowered by the smallest step, may stand anyhow."""
    places = [ranks[doc_id] for doc_id in ranking.doc_ids]
    next_down = np.nextafter(ranking.scores, np.float32(-np.inf))
    equal = [bool(low == score) for low, score in zip(next_down, ranking.scores[1:], strict=False)]
    falls = [tied or before < after for tied, before, after in zip(equal, places, places[1:], strict=False)]
    return len(set(places)) == len(places) and all(falls)


def _by_text(found: Mapping[str, Ranking], queries: Mapping[str, str], rows: Mapping[str, int]) -> dict[str, Hits]:
    lists: dict[str, Hits] = {}
    others = 0
    for query_id, ranking in found.items():
        text = queries.get(query_id)
        if text is None:
            continue
        hits = Hits(
            np.array([rows[doc_id] for doc_id in ranking.doc_ids], np.int64), ranking.scores, ranking.retrievers
        )
        first = lists.setdefault(text, hits)
        others += not np.array_equal(first.rows, hits.rows)
    known = sum(query_id in queries for query_id in found)
    if not known:
        raise UserError("first_stage.run answers no query of the collection: are these its query ids?")
    say(f"  the run answers {known} of {len(queries)} queries")
    if known < len(found):
        say(f"  {len(found) - known} lists are of queries that the collection does not have: left out")
    if others:
        say(f"  {others} queries have the text of another query but another list: the first list stands for all")
    return lists
