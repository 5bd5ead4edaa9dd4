"""The chat client against a server that speaks OpenAI's shape: order, counts, and answers that are paid for once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from secondstage.answercache import Reply
from secondstage.chat import ChatClient, read_reply
from secondstage.config import EndpointConfig
from secondstage.errors import UserError

from .conftest import serving
from .server import Answer, JsonServer, first

PROMPTS = [[{"role": "system", "content": "echo"}, {"role": "user", "content": f"say {i}"}] for i in range(11)]
ANSWERS = [f"echo: say {i}" for i in range(11)]
SETTINGS: dict[str, Any] = {"max_tokens": 9, "temperature": 0.0}


def echo(body: dict[str, Any]) -> object:
    text = ": ".join(message["content"] for message in body["messages"])
    return {"choices": [{"message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10}}  # fmt: skip


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = JsonServer("/v1/chat/completions", echo)
    with serving(server):
        yield server


def client(api: JsonServer, cache: Path | None = None, price: float = 0.0, **settings: Any) -> ChatClient:
    endpoint = EndpointConfig(url=api.url, model="gpt-x", **settings)
    return ChatClient(endpoint, cache=cache, price=price, backoff=0.001)


def texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.answer for reply in replies]


def test_answers_come_in_the_order_of_the_prompts(api: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_KEY", "s3cret")
    chat = client(api, price=2.0, api_key_env="CHAT_KEY")
    assert texts(chat.complete(PROMPTS, **SETTINGS, seed=7)) == ANSWERS
    sent = {"path": "/v1/chat/completions", "model": "gpt-x", "max_tokens": 9, "temperature": 0.0, "seed": 7}
    assert sorted(api.seen, key=lambda body: PROMPTS.index(body["messages"])) == [
        {**sent, "messages": messages} for messages in PROMPTS
    ]
    assert api.keys == {"Bearer s3cret"}
    report = chat.report()
    assert 0 < report.pop("seconds") < 60
    assert report == {"prompts": 11, "cached": 0, "refused": 0, "requests": 11, "retries": 0, "prompt_tokens": 1100,
                      "completion_tokens": 110, "cost": pytest.approx(2.0 * 1210 / 1e6)}  # fmt: skip


def test_what_is_left_to_the_server_is_not_sent(api: JsonServer) -> None:
    ChatClient(EndpointConfig(url=api.url)).complete(PROMPTS[:1], **SETTINGS)
    assert api.seen[0].keys() == {"path", "messages", "max_tokens", "temperature"}
    assert api.keys == {None}


def test_no_prompts_are_no_requests(api: JsonServer, tmp_path: Path) -> None:
    assert texts(client(api, tmp_path / "answers.jsonl").complete([], **SETTINGS)) == []
    assert api.seen == []
    assert list(tmp_path.iterdir()) == []


def test_as_many_requests_as_allowed_are_under_way_at_a_time(api: JsonServer) -> None:
    full = threading.Barrier(3)

    def together(server: JsonServer, body: dict[str, Any]) -> None:
        full.wait(timeout=10)

    api.misbehave = together
    client(api, concurrency=3).complete(PROMPTS[:9], **SETTINGS)
    assert api.most_under_way == 3


def test_equal_prompts_are_sent_once(api: JsonServer) -> None:
    chat = client(api)
    assert texts(chat.complete(PROMPTS[:2] * 3, **SETTINGS)) == ANSWERS[:2] * 3
    assert (len(api.seen), chat.report()["cached"]) == (2, 4)


def test_a_prompt_is_paid_for_once_and_anything_else_is_another_prompt(api: JsonServer, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "answers.jsonl"
    assert texts(client(api, cache).complete(PROMPTS, **SETTINGS)) == ANSWERS
    chat = client(api, cache)
    assert texts(chat.complete(PROMPTS, **SETTINGS)) == ANSWERS
    assert len(api.seen) == 11
    assert (chat.report()["cached"], chat.report()["requests"], chat.report()["cost"]) == (11, 0, 0.0)
    others: list[dict[str, Any]] = [{"max_tokens": 8}, {"temperature": 0.5}, {"seed": 1}, {"seed": 2}]
    for count, other in enumerate(others, 12):
        client(api, cache).complete(PROMPTS[:1], **{**SETTINGS, **other})
        assert len(api.seen) == count
    ChatClient(EndpointConfig(url=api.url, model="gpt-y"), cache=cache).complete(PROMPTS[:1], **SETTINGS)
    ChatClient(EndpointConfig(url=f"{api.url}?v=2", model="gpt-x"), cache=cache).complete(PROMPTS[:1], **SETTINGS)
    assert len(api.seen) == 17
    client(api, cache, concurrency=1, retries=0, timeout=9).complete(PROMPTS[:1], **SETTINGS)
    assert len(api.seen) == 17


def test_an_error_leaves_what_was_answered_in_the_cache(api: JsonServer, tmp_path: Path) -> None:
    api.misbehave = lambda server, body: (404, b"no", {}) if body["messages"] == PROMPTS[6] else None
    with pytest.raises(UserError, match="status 404, 'no'; check the URL"):
        client(api, tmp_path / "answers.jsonl", concurrency=2).complete(PROMPTS, **SETTINGS)
    sent = len(api.seen)
    assert 7 <= sent < 11
    api.misbehave = lambda server, body: None
    assert texts(client(api, tmp_path / "answers.jsonl").complete(PROMPTS, **SETTINGS)) == ANSWERS
    # All but the refused one were answered, and kept.
    assert len(api.seen) == sent + 11 - (sent - 1)


def test_a_refused_prompt_has_no_answer_and_is_asked_again_by_the_next_run(api: JsonServer, tmp_path: Path) -> None:
    api.misbehave = lambda server, body: (400, b"filtered", {}) if body["messages"] in PROMPTS[6:8] else None
    expected = [*ANSWERS[:6], "", "", *ANSWERS[8:]]
    for sent in (11, 2):  # the second time all that is sent is refused
        api.seen.clear()
        chat = client(api, tmp_path / "answers.jsonl")
        assert texts(chat.complete(PROMPTS, **SETTINGS)) == expected
        report = chat.report()
        assert (report["refused"], report["prompts"], report["cached"]) == (2, 9, 11 - sent)
        assert len(api.seen) == sent
    api.misbehave = lambda server, body: None
    assert texts(client(api, tmp_path / "answers.jsonl").complete(PROMPTS, **SETTINGS)) == ANSWERS
    # Other prompts were answered: that tells nothing of these.
    api.misbehave = first(99, (400, b"too many tokens", {}))
    with pytest.raises(UserError, match=r"too long an input .*passage_words.*content filter.*name of the model"):
        client(api, tmp_path / "answers.jsonl").complete(PROMPTS, **{**SETTINGS, "max_tokens": 10**9})


def test_an_answer_of_no_use_is_given_but_not_kept(api: JsonServer, tmp_path: Path) -> None:
    def usable(place: int, reply: Reply) -> bool:
        return reply.answer == ANSWERS[place] and place != 4

    assert texts(client(api, tmp_path / "answers").complete(PROMPTS, **SETTINGS, usable=usable)) == ANSWERS
    assert len(api.seen) == 11
    # Kept by a caller who took everything, it is asked for again as well.
    client(api, tmp_path / "answers").complete(PROMPTS, **SETTINGS)
    assert len(api.seen) == 12
    assert texts(client(api, tmp_path / "answers").complete(PROMPTS, **SETTINGS, usable=usable)) == ANSWERS
    assert len(api.seen) == 13


def test_a_busy_server_is_asked_again_and_one_that_stays_so_is_given_up(api: JsonServer) -> None:
    api.misbehave = first(3, (429, b"busy", {"Retry-After": "0"}))
    chat = client(api)
    assert texts(chat.complete(PROMPTS, **SETTINGS)) == ANSWERS
    assert (chat.report()["requests"], chat.report()["retries"]) == (14, 3)
    api.misbehave = first(99, (500, b"", {}))
    with pytest.raises(UserError, match="status 500, '', in 3 attempts; check that the server runs"):
        client(api, retries=2).complete(PROMPTS[:1], **SETTINGS)


FAULTY = {
    "<html>": (b"<html>", "not JSON"),
    "nothing": (b"", "not JSON"),
    "too deep": (b"[" * 100_000, "not JSON"),
    "a list": (b"[]", "no choice with a message"),
    "no choices": (b'{"choices": []}', "no choice with a message"),
    "null": (b'{"choices": null}', "no choice with a message"),
    "of a completion": (b'{"choices": [{"text": "x"}]}', "no choice with a message"),
    "parts": (b'{"choices": [{"message": {"content": [1]}}]}', "is no text: [1]"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_answer_is_refused_with_what_is_wrong(name: str, api: JsonServer) -> None:
    content, fault = FAULTY[name]
    api.misbehave = first(99, (200, content, {}))
    with pytest.raises(UserError) as caught:
        client(api).complete(PROMPTS[:1], **SETTINGS)
    assert str(caught.value).startswith(f"{api.url}: the ")
    assert fault in str(caught.value)
    assert "OpenAI" in str(caught.value)
    assert len(api.seen) == 2


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": True}]
)
def test_tokens_that_are_not_told_are_none(usage: object) -> None:
    answer = {"choices": [{"message": {"content": None}}], "usage": usage}
    assert read_reply(json.dumps(answer).encode()) == Reply("")


def test_an_answer_that_was_cut_off_is_told_from_one_that_ended(api: JsonServer, tmp_path: Path) -> None:
    def cut(server: JsonServer, body: dict[str, Any]) -> Answer | None:
        reason = {PROMPTS[0][1]["content"]: "length", PROMPTS[1][1]["content"]: "stop"}.get(
            body["messages"][1]["content"]
        )
        choice = {"message": {"content": "How does alti"}, "finish_reason": reason}
        return (200, json.dumps({"choices": [choice]}).encode(), {}) if reason else None

    api.misbehave = cut
    for _ in range(2):  # the second time from the file
        replies = client(api, tmp_path / "answers").complete(PROMPTS[:3], **SETTINGS)
        assert [reply.cut for reply in replies] == [True, False, False]
    assert len(api.seen) == 3


def test_an_address_or_a_key_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAT_KEY", raising=False)
    with pytest.raises(UserError, match=r"a chat endpoint has an address such as .*/v1/chat/completions"):
        ChatClient(EndpointConfig(url="localhost:8000/v1"))
    with pytest.raises(UserError, match="CHAT_KEY is not set"):
        ChatClient(EndpointConfig(url="http://localhost:8000/v1", api_key_env="CHAT_KEY"))


def test_texts_of_every_script_and_broken_ones_are_sent_and_kept(api: JsonServer, tmp_path: Path) -> None:
    sent = ["שלום", "漢字", "😀", "\0\u2028", "half \ud83d", "x" * 1_000_000]
    prompts = [[{"role": "user", "content": text}] for text in sent]
    for _ in range(2):
        assert texts(client(api, tmp_path / "answers").complete(prompts, **SETTINGS)) == sent
    assert len(api.seen) == len(sent)
