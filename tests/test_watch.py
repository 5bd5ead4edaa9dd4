"""A training under watch: what breaks it is named, what goes wrong is said once."""

from __future__ import annotations

import json
from math import inf, log, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.config import TrainConfig
from secondstage.errors import UserError
from secondstage.train.examples import Example
from secondstage.train.watch import WINDOW, Watch, sizes_of


def watch(folder: Path, **settings: Any) -> Watch:
    return Watch(TrainConfig(steps=5, learning_rate=1e-3, **settings), folder)


def example(query_id: str, documents: int) -> Example:
    ids = tuple(f"{query_id}-{i}" for i in range(documents))
    return Example(query_id, ids, (1.0,) + (0.0,) * (documents - 1), (True,) * documents, (nan,) * documents)


def feed(watched: Watch, rows: list[list[float]]) -> None:
    """Lists of one micro-batch."""
    tensors = [torch.tensor(row) for row in rows]
    scores = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    mask = torch.arange(scores.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    watched.scores([example(f"q{i}", len(row)) for i, row in enumerate(rows)], scores, mask)


def train(watched: Watch, rows: list[list[float]], *, steps: int = 60, loss: float = 0.5, norm: float = 0.5) -> None:
    for i in range(steps):
        feed(watched, rows)
        watched.step(i / steps, loss if i >= 20 else 2 * loss, norm, constant=log(2))


def test_spread_and_size_of_lists() -> None:
    scores = torch.tensor([[1.0, -4.0, 99.0], [2.0, 2.0, 2.0], [7.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True] * 3, [True, False, False]])
    # A list of one candidate has nothing to tell apart.
    assert sizes_of(scores, mask).tolist() == [[5.0, 4.0], [0.0, 2.0]]
    assert sizes_of(scores[2:], mask[2:]).shape == (0, 2)


HEALTHY = [[2.0, -1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("rows", "settings", "kinds"),
    [
        (HEALTHY, {}, set()),
        ([[0.5, 0.501], [0.2, 0.2]], {}, {"collapsed"}),
        # The median list decides: one flat list among three is none.
        ([[0.5, 0.5], [2.0, 0.0], [2.0, 0.0]], {}, set()),
        ([[50.0, 10.0], [40.0, 0.0]], {}, {"saturated"}),
        (HEALTHY, {"loss": 0.7}, {"unmoved"}),
        (HEALTHY, {"norm": 70.0}, {"clipped"}),
        (HEALTHY, {"norm": 12.0}, set()),
    ],
)
def test_each_failure_is_found_and_said_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[list[float]],
    settings: dict[str, float],
    kinds: set[str],
) -> None:
    watched = watch(tmp_path)
    train(watched, rows, **settings)  # type: ignore[arg-type]
    assert watched.findings.keys() == kinds
    assert capsys.readouterr().err.count("  ! ") == len(kinds)


def test_nothing_is_judged_in_the_first_quarter(tmp_path: Path) -> None:
    """All scores of a new head are nearly equal."""
    watched = watch(tmp_path)
    for i in range(100):
        feed(watched, [[0.1, 0.1]] if i < 15 else HEALTHY)
        watched.step(i / 100, 0.5, 0.5, constant=log(2))
    assert not watched.findings


@pytest.mark.parametrize(("again", "kinds"), [(100, set()), (70, {"collapsed"})])
def test_what_recovers_was_said_once_and_is_found_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], again: int, kinds: set[str]
) -> None:
    watched = watch(tmp_path)
    for i in range(100):
        feed(watched, HEALTHY if 50 <= i < again else [[0.1, 0.1]])
        watched.step(i / 100, 0.5, 0.5, constant=log(2))
    assert watched.findings.keys() == kinds
    assert capsys.readouterr().err.count("  ! ") == 1


def test_the_end_is_judged_on_dev(tmp_path: Path) -> None:
    for value, queries, kinds in ((0.6, 9, set()), (0.4, 9, {"below"}), (0.2, 9, {"random"})):
        watched = watch(tmp_path)
        watched.end(value, 0.5, queries, chance=(0.15, 0.03))
        assert watched.findings.keys() == kinds


@pytest.mark.parametrize("stopped", range(5, 60, 18))
def test_a_training_that_goes_on_finds_the_same(tmp_path: Path, stopped: int) -> None:
    whole, first, second = (watch(tmp_path) for _ in range(3))
    rows = [[0.5, 0.5]]
    train(whole, rows, loss=0.7, norm=70.0)
    for i in range(60):
        if i == stopped:
            second.restore(json.loads(json.dumps(first.state())))
        watched = first if i < stopped else second
        feed(watched, rows)
        watched.step(i / 60, 0.7 if i >= 20 else 1.4, 70.0, constant=log(2))
    assert second.findings == whole.findings
    assert second.state() == whole.state()


