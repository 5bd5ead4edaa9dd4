"""What each API is sent. Fields that an API does not know are ignored, as they all do, but for our own search, where a
misspelt one would silently not count; wrong types are refused.

`model` may be any name: one model is served, clients often have another's name built in, and the answer tells which one
it was. Fields that change nothing here say so.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field

BLANK = "must not be empty or be only whitespace"
# Fields of one object at most. Every fault of a body is kept until all are found: a hostile one could have millions, so
# lists end at the first one, and objects, which cannot, are small.
MOST_FIELDS = 1000


def _whole(value: object) -> object:
    """1.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Characters of an id: what is kept of a judgement is small.
LONGEST_ID = 1000

# A character that is no white space: to Python, to JavaScript and to Rust, which differ, so that whoever reads the
# OpenAPI document means the same.
WORD = r"[^\s\x1c-\x1f\x85\ufeff]"


def _words(text: str) -> str:
    if not re.search(WORD, text):
        raise ValueError(BLANK)
    return text


def few(fields: object) -> object:
    """The same, if it is no object with more fields than are read."""
    if isinstance(fields, dict) and len(fields) > MOST_FIELDS:
        raise ValueError(f"has {len(fields)} fields, and may have {MOST_FIELDS}")
    return fields


Query = Annotated[str, AfterValidator(_words), Field(json_schema_extra={"pattern": WORD})]
Most = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
MostOrAll = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Cut = Annotated[int, Field(ge=-1), BeforeValidator(_whole)]


class _First(FailFast):
    """Ends a list at its first fault. Python 3.11 must hash what stands in a union, which pydantic's own cannot."""

    def __hash__(self) -> int:
        return hash(self.fail_fast)


FIRST = _First()
Fields = Annotated[dict[str, str], Field(min_length=1), BeforeValidator(few)]
Texts = Annotated[list[str], Field(min_length=1), FIRST]


class Body(BaseModel):
    """Of a request; types are strict, as "5" is no number."""

    # The words below the fields are their descriptions in the OpenAPI document.
    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)


class CohereRerank(Body):
    """`/v2/rerank`, as Cohere has it."""

    model: str | None = None
    query: Query
    documents: Texts
    top_n: Most | None = None
    """At most; all, if there are fewer, or if it is missing."""
    max_tokens_per_doc: Most | None = None
    """The rest of a document is cut, 4,096 if it is missing; so is what the model does not read."""
    priority: Annotated[int, Field(ge=0, le=999), BeforeValidator(_whole)] | None = None
    """Is taken and changes nothing."""


class Rerank(Body):
    """`/v1/rerank` and `/rerank`, as Jina, vLLM and Cohere (v1) have it."""

    model: str | None = None
    query: Query
    documents: Annotated[list[str | Fields], Field(min_length=1), FIRST]
    """Texts, or objects whose `rank_fields` are the text."""
    top_n: MostOrAll | None = None
    """At most; 0, and more than there are, is all of them."""
    return_documents: bool | None = None
    """Whether results have their documents; if it is missing they have, but where documents are strings."""
    rank_fields: Texts | None = None
    """Of documents that are objects, put together line by line; by default `text`, or all where there is none. So it is
    where no document has any of them."""
    max_chunks_per_doc: Most | None = None
    """Is taken and changes nothing: a document is one chunk."""
    max_tokens_per_doc: Most | None = None
    truncate_prompt_tokens: Cut | None = None
    """Tokens of query and document together; the longer one is cut. -1 is what the model reads."""
    raw_scores: bool = False
    """Scores are logits, as Infinity has it."""


class ScoreTexts(Body):
    """`/score`, as vLLM has it: one text with each of the others. Two lists of the same length are taken side by side,
    which a schema cannot say."""

    model: str | None = None
    text_1: str | Texts
    text_2: str | Texts
    truncate_prompt_tokens: Cut | None = None
    use_activation: bool | None = None
    """Without, scores are logits."""


class ScoreQueries(Body):
    """`/score` with the newer names of the fields."""

    model: str | None = None
    queries: str | Texts
    documents: str | Texts
    truncate_prompt_tokens: Cut | None = None
    use_activation: bool | None = None
    """Without, scores are logits."""


class TeiRerank(Body):
    """`/rerank` with `texts`, as TEI has it."""

    query: Query
    texts: Texts
    truncate: bool | None = None
    """If false, a text with too many characters is refused; else it is cut. What the model does not read is cut."""
    truncation_direction: Literal["right", "Right"] | None = None
    raw_scores: bool = False
    return_text: bool = False


class InfinityRerank(Body):
    """`{prefix}/rerank`, as Infinity has it."""

    model: str | None = None
    query: Query
    documents: Texts
    return_documents: bool = False
    raw_scores: bool = False
    top_n: Most | None = None


Scalar = str | int | float | bool
Scalars = Annotated[list[Scalar], Field(min_length=1), FIRST]


class SearchBody(Body):
    """`/search`: the pipeline of the bundle."""

    model_config = ConfigDict(extra="forbid")

    query: Query
    top_n: Most = 10
    """At most; there are as many candidates as are reranked."""
    depth: Most | None = None
    """Candidates that are reranked; by default as was chosen on dev."""
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """The probability that a result must reach, or the sigmoid of its logit where nothing was calibrated;
    what no reranker has read, for want of time, does not reach it."""
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """What the search may take; it is kept by reranking less."""
    where: Annotated[dict[str, Scalar | Scalars], Field(min_length=1), BeforeValidator(few)] | None = None
    """What fields of the documents must hold: a value, or one of several."""
    pack_tokens: Most | None = None
    """Pack the results into a context of so many tokens."""
    explain: bool = False
    """Tell the first stage's order as well."""


class JudgementBody(Body):
    """`/judgements`: what somebody says of a result."""

    id: Annotated[str, Field(max_length=LONGEST_ID)] | None = None
    """Of the search."""
    query: Query
    doc_id: Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
    relevance: Annotated[int, Field(ge=0, le=3), BeforeValidator(_whole)]
    kind: Literal["judgement", "click"] = "judgement"
