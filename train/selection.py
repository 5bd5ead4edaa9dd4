"""The choice of checkpoint: nDCG@10 on dev, from reranking the first stage's lists."""

from __future__ import annotations

from secondstage.collection import Collection
from secondstage.measures import evaluate, mean
from secondstage.pairmodel import PairModel
from secondstage.run import Run
from secondstage.splits import choose_queries

MEASURE = "nDCG@10"


class Selection:
    """Dev queries with their first-stage lists, and the best value so far."""

    def __init__(self, collection: Collection, run: Run, *, queries: int, depth: int, seed: int) -> None:
        """Keep up to `queries` of the run's queries, chosen by the seed, and `depth` candidates of each."""
        chosen = choose_queries(run, queries, seed)
        self.collection = collection
        self.run = Run(run.name, {query_id: run[query_id] for query_id in chosen}).top(depth)
        self.qrels = {query_id: collection.qrels["dev"][query_id] for query_id in chosen}
        self.best = -1.0

    def first_stage(self) -> float:
        """The value of the lists as they are."""
        return mean(evaluate(self.run, self.qrels, [MEASURE])[MEASURE])

    def value(self, reranker: PairModel) -> float:
        """The value of the lists as the reranker orders them."""
        reranked = reranker.rerank(self.run, self.collection.queries, self.collection.documents)
        return mean(evaluate(reranked, self.qrels, [MEASURE])[MEASURE])

    def is_best(self, value: float) -> bool:
        """Whether `value` is the best so far, which it then becomes; the later of two equal ones is."""
        if value < self.best:
            return False
        self.best = value
        return True
