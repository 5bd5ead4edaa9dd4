"""A language model behind OpenAI's chat completions, which vLLM, TGI, Ollama and most providers speak as well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from .answercache import Reply, appending, read_replies, write_reply
from .config import EndpointConfig
from .endpoint import Endpoint, Kind, whole
from .files import fingerprint
from .parallel import all_files, own_file
from .progress import bar

Message = Mapping[str, str]
"""`role` and `content`."""

KIND = Kind(
    "a chat endpoint",
    "https://api.openai.com/v1/chat/completions",
    "lower the words of a passage that the prompt shows (passage_words)",
)
NOTHING = Reply("")
SHAPE = '{"choices": [{"message": {"content": "…"}}]}'


class ChatClient:
    """POST `{model, messages, max_tokens, temperature, seed}`, answered by `{choices: [{message: {content}}], usage}`.

    Attributes:
        prompts: how many were given an answer; those that the server refused are not among them.
        cached: how many of them needed no request: they were answered before, or are equal to another one.
        prompt_tokens: of the requests that this client sent, as far as the server tells; so are completion_tokens.
        seconds: wall time of `complete`.
    """

    def __init__(
        self, endpoint: EndpointConfig, *, cache: Path | None = None, price: float = 0.0, backoff: float = 1.0
    ) -> None:
        """Nothing is sent before the first call of `complete`.

        Args:
            endpoint: its address with the path, e.g. https://api.openai.com/v1/chat/completions; model, key, patience.
            cache: the file where answers are kept, of any number of models; none keeps them nowhere. It has one writer
                at a time: the caller sees to that.
            price: of a million tokens, in any currency.
            backoff: seconds before the first retry, doubled for each further one.

        Raises:
            UserError: the address is none, or the environment variable with the key is not set.
        """
        self.prompts = self.cached = self.prompt_tokens = self.completion_tokens = 0
        self.seconds = 0.0
        self._model, self._cache, self._price = endpoint.model, cache, price
        self._endpoint = Endpoint(endpoint, KIND, backoff=backoff)

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        label: str | None = None,
        usable: Callable[[int, Reply], bool] | None = None,
    ) -> list[Reply]:
        """Have every prompt answered, each distinct one once.

        Args:
            prompts: the messages of each.
            max_tokens: of an answer.
            temperature: 0 for the likeliest answer.
            seed: of the sampling; none leaves it to the server. Another seed asks anew, where a cache has an answer.
            label: shows a progress bar of the prompts that are sent under this name.
            usable: whether the answer to the prompt at a place is of use; one that is not is given, but not kept, and a
                later call asks anew. None takes every answer.

        Returns:
            `[prompts]` answers, in the order of the prompts; empty where the model said nothing, or the server refused
            the prompt: a content filter, for example. What was refused is not kept either.

        Raises:
            UserError: the server refused all prompts, wants none, or gave no answer after all retries. What was
                answered until then is in the cache.
        """
        settings: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        settings |= {"model": self._model} if self._model else {}
        settings |= {} if seed is None else {"seed": seed}
        bodies = [{**settings, "messages": [dict(message) for message in messages]} for messages in prompts]
        keys = [fingerprint(self._endpoint.url, json.dumps(body, sort_keys=True)) for body in bodies]
        places = {key: place for place, key in enumerate(keys)}

        def kept(key: str, reply: Reply) -> bool:
            return usable is None or usable(places[key], reply)

        replies = {key: self._known[key] for key in places if key in self._known and kept(key, self._known[key])}
        missing = {key: bodies[place] for key, place in places.items() if key not in replies}
        started = time.perf_counter()
        try:
            self._ask(missing, replies, kept, label)
        finally:
            self.seconds += time.perf_counter() - started
        answered = sum(key in replies for key in keys)
        self.prompts += answered
        self.cached += answered - sum(key in replies for key in missing)
        return [replies.get(key, NOTHING) for key in keys]

    def _ask(
        self,
        missing: Mapping[str, Mapping[str, Any]],
        replies: dict[str, Reply],
        kept: Callable[[str, Reply], bool],
        label: str | None,
    ) -> None:
        """Put the replies to what is missing into `replies` and, if kept, the cache, each as it comes."""
        # What was answered in an earlier run tells as well that it is not the server that is at fault.
        proven = bool(replies) or self.cached > 0
        shown = bar(total=len(missing), label=label, unit="prompt") if label and missing else nullcontext()
        with self._keeping(missing) as file, shown as progress:
            found = self._endpoint.ask(missing.items(), lambda _, content: read_reply(content), proven=proven)
            for key, reply in found:
                if progress is not None:
                    progress.update()
                if reply is None:
                    continue
                replies[key] = reply
                if file is not None and kept(key, reply):
                    write_reply(file, key, reply)
                    self._known[key] = reply
                self.prompt_tokens += reply.prompt_tokens
                self.completion_tokens += reply.completion_tokens

    def report(self) -> dict[str, Any]:
        """What it cost so far: counts, tokens, their price, wall seconds. What came from the cache cost nothing."""
        return {
            "prompts": self.prompts,
            "cached": self.cached,
            "refused": self._endpoint.refusals.refused,
            "requests": self._endpoint.requests,
            "retries": self._endpoint.retries,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self._price * (self.prompt_tokens + self.completion_tokens) / 1e6,
            "seconds": round(self.seconds, 3),
        }

    @cached_property
    def _known(self) -> dict[str, Reply]:
        files = all_files(self._cache) if self._cache else []
        return {key: reply for path in files for key, reply in read_replies(path).items()}

    @contextmanager
    def _keeping(self, missing: Mapping[str, Any]) -> Iterator[BinaryIO | None]:
        if self._cache and missing:
            with appending(own_file(self._cache)) as file:
                yield file
        else:
            yield None


def answers_file(folder: Path, endpoint: EndpointConfig) -> Path:
    """Where the answers of an endpoint's model are kept below `folder`."""
    return folder / f"{fingerprint('chat', endpoint.url, endpoint.model)[:16]}.answers.jsonl"


def read_reply(content: bytes) -> Reply:
    """The answer in a response's body.

    Raises:
        ValueError: it has not the shape.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"the answer is not JSON; it must be OpenAI's: {SHAPE}") from None
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (TypeError, KeyError, IndexError):
        raise ValueError(f"the answer has no choice with a message; it must be OpenAI's: {SHAPE}") from None
    if text is not None and not isinstance(text, str):
        raise ValueError(f"the content of the answer's message is no text: {text!r:.20}; it must be OpenAI's: {SHAPE}")
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = whole(usage.get("prompt_tokens")), whole(usage.get("completion_tokens"))
    return Reply(text or "", *tokens, choice.get("finish_reason") == "length")
