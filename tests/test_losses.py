"""What is true of every loss: by properties, by finite differences, and against the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secondstage.config.loss import ON_LABELS, ON_TEACHER, LossTerm, check_losses
from secondstage.train.losses import LOSSES

from .lossrows import NAN


class Variant(NamedTuple):
    """A loss with settings."""

    name: str
    settings: dict[str, Any]

    def arguments(self, targets: Tensor, mask: Tensor) -> dict[str, Any]:
        # Where pairs depend on labels, the teacher's scores above 0 are those of positives.
        labels = {"labels": (targets > 0).float()} if "pairs" in self.settings else {}
        return {"mask": mask, **self.settings, **labels}

    def values(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        return LOSSES[self.name].values(scores, targets, **self.arguments(targets, mask))

    def counts(self, targets: Tensor, mask: Tensor) -> Tensor:
        return LOSSES[self.name].counts(targets, **self.arguments(targets, mask))

    def gradient(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        leaf = scores.clone().requires_grad_()
        torch.autograd.backward(self.values(leaf, targets, mask).sum())
        assert leaf.grad is not None
        return leaf.grad


VARIANTS = [
    *(Variant(name, {}) for name in LOSSES),
    Variant("bce", {"pos_weight": "auto"}),
    Variant("bce", {"pos_weight": 3.0}),
    Variant("ranknet", {"weighted": True, "sigma": 2.0}),
    Variant("lce", {"temperature": 0.5}),
    Variant("listnet", {"temperature": 0.5}),
    *(Variant("lambdaloss", {"scheme": scheme}) for scheme in ("ndcg1", "ndcg2", "lambdarank")),
    *(Variant("lambdaloss", {"scheme": scheme, "k": 2}) for scheme in ("ndcg1", "ndcg2++")),
    Variant("approx_ndcg", {"temperature": 1.0}),
    Variant("margin_mse", {"pairs": "positive_negative"}),
    Variant("kl", {"temperature": 2.0}),
    Variant("ranknet_teacher", {"weighted": True}),
]
# Those that say what the score of a candidate should be, whatever the others are.
ABSOLUTE = ("bce", "gbce", "mse")

every = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, (v.name, *v.settings.values()))))
quick = settings(max_examples=15, deadline=None)

SCORES = st.one_of(st.floats(-5, 5, width=32), st.sampled_from([-1.0, 0.0, 1.0]))
TARGETS = st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0])
CANDIDATES = st.tuples(SCORES, TARGETS, st.booleans())
LISTS = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(CANDIDATES, min_size=width, max_size=width), min_size=1, max_size=3)
)
Lists = Sequence[Sequence[tuple[float, float, bool]]]


def tensors(lists: Lists) -> tuple[Tensor, Tensor, Tensor]:
    scores, targets, mask = torch.tensor(lists, dtype=torch.float64).unbind(dim=2)
    return scores, targets, mask.bool()


def some() -> tuple[Tensor, Tensor, Tensor]:
    """Lists with several positives, grades, one candidate, masked ones, and no two scores alike."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.tensor([[1, 0, 0, 0, 0], [3, 0, 1, 1, 2], [0, 2, 0, 1, 3], [1, 0, 0, 0, 0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    return torch.randn(4, 5, dtype=torch.float64, generator=generator) / 4, targets, mask


