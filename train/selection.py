"""The choice of checkpoint: nDCG@10 on dev, from reranking the first stage's lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from secondstage.collection import Qrels
from secondstage.leakage import ENOUGH, Met, spare
from secondstage.measures import Values, evaluate, mean
from secondstage.parallel import ALONE, gather, shares, workers
from secondstage.run import Run
from secondstage.scoring import Scorer, rerank_pairs
from secondstage.significance import detectable, standard_error
from secondstage.splits import answerable, choose_queries
from secondstage.texts import PairTexts

MEASURE = "nDCG@10"
# Under which details of a training tell its value on dev.
DEV_VALUE = f"dev_{MEASURE}"
# Below so many queries, chance has a say in which checkpoint is best.
FEW = 100

Texts = Callable[[Sequence[tuple[str, str]]], list[tuple[str, str]]]
"""From (query id, document id) pairs to their texts."""


class Selection:
    """Dev queries with their first-stage lists, and what their evaluations found.

    Attributes:
        run: the lists, cut to what is reranked.
        qrels: of the queries that have a relevant document; a query without a list counts 0.
        stale: how many of them, in a row, were no better than the best before.
        best_values: per query, of the best evaluation; none before the first.
        left_out: dev queries that are not here because training gives them away.
        given_away: dev queries that are here although it does.
    """

    def __init__(self, run: Run, qrels: Qrels, texts: Texts, *, patience: int | None = None) -> None:
        """Take the queries of `qrels`; `patience` is the number of stale evaluations after which training may end."""
        self.qrels = answerable(qrels)
        self.run = run.only(self.qrels)
        self.texts, self.patience = texts, patience
        self.stale = self.left_out = self.given_away = 0
        # How many training gives away, by kind (see `leakage.count`), of those offered; empty where they are left out.
        self.overlap: dict[str, int] = {}
        self.offered = 0
        self.best_values: Values | None = None

    def __len__(self) -> int:
        """How many queries there are."""
        return len(self.qrels)

    @property
    def pairs(self) -> int:
        """How many pairs an evaluation scores."""
        return sum(len(ranking.doc_ids) for ranking in self.run.values())

    def values(self, scorer: Scorer, *, shared: bool = True) -> Values:
        """The value of each query's list as the scorer orders it: on every process the same, in the order of `qrels`.

        Args:
            scorer: with the same weights on every process.
            shared: each process scores its share of the queries. Otherwise each scores all, and the first one's values
                count: for models whose weights are spread over the processes, which must all take every forward pass.

        Raises:
            UserError: a score is not finite, or another process has failed.
        """
        team = workers() if shared else ALONE
        sizes = [len(self.run[query_id].doc_ids) if query_id in self.run else 0 for query_id in self.qrels]
        query_ids = list(self.qrels)
        own = {query_ids[i]: self.qrels[query_ids[i]] for i in shares(sizes, team.size)[team.rank]}
        part = self.run.only(own)
        reranked = rerank_pairs(scorer, part, self.texts(list(part.pairs()))) if len(part) else part
        found: Values = {}
        for values in reversed(gather(evaluate(reranked, own, [MEASURE])[MEASURE])):
            found.update(values)
        return {query_id: found[query_id] for query_id in self.qrels}

    def first_stage(self) -> Values:
        """The value of each list as it is."""
        return evaluate(self.run, self.qrels, [MEASURE])[MEASURE]

    def take(self, values: Values, *, last: bool = False) -> bool:
        """Note an evaluation. Returns whether it is the best so far: the later of two equal ones is.

        An equal one is kept, but does not renew the patience: a model that no longer changes anything is done. The last
        one is the best as long as it is not worse by more than the standard error of the difference: the learning rate
        has come to its end, and few dev queries, asked often, find some checkpoint better by chance.
        """
        value, best = mean(values), self.best
        self.stale = 0 if best is None or value > best else self.stale + 1
        # Where one query alone differs, the gap is its error: rounding must not decide.
        if best is not None and best - value > (self._error(values) + 1e-9 if last else 0.0):
            return False
        self.best_values = values
        return True

    def _error(self, values: Values) -> float:
        """The standard error of the mean difference of the best values and these."""
        return standard_error(np.array([best - values[q] for q, best in (self.best_values or {}).items()]))

    @property
    def best(self) -> float | None:
        """The best value so far; none before the first evaluation."""
        return None if self.best_values is None else mean(self.best_values)

    @property
    def exhausted(self) -> bool:
        """Whether the last `patience` evaluations were all no better than the best before."""
        return self.patience is not None and self.stale >= self.patience

    def detectable(self) -> float:
        """The smallest true difference that so many queries are likely to show; see `significance.detectable`.

        The standard deviation is that of the best evaluation's differences to the first stage. Before there is one, it
        is that of the first stage's values: the two are equal for systems as spread as each other with a correlation of
        one half.
        """
        spread = np.array([value - (self.best_values or {}).get(q, 0.0) for q, value in self.first_stage().items()])
        return detectable(float(spread.std(ddof=1)), len(spread)) if len(spread) > 1 else float("inf")

    def introduction(self) -> str:
        """What dev can show, in words."""
        least = self.detectable()
        known = least > 0 and isfinite(least)
        shown = f"differences from about {least:.2f} on show" if known else "what difference they show is not known"
        said = [f"  dev: {len(self)} queries, first stage {MEASURE} {mean(self.first_stage()):.4f}; {shown}"]
        if self.left_out:
            said.append(f"  {self.left_out} further dev queries are left out: training gives them away")
        if self.given_away:
            said.append(
                f"  training gives {self.given_away} dev queries away, but fewer than {ENOUGH} others are left: the "
                "values are too good"
            )
        if len(self) < FEW:
            said.append(
                f"  warning: with fewer than {FEW} dev queries, chance has a say in which checkpoint is best: label "
                "more, raise train.dev_queries if it is the limit, or let train.folds choose how long to train"
            )
        return "\n".join(said)

    def state(self) -> dict[str, Any]:
        """All that evaluations found, for JSON."""
        return {
            "stale": self.stale,
            "best_values": self.best_values,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.stale, self.best_values = state["stale"], state["best_values"]


def dev_selection(
    run: Run,
    qrels: Qrels,
    texts: PairTexts,
    met: Met,
    *,
    queries: int,
    depth: int,
    seed: int,
    patience: int | None = None,
) -> Selection:
    """Some of a run's queries, where there are enough those that training gives nothing away of.

    Args:
        run: the first stage's lists of the dev queries.
        qrels: of these.
        texts: of queries and documents.
        met: what training met.
        queries: how many at most, chosen by the seed.
        depth: candidates of each.
        seed: of the choice.
        patience: see `Selection`.
    """
    dev = answerable({query_id: qrels[query_id] for query_id in run})
    basis = spare(texts.queries, dev, met)
    chosen = {query_id: basis.qrels[query_id] for query_id in choose_queries(basis.qrels, queries, seed)}
    selection = Selection(run.top(depth), chosen, texts, patience=patience)
    selection.overlap, selection.offered = {} if basis.enough else basis.counts, len(dev)
    leaking = len(dev) - basis.free
    selection.left_out, selection.given_away = (leaking, 0) if basis.enough else (0, leaking)
    return selection
