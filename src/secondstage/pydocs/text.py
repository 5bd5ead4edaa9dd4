"""From a docstring to a query (its summary) and a text (the rest): pure functions, no library is needed here."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

MIN_SUMMARY_WORDS = 3
MIN_TEXT_WORDS = 10

_WORD = re.compile(r"[A-Za-z]{2,}|\b[aAI]\b")
# `add(x1, x2, /[, out]) -> y` in front of a C function's docstring, repeated for each overload.
_HEAD = re.compile(r"\W{0,3}(?:class |def )?[A-Za-z_][\w.]*\s?\(")
_RESULT = re.compile(
    r"\s*(?:->|-->|=>|=)\s*(?:\([^)\n]*\)|\[[^]\n]*\]|[^\n.]*?)(?:\.\s+(?=[A-Z])|\.?[ ]*(?=\n|$)|\s+--\s+)"
)
# Underlined headings, lists, directives, prompts: a summary ends there.
_UNDERLINE = re.compile(r"\s*([=\-~^*#])\1{2,}\s*$")
_BLOCK = re.compile(r"\s*(?:\.\. |>>> |[-*+] |\d+[.)] |:\w[\w ]*:|Args:|Arguments:|Parameters:|Returns?:|Examples?:)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z`\"'(*:])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|Eq|Eqs|Fig|Sec|al|no|[A-Z])\.)[\"')\]]*$")
_ROLE = re.compile(r":[a-z]+(?::[a-z]+)*:`~?\.?([^`<]+?)(?:\s*<[^`>]*>)?`(?:__?)?")
# Some libraries run their examples at import and show what came out at random.
_VARYING = re.compile(r"^.*# (?:may|can) vary[ \t]*$\n?", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*$\n?", re.MULTILINE)
_LITERAL = re.compile(r"``([^`]+)``|(?<![`\w])`([^`\n]+)`_{0,2}")
_ADDRESS = re.compile(r"\s+at 0x[0-9a-fA-F]+")

# Docstrings that say nothing: generated ones, inherited stubs, pointers to another docstring.
_NOISE = re.compile(
    r"^\(|alias for field number|^initialize self|^create and return a new object|see help\(type"
    r"|^(?:please )?(?:see|refer to|same as|alias (?:for|of|to)|equivalent to|in-?place version)\b|^wrapper (?:for|of) "
    r"|\bdeprecated\b|^built-in (?:mutable|immutable) sequence|^the type of the none|^todo\b|^internal\b"
    r"|^an enumeration\b|^return self|^placeholder|^abstract (?:method|property)",
    re.IGNORECASE,
)
_NOISY_NAME = re.compile(r"(?:^|\.)(?:set_\w+_request|get_metadata_routing|test_\w+|\w*dummy\w*)$")


class Parts(NamedTuple):
    """A docstring taken apart."""

    summary: str
    signatures: str
    text: str


class Record(NamedTuple):
    """One documented object: the summary is its query, the signature and the body are its text."""

    name: str
    library: str
    summary: str
    signature: str
    body: str

    @property
    def text(self) -> str:
        """What is searched, besides the name."""
        return f"{self.signature}\n{self.body}".strip()


def make_record(name: str, library: str, signature: str, doc: str) -> Record | None:
    """The record of one docstring, or None if it holds too little to be asked for."""
    if not name.isascii() or any(char.isspace() for char in name) or _NOISY_NAME.search(name):
        return None
    parts = take_apart(doc)
    if len(normalise(parts.summary).split()) < MIN_SUMMARY_WORDS or _NOISE.search(parts.summary):
        return None
    if parts.text.startswith(".. deprecated::"):
        return None
    body = without(parts.text, parts.summary)
    if count_words(body) < MIN_TEXT_WORDS or not is_english(f"{parts.summary} {body}"):
        return None
    known = signature and signature != "(*args, **kwargs)"
    shown = f"{name.rsplit('.', 1)[-1]}{signature}" if known else parts.signatures
    return Record(name, library, parts.summary, without(shown, parts.summary), body)


def rank(name: str) -> tuple[int, str]:
    """Of several names of one object, the smallest is kept: the shortest, then the first in the alphabet."""
    return len(name), name


def take_apart(doc: str) -> Parts:
    """Split a docstring into its summary (first sentence of the first paragraph), signature lines and the rest."""
    signatures, rest = strip_signatures(plain(inspect.cleandoc(doc)))
    lines = rest.split("\n")
    end = next((i for i, line in enumerate(lines) if not line.strip() or (i and _ends_summary(lines, i))), len(lines))
    paragraph = " ".join(" ".join(lines[:end]).split())
    summary, more = first_sentence(paragraph)
    after = lines[end:]
    if after and _UNDERLINE.match(after[0]):
        after = after[1:]
    return Parts(summary, signatures, "\n".join([more, *after] if more else after).strip())


def _ends_summary(lines: list[str], i: int) -> bool:
    return bool(_BLOCK.match(lines[i]) or _UNDERLINE.match(lines[i]))


def plain(doc: str) -> str:
    """The docstring without the markup of roles and literals, and without what changes from run to run."""
    doc = _ROLE.sub(lambda match: match[1].strip(), _FENCE.sub("", _VARYING.sub("", doc)))
    return _ADDRESS.sub("", _LITERAL.sub(lambda match: match[1] or match[2], doc)).expandtabs(4)


def strip_signatures(doc: str) -> tuple[str, str]:
    """Cut leading signatures, even ones that span lines or share a line with the summary; return them and the rest."""
    found: list[str] = []
    while head := _HEAD.match(doc):
        end = _closing(doc, head.end())
        if end is None:
            break
        result = _RESULT.match(doc, end)
        after = result.end() if result else end
        rest = doc[after:]
        if not result and rest[:1] not in ("", "\n", ":") and not re.match(r"\s*--?\s|\.\s", rest):
            break
        found.append(" ".join(doc[:after].split()).rstrip(". -"))
        doc = rest.lstrip(" .:-\n")
    return "\n".join(found), doc.strip()


def _closing(doc: str, start: int) -> int | None:
    """Where the parenthesis that opened just before `start` is closed; None if that is far off."""
    depth = 1
    for i in range(start, min(len(doc), start + 1500)):
        depth += (doc[i] in "([{") - (doc[i] in ")]}")
        if depth == 0:
            return i + 1
    return None


def first_sentence(paragraph: str) -> tuple[str, str]:
    """The first sentence and the rest of a paragraph; abbreviations do not end a sentence."""
    for match in _SENTENCE_END.finditer(paragraph):
        if not _ABBREVIATION.search(paragraph[: match.start()]):
            return paragraph[: match.start()].strip(), paragraph[match.end() :].strip()
    return paragraph.strip(), ""


def normalise(text: str) -> str:
    """Lower case, words and digits only: what two texts are compared by."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def without(text: str, summary: str) -> str:
    """`text` with every occurrence of `summary` cut out, whatever its case, line breaks and punctuation."""
    words = re.findall(r"[^\W_]+", summary)
    if not words or normalise(summary) not in normalise(text):
        return text
    pattern = r"(?<![^\W_])" + r"[\W_]+".join(map(re.escape, words)) + r"(?![^\W_])\.?"
    return re.sub(pattern, "", text, flags=re.IGNORECASE).strip()


def count_words(text: str) -> int:
    """The number of natural words."""
    return len(_WORD.findall(text))


def is_english(text: str) -> bool:
    """Whether nearly all letters are ASCII and at least a third of the characters are letters."""
    letters = [char for char in text if char.isalpha()]
    return (
        bool(letters)
        and sum(map(str.isascii, letters)) >= 0.9 * len(letters)
        and 3 * len(letters) >= len(text.replace(" ", ""))
    )