@every
@quick
@given(lists=LISTS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(variant: Variant, lists: Lists, order: Any) -> None:
    columns = list(range(len(lists[0])))
    order.shuffle(columns)
    scores, targets, mask = tensors(lists)
    shuffled = variant.values(scores[:, columns], targets[:, columns], mask[:, columns])
    torch.testing.assert_close(shuffled, variant.values(scores, targets, mask))


@every
def test_the_gradient_follows_the_order_of_the_candidates(variant: Variant) -> None:
    scores, targets, mask = some()
    columns = [3, 0, 4, 2, 1]
    shuffled = variant.gradient(scores[:, columns], targets[:, columns], mask[:, columns])
    torch.testing.assert_close(shuffled, variant.gradient(scores, targets, mask)[:, columns])


@every
@quick
@given(lists=LISTS, filling=st.sampled_from([0.0, 1e30, float("inf"), -float("inf"), NAN]))
def test_what_is_masked_is_as_if_it_were_not_there(variant: Variant, lists: Lists, filling: float) -> None:
    scores, targets, mask = tensors(lists)
    dirty = scores.masked_fill(~mask, filling), targets.masked_fill(~mask, filling), mask
    found, gradient = variant.values(*dirty), variant.gradient(*dirty)
    assert (gradient[~mask] == 0).all()
    for i in range(len(lists)):
        alone = scores[i : i + 1, mask[i]], targets[i : i + 1, mask[i]], mask[i : i + 1, mask[i]]
        torch.testing.assert_close(found[i : i + 1], variant.values(*alone))
        torch.testing.assert_close(gradient[i : i + 1, mask[i]], variant.gradient(*alone))


@every
@quick
@given(lists=LISTS, shift=st.floats(-50, 50))
def test_only_differences_of_scores_matter_unless_the_loss_is_absolute(
    variant: Variant, lists: Lists, shift: float
) -> None:
    scores, targets, mask = tensors(lists)
    scores = (scores * 64).round() / 64  # so that the shift, in whole 64ths, is exact: ties stay ties
    shifted = variant.values(scores + round(64 * shift) / 64, targets, mask)
    if variant.name not in ABSOLUTE:
        torch.testing.assert_close(shifted, variant.values(scores, targets, mask))


@pytest.mark.parametrize("name", ABSOLUTE)
def test_absolute_losses_do_see_a_shift(name: str) -> None:
    scores, targets, mask = some()
    variant = Variant(name, {})
    assert ((variant.values(scores + 3, targets, mask) - variant.values(scores, targets, mask)).abs() > 0.03).all()


@every
@quick
@given(lists=LISTS)
def test_a_list_without_a_valid_pair_contributes_exactly_nothing(variant: Variant, lists: Lists) -> None:
    scores, targets, mask = tensors(lists)
    idle = ~variant.counts(targets, mask)
    assert (variant.values(scores, targets, mask)[idle] == 0).all()
    assert (variant.gradient(scores, targets, mask)[idle] == 0).all()


@every
def test_a_list_that_counts_has_a_gradient(variant: Variant) -> None:
    scores, targets, mask = some()
    moved = (variant.gradient(scores, targets, mask).abs().sum(dim=1) > 1e-6).tolist()
    assert moved == variant.counts(targets, mask).tolist()
    assert moved == [True, True, True, variant.name in ABSOLUTE]


@every
@quick
@given(lists=LISTS, size=st.sampled_from([1e4, 2e3]))
def test_huge_scores_have_finite_values_and_gradients(variant: Variant, lists: Lists, size: float) -> None:
    scores, targets, mask = tensors(lists)
    huge = scores.float().sign() * size, targets.float(), mask
    assert variant.values(*huge).isfinite().all()
    assert variant.gradient(*huge).isfinite().all()
    # A teacher's scores may be as far apart.
    if variant.name in ON_TEACHER:
        far = huge[0], (targets.float() - 1) * size, mask
        assert variant.values(*far).isfinite().all()
        assert variant.gradient(*far).isfinite().all()


@every
def test_no_step_of_the_gradient_is_nan(variant: Variant) -> None:
    """Not even one whose result is masked later: whoever looks for the origin of a NaN would be led astray."""
    scores, targets, mask = some()
    mask[1:3] = False
    with torch.autograd.set_detect_anomaly(True):
        variant.gradient(scores, torch.zeros_like(targets), mask)
        assert variant.gradient(scores, targets, mask).isfinite().all()


@every
def test_the_gradient_is_what_finite_differences_give(variant: Variant) -> None:
    scores, targets, mask = some()
    leaf = scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: variant.values(given, targets, mask), (leaf,), eps=1e-7)


@every
def test_scores_as_they_should_be_cost_less_than_the_opposite(variant: Variant) -> None:
    _, targets, mask = some()
    right = variant.values(targets * 2 - 1, targets, mask)
    wrong = variant.values(1 - targets * 2, targets, mask)
    assert (right < wrong)[:3].all()


@every
def test_the_result_is_in_single_precision_at_least(variant: Variant) -> None:
    scores, targets, mask = some()
    assert variant.values(scores, targets, mask).dtype == torch.float64
    for dtype in (torch.bfloat16, torch.float16):
        half = scores.to(dtype)
        found = variant.values(half, targets, mask)
        assert found.dtype == torch.float32
        assert found.shape == (4,)
        assert torch.equal(found, variant.values(half.float(), targets, mask))
        assert variant.gradient(half, targets, mask).dtype == dtype


def test_the_configuration_knows_the_losses_and_their_settings() -> None:
    known = {**ON_LABELS, **ON_TEACHER}
    assert LOSSES.keys() == known.keys()
    for name, loss in LOSSES.items():
        parameters = inspect.signature(loss.values).parameters
        keywords = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert keywords == ["mask", *(["labels"] if name == "margin_mse" else []), *known[name]]
        defaults = {key: parameters[key].default for key in known[name] if parameters[key].default is not None}
        term = LossTerm(**defaults)
        check_losses({name: term})
        assert term.settings == defaults
