"""From prompts to queries: which answer is whose, what is unusable, and a real client before a server that answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from secondstage.answercache import Reply
from secondstage.chat import answers_file
from secondstage.config import EndpointConfig, SynthesizeConfig
from secondstage.errors import UserError
from secondstage.mine.synthesis import generator as module
from secondstage.mine.synthesis.generator import generate, name, open_generator
from secondstage.mine.synthesis.prompts import Ask, Messages, asks, messages
from secondstage.synthetic import SyntheticQuery

from .conftest import serving
from .server import JsonServer

DOC_IDS = [f"d{i}" for i in range(5)]


def text(ask: Ask) -> Messages:
    return messages(ask, f"passage {ask.doc_id[1:]}", [])


class Fake:
    """Says its seed and the end of the prompt, as many times as it is asked for queries."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
        self.calls.append({"prompts": len(prompts), **settings})
        return [Reply(self.answer(messages[-1]["content"], settings["seed"])) for messages in prompts]

    def answer(self, content: str, seed: int) -> str:
        passage = re.findall(r"passage \d", content)[-1]
        wanted = re.search(r"Write (\d)", content)
        return "\n".join(f"{i + 1}. {passage} asked {i} by {seed}?" for i in range(int(wanted[1]) if wanted else 1))

    def report(self) -> Mapping[str, Any]:
        return {}


def made(config: SynthesizeConfig, fake: Fake, seed: int = 7) -> tuple[list[SyntheticQuery], Counter[str]]:
    counts: Counter[str] = Counter()
    return generate(fake, asks(DOC_IDS, config), text, config, seed=seed, counts=counts), counts


def test_every_query_belongs_to_its_document_and_kind() -> None:
    config = SynthesizeConfig(generator="local", model="m", per_document=4, temperature=0.3, max_tokens=50)
    fake = Fake()
    queries, counts = made(config, fake)
    assert fake.calls == [{"prompts": 15, "max_tokens": 50, "temperature": 0.3, "seed": 7, "label": "synthesize"}]
    assert Counter(query.doc_id for query in queries) == dict.fromkeys(("d0", "d1", "d2", "d3", "d4"), 4)
    assert all(query.text.startswith(f"passage {query.doc_id[1]} asked") for query in queries)
    assert len({query.query_id for query in queries}) == 20
    assert {query.generator for query in queries} == {"local m"}
    assert all(query.kept for query in queries)
    assert +counts == {"answers": 15}


def test_many_prompts_are_handed_over_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SynthesizeConfig(generator="local", model="m")
    whole = made(config, Fake())
    monkeypatch.setattr(module, "ASKS_PER_CALL", 4)
    fake = Fake()
    assert made(config, fake) == whole
    assert [call["prompts"] for call in fake.calls] == [4, 4, 4, 3]


def test_the_text_of_a_prompt_is_made_when_its_part_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKS_PER_CALL", 4)
    written: list[Ask] = []
    behind: list[int] = []

    def counted(ask: Ask) -> Messages:
        written.append(ask)
        return text(ask)

    class Late(Fake):
        def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
            behind.append(len(written))
            return super().complete(prompts, **settings)

    config = SynthesizeConfig(generator="local", model="m")
    asked = asks(DOC_IDS, config)
    generate(Late(), asked, counted, config, seed=7, counts=Counter())
    assert behind == [4, 8, 12, 15]
    assert written == asked


def test_turns_have_seeds_of_their_own() -> None:
    config = SynthesizeConfig(generator="local", model="m", prompt="passage", per_document=2)
    fake = Fake()
    queries, _ = made(config, fake, seed=2**32 - 1)
    assert [(call["prompts"], call["seed"]) for call in fake.calls] == [(5, 2**32 - 1), (5, 0)]
    assert [query.text[:9] for query in queries] == [f"passage {i}" for i in range(5) for _ in range(2)]
    assert [query.text.endswith("by 0?") for query in queries] == [False, True] * 5
    assert {query.kind for query in queries} == {"query"}


def test_what_is_unusable_is_dropped_by_its_rule_and_what_is_missing_counted() -> None:
    class Poor(Fake):
        def answer(self, content: str, seed: int) -> str:
            texts = [
                "",
                "I'm sorry, but I cannot help.",
                "long " * 100,
                "fine?\nalso fine?\nmore than asked for?",
                "one?",
            ]
            return texts[int(re.findall(r"passage (\d)", content)[-1])]

    config = SynthesizeConfig(generator="local", model="m", per_document=2, kinds=("question",))
    queries, counts = made(config, Poor())
    assert [(query.doc_id, query.kept, query.rule, query.reason) for query in queries] == [
        ("d0", False, "empty", "the answer holds no query"),
        ("d1", False, "refusal", "the generator refused"),
        ("d2", False, "too_long", "too long for a query"),
        ("d3", True, "", ""),
        ("d3", True, "", ""),
        ("d4", True, "", ""),
    ]
    assert counts == {"answers": 5, "queries_missing": 4}


