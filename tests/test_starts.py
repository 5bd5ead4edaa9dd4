"""Where training starts: dev decides between the model and its warmed-up self, and the loser leaves no reranker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from secondstage.train.starts import DEV, MODEL, WARMUP, starting_points, train_from_best


def trainer(values: Mapping[str, float | None]) -> tuple[Callable[[str, Path], dict[str, Any]], list[str]]:
    """A fake that writes what training writes, and says how good each model became; and the models it was given."""
    asked: list[str] = []

    def train_from(model: str, folder: Path) -> dict[str, Any]:
        asked.append(model)
        assert list(folder.iterdir()) == []
        (folder / "reranker").mkdir()
        (folder / "reranker" / "weights").write_text(model)
        (folder / "steps.jsonl").write_text(f"steps of {model}")
        return {"steps": 7, "lists": len(model), DEV: values[model]}

    return train_from, asked


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("plain", "warm", "kept", "other"),
    [(0.5, 0.6, WARMUP, MODEL), (0.6, 0.5, MODEL, WARMUP), (0.5, 0.5, MODEL, WARMUP)],
    ids=["helps", "hurts", "makes no difference"],
)
def test_dev_decides(tmp_path: Path, plain: float, warm: float, kept: str, other: str) -> None:
    models = {MODEL: "plain", WARMUP: "warmed"}
    train_from, asked = trainer({"plain": plain, "warmed": warm})
    details = train_from_best(models, train_from, tmp_path)
    assert asked == ["plain", "warmed"]
    assert tree(tmp_path) == {
        "reranker/weights": models[kept],
        "steps.jsonl": f"steps of {models[kept]}",
        f"from_{other}/steps.jsonl": f"steps of {models[other]}",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["reranker", "steps.jsonl", f"from_{other}"])
    seconds = {name: details["starts"][name].pop("seconds") for name in models}
    assert all(value >= 0 for value in seconds.values())
    assert details == {
        "steps": 7,
        "lists": len(models[kept]),
        DEV: max(plain, warm),
        "start": kept,
        "starts": {MODEL: {DEV: plain, "steps": 7}, WARMUP: {DEV: warm, "steps": 7}},
    }


@pytest.mark.parametrize(("name", "model"), [(MODEL, "plain"), (WARMUP, "warmed")])
def test_one_start_is_trained_from_once_in_the_folder_itself(tmp_path: Path, name: str, model: str) -> None:
    train_from, asked = trainer({model: None})
    details = train_from_best({name: model}, train_from, tmp_path)
    assert asked == [model]
    assert tree(tmp_path) == {"reranker/weights": model, "steps.jsonl": f"steps of {model}"}
    assert details == {"steps": 7, "lists": len(model), DEV: None, **({"start": name} if name == WARMUP else {})}


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
