"""A model that writes text: seq2seq, or causal, with its chat template if it has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from secondstage.answercache import Reply
from secondstage.compute import Precision, device, resolve
from secondstage.errors import UserError
from secondstage.files import fingerprint, folder_digests
from secondstage.models import loading, locate, quiet_transformers, read_writer

from .prompts import Messages

# What a model that knows no chat goes on from.
CUE = "\n\nQueries:\n"
# Tokenizers without a limit of their own say a number like 1e30.
NO_LIMIT = 1_000_000

Prompt = Literal["instruction", "passage"]


class TextModel:
    """A model and its tokenizer, which pads where answers are not in the way.

    Attributes:
        digest: of the files that it was loaded from and of its precision.
        prompt: "passage" gives the model the contents of a prompt as they are.
        seq2seq: whether the model is an encoder and a decoder.
    """

    def __init__(self, model: Any, tokenizer: Any, *, prompt: Prompt = "instruction", digest: str = "") -> None:
        self.model, self.tokenizer = model, tokenizer
        self.prompt, self.digest = prompt, digest
        self.seq2seq = bool(model.config.is_encoder_decoder)
        tokenizer.padding_side = "right" if self.seq2seq else "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def load(cls, model: str, *, prompt: Prompt = "instruction", precision: Precision = "auto") -> TextModel:
        """Open a folder or a hub id; "auto" is bf16 where the processor has it.

        Raises:
            UserError: the model cannot be loaded, or writes no text.
        """
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        chosen = resolve(precision)
        with quiet_transformers():
            config = read_writer(model)
            kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            dtype = "bfloat16" if chosen == "bf16" else "float32"
            network = loading(model, lambda place: kind.from_pretrained(place, dtype=dtype))
            tokenizer: Any = loading(model, AutoTokenizer.from_pretrained)
        if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
            raise UserError(f"model {model!r} has a tokenizer with neither padding nor end: no batch can be made")
        place = locate(model)
        files: object = (place, getattr(config, "_commit_hash", None))
        if Path(place).is_dir():
            files = folder_digests(Path(place))
        digest = fingerprint(files, chosen)
        return cls(network.to(device()).eval(), tokenizer, prompt=prompt, digest=digest)

    def as_text(self, messages: Messages) -> str:
        """What the model reads: its chat template filled in, or the contents one after the other."""
        contents = [message["content"] for message in messages]
        if self.prompt == "passage":
            return "\n\n".join(contents)
        if not self._chats:
            return "\n\n".join(contents) + ("" if self.seq2seq else CUE)
        from jinja2 import TemplateError

        try:
            return self._template(messages)
        except TemplateError:
            # Some templates know no system message.
            return self._template([{"role": "user", "content": "\n\n".join(contents)}])

    def tokens(self, text: str, limit: int) -> list[int]:
        """The tokens of a prompt; of a passage no more than `limit`, if that is not 0."""
        cut = {"truncation": True, "max_length": limit} if limit and self.prompt == "passage" else {}
        # A filled template holds the special tokens.
        special = self.prompt == "passage" or not self._chats
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False, **cut)["input_ids"])

    def longest(self, max_tokens: int) -> int:
        """Tokens of a prompt, beside an answer of `max_tokens`; 0 for no limit."""
        limits = [self.tokenizer.model_max_length]
        positions = getattr(self.model.config, "max_position_embeddings", None) or 0
        if positions > 0 and not self.seq2seq:
            # A causal model's answer takes up positions as well.
            limits.append(max(1, positions - max_tokens))
        limit = int(min(limits))
        return limit if limit < NO_LIMIT else 0

    def answer(self, rows: Sequence[list[int]], *, max_tokens: int, temperature: float, seed: int) -> list[Reply]:
        """Go on from each row of tokens, all in one batch; torch's global generator stays as it was."""
        import torch

        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        padding = self.tokenizer.pad_token_id
        features = self.tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt").to(self.model.device)
        inputs = {name: features[name] for name in ("input_ids", "attention_mask")}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode(), quiet_transformers():
            torch.manual_seed(seed)
            output = self.model.generate(**inputs, max_new_tokens=max_tokens, pad_token_id=padding, **sampling)
        answers = output if self.seq2seq else output[:, inputs["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        # What has ended is followed by padding, if others have not.
        cut = [last not in self._ends for last in answers[:, -1].tolist()]
        return list(map(Reply, texts, map(len, rows), (answers != padding).sum(dim=1).tolist(), cut))

    @property
    def _ends(self) -> set[int | None]:
        """The last tokens of an answer that is complete."""
        ends = self.model.generation_config.eos_token_id
        return {self.tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])}

    @property
    def _chats(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def _template(self, messages: Messages) -> str:
        # Models that think first are asked not to; templates that do not know the word pass over it.
        filled = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return str(filled)
