"""Parity: closed forms of what is measured, and the rules."""

from __future__ import annotations

import numpy as np
import pytest

from secondstage.errors import UserError
from secondstage.run import Run, rank
from secondstage.serve.export.parity import Parity, check, compare

FIRST = Run("first", {"q": rank("abcd", [4, 3, 2, 1], ["x"] * 4), "r": rank("ef", [2, 1], ["x"] * 2)})
TORCH = np.array([3, 2, 1, 0.999, 5, 6], np.float32)
QRELS = {"q": {"b": 1}, "r": {"f": 1}}


def test_the_same_scores_agree_in_everything() -> None:
    found = compare(FIRST, TORCH, TORCH, QRELS, "dev", 1e-3)
    assert (found.largest, found.mean, found.kept, found.ndcg_delta) == (0, 0, 1, 0)
    assert (found.queries, found.pairs, found.basis) == (2, 6, "dev")
    # b is second of q, f is first of r.
    assert found.ndcg_torch == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_differences_are_counted_per_pair_and_order_per_neighbours_of_the_same_list() -> None:
    scores = TORCH.copy()
    scores[1] += 2  # b before a: one of the neighbours of q turned, c and d are too near to count
    found = compare(FIRST, TORCH, scores, QRELS, "dev", 0.01)
    assert found.largest == 2
    assert found.mean == pytest.approx(2 / 6)
    # Neighbours further apart: (a, b), (b, c), (f, e); (c, d) is nearer than the tolerance.
    assert found.kept == pytest.approx(2 / 3)
    assert found.ndcg == pytest.approx(1)
    assert found.ndcg_delta == pytest.approx((1 - 1 / np.log2(3)) / 2)


def test_ties_of_what_torch_tells_apart_are_not_kept() -> None:
    assert compare(FIRST, TORCH, np.zeros(6, np.float32), {}, "dev", 0.01).kept == 0


def test_without_judgements_there_is_no_ndcg() -> None:
    found = compare(FIRST, TORCH, TORCH, {}, "documents", 1e-3)
    assert found.ndcg is found.ndcg_delta is None
    assert "nDCG could not be measured" in found.sentence


def measured(largest: float = 0.0, kept: float = 1.0, ndcg: float | None = 0.5) -> Parity:
    return Parity("dev", 2, 6, largest, largest, 0.1, kept, ndcg, None if ndcg is None else 0.5)


@pytest.mark.parametrize(
    ("parity", "int8", "refused"),
    [
        (measured(largest=0.9e-3), False, None),
        (measured(largest=1.1e-3), False, "single precision scores may be off by 0.001"),
        (measured(largest=float("nan")), False, "off by 0.001"),
        (measured(largest=2, kept=0, ndcg=0.4971), True, None),
        (measured(ndcg=0.4969), True, "eight bits may lose 0.003"),
        (measured(ndcg=float("nan")), True, "eight bits may lose"),
        (measured()._replace(served=measured(largest=2, kept=0, ndcg=0.4971)), False, None),
        (measured()._replace(served=measured(ndcg=0.4969)), False, "bfloat16 may lose 0.003. .*serve.precision=fp32"),
        (measured(kept=0.991, ndcg=None), True, None),
        (measured(kept=0.989, ndcg=None), True, "eight bits must keep the order of 99% of neighbours"),
    ],
)
def test_the_rules(parity: Parity, int8: bool, refused: str | None) -> None:
    if refused is None:
        check("onnx", parity, int8=int8)
        return
    with pytest.raises(UserError, match=refused) as caught:
        check("onnx-int8", parity, int8=int8)
    assert parity.sentence in str(caught.value)
    assert "Way out" in str(caught.value)


def test_a_record_of_it_is_plain_json() -> None:
    assert measured(largest=1 / 3).to_json()["largest"] == 0.3333333
    assert measured().to_json()["ndcg_delta"] == 0
    assert measured()._replace(served=measured(largest=0.01)).to_json()["served"]["largest"] == 0.01
