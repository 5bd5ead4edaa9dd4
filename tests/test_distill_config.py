"""The section of distillation: its rules, and the config that explains it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.config import DistillConfig, StudentTraining
from secondstage.config.train import StudentConfig
from secondstage.configfile import check_config, load_config
from secondstage.errors import UserError

PATH = Path(__file__).parents[1] / "configs" / "distill.yaml"
DISTILL: dict[str, Any] = {"student": {"steps": 1}}
BASE: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 1}, "distill": DISTILL}
LLM = {"kind": "api", "api": {"url": "http://127.0.0.1"}}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"distill": {}}, "distill.student: required"),
        ({"distill": {"student": {}}}, "distill.student: give exactly one of minutes"),
        ({"distill": {"student": {"bogus": 1}}}, "distill.student: give exactly one of minutes"),
        (
            {"distill": {"student": {"steps": 1, "modle": "x"}}},
            "distill.student.modle: unknown key, did you mean 'model'?",
        ),
        ({"distill": {**DISTILL, "candidates": 1}}, "distill.candidates: input should be greater than or equal to 2"),
        ({"distill": {**DISTILL, "max_queries": 5}}, "distill: max_queries counts unlabelled queries"),
        ({"distill": {**DISTILL, "teacher": "mine"}}, "distill.teacher=mine are the scores of mine.teachers"),
        (
            {"distill": {"student": {"steps": 1, "teacher": "m", "loss": "kl"}}},
            "distill: the teacher of a student is distill.teacher",
        ),
        (
            {"distill": {"student": {"steps": 1, "dev_depth": 40}}},
            "distill.student.dev_depth=40 is more than the train.dev_depth=30",
        ),
        (
            {"distill": {**DISTILL, "queries": "q.txt", "depth": 300}},
            "distill looks 300 documents deep, but the hybrid fuses only",
        ),
        (
            {"distill": {**DISTILL, "queries": "q.txt"}, "first_stage": {"kind": "run", "run": ["a"]}},
            "distill.queries are new queries, but a first stage of the kind run",
        ),
        ({"evaluate": {"rerankers": {"teacher": "m"}}}, "evaluate.rerankers.teacher: with distill, the name teacher"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config({**BASE, **settings})
    assert told in str(caught.value)


def test_what_makes_sense_is_not() -> None:
    deep = check_config({**BASE, "distill": {**DISTILL, "depth": 300}}).distill  # nothing is searched so deep
    assert deep is not None
    assert deep.student.model == "teacher"
    check_config({**BASE, "distill": {**DISTILL, "teacher": "mine"}, "mine": {"teachers": {"llm": LLM}}})
    check_config({**BASE, "distill": None, "evaluate": {"rerankers": {"teacher": "m"}}})


@pytest.mark.parametrize(
    ("train", "mine", "told"),
    [
        ({"loss": "kl"}, {}, "there is no teacher: give train.teacher, a model, or mine.teachers"),
        ({"loss": {"lce": 1, "mse": 1}}, {}, "there is no teacher: give train.teacher, a model, or mine.teachers"),
        ({"loss": "lce", "teacher": "m"}, {}, "teacher is given, but no loss of lce compares with its scores"),
        ({"loss": {"lce": 1, "mse": 1}, "teacher": "m"}, {}, None),
        ({"loss": "kl"}, {"teachers": {"llm": LLM}}, None),
    ],
)
def test_a_loss_on_a_teachers_scores_needs_one(train: dict[str, Any], mine: dict[str, Any], told: str | None) -> None:
    config = {**BASE, "train": {"steps": 1, **train}, "mine": mine, "distill": None}
    if told is None:
        check_config(config)
        return
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert told in str(caught.value).replace("\n", " ")


def test_the_config_explains_every_key_and_shows_its_default() -> None:
    text = PATH.read_text(encoding="utf-8")
    shown = yaml.safe_load(text)["distill"]
    assert set(shown) == set(DistillConfig.model_fields)
    assert set(shown["student"]["student"]) == set(StudentConfig.model_fields)
    config = load_config(PATH).distill
    assert config is not None
    usual = DistillConfig(student=StudentTraining(steps=1))
    assert config.model_copy(update={"student": usual.student}) == usual
    lines = text.partition("\ndistill:\n")[2].partition("\nevaluate:\n")[0].splitlines()
    for section, prefix in ((shown, "  "), (shown["student"], "    ")):
        for key in section:
            (row,) = (i for i, line in enumerate(lines) if line.startswith(f"{prefix}{key}:"))
            assert re.match(rf"{prefix}# ", lines[row - 1]), f"{key} is not explained"
    # What is not the default says so, and what says a default says the right one.
    for key in shown["student"]:
        default = getattr(usual.student, key) if key != "minutes" else None
        (row,) = (i for i, line in enumerate(lines) if line.startswith(f"    {key}:"))
        said = re.search(r"\b(No default|Default: ([^.]+|\d+\.\d+))\.$", lines[row - 1])
        assert said or getattr(config.student, key) == default, key
        if said and said[2]:
            assert (None if said[2] == "none" else yaml.safe_load(said[2])) == default, key


def test_other_teachers_and_a_query_log_are_an_override_away() -> None:
    config = load_config(PATH, ["distill.teacher=large", "distill.queries=log.txt", "distill.student.steps=5"]).distill
    assert config is not None
    assert (config.teacher, config.queries, config.student.steps, config.student.minutes) == (
        "large",
        "log.txt",
        5,
        None,
    )
