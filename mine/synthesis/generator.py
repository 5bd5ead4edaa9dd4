"""What writes queries: an LLM behind an endpoint, or a local model; and its answers as queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from secondstage.answercache import Reply
from secondstage.config import SynthesizeConfig
from secondstage.synthetic import SyntheticQuery

from .parse import Parsed, parse, query_id
from .prompts import Ask, Messages

# Prompts handed over at a time: their texts are in memory.
ASKS_PER_CALL = 4096
FAULTS = {
    "empty": "the answer holds no query",
    "refusal": "the generator refused",
    "too_long": "too long for a query",
    "torn": "cut off, or JSON that cannot be read",
}


class Generator(Protocol):
    """Whatever answers prompts; it keeps the answers, so that a killed run goes on where it was."""

    def complete(
        self,
        prompts: Sequence[Messages],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        label: str | None = None,
    ) -> list[Reply]:
        """The answer to each prompt, in the shape of chat messages; a progress bar if there is a label."""
        ...

    def report(self) -> Mapping[str, Any]:
        """What it cost so far: requests, tokens, seconds, for the manifest."""
        ...


def open_generator(config: SynthesizeConfig, cache: Path) -> Generator:
    """The generator of a config, which is not "title".

    Args:
        config: which one.
        cache: the folder of its answers: a file for each model, local or of an endpoint.

    Raises:
        UserError: a local model cannot be loaded, or an endpoint has no address.
    """
    if config.generator == "local":
        from .local import LocalGenerator
        from .textmodel import TextModel

        model = TextModel.load(config.model, prompt=config.prompt)
        return LocalGenerator(model, cache, batch_size=config.batch_size)
    if config.endpoint is None:
        raise ValueError(f"the generator {config.generator!r} writes no queries")
    from secondstage.chat import ChatClient, answers_file

    return ChatClient(config.endpoint, cache=answers_file(cache, config.endpoint), price=config.price)


def name(config: SynthesizeConfig) -> str:
    """What a query says of who made it."""
    served = config.endpoint.model or "unnamed" if config.endpoint else ""
    return " ".join(filter(None, (config.generator, config.model or served)))


def generate(
    generator: Generator,
    asked: Sequence[Ask],
    text: Callable[[Ask], Messages],
    config: SynthesizeConfig,
    *,
    seed: int,
    counts: Counter[str],
) -> list[SyntheticQuery]:
    """The queries in the answers to every prompt, in the order of the prompts; what is unusable is among them.

    Args:
        generator: asked in parts, each of one turn.
        asked: the prompts.
        text: gives the text of one, when its turn has come.
        config: how it is asked.
        seed: of the answers; each turn has one of its own.
        counts: gains "answers" and, where an answer holds fewer queries than asked for, "queries_missing".
    """
    answers = dict(_answers(generator, asked, text, config, seed))
    # Whose thoughts begin in the prompt has one that was cut off without a mark in it.
    thinks = any(reply.thought for reply in answers.values())
    made: list[SyntheticQuery] = []
    for i, ask in enumerate(asked):
        only_thought = thinks and answers[i].cut and not answers[i].thought
        found = parse("" if only_thought else answers[i].said, ask.number, cut=answers[i].cut)
        counts["answers"] += 1
        counts["queries_missing"] += ask.number - len(found)
        made += [_query(ask, number, parsed, config) for number, parsed in enumerate(found)]
    return made


def _answers(
    generator: Generator, asked: Sequence[Ask], text: Callable[[Ask], Messages], config: SynthesizeConfig, seed: int
) -> Iterator[tuple[int, Reply]]:
    turns = sorted({ask.turn for ask in asked})
    for turn in turns:
        places = [i for i, ask in enumerate(asked) if ask.turn == turn]
        for start in range(0, len(places), ASKS_PER_CALL):
            part = places[start : start + ASKS_PER_CALL]
            answers = generator.complete(
                [text(asked[i]) for i in part],
                max_tokens=config.max_tokens,
                temperature=config.temperature,
                seed=(seed + turn) % 2**32,
                label="synthesize",
            )
            yield from zip(part, answers, strict=True)


def _query(ask: Ask, number: int, parsed: Parsed, config: SynthesizeConfig) -> SyntheticQuery:
    made = SyntheticQuery(
        # The turn counts, too: one prompt asked twice may be answered twice the same.
        query_id(ask.doc_id, ask.kind, ask.turn + number, parsed.text),
        parsed.text,
        ask.doc_id,
        ask.kind,
        name(config),
    )
    return made.dropped(parsed.fault, FAULTS[parsed.fault]) if parsed.fault else made
