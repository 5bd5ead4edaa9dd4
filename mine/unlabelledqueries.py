"""Unlabelled queries: read from a file, and those left out that a student must not, or need not, learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from secondstage.collection import Collection
from secondstage.duplicates import question_key
from secondstage.errors import Faults, UserError
from secondstage.files import fingerprint
from secondstage.intake import SURROGATE
from secondstage.leakage import find_leaks
from secondstage.sources.records import json_queries
from secondstage.sources.text import is_json_lines, read_lines
from secondstage.splits import choose_queries

from .trainingqueries import TRAIN


class Unlabelled(NamedTuple):
    """The unlabelled queries of a run.

    Attributes:
        queries: texts by id, "unlabelled-" and a digest of what is asked: an id of the file may be the collection's.
        counts: how many there were, how many were left out and why.
    """

    queries: dict[str, str]
    counts: dict[str, int]


NONE = Unlabelled({}, {})


def read_texts(path: Path) -> list[str]:
    """The texts of a file of queries: BEIR JSON lines by its extension, else a query a line; plain or gzipped.

    Raises:
        UserError: the file cannot be read, or a line is no query: all faults are told.
    """
    faults = Faults(f"distill.queries: {path}")
    if is_json_lines(path):
        texts = [query.text for query in json_queries(path, faults)]
    else:
        texts = [line for _, line in read_lines(path, faults) if line.strip()]
        if texts and all("\t" in text.strip() for text in texts):
            faults.add("every line has a tab: it looks like a table with ids; give the texts alone")
    for text in texts:
        if SURROGATE.search(text):
            faults.add(f"the query {text.encode('ascii', 'replace').decode()!r:.80} holds half a surrogate pair")
    faults.raise_if_any("Give BEIR JSON lines (_id and text) as .jsonl, or text with a query a line")
    return [stripped for text in texts if (stripped := " ".join(text.split()))]


def unlabelled_queries(path: Path, collection: Collection, *, count: int | None, seed: int) -> Unlabelled:
    """The queries of a file that are new, and near none of a split that something is measured or chosen on.

    Left out is what asks the same as another one before it or as a training query, and what has the words of a query of
    any other split or nearly repeats one (`leakage.find_leaks`): the teacher's scores would give it away.

    Args:
        path: of the file.
        collection: whose splits are kept clear of.
        count: at most so many; none means all.
        seed: what chooses them.

    Raises:
        UserError: as `read_texts`, or the file holds no query.
    """
    texts = read_texts(path)
    if not texts:
        raise UserError(f"distill.queries: {path} holds no query: give a file with some, or leave distill.queries out")
    by_question: dict[str, str] = {}
    for text in texts:
        by_question.setdefault(question_key(text), text)
    counts: Counter[str] = Counter(unlabelled_queries=len(texts), unlabelled_repeated=len(texts) - len(by_question))
    train = {question_key(collection.queries[query_id]) for query_id in collection.qrels.get(TRAIN, {})}
    new = {f"unlabelled-{fingerprint(key)[:16]}": text for key, text in by_question.items() if key not in train}
    counts["unlabelled_in_train"] = len(by_question) - len(new)
    held_out = {split: qrels for split, qrels in collection.qrels.items() if split != TRAIN}
    leaks = find_leaks({**collection.queries, **new}, {query_id: {} for query_id in new}, held_out)
    counts.update(f"unlabelled_{leak.kind}_as_held_out" for leak in leaks)
    given_away = {leak.query_id for leak in leaks}
    chosen = choose_queries((query_id for query_id in new if query_id not in given_away), count, seed)
    counts["unlabelled_taken"] = len(chosen)
    return Unlabelled({query_id: new[query_id] for query_id in chosen}, dict(sorted(counts.items())))
