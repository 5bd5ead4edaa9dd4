"""The head of a decoder that is asked for yes or no: two rows of the head that predicts tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .errors import UserError


class Answers(nn.Module):
    """Logits of the answers alone, in single precision, by rows that are parameters of their own.

    A bf16 logit has three digits: candidates would tie that the model does tell apart. The other rows, a hundred
    thousand and more, would be computed in vain.

    Attributes:
        answers: the tokens that the rows belong to.
    """

    def __init__(self, head: nn.Linear, answers: Sequence[int]) -> None:
        super().__init__()
        self.answers = list(answers)
        rows = head.weight.detach()[self.answers]
        self.weight = nn.Parameter(rows.float().clone())
        self.bias = None if head.bias is None else nn.Parameter(head.bias.detach()[self.answers].float().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., 2]` logits from `[..., hidden]` states."""
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(hidden.float(), self.weight.float(), bias)


class TiedAnswers(nn.Module):
    """The same of a model whose head is its table of embeddings: the rows are the embeddings of the answers.

    So they have no parameters of their own. Training them is training the embeddings, and what is frozen there is
    frozen here.
    """

    def __init__(self, embeddings: nn.Embedding, answers: Sequence[int]) -> None:
        super().__init__()
        self.answers = list(answers)
        # In a list, so that the table is not registered, and saved, a second time. A copy of the whole network points
        # to the copy's table.
        self._embeddings = [embeddings]

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., 2]` logits from `[..., hidden]` states."""
        return nn.functional.linear(hidden.float(), self._embeddings[0].weight[self.answers].float())


class Whole(NamedTuple):
    """The head that predicts all tokens, as it was before it was reduced.

    Attributes:
        head: with its own weights, or with those of the embeddings if they are tied.
        tied: whether they are.
    """

    head: nn.Linear
    tied: bool


def keep_answers(network: Any, answers: Sequence[int]) -> Whole:
    """Reduce a causal model's head to the rows of `answers`.

    Raises:
        UserError: it has no such head.
    """
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise UserError("this model has no head that predicts tokens: give a decoder, such as Qwen/Qwen3-Reranker-0.6B")
    embeddings = network.get_input_embeddings()
    # A bias is no part of the embeddings: with one, the rows are kept apart.
    tied = head.weight is embeddings.weight and head.bias is None
    network.set_output_embeddings(TiedAnswers(embeddings, answers) if tied else Answers(head, answers))
    return Whole(head, tied)


def put_back(network: Any, whole: Whole) -> nn.Linear:
    """The head that predicts all tokens, with the rows of the answers as they are now.

    Of tied models it shares the embeddings of `network`, so that these alone are written.
    """
    own = network.get_output_embeddings()
    embeddings = network.get_input_embeddings().weight
    head = nn.Linear(whole.head.in_features, whole.head.out_features, bias=whole.head.bias is not None, device="meta")
    if isinstance(own, TiedAnswers):
        head.weight = embeddings
        return head
    weight = whole.head.weight.detach().to(embeddings.device, embeddings.dtype, copy=True)
    weight[own.answers] = own.weight.detach().to(weight)
    head.weight = nn.Parameter(weight)
    if head.bias is not None:
        bias = whole.head.bias.detach().to(weight, copy=True)
        bias[own.answers] = own.bias.detach().to(bias)
        head.bias = nn.Parameter(bias)
    return head
