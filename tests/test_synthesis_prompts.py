"""What generators are asked."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from secondstage.collection import Collection
from secondstage.config import SynthesizeConfig
from secondstage.config.mine import QueryKind
from secondstage.mine.synthesis.prompts import KINDS, Example, asks, choose_examples, messages

DOC_IDS = [f"d{i}" for i in range(6)]


@pytest.mark.parametrize(("per_document", "kinds"), [(1, 3), (2, 3), (3, 3), (4, 3), (7, 3), (2, 1), (3, 2)])
def test_kinds_are_taken_in_turn(per_document: int, kinds: int) -> None:
    config = SynthesizeConfig(per_document=per_document, kinds=get_args(QueryKind)[:kinds])
    made = asks(DOC_IDS, config)
    of_documents, of_kinds = Counter[str](), Counter[str]()
    for ask in made:
        of_documents[ask.doc_id] += ask.number
        of_kinds[ask.kind] += ask.number
    assert set(of_documents.values()) == {per_document}
    assert len(of_documents) == 6
    assert len(set(of_kinds.values())) == 1  # 6 documents are a multiple of 1, 2 and 3 kinds
    assert len({(ask.doc_id, ask.kind) for ask in made}) == len(made)


def test_a_prompt_shows_document_kind_number_and_examples() -> None:
    config = SynthesizeConfig(per_document=4, kinds=("claim", "keyword", "claim"))
    (first, second) = asks(DOC_IDS[:1], config)
    examples = [Example("how?", "so"), Example("why?", "therefore")]
    assert [(ask.kind, ask.number, ask.turn) for ask in (first, second)] == [("claim", 3, 0), ("keyword", 1, 0)]
    system, user = messages(first, "passage 0", examples)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "passage 0\n\nWrite 3 different queries" in user["content"]
    assert KINDS["claim"] in user["content"]
    assert "Document:\nso\n\nQuery: how?\n\nDocument:\ntherefore\n\nQuery: why?" in user["content"]
    # All up to what is asked for is the same, for servers that keep what they have read.
    texts = [messages(ask, "passage 0", examples)[1]["content"] for ask in (first, second)]
    assert len({text.partition("\n\nWrite ")[0] for text in texts}) == 1
    assert "Write 1 query of" in texts[1]
    alone = messages(first, "passage 0", [])[1]["content"]
    assert "people typed" not in alone
    assert "queries above" not in alone


def test_a_model_of_passages_is_given_the_passage_alone_once_a_turn() -> None:
    config = SynthesizeConfig(generator="local", model="m", prompt="passage", per_document=2)
    made = asks(DOC_IDS[:2], config)
    assert [(ask.doc_id, ask.kind, ask.number, ask.turn) for ask in made] == [
        (f"d{i}", "query", 1, turn) for i in range(2) for turn in range(2)
    ]
    assert [message["content"] for message in messages(made[0], "passage 0", [])] == ["passage 0"]


def test_examples_are_training_queries_with_their_best_documents(collection: Collection) -> None:
    config = SynthesizeConfig(examples=4, passage_words=3)
    found = choose_examples(collection, config, seed=1)
    assert found == choose_examples(collection, config, seed=1) != choose_examples(collection, config, seed=2)
    by_text = {collection.queries[query_id]: judged for query_id, judged in collection.qrels["train"].items()}
    assert len(found) == 4
    for query, passage in found:
        (doc_id,) = by_text[query]
        assert passage.split() == collection.documents.by_id(doc_id).content.split()[:3]
    assert choose_examples(collection, SynthesizeConfig(examples=0), seed=1) == []
    passages = SynthesizeConfig(generator="local", model="m", prompt="passage")
    assert choose_examples(collection, passages, seed=1) == []
    assert len(choose_examples(collection, SynthesizeConfig(examples=1000), seed=1)) == 32


def test_without_training_queries_there_are_no_examples(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "qrels", {"dev": collection.qrels["dev"]})
    assert choose_examples(collection, SynthesizeConfig(), seed=1) == []
    graded = {"q-bread-0": {"bread-2": 1, "bread-4": 2, "bread-3": 2, "bread-1": 0}}
    monkeypatch.setattr(collection, "qrels", {"train": graded})
    (example,) = choose_examples(collection, SynthesizeConfig(), seed=1)
    assert example == Example("flour of the bread", collection.documents.by_id("bread-3").content)
