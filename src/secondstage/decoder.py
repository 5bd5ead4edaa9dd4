"""A decoder that is asked whether a document answers a query: its logits of "yes" and "no" are the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .calibration import Calibration
from .compute import Precision, device, resolve, torch_dtype
from .errors import UserError
from .models import locate, outlined, pretrained, quiet_transformers
from .networks import fitting_tokenizer, longest
from .pairmodel import PairModel, calibration_of, read_contract
from .yesno import template_of, token_of

INSTRUCTION = "Given a search query, retrieve relevant documents that answer it"
# Tokens of query and document together, at least, that the template has to leave.
LEAST_ROOM = 16


class DecoderReranker(PairModel):
    """A causal language model, its score being logit(yes) - logit(no) after the prompt: higher is more relevant.

    That difference is the log-odds of the probability of "yes" in the softmax of the two, which is the score that
    Qwen3-Reranker publishes (Zhang et al. 2025, Qwen3 Embedding); the sigmoid of ours gives theirs. Log-odds order the
    same, and still tell apart what a probability rounds to 1.

    `max_length` counts the template too; the end of the document is cut, and the query only where it alone takes more
    than half of what the template leaves.

    Attributes:
        instruction: what is searched for, in a sentence.
        template: of the prompt.
    """

    kind = "yes_no"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        instruction: str = INSTRUCTION,
        batch_tokens: int = 8192,
        calibration: Calibration | None = None,
        origin: tuple[str, Precision] | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: causal; its head is reduced to the rows of yes and no (`answers.keep_answers`).
            tokenizer: its own, a fast one.
            max_length: tokens of a prompt.
            instruction: what is searched for, in a sentence.
            batch_tokens: tokens scored at once, padding included.
            calibration: see the class.
            origin: see the class.

        Raises:
            UserError: `max_length` leaves no room beside the template, the tokenizer has none, or "yes" and "no" are no
                single tokens of it.
        """
        from .answers import keep_answers

        super().__init__(
            model,
            tokenizer,
            max_length=max_length,
            batch_tokens=batch_tokens,
            calibration=calibration,
            origin=origin,
        )
        answers = [token_of(tokenizer, answer) for answer in ("yes", "no")]
        self.instruction = instruction
        self.template = template_of(tokenizer)
        self.wording = ("decoder", self.template, instruction)
        self._before, self._after = (self._ids([text])[0] for text in self.template)
        self._taken = len(self._before) + len(self._after) + len(self._ids([self._text("", "")])[0])
        if max_length < self._taken + LEAST_ROOM:
            raise UserError(
                f"max_length {max_length} is too small for this decoder: its prompt takes {self._taken} tokens without "
                f"query and document; give {self._taken + LEAST_ROOM} at least"
            )
        self._whole = keep_answers(model, answers)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        instruction: str | None = None,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        precision: Precision = "auto",
    ) -> DecoderReranker:
        """Open a folder or a hub id, for scoring.

        Args:
            model: where the model is; see `models.locate`.
            instruction: what is searched for, in a sentence; by default as the folder's score contract says.
            max_length: tokens of a prompt; by default as the score contract says, else as many as the model reads.
            batch_tokens: tokens scored at once, padding included.
            precision: "auto" is bf16 where the processor has it.

        Raises:
            UserError: the model cannot be found, is no causal one, or "yes" and "no" are no single tokens of it.
        """
        network, tokenizer = load_decoder(str(model), dtype=torch_dtype(precision))
        contract = read_contract(str(model))
        if max_length is None:
            max_length = contract.get("max_length")
        return cls(
            network.eval().to(device()),
            tokenizer,
            max_length=longest(network, tokenizer, max_length),
            instruction=instruction or contract.get("instruction") or INSTRUCTION,
            batch_tokens=batch_tokens,
            calibration=calibration_of(contract),
            origin=(locate(str(model)), resolve(precision)),
        )

    @property
    def overhead(self) -> int:
        """The tokens of the prompt without query and document."""
        return self._taken

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        """Token ids of the prompts, at most `max_length` of each."""
        # Of this call: a server cuts deeper for one request, on a copy with another length.
        room = self.max_length - len(self._before) - len(self._after)
        query_room = (self.max_length - self._taken) // 2
        queries = dict.fromkeys(query for query, _ in pairs)
        encoded = self.tokenizer(
            list(queries),
            add_special_tokens=False,
            truncation=True,
            max_length=query_room,
            return_offsets_mapping=True,
        )
        # A query that is cut ends where its last token does.
        shown = {
            query: query[: offsets[-1][1]] if len(offsets) == query_room else query
            for query, offsets in zip(queries, encoded["offset_mapping"], strict=True)
        }
        texts = [self._text(shown[query], document) for query, document in pairs]
        ids = self._ids(texts, room)
        return {"input_ids": [self._before + row[:room] + self._after for row in ids]}

    def collate(self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Mapping[str, Any]:
        """The rows at `places` as tensors `[places, longest row]` on the device, padded on the left."""
        import torch

        batch = left_padded([rows["input_ids"][i] for i in places], self.tokenizer.pad_token_id or 0)
        return {name: torch.as_tensor(values, device=device()) for name, values in batch.items()}

    def logits(self, features: Mapping[str, Any]) -> Any:
        """`[pairs]` log-odds in single precision."""
        found = self.model(**features, logits_to_keep=1, use_cache=False).logits[:, -1].float()
        return found[:, 0] - found[:, 1]

    def contract(self) -> dict[str, Any]:
        """What is asked, and around what."""
        return {
            "truncation": "the document, then a query that takes more than half",
            "instruction": self.instruction,
            "template": list(self.template),
        }

    def _write_network(self, network: Any, folder: Path) -> None:
        """With the head that predicts all tokens, so that the folder is that of a usual causal model."""
        from .answers import put_back

        own = network.get_output_embeddings()
        network.set_output_embeddings(put_back(network, self._whole))
        try:
            network.save_pretrained(folder)
        finally:
            network.set_output_embeddings(own)

    def _text(self, query: str, document: str) -> str:
        return f"<Instruct>: {self.instruction}\n<Query>: {query}\n<Document>: {document}"

    def _ids(self, texts: list[str], most: int | None = None) -> list[list[int]]:
        cut = {} if most is None else {"truncation": True, "max_length": most}
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, **cut)["input_ids"]
        return ids


def load_decoder(model: str, *, weights: bool = True, **settings: Any) -> tuple[Any, Any]:
    """Open a causal model and its tokenizer. `settings` go to `from_pretrained`; `weights` as of `load_cross_encoder`.

    Raises:
        UserError: the model cannot be found, is no causal one, or the tokenizer does not fit it or knows no words.
    """
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        settings = {"dtype": "float32"} | settings
        network = (pretrained if weights else outlined)(AutoModelForCausalLM, model, **settings)
    return network, fitting_tokenizer(model, network.config)


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
