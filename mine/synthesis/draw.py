"""The documents that queries are made from: drawn by the seed, those too short to ask about passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set

from secondstage.collection import Document, Documents
from secondstage.config import SynthesizeConfig
from secondstage.files import fingerprint
from secondstage.firstwords import first_words
from secondstage.sentences import units


def in_drawn_order(documents: Documents, seed: int) -> Iterator[Document]:
    """Every document, in an order that the seed and the ids alone decide."""
    order: Sequence[str] = sorted(documents.ids, key=lambda doc_id: fingerprint(seed, "synthesize", doc_id))
    return (documents.by_id(doc_id) for doc_id in order)


def draw_documents(
    documents: Documents,
    config: SynthesizeConfig,
    *,
    seed: int,
    counts: Counter[str],
    spared: Set[str] = frozenset(),
) -> list[str]:
    """The ids of the first `config.documents` that are long enough; more of them are these and more."""
    drawn: list[str] = []
    for document in in_drawn_order(documents, seed):
        if len(drawn) == config.documents:
            break
        if document.doc_id in spared:
            counts["documents_spared"] += 1
            continue
        shown = first_words(document.content, config.passage_words)
        # Of a passage cut short, the document itself may have the words.
        if len(units(shown)) < min(config.min_words, config.passage_words):
            counts["documents_too_short"] += 1
            continue
        drawn.append(document.doc_id)
    counts["documents"] = len(drawn)
    return drawn
