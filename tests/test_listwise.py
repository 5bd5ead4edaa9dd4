"""The listwise teacher: windows, prompts, answers of every kind, and the order that comes of them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.answercache import Reply
from secondstage.chat import ChatClient
from secondstage.config import EndpointConfig
from secondstage.errors import UserError
from secondstage.run import Scores
from secondstage.teachers.listwise import ListwiseTeacher, numbers, passage, permutation, prompt, windows

from .conftest import serving
from .server import Answer, JsonServer

SHOWN = re.compile(r"^\[(\d+)\] value (\d+)$", re.MULTILINE)


class Sorting:
    """A model that orders passages "value n" by n, the largest first, and says so as `say` does."""

    def __init__(self, say: str = " > ", *, cut: bool = False) -> None:
        self.cut = cut
        self.say, self.asked = say, list[Sequence[Mapping[str, str]]]()

    def complete(
        self,
        prompts: Sequence[Sequence[Mapping[str, str]]],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        label: str | None = None,
        usable: Callable[[int, Reply], bool] | None = None,
    ) -> list[Reply]:
        assert temperature == 0
        self.max_tokens = max_tokens
        self.asked.extend(prompts)
        return [Reply(self.answer(messages), cut=self.cut) for messages in prompts]

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        shown = SHOWN.findall(messages[-1]["content"])
        ordered = sorted(shown, key=lambda found: -int(found[1]))
        return self.say.join(f"[{number}]" for number, _ in ordered)

    def report(self) -> dict[str, Any]:
        return {"requests": len(self.asked)}


def teacher(chat: Any, window: int = 4, step: int = 2, **settings: Any) -> ListwiseTeacher:
    return ListwiseTeacher(chat, instruction="find values", window=window, step=step, passage_words=50, **settings)


def values(*numbers: int) -> list[str]:
    return [f"value {number}" for number in numbers]


def ranks(scores: Scores) -> list[int]:
    """The rank of each document, from 1."""
    return [round(1 / score) for score in scores.tolist()]


# --- windows


@given(st.integers(0, 120), st.integers(2, 30), st.data())
def test_windows_go_from_the_end_to_the_head_and_leave_nothing_out(
    count: int, window: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(1, window))
    starts = windows(count, window, step)
    if count < 2:
        assert starts == []
        return
    assert starts[0] == max(0, count - window)
    assert starts[-1] == 0
    assert all(0 < before - after <= step for before, after in pairwise(starts))
    assert {place for start in starts for place in range(start, min(start + window, count))} == set(range(count))


def test_the_papers_windows() -> None:
    assert windows(100, 20, 10) == [80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert windows(25, 20, 10) == [5, 0]
    assert windows(20, 20, 10) == [0]


@given(st.lists(st.integers(0, 999), unique=True, min_size=1, max_size=30), st.sampled_from([" > ", ", ", "\n"]))
@settings(max_examples=60, deadline=None)
def test_the_best_rise_to_the_head_whatever_the_order_given(given_values: list[int], say: str) -> None:
    """With windows of 6 that step by 3, the three best of any list come to its head."""
    chat = Sorting(say)
    (scores,) = teacher(chat, window=6, step=3).score_lists([("q", values(*given_values))])
    assert sorted(ranks(scores)) == list(range(1, len(given_values) + 1))
    best = sorted(given_values, reverse=True)[:3]
    assert [given_values[i] for i in np.argsort(-scores, kind="stable")[:3]] == best


def test_a_list_within_the_window_is_ordered_at_once() -> None:
    chat = Sorting()
    (scores,) = teacher(chat).score_lists([("q", values(2, 9, 4, 7))])
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([1 / 4, 1, 1 / 3, 1 / 2])
    assert len(chat.asked) == 1


def test_lists_of_any_length_go_side_by_side() -> None:
    rng = random.Random(5)
    lists = [(f"query {i}", values(*rng.sample(range(1000), i))) for i in (0, 1, 3, 17, 4, 9)]
    chat = Sorting()
    together = teacher(chat).score_lists(lists)
    alone = [teacher(Sorting()).score_lists([one])[0] for one in lists]
    assert [scores.tolist() for scores in together] == [scores.tolist() for scores in alone]
    assert [len(scores) for scores in together] == [0, 1, 3, 17, 4, 9]
    assert together[1].tolist() == [1]
    assert len(chat.asked) == sum(len(windows(i, 4, 2)) for i in (0, 1, 3, 17, 4, 9))
    assert teacher(chat).score_lists([]) == []


# --- prompts


def test_a_prompt_shows_query_task_and_numbered_passages_and_nothing_else() -> None:
    system, user = prompt("fast bread", ["first text", "second text"], "find recipes")
    assert (system["role"], user["role"]) == ("system", "user")
    assert "[1] first text\n[2] second text\n" in user["content"]
    assert user["content"].count("fast bread") == 2
    assert "find recipes" in user["content"]
    assert "[3] text" not in user["content"]


def test_the_numbers_of_a_window_are_its_own() -> None:
    chat = Sorting()
    teacher(chat).score_lists([("q", values(*range(10)))])
    for messages in chat.asked:
        assert [int(number) for number, _ in SHOWN.findall(messages[-1]["content"])] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n two\tthree  four", "one two three"),
        ("see [3] and [12]", "see (3) and"),
        ("[12]", "(12)"),
        ("", ""),
        ("漢" * 1000, "漢" * 30),
        (" " * 10_000_000 + "x", "x"),
    ],
)
def test_a_passage_is_cut_and_cannot_pass_for_another(text: str, shown: str) -> None:
    assert passage(text, 3) == shown


# --- answers


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("[2] > [1] > [3]", [2, 1, 3]),
        ("2 > 1 > 3", [2, 1, 3]),
        ("[2]>[1]>[3]", [2, 1, 3]),
        ("**[2]** > **[1]** > **[3]**", [2, 1, 3]),
        ("[2] >\n[1] >\n[3]", [2, 1, 3]),
        ("Sure! Of these 20 passages, the ranking is: [2] > [1] > [3]. Hope it helps (5/5)!", [2, 1, 3]),
        ("[1] is about 7 rivers, [3] about bread.\n\nRanking: [3] > [2] > [1]", [3, 2, 1]),
        ("[3] > [1] is clear; all together: [2] > [3] > [1]", [2, 3, 1]),
        ("[2, 1, 3]", [2, 1, 3]),
        ("[2,1]", [2, 1]),
        ('["2", "1", "3"]', [2, 1, 3]),
        ('{"ranking": [2, 1, 3]}', [2, 1, 3]),
        ("```json\n[2, 1, 3]\n```", [2, 1, 3]),
        ("The order is 2, 1, 3.", [2, 1, 3]),
        ("1. [3]\n2. [1]\n3. [2]", [3, 1, 2]),
        ("2 1 3", [2, 1, 3]),
        ("2\n1\n3", [2, 1, 3]),
        ("[2]", [2]),
        ("[ 2 ] then [ 1 ]", [2, 1]),
        ("[2] > [2] > [9] > [0]", [2, 2, 9, 0]),
        ("[12345678901234567890] > [1]", [1]),
        ("", []),
        ("I cannot rank the 3 passages, as of 2023.", []),
        ("none", []),
        ("[]", []),
        (">" * 100_000, []),
        ("1" * 100_000, []),
        ("[" * 100_000, []),
        (" " * 100_000 + ">", []),
    ],
)
def test_numbers_are_found_in_answers_of_every_kind(answer: str, found: list[int]) -> None:
    assert numbers(answer) == found


@given(st.lists(st.integers(-3, 30), max_size=40), st.integers(0, 20))
def test_whatever_is_named_each_document_has_one_place(named: list[int], count: int) -> None:
    order = permutation(named, count)
    assert sorted(order) == list(range(count))
    usable = [number - 1 for number in dict.fromkeys(named) if 1 <= number <= count]
    assert order[: len(usable)] == usable
    assert order[len(usable) :] == sorted(order[len(usable) :])


class Saying(Sorting):
    """Always gives the same answer."""

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self.say


@pytest.mark.parametrize(
    ("answer", "expected", "unreadable", "incomplete"),
    [
        ("[3] > [1] > [2]", [2, 3, 1], 0, 0),
        ("[3] > [1]", [2, 3, 1], 0, 1),
        ("[3] > [3] > [1] > [2]", [2, 3, 1], 0, 1),
        ("[3] > [7] > [1] > [2]", [2, 3, 1], 0, 1),
        ("[7] > [0]", [], 1, 0),
        ("sorry", [], 1, 0),
        ("", [], 1, 0),
    ],
)
def test_faulty_answers_are_counted_and_lose_no_document(
    answer: str, expected: list[int], unreadable: int, incomplete: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = teacher(Saying(answer))
    (scores,) = asked.score_lists([("q", values(1, 2, 3))])
    assert np.isnan(scores).tolist() == [not expected] * 3
    assert not expected or ranks(scores) == expected
    assert ("1 of 1 answers of the listwise teacher give no order" in capsys.readouterr().err) == (unreadable > 0)
    assert asked.report() == {
        "requests": 1,
        "lists": 1,
        "unscored": unreadable,
        "documents": 3,
        "windows": 1,
        "unreadable": unreadable,
        "cut_off": 0,
        "incomplete": incomplete,
    }


@pytest.mark.parametrize(
    ("answer", "cut", "expected"),
    [
        # Of models whose template opens the thought.
        ("I thought [1] > [2] > [3]. But no.</think>[3] > [2] > [1]", False, [3, 2, 1]),
        ("x" * 30_000 + "[1] > [2] > [3]</think>[3] > [2] > [1]", False, [3, 2, 1]),
        ("<think>[1] > [2]? No, 9.</think>[2] > [1] > [3]", False, [2, 1, 3]),
        ("Perhaps [2] > [1], but", True, []),
        ("[3] > [2] > [1]. For the third", True, [3, 2, 1]),
        ("<think>[3] > [2] > [1]", True, []),
    ],
)
def test_what_a_model_thought_is_no_order(
    answer: str, cut: bool, expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = teacher(Saying(answer, cut=cut), max_tokens=99)
    (scores,) = asked.score_lists([("q", values(1, 2, 3))])
    assert np.isnan(scores).tolist() == [not expected] * 3
    assert not expected or ranks(scores) == expected
    assert asked.report()["cut_off"] == (not expected)
    assert ("1 of them were cut off: raise max_tokens (now 99)" in capsys.readouterr().err) == (not expected)


def test_only_a_list_of_which_nothing_was_told_has_no_scores() -> None:
    class Shy(Sorting):
        """Says nothing of the best, and nothing at all of small values."""

        def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
            shown = {int(value) for _, value in SHOWN.findall(messages[-1]["content"])}
            return "" if 99 in shown or min(shown) < 10 else super().answer(messages)

    lists = [("q", values(99, 20, 30, 40, 50, 60)), ("q", values(1, 2, 3)), ("q", values(4))]
    first, second, third = teacher(Shy()).score_lists(lists)
    assert ranks(first) == [1, 2, 6, 5, 4, 3]  # the first window stays as the second left it
    assert np.isnan(second).all()
    assert third.tolist() == [1]


def test_an_answer_may_take_as_many_tokens_as_asked_for() -> None:
    for given_settings, expected in (({}, 64 + 8 * 4), ({"max_tokens": 9000}, 9000)):
        chat = Sorting()
        teacher(chat, **given_settings).score_lists([("q", values(1, 2))])
        assert chat.max_tokens == expected


def test_a_step_wider_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="passed over"):
        teacher(Sorting(), window=3, step=4)


# --- behind an endpoint


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    sorting = Sorting()
    server = JsonServer("/v1", lambda body: {"choices": [{"message": {"content": sorting.answer(body["messages"])}}]})
    with serving(server):
        yield server


def test_after_a_kill_only_what_was_not_answered_is_asked(api: JsonServer, tmp_path: Path) -> None:
    lists = [(f"query {i}", values(*random.Random(i).sample(range(1000), 11))) for i in range(5)]
    expected = [scores.tolist() for scores in teacher(Sorting()).score_lists(lists)]
    endpoint = EndpointConfig(url=api.url, model="m", concurrency=1)

    def ranked() -> list[Any]:
        chat = ChatClient(endpoint, cache=tmp_path / "answers", backoff=0.001)
        return [scores.tolist() for scores in teacher(chat).score_lists(lists)]

    api.misbehave = lambda server, body: (404, b"no", {}) if len(server.seen) == 13 else None
    with pytest.raises(UserError, match="status 404"):
        ranked()
    # A kill in the middle of a write.
    answers = tmp_path / "answers"
    answers.write_bytes(answers.read_bytes()[:-9])
    api.misbehave = lambda server, body: None
    before = len(api.seen)
    assert ranked() == expected
    prompts = [json.dumps(body["messages"]) for body in api.seen]
    # Twelve were answered (a second request may have been under way), the last one's line was torn.
    assert len(set(prompts)) == 5 * len(windows(11, 4, 2))
    assert len(prompts) - len(set(prompts)) <= 3
    assert ranked() == expected
    assert len(api.seen) == len(prompts) > before


def test_what_names_no_passage_is_asked_again_by_the_next_run(api: JsonServer, tmp_path: Path) -> None:
    lists = [(f"query {i}", values(*random.Random(i).sample(range(1000), 3))) for i in range(5)]
    endpoint = EndpointConfig(url=api.url, model="m", concurrency=1)

    def ranked() -> list[Scores]:
        return teacher(ChatClient(endpoint, cache=tmp_path / "answers", backoff=0.001)).score_lists(lists)

    # A model that thinks until its tokens are used up, one whose number is none of the three, and one refused.
    cut_off = json.dumps({"choices": [{"message": {"content": "<think> 1 or 2"}}]}).encode()
    off = json.dumps({"choices": [{"message": {"content": "[4] > [5]"}}]}).encode()
    answers: dict[str, Answer] = {
        "query 1": (200, cut_off, {}),
        "query 2": (200, off, {}),
        "query 4": (400, b"filtered", {}),
    }
    api.misbehave = lambda server, body: next(
        (answer for query, answer in answers.items() if f"query: {query}" in body["messages"][-1]["content"]), None
    )
    assert [bool(np.isnan(scores).any()) for scores in ranked()] == [False, True, True, False, True]
    api.misbehave = lambda server, body: None
    api.seen.clear()
    assert [scores.tolist() for scores in ranked()] == [s.tolist() for s in teacher(Sorting()).score_lists(lists)]
    assert len(api.seen) == 3
