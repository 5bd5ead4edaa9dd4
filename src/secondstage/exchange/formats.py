"""The formats of other toolkits: a query with its positives and negatives as texts, into rows and out of them.

bge: FlagEmbedding's JSON lines, `query`, `pos`, `neg`, and `pos_scores`, `neg_scores` for distillation.
triplet, n-tuple, labeled-list: what sentence-transformers' losses take, columns in this order: (query, positive,
negative), (query, positive, negative_1, …, negative_n), (query, docs, labels). Scores of a teacher are a list, one for
each document, in the column `scores`; in a labeled-list they take the place of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from secondstage.intake import MAX_RELEVANCE, SURROGATE
from secondstage.run import LARGEST

from .rows import Row

FORMATS = ("bge", "triplet", "n-tuple", "labeled-list")
# The columns that sentence-transformers takes for labels, whatever the others are called.
LABELS = ("label", "labels", "score", "scores")


class Passage(NamedTuple):
    """A document's text, its relevance (0 for a negative), and a teacher's score if there is one."""

    text: str
    relevance: int
    score: float | None = None


class TextList(NamedTuple):
    """A query's text, its positives and its negatives."""

    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...]


def to_rows(found: TextList, form: str, *, scores: bool = False, negatives: int = 0) -> list[dict[str, Any]]:
    """A list with at least one positive and one negative as rows of a format.

    bge and labeled-list have one row; triplet one for every positive and negative; n-tuple one for every positive, if
    the list has that many negatives, else none: its rows all have the same columns.

    Args:
        found: the list.
        form: one of `FORMATS`.
        scores: with the teacher's scores, which every passage has.
        negatives: of an n-tuple.
    """
    positives, others = found.positives, found.negatives
    if form == "bge":
        row = {"query": found.query, "pos": _texts(positives), "neg": _texts(others)}
        return [row | ({"pos_scores": _scores(positives), "neg_scores": _scores(others)} if scores else {})]
    if form == "labeled-list":
        passages = (*positives, *others)
        labels = {"scores": _scores(passages)} if scores else {"labels": [passage.relevance for passage in passages]}
        return [{"query": found.query, "docs": _texts(passages)} | labels]
    groups: list[tuple[Passage, ...]]
    if form == "triplet":
        groups = [(positive, other) for positive in positives for other in others]
    else:
        groups = [(positive, *others[:negatives]) for positive in positives] if len(others) >= negatives else []
    names = ["positive", *(["negative"] if form == "triplet" else [f"negative_{i + 1}" for i in range(negatives)])]
    return [
        {"query": found.query}
        | dict(zip(names, _texts(group), strict=True))
        | ({"scores": _scores(group)} if scores else {})
        for group in groups
    ]


def from_row(row: Row, form: str) -> TextList:
    """A row of a format as a list; a triplet or n-tuple is a part of one.

    Raises:
        ValueError: it is no such row; the message says why.
    """
    if form == "bge":
        return _from_bge(row)
    columns = [name for name in row if name not in LABELS]
    labels = [name for name in row if name in LABELS and row[name] is not None]
    if not columns:
        raise ValueError("no column but labels")
    query, values = _text(row[columns[0]], columns[0]), [(row[name], name) for name in columns[1:]]
    if form == "labeled-list":
        return _from_labeled_list(query, values, row, labels)
    texts = [_text(value, name) for value, name in values if value is not None]
    if len(texts) < 2 or (form == "triplet" and len(texts) > 2):
        wanted = "a query, a positive and " + ("a negative" if form == "triplet" else "negatives")
        raise ValueError(f"{wanted} are expected, in this order; there is {', '.join(columns)}")
    scores = _numbers(row[labels[0]], labels[0], len(texts)) if labels else [None] * len(texts)
    passages = [Passage(text, int(not i), score) for i, (text, score) in enumerate(zip(texts, scores, strict=True))]
    return TextList(query, tuple(passages[:1]), tuple(passages[1:]))


def _from_bge(row: Row) -> TextList:
    sides = []
    for side, relevance in (("pos", 1), ("neg", 0)):
        texts = _list(row.get(side, [] if side == "neg" else None), side)
        given = row.get(f"{side}_scores")
        scores = [None] * len(texts) if given is None else _numbers(given, f"{side}_scores", len(texts))
        pairs = zip(texts, scores, strict=True)
        sides.append(tuple(Passage(_text(text, side), relevance, score) for text, score in pairs))
    return TextList(_text(row.get("query"), "query"), *sides)


def _from_labeled_list(query: str, values: Sequence[tuple[Any, str]], row: Row, labels: Sequence[str]) -> TextList:
    if len(values) != 1:
        raise ValueError(f"a query, a list of documents and a list of labels are expected, not {', '.join(row)}")
    texts = [_text(text, values[0][1]) for text in _list(*values[0])]
    name = next((name for name in labels if name.startswith("label")), None)
    if name is None:
        raise ValueError("no column 'labels': scores alone do not say which documents are relevant")
    scored = next((name for name in labels if name.startswith("score")), None)
    scores = [None] * len(texts) if scored is None else _numbers(row[scored], scored, len(texts))
    passages = [
        Passage(text, _relevance(label, name), score)
        for text, label, score in zip(texts, _numbers(row[name], name, len(texts)), scores, strict=True)
    ]
    return TextList(query, tuple(p for p in passages if p.relevance), tuple(p for p in passages if not p.relevance))


def _texts(passages: Sequence[Passage]) -> list[str]:
    return [passage.text for passage in passages]


def _scores(passages: Sequence[Passage]) -> list[float | None]:
    return [passage.score for passage in passages]


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"no {name!r}" if value is None else f"{name!r} must hold texts, not {value!r:.80}")
    if not value.strip():
        raise ValueError(f"{name!r} holds an empty text")
    if SURROGATE.search(value):
        raise ValueError(f"{name!r} holds half a surrogate pair, which is no character")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"no {name!r}" if value is None else f"{name!r} must be a list, not {value!r:.80}")
    return value


def _numbers(value: object, name: str, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name!r} must be a list with one number for each of {count} documents, not {value!r:.80}")
    numbers: list[float] = value
    for number in numbers:
        if not isinstance(number, (int, float)) or not abs(number) <= LARGEST:
            raise ValueError(f"{name!r} holds {number!r:.80}, which is no finite number in single precision")
    return numbers


def _relevance(label: float, name: str) -> int:
    if label != int(label) or not 0 <= label <= MAX_RELEVANCE:
        raise ValueError(f"{name!r} holds {label!r}: a relevance is a whole number from 0; scores belong in 'scores'")
    return int(label)
