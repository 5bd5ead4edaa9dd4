"""Tokens of documents that are kept: the rows are the tokenizer's own, to the last id."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from secondstage.documenttokens import ENTRY, DocumentTokens, layout_of
from secondstage.networks import load_tokenizer
from secondstage.reranker import Reranker

from .families import save_family

WORDS = st.sampled_from(["graph", "search", "the", "of", "Über", "x", "?", "naïve-test", "[SEP]", "日本"])
# Some queries fill half of the room, some documents all of it and more.
QUERIES, DOCUMENTS = (st.lists(WORDS, max_size=most).map(" ".join) for most in (8, 60))


def plain(tokenizer: Any, pairs: list[tuple[str, str]], most: int) -> dict[str, list[list[int]]]:
    queries, documents = map(list, zip(*pairs, strict=True))
    return dict(tokenizer(queries, documents, truncation=True, max_length=most))


@pytest.fixture(scope="module")
def tokenizers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("families")
    words = load_tokenizer(str(save_family("qwen3", folder, tiny_model, head="classification")))
    return [load_tokenizer(str(tiny_model)), words, *map(subwords, ("sentencepiece", "bytes"))]


def subwords(kind: str) -> Any:
    """As XLM-R and as ModernBERT cut: spaces belong to the words after them, all but the first text's or no text's."""
    if kind == "bytes":
        pieces: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
        vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        pieces = pre_tokenizers.Metaspace(prepend_scheme="first")
        vocabulary = sorted({"▁", *"graphsectofÜbx?nïvé-日本"})
    marks = ["<s>", "</s>", "<pad>", "<unk>"]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(marks + vocabulary)}, [], unk_token="<unk>"))
    inner.pre_tokenizer = pieces
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    marked: Any = PreTrainedTokenizerFast
    return marked(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rows_are_the_tokenizers(tokenizers: list[Any], data: st.DataObject) -> None:
    tokenizer = data.draw(st.sampled_from(tokenizers))
    longest = data.draw(st.integers(16, 64))
    layout = layout_of(tokenizer)
    assert layout is not None
    kept = DocumentTokens(tokenizer, layout, longest, limit=300)
    for _ in range(3):
        pairs = data.draw(st.lists(st.tuples(QUERIES, DOCUMENTS), min_size=1, max_size=6))
        most = data.draw(st.integers(layout.special + 2, longest))
        filling = [2 * len(tokenizer(query, add_special_tokens=False)["input_ids"]) for query, _ in pairs]
        found, expected = kept.rows(pairs, most), plain(tokenizer, pairs, most)
        assert found == (None if max(filling) >= most - layout.special else expected)


def test_only_a_query_that_fills_half_of_the_room_is_left_to_the_tokenizer(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    layout = layout_of(tokenizer)
    assert layout is not None
    kept = DocumentTokens(tokenizer, layout, 32)
    room = 32 - layout.special
    short, long = " ".join(["x"] * ((room - 1) // 2)), " ".join(["x"] * (room // 2 + 1))
    assert kept.rows([(short, "x " * 100)], 32) is not None
    assert kept.rows([(long, "x " * 100)], 32) is None
    assert kept.rows([(short, "x")], 33) is None


def test_documents_are_tokenised_once_and_the_oldest_are_forgotten(tiny_model: Path) -> None:
    tokenizer, asked = load_tokenizer(str(tiny_model)), []

    def spying(texts: list[str], **options: Any) -> Any:
        asked.append(texts)
        return tokenizer(texts, **options)

    layout = layout_of(tokenizer)
    assert layout is not None
    kept = DocumentTokens(spying, layout, 32, limit=2 * (1 + ENTRY))
    for documents in (["a", "b"], ["b", "a"], ["c"], ["a"], ["b", "b"]):
        assert kept.rows([("q", document) for document in documents], 32) is not None
    assert [texts for texts in asked if texts != ["q"]] == [["a", "b"], ["c"], ["b"]]


def test_many_threads_ask_at_once(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    layout = layout_of(tokenizer)
    assert layout is not None
    kept, wrong = DocumentTokens(tokenizer, layout, 32, limit=3 * (2 + ENTRY)), []

    def ask(number: int) -> None:
        for turn in range(50):
            pairs = [("x of", f"graph {(number * turn + i) % 7}") for i in range(5)]
            if kept.rows(pairs, 32) != plain(tokenizer, pairs, 32):
                wrong.append(pairs)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_tokenizer_that_cuts_at_the_left_has_no_layout(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.truncation_side = "left"
    assert layout_of(tokenizer) is None


def test_a_reranker_that_remembers_gives_the_same_scores(tiny_model: Path) -> None:
    reranker = Reranker.load(tiny_model, precision="fp32", max_length=32)
    pairs = [("the graph", "search of graphs " * n) for n in range(1, 20)] + [("graph " * 40, "search " * 40)]
    parts = (pairs, pairs[:-1])
    before = [(dict(reranker.tokenize(part)), reranker.score(part).tolist()) for part in parts]
    reranker.remember_documents()
    for _ in range(2):
        assert [(dict(reranker.tokenize(part)), reranker.score(part).tolist()) for part in parts] == before
