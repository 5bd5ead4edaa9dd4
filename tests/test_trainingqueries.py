"""Which queries are mined: those with a positive, without what gives dev or test away, as many as asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from secondstage.collection import Collection, Qrels
from secondstage.config import MineConfig
from secondstage.errors import UserError
from secondstage.mine.trainingqueries import training_queries

TEXTS = {
    "a": "how is bread baked in an oven",
    "b": "why do bicycles stay upright",
    "c": "when does the river freeze over",
    "d": "who moves first in a game of chess",
    "dev": "how is bread baked in an oven now",
    "test": "what do pianos weigh",
}
TRAIN: Qrels = {"a": {"d1": 1}, "b": {"d2": 2, "d3": 1}, "c": {"d4": 0}, "d": {"d5": 1, "d2": 0}}


def collection(train: Qrels = TRAIN, **others: Qrels) -> Collection:
    splits: dict[str, Qrels] = {"dev": {"dev": {"d9": 1}}, "test": {"test": {"d5": 1}}, **others}
    return cast(Collection, SimpleNamespace(name="few", queries=TEXTS, qrels={"train": train, **splits}))


def found(settings: Any = None, **others: Qrels) -> list[str]:
    return list(training_queries(collection(**others), MineConfig(**(settings or {})), 13).qrels)


def test_queries_without_a_positive_are_left_out_and_counted() -> None:
    queries = training_queries(collection(), MineConfig(), 13)
    assert queries.qrels == {query_id: TRAIN[query_id] for query_id in ("a", "b", "d")}
    assert queries.counts == {"train_queries_without_positive": 1}
    assert queries.notes == ["1 of 4 training queries have no judgement of mine.positive_from=1 or higher: left out"]
    assert found({"positive_from": 2}) == ["b"]


def test_nothing_is_said_of_nothing_left_out() -> None:
    queries = training_queries(collection({"a": {"d1": 1}}), MineConfig(), 13)
    assert (queries.counts, queries.notes) == ({"train_queries_without_positive": 0}, [])


def test_queries_that_share_a_text_or_a_document_with_a_held_out_one_are_left_out_on_request() -> None:
    assert found() == ["a", "b", "d"]
    queries = training_queries(collection(), MineConfig(exclude_leaks="queries"), 13)
    assert list(queries.qrels) == ["b", "d"]
    assert queries.counts["train_queries_excluded_as_leaks"] == 1
    assert queries.notes[-1] == "1 of 3 training queries share their text, nearly, with a query of dev, test: left out"
    assert found({"exclude_leaks": "documents"}) == ["b"]


def test_a_held_out_query_without_a_relevant_document_gives_nothing_away() -> None:
    settings = {"exclude_leaks": "queries"}
    assert found(settings, dev={"dev": {"d9": 0}}) == ["a", "b", "d"]


def test_that_nothing_is_left_is_an_error() -> None:
    train: Qrels = {"a": {"d1": 1}, "d": {"d5": 1}}
    with pytest.raises(UserError, match=r"all 2 training queries share .* mine\.exclude_leaks=documents leaves none"):
        training_queries(collection(train), MineConfig(exclude_leaks="documents"), 13)


def test_as_many_as_asked_for_are_chosen_after_the_leaks_are_out() -> None:
    train: Qrels = {"a": {"d1": 1}, "b": {"d2": 1}, "c": {"d4": 1}}
    for seed in range(5):
        config = MineConfig(exclude_leaks="queries", max_queries=2)
        assert list(training_queries(collection(train), config, seed).qrels) == ["b", "c"]
    chosen = {tuple(training_queries(collection(train), MineConfig(max_queries=1), seed).qrels) for seed in range(20)}
    assert chosen == {("a",), ("b",), ("c",)}


def test_no_train_split_is_no_query() -> None:
    assert found(train={}) == []
