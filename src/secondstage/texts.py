"""The texts that training reads: of a collection's queries, of synthetic and of unlabelled ones, and of documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .collection import Collection, Documents
from .sentences import document_without, opening
from .synthetic import SYNTHETIC, TAKEN, TITLE, SyntheticQuery, read_records, synthetic_qrels
from .unlabelled import read_unlabelled


class PairTexts:
    """The texts of (query id, document id) pairs, of a collection's queries and of synthetic ones.

    A query that is the title or the first sentence of its document stands in it word for word: whoever learns from such
    pairs learns to look for copies. The document of such a pair is given without the query. In every other document the
    words of the query stay, so that an exact match is no sign of relevance; but it is given without its own title, or
    first sentence, so that the lack of one is no sign of relevance either.

    Attributes:
        queries: texts by query id.
        documents: the corpus.
    """

    def __init__(
        self, queries: Mapping[str, str], documents: Documents, synthetic: Iterable[SyntheticQuery] = ()
    ) -> None:
        """Put them together.

        Args:
            queries: texts by query id.
            documents: the corpus.
            synthetic: as `read_records` gives them.
        """
        synthetic = list(synthetic)
        self.queries = {**queries, **{query.query_id: query.text for query in synthetic if query.kept}}
        self.documents = documents
        self._taken = {query.query_id: query.kind for query in synthetic if query.kept and query.kind in TAKEN}
        answers = synthetic_qrels(synthetic)
        self._answers = {(query_id, doc_id) for query_id in self._taken for doc_id in answers[query_id]}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """(query text, document text) of each (query id, document id); `KeyError` if one is unknown."""
        return [(self.queries[query_id], self._content(query_id, doc_id)) for query_id, doc_id in pairs]

    def document_key(self, query_id: str, doc_id: str) -> object:
        """What tells the document's text in this pair: pairs of one key have the same."""
        if (query_id, doc_id) in self._answers:
            return query_id, doc_id
        return (self._taken[query_id], doc_id) if query_id in self._taken else doc_id

    def _content(self, query_id: str, doc_id: str) -> str:
        document = self.documents.by_id(doc_id)
        if (query_id, doc_id) in self._answers:
            return document_without(self.queries[query_id], document.content)
        if query_id not in self._taken:
            return document.content
        own = document.title if self._taken[query_id] == TITLE else opening(document.text)
        return document_without(own, document.content) or document.content


def texts_of_lists(collection: Collection, folder: Path) -> PairTexts:
    """The texts of the training lists in a folder: of the collection, and of the queries that are beside the lists.

    Raises:
        UserError: as `read_records` and `read_unlabelled`.
    """
    records = folder / SYNTHETIC
    synthetic = read_records(records) if records.is_file() else ()
    return PairTexts({**collection.queries, **read_unlabelled(folder)}, collection.documents, synthetic)
