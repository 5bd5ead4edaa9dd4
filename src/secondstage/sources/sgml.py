"""TREC's SGML: `<DOC>` elements with a `<DOCNO>`, and topics in `<top>` elements."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from secondstage.collection import Document, Query
from secondstage.errors import Faults

from .text import read_lines

FLAGS = re.IGNORECASE | re.DOTALL
# Newswire calls the title by many names; it stands before the text.
TITLE = re.compile(r"<(TITLE|HEADLINE|HEAD|TTL|HL)(?:\s[^>]*)?>(.*?)(?:</\1>|\Z)", FLAGS)
DOCNO = re.compile(r"<DOCNO(?:\s[^>]*)?>(.*?)</DOCNO>", FLAGS)
DOCHDR = re.compile(r"<DOCHDR>.*?</DOCHDR>", FLAGS)
TEXT = re.compile(r"<TEXT(?:\s[^>]*)?>(.*?)(?:</TEXT>|\Z)", FLAGS)
MARKUP = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", FLAGS)
PROSE = re.compile(r"\s*[^\s<]")
# A topic's fields are not closed: each runs to the next tag.
NUMBER = re.compile(r"<num>\s*(?:Number\s*:)?\s*([^\s<]+)", FLAGS)
TOPIC_TITLE = re.compile(r"<title>\s*(?:Topic\s*:)?(.*?)(?=</?[A-Za-z]|\Z)", FLAGS)


def trec_documents(path: Path, faults: Faults) -> Iterator[Document]:
    """The documents of a file of `<DOC>` elements.

    The title is what `<TITLE>`, `<HEADLINE>`, `<HEAD>`, `<TTL>` or `<HL>` holds. The text is what the `<TEXT>`
    elements hold, or all the rest where there is none. Markup inside is dropped, character references are resolved.
    """
    for line, body in _elements(path, "DOC", faults):
        number = DOCNO.search(body)
        if number is None:
            faults.add(f"{path}:{line}: this <DOC> has no <DOCNO>")
            continue
        title, text = _title_and_text(body)
        yield Document(number[1].strip(), " ".join(_plain(title).split()), _plain(text))


def _title_and_text(body: str) -> tuple[str, str]:
    start = TEXT.search(body)
    title = TITLE.search(body[: start.start()] if start else body)
    found = title[2] if title else ""
    if start:
        return found, "\n".join(match[1].strip() for match in TEXT.finditer(body))
    return found, TITLE.sub("", DOCHDR.sub("", DOCNO.sub("", body)), count=1)


def _plain(markup: str) -> str:
    return html.unescape(MARKUP.sub(" ", markup)).strip()


def trec_topics(path: Path, faults: Faults) -> Iterator[Query]:
    """The queries of a file of `<top>` elements: the number and the title of each."""
    before, line = faults.count, 0
    for line, body in _elements(path, "top", faults):
        number, title = NUMBER.search(body), TOPIC_TITLE.search(body)
        for name, found in (("num", number), ("title", title)):
            if found is None:
                faults.add(f"{path}:{line}: this <top> has no <{name}>")
        if number and title:
            yield Query(number[1], " ".join(html.unescape(title[1]).split()))
    if not line and faults.count == before:
        faults.add(f"{path}: no <top> in it: give topics as TREC writes them, JSON lines, or an id, a tab and a text")


def _elements(path: Path, tag: str, faults: Faults) -> Iterator[tuple[int, str]]:
    """Each element's inside with the line it begins at; one in which a line could not be read is left out."""
    mark = re.compile(rf"(</?{tag}(?:\s[^>]*)?>)", re.IGNORECASE)
    body: list[str] = []
    begin = known = 0  # the line of the open tag, 0 outside of an element; the faults there were by then
    for number, line in read_lines(path, faults):
        for piece in mark.split(line):
            if mark.fullmatch(piece):
                closes = piece.startswith("</")
                if closes != (begin > 0):
                    met = "closes nothing" if closes else f"stands before the <{tag}> of line {begin} is closed"
                    faults.add(f"{path}:{number}: {piece} {met}")
                elif closes and faults.count == known:
                    yield begin, "".join(body)
                body, begin, known = [], 0 if closes else number, faults.count
            elif begin:
                body.append(piece)
            elif PROSE.match(piece):
                faults.add(f"{path}:{number}: text outside of any <{tag}>: {piece.strip()[:40]!r}")
    if begin:
        faults.add(f"{path}:{begin}: this <{tag}> is not closed")
