"""The prompt that asks for yes or no: what a tokenizer's own tokens and template decide."""

from __future__ import annotations

import pytest

from secondstage.errors import UserError
from secondstage.yesno import SYSTEM, template_of, token_of

from .test_decoder import published, tokenizer

TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}[/]{% endfor %}"
    "{% if add_generation_prompt %}[model]{% endif %}"
)


def test_a_tokenizer_with_chatml_gets_the_published_template() -> None:
    expected = published("¦", "¦", "¦")
    for own in (tokenizer(), tokenizer(chat_template=TEMPLATE)):
        prefix, suffix = template_of(own)
        assert expected.startswith(f"{prefix}<Instruct>: ¦")
        assert expected.endswith(f"<Document>: ¦{suffix}")


def test_another_tokenizer_gets_its_own_template() -> None:
    assert template_of(tokenizer(chatml=False, chat_template=TEMPLATE)) == (f"[user]{SYSTEM}\n\n", "[/][model]")


def test_without_either_there_is_no_prompt() -> None:
    with pytest.raises(UserError, match="no chat template"):
        template_of(tokenizer(chatml=False))


def test_answers_are_single_tokens() -> None:
    own = tokenizer()
    assert [own.decode(token_of(own, answer)) for answer in ("yes", "no")] == ["yes", "no"]
    for answer in ("maybe", ""):
        with pytest.raises(UserError, match="is not a token"):
            token_of(own, answer)
