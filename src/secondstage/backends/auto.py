"""Which engine is the fastest here of those that rank as torch does: measured when a bundle is opened, and kept."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..compute import Precision, resolve
from ..errors import UserError, in_a_line
from ..files import file_digest, fingerprint, read_json, write_json
from ..pairmodel import PairModel
from ..progress import say
from ..run import Scores
from ..version import __version__
from .engine import EngineReranker
from .probe import PROBE_PAIRS
from .record import GRAPHS, MAY_LOSE, RECORD, WEIGHTS
from .threads import available_threads
from .torch import TORCH, open_torch

# torch in single precision, where it ranks otherwise in half of it.
TORCH_FP32 = "torch-fp32"
# The choice, below the folder of engines.
CHOICE = "auto.json"
ROUNDS = 3
# Logits of single precision may be off by so much.
SAME = 1e-3
# Logits that are nearer than this share of their range may change places; of the others so many must keep theirs.
NEAR, KEPT = 0.05, 0.97


class Trial(NamedTuple):
    """What was measured of one engine.

    Attributes:
        pairs_per_s: of the best of some rounds.
        difference: the largest of its logits from those of torch in single precision.
        kept: the share of pairs of candidates that keep their order, of those that are far enough apart.
    """

    pairs_per_s: float
    difference: float
    kept: float

    def __str__(self) -> str:
        return f"{self.pairs_per_s:.0f} pairs/s (logits off by {self.difference:.2g}, order kept {self.kept:.1%})"


def choose_engine(
    model: Path,
    engines: Path,
    *,
    batch_tokens: int = 8192,
    precision: Precision = "auto",
    threads: int | None = None,
) -> PairModel:
    """Open a reranker with the fastest engine in the folder whose scores rank as torch's do.

    The choice and its figures are said in a line, and kept in the folder for as long as processor, threads, versions,
    weights and engines are the same. An engine that cannot be opened, or gives no score, is left out, in words. So is
    torch where half precision turns the order: then it computes in single precision.

    Args:
        model: the reranker's folder.
        engines: the folder of engines; torch is taken where it holds none.
        batch_tokens: see `open_engine`.
        precision: see `open_engine`.
        threads: see `open_engine`.

    Raises:
        UserError: no engine is left, torch among them.
    """
    threads = threads or available_threads()

    def opened(name: str) -> PairModel:
        if name in (TORCH, TORCH_FP32):
            chosen: Precision = "fp32" if name == TORCH_FP32 else precision
            return open_torch(model, batch_tokens=batch_tokens, precision=chosen, threads=threads)
        return EngineReranker.open(
            model, engines / name, name, batch_tokens=batch_tokens, precision=precision, threads=threads
        )

    present = [name for name in GRAPHS if (engines / name).is_dir()]
    if not present:
        return opened(TORCH)
    key = _key(model, engines, present, batch_tokens, precision, threads)
    kept = _kept_choice(engines, key, opened)
    if kept is not None:
        return kept
    return _chosen(engines, key, present, opened)


def order_kept(expected: Scores, scores: Scores) -> float:
    """The share of pairs of scores that keep their order, of those that differ by more than `NEAR` of the range.

    Args:
        expected: `[n]` scores.
        scores: `[n]` others of the same candidates.

    Returns:
        From 0 to 1; 1 where all are near.
    """
    gaps = expected[:, None] - expected[None, :]
    apart = gaps > NEAR * float(np.ptp(expected))
    if not apart.any():
        return 1.0
    return float(((scores[:, None] - scores[None, :]) > 0)[apart].mean())


def reason_against(name: str, trial: Trial, record: Mapping[str, Any]) -> str | None:
    """Why an engine may not be chosen; none if it may.

    Args:
        name: the engine.
        trial: what was measured here.
        record: its parity on ranked lists, as its folder says.
    """
    if name.endswith("-int8"):
        lost, neighbours = record.get("ndcg_delta"), record.get("kept")
        if lost is None and neighbours is None:
            return "it was never checked on ranked lists"
        if lost is not None and lost < -MAY_LOSE:
            return f"it loses {-lost:.4f} nDCG@10, more than {MAY_LOSE:g}"
    if name == "onnx" and not trial.difference <= SAME:
        return f"its logits are off by {trial.difference:.2g}, more than {SAME:g}"
    if trial.kept < KEPT:
        return f"only {trial.kept:.1%} keep their order on this processor"
    return None


def _chosen(engines: Path, key: str, present: Sequence[str], opened: Callable[[str], PairModel]) -> PairModel:
    """Measure all, choose, say it and keep it."""
    expected = opened(TORCH_FP32).score(PROBE_PAIRS)
    models, trials, against = dict[str, PairModel](), dict[str, Trial](), dict[str, str]()

    def attempt(name: str) -> None:
        try:
            model = opened(name)
            trials[name] = _measured(model, expected)
        except Exception as error:  # whatever its library raises: another engine may do
            against[name] = in_a_line(error)
            return
        record = model.record.parity if isinstance(model, EngineReranker) else {}
        reason = reason_against(name, trials[name], record)
        if reason is None:
            models[name] = model
        else:
            against[name] = reason

    for name in (TORCH, *present):
        attempt(name)
    if TORCH in trials and TORCH in against:
        attempt(TORCH_FP32)
    if not models:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in against.items())
        raise UserError(f"no backend gives scores that may be used: {reasons}")
    best = max(models, key=lambda name: trials[name].pairs_per_s)
    line = "; ".join([f"{name} {trial}" for name, trial in trials.items()])
    left = "".join(f"; {name} left out: {reason}" for name, reason in against.items())
    say(f"backend {best}, the fastest here: {line}{left}")
    found = {
        "key": key,
        "backend": best,
        "trials": {name: trial._asdict() for name, trial in trials.items()},
        "left_out": against,
    }
    # A bundle may be read-only: then it is measured again next time.
    with contextlib.suppress(OSError):
        write_json(engines / CHOICE, found)
    return models[best]


def _kept_choice(engines: Path, key: str, opened: Callable[[str], PairModel]) -> PairModel | None:
    """What was chosen before, if nothing has changed since."""
    try:
        found = read_json(engines / CHOICE)
        if found["key"] != key:
            return None
        name, trials = str(found["backend"]), {name: Trial(**trial) for name, trial in found["trials"].items()}
        model = opened(name)
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return None
    say(f"backend {name}, as chosen before ({engines / CHOICE}): {trials.get(name)}")
    return model


def _measured(model: PairModel, expected: Scores) -> Trial:
    """Speed of the best of some rounds after one that warms up, and agreement."""
    scores = model.score(PROBE_PAIRS)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        model.score(PROBE_PAIRS)
        seconds.append(time.perf_counter() - start)
    return Trial(len(PROBE_PAIRS) / min(seconds), float(np.abs(scores - expected).max()), order_kept(expected, scores))


def _key(
    model: Path,
    engines: Path,
    present: Sequence[str],
    batch_tokens: int,
    precision: Precision,
    threads: int,
) -> str:
    """What decides the choice: a processor, its threads, versions, weights, engines."""
    names = ("torch", "onnxruntime", "openvino")
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    records = {name: file_digest(engines / name / RECORD) for name in present if (engines / name / RECORD).is_file()}
    settings = (batch_tokens, resolve(precision), threads)
    weights = file_digest(model / WEIGHTS)
    return fingerprint(__version__, _processor(), versions, weights, present, records, settings, list(PROBE_PAIRS))


def _processor() -> str:
    """The processor's name and what it can do."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"
