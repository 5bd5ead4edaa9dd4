"""What a run reads besides its collection: looked for before the work, and told if it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from secondstage.config import MineConfig
from secondstage.errors import UserError
from secondstage.inputs import mined_from


def test_two_teachers_that_are_the_same_are_refused() -> None:
    api = {"kind": "api", "api": {"url": "http://127.0.0.1/rerank"}}
    config = MineConfig.model_validate({"teachers": {"a": api, "b": {**api, "weight": 2.0}}})
    with pytest.raises(UserError, match="a and b are one and the same teacher"):
        mined_from(config)
    one = MineConfig.model_validate({"teachers": {"a": api}})
    assert list(mined_from(one)) == ["teacher a"]


def test_a_generator_that_is_not_there_is_told_before_the_work(tiny_model: Path, tmp_path: Path) -> None:
    def of(model: Path) -> MineConfig:
        return MineConfig.model_validate({"synthesize": {"generator": "local", "model": str(model)}})

    with pytest.raises(UserError, match="nowhere"):
        mined_from(of(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot be loaded from"):
        mined_from(of(tmp_path))  # a folder without a model
    assert list(mined_from(of(tiny_model))) == ["generator"]
