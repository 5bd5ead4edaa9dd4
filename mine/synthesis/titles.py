"""Queries without any generator: a document's title, else its first sentence, is the query, the rest its positive.

What stands in the document as its author's summary asks for the document (as headings do in the pre-training of
rerankers by Ma et al. 2021, and the summary lines of `pydocs`). It stands there word for word: `PairTexts` gives the
document of such a pair without it, else only the match of words would be learnt, and the others without their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set

from secondstage.collection import Document, Documents
from secondstage.config import SynthesizeConfig
from secondstage.duplicates import normalise
from secondstage.sentences import document_without, opening, units
from secondstage.synthetic import FIRST_SENTENCE, TITLE, SyntheticQuery

from .draw import in_drawn_order
from .parse import LONGEST, MOST_WORDS, query_id

# Words (or characters, in scripts without spaces) of a first sentence that says something.
LEAST_WORDS = 4


def title_queries(
    documents: Documents,
    config: SynthesizeConfig,
    *,
    seed: int,
    counts: Counter[str],
    spared: Set[str] = frozenset(),
) -> list[SyntheticQuery]:
    """One query for each of the first `config.documents` documents, in the order of the seed, that have one.

    A title that several documents of the corpus share asks for none of them: the first sentence is taken instead.
    """
    shared = shared_titles(documents)
    made: list[SyntheticQuery] = []
    for document in in_drawn_order(documents, seed):
        if len(made) == config.documents:
            break
        if document.doc_id in spared:
            counts["documents_spared"] += 1
            continue
        found = summary(document, shared, config.min_words, titles=config.generator == TITLE)
        if found is None:
            counts["documents_too_short"] += 1
            continue
        kind, text = found
        own_id = query_id(document.doc_id, kind, 0, text)
        made.append(SyntheticQuery(own_id, text, document.doc_id, kind, config.generator))
    counts["documents"] = len(made)
    return made


def shared_titles(documents: Iterable[Document]) -> set[str]:
    """The normalised titles that more than one document has."""
    seen: set[str] = set()
    shared: set[str] = set()
    for document in documents:
        title = normalise(document.title)
        (shared if title in seen else seen).add(title)
    return shared


def summary(document: Document, shared: set[str], min_words: int, *, titles: bool = True) -> tuple[str, str] | None:
    """The kind and text of a document's query; none if it has no usable one, or too few words without it.

    Without `titles` it is the first sentence, whatever the title.
    """
    for kind, text in _summaries(document, shared):
        if kind == TITLE and not titles:
            continue
        fits = 0 < len(units(text)) <= MOST_WORDS and len(text) <= LONGEST and any(map(str.isalpha, text))
        if fits and len(units(document_without(text, document.content))) >= min_words:
            return kind, text
    return None


def _summaries(document: Document, shared: set[str]) -> Iterator[tuple[str, str]]:
    if document.title.strip() and normalise(document.title) not in shared:
        yield TITLE, " ".join(document.title.split())
    sentence = opening(document.text)
    if len(units(sentence)) >= LEAST_WORDS:
        yield FIRST_SENTENCE, sentence
