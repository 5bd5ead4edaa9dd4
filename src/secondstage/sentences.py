"""The sentence or heading that a text opens with, and a text without a sentence that was taken from it."""

from __future__ import annotations

import re
from itertools import takewhile
from unicodedata import category

from .pydocs.text import first_sentence

# From so many words on, a text that holds a query repeats it, and does not just name the same thing.
SENTENCE_WORDS = 8
# Characters: a first paragraph that is longer starts with no sentence that could be a query.
LONGEST_OPENING = 4000
# Words of a heading that says something; one with fewer names a section, as "Install" does, of many documents.
HEADING_WORDS = 4
# A heading at the start of a Markdown text, marked or underlined.
_HEADING = re.compile(
    r" {0,3}#{1,6}[ \t]+(?P<marked>[^\n]*?)(?:[ \t]+#+)?[ \t]*(?:\n\s*|$)"
    r"|(?=[^\n]*\w)(?P<lined>[^\n]+)\n {0,3}(?:={2,}|-{2,})[ \t]*(?:\n\s*|$)"
)

# Scripts that are written without spaces, or glue particles to their words: there, words have no edges to look for.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
# What ends a sentence in scripts that need no space after it: ideographic, Indic, Arabic and Urdu, Armenian, Ethiopic,
# Burmese.
_ENDS = "。！？।॥\u06d4\u061f\u0589\u1362\u104b"
_OTHER_END = re.compile(rf"(?<=[{_ENDS}])")
_UNITS = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


class _WithoutMarks(dict[int, "int | None"]):
    """For `str.translate`: marks go, but for those of scripts without spaces, which count as characters."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        self[code] = None if _is_mark(character) and not _UNITS.fullmatch(character) else code
        return self[code]


_WITHOUT_MARKS = _WithoutMarks()


def opening(text: str) -> str:
    """The first sentence of a text's first paragraph, on one line; empty if it has none.

    A Markdown heading before it is what it opens with, without its marks; one of a few words is passed over.
    """
    text = text[:LONGEST_OPENING].strip()
    while heading := _HEADING.match(text):
        words = " ".join((heading["marked"] or heading["lined"] or "").split())
        if len(units(words)) >= HEADING_WORDS:
            return words
        text = text[heading.end() :]
    paragraph = re.split(r"\n\s*\n", text, maxsplit=1)[0]
    return _OTHER_END.split(first_sentence(" ".join(paragraph.split()))[0], maxsplit=1)[0].strip()


def document_without(query: str, content: str) -> str:
    """A document without the query that was taken from it, whatever its case, line breaks and punctuation.

    A sentence is taken out wherever it stands. Of a name, which has fewer than 8 words, only the first place is: a text
    about asthma speaks of asthma, and without the word, its absence would become the sign of relevance. The marks of a
    Markdown heading go with it.

    Args:
        query: a title or a sentence of the document.
        content: its whole text.
    """
    places = list(re.finditer(r"[^\W_]+", query))
    if not places:
        return content
    words = [place.group() for place in places]
    # The last letter's own, a vowel sign of Hindi, say, which are no letters to a regular expression.
    marks = "".join(takewhile(_is_mark, query[places[-1].end() :]))
    everywhere = len(units(query)) >= SENTENCE_WORDS
    unspaced = re.compile(f"[{UNSPACED}]")
    before = "" if unspaced.match(words[0][0]) else r"(?<![^\W_])"
    after = "" if unspaced.match(words[-1][-1]) else r"(?![^\W_])"
    sentence = before + r"[\W_]+".join(map(re.escape, words)) + marks + after + rf"[.?!{_ENDS}]*"
    pattern = (
        rf"(?:^ {{0,3}}#{{1,6}}[ \t]+)?{sentence}(?:[ \t]+#+[ \t]*$)?(?:[ \t]*\n {{0,3}}(?:={{2,}}|-{{2,}})[ \t]*$)?"
    )
    return re.sub(pattern, "", content, count=not everywhere, flags=re.IGNORECASE | re.MULTILINE).strip()


def units(text: str) -> list[str]:
    """The words of a text, without their marks, which no word ends at; of scripts without spaces, the characters."""
    return _UNITS.findall(text if text.isascii() else text.translate(_WITHOUT_MARKS))


def _is_mark(character: str) -> bool:
    return category(character)[0] == "M"
