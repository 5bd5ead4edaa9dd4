"""`train.loss`: names, weights and settings."""

from __future__ import annotations

from typing import Any

import pytest

from secondstage.config.loss import ON_LABELS, ON_TEACHER
from secondstage.configfile import check_config
from secondstage.errors import UserError


def terms(loss: Any) -> dict[str, tuple[float, dict[str, Any]]]:
    teachers = {"large": {"model": "models/large"}}
    train = {"steps": 1, "loss": loss}
    config = check_config({"output": "x", "collection": "pydocs", "mine": {"teachers": teachers}, "train": train})
    return {name: (term.weight, term.settings) for name, term in config.train.loss.items()}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("lce", {"lce": (1, {})}),
        ({"lce": 1, "kl": 0.5}, {"lce": (1, {}), "kl": (0.5, {})}),
        (
            {"lce": 1, "kl": {"weight": 0.5, "temperature": 2}},
            {"lce": (1, {}), "kl": (0.5, {"temperature": 2})},
        ),
        ({"bce": {"pos_weight": "auto"}}, {"bce": (1, {"pos_weight": "auto"})}),
        ({"bce": {"pos_weight": 7}}, {"bce": (1, {"pos_weight": 7})}),
        ({"gbce": {"t": 1, "sampling": 0.5}}, {"gbce": (1, {"t": 1, "sampling": 0.5})}),
        ({"gbce": {"t": 0, "sampling": 0}}, {"gbce": (1, {"t": 0, "sampling": 0})}),
        (
            {"lambdaloss": {"scheme": "ndcg2", "k": 10, "sigma": 2, "mu": 5}},
            {"lambdaloss": (1, {"scheme": "ndcg2", "k": 10, "sigma": 2, "mu": 5})},
        ),
        ({"ranknet": {"weighted": False}}, {"ranknet": (1, {"weighted": False})}),
        ({"margin_mse": {"pairs": "positive_negative"}}, {"margin_mse": (1, {"pairs": "positive_negative"})}),
        ({"hinge": {"margin": 0.5}}, {"hinge": (1, {"margin": 0.5})}),
    ],
)
def test_what_may_be_given(loss: Any, expected: dict[str, Any]) -> None:
    assert terms(loss) == expected


@pytest.mark.parametrize("name", [*ON_LABELS, *ON_TEACHER])
def test_each_loss_has_a_name_of_its_own(name: str) -> None:
    assert terms(name) == {name: (1, {})}
    assert not ON_LABELS.keys() & ON_TEACHER.keys()


KNOWN = ", ".join((*ON_LABELS, *ON_TEACHER))


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("focal", f"train.loss: there is no loss 'focal'; known are {KNOWN}"),
        ("lsitnet", "train.loss: there is no loss 'lsitnet'; did you mean 'listnet'?"),
        ({"lce": 1, "KL": 1, "mse": {"k": 1}}, "'KL'"),
        ({"lce": 1, "KL": 1, "mse": {"k": 1}}, "the loss mse has no setting k; those of mse are weight"),
        ({}, f"train.loss: give at least one of {KNOWN}"),
        (
            {"lce": {"k": 3, "mu": 1}},
            "train.loss: the loss lce has no setting k and no mu; those of lce are weight, temperature",
        ),
        ({"lce": {"temprature": 3}}, "train.loss.lce.temprature: unknown key, did you mean 'temperature'?"),
        ({"lce": {"temperature": 0}}, "train.loss.lce.temperature: input should be greater than 0, not 0"),
        ({"lce": 0}, "train.loss.lce.weight: input should be greater than 0, not 0"),
        ({"lce": -1}, "train.loss.lce.weight: input should be greater than 0, not -1"),
        ({"bce": {"pos_weight": "balanced"}}, "number above 0, or auto, not 'balanced'"),
        ({"bce": {"pos_weight": 0}}, "number above 0, or auto, not 0"),
        ({"lambdaloss": {"scheme": "ndcg3"}}, "train.loss.lambdaloss.scheme: input should be 'ndcg1'"),
        ({"gbce": {"t": 1, "sampling": 0}}, "ignores the positives"),
        (["lce"], "train.loss: input should be a valid dictionary"),
    ],
)
def test_what_may_not(loss: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        terms(loss)
    assert told in str(caught.value)