def test_thoughts_and_what_was_cut_off_are_no_queries() -> None:
    class Cut(Fake):
        def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
            return [Reply("what is one?\n</think>first?\nsec", cut=i % 2 > 0) for i in range(len(prompts))]

    config = SynthesizeConfig(generator="local", model="m", per_document=2, kinds=("question",))
    queries, _ = made(config, Cut())
    assert [(query.text, query.kept) for query in queries[:2]] == [("first?", True), ("sec", True)]
    assert [(query.text, query.rule) for query in queries[2:4]] == [("first?", ""), ("sec", "torn")]


def test_a_thought_that_was_cut_off_before_its_end_is_no_query() -> None:
    """The prompt opened it: nothing in the answer says so, but for the marks in the others."""

    class Thinking(Fake):
        def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
            replies = [Reply("what is one?\n</think>first?\nsecond?"), Reply("what does it say?\nsec", cut=True)]
            return [replies[i % 2] for i in range(len(prompts))]

    config = SynthesizeConfig(generator="local", model="m", per_document=2, kinds=("question",))
    queries, _ = made(config, Thinking())
    assert {query.text for query in queries if not query.rule} == {"first?", "second?"}
    assert {query.rule for query in queries if query.rule} == {"empty"}


def test_a_query_says_who_made_it() -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1/v1", model="llm")
    assert name(SynthesizeConfig()) == "title"
    assert name(SynthesizeConfig(generator="endpoint", endpoint=endpoint)) == "endpoint llm"
    unnamed = EndpointConfig(url="http://127.0.0.1/v1")
    assert name(SynthesizeConfig(generator="endpoint", endpoint=unnamed)) == "endpoint unnamed"


# --- a real client


def answering(body: dict[str, Any]) -> object:
    content = Fake().answer(body["messages"][-1]["content"], body["seed"])
    return {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    server = JsonServer("/v1/chat/completions", answering)
    with serving(server):
        yield server


def at(api: JsonServer, **settings: Any) -> SynthesizeConfig:
    endpoint = EndpointConfig(url=api.url, model="llm", **settings)
    return SynthesizeConfig(generator="endpoint", endpoint=endpoint, price=3.0)


def asked(config: SynthesizeConfig, cache: Path) -> tuple[list[SyntheticQuery], Mapping[str, Any]]:
    client = open_generator(config, cache)
    made = generate(client, asks(DOC_IDS, config), text, config, seed=7, counts=Counter())
    return made, client.report()


def test_an_endpoint_is_asked_once_for_each_prompt(api: JsonServer, tmp_path: Path) -> None:
    queries, report = asked(at(api), tmp_path)
    assert [query.text for query in queries] == [f"passage {i} asked 0 by 7?" for i in range(5) for _ in range(3)]
    assert (report["requests"], report["cost"]) == (15, pytest.approx(15 * 110 * 3.0 / 1e6))
    again, report = asked(at(api), tmp_path)
    assert again == queries
    assert (report["requests"], report["cached"], len(api.seen)) == (0, 15, 15)


def test_a_prompt_that_the_endpoint_refuses_costs_its_queries_alone(api: JsonServer, tmp_path: Path) -> None:
    api.misbehave = lambda server, body: (
        (400, b"filtered", {}) if "passage 3" in body["messages"][-1]["content"] else None
    )
    queries, report = asked(at(api), tmp_path)
    assert {query.doc_id for query in queries if query.kept} == {"d0", "d1", "d2", "d4"}
    assert {(query.doc_id, query.rule) for query in queries if not query.kept} == {("d3", "empty")}
    assert report["refused"] == 3


def test_each_endpoint_and_model_has_a_file_of_its_own(api: JsonServer, tmp_path: Path) -> None:
    config = at(api)
    assert config.endpoint is not None
    other = config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"model": "other"})})
    for each in (config, other):
        asked(each, tmp_path)
    endpoints = [each.endpoint for each in (config, other) if each.endpoint]
    assert {*tmp_path.iterdir()} == {answers_file(tmp_path, endpoint) for endpoint in endpoints}


def test_an_endpoint_that_breaks_down_is_asked_for_the_rest_later(api: JsonServer, tmp_path: Path) -> None:
    whole, _ = asked(at(api), tmp_path / "whole")
    sent = len(api.seen)
    api.misbehave = lambda server, body: (404, b"down", {}) if len(server.seen) > sent + 9 else None
    with pytest.raises(UserError, match="404"):
        asked(at(api, concurrency=1), tmp_path / "killed")
    api.misbehave = lambda server, body: None
    resumed, report = asked(at(api), tmp_path / "killed")
    assert resumed == whole
    assert report["cached"] == 9


def test_an_endpoint_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1/chat/completions", retries=0)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9.*check that the server runs"):
        asked(SynthesizeConfig(generator="endpoint", endpoint=endpoint), tmp_path)
