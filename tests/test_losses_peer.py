"""The same as sentence-transformers, where both mean the same.

It averages over the pairs or candidates of a batch, so a longer list weighs more; here every list weighs the same. So
single lists are compared, or sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, cast

import pytest
import torch
from sentence_transformers.cross_encoder import CrossEncoder, losses
from torch import Tensor

from secondstage.train.losses.distillation import adr_mse, margin_mse, mse
from secondstage.train.losses.lambdas import lambdaloss
from secondstage.train.losses.listwise import lce, listmle, listnet, p_listmle
from secondstage.train.losses.pairwise import ranknet
from secondstage.train.losses.pointwise import bce
from secondstage.train.losses.ranks import discounts, hard_ranks, normalised_gains

from .lossrows import Row, values

SCORES: list[Row] = [[0.3, -1.2, 2.1, 0.7, -0.4], [1.1, 0.2, -0.6], [-0.9, 0.8]]
BINARY: list[Row] = [[0, 1, 0, 1, 0], [0, 0, 1], [1, 0]]
GRADES: list[Row] = [[2, 0, 1, 4, 3], [1, 0, 2], [1, 3]]
TIED: list[Row] = [[2, 0, 2, 1, 0], [1, 0, 0], [1, 3]]


def read_off(_: Any, pairs: Sequence[tuple[str, str]], **__: Any) -> dict[str, Tensor]:
    return {"scores": torch.tensor([float(text) for _, text in pairs])}


# A model whose score of a document is the number written in it. The peer asks for no more of it.
Written: Any = type(
    "Written",
    (CrossEncoder,),
    {
        "num_labels": 1,
        "device": torch.device("cpu"),
        "__init__": torch.nn.Module.__init__,
        "preprocess": read_off,
        "forward": lambda _, features: features,
    },
)


def texts(scores: Row) -> list[str]:
    return [str(score) for score in scores]


def peer(loss: str, scores: Sequence[Row], labels: Sequence[Row], **settings: Any) -> float:
    """Of a batch of whole lists."""
    made: Any = getattr(losses, loss)(Written(), **settings)
    inputs = [["query"] * len(scores), [texts(row) for row in scores]]
    return float(made(inputs, [torch.tensor(row) for row in labels]))


def pairs_of(labels: Row) -> int:
    return sum(one > other for one in labels for other in labels)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_bce(weight: float) -> None:
    made = losses.BinaryCrossEntropyLoss(Written(), pos_weight=torch.tensor(weight))
    for scores, labels, found in zip(SCORES, BINARY, values(bce, SCORES, BINARY, pos_weight=weight), strict=True):
        expected = made([["q"] * len(scores), texts(scores)], torch.tensor(labels))
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_mse() -> None:
    made = losses.MSELoss(Written())
    for scores, teacher, found in zip(SCORES, GRADES, values(mse, SCORES, GRADES), strict=True):
        expected = made([["q"] * len(scores), texts(scores)], torch.tensor(teacher))
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_margin_mse() -> None:
    """The peer knows one positive, which comes first."""
    made = losses.MarginMSELoss(Written())
    scores, teacher = SCORES[0], torch.tensor([[0.5, -2.0, 1.0, 0.25, 3.0]], dtype=torch.float64)
    expected = made([["q"], *([text] for text in texts(scores))], [teacher[0].float()])
    labels = torch.tensor([[1, 0, 0, 0, 0]])
    found = margin_mse(
        torch.tensor([scores]), teacher, mask=labels > -1, labels=labels.float(), pairs="positive_negative"
    )
    assert found.item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_lce(temperature: float) -> None:
    """The peer knows one positive, which comes first, and takes the documents of the other queries for negatives."""
    column = type("Column", (Written,), {"forward": lambda _, features: {"scores": features["scores"][:, None]}})
    made = losses.MultipleNegativesRankingLoss(
        column(), num_negatives=None, scale=cast(Any, 1 / temperature), activation_fn=torch.nn.Identity()
    )
    one, other = [2.1, -1.2, 0.3], [-0.6, 0.2, 1.1]
    expected = made([["q", "q"], *(texts(row) for row in zip(one, other, strict=True))], torch.empty(0))
    found = values(lce, [one + other, other + one], [[1, 0, 0, 0, 0, 0]] * 2, temperature=temperature)
    assert sum(found) / 2 == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("labels", [BINARY, GRADES, TIED])
def test_ranknet(labels: list[Row]) -> None:
    """The peer's logarithm is the binary one, as in LambdaLoss; here it is the natural one, as in the paper."""
    for scores, row, found in zip(SCORES, labels, values(ranknet, SCORES, labels), strict=True):
        assert found / log(2) == pytest.approx(peer("RankNetLoss", [scores], [row]), rel=1e-5)


