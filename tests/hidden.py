"""Lists without any relevant document, as a search that hides them would give: what is left of given lists."""

from __future__ import annotations

from secondstage.collection import Qrels
from secondstage.run import Run, rank
from secondstage.serve.choices import Barren


def without_answers(first: Run, reranked: Run, qrels: Qrels) -> Barren:
    """Both stages' lists with the relevant documents taken out; their scores stay as they are."""
    left = {
        query_id: [doc_id for doc_id in ranking.doc_ids if qrels.get(query_id, {}).get(doc_id, 0) <= 0]
        for query_id, ranking in first.items()
    }

    def of(run: Run) -> Run:
        kept = {query_id: run[query_id].scores_of(doc_ids) for query_id, doc_ids in left.items()}
        return Run(run.name, {q: rank(left[q], kept[q], ["bm25"] * len(left[q])) for q in left})

    return Barren(of(first), of(reranked))
