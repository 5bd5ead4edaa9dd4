"""Which API a request speaks, and what it asks: pairs to be scored, and how the answer is to look. Without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from secondstage.config import ServerConfig

from .engine import Limits
from .errors import EmptyError, InvalidError, MalformedError, TooManyError
from .wire import (
    BLANK,
    MOST_FIELDS,
    Body,
    CohereRerank,
    InfinityRerank,
    Rerank,
    ScoreQueries,
    ScoreTexts,
    TeiRerank,
)

# Of a document, where a request to Cohere's API, version 2, does not say.
COHERE_TOKENS = 4096

Api = Literal["cohere", "rerank", "score", "tei", "infinity", "own"]
"""`rerank` is what Jina, vLLM and Cohere (v1) share: one answer has the fields of all three."""

B = TypeVar("B", bound=Body)
# Faults of one body that are told.
MOST_FAULTS = 3
# Where bodies have the texts that are counted.
SIDES = ("documents", "texts", "queries", "text_1", "text_2")


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        api: whose words it speaks.
        pairs: `[n]` (query, document) texts.
        limits: what is to be cut.
        top_n: results at most; none means all.
        raw: whether logits are wanted.
        returned: `[n]` documents as they are sent back with the results; none if they are not.
    """

    api: Api
    pairs: list[tuple[str, str]]
    limits: Limits = Limits()
    top_n: int | None = None
    raw: bool = False
    returned: Sequence[object] | None = None


