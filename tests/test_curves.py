"""The page of the curves: complete, sound HTML that asks nothing of the network, and lines that show what was."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from secondstage.config import TrainConfig
from secondstage.train.curves import glance, headline, render_curves, smooth, step_plot, thin, write_curves
from secondstage.train.selection import MEASURE
from secondstage.train.tracking import StepRecord, Tracking, read_lines

HOSTILE = "</style><script>alert(1)</script><img src=https://example.org/x>"
VOID = ("meta", "br", "img", "link")


class Page(HTMLParser):
    """All tags that were seen, their addresses, and the text outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.text = ""
        self.feed(html)
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "style")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.text += f" {data.strip()}"


def step(i: int, **values: Any) -> StepRecord:
    usual = StepRecord(i, i / 9, (i + 0.5) / 9, 2.0 - i / 10, {"lce": 1.0}, 1e-4, 3.0, 4, {"lce": 4}, 32, 400, 20, 0.5)
    return usual._replace(**values)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A training of two losses over nine steps, evaluated three times."""
    tracking = Tracking(TrainConfig(steps=9), tmp_path)
    tracking.start({"config": {"clip": 1.0, "model": HOSTILE}, "git": None})
    for i in range(9):
        tracking.step(step(i, terms={"lce": 1.0, HOSTILE: 2.0}, gradient_norm=float("inf") if i == 4 else 3.0))
        if i % 3 == 2:
            tracking.evaluation(i + 1, 0.5 + i / 100, 0.53, kept=True, seconds=2.0)
    tracking.finish()
    return tmp_path


def test_the_page_is_whole_and_asks_nothing_of_the_network(written: Path) -> None:
    write_curves(written, [f"a finding {HOSTILE}"])
    page = Page((written / "curves.html").read_text())
    assert page.tags.count("script") == page.tags.count("img") == page.tags.count("link") == 0
    assert not page.addresses
    # Dev, loss, both terms, learning rate, gradient, throughput, padding.
    assert page.tags.count("svg") == 8
    assert f"a finding {HOSTILE}" in page.text
    assert "config/model" in page.text
    assert (
        "After 9 of 9 steps, the reranker alone reaches nDCG@10 0.580 on dev, 0.050 above the first stage." in page.text
    )


def test_a_single_loss_is_drawn_once() -> None:
    lines = [step(i)._asdict() for i in range(9)]
    assert Page(render_curves(lines, [], [], {})).tags.count("svg") == 4


def test_a_training_without_steps_has_a_page() -> None:
    page = Page(render_curves([], [], [], {}))
    assert "Nothing was trained." in page.text
    assert "svg" not in page.tags


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "After 2 steps the loss is 1.900; there was no dev set."),
        ([0.4, 0.6, -0.5], "After 2 of 2 steps, the reranker alone reaches nDCG@10 0.600 on dev, 0.100 above the"),
        ([0.4, -0.3], "After 1 of 2 steps, the reranker alone reaches nDCG@10 0.400 on dev, 0.100 below the"),
        # The last one, a little lower than the best by chance.
        ([0.6, 0.59], "After 2 of 2 steps, the reranker alone reaches nDCG@10 0.590 on dev, 0.090 above the"),
    ],
)
def test_the_headline_speaks_of_what_is_kept(values: list[float], said: str) -> None:
    """Values below zero stand for evaluations that did not decide."""
    dev = [{"step": i + 1, MEASURE: abs(x), "first_stage": 0.5, "kept": x > 0} for i, x in enumerate(values)]
    assert headline([step(i)._asdict() for i in range(2)], dev).startswith(said)
    deciding = [x for x in values if x > 0]
    assert glance([], dev, [])["dev"] == (deciding[-1] if deciding else None)


@pytest.mark.parametrize(
    ("folds", "said"), [(0, "the checkpoint was chosen on these queries"), (5, "folds of the training queries chose")]
)
def test_who_chose_is_said(folds: int, said: str) -> None:
    dev = [{"step": 1, MEASURE: 0.6, "first_stage": 0.5, "kept": True}]
    page = Page(render_curves([step(0)._asdict()], dev, [], {"config": {"folds": folds}}))
    assert said in page.text


def test_figures_are_totals_over_totals(written: Path) -> None:
    found = glance(*(read_lines(written / f"{name}.jsonl") for name in ("steps", "dev", "timing")))
    assert found["minutes"] == pytest.approx(9 * 0.5 / 60)
    assert found["evaluating"] == pytest.approx(3 * 2.0 / 60)
    assert found["pairs_per_s"] == 32 / 0.5
    assert found["tokens_per_s"] == 380 / 0.5
    assert found["waste"] == 0.05
    assert (found["pairs"], found["lists"]) == (9 * 32, 9 * 4)
    assert glance([], [], [])["pairs_per_s"] is None


def test_many_points_become_means_of_few() -> None:
    xs, ys = thin(list(range(10)), [float(x) for x in range(10)], 5)
    assert (xs, ys) == ([0.5, 2.5, 4.5, 6.5, 8.5], [0.5, 2.5, 4.5, 6.5, 8.5])
    assert thin([0, 1, 2, 3], [None, 4.0, None, None], 2) == ([0.5, 2.5], [4.0, None])
    assert thin([3, 4], [1.0, None]) == ([3, 4], [1.0, None])
    # No point counts twice, and none is lost.
    xs, ys = thin(list(range(997)), [1.0] * 996 + [998.0])
    assert len(xs) == 150
    assert ys[:-1] == [1.0] * 149
    assert ys[-1] is not None
    assert ys[-1] > 100


def test_a_smooth_line_keeps_what_is_straight_and_what_is_missing() -> None:
    line = [float(i) for i in range(30)]
    assert smooth(line, 0.2) == pytest.approx(line)
    assert smooth([1.0, 5.0, 1.0, 5.0, 1.0], 0.4) == pytest.approx([1, 7 / 3, 11 / 3, 7 / 3, 1])
    assert smooth([None, None]) == [None, None]
    assert smooth([]) == []


def test_the_level_to_compare_with_is_drawn() -> None:
    lines = [step(i)._asdict() for i in range(3)]
    assert "train.clip" in step_plot("t", lines, "gradient_norm", "norm", 1.0)
    assert "train.clip" not in step_plot("t", lines, "gradient_norm", "norm")
    assert step_plot("t", lines, "nothing", "y") == ""
