"""Synthetic queries: made from documents, kept or not and why.

`mine` writes them as one JSON line each, training reads their texts from there: the collection itself stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .collection import Qrels
from .errors import UserError

SYNTHETIC = "synthetic.jsonl"
# How the ids of these queries begin.
ID_PREFIX = "synthetic-"
# Queries that stand in their document word for word, which is read without them.
TITLE = "title"
FIRST_SENTENCE = "first_sentence"
TAKEN = (TITLE, FIRST_SENTENCE)
# The rule of a query that another one, which is kept, repeats: its document answers that one as well.
SAME_TEXT = "same_text"


class SyntheticQuery(NamedTuple):
    """One query that was made from a document.

    Attributes:
        query_id: "synthetic-" and a digest.
        text: of the query; empty if the generator gave none.
        doc_id: the document it was made from.
        kind: "question", "keyword", "claim", "query", "title" or "first_sentence".
        generator: what made it.
        kept: whether it is used.
        rule: which rule dropped it, in one word; empty if it is kept.
        reason: the same in words.
        rank: of the document in the first stage's list, from 1; 0 if it is not in it, none if it was not searched.
        teacher_rank: its rank by the teacher among what the first stage found; none if it was not asked.
        same_as: the kept query that has the same text, of one with the rule "same_text".
    """

    query_id: str
    text: str
    doc_id: str
    kind: str
    generator: str
    kept: bool = True
    rule: str = ""
    reason: str = ""
    rank: int | None = None
    teacher_rank: int | None = None
    same_as: str = ""

    def dropped(self, rule: str, reason: str) -> SyntheticQuery:
        """The same query, not kept."""
        return self._replace(kept=False, rule=rule, reason=reason)


def write_synthetic(path: Path, queries: Iterable[SyntheticQuery]) -> None:
    """Write one JSON line for each query, kept or not."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(query._asdict(), ensure_ascii=False) + "\n" for query in queries)


def read_records(path: Path) -> Iterator[SyntheticQuery]:
    """Every query that `write_synthetic` wrote.

    Raises:
        UserError: there is no such file, or a line of it is no synthetic query.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield SyntheticQuery(**json.loads(line))
                except (ValueError, TypeError):
                    raise UserError(f"{path}:{number} is no synthetic query: mine again") from None
    except FileNotFoundError:
        raise UserError(f"{path} is missing: mine with mine.synthesize") from None


def read_synthetic(path: Path) -> dict[str, str]:
    """The texts of the kept queries, by id; errors as `read_records`."""
    return {query.query_id: query.text for query in read_records(path) if query.kept}


def synthetic_qrels(queries: Iterable[SyntheticQuery], relevance: int = 1) -> Qrels:
    """The documents that answer each kept query, with the relevance given, that of a positive.

    They are the one it was made from, and each one that gave a query of the same text and passed the same filters: it
    would be a false negative otherwise.
    """
    queries = list(queries)
    qrels: Qrels = {query.query_id: {query.doc_id: relevance} for query in queries if query.kept}
    for query in queries:
        if query.rule == SAME_TEXT and query.same_as in qrels:
            qrels[query.same_as][query.doc_id] = relevance
    return qrels
