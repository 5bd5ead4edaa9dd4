"""Kept answers: the same as were written, through kills and torn files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.answercache import Reply, appending, read_replies, write_reply
from secondstage.errors import UserError

REPLIES = {"a": Reply("yes\n\u2028é\0", 3, 4), "b": Reply("", cut=True), "c": Reply("[2] > [1]", 1)}


def write(path: Path, replies: dict[str, Reply]) -> None:
    with appending(path) as file:
        for key, reply in replies.items():
            write_reply(file, key, reply)


@given(
    st.dictionaries(
        st.text("abc", min_size=1), st.builds(Reply, st.text(), st.integers(0), st.integers(0), st.booleans())
    )
)
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_read(replies: dict[str, Reply]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "answers", replies)
        assert read_replies(Path(folder) / "answers") == replies


def test_a_file_torn_anywhere_holds_its_whole_lines_and_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    write(path, REPLIES)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = dict(list(REPLIES.items())[: whole[:size].count(b"\n")])
        assert read_replies(path) == kept
        write(path, {"d": Reply("new")})
        assert read_replies(path) == {**kept, "d": Reply("new")}


def test_every_answer_is_in_the_file_before_the_next_is_written(tmp_path: Path) -> None:
    with appending(tmp_path / "answers") as file:
        for count, (key, reply) in enumerate(REPLIES.items(), 1):
            write_reply(file, key, reply)
            assert len(read_replies(tmp_path / "answers")) == count


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert read_replies(tmp_path / "answers") == {}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("how?\nwhy?", "how?\nwhy?"),
        ("<think>They want two.\nFirst: …</think>\n\nhow?", "\n\nhow?"),
        # The template of some models opens the thought.
        ("Okay…\nPerhaps: what is steam?\n</think>\n\nAt which height?", "\n\nAt which height?"),
        ("I thought [1] > [2]. <think>No.</think></think>[2] > [1]", "[2] > [1]"),
        ("<think>1 or 2", ""),
        ("how? <think>or why", "how? "),
        ("x" * 30_000 + "</think>[2] > [1]", "[2] > [1]"),
        ("", ""),
    ],
)
def test_what_a_model_thought_it_did_not_say(answer: str, said: str) -> None:
    assert Reply(answer).said == said


@pytest.mark.parametrize(
    "content", ["precious\n", "[]\n", "{}\n", '{"key": "a", "text": "b"}\n', "1\n", "\n", "precious", "{'key'"]
)
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text(content)
    with pytest.raises(UserError, match=r"precious is no answer cache .* delete it"):
        read_replies(tmp_path / "precious")
