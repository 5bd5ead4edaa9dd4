"""Matching: a cut student is drawn to the hidden states and the attention of the layers that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secondstage.config import TrainConfig
from secondstage.config.train import StudentConfig
from secondstage.errors import UserError
from secondstage.firsttoken import read_all_tokens
from secondstage.networks import at_precision

from .layers import layers_of
from .model import start_model
from .student import kept_layers

# The name of what matching adds to the loss.
MATCHING = "matching"


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The mean squared difference of hidden states (TinyBERT's without its projection: Jiao et al. 2020, 1909.10351).

    Args:
        student: `[pairs, tokens, width]` of each layer.
        teacher: the same of the layer that each stands for.
        mask: `[pairs, tokens]`, true where there is a token; padding has no part.

    Returns:
        `[pairs]`: the mean over layers, tokens and width.
    """
    differences = (
        _mean_of_tokens((own.float() - other.float()).square().mean(dim=2), mask)
        for own, other in zip(student, teacher, strict=True)
    )
    return torch.stack(list(differences)).mean(dim=0)


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The KL divergence of the student's attention from the teacher's (MiniLM: Wang et al. 2020, 2002.10957, eq. 6).

    Args:
        student: `[pairs, heads, tokens, tokens]` probabilities over the last dimension, of each layer.
        teacher: the same of the layer that each stands for.
        mask: `[pairs, tokens]`, true where there is a token: what padding attends to has no part.

    Returns:
        `[pairs]`: the mean over layers, heads and tokens, in nats.
    """
    divergences = (
        _mean_of_tokens(_divergence(own.float(), other.float()).mean(dim=1), mask)
        for own, other in zip(student, teacher, strict=True)
    )
    return torch.stack(list(divergences)).mean(dim=0)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over the last dimension; what the teacher does not look at adds nothing."""
    floor = torch.finfo(student.dtype).tiny  # a probability may underflow to 0, whose logarithm has no gradient
    return (torch.xlogy(teacher, teacher) - teacher * student.clamp_min(floor).log()).sum(dim=-1)


def _mean_of_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """`[pairs]` means of `[pairs, tokens]` values where the mask is true; 0 of a pair without a token."""
    counted = mask.bool()
    return values.masked_fill(~counted, 0).sum(dim=1) / counted.sum(dim=1).clamp_min(1)


class Matching:
    """Compares a student's layers with those of the teacher that it was cut from.

    The student's layer j, from 0, is compared with the teacher's layer `stands_for[j]`, after both: what the layer
    makes of its input, not what it was given. What leaves the student's last layer goes into the head, in many networks
    through a normalisation: it is compared with the teacher's last output, or, where it stands for none, with nothing.
    """

    def __init__(self, teacher: Any, stands_for: Sequence[int], config: StudentConfig) -> None:
        """Make the teacher ready; it is never trained.

        Args:
            teacher: the network that the student was cut from, as it was, on the device of the training.
            stands_for: of each layer of the student the teacher's layer, by index from 0.
            config: the weights.

        Raises:
            UserError: attention is to be matched, and the network does not tell it; or hidden states, and there are
                none that can be compared.
        """
        self.teacher, self.stands_for, self.config = teacher.eval().requires_grad_(False), tuple(stands_for), config
        last = teacher.config.get_text_config().num_hidden_layers - 1
        self._states = tuple(j for j, i in enumerate(stands_for) if j < len(stands_for) - 1 or i == last)
        if config.match_hidden and not self._states:
            raise UserError(
                "train.student.match_hidden: the only layer of the student is not the last one of its teacher, so "
                "there is nothing to compare: keep more layers, or set it to 0"
            )
        self.show(teacher)

    def show(self, network: Any) -> None:
        """Have a network, teacher or student, compute what is compared; before copies are made of it.

        Raises:
            UserError: attention is to be matched, and the network does not tell it.
        """
        read_all_tokens(network)
        if self.config.match_attention:
            show_attention(network)

    @property
    def wanted(self) -> dict[str, bool]:
        """What the forward pass of both is to give: keyword arguments of the network."""
        return {
            "output_hidden_states": self.config.match_hidden > 0,
            "output_attentions": self.config.match_attention > 0,
        }

    def loss(self, student: Any, features: Mapping[str, Tensor]) -> Tensor:
        """The weighted differences, summed over the pairs: a scalar.

        Args:
            student: what the student's network gave for `features`, called with `wanted`.
            features: `input_ids`, `attention_mask`, … of `[pairs, tokens]`.
        """
        with torch.no_grad():
            teacher = self.teacher(**features, **self.wanted)
        mask, total = features["attention_mask"].bool(), student.logits.new_zeros(len(student.logits)).float()
        if self.config.match_hidden:
            # The first is that of the embeddings.
            own, others = student.hidden_states[1:], self._of_teacher(teacher.hidden_states[1:])
            own, others = ([layers[j] for j in self._states] for layers in (own, others))
            total = total + self.config.match_hidden * hidden_loss(own, others, mask)
        if self.config.match_attention:
            total = total + self.config.match_attention * attention_loss(
                student.attentions, self._of_teacher(teacher.attentions), mask
            )
        summed: Tensor = total.sum()
        return summed

    def _of_teacher(self, layers: Sequence[Tensor]) -> list[Tensor]:
        return [layers[index] for index in self.stands_for]


def show_attention(network: Any) -> None:
    """Have a network compute attention so that its probabilities can be told, student or teacher.

    Raises:
        UserError: this kind of network cannot.
    """
    try:
        network.set_attn_implementation("eager")
    except (AttributeError, ValueError) as error:
        raise UserError(
            f"{type(network).__name__} does not tell its attention ({error}): set train.student.match_attention to 0"
        ) from error


def start_matching(config: TrainConfig) -> Matching | None:
    """What a student is compared with, if its layers are to be; the teacher is loaded once more, whole."""
    student = config.student
    if student is None or not (student.match_hidden or student.match_attention):
        return None
    whole: dict[str, Any] = {"student": None, "lora": None, "freeze_embeddings": False, "freeze_layers": 0}
    network = start_model(config.model_copy(update=whole)).model
    kept = kept_layers(len(layers_of(network).layers), student.layers, student.keep)
    return Matching(at_precision(network, config.precision), kept, student)
