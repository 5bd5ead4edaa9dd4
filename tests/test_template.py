"""The pair template: what the tokenizer does to a pair, done to the tokens of its texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.train.template import PairTemplate, longest_first


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_the_cut_leaves_as_much_as_there_is_room_and_takes_from_the_longer(
    query: int, document: int, room: int
) -> None:
    (kept_query,), (kept_document,) = longest_first(np.array([query]), np.array([document]), room)
    assert 0 <= kept_query <= query
    assert 0 <= kept_document <= document
    assert kept_query + kept_document == min(query + document, room)
    if kept_query < query:
        assert kept_query >= kept_document - 1
    if kept_document < document:
        assert kept_document >= kept_query - 1


@pytest.mark.parametrize(
    ("query", "document", "room", "left"),
    [
        (0, 0, 10, (0, 0)),
        (3, 7, 10, (3, 7)),
        (3, 8, 10, (3, 7)),
        (8, 3, 10, (7, 3)),
        (0, 50, 10, (0, 10)),
        (50, 50, 10, (5, 5)),
        (50, 50, 11, (5, 6)),
        (50, 60, 11, (5, 6)),
        (60, 50, 11, (6, 5)),
        (5, 50, 11, (5, 6)),
        (50, 5, 11, (6, 5)),
        (4, 4, 0, (0, 0)),
    ],
)
def test_the_cut_at_its_edges(query: int, document: int, room: int, left: tuple[int, int]) -> None:
    found = longest_first(np.array([query]), np.array([document]), room)
    assert (int(found[0][0]), int(found[1][0])) == left


class Encoded(dict[str, Any]):
    """One pair, as a fast tokenizer gives it."""

    def __init__(self, sides: list[int | None], **rows: list[int]) -> None:
        super().__init__({name: [row] for name, row in rows.items()})
        self.sides = sides

    def sequence_ids(self, number: int) -> list[int | None]:
        assert number == 0
        return self.sides


def test_a_template_with_types_that_differ_among_special_tokens() -> None:
    """As XLNet has it: nothing before, and a class token of its own type at the end."""
    sides = [0, 0, None, 1, None, None]
    template = PairTemplate.probe(
        Encoded(sides, input_ids=[11, 12, 4, 21, 4, 3], token_type_ids=[0, 0, 0, 1, 1, 2], attention_mask=[1] * 6)
    )
    assert template == PairTemplate(([], [4], [4, 3]), ([], [0], [1, 2]), (0, 1))
    assert template is not None
    assert template.size == 3
    made = template.rows([[7], []], [[], [8, 9]], ("input_ids", "token_type_ids", "attention_mask"))
    assert made == {
        "input_ids": [[7, 4, 4, 3], [4, 8, 9, 4, 3]],
        "token_type_ids": [[0, 0, 1, 2], [0, 1, 1, 1, 2]],
        "attention_mask": [[1] * 4, [1] * 5],
    }
    assert list(template.rows([[7]], [[8]], ("input_ids",))) == ["input_ids"]


@pytest.mark.parametrize("sides", [[None, 0, None], [None, 1, None], [None], [1, None, 0], [0, 1, 0]])
def test_what_is_no_query_followed_by_a_document_has_no_template(sides: list[int | None]) -> None:
    assert PairTemplate.probe(Encoded(sides, input_ids=[1] * len(sides))) is None


def test_the_template_of_a_bert(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    template = PairTemplate.probe(tokenizer(["snow"], ["king queen"]))
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert template == PairTemplate(([start], [end], [end]), ([0], [0], [1]), (0, 1))