@pytest.mark.parametrize(("loss", "norm", "what"), [(nan, 1.0, "loss"), (inf, 1.0, "loss"), (0.5, nan, "gradient")])
def test_a_batch_that_breaks_the_training_is_named_and_kept(
    tmp_path: Path, loss: float, norm: float, what: str
) -> None:
    watched = watch(tmp_path)
    feed(watched, HEALTHY)
    watched.step(0.0, 0.5, 1.0, constant=log(2))
    feed(watched, [*HEALTHY, [1.0, nan, 0.0]])
    with pytest.raises(
        UserError,
        match=rf"the {what} is not finite at step 1: lower train\.learning_rate \(0\.001\), or set "
        r"train\.precision=fp32; not finite are the scores of q2 with q2-0, q2-1, q2-2; the whole batch is in .*broken",
    ):
        watched.step(0.1, loss, norm, constant=log(2))
    kept = json.loads((tmp_path / "broken.json").read_text())
    assert (kept["step"], kept["loss"], kept["gradient_norm"]) == (1, str(loss), str(norm))
    assert [one["query_id"] for one in kept["lists"]] == ["q0", "q1", "q2"]
    assert kept["lists"][2] == {
        "query_id": "q2",
        "doc_ids": ["q2-0", "q2-1", "q2-2"],
        "scores": ["1.0", "nan", "0.0"],
        "broken": True,
    }


def test_an_error_names_five_lists_at_most(tmp_path: Path) -> None:
    watched = watch(tmp_path, precision="fp32")
    feed(watched, [[nan] * 9] * 7)
    with pytest.raises(UserError) as error:
        watched.step(0.0, nan, nan, constant=log(2))
    assert "q4 with q4-0, q4-1, q4-2, q4-3, q4-4; the whole" in str(error.value)
    assert "fp32" not in str(error.value)


def test_finite_scores_are_not_blamed(tmp_path: Path) -> None:
    watched = watch(tmp_path)
    feed(watched, HEALTHY)
    with pytest.raises(UserError, match="the scores of all its lists are finite"):
        watched.step(0.0, 0.5, inf, constant=log(2))


def test_half_precision_may_skip_steps_but_not_for_ever(tmp_path: Path) -> None:
    watched = watch(tmp_path, precision="fp16")
    for norm in [1.0, *[None] * WINDOW] * 2:
        watched.step(0.0, 0.5, norm, constant=log(2))
    with pytest.raises(UserError, match="the gradient is not finite at step"):
        watched.step(0.0, 0.5, None, constant=log(2))


def test_only_the_lead_says_what_all_processes_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    watched = watch(tmp_path)
    train(watched, [[0.5, 0.5]])
    assert watched.findings.keys() == {"collapsed"}
    assert not capsys.readouterr().err
    # The broken list may be another's: all are asked.
    monkeypatch.setattr("secondstage.train.watch.gather", lambda found: [[], found])
    feed(watched, [[nan, 1.0]])
    with pytest.raises(UserError, match=r"broken\.json\.1"):
        watched.step(0.5, nan, 1.0, constant=log(2))


def real_training(
    folder: Path, *, rate: float, signal: float, precision: torch.dtype = torch.float32, steps: int = 120
) -> set[str]:
    """What is found in a real training: LCE over eight lists of eight candidates, by a network of two layers.

    Args:
        folder: of the watch.
        rate: of the optimizer.
        signal: by how much the positive differs from the negatives; 0: by nothing.
        precision: that the scores are rounded to.
        steps: of the optimizer.
    """
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    watched = Watch(TrainConfig(steps=steps, learning_rate=rate, clip=5.0), folder)
    mask = torch.ones(8, 8, dtype=torch.bool)
    for i in range(steps):
        features = torch.randn(8, 8, 16, generator=generator) if signal else torch.zeros(8, 8, 16)
        features[:, 0, 0] += signal
        scores = network(features)[..., 0].to(precision).float()
        loss = -torch.log_softmax(scores, dim=1)[:, 0].mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        watched.scores([example(f"q{j}", 8) for j in range(8)], scores, mask)
        watched.step(i / steps, loss.item(), norm.item(), constant=log(8))
        optimizer.step()
    return set(watched.findings)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_nothing_is_found_in_a_sound_training(tmp_path: Path, precision: torch.dtype) -> None:
    assert real_training(tmp_path, rate=1e-2, signal=3.0, precision=precision) == set()


def test_a_rate_that_is_too_low_does_not_move_the_loss(tmp_path: Path) -> None:
    assert real_training(tmp_path, rate=1e-9, signal=0.3) == {"unmoved"}


def test_candidates_that_look_all_the_same_collapse(tmp_path: Path) -> None:
    assert real_training(tmp_path, rate=1e-2, signal=0.0) == {"collapsed", "unmoved"}


def test_a_rate_that_is_too_high_saturates(tmp_path: Path) -> None:
    assert "saturated" in real_training(tmp_path, rate=0.5, signal=8.0)
