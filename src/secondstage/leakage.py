"""Leakage: test queries that a system has met in training, by their text or by their relevant documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from .collection import Collection, Qrels
from .duplicates import near_duplicates, normalise
from .lists import POSITIVE, TrainingList, has_labels, has_teacher, read_lists
from .synthetic import SYNTHETIC, read_synthetic
from .unlabelled import read_unlabelled

# Choices are made on the queries that training gives nothing away of, where so many are left: fewer show too little.
ENOUGH = 30

Kind = Literal["same_text", "near_duplicate", "document"]
Level = Literal["queries", "documents"]


class Leak(NamedTuple):
    """One test query that another split gives away.

    Attributes:
        query_id: the test query.
        kind: "same_text", "near_duplicate", or "document" if the two share a relevant document.
        split: where the other is, e.g. "train".
        other_id: the other query, or the shared document.
        similarity: of the two texts; 1 for "same_text" and "document".
    """

    query_id: str
    kind: Kind
    split: str
    other_id: str
    similarity: float


class Met(NamedTuple):
    """What training met.

    Attributes:
        queries: the texts of its queries by id, also of those that were made from documents, and of unlabelled ones.
        qrels: their positives, also those that a rule or a review made; an unlabelled query has none.
    """

    queries: dict[str, str]
    qrels: Qrels


def met_in_training(collection: Collection, mined: Path | None, *, trained: bool, warmed: Path | None = None) -> Met:
    """What a training met: nothing if there was none (`trained` is false), else what was mined for it.

    The lists of a warm-up (`warmed`) add their queries: who asks with nearly the words of a title that was learnt is
    given away. Their documents give nothing away: nobody said whom they answer.

    Where the folder of the mine stage is not known, it is the train split, the best guess: queries that were made from
    documents or positives that were relabelled are not in it, queries that mining left out are.
    """
    if not trained:
        met = Met({}, {})
    elif mined is not None:
        met = trained_on(mined, collection.queries)
    else:
        qrels = collection.qrels.get("train", {})
        met = Met({query_id: collection.queries[query_id] for query_id in qrels}, qrels)
    return met if warmed is None else with_warmup(met, warmed)


def with_warmup(met: Met, warmed: Path) -> Met:
    """The same, and the queries of the lists of a warm-up."""
    titles = trained_on(warmed, {}).queries
    return Met({**titles, **met.queries}, {**{query_id: {} for query_id in titles}, **met.qrels})


def trained_on(mined: Path, queries: Mapping[str, str]) -> Met:
    """The queries and positives of every list that training takes.

    Args:
        mined: the folder of the mine stage, or of the teach stage.
        queries: texts by query id, of the collection.

    Raises:
        UserError: as `read_lists`.
        KeyError: a query of the lists has no text.
    """
    records = mined / SYNTHETIC
    texts = {**queries, **(read_synthetic(records) if records.is_file() else {})}
    unlabelled = read_unlabelled(mined)
    # A loss on labels takes the first, one on a teacher's scores the second.
    taken = (found for found in read_lists(mined / "train") if has_labels(found) or has_teacher(found))
    met = met_in_lists(taken, {**texts, **unlabelled})
    return Met({**met.queries, **unlabelled}, {**met.qrels, **{query_id: {} for query_id in unlabelled}})


def met_in_lists(lists: Iterable[TrainingList], texts: Mapping[str, str]) -> Met:
    """The queries and positives of these lists; `texts` are those of queries by id, also of synthetic ones."""
    # What training takes for a positive has at least relevance 1.
    qrels = {
        found.query_id: {candidate.doc_id: max(1, candidate.relevance) for candidate in found.with_role(POSITIVE)}
        for found in lists
    }
    return Met({query_id: texts[query_id] for query_id in qrels}, qrels)


class Basis(NamedTuple):
    """The queries that something is chosen on.

    Attributes:
        qrels: their judgements, before some of them are drawn.
        enough: whether these are the free queries alone; else there are too few of them, and these are all.
        free: how many queries training gives nothing away of.
        counts: what it gives away of the others; see `count`.
    """

    qrels: Qrels
    enough: bool
    free: int
    counts: dict[str, int]


def spare(queries: Mapping[str, str], qrels: Qrels, met: Met) -> Basis:
    """Leave out the queries that training gives away, if at least `ENOUGH` others are left.

    A reranker looks better than it is on queries whose text or relevant documents it was trained with: choices made on
    these would trust it too much.

    Args:
        queries: texts by query id.
        qrels: of the dev queries.
        met: what training met.
    """
    leaks = find_leaks({**queries, **met.queries}, qrels, {"train": met.qrels} if met.qrels else {})
    given_away = leaking(leaks, "documents")
    free = {query_id: judged for query_id, judged in qrels.items() if query_id not in given_away}
    enough = len(free) >= ENOUGH or not given_away
    return Basis(free if enough else qrels, enough, len(free), count(leaks))


def find_leaks(
    queries: Mapping[str, str], test: Qrels, others: Mapping[str, Qrels], threshold: float = 0.8
) -> list[Leak]:
    """What the other splits give away of the test queries.

    The text of a query leaks if it equals, once normalised, that of a query in another split, which may be the very
    same query; else if the two are near-duplicates (`near_duplicates`), so that a query has a leak of one of these two
    kinds at most. A document leaks if it is relevant to a test query and to one of another split.

    Args:
        queries: text by query id, of all splits.
        test: the judgements of the test queries.
        others: the judgements of the other splits by name.
        threshold: the least similarity of near-duplicates.

    Returns:
        For each query and kind the leak to the first split that has one, and there to the most similar query, then to
        the lowest id; in the order of `test`, of a query the text first.
    """
    texts = {query_id: queries[query_id] for query_id in test}
    by_text = _same_text(texts, queries, others)
    new = {query_id: text for query_id, text in texts.items() if query_id not in by_text}
    found = (by_text, _near_duplicate(new, queries, others, threshold), _document(test, others))
    return [leaks[query_id] for query_id in test for leaks in found if query_id in leaks]


def leaking(leaks: Iterable[Leak], level: Level) -> set[str]:
    """The ids of the test queries that leak: by their text for "queries", by text or document for "documents"."""
    return {leak.query_id for leak in leaks if level == "documents" or leak.kind != "document"}


def count(leaks: Iterable[Leak]) -> dict[str, int]:
    """The number of test queries by kind, those of the same text not counted as near-duplicates, and of "any" kind."""
    ids: dict[str, set[str]] = {"same_text": set(), "near_duplicate": set(), "document": set()}
    for leak in leaks:
        ids[leak.kind].add(leak.query_id)
    ids["near_duplicate"] -= ids["same_text"]
    return {**{kind: len(members) for kind, members in ids.items()}, "any": len(set().union(*ids.values()))}


def _same_text(texts: Mapping[str, str], queries: Mapping[str, str], others: Mapping[str, Qrels]) -> dict[str, Leak]:
    found: dict[str, Leak] = {}
    normalised = {query_id: normalise(text) for query_id, text in texts.items()}
    for split, qrels in others.items():
        lowest: dict[str, str] = {}
        for other_id in sorted(qrels):
            lowest.setdefault(normalise(queries[other_id]), other_id)
        for query_id, text in normalised.items():
            if text in lowest:
                found.setdefault(query_id, Leak(query_id, "same_text", split, lowest[text], 1.0))
    return found


def _near_duplicate(
    texts: Mapping[str, str], queries: Mapping[str, str], others: Mapping[str, Qrels], threshold: float
) -> dict[str, Leak]:
    found: dict[str, Leak] = {}
    for split, qrels in others.items():
        ids, other_ids = [query_id for query_id in texts if query_id not in found], sorted(qrels)
        other_texts = [queries[other_id] for other_id in other_ids]
        for i, other, similarity in near_duplicates([texts[query_id] for query_id in ids], other_texts, threshold):
            found[ids[i]] = Leak(ids[i], "near_duplicate", split, other_ids[other], similarity)
    return found


def _document(test: Qrels, others: Mapping[str, Qrels]) -> dict[str, Leak]:
    found: dict[str, Leak] = {}
    for split, qrels in others.items():
        relevant = {doc_id for judged in qrels.values() for doc_id in _relevant(judged)}
        for query_id, judged in test.items():
            if shared := relevant & _relevant(judged):
                found.setdefault(query_id, Leak(query_id, "document", split, min(shared), 1.0))
    return found


def _relevant(judged: Mapping[str, int]) -> set[str]:
    return {doc_id for doc_id, relevance in judged.items() if relevance > 0}
