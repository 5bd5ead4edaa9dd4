"""How a pair is written for a decoder with a classification head, and which of its tokens the head looks at."""

from __future__ import annotations

from typing import Any

from .errors import UserError

# Before the query, between the two, and after the document. The head reads the last token, which is always the same.
WORDS = ("Query: ", "\nDocument: ", "\nRelevant:")


def put_words_around(tokenizer: Any) -> bool:
    """Have the tokenizer write `WORDS` around the two texts of a pair, if it does not tell them apart by itself.

    Tokenizers of decoders run query and document together. The words go into the tokenizer's own template, so that it
    cuts the texts and never the words, and that the saved folder gives the same tokens in any library.

    Returns:
        Whether it does so now.

    Raises:
        UserError: the tokenizer has no template.
    """
    if tells_pairs_apart(tokenizer):
        return False
    from tokenizers.processors import TemplateProcessing

    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None or not hasattr(inner, "post_processor"):
        raise UserError(
            "the tokenizer of this model runs query and document together, and it is no fast one, which could be told "
            "otherwise: give a model with a tokenizer.json"
        )
    start = [token for token in (tokenizer.bos_token,) if token and _starts_with(tokenizer, tokenizer.bos_token_id)]
    pieces = list(start)
    special: list[Any] = [(token, tokenizer.convert_tokens_to_ids(token)) for token in start]
    for i, (words, text) in enumerate(zip(WORDS, ("$A:0", "$B:0", ""), strict=True)):
        ids = tokenizer(words, add_special_tokens=False)["input_ids"]
        # One piece of the template stands for all the tokens of the words; its name shows nowhere else.
        special.append({"id": f"words-{i}", "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)})
        pieces += [f"words-{i}", text]
    single = [*start, "$A:0"]
    inner.post_processor = TemplateProcessing(
        single=single, pair=[piece for piece in pieces if piece], special_tokens=special
    )
    # Or these would have transformers make a template of its own when the folder is opened.
    for name in ("add_bos_token", "add_eos_token"):
        tokenizer.init_kwargs.pop(name, None)
    return True


def check_pairs(model: str, tokenizer: Any) -> None:
    """Raise `UserError` if nothing stands between the texts of a pair: ("black", "bird") would be ("blackbird", "").

    Decoders whose head was trained elsewhere got a prompt that only whoever trained them knows.
    """
    query, document = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    pair = tokenizer("a", "b")["input_ids"]
    texts = query + document
    if query and document and any(pair[i : i + len(texts)] == texts for i in range(len(pair))):
        raise UserError(
            f"model {model!r} has a head that was trained, and a tokenizer that runs query and document together: its "
            "scores would mean nothing. Give the decoder itself, asked for yes or no (train.head=yes_no, a teacher of "
            "kind decoder), or one without a head, which training gives a head and words around the texts"
        )


def tells_pairs_apart(tokenizer: Any) -> bool:
    """Whether a token stands between the texts of a pair or ends the first; two texts in a row have none."""
    query, document, pair = (tokenizer(*texts)["input_ids"] for texts in (("a",), ("b",), ("a", "b")))
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(pair != query + document or query[-len(plain) :] != plain)


def writes_words(tokenizer: Any) -> bool:
    """Whether the tokenizer writes `WORDS` around the texts of a pair."""
    ids, end = tokenizer("a", "b")["input_ids"], tokenizer(WORDS[-1], add_special_tokens=False)["input_ids"]
    return bool(end) and bool(ids[-len(end) :] == end)


def pool_last_token(network: Any, tokenizer: Any) -> None:
    """See that a decoder's classification head finds the last token of every row.

    transformers takes the rightmost token that is not `pad_token_id` for the last one, on either side of the padding.
    So there must be one, the same in both. Rows are padded on the right: positions that were learned then count from
    the start of the text.
    """
    # Heads that read the last token have this name in every family of transformers, and no others have.
    if not hasattr(network, "score"):
        return
    if tokenizer.pad_token is None:
        config = network.config.get_text_config()
        given = config.pad_token_id
        known = tokenizer.convert_ids_to_tokens(given) if isinstance(given, int) and given >= 0 else None
        tokenizer.pad_token = known or tokenizer.unk_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"
    for config in (network.config, network.config.get_text_config()):
        config.pad_token_id = tokenizer.pad_token_id


def _starts_with(tokenizer: Any, token: int | None) -> bool:
    return bool(tokenizer("a")["input_ids"][0] == token)
