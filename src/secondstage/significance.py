"""Is the difference between two systems real? Paired, per query: an interval, a test, and what could be detected."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from math import inf, isfinite, nan, sqrt
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .measures import Values

K = TypeVar("K", bound=Hashable)


class Comparison(NamedTuple):
    """System minus baseline, over the same queries.

    Attributes:
        delta: the mean difference.
        low: the lower bound of the bootstrap interval; minus infinity for one query, which bounds nothing.
        high: its upper bound; infinity for one query.
        p: two-sided, of the paired randomisation test.
        wins: queries on which the system is better.
        ties: queries on which both are equal.
        losses: queries on which the baseline is better.
        sd: the standard deviation of the differences; not a number for one query.
        p_holm: `p` adjusted for the other comparisons made with it; `p` itself where it stands alone.
    """

    delta: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int
    sd: float
    p_holm: float
    confidence: float = 0.95

    @property
    def queries(self) -> int:
        """How many there are."""
        return self.wins + self.ties + self.losses

    @property
    def detectable(self) -> float:
        """The smallest true difference that so many queries would show in one comparison; see `detectable`."""
        return detectable(self.sd, self.queries, alpha=1 - self.confidence)


# Differences below this are rounding, not wins.
EQUAL = 1e-12
# Resampled matrices are computed in blocks of at most so many numbers, to bound memory on large query sets.
BLOCK = 1 << 22


def compare(
    system: Values, baseline: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 13
) -> Comparison:
    """Compare two systems query by query.

    The interval is the bootstrap over queries (Efron 1979; Sakai 2006 for retrieval): percentiles, moved outwards by
    as much as Student's t is wider than the normal distribution, since plain ones are too narrow for few queries
    (Hesterberg 2015, "expanded percentile"). The test is Fisher's randomisation test, which flips the sign of each
    query's difference (Smucker, Allan and Carterette 2007).

    Args:
        system: values by query id.
        baseline: values for the same query ids.
        confidence: of the interval.
        resamples: of each procedure.
        seed: makes both repeatable.

    Raises:
        ValueError: the two do not cover the same queries, there are none, or a value is not finite.
    """
    pairs = {"": (system, baseline)}
    return compare_pairs(pairs, confidence=confidence, resamples=resamples, seed=seed)[""]


def compare_all(
    systems: Mapping[str, Values],
    baseline: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 13,
) -> dict[str, Comparison]:
    """Compare several systems with one baseline; see `compare_pairs`."""
    pairs = {name: (values, baseline) for name, values in systems.items()}
    return compare_pairs(pairs, confidence=confidence, resamples=resamples, seed=seed)


def compare_pairs(
    pairs: Mapping[K, tuple[Values, Values]], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 13
) -> dict[K, Comparison]:
    """Compare several pairs of a system and a baseline, all over the same queries and the same resamples of them.

    Their p values are adjusted for being several (Holm 1979). Arguments and errors are those of `compare`.
    """
    if not pairs:
        return {}
    if len({frozenset(system) for system, _ in pairs.values()}) > 1:
        raise ValueError("comparisons that are made together need the same queries")
    differences = np.stack([_differences(*pair) for pair in pairs.values()], axis=1)
    # Means are taken of what differs from the first: those of equal numbers are that number, to the last bit.
    first, n = differences[0], len(differences)
    rest = differences - first
    deltas = first + rest.mean(axis=0)
    rng = np.random.default_rng(seed)
    means = first + np.concatenate([weights @ rest / n for weights in _resamples(rng, n, resamples)])
    flipped = np.concatenate([signs @ differences / n for signs in _signs(rng, n, resamples)])
    tail = _tail(confidence, n)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0) if n > 1 else (deltas - inf, deltas + inf)
    # The observed assignment is one of the possible ones: without it, p could be 0 (Phipson and Smyth 2010).
    p = (1 + (np.abs(flipped) >= np.abs(deltas) - EQUAL).sum(axis=0)) / (1 + resamples)
    adjusted = holm(dict(zip(pairs, p.tolist(), strict=True)))
    return {
        name: Comparison(
            float(deltas[i]),
            float(low[i]),
            float(high[i]),
            float(p[i]),
            wins=int((differences[:, i] > 0).sum()),
            ties=int((differences[:, i] == 0).sum()),
            losses=int((differences[:, i] < 0).sum()),
            sd=float(rest[:, i].std(ddof=1)) if n > 1 else nan,
            p_holm=adjusted[name],
            confidence=confidence,
        )
        for i, name in enumerate(pairs)
    }


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """P values adjusted for several comparisons, so that one false alarm among all stays as rare as in one (Holm 1979).

    The smallest is multiplied by their number, the next by one less, and so on; none falls below one before it.
    """
    adjusted: dict[K, float] = {}
    largest = 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - i) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def standard_error(differences: npt.NDArray[np.float64]) -> float:
    """The standard error of the mean of differences; of one alone its size, as it shows nothing by itself."""
    n = len(differences)
    return float(differences.std(ddof=1)) / sqrt(n) if n > 1 else abs(float(differences.mean()))


def detectable(sd: float, queries: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided paired t test shows with this power (Cohen 1988).

    Exact, by the noncentral t distribution; infinite where the standard deviation is unknown, as for one query.

    Args:
        sd: standard deviation of the per-query differences.
        queries: how many.
        alpha: the level of the test.
        power: the chance that a true difference of this size is shown.
    """
    from scipy.special import nctdtrinc, stdtrit

    if not isfinite(sd) or queries < 2:
        return inf
    critical = stdtrit(queries - 1, 1 - alpha / 2)
    # The shift of the statistic at which it stays below the critical value as seldom as the power allows.
    return float(nctdtrinc(queries - 1, 1 - power, critical)) * sd / sqrt(queries)


def _differences(system: Values, baseline: Values) -> npt.NDArray[np.float64]:
    if system.keys() != baseline.keys() or not system:
        raise ValueError("a paired comparison needs the same queries on both sides, and at least one")
    differences = np.array([system[query_id] - baseline[query_id] for query_id in sorted(system)])
    if not np.isfinite(differences).all():
        raise ValueError(f"{int((~np.isfinite(differences)).sum())} queries have a value that is not finite")
    differences[np.abs(differences) < EQUAL] = 0.0
    return differences


def _tail(confidence: float, n: int) -> float:
    """The share of resampled means beyond each bound of an interval over `n` queries."""
    from scipy.special import ndtr, stdtrit

    tail = (1 - confidence) / 2
    return float(ndtr(sqrt(n / (n - 1)) * stdtrit(n - 1, tail))) if n > 1 else tail


def _resamples(rng: np.random.Generator, n: int, count: int) -> Iterator[npt.NDArray[np.float64]]:
    """Blocks `[rows, n]`: how often each query is drawn in a resample of `n` with replacement."""
    for rows in _blocks(n, count):
        places = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _signs(rng: np.random.Generator, n: int, count: int) -> Iterator[npt.NDArray[np.float64]]:
    """Blocks `[rows, n]` of random signs."""
    for rows in _blocks(n, count):
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-rows * n // 8)), np.uint8), count=rows * n)
        yield np.where(bits.reshape(rows, n), np.float64(1), np.float64(-1))


def _blocks(n: int, count: int) -> list[int]:
    rows = max(1, BLOCK // n)
    return [min(rows, count - start) for start in range(0, count, rows)]
