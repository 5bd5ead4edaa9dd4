"""A language model that orders a list: RankGPT's sliding window (Sun et al. 2023, "Is ChatGPT Good at Search?")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..answercache import Reply
from ..firstwords import WORD
from ..progress import say
from ..run import Scores

Lists = Sequence[tuple[str, Sequence[str]]]
Prompt = list[dict[str, str]]

# Tokens of an answer, where nobody says otherwise: a little prose, and these for every number with its brackets.
PROSE, PER_NUMBER = 64, 8
# Letters of an answer that are looked at.
LONGEST = 20_000
# Ways to write an order; a number may stand in brackets or quotes. Every repetition is bounded: what a model babbles
# takes no time to read.
NUMBER = r"[\[\x22'*]{0,4}(?<!\d)\d{1,9}(?!\d)[\]\x22'*]{0,4}"
CHAINS = (rf"{NUMBER}(?:\s{{0,4}}>\s{{0,4}}{NUMBER})+", rf"{NUMBER}(?:\s{{0,4}},\s{{0,4}}{NUMBER}){{2,}}")


class Chat(Protocol):
    """What `ChatClient` does."""

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
        """Answers in the order of the prompts; those that are not usable are not kept."""
        ...

    def report(self) -> dict[str, Any]:
        """What it cost."""
        ...


class ListwiseTeacher:
    """Orders `window` documents at a time, from the end of the list to its head, so that the best rise through it.

    A list starts in the order in which it is given: that should be the first stage's, for a model leans to the order
    it is shown, and positives put first would be told.

    Attributes:
        windows: how many were ordered.
        unreadable: how many answers named no document at all, or were cut off before they named all: there the order
            stayed.
        cut_off: how many of these were cut off.
        incomplete: how many left documents out, or named one twice or one that is none: those left out follow in
            their order.
        unscored: lists without any readable answer: they have no scores.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        instruction: str,
        window: int,
        step: int,
        passage_words: int,
        max_tokens: int | None = None,
    ) -> None:
        if not 1 <= step <= window:
            raise ValueError(f"step {step} and window {window}: documents would be passed over")
        self.chat, self.instruction = chat, instruction
        self.window, self.step, self.passage_words = window, step, passage_words
        self.max_tokens = max_tokens or PROSE + PER_NUMBER * window
        self.lists = self.unscored = self.documents = self.windows = 0
        self.unreadable = self.cut_off = self.incomplete = 0

    def score_lists(self, lists: Lists, *, label: str | None = None) -> list[Scores]:
        """Order the documents of every query; see `Teacher`.

        Returns:
            For each list `[documents]` the reciprocals of their final ranks. Only the order has a meaning; reciprocals
            keep neighbours apart, so that a candidate is not "near" a positive for standing behind it, and weigh in a
            mean of several teachers what is at the head, where a listwise model can be trusted most. NaN for a list of
            which no answer was readable: the first stage's order must not pass for the teacher's.

        Raises:
            UserError: the endpoint failed. What it answered until then is in its cache.
        """
        before = self.windows, self.unreadable, self.cut_off
        orders = [list(range(len(documents))) for _, documents in lists]
        starts = [windows(len(order), self.window, self.step) for order in orders]
        rounds = max(map(len, starts), default=0)
        # A list of one document needs no answer.
        told = {i for i, windows_of in enumerate(starts) if not windows_of}
        # The windows of a list need each other's answers; those of different lists are asked side by side.
        for turn in range(rounds):
            asked = [(i, starts[i][turn]) for i in range(len(lists)) if turn < len(starts[i])]
            told |= self._order(lists, orders, asked, f"{label} {turn + 1}/{rounds}" if label else None)
        self._tell(*before)
        self.lists += len(lists)
        self.unscored += len(lists) - len(told)
        self.documents += sum(map(len, orders))
        return [
            reciprocal_ranks(order) if i in told else np.full(len(order), np.nan, np.float32)
            for i, order in enumerate(orders)
        ]

    def _order(
        self, lists: Lists, orders: Sequence[list[int]], asked: Sequence[tuple[int, int]], label: str | None
    ) -> set[int]:
        """Order one window of each list that has one: (its place, the window's start); which lists were told of."""
        shown = [orders[i][start : start + self.window] for i, start in asked]
        answers = self.chat.complete(
            [self._prompt(*lists[i], places) for (i, _), places in zip(asked, shown, strict=True)],
            max_tokens=self.max_tokens,
            temperature=0.0,
            label=label,
            # The next run asks again for what names nothing.
            usable=lambda place, reply: bool(named(reply, len(shown[place]))),
        )
        told = set()
        for (i, start), places, answer in zip(asked, shown, answers, strict=True):
            if found := self._read(answer, len(places)):
                orders[i][start : start + self.window] = [places[j] for j in found]
                told.add(i)
        return told

    def report(self) -> dict[str, Any]:
        """Lists, documents, windows, and how many answers were faulty; and what the endpoint cost."""
        return {
            **self.chat.report(),
            "lists": self.lists,
            "unscored": self.unscored,
            "documents": self.documents,
            "windows": self.windows,
            "unreadable": self.unreadable,
            "cut_off": self.cut_off,
            "incomplete": self.incomplete,
        }

    def _prompt(self, query: str, documents: Sequence[str], shown: Sequence[int]) -> Prompt:
        passages = [passage(documents[place], self.passage_words) for place in shown]
        return prompt(passage(query, self.passage_words), passages, self.instruction)

    def _read(self, reply: Reply, count: int) -> list[int]:
        """The order in an answer; empty if it gives none."""
        self.windows += 1
        found = named(reply, count)
        if not found:
            self.unreadable += 1
            self.cut_off += reply.cut
            return []
        self.incomplete += sorted(found) != list(range(1, count + 1))
        return permutation(found, count)

    def _tell(self, windows_before: int, unreadable_before: int, cut_off_before: int) -> None:
        """Say how many answers since then give no order."""
        unreadable, cut_off = self.unreadable - unreadable_before, self.cut_off - cut_off_before
        if unreadable:
            why = f"; {cut_off} of them were cut off: raise max_tokens (now {self.max_tokens})" if cut_off else ""
            count = self.windows - windows_before
            say(f"  {unreadable} of {count} answers of the listwise teacher give no order of passages{why}")


