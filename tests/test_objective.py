"""The weighted sum of losses: which lists count, and that a step can be cut anywhere."""

from __future__ import annotations

from itertools import pairwise
from math import exp, inf, log
from typing import Any

import pytest
import torch
from torch import Tensor

from secondstage.config import LossTerm, TrainConfig
from secondstage.errors import UserError
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.train.examples import Example
from secondstage.train.losses import LOSSES
from secondstage.train.objective import Objective, Targets, targets_of

from .lossrows import NAN, Row


def example(labels: Row, teacher: Row = (), unlabelled: tuple[int, ...] = ()) -> Example:
    size = len(labels)
    return Example(
        "q",
        tuple(f"d{i}" for i in range(size)),
        tuple(labels),
        tuple(i not in unlabelled for i in range(size)),
        tuple(teacher) or (NAN,) * size,
    )


EXAMPLES = [
    example([1, 0, 0], [3, 1, 1]),
    example([2, 1, 0, 0, 0], [0.5, -1, 2, NAN, 0], unlabelled=(4,)),
    example([1, 0]),
    example([1], [2]),
    example([1, 1], [4, 4]),
    example([0, 0], [1, 2], unlabelled=(0, 1)),
    example([1, 0, 0, 0], [NAN, 2, NAN, -1], unlabelled=(1,)),
]


def objective(loss: Any) -> Objective:
    return Objective(TrainConfig(steps=1, loss=loss).loss)


def scores_of(targets: Targets) -> Tensor:
    return torch.randn(targets.labels.shape, generator=torch.Generator().manual_seed(2))


def test_examples_are_folded_and_padded() -> None:
    targets = targets_of([example([2, 0, 0], [1, NAN, inf], unlabelled=(1,)), example([1])], "cpu")
    assert targets.labels.tolist() == [[2, 0, 0], [1, 0, 0]]
    assert targets.labelled.tolist() == [[True, False, True], [True, False, False]]
    assert targets.taught.tolist() == [[True, False, False], [False, False, False]]
    assert targets.teacher.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert [x.dtype for x in targets] == [torch.float32, torch.bool, torch.bool, torch.float32]


def test_no_examples_are_an_empty_batch() -> None:
    targets = targets_of([], "cpu")
    assert {x.shape for x in targets} == {(0, 0)}
    everything = objective(dict.fromkeys(LOSSES, 1))
    assert set(everything.counts(targets).values()) == {0}
    sums = everything.sums(torch.zeros(0, 0), targets)
    assert everything.total(sums, everything.counts(targets)).item() == 0


def test_the_lists_that_count() -> None:
    counts = objective({**dict.fromkeys(LOSSES, 1)}).counts(targets_of(EXAMPLES, "cpu"))
    assert counts == {
        **dict.fromkeys(("bce", "gbce"), 6),
        **dict.fromkeys(("hinge", "ranknet", "listnet", "listmle", "p_listmle", "lambdaloss", "approx_ndcg"), 4),
        "lce": 4,
        "mse": 6,
        **dict.fromkeys(("margin_mse", "kl"), 5),
        **dict.fromkeys(("ranknet_teacher", "adr_mse"), 4),
    }


def test_margin_mse_over_positives_and_negatives_counts_labelled_pairs_alone() -> None:
    both = objective({"margin_mse": {"pairs": "positive_negative"}})
    targets = targets_of(EXAMPLES, "cpu")
    assert both.counts(targets) == {"margin_mse": 2}
    sums = both.sums(torch.zeros_like(targets.labels), targets)
    # Margins of the teacher: 2 and 2; then 0.5 − 2 and −1 − 2: one candidate has no score, and the last no label.
    assert sums["margin_mse"].item() == pytest.approx((4 + 4) / 2 + (1.5**2 + 3**2) / 2)


def test_the_sum_is_weighted_and_each_loss_has_its_own_mean() -> None:
    targets = targets_of([example([1, 0]), example([1, 0], [log(3), 0]), example([1], [7])], "cpu")
    both = objective({"lce": 2, "kl": {"weight": 0.5, "temperature": 2}, "mse": 0.1})
    scores = torch.tensor([[1.0, 0], [0, 0], [5, NAN]])
    found, counts = both.sums(scores, targets), both.counts(targets)
    assert counts == {"lce": 2, "kl": 1, "mse": 2}
    share = 3**0.5 / (1 + 3**0.5)
    kl = 4 * (share * log(2 * share) + (1 - share) * log(2 * (1 - share)))
    expected = {"lce": log(1 + exp(-1)) + log(2), "kl": kl, "mse": log(3) ** 2 / 2 + 4}
    assert {name: x.item() for name, x in found.items()} == pytest.approx(expected)
    total = 2 * expected["lce"] / 2 + 0.5 * kl / 1 + 0.1 * expected["mse"] / 2
    assert both.total(found, counts).item() == pytest.approx(total)


