"""What a training ends with: the best of its checkpoints, or their average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from secondstage.config import TrainConfig
from secondstage.files import folder_digests
from secondstage.measures import Values
from secondstage.reranker import Reranker
from secondstage.run import Run
from secondstage.train.averaging import Leaders
from secondstage.train.best import RERANKER, WEIGHTS, choose_best
from secondstage.train.selection import Selection


class Fixed(Selection):
    """One dev query, on which whatever is measured has the same value; keeps the weights that were measured."""

    def __init__(self, value: float) -> None:
        super().__init__(Run("first_stage", {}), {"q": {"d": 1}}, lambda pairs: [])
        self.value = value
        self.measured: list[Any] = []

    def values(self, scorer: Any, *, shared: bool = True) -> Values:
        self.measured.append(scorer.model.state_dict())
        return {"q": self.value}


@pytest.mark.parametrize("value", [0.9, 0.1])
def test_the_average_of_the_best_is_kept_only_where_dev_finds_it_better(
    tiny_model: Path, tmp_path: Path, value: float
) -> None:
    for seed, name in enumerate(("best-1", "best-2")):
        torch.manual_seed(seed)
        reranker = Reranker.load(tiny_model, max_length=32, precision="fp32")  # its head is drawn
        reranker.save(tmp_path / name)
    selection, leaders = Fixed(value), Leaders(2, [("best-1", 0.3), ("best-2", 0.2)])
    config = TrainConfig(model=str(tiny_model), steps=1, precision="fp32")
    assert choose_best(tmp_path, leaders, selection, config) is (value > 0.3)
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("best-1", "best-2"))
    mean = {name: (weight + second[name]) / 2 for name, weight in first.items()}
    assert not torch.equal(mean["classifier.weight"], first["classifier.weight"])
    (measured,) = selection.measured
    torch.testing.assert_close({name: measured[name] for name in mean}, mean)
    assert selection.best == (value if value > 0.3 else None)
    kept, best = (folder_digests(tmp_path / name) for name in (RERANKER, "best-1"))
    if value > 0.3:
        torch.testing.assert_close(load_file(tmp_path / RERANKER / WEIGHTS), mean)
        del kept[WEIGHTS], best[WEIGHTS]
    assert kept == best
    assert {path.name for path in tmp_path.iterdir()} == {"best-1", "best-2", RERANKER}
