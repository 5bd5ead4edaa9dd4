"""A text generator on this machine: a seq2seq model, or a causal one, with its chat template if it has one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from secondstage.compute import Precision, device, resolve
from secondstage.errors import UserError
from secondstage.files import fingerprint, folder_digests
from secondstage.models import loading, locate, quiet_transformers
from secondstage.progress import bar

from .answers import AnswerCache
from .prompts import Messages

# What a model that knows no chat goes on from.
CUE = "\n\nQueries:\n"
# Tokenizers without a limit of their own say a number like 1e30.
NO_LIMIT = 1_000_000


class LocalGenerator:
    """Answers prompts in batches of similar length, each stored as soon as it is there.

    One seed gives the same answers, killed in between or not, as long as prompts, batch size and machine are the same.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        cache: AnswerCache,
        *,
        prompt: Literal["instruction", "passage"] = "instruction",
        batch_size: int = 8,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.cache = cache
        self.prompt = prompt
        self.batch_size = batch_size
        self.seq2seq = bool(model.config.is_encoder_decoder)
        self._report = {"prompts": 0, "cached": 0, "too_long": 0, "prompt_tokens": 0, "tokens": 0, "seconds": 0.0}

    @classmethod
    def load(
        cls,
        model: str,
        *,
        cache: Path,
        prompt: Literal["instruction", "passage"] = "instruction",
        batch_size: int = 8,
        precision: Precision = "auto",
    ) -> LocalGenerator:
        """Open a folder or a hub id.

        Args:
            model: where it is; see `models.locate`.
            cache: the folder of the answers; their file is named after the model's files, not after its name.
            prompt: "passage" gives the model the document alone.
            batch_size: prompts answered at a time.
            precision: "auto" is bf16 where the processor has it.

        Raises:
            UserError: the model cannot be loaded, or generates no text.
        """
        chosen = resolve(precision)
        network, tokenizer = _load(model, chosen)
        place = locate(model)
        files: object = (place, getattr(network.config, "_commit_hash", None))
        if Path(place).is_dir():
            files = folder_digests(Path(place))
        answers = AnswerCache(cache / f"local-{fingerprint(files, chosen, batch_size)[:16]}.jsonl")
        return cls(network.to(device()).eval(), tokenizer, answers, prompt=prompt, batch_size=batch_size)

    def complete(
        self,
        prompts: Sequence[Messages],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        label: str | None = None,
    ) -> list[str]:
        """The answer to each prompt; an empty one where the prompt is longer than the model reads.

        Args:
            prompts: messages, in the shape of chat completions.
            max_tokens: of an answer.
            temperature: 0 takes the likeliest token every time.
            seed: of the draws.
            label: shows a progress bar under this name.

        Raises:
            UserError: every prompt is longer than the model reads.
        """
        started = time.perf_counter()
        texts = [self.as_text(messages) for messages in prompts]
        keys = [fingerprint(text, max_tokens, temperature, seed, self.prompt) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.cache.answers}
        self._report["prompts"] += len(prompts)
        self._report["cached"] += sum(key in self.cache.answers for key in keys)
        shown = bar(total=len(missing), label=label, unit="prompt") if label and missing else nullcontext()
        with shown as progress:
            for batch in self._batches(missing, max_tokens):
                answers = self._answer(batch, max_tokens, temperature, seed)
                self.cache.add(dict(zip(batch, answers, strict=True)))
                if progress is not None:
                    progress.update(len(batch))
        self._report["seconds"] += time.perf_counter() - started
        return [self.cache.answers.get(key, "") for key in keys]

    def report(self) -> Mapping[str, Any]:
        """Prompts, those that were answered from the cache or too long, tokens read and written, seconds."""
        return dict(self._report)

    def as_text(self, messages: Messages) -> str:
        """What the model reads: its chat template filled in, or the contents one after the other."""
        contents = [message["content"] for message in messages]
        if self.prompt == "passage":
            return "\n\n".join(contents)
        if not getattr(self.tokenizer, "chat_template", None):
            return "\n\n".join(contents) + ("" if self.seq2seq else CUE)
        from jinja2 import TemplateError

        try:
            return self._template(messages)
        except TemplateError:
            # Some templates know no system message.
            return self._template([{"role": "user", "content": "\n\n".join(contents)}])

    def _template(self, messages: Messages) -> str:
        # Models that think first are asked not to; templates that do not know the word pass over it.
        return str(
            self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )

    def _batches(self, missing: Mapping[str, str], max_tokens: int) -> list[dict[str, list[int]]]:
        """Token rows by key, longest first: memory runs out at once or not at all."""
        limit = self._longest(max_tokens)
        passage = self.prompt == "passage"
        special = passage or not getattr(self.tokenizer, "chat_template", None)
        rows: dict[str, list[int]] = {}
        for key, text in missing.items():
            cut = {"truncation": True, "max_length": limit} if passage and limit else {}
            rows[key] = self.tokenizer(text, add_special_tokens=special, verbose=False, **cut)["input_ids"]
        fitting = {key: row for key, row in rows.items() if not limit or len(row) <= limit}
        self._report["too_long"] += len(rows) - len(fitting)
        if rows and not fitting:
            raise UserError(
                f"all {len(rows)} prompts are longer than the {limit} tokens that the generator reads (the shortest "
                f"has {min(map(len, rows.values()))}): lower mine.synthesize.passage_words, examples or max_tokens"
            )
        keys = sorted(fitting, key=lambda key: (-len(fitting[key]), key))
        size = self.batch_size
        return [{key: fitting[key] for key in keys[i : i + size]} for i in range(0, len(keys), size)]

    def _longest(self, max_tokens: int) -> int:
        """Tokens of a prompt; 0 for no limit."""
        limits = [self.tokenizer.model_max_length]
        positions = getattr(self.model.config, "max_position_embeddings", None) or 0
        if positions > 0 and not self.seq2seq:
            # A causal model's answer takes up positions as well.
            limits.append(max(1, positions - max_tokens))
        limit = int(min(limits))
        return limit if limit < NO_LIMIT else 0

    def _answer(
        self, batch: Mapping[str, list[int]], max_tokens: int, temperature: float, seed: int | None
    ) -> list[str]:
        import torch

        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
        )
        features = self.tokenizer.pad({"input_ids": list(batch.values())}, return_tensors="pt").to(self.model.device)
        features = {name: features[name] for name in ("input_ids", "attention_mask")}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        # The seed of a batch hangs on its prompts: what was answered before the run was killed moves no other draw.
        own = int(fingerprint(seed, list(batch))[:8], 16)
        with torch.random.fork_rng(devices), torch.inference_mode(), quiet_transformers():
            torch.manual_seed(own)
            output = self.model.generate(
                **features, max_new_tokens=max_tokens, pad_token_id=self.tokenizer.pad_token_id, **sampling
            )
        answers = output if self.seq2seq else output[:, features["input_ids"].shape[1] :]
        self._report["prompt_tokens"] += sum(map(len, batch.values()))
        self._report["tokens"] += int((answers != self.tokenizer.pad_token_id).sum())
        return list(self.tokenizer.batch_decode(answers, skip_special_tokens=True))


def _load(model: str, precision: Literal["fp32", "bf16"]) -> tuple[Any, Any]:
    """A generator and its tokenizer, which pads where answers are not in the way."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    with quiet_transformers():
        config: Any = loading(model, AutoConfig.from_pretrained)
        if not config.is_encoder_decoder and config.model_type in MASKED and not getattr(config, "is_decoder", False):
            raise UserError(
                f"model {model!r} is an encoder ({config.model_type}), which writes no text: give a causal language "
                "model or a seq2seq one, e.g. Qwen/Qwen3-0.6B"
            )
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        dtype = "bfloat16" if precision == "bf16" else "float32"
        network = loading(model, lambda place: kind.from_pretrained(place, dtype=dtype))
        tokenizer: Any = loading(model, AutoTokenizer.from_pretrained)
    tokenizer.padding_side = "right" if config.is_encoder_decoder else "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(f"model {model!r} has a tokenizer without padding and end: no batch can be made")
    return network, tokenizer
