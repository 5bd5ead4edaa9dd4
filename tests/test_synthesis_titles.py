"""Titles and first sentences as queries."""

from __future__ import annotations

from collections import Counter

import pytest

from secondstage.collection import Collection, Document
from secondstage.config import SynthesizeConfig
from secondstage.mine.synthesis.parse import LONGEST
from secondstage.mine.synthesis.titles import shared_titles, summary, title_queries
from secondstage.texts import PairTexts

REST = "It is made of flour, water and yeast."


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("Sour  bread", REST, ("title", "Sour bread")),
        ("", f"What is sour bread? {REST}", ("first_sentence", "What is sour bread?")),
        ("", f"How to bake sour bread\nat home. {REST}", ("first_sentence", "How to bake sour bread at home.")),
        (
            "",
            f"Sour bread for all, e.g. Bakers, is good. {REST}",
            ("first_sentence", "Sour bread for all, e.g. Bakers, is good."),
        ),
        ("", f"All about sour bread\n\n{REST}", ("first_sentence", "All about sour bread")),
        ("", "パンの作り方を学ぶ。小麦粉と水を混ぜる。", ("first_sentence", "パンの作り方を学ぶ。")),
        ("Shared", f"What is sour bread? {REST}", ("first_sentence", "What is sour bread?")),
        ("2024", f"What is sour bread? {REST}", ("first_sentence", "What is sour bread?")),
        ("Bread", "Bread. Bread! Bread", None),  # nothing is left without it
        ("Sour bread", "", None),
        ("", REST, None),
        ("", f"Bread. {REST}", None),  # one word says nothing
        ("", f"{'so ' * 80}on. {REST}", None),
        ("", f"{'s' * LONGEST} is a long word. {REST}", None),
        ("", "", None),
    ],
)
def test_the_query_of_a_document(title: str, text: str, found: tuple[str, str] | None) -> None:
    assert summary(Document("d", title, text), {"shared"}, 4) == found


def test_a_title_is_passed_over_where_first_sentences_are_wanted() -> None:
    document = Document("d", "Sour bread", f"What is good bread? {REST}")
    assert summary(document, set(), 4, titles=False) == ("first_sentence", "What is good bread?")
    assert summary(Document("d", "Sour bread", REST), set(), 4, titles=False) is None


def test_a_title_is_shared_whatever_its_case() -> None:
    documents = [Document(str(i), title, "") for i, title in enumerate(["A b", "a, B!", "c", "", ""])]
    assert shared_titles(documents) == {"a b", ""}


def test_each_document_gives_one_query_in_the_order_of_the_seed(collection: Collection) -> None:
    def made(seed: int, documents: int | None) -> list[str]:
        config = SynthesizeConfig(documents=documents, min_words=3)
        counts: Counter[str] = Counter()
        queries = title_queries(collection.documents, config, seed=seed, counts=counts)
        assert counts["documents"] == len(queries) == (documents or 64)
        assert {query.kind for query in queries} == {"title"}
        assert all(query.text == collection.documents.by_id(query.doc_id).title for query in queries)
        texts = PairTexts({}, collection.documents, queries)
        assert not any(query in text for query, text in texts([(q.query_id, q.doc_id) for q in queries]))
        return [query.query_id for query in queries]

    assert made(1, 7) == made(1, None)[:7] != made(2, 7)
    assert len(set(made(1, None))) == 64


def test_documents_too_short_without_their_title_are_counted(collection: Collection) -> None:
    counts: Counter[str] = Counter()
    assert title_queries(collection.documents, SynthesizeConfig(min_words=6), seed=1, counts=counts) == []
    assert counts == {"documents": 0, "documents_too_short": 64}
