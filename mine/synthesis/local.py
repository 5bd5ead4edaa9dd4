"""A generator on this machine: a text model asked in batches, its answers kept."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from secondstage.answercache import Reply, appending, read_replies, write_reply
from secondstage.errors import UserError
from secondstage.files import fingerprint
from secondstage.progress import bar

from .prompts import Messages
from .textmodel import TextModel

Batch = dict[str, list[int]]
"""Token rows by the digest of all that decides their answers."""


class LocalGenerator:
    """Answers prompts in batches of similar length, each stored as soon as it is there.

    One seed gives the same answers, killed in between or not, as long as prompts, batch size and machine are the same.
    """

    def __init__(self, model: TextModel, folder: Path, *, batch_size: int = 8) -> None:
        """Nothing is read or written before the first call of `complete`.

        Args:
            model: answers.
            folder: of the answers; their file is named after the model's digest and has one writer at a time.
            batch_size: prompts answered at a time.
        """
        self.model = model
        self.batch_size = batch_size
        self.cache = folder / f"local-{model.digest[:16]}.jsonl"
        self.counts = {"prompts": 0, "cached": 0, "too_long": 0, "prompt_tokens": 0, "completion_tokens": 0}
        self.seconds = 0.0
        self._answered = False

    def complete(
        self,
        prompts: Sequence[Messages],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        label: str | None = None,
    ) -> list[Reply]:
        """The answer to each prompt; an empty one where the prompt is longer than the model reads.

        Args:
            prompts: messages, in the shape of chat completions; each distinct one is answered once.
            max_tokens: of an answer.
            temperature: 0 takes the likeliest token every time.
            seed: of the draws.
            label: shows a progress bar under this name.

        Raises:
            UserError: every prompt is longer than the model reads; or the file of the answers holds something else.
        """
        started = time.perf_counter()
        texts = [self.model.as_text(messages) for messages in prompts]
        keys = [fingerprint(text, max_tokens, temperature, seed, self.model.prompt) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        self.counts["prompts"] += len(prompts)
        self.counts["cached"] += len(prompts) - len(missing)
        self._answered |= any(key in self._known for key in keys)
        batches = self._batches(missing, self.model.longest(max_tokens), alone=not self._answered)
        self._answered |= bool(batches)
        with ExitStack() as stack:
            progress = (
                stack.enter_context(bar(total=sum(map(len, batches)), label=label, unit="prompt")) if label else None
            )
            file = stack.enter_context(appending(self.cache)) if batches else io.BytesIO()
            for batch in batches:
                # The seed of a batch hangs on its prompts: what was answered before a kill moves no other draw.
                own = int(fingerprint(seed, list(batch))[:8], 16)
                rows = list(batch.values())
                replies = self.model.answer(rows, max_tokens=max_tokens, temperature=temperature, seed=own)
                self._keep(dict(zip(batch, replies, strict=True)), file)
                if progress is not None:
                    progress.update(len(batch))
        self.seconds += time.perf_counter() - started
        return [self._known.get(key, Reply("")) for key in keys]

    def report(self) -> Mapping[str, Any]:
        """Prompts, how many were answered from the file or too long, tokens read and written now, seconds."""
        return {**self.counts, "seconds": round(self.seconds, 3)}

    @cached_property
    def _known(self) -> dict[str, Reply]:
        return read_replies(self.cache)

    def _batches(self, missing: Mapping[str, str], limit: int, *, alone: bool) -> list[Batch]:
        """What fits into `limit` tokens, longest first: memory runs out at once or not at all.

        `alone` says that no other prompt of this mining was answered before: then it is an error if none fits.
        """
        rows = {key: self.model.tokens(text, limit) for key, text in missing.items()}
        fitting = {key: row for key, row in rows.items() if row and (not limit or len(row) <= limit)}
        self.counts["too_long"] += len(rows) - len(fitting)
        if rows and not fitting and alone:
            raise UserError(
                f"all {len(rows)} prompts are longer than the {limit} tokens that the generator reads (the shortest "
                f"has {min(map(len, rows.values()))}): lower mine.synthesize.passage_words, examples or max_tokens"
            )
        keys, size = sorted(fitting, key=lambda key: (-len(fitting[key]), key)), self.batch_size
        return [{key: fitting[key] for key in keys[i : i + size]} for i in range(0, len(keys), size)]

    def _keep(self, replies: Mapping[str, Reply], file: BinaryIO) -> None:
        """Write the answers of a batch at once: the next run finds all of them or none, and makes the same batches."""
        lines = io.BytesIO()
        for key, reply in replies.items():
            write_reply(lines, key, reply)
            self.counts["prompt_tokens"] += reply.prompt_tokens
            self.counts["completion_tokens"] += reply.completion_tokens
        file.write(lines.getvalue())
        file.flush()
        self._known.update(replies)
