"""The words around a pair: put where a tokenizer runs texts together, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from secondstage.errors import UserError
from secondstage.pairtext import WORDS, put_words_around, tells_pairs_apart, writes_words

from .families import byte_tokenizer

BOUNDS = {"bos_token": "<s>", "eos_token": "</s>"}
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "nothing": byte_tokenizer,
    "a start for each text": lambda: byte_tokenizer(**BOUNDS),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_are_put_where_texts_run_together(kind: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[kind]()
    single = tokenizer("ab")["input_ids"]
    assert not tells_pairs_apart(tokenizer)
    assert not writes_words(tokenizer)
    assert put_words_around(tokenizer)
    assert tells_pairs_apart(tokenizer)
    assert writes_words(tokenizer)
    assert not put_words_around(tokenizer)
    start = "<s>" if "start" in kind else ""
    expected = f"{start}{WORDS[0]}ab{WORDS[1]}cd{WORDS[2]}"
    assert tokenizer.decode(tokenizer("ab", "cd")["input_ids"]) == expected
    assert tokenizer("ab")["input_ids"] == single
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.decode(again("ab", "cd")["input_ids"]) == expected


def test_a_pair_is_cut_in_its_texts_only() -> None:
    tokenizer = byte_tokenizer()
    put_words_around(tokenizer)
    ids = tokenizer("q" * 100, "d" * 60, truncation=True, max_length=80)["input_ids"]
    assert len(ids) == 80
    text = tokenizer.decode(ids)
    room = 80 - sum(map(len, WORDS))
    query, document = text.removeprefix(WORDS[0]).removesuffix(WORDS[2]).split(WORDS[1])
    assert (set(query), set(document)) == ({"q"}, {"d"})
    assert len(query) + len(document) == room == 80 - tokenizer.num_special_tokens_to_add(pair=True)
    assert abs(len(query) - len(document)) <= 1


def test_a_tokenizer_that_ends_or_parts_texts_is_left_as_it_is(tiny_model: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    before = tokenizer("snow", "ice")["input_ids"]
    assert not put_words_around(tokenizer)
    assert tokenizer("snow", "ice")["input_ids"] == before
    ending = byte_tokenizer(eos_token="</s>")  # as T5's: each text ends with a token
    ending.add_eos_token = True
    assert tells_pairs_apart(ending)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    class Slow:
        bos_token = None

        def __call__(self, *texts: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for text in texts for letter in text]}

    with pytest.raises(UserError, match="runs query and document together"):
        put_words_around(Slow())
