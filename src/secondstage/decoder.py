"""A decoder that is asked whether a document answers a query: its logits of "yes" and "no" are the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .compute import Precision, device, resolve
from .errors import UserError
from .models import loading, locate, quiet_transformers
from .reranker import longest, score_in_chunks, token_budget
from .run import Scores
from .yesno import template_of, token_of

INSTRUCTION = "Given a search query, retrieve relevant documents that answer it"
# Tokens of query and document together, at least, that the template has to leave.
LEAST_ROOM = 16


class DecoderReranker:
    """A causal language model, its score being logit(yes) - logit(no) after the prompt: higher is more relevant.

    That difference is the log-odds of the probability of "yes" in the softmax of the two, which is the score that
    Qwen3-Reranker publishes (Zhang et al. 2025, Qwen3 Embedding); the sigmoid of ours gives theirs. Log-odds order the
    same, and still tell apart what a probability rounds to 1.

    Attributes:
        max_length: tokens of a prompt, template included; the end of the document is cut, and the query only where it
            alone takes more than half of what the template leaves.
        origin: where it was loaded from, and in which precision it computes; none if it was not loaded.
        template: of the prompt.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        answers: tuple[int, int],
        max_length: int,
        instruction: str = INSTRUCTION,
        batch_tokens: int = 8192,
        origin: tuple[str, Precision] | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: causal; its last position's logits are looked at.
            tokenizer: its own, a fast one.
            answers: the places of yes and no among the logits.
            max_length: tokens of a prompt.
            instruction: what is searched for, in a sentence.
            batch_tokens: tokens scored at once, padding included.
            origin: see the class.

        Raises:
            UserError: `max_length` leaves no room beside the template, or the tokenizer has none.
        """
        self.model, self.tokenizer, self.answers = model, tokenizer, list(answers)
        self.max_length, self.batch_tokens, self.origin = max_length, batch_tokens, origin
        self.instruction = instruction
        self.template = template_of(tokenizer)
        self._before, self._after = (self._ids([text])[0] for text in self.template)
        taken = len(self._before) + len(self._after) + len(self._ids([self._text("", "")])[0])
        if max_length < taken + LEAST_ROOM:
            raise UserError(
                f"max_length {max_length} is too small for this decoder: its prompt takes {taken} tokens without query "
                f"and document; give {taken + LEAST_ROOM} at least"
            )
        self._room = max_length - len(self._before) - len(self._after)
        self._query_room = (max_length - taken) // 2

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        instruction: str = INSTRUCTION,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        precision: Precision = "auto",
    ) -> DecoderReranker:
        """Open a folder or a hub id, for scoring.

        Args:
            model: where the model is; see `models.locate`.
            instruction: what is searched for, in a sentence.
            max_length: tokens of a prompt; by default as many as the model reads.
            batch_tokens: tokens scored at once, padding included.
            precision: "auto" is bf16 where the processor has it.

        Raises:
            UserError: the model cannot be found, is no causal one, or "yes" and "no" are no single tokens of it.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        settings: dict[str, Any] = {"dtype": "bfloat16" if resolve(precision) == "bf16" else "float32"}
        with quiet_transformers():
            network: Any = loading(str(model), lambda place: AutoModelForCausalLM.from_pretrained(place, **settings))
            tokenizer = loading(str(model), AutoTokenizer.from_pretrained)
        keep_answers(network, [token_of(tokenizer, answer) for answer in ("yes", "no")])
        return cls(
            network.eval().to(device()),
            tokenizer,
            answers=(0, 1),
            max_length=longest(network, tokenizer, max_length),
            instruction=instruction,
            batch_tokens=batch_tokens,
            origin=(locate(str(model)), resolve(precision)),
        )

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs.
            label: shows a progress bar under this name.

        Returns:
            `[n]` log-odds, in the order of the pairs.

        Raises:
            UserError: a score is not finite, so no order can be made of it.
        """
        import torch

        def forward(part: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Any]]:
            prompts = self.tokenize(part)
            for places in token_budget(list(map(len, prompts)), self.batch_tokens):
                batch = left_padded([prompts[i] for i in places], self.tokenizer.pad_token_id or 0)
                inputs = {name: torch.as_tensor(rows, device=device()) for name, rows in batch.items()}
                logits = self.model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1, self.answers].float()
                yield places, logits[:, 0] - logits[:, 1]

        scores = score_in_chunks(pairs, forward, label=label)
        if not np.isfinite(scores).all():
            raise UserError(
                "the decoder gave a score that is not finite: its weights are broken, or precision is too low"
            )
        return scores

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Token ids of the prompts, at most `max_length` of each."""
        queries = dict.fromkeys(query for query, _ in pairs)
        encoded = self.tokenizer(
            list(queries),
            add_special_tokens=False,
            truncation=True,
            max_length=self._query_room,
            return_offsets_mapping=True,
        )
        # A query that is cut ends where its last token does.
        shown = {
            query: query[: offsets[-1][1]] if len(offsets) == self._query_room else query
            for query, offsets in zip(queries, encoded["offset_mapping"], strict=True)
        }
        texts = [self._text(shown[query], document) for query, document in pairs]
        return [self._before + ids[: self._room] + self._after for ids in self._ids(texts, self._room)]

    def _text(self, query: str, document: str) -> str:
        return f"<Instruct>: {self.instruction}\n<Query>: {query}\n<Document>: {document}"

    def _ids(self, texts: list[str], most: int | None = None) -> list[list[int]]:
        cut = {} if most is None else {"truncation": True, "max_length": most}
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, **cut)["input_ids"]
        return ids


def keep_answers(network: Any, tokens: Sequence[int]) -> None:
    """Reduce a causal model's head to the rows of `tokens`, in single precision.

    A bf16 logit has three digits: candidates would tie that the model does tell apart. The other rows, a hundred
    thousand and more, would be computed in vain.
    """
    import torch

    head = network.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise UserError("this model has no head that predicts tokens: give a decoder, such as Qwen/Qwen3-Reranker-0.6B")
    kept = torch.nn.Linear(head.in_features, len(tokens), bias=head.bias is not None)
    with torch.no_grad():
        kept.weight.copy_(head.weight[list(tokens)])
        if head.bias is not None:
            kept.bias.copy_(head.bias[list(tokens)])
    kept.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    network.set_output_embeddings(kept)


def left_padded(prompts: Sequence[Sequence[int]], padding: int) -> Mapping[str, Any]:
    """Token ids, mask and positions, `[prompts, longest]`, so that all prompts end at the last place.

    Positions count from each prompt's own start: models that learned them see the same as without padding.
    """
    width = max(map(len, prompts))
    ids = np.full((len(prompts), width), padding, np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(1) - 1, 0)}