def windows(count: int, window: int, step: int) -> list[int]:
    """Where the windows over `count` documents start, from the last to the first; none where there is nothing to order.

    Neighbours overlap by `window - step` documents; the first window starts at 0, and may overlap more.
    """
    if count < 2:
        return []
    starts = range(max(0, count - window), 0, -step)
    return [*starts, 0]


def passage(text: str, words: int) -> str:
    """The first words of a text in one line, with no number in brackets that could be taken for a passage's."""
    # A slice first: a document of megabytes is not split for its first lines.
    head = text.lstrip()[: 4 * WORD * words].split()[:words]
    return re.sub(r"\[(\d+)\]", r"(\1)", " ".join(head)[: WORD * words])


def prompt(query: str, passages: Sequence[str], instruction: str) -> Prompt:
    """The messages that ask for an order of passages, which are known by their number from 1 alone."""
    count = len(passages)
    listed = "\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))
    return [
        {"role": "system", "content": "You rank passages by how relevant they are to a search query."},
        {
            "role": "user",
            "content": (
                f"Task: {instruction}\nSearch query: {query}\n\n{count} passages, each after its number:\n\n"
                f"{listed}\n\nSearch query: {query}\n\nRank all {count} passages, the most relevant first. Answer "
                "with their numbers only, in this form: [2] > [1] > [3]. Give no explanation."
            ),
        },
    ]


def numbers(answer: str) -> list[int]:
    """The numbers that an answer orders passages by, as they stand; none if it gives no order.

    They are looked for in the longest chain, `[2] > [1]` or `2 > 1`, then in the longest list of three or more,
    `[2, 1, 3]` or `2, 1, 3`, then in brackets anywhere, then bare, if there is not a letter beside them: other numbers
    in prose are none.
    """
    answer = answer[:LONGEST]
    for pattern in CHAINS:
        if found := re.findall(pattern, answer):
            return whole_numbers(max(found, key=len))
    if found := re.findall(r"\[\W{0,4}\d{1,9}\W{0,4}\]", answer):
        return whole_numbers(" ".join(found))
    return [] if re.search(r"[^\W\d_]", answer) else whole_numbers(answer)


def named(reply: Reply, count: int) -> list[int]:
    """The numbers in a reply, thoughts aside, to a window of `count` passages.

    None if they name no passage, or not all in an answer that was cut off: it may be a thought that never ended.
    """
    found = numbers(reply.said)
    passages = {number for number in found if 1 <= number <= count}
    return found if passages and (not reply.cut or len(passages) == count) else []


def whole_numbers(text: str) -> list[int]:
    """All numbers in a text, but for those too long to be a passage's."""
    return [int(number) for number in re.findall(r"\d+", text) if len(number) < 10]


def permutation(named: Sequence[int], count: int) -> list[int]:
    """An order of the places 0 … count - 1: those named (from 1) first, once each; the others follow in their order."""
    kept = dict.fromkeys(number - 1 for number in named if 1 <= number <= count)
    return [*kept, *(place for place in range(count) if place not in kept)]


def reciprocal_ranks(order: Sequence[int]) -> Scores:
    """`[documents]` 1 / rank of each, `order` being the documents from the first to the last."""
    scores = np.zeros(len(order), np.float32)
    scores[np.array(order, np.int64)] = 1 / np.arange(1, len(order) + 1)
    return scores
