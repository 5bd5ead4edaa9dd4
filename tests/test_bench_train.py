"""The figures of `bench.train`, against values that are computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.train.cells import Cells
from bench.train.peer import Marks
from bench.train.quality import summarise
from bench.train.students import student_figures
from bench.train.summary import average, difference, gain_kept, minutes_to_reach, over_seeds, ratio

LOW, HIGH = {"a": 0.2, "b": 0.4}, {"a": 0.4, "b": 0.8}


def test_seeds_are_averaged_by_query() -> None:
    assert over_seeds([LOW, HIGH]) == pytest.approx({"a": 0.3, "b": 0.6})
    assert average([LOW, HIGH]) == 0.45


def test_a_difference_is_paired_by_query_over_the_seeds_of_each_side() -> None:
    delta, low, high = difference([HIGH, HIGH], [LOW])
    assert delta == pytest.approx(0.3)
    assert low <= delta <= high


def test_a_ratio_is_the_median_over_rounds_and_not_that_of_the_medians() -> None:
    assert ratio([2, 30, 8], [1, 10, 2]) == 3
    assert ratio([1, 10], [1, 5]) == 1.5


def test_what_a_student_keeps_is_a_share_of_the_gain() -> None:
    assert gain_kept(0.65, 0.7, 0.6) == 0.5
    assert gain_kept(0.55, 0.7, 0.6) == -0.5
    assert gain_kept(0.65, 0.6, 0.6) is None  # nothing was gained


def test_the_shortest_budget_that_reaches_the_peer() -> None:
    assert minutes_to_reach(0.6, {4.0: 0.7, 2.0: 0.6, 1.0: 0.5}) == 2.0
    assert minutes_to_reach(0.8, {4.0: 0.7}) is None


def test_the_best_of_the_peers_step_sizes_counts() -> None:
    ours = {
        minutes: [{"reranked": values, "pipeline": HIGH, "first_stage": LOW, "pairs": 1, "weight": 0.5}]
        for minutes, values in ((2.0, LOW), (4.0, HIGH))
    }
    peers = {4: [{"reranked": LOW, "pairs": 1}], 8: [{"reranked": {"a": 0.3, "b": 0.5}, "pairs": 1}]}
    found = summarise(peers, ours, 4.0)
    assert found["quality"]["peer"] == 0.4
    assert found["quality"]["reranked_minus_peer"][0] == pytest.approx(0.2)
    assert found["minutes_to_peer"] == 4.0
    assert found["minutes_to_peer_fused"] == 2.0


def test_students_are_measured_against_the_teacher_and_against_those_without_one() -> None:
    def cell(value: float) -> dict[str, dict[str, float]]:
        orders = {"first_stage": 0.5, "reranked": value, "pipeline": value + 0.1}
        return {prefix + name: {"a": v, "b": v} for prefix in ("", "liveqa_") for name, v in orders.items()}

    found = student_figures(cell(0.7), [cell(0.68), cell(0.66)], [cell(0.6), cell(0.6)])
    assert found["gain_kept"] == 0.85
    assert found["gain_kept_fused"] == 0.9
    assert found["gain_kept_labels_alone"] == 0.5
    assert found["over_labels_alone"][0] == pytest.approx(0.07)


def test_speed_leaves_the_steps_that_warm_up_out() -> None:
    marks = Marks()
    # Seconds, pairs, tokens with padding, padding.
    marks.marks = [(0.0, 0, 0, 0), (10.0, 1, 100, 50), (12.0, 21, 300, 60)]
    speed = marks.speed(1)
    assert (speed.pairs_per_s, speed.tokens_per_s, speed.padding_waste) == (10.0, 95.0, 0.05)
    assert (speed.steps, speed.pairs, speed.seconds) == (2, 21, 12.0)


def test_what_is_measured_is_not_measured_again_and_a_torn_line_is(tmp_path: Path) -> None:
    path, key = tmp_path / "made" / "cells.jsonl", {"part": "x", "seed": 1}
    assert Cells(path).get(key, lambda: {"value": 1}) == {"key": key, "value": 1}
    assert Cells(path).get({"seed": 1, "part": "x"}, lambda: {"value": 2})["value"] == 1
    path.write_text(path.read_text()[:-5])
    assert Cells(path).get(key, lambda: {"value": 3})["value"] == 3
    assert Cells(path).get(key, lambda: {"value": 4})["value"] == 3
