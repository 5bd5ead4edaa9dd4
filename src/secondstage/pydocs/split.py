"""From records to a fair train/dev/test split: near copies stay on one side. Pure functions of the records."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from .text import Record, normalise, rank

SEED = 13
TEST_QUERIES = 500
DEV_QUERIES = 300
MAX_POSITIVES = 4
"""A summary that more documents share says too little to be asked for."""
MAX_QUERY_WORDS = 40
MAX_GROUP_QUERIES = 5
"""A larger family of near copies goes to train, lest it weigh too much in an evaluation."""
SHINGLE_WORDS = 5
SKETCH = 24
SHARED = 0.5
"""Texts are near copies if their sketches share this much."""
COMMON = 60
"""A shingle in more texts than this is boilerplate ("array-like of shape") and tells nothing."""


class Asked(NamedTuple):
    """A query made of a summary, with the documents that had it."""

    query_id: str
    text: str
    doc_ids: tuple[str, ...]


def deduplicate(records: Iterable[Record]) -> list[Record]:
    """One record per docstring and per name, sorted by name: of several names the shortest, then the first."""
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (rank(record.name), record)):
        best.setdefault(normalise(f"{record.summary} {record.body}"), record)
    by_name = {record.name: record for record in reversed(best.values())}
    return [by_name[name] for name in sorted(by_name)]


def make_queries(records: Sequence[Record]) -> list[Asked]:
    """Every summary once, answered by all documents that had it; none for one that too many share."""
    sharing: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        sharing[normalise(record.summary)].append(record)
    queries = []
    for shared in sharing.values():
        names = sorted((record.name for record in shared), key=rank)
        text = next(record.summary for record in shared if record.name == names[0])
        if len(names) <= MAX_POSITIVES and len(text.split()) <= MAX_QUERY_WORDS:
            queries.append(Asked(f"q-{names[0]}", text, tuple(names)))
    return sorted(queries)


def group(records: Sequence[Record]) -> dict[str, str]:
    """The group of every document, named by its first member: near copies and overloads of one docstring share one.

    Two documents are joined if their summaries or bodies are equal but for names and digits, or if their bodies
    share most of their shingles.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(record.name for record in records)
    masked = {record.name: _mask(record) for record in records}
    for part in (0, 1):
        first: dict[str, str] = {}
        for name, texts in masked.items():
            if texts[part]:
                groups.merge(name, first.setdefault(texts[part], name))
    sketches = {name: sketch(texts[1]) for name, texts in masked.items()}
    for one, other in near_copies(sketches):
        groups.merge(one, other)
    return {name: min(names) for names in groups.subsets() for name in names}


def _mask(record: Record) -> tuple[str, str]:
    """Summary and body, normalised, with all digits and the words of the object's own name masked."""
    parts = record.name.split(".")[-2:]
    words = [*parts, *(word for part in parts for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", part))]
    own = {_digitless(word.lower()) for word in words if len(word) > 2}

    def mask(text: str) -> str:
        return " ".join("_" if word in own else word for word in _digitless(normalise(text)).split())

    return mask(record.summary), mask(record.body)


def _digitless(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def sketch(text: str) -> frozenset[int]:
    """The smallest hashes of a text's shingles: two texts share about as much of them as of all their shingles."""
    words = text.split()
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}
    return frozenset(sorted(zlib.crc32(shingle.encode()) for shingle in shingles)[:SKETCH])


def near_copies(sketches: Mapping[str, frozenset[int]]) -> list[tuple[str, str]]:
    """The pairs whose sketches share at least `SHARED` of the smaller one, common shingles left out."""
    holders: dict[int, list[str]] = defaultdict(list)
    for name in sorted(sketches):
        for value in sketches[name]:
            holders[value].append(name)
    shared: Counter[tuple[str, str]] = Counter()
    for names in holders.values():
        if len(names) <= COMMON:
            shared.update(combinations(names, 2))
    return [
        (first, second)
        for (first, second), count in sorted(shared.items())
        if count >= max(2, SHARED * min(len(sketches[first]), len(sketches[second])))
    ]


def assign(queries: Sequence[Asked], groups: Mapping[str, str]) -> dict[str, list[Asked]]:
    """Queries by split, whole groups at a time, in an order that only the seed and the groups' names decide."""
    by_group: dict[str, list[Asked]] = defaultdict(list)
    for query in queries:
        by_group[groups[query.doc_ids[0]]].append(query)
    splits: dict[str, list[Asked]] = {"train": [], "dev": [], "test": []}
    room = {"test": TEST_QUERIES, "dev": DEV_QUERIES}
    for name in sorted(by_group, key=_order):
        members = by_group[name]
        fits = (split for split in room if len(members) <= min(MAX_GROUP_QUERIES, room[split] - len(splits[split])))
        splits[next(fits, "train")].extend(members)
    return {split: sorted(members) for split, members in splits.items()}


def _order(name: str) -> bytes:
    return hashlib.sha256(f"{SEED}\0{name}".encode()).digest()
