"""The words of BM25: those of English as bm25s cuts them, those of any script whole, equal forms as one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.firststage.words import WORDS, check_words, tokenize

PLAIN = Bm25Config(language="none")


def words(text: str, language: str = "none") -> list[str]:
    (found,) = tokenize(Bm25Config(language=language), [text])
    return found


@pytest.mark.parametrize("language", ["none", "english", "german"])
def test_ascii_text_has_the_words_that_bm25s_gives_it(language: str) -> None:
    import bm25s
    import Stemmer

    rng = random.Random(1)
    usual = "The Brakes of a bicycle won't brake: snow_storm, C++ 3.14 of_the__init__ x 1 aren't RUNNING"
    texts = [usual, *("".join(map(chr, rng.choices(range(128), k=rng.randrange(300)))) for _ in range(200))]
    texts += [" ".join(rng.choices(usual.split(), k=40)) for _ in range(20)]
    oracle: Any = bm25s.tokenize
    expected = oracle(
        texts,
        stopwords=[] if language == "none" else language,
        stemmer=None if language == "none" else Stemmer.Stemmer(language),
        return_ids=False,
        show_progress=False,
    )
    assert tokenize(Bm25Config(language=language), texts) == expected
    # And it has the same words beside text that is not ASCII.
    assert [found[:-1] for found in tokenize(Bm25Config(language=language), [f"{text} łódź" for text in texts])] == (
        expected
    )


@pytest.mark.parametrize(
    "text",
    [
        "हिन्दी भाषा का इतिहास",
        "தமிழ் மொழி தீ",
        "বাংলা ভাষার ইতিহাস",
        "മലയാളം ഭാഷ",
        "مُحَمَّدٌ رَسُولُ",
        "שָׁלוֹם עולם",
        "ΑΒΓ ąę žluťoučký кириллица",
        "snow_storm łódź",
    ],
)
def test_a_word_is_whole_in_any_script(text: str) -> None:
    assert words(text) == text.casefold().split()
    assert words(f"«{text.replace(' ', '» — ')}।؟") == text.casefold().split()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("re\u0301sume\u0301", "résumé"),
        ("ＡＢＣ１２", "abc12"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("ﬁsh", "fish"),
        ("co\u00adoperate", "cooperate"),
        ("❤\ufe0flove", "love"),
        ("葛\U000e0100城", "葛城"),
        ("İstanbul", "istanbul"),
        ("I\u0307stanbul", "istanbul"),
        ("i\u0307stanbul", "istanbul"),
        ("STRASSE", "straße"),
        ("ΣΟΦΌΣ", "σοφός"),
        ("ක්\u200dෂය", "ක්ෂය"),
    ],
)
@pytest.mark.parametrize("language", ["none", "english", "turkish"])
def test_forms_of_one_word_are_the_same(one: str, other: str, language: str) -> None:
    assert words(one, language) == words(other, language) != []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rock´ing rolĺ", ["rock", "ing", "rolĺ"]),
        ("ジョン・スミス", ["ジョ", "ョン", "スミ", "ミス"]),
        ("می\u200cخواهم", ["می", "خواهم"]),
        ("ab\u200bcd", ["ab", "cd"]),
        ("a é 5 \u0301", []),
        ("1\ufe0f\u20e3", []),
    ],
)
def test_what_separates_words_is_in_none(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("猫", ["猫"]),
        ("人々", ["人々"]),
        ("第3章", ["第", "章"]),
        ("二〇〇一", ["二〇", "〇〇", "〇一"]),
        ("東京都 model学習", ["東京", "京都", "model", "学習"]),
        ("책 을 학교에", ["책", "을", "학교에"]),
        ("สวัสดี", ["สวั", "วัส", "สดี"]),
        ("ភាសាខ្មែរ", ["ភាសា", "សាខ្", "ខ្មែ", "មែរ"]),
        ("မြန်မာ", ["မြန်", "န်မာ"]),
    ],
)
def test_runs_without_spaces_are_pairs_of_characters_with_their_marks(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_turkish_has_two_letters_i() -> None:
    assert words("IRMAK İZMİR", "turkish") == words("ırmak izmir", "turkish")
    assert words("IRMAK") == ["irmak"]


def test_stop_words_are_folded_as_texts_are() -> None:
    assert words("daß DASS Straße", "german") == words("strasse", "german")
    assert words("E\u0301te\u0301 PAS", "french") == []


@pytest.mark.parametrize("found", [None, WORDS - 1, str(WORDS)])
def test_words_of_another_time_are_refused(found: object) -> None:
    check_words(WORDS, "here")
    with pytest.raises(UserError, match=r"here holds an index of words .* otherwise: give the run's command again"):
        check_words(found, "here")
