"""The prompt that asks a decoder whether a document answers a query, and the tokens of its answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from .errors import UserError

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
PLACE = "\0"


class Template(NamedTuple):
    """What stands before and after query and document; it is never cut."""

    prefix: str
    suffix: str


def template_of(tokenizer: Any) -> Template:
    """The prompt around query and document.

    A tokenizer with the tokens of ChatML gets Qwen3-Reranker's published template, in which thinking is over at once;
    another one gets its own chat template, the task put before the text, for not all know a system's role.

    Raises:
        UserError: it has neither.
    """
    if "<|im_start|>" in tokenizer.get_vocab():
        start, end = "<|im_start|>", "<|im_end|>\n"
        answer = f"{end}{start}assistant\n<think>\n\n</think>\n\n"
        return Template(f"{start}system\n{SYSTEM}{end}{start}user\n", answer)
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the tokenizer of this decoder has no chat template, so it cannot be asked for yes or no: give a decoder "
            "that was tuned to follow instructions, such as Qwen/Qwen3-Reranker-0.6B"
        )
    messages = [{"role": "user", "content": f"{SYSTEM}\n\n{PLACE}"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prefix, _, suffix = text.partition(PLACE)
    return Template(prefix, suffix)


def token_of(tokenizer: Any, answer: str) -> int:
    """The token that an answer of one word is.

    Raises:
        UserError: it is no single token.
    """
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise UserError(f'"{answer}" is not a token of this decoder, so its logit cannot be the score: choose another')
    return int(ids[0])
