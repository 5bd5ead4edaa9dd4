"""How many threads a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secondstage.backends.threads import available_threads

NONE = Path("no such file")


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("3,2", 3), ("64", 8), ("0", 8), ("", 8), ("many", 8)])
def test_the_environment_is_obeyed(monkeypatch: pytest.MonkeyPatch, told: str, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert available_threads(NONE) == threads


@pytest.mark.parametrize(
    ("content", "threads"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), ("\n", 8)],
)
def test_a_container_has_its_share(tmp_path: Path, content: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert available_threads(tmp_path / "cpu.max") == threads
