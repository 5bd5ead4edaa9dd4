"""The words that BM25 indexes: cut from text in any script, folded, stemmed, without stop words.

Case, compatibility forms (NFKC: full width, ligatures) and invisible characters make no difference. A word is two
letters, digits or underscores or more, with the marks that belong to them: the vowel signs of Hindi, the accents of a
decomposed é. Chinese, Japanese, Thai, Lao, Khmer and Burmese write no spaces between words: a run of their characters,
each with its marks, is indexed by its pairs of neighbours, as Lucene does for Chinese and Japanese. What stands alone
between spaces is a word there, as is a syllable of Korean; like Lucene, it is not looked for within runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any
from unicodedata import category, normalize

from ..config import Bm25Config
from ..errors import UserError

# How words are cut, by number: to be raised whenever it changes, since an index holds the words of its time.
WORDS = 2

# Scripts without spaces, as NFKC leaves them: Thai and Lao, Burmese, Khmer; Japanese marks of repetition, kana, and the
# ideographs with their extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"
    "\u3005-\u3007\u303b\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HANGUL = "\uac00-\ud7af"
_RUN = re.compile(f"[{_UNSPACED}]+")
# A letter with its marks, in text of nothing but words and spaces. `\w` covers no marks.
_CHARACTER = re.compile(r"\w[^\w\s]*")
# In ASCII text the same as \b\w\w+\b; in other text, which is of words and spaces by then, marks belong to words, but
# begin none.
_WORD = rf"\w[^\x00-/:-@\[-^`{{-\x7f]+|[{_UNSPACED}{_HANGUL}]"
_ZERO_WIDTH_SPACE, _NON_JOINER = "\u200b\u200c"


def tokenize(config: Bm25Config, texts: Iterable[str]) -> list[list[str]]:
    """The words of each text, in their order."""
    import bm25s

    plain = config.language == "none"
    split: Any = bm25s.tokenize
    tokens: list[list[str]] = split(
        _folded(texts, config.language),
        token_pattern=_WORD,
        stopwords=[] if plain else list(_folded(_stop_words(config.language), config.language)),
        stemmer=None if plain else _stemmer(config.language),
        return_ids=False,
        show_progress=False,
    )
    return tokens


def check_language(language: str) -> None:
    """Raise `UserError` if there is no stemmer for the language, and it is not "none"."""
    import Stemmer

    known = ["none", *Stemmer.algorithms()]
    if language not in known:
        raise UserError(f"first_stage.bm25.language {language!r}: known are {', '.join(known)}")


def check_words(found: object, place: object) -> None:
    """Raise `UserError` if the words of an index, of which `found` is the number, are cut otherwise than now."""
    if found != WORDS:
        raise UserError(
            f"{place} holds an index of words that another version of secondstage cut from the texts otherwise: give "
            "the run's command again, which makes the first stage and the bundle anew"
        )


class _Characters(dict[int, "int | None"]):
    """For `str.translate`: what words consist of stays, what is not seen goes, all else is a space."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        kind = category(character)
        kept = kind[0] in "LN" or kind in ("Mn", "Mc") or character == "_"
        # Soft hyphens, joiners, directions; those that separate are spaces. Selectors of a variant are marks.
        unseen = kind == "Cf" and character not in (_ZERO_WIDTH_SPACE, _NON_JOINER)
        unseen = unseen or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
        self[code] = None if unseen else code if kept else ord(" ")
        return self[code]


_CHARACTERS = _Characters()


def _folded(texts: Iterable[str], language: str) -> Iterator[str]:
    """Each text, as far as it is not ASCII, as words and spaces, without case; runs without spaces as pairs."""
    turkish = language == "turkish"
    for text in texts:
        # I is the capital of a dotless i here, and nowhere else.
        text = text.replace("I\u0307", "i").replace("I", "ı") if turkish else text
        yield text if text.isascii() else _RUN.sub(_pairs, _fold(text))


def _fold(text: str) -> str:
    # A capital i with a dot, İ, folds to i and a dot of its own.
    folded = normalize("NFKC", text).casefold().replace("i\u0307", "i")
    return normalize("NFKC", folded).translate(_CHARACTERS)


def _pairs(run: re.Match[str]) -> str:
    characters: list[str] = _CHARACTER.findall(run.group())
    return f" {' '.join(map(''.join, pairwise(characters))) or ''.join(characters)} "


def _stemmer(language: str) -> Any:
    import Stemmer

    check_language(language)
    return Stemmer.Stemmer(language)


def _stop_words(language: str) -> list[str]:
    """bm25s' list for the language where it has one."""
    try:
        from bm25s.tokenization import _infer_stopwords

        return list(_infer_stopwords(language))
    except ValueError:
        return []
