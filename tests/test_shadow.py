"""Shadow mode: what differs, and that nobody waits for it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.run import Scores
from secondstage.serve.server.shadow import NICE, Candidates, Difference, Shadow, compare, load_shadow

IDS = [f"d{i}" for i in range(12)]


class Lengths:
    """Scores a document by its length; waits at a gate, if there is one."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate, self.entered, self.nice = gate, threading.Event(), 0

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        self.entered.set()
        if sys.platform == "linux":
            self.nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        if self.gate:
            self.gate.wait(30)
        return np.array([len(document) for _, document in pairs], np.float32)


@pytest.fixture
def documents(as_documents: Callable[[Sequence[str]], Documents]) -> Documents:
    return as_documents(["x" * (i + 1) for i in range(12)])


def test_the_same_order_differs_in_nothing() -> None:
    scores = np.linspace(3, -3, 12).tolist()
    others = [10 * score - 7 for score in scores]
    found = compare(IDS, scores, others, 5)
    assert (found.top1, found.displacement, found.milliseconds) == (True, 0, 5)
    assert (found.tau, found.overlap) == pytest.approx((1, 1))


def test_the_opposite_order() -> None:
    scores = np.linspace(3, -3, 12).tolist()
    found = compare(IDS, scores, scores[::-1], 5)
    assert not found.top1
    assert found.tau == pytest.approx(-1)
    assert found.displacement == sum(abs(13 - 2 * i) for i in range(1, 11)) / 10


def test_equal_scores_keep_the_order_of_the_first_stage() -> None:
    assert compare(IDS, [0.0] * 12, np.linspace(3, -3, 12).tolist(), 5).tau == pytest.approx(1)


def test_a_search_is_scored_by_the_second_reranker(documents: Documents) -> None:
    told: list[tuple[str, Difference]] = []
    counts: Counter[str] = Counter()
    done, scorer = threading.Event(), Lengths()
    before = os.getpriority(os.PRIO_PROCESS, 0) if sys.platform == "linux" else 0

    def tell(request_id: str, difference: Difference) -> None:
        told.append((request_id, difference))
        done.set()

    shadow = Shadow(scorer, documents, tell, lambda outcome: counts.update([outcome]))
    shadow.offer(Candidates("r1", "q", IDS, list(range(12))))
    assert done.wait(10)
    shadow.close()
    ((request_id, difference),) = told
    assert request_id == "r1"
    assert (difference.top1, difference.displacement) == (True, 0)
    assert difference.tau == pytest.approx(1)
    assert counts == {"compared": 1}
    if sys.platform == "linux":
        assert scorer.nice == NICE
        assert os.getpriority(os.PRIO_PROCESS, 0) == before  # nobody else's


def test_searches_are_dropped_while_it_is_busy_and_when_the_server_stops(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, counts = threading.Event(), Counter[str]()
    scorer = Lengths(gate)

    def count(outcome: str) -> None:
        counts[outcome] += 1
        if counts["dropped"] == 5:
            gate.set()

    shadow = Shadow(scorer, documents, lambda *_: None, count, held=2)
    candidates = Candidates("r", "q", IDS, [0.0] * 12)
    shadow.offer(candidates)
    assert scorer.entered.wait(10)
    with monkeypatch.context() as patched:
        put = shadow._waiting.put

        def at_once(item: Candidates, block: bool = True, timeout: float | None = None) -> None:
            assert not block
            put(item, block, timeout)

        patched.setattr(shadow._waiting, "put", at_once)
        for _ in range(5):
            shadow.offer(candidates)
    assert counts == {"dropped": 3}  # and the first one is still being scored
    shadow.close()
    assert counts == {"dropped": 5, "compared": 1}


def test_a_shadow_that_fails_is_counted_and_said_once(documents: Documents, capsys: pytest.CaptureFixture[str]) -> None:
    counts, handled = Counter[str](), threading.Semaphore(0)

    def count(outcome: str) -> None:
        counts[outcome] += 1
        handled.release()

    class Broken:
        def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Any:
            return np.full(len(pairs), np.nan, np.float32)

    shadow = Shadow(Broken(), documents, lambda *_: None, count)
    for doc_ids in (IDS, IDS, ["gone"]):
        shadow.offer(Candidates("r", "q", doc_ids, [0.0] * len(doc_ids)))
    for _ in range(3):
        assert handled.acquire(timeout=10)
    shadow.close()
    assert counts == {"failed": 3}
    assert capsys.readouterr().err.count("a score is not finite") == 1


def test_a_bundle_or_a_model_may_be_the_shadow(run_folder: Path, tmp_path: Path) -> None:
    pairs = [("oven of the bread", "bread oven\ndough")]
    scores = [
        load_shadow(str(folder), batch_tokens=1024, precision="fp32").score(pairs)
        for folder in (run_folder / "bundle", run_folder / "bundle" / "reranker")
    ]
    assert scores[0] == scores[1]
    with pytest.raises(UserError, match=r"shadow=.*nowhere is no folder"):
        load_shadow(str(tmp_path / "nowhere"), batch_tokens=1024, precision="fp32")


def test_a_shadow_is_looked_at_as_what_is_served(run_folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(run_folder / "bundle", bundle)
    (bundle / "reranker" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="was changed since it was made"):
        load_shadow(str(bundle), batch_tokens=1024, precision="fp32")
    (bundle / "reranker" / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=r"pytorch_model\.bin may be a pickle"):
        load_shadow(str(bundle / "reranker"), batch_tokens=1024, precision="fp32")