@pytest.mark.parametrize("labels", [BINARY, GRADES, TIED])
def test_listnet(labels: list[Row]) -> None:
    found = values(listnet, SCORES, labels)
    assert sum(found) / len(found) == pytest.approx(peer("ListNetLoss", SCORES, labels), rel=1e-5)


def test_listnet_of_equal_labels_is_nothing_here() -> None:
    """The peer draws the scores of a list without a positive towards each other."""
    assert values(listnet, [[2, 1]], [[0, 0]]) == [0]
    assert peer("ListNetLoss", [[2.0, 1.0]], [[0.0, 0.0]]) > 0.6


@pytest.mark.parametrize(("ours", "loss"), [(listmle, "ListMLELoss"), (p_listmle, "PListMLELoss")])
def test_listmle_without_ties(ours: Any, loss: str) -> None:
    """The peer has to be told not to take the order that the documents come in for that of the labels."""
    found = values(ours, SCORES, GRADES)
    expected = peer(loss, SCORES, GRADES, respect_input_order=False)
    assert sum(found) / len(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("ours", "loss"), [(listmle, "ListMLELoss"), (p_listmle, "PListMLELoss")])
def test_of_equal_labels_the_peer_invents_an_order(ours: Any, loss: str) -> None:
    """Its value depends on the order that equal documents come in; ours does not."""
    there, back = ([2.0, 1.0, 0.0], [0.0, 1.0, 2.0])
    assert values(ours, [there], [[1, 1, 1]]) == values(ours, [back], [[1, 1, 1]]) == [0]
    one, other = (peer(loss, [row], [[1.0, 1.0, 1.0]], respect_input_order=False) for row in (there, back))
    assert abs(one - other) > 0.1


@pytest.mark.parametrize("labels", [BINARY, GRADES, TIED])
@pytest.mark.parametrize("k", [None, 1, 2])
@pytest.mark.parametrize(
    ("scheme", "name"),
    [("ndcg2", "NDCGLoss2Scheme"), ("lambdarank", "LambdaRankScheme"), ("ndcg2++", "NDCGLoss2PPScheme")],
)
def test_lambdaloss(scheme: str, name: str, k: int | None, labels: list[Row]) -> None:
    """Here the sum over the pairs, as in the paper; there the mean: of a long list next to nothing is left."""
    weighting = getattr(losses, name)()
    for scores, row, found in zip(SCORES, labels, values(lambdaloss, SCORES, labels, scheme=scheme, k=k), strict=True):
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        ranks = {i: rank for rank, i in enumerate(order, start=1)}
        places = range(len(row))
        pairs = [(i, j) for i in places for j in places if row[i] > row[j]]
        kept = sum(1 for i, j in pairs if k is None or min(ranks[i], ranks[j]) <= k)
        expected = peer("LambdaLoss", [scores], [row], weighting_scheme=weighting, k=k)
        assert found == pytest.approx(expected * kept, rel=1e-5)


@pytest.mark.parametrize("labels", [BINARY, GRADES, TIED])
def test_ndcg1(labels: list[Row]) -> None:
    """The peer also compares every candidate with itself, which costs a constant: its weight times log2(2)."""
    weighting = losses.NDCGLoss1Scheme()
    for scores, row, found in zip(SCORES, labels, values(lambdaloss, SCORES, labels, scheme="ndcg1"), strict=True):
        given, targets = torch.tensor([scores]), torch.tensor([row], dtype=torch.float32)
        ranks = hard_ranks(given, targets, torch.ones_like(given, dtype=torch.bool))
        itself = (normalised_gains(targets) / discounts(ranks)).sum().item()
        expected = peer("LambdaLoss", [scores], [row], weighting_scheme=weighting)
        assert found + itself == pytest.approx(expected * len(row) ** 2, rel=1e-5)


@pytest.mark.parametrize("labels", [BINARY, GRADES, TIED])
def test_adr_mse(labels: list[Row]) -> None:
    for scores, row, found in zip(SCORES, labels, values(adr_mse, SCORES, labels, temperature=0.5), strict=True):
        assert found == pytest.approx(peer("ADRMSELoss", [scores], [row], alpha=2.0), rel=1e-5)
