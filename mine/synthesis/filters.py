"""Which synthetic queries are kept: those that ask for their document, and repeat neither it nor one another.

The round trip is Promptagator's (Dai et al. 2022): a query whose document the first stage does not find is noise, or
asks for something else. InPars' scores a query by a reranker instead (Jeronymo et al. 2023): a teacher may agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from secondstage.collection import Collection, Documents
from secondstage.config import SynthesizeConfig
from secondstage.duplicates import near_duplicates, normalise, question_key
from secondstage.errors import UserError
from secondstage.firststage import FirstStage, search_run
from secondstage.progress import bar
from secondstage.run import Scores
from secondstage.sentences import units
from secondstage.synthetic import SAME_TEXT, TAKEN, SyntheticQuery
from secondstage.teachers import Teacher
from secondstage.texts import PairTexts

from .repeats import repeats

# Near-duplicates, as in `leakage`.
SIMILARITY = 0.8
# A query of which this share, and no fewer words and characters, stands in its document in one piece is a copy of it.
COPIED_SHARE = 0.8
COPIED_WORDS = 8
COPIED_CHARACTERS = 30
QUERIES_PER_BATCH = 512

Queries = list[SyntheticQuery]


def drop_copies(queries: Queries, documents: Documents) -> Queries:
    """Drop what a generator copied from the document; titles and first sentences are taken from it on purpose."""
    return [
        query.dropped("copy", "copies the document")
        if query.kept and query.kind not in TAKEN and is_copy(query.text, documents.by_id(query.doc_id).content)
        else query
        for query in queries
    ]


def is_copy(query: str, content: str) -> bool:
    """Whether most of a query, and enough of it to be no common phrase, stands in the text in one piece."""
    words = units(normalise(query))
    size = max(COPIED_WORDS, ceil(COPIED_SHARE * len(words)))
    spans = [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]
    spans = [span for span in spans if len(span) >= COPIED_CHARACTERS]
    text = f" {' '.join(units(normalise(content)))} " if spans else ""
    return any(f" {span} " in text for span in spans)


def drop_known(queries: Queries, collection: Collection) -> Queries:
    """Drop what nearly is a query of the collection: of dev or a test set it would leak, else it is there already."""
    splits = {query_id: split for split, qrels in collection.qrels.items() for query_id in qrels if split != "train"}
    held_out = {query_id: text for query_id, text in collection.queries.items() if query_id in splits}
    others = {query_id: text for query_id, text in collection.queries.items() if query_id not in splits}

    def near(reals: dict[str, str]) -> dict[int, str]:
        ids = list(reals)
        kept = [i for i, query in enumerate(queries) if query.kept]
        found = near_duplicates([queries[i].text for i in kept], list(reals.values()), SIMILARITY)
        return {kept[left]: ids[right] for left, right, _ in found}

    leaks, known = near(held_out), near(others)
    result = list(queries)
    for i, query_id in {**known, **leaks}.items():
        leak = i in leaks
        where = f"near a {splits[query_id]} query: {query_id}" if leak else f"duplicate of query {query_id}"
        result[i] = queries[i].dropped("leak" if leak else "known", where)
    return result


def drop_lost(
    queries: Queries, collection: Collection, first_stage: FirstStage, teacher: Teacher | None, config: SynthesizeConfig
) -> Queries:
    """Drop each query whose document the first stage does not find, or the teacher does not put near the top.

    The teacher sees what training will: the document of a title without the title.
    """
    result = list(queries)
    places = [i for i, query in enumerate(queries) if query.kept]
    documents = collection.documents
    texts = PairTexts({}, documents, queries)
    with bar(total=len(places), label="round trip", unit="query") as progress:
        for start in range(0, len(places), QUERIES_PER_BATCH):
            part = places[start : start + QUERIES_PER_BATCH]
            asked = {str(i): queries[i].text for i in part}
            run = search_run(first_stage, documents.ids, asked, config.round_trip)
            found = {i: list(run[str(i)].doc_ids) for i in part}
            for i in part:
                result[i] = _searched(queries[i], found[i], config.round_trip)
            if teacher is not None:
                _ask(teacher, [i for i in part if result[i].kept], result, found, texts, config.teacher_rank)
            progress.update(len(part))
    return result


def _searched(query: SyntheticQuery, doc_ids: Sequence[str], depth: int) -> SyntheticQuery:
    if query.doc_id not in doc_ids:
        return query.dropped("round_trip", f"not found in top {depth}")._replace(rank=0)
    return query._replace(rank=doc_ids.index(query.doc_id) + 1)


def _ask(
    teacher: Teacher,
    places: Sequence[int],
    queries: Queries,
    found: dict[int, list[str]],
    texts: PairTexts,
    depth: int,
) -> None:
    """Put the teacher's verdict into the queries at these places."""
    pairs = [texts([(queries[i].query_id, doc_id) for doc_id in found[i]]) for i in places]
    lists = [(queries[i].text, [content for _, content in pair]) for i, pair in zip(places, pairs, strict=True)]
    for i, scores in zip(places, teacher.score_lists(lists) if lists else [], strict=True):
        if len(scores) != len(found[i]):
            raise UserError(f"the teacher gave {len(scores)} scores for the {len(found[i])} documents of one query")
        query, place = queries[i], found[i].index(queries[i].doc_id)
        if np.isnan(scores[place]):
            queries[i] = query.dropped("teacher", "not scored by the teacher")
            continue
        own = rank_of(scores, place)
        query = query._replace(teacher_rank=own)
        queries[i] = query if own <= depth else query.dropped("teacher", f"teacher rank {own}")


def rank_of(scores: Scores, place: int) -> int:
    """The rank of one score, from 1. Equal ones stand before it, so that a teacher who tells nothing agrees to nothing.

    A score that is no number is the last.
    """
    values = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf)
    return int((values >= values[place]).sum())


def drop_repeated(queries: Queries) -> Queries:
    """Keep the first of the queries that are the same or nearly.

    Of queries with the same text each document is an answer (`synthetic_qrels`); those that nearly repeat another may
    ask for something else, such as another year.
    """
    result = list(queries)
    first: dict[str, SyntheticQuery] = {}
    for i, query in enumerate(queries):
        if query.kept and (same := first.setdefault(question_key(query.text), query)) is not query:
            repeated = query.dropped(SAME_TEXT, f"duplicate of {same.query_id}")
            result[i] = repeated._replace(same_as=same.query_id)
    kept = [i for i, query in enumerate(result) if query.kept]
    for left, right in repeats([result[i].text for i in kept], SIMILARITY).items():
        near = result[kept[right]].query_id
        result[kept[left]] = result[kept[left]].dropped("near_duplicate", f"near duplicate of {near}")
    return result
