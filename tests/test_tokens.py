"""Tokens of pairs: exactly the tokenizer's, every text tokenised once, whatever the model."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import Document
from secondstage.synthetic import TITLE, SyntheticQuery
from secondstage.texts import PairTexts
from secondstage.train import tokens as module
from secondstage.train.tokens import Tokens

from .conftest import TOPICS

WORDS = [*TOPICS, *" ".join(TOPICS.values()).split(), "[SEP]", "</s>", "Ünïcode", "雪", "a.b", "", "\n", "snowfrost"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | st.text(max_size=20)


class Corpus(NamedTuple):
    """Document texts by id, in place of stored ones."""

    texts: dict[str, str]

    def by_id(self, doc_id: str) -> Document:
        return Document(doc_id, "", self.texts[doc_id])


def pair_texts(queries: Sequence[str], documents: Sequence[str], synthetic: Sequence[SyntheticQuery] = ()) -> PairTexts:
    corpus: Any = Corpus({f"d{i}": text for i, text in enumerate(documents)})
    return PairTexts({f"q{i}": text for i, text in enumerate(queries)}, corpus, synthetic)


def every(texts: PairTexts) -> list[tuple[str, str]]:
    corpus: Any = texts.documents
    return [(query_id, doc_id) for query_id in texts.queries for doc_id in corpus.texts]


class Scorer:
    """Tokenises as `Reranker` does, and counts what for."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length, self.calls = tokenizer, max_length, 0

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        self.calls += 1
        queries, documents = zip(*pairs, strict=True)
        found: Mapping[str, list[list[int]]] = self.tokenizer(
            list(queries), list(documents), truncation=True, max_length=self.max_length
        )
        return found


class Prompted(Scorer):
    """Writes both into one text, as decoders do."""

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        self.calls += 1
        texts = [f"the {query} of {document}" for query, document in pairs]
        found: Mapping[str, list[list[int]]] = self.tokenizer(texts, truncation=True, max_length=self.max_length)
        return found


