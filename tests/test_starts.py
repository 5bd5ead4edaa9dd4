"""Where training starts: dev decides between the model and its warmed-up self, and the loser leaves no reranker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from secondstage.train.selection import DEV_VALUE
from secondstage.train.starts import MODEL, WARMUP, starting_points, train_from_best


def trainer(values: Mapping[str, float | None]) -> tuple[Callable[[str, Path], dict[str, Any]], list[tuple[str, Path]]]:
    """A fake that says how good each model became; and the models and folders that it was given."""
    asked: list[tuple[str, Path]] = []

    def train_from(model: str, folder: Path) -> dict[str, Any]:
        asked.append((model, folder))
        return {"steps": 7, "lists": len(model), "training_seconds": 3.5, DEV_VALUE: values[model]}

    return train_from, asked


@pytest.mark.parametrize(
    ("plain", "warm", "kept"),
    [(0.5, 0.6, WARMUP), (0.6, 0.5, MODEL), (0.5, 0.5, MODEL)],
    ids=["helps", "hurts", "makes no difference"],
)
def test_dev_decides(tmp_path: Path, plain: float, warm: float, kept: str) -> None:
    models = {MODEL: "plain", WARMUP: "warmed"}
    train_from, asked = trainer({"plain": plain, "warmed": warm})
    place, details = train_from_best(models, train_from, tmp_path)
    assert asked == [("plain", tmp_path / "from_model"), ("warmed", tmp_path / "from_warmup")]
    assert place == f"from_{kept}"
    costs = {"steps": 7, "training_seconds": 3.5}
    assert details == {
        "steps": 7,
        "lists": len(models[kept]),
        "training_seconds": 3.5,
        DEV_VALUE: max(plain, warm),
        "start": kept,
        "starts": {MODEL: {DEV_VALUE: plain, **costs}, WARMUP: {DEV_VALUE: warm, **costs}},
    }


@pytest.mark.parametrize(("name", "model"), [(MODEL, "plain"), (WARMUP, "warmed")])
def test_one_start_is_trained_from_once_in_the_folder_itself(tmp_path: Path, name: str, model: str) -> None:
    train_from, asked = trainer({model: None})
    place, details = train_from_best({name: model}, train_from, tmp_path)
    assert asked == [(model, tmp_path)]
    assert place == "."
    assert details.get("start") == (name if name == WARMUP else None)
    assert details[DEV_VALUE] is None


def test_a_failure_is_handed_on(tmp_path: Path) -> None:
    train_from, _ = trainer({"plain": 0.5})
    with pytest.raises(KeyError, match="warmed"):
        train_from_best({MODEL: "plain", WARMUP: "warmed"}, train_from, tmp_path)


@pytest.mark.parametrize(
    ("warmed", "choose", "dev", "names", "told"),
    [
        (False, False, True, [MODEL], False),
        (False, True, True, [MODEL], False),
        (True, False, True, [WARMUP], False),
        (True, False, False, [WARMUP], False),
        (True, True, True, [MODEL, WARMUP], False),
        (True, True, False, [WARMUP], True),
    ],
)
def test_what_training_starts_from(
    capsys: pytest.CaptureFixture[str], warmed: bool, choose: bool, dev: bool, names: list[str], told: bool
) -> None:
    starts = starting_points("plain", Path("w") if warmed else None, choose=choose, dev=dev)
    assert list(starts) == names
    assert starts == {name: {MODEL: "plain", WARMUP: "w"}[name] for name in names}
    assert ("no dev query tells whether the warm-up helps" in capsys.readouterr().err) == told
