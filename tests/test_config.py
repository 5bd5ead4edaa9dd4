"""The sections of a configuration: their bounds, their defaults, and that they stay as they were checked."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from secondstage.config import BUDGETS, Config, Section
from secondstage.configfile import check_config, override
from secondstage.errors import UserError

MINIMAL: dict[str, Any] = {"output": "runs/x", "collection": "pydocs", "train": {"minutes": 4}}


def check(*overrides: str) -> Config:
    return check_config(override(MINIMAL, overrides))


def fault(*overrides: str) -> str:
    """The only fault."""
    with pytest.raises(UserError) as caught:
        check(*overrides)
    headline, *faults = str(caught.value).splitlines()
    assert headline == "config: 1 fault"
    (only,) = faults
    return only.strip()


def sections(config: BaseModel) -> list[Section]:
    inner = [value for _, value in config if isinstance(value, Section)]
    return [*inner, *(found for section in inner for found in sections(section))]


def test_one_fold_is_none() -> None:
    assert check("train.folds=2").train.folds == 2
    assert fault("train.folds=1") == "train.folds: 1 leaves nothing to train on: give 0 for none, or 2 and more"


def test_the_least_that_a_run_needs() -> None:
    config = check()
    assert (config.output, config.collection.source, config.train.minutes) == ("runs/x", "pydocs", 4.0)
    assert isinstance(config.train.minutes, float)
    assert config.seed == 13


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "-1"),
        ("seed", "1.0"),
        ("seed", "true"),
        ("seed", "'13'"),
        ("output", "2024"),
        ("collection.dev_share", "-0.01"),
        ("collection.dev_share", "1.01"),
        ("collection.test_share", "1.01"),
        ("collection.drop_invalid", "1"),
        ("collection.source", "3"),
        ("first_stage.kind", "bm52"),
        ("first_stage.fusion", "mean"),
        ("first_stage.weight", "1.5"),
        ("first_stage.depth", "0"),
        ("first_stage.bm25.k1", "0"),
        ("first_stage.bm25.b", "2"),
        ("first_stage.dense.max_length", "7"),
        ("first_stage.dense.batch_size", "0"),
        ("mine.depth", "0"),
        ("mine.depth", "10.5"),
        ("mine.negatives", "-3"),
        ("mine.max_share", "0"),
        ("mine.max_queries", "0"),
        ("train.minutes", "0"),
        ("train.minutes", ".nan"),
        ("train.steps", "-1"),
        ("train.steps", "1.5"),
        ("train.epochs", "-1"),
        ("train.max_length", "15"),
        ("train.batch_tokens", "63"),
        ("train.learning_rate", "0"),
        ("train.learning_rate", "fast"),
        ("train.warmup", "1.1"),
        ("train.weight_decay", "-0.1"),
        ("train.dropout", "2"),
        ("train.clip", "0"),
        ("train.precision", "fp8"),
        ("train.tracker", "mlflow"),
        ("serve.depth", "0"),
        ("serve.max_depth", "0"),
        ("serve.weight", "-0.1"),
        ("serve.latency_ms", "0"),
        ("serve.fallback", "maybe"),
        ("evaluate.confidence", "0.5"),
        ("evaluate.confidence", "1"),
        ("evaluate.resamples", "99"),
        ("evaluate.extra_splits", "human"),
        ("evaluate.replicates", "runs/seed2/bundle"),
        ("evaluate.baseline_queries", "0"),
        ("evaluate.depth_queries", "0"),
        ("evaluate.latency_queries", "0"),
        ("evaluate.rerankers", "teacher"),
        ("evaluate.exports.onnx", "3"),
        ("evaluate.slices", "[hard]"),
        ("evaluate.remote", "http://127.0.0.1"),
        ("evaluate.gate.leaks", "none"),
        ("evaluate.gate.export_loss", "-0.1"),
        ("evaluate.gate", "strict"),
        ("first_stage", "[bm25]"),
        ("train", "4"),
    ],
)
def test_an_impossible_value_is_named_with_its_key(key: str, value: str) -> None:
    told = fault(f"{key}={value}")
    assert told.startswith(f"{key}: ")
    assert "input should be" in told
    assert re.search(r", not .+$", told)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "0"),
        ("collection.dev_share", "0"),
        ("collection.dev_share", "1"),
        ("first_stage.weight", "1"),
        ("first_stage.dense.max_length", "8"),
        ("mine.max_share", "1.5"),
        ("train.steps", "0"),
        ("train.epochs", "0.5"),
        ("train.max_length", "16"),
        ("train.batch_tokens", "64"),
        ("train.warmup", "0"),
        ("serve.weight", "0"),
        ("serve.max_depth", "1"),
        ("evaluate.baseline_queries", "1"),
        ("evaluate.gate.margin", "-1"),
        ("evaluate.gate.export_loss", "0"),
        ("evaluate.confidence", "0.51"),
        ("evaluate.resamples", "100"),
    ],
)
def test_the_bounds_themselves_are_allowed(key: str, value: str) -> None:
    found: Any = check(f"{key}={value}")
    for name in key.split("."):
        found = getattr(found, name)
    assert found == float(value)


@pytest.mark.parametrize(
    "key",
    [
        "train.minutes",
        "train.epochs",
        "train.learning_rate",
        "train.clip",
        "mine.max_share",
        "serve.latency_ms",
        "evaluate.gate.margin",
    ],
)
def test_infinity_is_no_value(key: str) -> None:
    for value in (".inf", ".nan"):
        assert fault(f"{key}={value}").startswith(f"{key}: input should be a finite number, not ")


@pytest.mark.parametrize(
    "budget", ["train.minutes=0.5", "train.steps=10", "train.epochs=2", "train.replay=runs/x/train"]
)
def test_each_budget_stands_alone(budget: str) -> None:
    config = check(budget)
    key, _, value = budget.removeprefix("train.").partition("=")
    given = {name: getattr(config.train, name) for name in BUDGETS if getattr(config.train, name) is not None}
    assert {name: str(found).removesuffix(".0") for name, found in given.items()} == {key: value}


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        ({}, "none"),
        ({"minutes": 1, "steps": 2}, "minutes and steps"),
        ({"steps": 1, "epochs": 2, "replay": "x"}, "steps and epochs and replay"),
        ({"steps": 0, "minutes": 1}, "minutes and steps"),
    ],
)
def test_there_is_exactly_one_budget(budgets: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(MINIMAL | {"train": budgets})
    assert str(caught.value).splitlines()[1] == (
        f"  train: give exactly one of minutes, steps, epochs, replay, not {told}"
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quotas": {"bm25": 0.5, "dense": 0.4}, "random_share": 0.2}, "quotas and random_share add up to 1.1"),
        ({"quotas": {"bm25": 0.7, "dense": 0.4}}, "quotas and random_share add up to 1.1"),
        ({"min_score": 0.5, "max_score": 0.25}, "min_score 0.5 is above max_score 0.25: no score is left"),
        ({"from_rank": 6, "depth": 5}, "from_rank 6 lies behind depth 5"),
    ],
)
def test_rules_that_leave_no_negative_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_config(MINIMAL | {"mine": settings})


def test_rules_at_the_edge_are_allowed() -> None:
    edge = {"quotas": {"bm25": 0.5, "dense": 0.4}, "random_share": 0.1, "min_score": 1.0, "max_score": 1.0}
    assert check_config(MINIMAL | {"mine": edge}).mine.quotas == edge["quotas"]


@pytest.mark.parametrize(
    "collection",
    [
        {},
        {"documents": "d", "qrels": {"test": "t"}},
        {"queries": "q"},
        {"qrels": {"test": "t"}},
        {"source": "s", "documents": "d", "queries": "q"},
        {"source": "s", "qrels": {"test": "t"}},
        {"source": "", "documents": ""},
    ],
)
def test_a_collection_has_one_origin(collection: dict[str, object]) -> None:
    with pytest.raises(UserError, match="collection: give either source, or documents, queries and qrels"):
        check_config(MINIMAL | {"collection": collection})


def test_a_collection_of_files_needs_no_source() -> None:
    files = {"documents": "d.jsonl", "queries": "q.tsv", "qrels": {"test": "t.tsv", "train": "r.tsv"}}
    assert check_config(MINIMAL | {"collection": files}).collection.qrels == files["qrels"]
    assert check_config(MINIMAL | {"collection": {"documents": "d.jsonl"}}).collection.queries is None


def test_nothing_can_be_changed_after_the_check() -> None:
    config = check()
    for section in [config, *sections(config)]:
        for name in type(section).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(section, name, getattr(section, name))
    assert len(sections(config)) == 12


@pytest.mark.parametrize(
    ("serve", "deepest"),
    [([], 100), (["serve.depth=20"], 20), (["serve.max_depth=30"], 30), (["serve.depth=200"], 200)],
)
def test_dev_lists_reach_as_deep_as_the_pipeline_may(serve: list[str], deepest: int) -> None:
    assert check(*serve).serve.deepest == deepest


def test_a_remote_reranker_has_an_address() -> None:
    assert check("evaluate.remote={url: 'http://127.0.0.1/rerank'}").evaluate.remote is not None
    assert check().evaluate.remote is None
    assert fault("evaluate.remote={model: m}") == "evaluate.remote.url: required"


def test_the_defaults_of_two_configurations_are_not_shared() -> None:
    one, other = check(), check("collection={documents: d, queries: q}")
    assert one == check()
    assert one != check("seed=14")
    other.collection.qrels["test"] = "t"
    assert check("collection={documents: d, queries: q}").collection.qrels == {}


def test_every_default_would_pass_the_check_itself() -> None:
    config = check()
    assert check_config(config.model_dump()) == config


def test_a_dump_names_every_key_that_may_be_given() -> None:
    """The fingerprint of a stage covers its section: a key that the dump left out could change unnoticed."""
    for section in [check(), *sections(check())]:
        assert section.model_dump(mode="json").keys() == type(section).model_fields.keys()


@pytest.mark.parametrize("serve", [{"depth": 201}, {"max_depth": 201}])
def test_a_hybrid_is_not_searched_deeper_than_it_fuses(serve: dict[str, int]) -> None:
    """Its scores depend on how much it fuses: deeper lists would not be those that are deployed."""
    config: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 1}, "serve": serve}
    with pytest.raises(
        UserError, match=r"serve looks 201 documents deep, but the hybrid fuses only first_stage.depth=200"
    ):
        check_config(config)
    assert check_config(config | {"first_stage": {"depth": 201}}).first_stage.depth == 201
    assert check_config(config | {"first_stage": "bm25"}).first_stage.kind == "bm25"


def test_training_looks_no_deeper_at_dev_than_a_hybrid_fuses() -> None:
    config: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 1, "dev_depth": 201}}
    told = (
        r"train looks 201 documents deep, .* first_stage.depth=200 of each retriever: raise this, or lower train.dev_"
    )
    with pytest.raises(UserError, match=told):
        check_config(config)
    assert check_config(config | {"first_stage": {"depth": 201}}).train.dev_depth == 201
    assert check_config(config | {"first_stage": "dense"}).train.dev_depth == 201


@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ({"depth": 201}, "mine looks 201 documents deep, .* lower mine.depth"),
        ({"synthesize": {"round_trip": 201}}, "mine.synthesize looks 201 documents deep, .* lower mine.synth.*round_t"),
    ],
)
def test_mining_looks_no_deeper_than_a_hybrid_fuses(mine: dict[str, Any], told: str) -> None:
    config: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 1}, "mine": mine}
    for fusing in ("hybrid", "milvus"):
        with pytest.raises(UserError, match=told):
            check_config(config | {"first_stage": fusing})
    check_config(config | {"first_stage": {"depth": 201}})
    check_config(config | {"first_stage": "dense"})
    check_config(config | {"train": {"steps": 0}})  # then nothing is mined


def test_a_run_has_no_lists_for_queries_that_are_made() -> None:
    given: dict[str, Any] = {"first_stage": {"kind": "run", "run": ["a.trec"]}, "mine": {"synthesize": {}}}
    with pytest.raises(UserError, match=r"mine\.synthesize makes new queries, .* kind run"):
        check_config(MINIMAL | given)
    check_config(MINIMAL | given | {"mine": {}})
    check_config(MINIMAL | given | {"first_stage": "bm25"})


@pytest.mark.parametrize(
    ("first_stage", "quotas", "told"),
    [
        ({}, {"bm25": 0.5, "dense": 0.5}, None),
        ({}, {"bm52": 0.5}, r"mine.quotas names bm52: .* \(bm25, dense\)"),
        ({}, {"sparse": 0.5}, r"mine.quotas names sparse: .* \(bm25, dense\)"),
        ({"kind": "bm25"}, {"bm25": 0.2, "dense": 0.3, "sparse": 0.1}, r"mine.quotas names dense, sparse: .* \(bm25\)"),
        ({"kind": "milvus", "milvus": {"retrieve": "dense"}}, {"dense": 0.5}, None),
        ({"kind": "milvus", "milvus": {"retrieve": "dense"}}, {"bm25": 0.5}, "mine.quotas names bm25"),
        ({"kind": "run", "run": ["a.trec"]}, {"lucene": 0.5}, None),
        ({"kind": "run", "run": ["a.trec"]}, {"random": 0.5}, "mine.quotas names random: .* mine.random_share"),
    ],
)
def test_quotas_are_of_the_retrievers_that_there_are(
    first_stage: dict[str, Any], quotas: dict[str, float], told: str | None
) -> None:
    config = MINIMAL | {"first_stage": first_stage, "mine": {"quotas": quotas}}
    if told is None:
        assert check_config(config).mine.quotas == quotas
        return
    with pytest.raises(UserError, match=told):
        check_config(config)