def read_json(content: bytes | bytearray) -> dict[str, Any]:
    """The object in a body.

    Raises:
        MalformedError: it is no JSON, holds NaN, the word Infinity or half a surrogate pair, is nested too deep, or is
            no object.
    """
    try:
        found = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedError(f"the body is no valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise MalformedError("the body must be a JSON object")
    return found


def api_of(route: Api, data: Mapping[str, Any]) -> Api:
    """The API that a body on a route speaks: where texts are called `texts`, it is TEI's."""
    return "tei" if route in ("rerank", "cohere") and "texts" in data else route


def ask(api: Api, data: Mapping[str, Any], config: ServerConfig) -> Asked:
    """What a body asks.

    Raises:
        InvalidError: it breaks a rule of its API.
        TooManyError: it has more texts than are taken.
    """
    for name in SIDES:  # before anything is made of them
        if isinstance(texts := data.get(name), list) and len(texts) > config.max_documents:
            raise TooManyError(
                f"{name}: there are {len(texts)}, and a request may have {config.max_documents}: split it", name
            )
    return READERS[api](data, config)


def validated(kind: type[B], data: Mapping[str, Any]) -> B:
    """The body as its kind; `InvalidError` says what is wrong with it."""
    if len(data) > MOST_FIELDS:
        raise InvalidError(f"the body has {len(data)} fields, and may have {MOST_FIELDS}")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults = _faults(error)
        empty = all(fault["type"] == "too_short" or BLANK in fault["msg"] for fault in faults.values())
        words = "; ".join(f"{field}: {_words(fault, kind)}" for field, fault in list(faults.items())[:MOST_FAULTS])
        raise (EmptyError if empty else InvalidError)(words, next(iter(faults))) from None


def _faults(error: ValidationError) -> dict[str, Any]:
    """The first fault of each place; of alternatives that of the one whose type fits, and their names are left out."""
    faults: dict[str, Any] = {}
    for fault in error.errors(include_url=False, include_input=False):
        top, *rest = fault["loc"]
        place = ".".join([str(top), *(str(part) for part in rest if isinstance(part, int))])
        if place not in faults or (_of_type(faults[place]) and not _of_type(fault)):
            faults[place] = fault
    return faults


def _of_type(fault: Mapping[str, Any]) -> bool:
    return str(fault["type"]).endswith("_type")


def _words(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"there is no such field; there are {', '.join(kind.model_fields)}"
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return message[:1].lower() + message[1:]


def _cohere(data: Mapping[str, Any], config: ServerConfig) -> Asked:
    body = validated(CohereRerank, data)
    pairs = _pairs(body.query, body.documents, config)
    return Asked("cohere", pairs, Limits(None, body.max_tokens_per_doc or COHERE_TOKENS), body.top_n)


def _rerank(data: Mapping[str, Any], config: ServerConfig) -> Asked:
    body = validated(Rerank, data)
    fields = ranked_fields(body)
    texts = [document if isinstance(document, str) else joined(document, fields) for document in body.documents]
    pairs = _pairs(body.query, texts, config)
    as_text = config.return_document == "string"
    returned: list[object] | None = None
    if not as_text if body.return_documents is None else body.return_documents:
        returned = [
            text if as_text else {"text": document} if isinstance(document, str) else {"text": text, **document}
            for document, text in zip(body.documents, texts, strict=True)
        ]
    limits = Limits(_cut(body.truncate_prompt_tokens), body.max_tokens_per_doc)
    return Asked("rerank", pairs, limits, body.top_n or None, raw=body.raw_scores, returned=returned)


def _tei(data: Mapping[str, Any], config: ServerConfig) -> Asked:
    body = validated(TeiRerank, data)
    pairs = _pairs(body.query, body.texts, config, field="texts", cut=body.truncate is not False)
    return Asked("tei", pairs, raw=body.raw_scores, returned=body.texts if body.return_text else None)


def _infinity(data: Mapping[str, Any], config: ServerConfig) -> Asked:
    body = validated(InfinityRerank, data)
    pairs = _pairs(body.query, body.documents, config, cut=False)
    returned = body.documents if body.return_documents else None
    return Asked("infinity", pairs, top_n=body.top_n, raw=body.raw_scores, returned=returned)


def _score(data: Mapping[str, Any], config: ServerConfig) -> Asked:
    body: ScoreTexts | ScoreQueries
    if "queries" in data and "text_1" not in data:
        body = validated(ScoreQueries, data)
        sides, names = (body.queries, body.documents), ("queries", "documents")
    else:
        body = validated(ScoreTexts, data)
        sides, names = (body.text_1, body.text_2), ("text_1", "text_2")
    left, right = ([side] if isinstance(side, str) else side for side in sides)
    for query in left:
        check_query(query, config, names[0])
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise InvalidError(
            f"{names[0]} has {len(left)} texts and {names[1]} {len(right)}: give one with any number, or as many",
            names[0],
        )
    for name, texts in zip(names, (left, right), strict=True):
        check_texts(texts, config, name, cut=body.truncate_prompt_tokens is not None)
    pairs = [
        (query[: config.max_characters], text[: config.max_characters]) for query, text in zip(left, right, strict=True)
    ]
    return Asked("score", pairs, Limits(_cut(body.truncate_prompt_tokens)), raw=body.use_activation is False)


READERS: Mapping[Api, Callable[[Mapping[str, Any], ServerConfig], Asked]] = {
    "cohere": _cohere,
    "rerank": _rerank,
    "score": _score,
    "tei": _tei,
    "infinity": _infinity,
}


def ranked_fields(body: Rerank) -> Sequence[str] | None:
    """Of documents that are objects, those fields that are the text; none for the usual ones.

    Where no document has a field that is named, the names are misspelt: the texts would all be empty.
    """
    named = body.rank_fields or ()
    there = any(name in document for document in body.documents if not isinstance(document, str) for name in named)
    return named if there else None


def joined(document: Mapping[str, str], fields: Sequence[str] | None) -> str:
    """The text of a document that is an object; a field that it has not is empty."""
    names = fields or (["text"] if "text" in document else list(document))
    return "\n".join(document[name] for name in names if name in document)


def check_query(query: str, config: ServerConfig, field: str = "query") -> None:
    """`InvalidError` if it is too long."""
    if len(query) > config.max_query_characters:
        raise InvalidError(
            f"{field}: has {len(query)} characters, and may have {config.max_query_characters}: shorten it", field
        )


def check_texts(texts: Sequence[str], config: ServerConfig, field: str, *, cut: bool) -> None:
    """`InvalidError` if one is too long, and not to be cut."""
    long = next((i for i, text in enumerate(texts) if len(text) > config.max_characters), None)
    if long is not None and not cut:
        raise InvalidError(
            f"{field}.{long}: has {len(texts[long])} characters, and may have {config.max_characters}: shorten it",
            field,
        )


def _pairs(
    query: str, texts: Sequence[str], config: ServerConfig, *, field: str = "documents", cut: bool = True
) -> list[tuple[str, str]]:
    check_query(query, config)
    check_texts(texts, config, field, cut=cut)
    return [(query, text[: config.max_characters]) for text in texts]


def _cut(tokens: int | None) -> int | None:
    """-1 is what the model reads, as if nothing was said; so is 0, of which nothing could be read."""
    return tokens if tokens is not None and tokens > 0 else None
