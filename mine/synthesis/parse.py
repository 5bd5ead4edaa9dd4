"""The queries in a generator's answer, whatever it put around them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from secondstage.files import fingerprint
from secondstage.sentences import units
from secondstage.synthetic import ID_PREFIX

# Longer texts are no queries. Characters, too: not every script has words to count.
MOST_WORDS = 64
LONGEST = 400

_FENCE = re.compile(r"^\s*(?:```|~~~)[\w-]*\s*$", re.MULTILINE)
# A number with a point is one of a list only if no digit follows it.
_BULLET = re.compile(r"^(?:[-*+•–—·>#]+\s+|\(?\d{1,2}[.):](?!\d)\s*|\d{1,2}\s+-\s+)")
_PREFIX = re.compile(
    r"^(?:search\s+|synthetic\s+|keyword\s+)?(?:quer(?:y|ies)|questions?|keywords?|claims?|q|answer|output)"
    r"\s*(?:#?\d{1,2})?\s*:\s*",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(r"^(?:sure|certainly|of course|okay|ok|here (?:is|are)|here's|below (?:is|are))\b.*[:.!]$", re.I)
_REFUSAL = re.compile(
    r"^(?:(?:(?:i am|i'm|i’m) (?:very |really )?)?sorry,? (?:but|i)\b|i apologi[sz]e|as an? (?:ai|language model)\b"
    # People ask with such words, too: only what an assistant cannot do is a refusal.
    r"|(?:unfortunately,? )?i(?: cannot| can['’]?t| won['’]t|(?: a|['’])m (?:unable|not able) to)"
    r" (?:(?:help|assist|generate|comply|fulfil|do that)\w*"
    r"|(?:create|provide|write|answer)\w* (?:(?:a|an|any|the|that|this|these|those|such|\d+|search|your) )*"
    r"(?:quer(?:y|ies)|questions?|claims?|keywords?|content|text|requests?|document|information|advice)\b|(?:create|provide|write|answer)"
    r" (?:this|that|these)\b))",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "*": "*", "_": "_"}
_KEYS = ("queries", "query", "questions", "question", "keywords", "keyword", "claims", "claim", "text")
# A line of JSON that is torn or spread over several; one that opens a list or an object holds no query.
_RAW = re.compile(rf"""^(?:[\[{{][\[{{\s]*["']|"(?:{"|".join(_KEYS)})"\s*:)""")
_OPENS = re.compile(r'^"\w+"\s*:\s*[\[{]$')


class Parsed(NamedTuple):
    """One query; `fault` is the rule that it breaks: "empty", "refusal", "too_long", "torn", or none."""

    text: str
    fault: str = ""


def parse(answer: str, count: int, *, cut: bool = False) -> list[Parsed]:
    """Up to `count` queries of an answer, in its order; one empty query if it holds none.

    Read are lines and JSON, whole or a line each; put aside are code fences, numbers, bullets, quotes, labels such as
    "Query 1:", and an introduction. Of an answer that was `cut` off the last piece is torn, or all, if there are more
    than were asked for: it is a thought that never ended. So is what looks like JSON and is none.
    """
    pieces = [piece for piece in _pieces(_FENCE.sub("", answer).strip()) if any(map(str.isalnum, piece))]
    whole = len(pieces) if not cut else len(pieces) - 1 if len(pieces) <= count else 0
    judged = [_judged(clean(piece), torn=i >= whole or bool(_RAW.match(piece))) for i, piece in enumerate(pieces)]
    found = [query for query in judged if any(map(str.isalnum, query.text))]
    return found[:count] or [Parsed("", "empty")]


def query_id(doc_id: str, kind: str, number: int, text: str) -> str:
    """The id of a synthetic query: the same for the same query of the same document."""
    return f"{ID_PREFIX}{fingerprint(doc_id, kind, number, text)[:16]}"


def clean(line: str) -> str:
    """A line without what stands around the query, on one line."""
    # Control characters and half surrogate pairs, which JSON can spell, are in no query.
    line = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in line)
    text, before = " ".join(line.split()), ""
    while text != before:
        before = text
        text = _PREFIX.sub("", _BULLET.sub("", text)).strip()
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1].strip()
        elif text.startswith("**") and "**" in text[2:]:
            # A label in bold, as in **Question:** …
            text = text.replace("**", "", 2)
    return text


def _judged(text: str, *, torn: bool) -> Parsed:
    if torn:
        return Parsed(text[:LONGEST], "torn")
    if _REFUSAL.match(text):
        return Parsed(text[:LONGEST], "refusal")
    if len(text) > LONGEST or len(text.split()) > MOST_WORDS or len(units(text)) > 2 * MOST_WORDS:
        return Parsed(text[:LONGEST], "too_long")
    return Parsed(text)


def _pieces(body: str) -> Iterator[str]:
    for opening, closing in ("[]", "{}"):
        start, end = body.find(opening), body.rfind(closing)
        # What stands before JSON is an introduction, what follows it a remark; a query holds no line break and brace.
        if start >= 0 and end > start and (start == 0 or body[start - 1] == "\n"):
            try:
                yield from _leaves(json.loads(body[start : end + 1]))
            except (ValueError, RecursionError):
                continue
            return
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if line.startswith(("[", "{")):
            try:
                yield from _leaves(json.loads(line.rstrip(",")))
                continue
            except (ValueError, RecursionError):
                pass
        introduces = line.endswith((":", "：")) or _PREAMBLE.match(line)
        if not (introduces and i + 1 < len(lines)) and not _OPENS.match(line):
            yield line.rstrip(",") if line.startswith(('"', "“")) else line


def _leaves(value: Any) -> Iterator[str]:
    """The texts in JSON, of objects those under a known key, or else all."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        known = [value[key] for key in _KEYS if key in value]
        for item in known or value.values():
            yield from _leaves(item)
