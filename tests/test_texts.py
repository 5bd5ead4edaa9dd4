"""The texts that training reads of a pair: no query stands in its own positive word for word."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from secondstage.collection import Collection, Documents
from secondstage.synthetic import SyntheticQuery
from secondstage.texts import PairTexts


def test_the_positive_of_a_title_is_read_without_it(as_documents: Callable[[Sequence[str]], Documents]) -> None:
    documents = as_documents(
        ["Sour bread\nHow sour bread is made.", "Eat sour bread\nwith cheese.", "sour bread. Again."]
    )
    title = SyntheticQuery("synthetic-t", "Sour bread", "d0", "title", "title")
    again = title._replace(query_id="synthetic-a", doc_id="d2", same_as="synthetic-t", rule="same_text", kept=False)
    written = SyntheticQuery("synthetic-q", "sour bread", "d0", "keyword", "llm")
    texts = PairTexts({"real": "sour bread"}, documents, [title, again, written])
    ids = ("synthetic-t", "synthetic-q", "real")
    found = texts([(query_id, f"d{i}") for query_id in ids for i in range(3)])
    plain = documents.contents(["d0", "d1", "d2"])
    assert found == [
        ("Sour bread", "How sour bread is made."),
        ("Sour bread", plain[1]),  # not its positive, and without a title: the words stay
        ("Sour bread", "Again."),
        *(("sour bread", content) for content in plain * 2),
    ]


def test_no_document_of_a_title_has_its_own_title_and_none_of_a_sentence_its_own_first_one(
    collection: Collection,
) -> None:
    """Else a reranker would learn that what lacks one is relevant."""
    documents = collection.documents
    title = SyntheticQuery("synthetic-t", "bread flour", "bread-0", "title", "title")
    sentence = SyntheticQuery("synthetic-s", "Yeast oven dough crust.", "bread-0", "first_sentence", "first_sentence")
    texts = PairTexts({"real": "bread"}, documents, [title, sentence])
    other, own = documents.by_id("bread-1"), documents.by_id("bread-0")
    found = texts([(query_id, "bread-1") for query_id in ("synthetic-t", "synthetic-s", "real")])
    assert [text for _, text in found] == [other.text, other.title, other.content]
    assert texts([("synthetic-t", "bread-0")]) == [("bread flour", own.text)]


def test_an_unknown_or_dropped_query_has_no_text(as_documents: Callable[[Sequence[str]], Documents]) -> None:
    dropped = SyntheticQuery("synthetic-3", "bread", "d1", "claim", "llm").dropped("round_trip", "not found")
    texts = PairTexts({}, as_documents(["a", "b"]), [dropped])
    with pytest.raises(KeyError):
        texts([("synthetic-3", "d1")])
