"""The scores of a bundle when it was made: what production is compared with, kept in the bundle as `release.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from secondstage.files import read_json, write_json
from secondstage.run import Run

FILE = "release.json"
# A sample that is larger is kept as so many of its quantiles.
KEPT = 1000


class Release(NamedTuple):
    """The reranker's logits of the dev queries, over as many candidates as the bundle reranks.

    Attributes:
        depth: candidates of a query. Those with fewer are left out: the highest of fewer scores is lower.
        queries: how many there are.
        top: `[n]` the highest logit of each query, ascending.
        candidates: `[n]` the logits of all candidates, ascending.
    """

    depth: int
    queries: int
    top: tuple[float, ...]
    candidates: tuple[float, ...]


def describe_release(reranked: Run) -> Release | None:
    """The scores of lists that hold what the bundle would rerank, and no more; none if there are none.

    Where a corpus is smaller than the depth, all of it is as deep as a list can be.
    """
    depth = max((len(ranking.scores) for ranking in reranked.values()), default=0)
    scores = [ranking.scores for ranking in reranked.values() if len(ranking.scores) == depth]
    if not depth:
        return None
    return Release(depth, len(scores), quantiles([each.max() for each in scores]), quantiles(np.concatenate(scores)))


def quantiles(values: npt.ArrayLike) -> tuple[float, ...]:
    """The values in ascending order; of more than `KEPT`, so many quantiles, the lowest and the highest among them."""
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) > KEPT:
        ordered = np.quantile(ordered, np.linspace(0, 1, KEPT))
    return tuple(np.round(ordered, 5).tolist())


def write_release(folder: Path, release: Release) -> None:
    """Write it into a bundle that is being made."""
    write_json(folder / FILE, release._asdict())


def read_release(folder: Path) -> Release | None:
    """Read what `write_release` wrote; none of a bundle that has none: it was made without dev, or long ago.

    Raises:
        UserError: the file is no JSON.
    """
    found = read_json(folder / FILE) if (folder / FILE).is_file() else None
    if not isinstance(found, Mapping) or not found.get("top"):
        return None
    return Release(found["depth"], found["queries"], tuple(found["top"]), tuple(found["candidates"]))
