"""Synthetic queries: made from documents, kept or not and why; and the texts that training reads of their pairs.

`mine` writes them as one JSON line each, training reads their texts from there: the collection itself stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from .collection import Collection, Documents, Qrels
from .errors import UserError
from .pydocs.text import first_sentence
from .unlabelled import read_unlabelled

SYNTHETIC = "synthetic.jsonl"
# How the ids of these queries begin.
ID_PREFIX = "synthetic-"
# Queries that stand in their document word for word, which is read without them.
TITLE = "title"
FIRST_SENTENCE = "first_sentence"
TAKEN = (TITLE, FIRST_SENTENCE)
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
# The rule of a query that another one, which is kept, repeats: its document answers that one as well.
SAME_TEXT = "same_text"

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


class SyntheticQuery(NamedTuple):
    """One query that was made from a document.

    Attributes:
        query_id: "synthetic-" and a digest.
        text: of the query; empty if the generator gave none.
        doc_id: the document it was made from.
        kind: "question", "keyword", "claim", "query", "title" or "first_sentence".
        generator: what made it.
        kept: whether it is used.
        rule: which rule dropped it, in one word; empty if it is kept.
        reason: the same in words.
        rank: of the document in the first stage's list, from 1; 0 if it is not in it, none if it was not searched.
        teacher_rank: its rank by the teacher among what the first stage found; none if it was not asked.
        same_as: the kept query that has the same text, of one with the rule "same_text".
    """

    query_id: str
    text: str
    doc_id: str
    kind: str
    generator: str
    kept: bool = True
    rule: str = ""
    reason: str = ""
    rank: int | None = None
    teacher_rank: int | None = None
    same_as: str = ""

    def dropped(self, rule: str, reason: str) -> SyntheticQuery:
        """The same query, not kept."""
        return self._replace(kept=False, rule=rule, reason=reason)


def write_synthetic(path: Path, queries: Iterable[SyntheticQuery]) -> None:
    """Write one JSON line for each query, kept or not."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(query._asdict(), ensure_ascii=False) + "\n" for query in queries)


def read_records(path: Path) -> Iterator[SyntheticQuery]:
    """Every query that `write_synthetic` wrote.

    Raises:
        UserError: there is no such file, or a line of it is no synthetic query.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield SyntheticQuery(**json.loads(line))
                except (ValueError, TypeError):
                    raise UserError(f"{path}:{number} is no synthetic query: mine again") from None
    except FileNotFoundError:
        raise UserError(f"{path} is missing: mine with mine.synthesize") from None


def read_synthetic(path: Path) -> dict[str, str]:
    """The texts of the kept queries, by id; errors as `read_records`."""
    return {query.query_id: query.text for query in read_records(path) if query.kept}


def synthetic_qrels(queries: Iterable[SyntheticQuery], relevance: int = 1) -> Qrels:
    """The documents that answer each kept query, with the relevance given, that of a positive.

    They are the one it was made from, and each one that gave a query of the same text and passed the same filters: it
    would be a false negative otherwise.
    """
    queries = list(queries)
    qrels: Qrels = {query.query_id: {query.doc_id: relevance} for query in queries if query.kept}
    for query in queries:
        if query.rule == SAME_TEXT and query.same_as in qrels:
            qrels[query.same_as][query.doc_id] = relevance
    return qrels


class PairTexts:
    """The texts of (query id, document id) pairs, of a collection's queries and of synthetic ones.

    A query that is the title or the first sentence of its document stands in it word for word: whoever learns from such
    pairs learns to look for copies. The document of such a pair is given without the query. In every other document the
    words of the query stay, so that an exact match is no sign of relevance; but it is given without its own title, or
    first sentence, so that the lack of one is no sign of relevance either.

    Attributes:
        queries: texts by query id.
        documents: the corpus.
    """

    def __init__(
        self, queries: Mapping[str, str], documents: Documents, synthetic: Iterable[SyntheticQuery] = ()
    ) -> None:
        """Put them together.

        Args:
            queries: texts by query id.
            documents: the corpus.
            synthetic: as `read_records` gives them.
        """
        synthetic = list(synthetic)
        self.queries = {**queries, **{query.query_id: query.text for query in synthetic if query.kept}}
        self.documents = documents
        self._taken = {query.query_id: query.kind for query in synthetic if query.kept and query.kind in TAKEN}
        answers = synthetic_qrels(synthetic)
        self._answers = {(query_id, doc_id) for query_id in self._taken for doc_id in answers[query_id]}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """(query text, document text) of each (query id, document id); `KeyError` if one is unknown."""
        return [(self.queries[query_id], self._content(query_id, doc_id)) for query_id, doc_id in pairs]

    def document_key(self, query_id: str, doc_id: str) -> object:
        """What tells the document's text in this pair: pairs of one key have the same."""
        if (query_id, doc_id) in self._answers:
            return query_id, doc_id
        return (self._taken[query_id], doc_id) if query_id in self._taken else doc_id

    def _content(self, query_id: str, doc_id: str) -> str:
        document = self.documents.by_id(doc_id)
        if (query_id, doc_id) in self._answers:
            return document_without(self.queries[query_id], document.content)
        if query_id not in self._taken:
            return document.content
        own = document.title if self._taken[query_id] == TITLE else opening(document.text)
        return document_without(own, document.content) or document.content


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


def texts_of_lists(collection: Collection, folder: Path) -> PairTexts:
    """The texts of the training lists in a folder: of the collection, and of the queries that are beside the lists.

    Raises:
        UserError: as `read_records` and `read_unlabelled`.
    """
    records = folder / SYNTHETIC
    synthetic = read_records(records) if records.is_file() else ()
    return PairTexts({**collection.queries, **read_unlabelled(folder)}, collection.documents, synthetic)


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
