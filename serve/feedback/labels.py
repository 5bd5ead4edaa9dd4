"""What was said, gathered by query: a judgement by a person counts more than any click, the latest more than others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence, Set
from hashlib import blake2b
from typing import NamedTuple

from secondstage.collection import Qrels
from secondstage.duplicates import normalise, question_key

from .clicks import Preferred, evidence, preferred
from .events import CLICK, Events, Said

TRAIN = "train"
CLICKED = 1


class Known(NamedTuple):
    """What a collection has already.

    Attributes:
        queries: texts by query id.
        qrels: judgements by split, of documents that there are.
        clicked: those of them, by query id, that are no person's: earlier feedback made them of clicks.
    """

    queries: Mapping[str, str]
    qrels: Mapping[str, Qrels]
    clicked: Mapping[str, Set[str]] = {}


class Labels(NamedTuple):
    """What people said of one query.

    Attributes:
        query_id: that of the collection, where it has this query; else one made of its words.
        query: its text.
        judged: relevance by document id, by people, in the qrels or later.
        clicks: what the clicks come to beside that; what earlier ones came to as well, where these say nothing of it.
    """

    query_id: str
    query: str
    judged: dict[str, int]
    clicks: Preferred = Preferred()

    @property
    def relevance(self) -> dict[str, int]:
        """Relevance by document id, for the qrels. What was passed over for another is not thereby irrelevant."""
        return {**self.judged, **dict.fromkeys(sorted(self.clicks.positives), CLICKED)}


def gather(
    events: Events, known: Known, doc_ids: Container[str], *, least: int = 1
) -> tuple[list[Labels], Counter[str]]:
    """Put together what was said of each query.

    Queries are the same if they ask the same (`question_key`). Those with the words of a query of another split than
    train are left out, whatever their signs: training on them would give it away. So are documents that are no longer
    there. What earlier clicks came to stays until later ones or a person say otherwise.

    Args:
        events: what was read.
        known: the collection that is added to; empty for none.
        doc_ids: of the corpus.
        least: times that a preference must have been seen more often than its opposite.

    Returns:
        The labels of each query, those first that were asked first; and what was left out, by reason.
    """
    counts: Counter[str] = Counter()
    held_out = {words(known.queries[q]) for split, qrels in known.qrels.items() if split != TRAIN for q in qrels}
    train = {question_key(known.queries[query_id]): query_id for query_id in known.qrels.get(TRAIN, {})}
    shown = {search_id: [each for each in ids if each in doc_ids] for search_id, ids in events.shown.items()}
    by_query: dict[str, list[Said]] = {}
    for said in events.said:
        counts[f"{said.kind}s"] += 1
        key = question_key(said.query)
        if words(said.query) in held_out:
            counts["held_out"] += 1
        elif said.doc_id not in doc_ids:
            counts["no_document"] += 1
        else:
            by_query.setdefault(key, []).append(said)
    found = []
    for key, several in by_query.items():
        query_id = train.get(key) or new_id(key, known.queries)
        earlier = known.qrels.get(TRAIN, {}).get(query_id, {})
        clicked = earlier.keys() & known.clicked.get(query_id, frozenset())
        people = {doc_id: relevance for doc_id, relevance in earlier.items() if doc_id not in clicked}
        text = known.queries[query_id] if key in train else several[-1].query
        before = Labels(query_id, text, people, Preferred(frozenset(clicked)))
        labels = _labels(before, several, shown, least, counts)
        # What was passed over is in no qrels: it is news to training each time.
        if labels.relevance != earlier or labels.clicks.negatives:
            found.append(labels)
        else:
            counts["queries_without_news"] += 1
    return found, counts


def _labels(
    before: Labels, several: Sequence[Said], shown: Mapping[str, Sequence[str]], least: int, counts: Counter[str]
) -> Labels:
    judged, clicked = dict(before.judged), dict[str, set[str]]()
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
    # What earlier clicks came to, and nobody has said anything of since.
    kept = before.clicks.positives - judged.keys() - clicks.negatives - clicks.undecided
    return before._replace(judged=judged, clicks=clicks._replace(positives=clicks.positives | kept))


def new_id(key: str, queries: Mapping[str, str]) -> str:
    """An id that is the same whenever the same is asked, and none of a query that asks something else."""
    found = f"feedback-{blake2b(key.encode(), digest_size=8).hexdigest()}"
    taken = found in queries and question_key(queries[found]) != key.strip()
    return new_id(f"{key} ", queries) if taken else found


def words(query: str) -> str:
    """The words of a query; of one without a word, its signs."""
    return normalise(query) or question_key(query)