def test_losses_on_labels_do_not_see_what_is_ignored() -> None:
    with_ignored = targets_of([example([1, 0, 0], [1, 2, 3], unlabelled=(2,))], "cpu")
    without = targets_of([example([1, 0])], "cpu")
    labels = objective({"lce": 1, "bce": 1, "lambdaloss": 1})
    one = labels.sums(torch.tensor([[1.0, 0, 9]]), with_ignored)
    other = labels.sums(torch.tensor([[1.0, 0]]), without)
    assert {k: v.item() for k, v in one.items()} == {k: v.item() for k, v in other.items()}


@pytest.mark.parametrize("cuts", [(), (1,), (3,), (1, 2, 3, 4, 5, 6), (2, 5)])
def test_a_step_cut_anywhere_is_the_whole_step(cuts: tuple[int, ...]) -> None:
    """Micro-batches fold to their own widths, and add up to the loss and the gradient of the whole."""
    everything = objective({**dict.fromkeys(LOSSES, 0.3), "margin_mse": {"pairs": "positive_negative"}})
    whole = targets_of(EXAMPLES, "cpu")
    counts = everything.counts(whole)
    one, other = (scores_of(whole).double().requires_grad_() for _ in range(2))
    total = everything.total(everything.sums(one, whole), counts)
    torch.autograd.backward(total)
    parts, added = 0.0, dict.fromkeys(counts, 0)
    for start, stop in pairwise((0, *cuts, len(EXAMPLES))):
        targets = targets_of(EXAMPLES[start:stop], "cpu")
        added = {name: added[name] + count for name, count in everything.counts(targets).items()}
        part = everything.total(everything.sums(other[start:stop, : targets.labels.shape[1]], targets), counts)
        torch.autograd.backward(part)
        parts += part.item()
    assert added == counts
    assert parts == pytest.approx(total.item(), rel=1e-12)
    assert one.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(other.grad, one.grad)


def test_a_step_in_which_nothing_counts_is_zero_and_trains_nothing() -> None:
    targets = targets_of([example([1]), example([0, 0])], "cpu")
    lce = objective("lce")
    leaf = scores_of(targets).requires_grad_()
    total = lce.total(lce.sums(leaf, targets), lce.counts(targets))
    torch.autograd.backward(total)
    assert total.item() == 0
    assert leaf.grad is not None
    assert (leaf.grad == 0).all()


@pytest.mark.parametrize(
    ("loss", "teacher"),
    [
        ("lce", False),
        ("kl", True),
        ({"bce": 1, "mse": 1}, True),
        ({"margin_mse": {"pairs": "positive_negative"}}, True),
    ],
)
def test_what_an_objective_needs(loss: Any, teacher: bool) -> None:
    assert objective(loss).needs_teacher == teacher


def test_the_settings_of_the_configuration_reach_the_loss() -> None:
    targets = targets_of([example([1, 0, 0])], "cpu")
    scores = torch.zeros(1, 3)
    found = objective({"bce": {"pos_weight": "auto"}}).sums(scores, targets)["bce"]
    assert found.item() == pytest.approx((2 + 1 + 1) * log(2) / 3)
    assert Objective({"hinge": LossTerm(margin=4)}).sums(scores, targets)["hinge"].item() == 4


def graded(relevance: int) -> list[TrainingList]:
    found = [("p", relevance, POSITIVE), ("n", 0, NEGATIVE)]
    return [TrainingList("q7", tuple(Candidate(d, r, True, "bm25", 1, 0.0, role, "") for d, r, role in found))]


GAINED = [("lambdaloss", {}), ("approx_ndcg", {}), ("ranknet", {"weighted": True})]


@pytest.mark.parametrize(("name", "settings"), GAINED)
def test_grades_whose_gain_is_no_number_are_refused(name: str, settings: dict[str, Any]) -> None:
    objective = Objective({"lce": LossTerm(), name: LossTerm(**settings)})
    with pytest.raises(
        UserError, match=rf"query 'q7', document 'p': relevance 130 is too large for {name}, .* up to 100"
    ):
        objective.refuse_grades(graded(130))
    objective.refuse_grades(graded(100))
    # What is let through has a loss.
    scores, labels = torch.zeros(1, 4), torch.tensor([[100.0, 100.0, 1.0, 0.0]])
    assert LOSSES[name].values(scores, labels, mask=torch.ones(1, 4, dtype=torch.bool), **settings).isfinite().all()


def test_losses_that_see_no_gain_take_any_grade() -> None:
    Objective({"lce": LossTerm(), "ranknet": LossTerm(), "listnet": LossTerm()}).refuse_grades(graded(500))
