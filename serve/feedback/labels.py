"""What was said, gathered by query: a judgement by a person counts more than any click, the latest more than others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from secondstage.collection import Qrels
from secondstage.duplicates import normalise

from .clicks import Preferred, evidence, preferred
from .events import CLICK, Events, Said

TRAIN = "train"
CLICKED = 1


class Known(NamedTuple):
    """What a collection has already.

    Attributes:
        queries: texts by query id.
        qrels: judgements by split.
    """

    queries: Mapping[str, str]
    qrels: Mapping[str, Qrels]


class Labels(NamedTuple):
    """What people said of one query.

    Attributes:
        query_id: that of the collection, where it has this query; else one made of its words.
        query: its text.
        judged: relevance by document id, by people, in the qrels or later.
        clicks: what the clicks come to beside that.
    """

    query_id: str
    query: str
    judged: dict[str, int]
    clicks: Preferred

    @property
    def relevance(self) -> dict[str, int]:
        """Relevance by document id, for the qrels. What was passed over for another is not thereby irrelevant."""
        return {**self.judged, **dict.fromkeys(sorted(self.clicks.positives), CLICKED)}


def gather(
    events: Events, known: Known, doc_ids: Container[str], *, least: int = 1
) -> tuple[list[Labels], Counter[str]]:
    """Put together what was said of each query.

    Queries are the same if their words are. Those that a split other than train asks are left out: training on them
    would give it away. So are documents that are no longer there.

    Args:
        events: what was read.
        known: the collection that is added to; empty for none.
        doc_ids: of the corpus.
        least: times that a preference must have been seen more often than its opposite.

    Returns:
        The labels of each query, those first that were asked first; and what was left out, by reason.
    """
    counts: Counter[str] = Counter()
    held_out = {_key(known.queries[q]) for split, qrels in known.qrels.items() if split != TRAIN for q in qrels}
    train = {_key(known.queries[query_id]): query_id for query_id in known.qrels.get(TRAIN, {})}
    by_query: dict[str, list[Said]] = {}
    for said in events.said:
        counts[f"{said.kind}s"] += 1
        key = _key(said.query)
        if key in held_out:
            counts["held_out"] += 1
        elif said.doc_id not in doc_ids:
            counts["no_document"] += 1
        else:
            by_query.setdefault(key, []).append(said)
    found = []
    for key, several in by_query.items():
        query_id = train.get(key) or new_id(key)
        earlier = known.qrels.get(TRAIN, {}).get(query_id, {})
        text = known.queries[query_id] if key in train else several[-1].query
        labels = _labels(query_id, text, several, earlier, events.shown, least, counts)
        if labels.judged != earlier or labels.clicks.positives:
            found.append(labels)
        else:
            counts["queries_without_news"] += 1
    return found, counts


def _labels(
    query_id: str,
    text: str,
    several: Sequence[Said],
    earlier: Mapping[str, int],
    shown: Mapping[str, Sequence[str]],
    least: int,
    counts: Counter[str],
) -> Labels:
    judged, clicked = dict(earlier), dict[str, set[str]]()
    for said in several:
        if said.kind != CLICK:
            counts["judgements_replaced"] += judged.get(said.doc_id, said.relevance) != said.relevance
            judged[said.doc_id] = said.relevance
        elif said.search_id is not None and said.search_id in shown:
            clicked.setdefault(said.search_id, set()).add(said.doc_id)
        else:
            counts["clicks_without_list"] += 1
    clicks = preferred(evidence(shown, clicked), judged=judged, least=least)
    counts["clicked_positives"] += len(clicks.positives)
    counts["skipped_negatives"] += len(clicks.negatives)
    counts["undecided"] += len(clicks.undecided)
    return Labels(query_id, text, judged, clicks)


def new_id(key: str) -> str:
    """An id that is the same whenever the same words are asked."""
    return f"feedback-{blake2b(key.encode(), digest_size=8).hexdigest()}"


def _key(query: str) -> str:
    """The words of a query; of one without a word, its signs."""
    return normalise(query) or " ".join(query.split())
