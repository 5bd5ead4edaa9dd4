"""The context of a language model: never over the budget, best first, no sentence cut, nothing said twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.serve import Piece, Result
from secondstage.serve.packing import cut, distinct, pack


def results(*texts: str, title: str = "") -> list[Result]:
    return [Result(i, f"d{i}", title, text, 1.0, 1.0, i, 1.0, "bm25") for i, text in enumerate(texts, 1)]


def words(text: str) -> int:
    return len(text.split())


FIRST = "Yeast makes dough rise. It needs warmth. Cold slows it down."
SECOND = "A bishop moves diagonally. A rook does not. Kings are slow!"


@pytest.mark.parametrize(
    ("budget", "pieces"),
    [
        (100, [Piece("d1", FIRST), Piece("d2", SECOND)]),
        (22, [Piece("d1", FIRST), Piece("d2", SECOND)]),
        (21, [Piece("d1", FIRST), Piece("d2", "A bishop moves diagonally. A rook does not.", False)]),
        (15, [Piece("d1", FIRST), Piece("d2", "A bishop moves diagonally.", False)]),
        (14, [Piece("d1", FIRST)]),
        (10, [Piece("d1", "Yeast makes dough rise. It needs warmth.", False)]),
        (3, []),
    ],
)
def test_whole_documents_and_then_whole_sentences(budget: int, pieces: list[Piece]) -> None:
    assert pack(results(FIRST, SECOND), budget, words) == pieces


def test_titles_are_part_of_the_text() -> None:
    (piece,) = pack(results("One. Two.", title="Numbers"), 10, words)
    assert piece == Piece("d1", "Numbers\nOne. Two.")


def test_what_was_said_is_not_said_again() -> None:
    again = FIRST.upper().replace(".", " !")
    assert [piece.doc_id for piece in pack(results(FIRST, again, SECOND, FIRST), 1000, words)] == ["d1", "d3"]
    assert [doc_id for doc_id, _ in distinct(results("a b", "a b"), alike=1.0)] == ["d1"]


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("He said “stop.” Then he left.", 3, "He said “stop.”"),
        ("Version 3.10 is out. Use it.", 4, "Version 3.10 is out."),
        ("没有空格。第二句。", 1, "没有空格。第二句。"),
        ("no end at all", 2, ""),
        ("first line\nsecond line", 2, "first line"),
        ("", 5, ""),
    ],
)
def test_sentences(text: str, budget: int, expected: str) -> None:
    assert cut(text, budget, words) == expected


@given(
    st.lists(st.text(alphabet="ab .!?\n。é", max_size=60).filter(str.strip), max_size=6),
    st.integers(1, 60),
    st.sampled_from([words, len, lambda text: len(text.encode()) // 3 + 1]),
)
def test_never_over_the_budget(texts: list[str], budget: int, count) -> None:  # type: ignore[no-untyped-def]
    found = results(*texts)
    pieces = pack(found, budget, count)
    assert sum(count(piece.text) for piece in pieces) <= budget
    by_id = {result.doc_id: result.text for result in found}
    order = list(by_id)
    assert [order.index(piece.doc_id) for piece in pieces] == sorted({order.index(piece.doc_id) for piece in pieces})
    for piece in pieces:
        assert by_id[piece.doc_id].startswith(piece.text)
        assert piece.text
    assert all(piece.whole for piece in pieces[:-1])