def bert(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def roberta() -> Any:
    """Byte-level BPE with <s> query </s></s> document </s>, and no token types."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Bytes
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import RobertaProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(BPE())
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = Bytes()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer: Any = BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator([*TOPICS, *TOPICS.values()], trainer)
    inner.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    fast: Any = PreTrainedTokenizerFast
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    return fast(
        tokenizer_object=inner,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )


@pytest.fixture(scope="module")
def tokenizers(tiny_model: Path) -> dict[str, Any]:
    untyped = bert(tiny_model)
    untyped.model_input_names = ["input_ids", "attention_mask"]
    return {"bert": bert(tiny_model), "roberta": roberta(), "untyped": untyped}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def check(found: Tokens, scorer: Scorer, texts: PairTexts) -> None:
    """Lengths and rows are those of the tokenizer, whichever pairs are asked for, in whichever order."""
    pairs = every(texts)
    wanted = dict(scorer.tokenize(texts(pairs)))
    assert found.lengths(pairs).tolist() == list(map(len, wanted["input_ids"]))
    assert dict(found.rows(pairs)) == wanted
    some = pairs[::-2]
    assert dict(found.rows(some)) == {name: rows[::-2] for name, rows in wanted.items()}


@pytest.mark.parametrize("name", ["bert", "roberta", "untyped"])
@settings(deadline=None, max_examples=50)
@given(
    queries=st.lists(TEXTS, min_size=1, max_size=4),
    documents=st.lists(TEXTS, min_size=1, max_size=5),
    max_length=st.integers(4, 80),
)
def test_rows_are_the_tokenizers(
    tokenizers: dict[str, Any], cache: Path, name: str, queries: list[str], documents: list[str], max_length: int
) -> None:
    scorer = Scorer(tokenizers[name], max_length)
    texts = pair_texts([*queries, "snow"], [*documents, "king of bread"])
    found = Tokens(scorer, texts, every(texts), cache)
    assert found.fast
    check(found, scorer, texts)


@pytest.mark.parametrize("odd", ["prompt", "left", "slow", "feature"])
def test_where_rows_are_made_otherwise_the_model_is_asked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    scorer = (Prompted if odd == "prompt" else Scorer)(bert(tiny_model), 16)
    if odd == "left":
        scorer.tokenizer.truncation_side = "left"
    if odd == "slow":
        monkeypatch.setattr(type(scorer.tokenizer), "is_fast", False)
    if odd == "feature":
        plain = scorer.tokenize
        monkeypatch.setattr(scorer, "tokenize", lambda pairs: {**plain(pairs), "positions": [[0]] * len(pairs)})
    texts = pair_texts(["snow", "", "king of chess"], ["bread " * 9, "", "piano key pedal", TOPICS["chess"] * 4])
    found = Tokens(scorer, texts, every(texts), tmp_path / "cache")
    assert not found.fast
    assert not (tmp_path / "cache").exists()
    check(found, scorer, texts)


def test_a_model_that_is_asked_is_not_asked_twice_for_the_pairs_of_a_window(tiny_model: Path, tmp_path: Path) -> None:
    scorer = Prompted(bert(tiny_model), 16)
    texts = pair_texts(["snow", "king"], ["bread", "piano key pedal"])
    found = Tokens(scorer, texts, every(texts), tmp_path)
    found.lengths(every(texts))
    calls = scorer.calls
    found.rows(every(texts)[1:3])
    assert scorer.calls == calls
    found.lengths(every(texts)[:2])
    found.rows(every(texts)[:3])
    assert scorer.calls == calls + 2


def test_queries_that_lose_their_end_are_counted(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = pair_texts(["snow " * 7, "snow " * 6, "king"], ["bread " * 40])
    found = Tokens(Scorer(bert(tiny_model), 16), texts, every(texts), tmp_path)
    assert found.lengths([("q1", "d0")]).tolist() == [16]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "  1 of 3 queries have more than 6 tokens, half of max_length=16: beside a long document the rest of them is "
        "not read"
    )
    Tokens(Scorer(bert(tiny_model), 32), texts, every(texts), tmp_path)
    assert "queries" not in capsys.readouterr().err


@pytest.mark.parametrize(("long", "others", "told"), [(1, 9, True), (1, 10, False), (10, 0, True), (0, 3, False)])
def test_pairs_that_a_prompt_leaves_no_room_are_counted_where_they_are_many(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], long: int, others: int, told: bool
) -> None:
    """Where the two texts are not counted apart: pairs that fill the length."""
    documents = [f"{word} " * size for word, size in [("bread", 16)] * long + [("piano", 3)] * others]
    texts = pair_texts(["snow"], documents)
    found = Tokens(Prompted(bert(tiny_model), 16), texts, every(texts), tmp_path)
    assert not found.fast
    said = f"{long} of {long + others} sampled pairs fill max_length=16: their documents' ends are not read"
    assert (said in capsys.readouterr().err) is told


@pytest.mark.parametrize(("long", "others", "told"), [(1, 9, True), (1, 10, False), (10, 0, True), (0, 3, False)])
def test_documents_that_lose_their_end_are_counted_where_they_are_many(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], long: int, others: int, told: bool
) -> None:
    documents = [f"{word} " * size for word, size in [("bread", 11)] * long + [("piano", 10)] * others]
    texts = pair_texts(["snow", "snow king chess", "king chess oven"], documents)
    found = Tokens(Scorer(bert(tiny_model), 16), texts, every(texts), tmp_path)
    assert found.fast
    said = capsys.readouterr().err
    assert ("their ends are not read" in said) == told
    if told:
        assert f"{long} of {len(documents)} documents ({long / len(documents):.0%}) have more than 10 tokens" in said


def test_beside_a_long_query_a_document_has_half(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = pair_texts(["snow " * 20], ["bread " * 8])
    found = Tokens(Scorer(bert(tiny_model), 16), texts, every(texts), tmp_path)
    read = sum(found.rows([("q0", "d0")])["token_type_ids"][0]) - 1  # but for the last separator
    assert read in (6, 7)
    assert f"1 of 1 documents (100%) have more than {read} tokens" in capsys.readouterr().err


def test_only_pairs_that_were_named_have_tokens(tiny_model: Path, tmp_path: Path) -> None:
    texts = pair_texts(["snow", "king"], ["bread", "piano"])
    found = Tokens(Scorer(bert(tiny_model), 16), texts, [("q0", "d1")], tmp_path)
    assert found.lengths([("q0", "d1")]).tolist() == [5]
    for pair in (("q1", "d1"), ("q0", "d0")):
        with pytest.raises(KeyError):
            found.rows([pair])


def test_of_no_pairs_there_are_no_tokens(tiny_model: Path, tmp_path: Path) -> None:
    found = Tokens(Scorer(bert(tiny_model), 16), pair_texts([], []), [], tmp_path)
    assert not found.fast
    texts = pair_texts(["snow"], ["king"])
    assert Tokens(Scorer(bert(tiny_model), 16), texts, every(texts), tmp_path).lengths([]).tolist() == []


def test_a_document_may_depend_on_its_query(tiny_model: Path, tmp_path: Path) -> None:
    """A title that is a query is left out of its own document, and of no other pair."""
    made = SyntheticQuery("s0", "bread flour", "d0", TITLE, "title")
    texts = pair_texts(["snow"], ["bread flour\nyeast oven", "king"], [made])
    scorer = Scorer(bert(tiny_model), 16)
    found = Tokens(scorer, texts, [("s0", "d0"), ("q0", "d0"), ("s0", "d1"), ("q0", "d1")], tmp_path)
    assert found.fast
    check(found, scorer, texts)
    assert found.lengths([("s0", "d0"), ("q0", "d0")]).tolist() == [2 + 2 + 3, 1 + 4 + 3]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are tokenised by themselves."""
    seen: list[str] = []
    plain = module._plain

    def count(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        seen.extend(texts)
        return plain(tokenizer, texts)

    monkeypatch.setattr(module, "_plain", count)
    return seen


def test_the_file_is_found_again_and_does_not_depend_on_max_length(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 2)
    monkeypatch.setattr(module, "CHUNK", 3)
    texts = pair_texts(["snow", "king", "bread"], [f"piano {word}" for word in WORDS])
    seen = counted(monkeypatch)
    numbers = []
    for max_length in (16, 16, 5):
        seen.clear()
        scorer = Scorer(bert(tiny_model), max_length)
        check(Tokens(scorer, texts, every(texts), tmp_path), scorer, texts)
        numbers.append(len(seen))
    assert numbers[1] == numbers[2] == numbers[0] - 3 - len(WORDS)
    assert len(list(tmp_path.iterdir())) == 1


def test_other_texts_and_other_tokenizers_have_files_of_their_own(tiny_model: Path, tmp_path: Path) -> None:
    """Texts that read the same one after the other are not the same."""
    for documents in (["king", "queen"], ["kingq", "ueen"], ["king", "queen"]):
        texts = pair_texts(["snow"], documents)
        Tokens(Scorer(bert(tiny_model), 16), texts, every(texts), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    Tokens(Scorer(roberta(), 16), texts, every(texts), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    cased = bert(tiny_model)
    cased.backend_tokenizer.normalizer = None
    Tokens(Scorer(cased, 16), texts, every(texts), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_is_written_whole_or_not_at_all(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    texts = pair_texts(["snow"], ["king", "queen", "rook", "pawn"])
    scorer = Scorer(bert(tiny_model), 16)
    plain = module._plain

    def full(tokenizer: Any, part: Sequence[str]) -> list[list[int]]:
        if list(part) == ["rook", "pawn"]:
            raise OSError(28, "no space left on device")
        return plain(tokenizer, part)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_plain", full)
        with pytest.raises(OSError, match="no space"):
            Tokens(scorer, texts, every(texts), tmp_path)
    assert list(tmp_path.iterdir()) == []
    # A kill leaves the temporary file, which the next run takes away.
    with monkeypatch.context() as patch:
        patch.setattr(module, "_plain", full)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(OSError, match="no space"):
            Tokens(scorer, texts, every(texts), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    check(Tokens(scorer, texts, every(texts), tmp_path), scorer, texts)
    assert [path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".")] == [".tokens"]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_tokens_lie_in_the_file(tiny_model: Path, tmp_path: Path) -> None:
    texts = pair_texts(["snow"], ["king", "snow"])
    scorer = Scorer(bert(tiny_model), 16)
    found = Tokens(scorer, texts, every(texts), tmp_path)
    snow, king = module._plain(scorer.tokenizer, ["snow", "king"])
    (path,) = tmp_path.iterdir()
    assert np.fromfile(path, np.int32).tolist() == [1, 1, 1, *snow, *king, *snow]
    assert isinstance(found._ids, np.memmap)


def test_huge_documents_are_not_held_against_each_other(tiny_model: Path, tmp_path: Path) -> None:
    """The parts of one times the parts of the other were gigabytes."""
    scorer = Scorer(bert(tiny_model), 32)
    asked: list[tuple[str, str]] = []
    huge = "bread flour " * 20_000
    texts = pair_texts(["bread", "flour"], [huge, huge + "oven", "oven"])
    tokenize = scorer.tokenize
    scorer.tokenize = lambda pairs: asked.extend(pairs) or tokenize(pairs)  # type: ignore[method-assign, func-returns-value]
    tokens = Tokens(scorer, texts, every(texts), tmp_path)
    assert tokens.fast
    both = [min(map(len, pair)) for pair in asked]
    assert 200 < max(both) <= 8 * 32


def _together(rank: int, port: int, model: Path, folder: Path, results: Any) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    texts = pair_texts(["snow", "king"], ["bread flour", "piano"])
    wrote: list[Path] = []
    write = Tokens._write

    def count(self: Tokens, path: Path) -> None:
        wrote.append(path)
        write(self, path)

    Tokens._write = count  # type: ignore[method-assign]
    found = Tokens(Scorer(bert(model), 16), texts, every(texts), folder)
    results.put((rank, len(wrote), dict(found.rows(every(texts)))))


@pytest.mark.slow
def test_the_lead_writes_for_all_processes(tiny_model: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    started = [
        context.Process(target=_together, args=(rank, port, tiny_model, tmp_path, results), daemon=True)
        for rank in range(2)
    ]
    for process in started:
        process.start()
    found = sorted(results.get(timeout=60) for _ in started)
    for process in started:
        process.join()
    assert [(rank, wrote) for rank, wrote, _ in found] == [(0, 1), (1, 0)]
    assert found[0][2] == found[1][2]
