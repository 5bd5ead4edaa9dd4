"""BM25: its formula, its words, its order of equals, and its files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path

import numpy as np
import pytest

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config
from secondstage.errors import UserError
from secondstage.files import folder_digests
from secondstage.firststage import Hits
from secondstage.firststage import bm25 as bm25_module
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.words import tokenize

AsDocuments = Callable[[Sequence[str]], Documents]
PLAIN = Bm25Config(language="none")


def found(bm25: Bm25, query: str, depth: int = 10) -> list[int]:
    rows: list[int] = bm25.search([query], depth)[0].rows.tolist()
    return rows


def lucene(query: Sequence[str], texts: Sequence[Sequence[str]], k1: float, b: float) -> list[float]:
    """Lucene's BM25, by the book: every occurrence of a query word counts."""
    mean_length = sum(map(len, texts)) / len(texts)
    scores = []
    for words in texts:
        score = 0.0
        for word in query:
            containing = sum(word in other for other in texts)
            frequency = words.count(word)
            idf = log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
            score += idf * frequency / (frequency + k1 * (1 - b + b * len(words) / mean_length))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75), (2.0, 0.0), (0.5, 1.0)])
def test_scores_are_lucenes(as_documents: AsDocuments, k1: float, b: float) -> None:
    texts = ["snow frost ice", "snow snow coat scarf coat", "ice", "rail station ticket", "frost snow " * 9]
    bm25 = Bm25.build(Bm25Config(k1=k1, b=b, language="none"), as_documents(texts))
    words = [text.split() for text in texts]
    for query in ("snow", "snow ice", "coat coat", "rail unknown frost", "ice frost snow"):
        expected = lucene(query.split(), words, k1, b)
        hits = bm25.search([query], 10)[0]
        order = sorted((i for i in range(5) if expected[i] > 0), key=lambda i: -expected[i])
        assert hits.rows.tolist() == order
        assert hits.scores.tolist() == pytest.approx([expected[i] for i in order], rel=1e-5)
        assert hits.retrievers == ("bm25",) * len(order)


def test_english_words_are_stemmed_and_stop_words_left_out(as_documents: AsDocuments) -> None:
    documents = as_documents(["The brakes of a bicycle", "It was braking", "of the and"])
    english = Bm25.build(Bm25Config(), documents)
    assert found(english, "BRAKE") == [1, 0]
    assert found(english, "of the and") == []
    plain = Bm25.build(PLAIN, documents)
    assert found(plain, "brake") == []
    assert found(plain, "brakes") == [0]
    assert found(plain, "and") == [2]


def test_another_language_has_its_own_stems(as_documents: AsDocuments) -> None:
    documents = as_documents(["die Brücken", "eine Brücke", "der Fluss"])
    assert sorted(found(Bm25.build(Bm25Config(language="german"), documents), "Brücken")) == [0, 1]
    assert found(Bm25.build(PLAIN, documents), "Brücken") == [0]


@pytest.mark.parametrize("query", ["unknown", "", "  ", "?!", "x", "the of"])
def test_a_query_without_known_words_finds_nothing(as_documents: AsDocuments, query: str) -> None:
    hits = Bm25.build(Bm25Config(), as_documents(["snow frost", "ice"])).search([query, "snow"], 5)
    assert hits[0].rows.tolist() == []
    assert hits[0].scores.tolist() == []
    assert hits[0].retrievers == ()
    assert hits[1].rows.tolist() == [0]


def test_no_query_finds_no_list(as_documents: AsDocuments) -> None:
    assert Bm25.build(Bm25Config(), as_documents(["snow frost"])).search([], 5) == []


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 39, 40, 100])
def test_equal_scores_come_in_corpus_order_even_at_the_cut(as_documents: AsDocuments, depth: int) -> None:
    # Every fourth document is the better one; all others tie.
    bm25 = Bm25.build(PLAIN, as_documents(["snow snow" if i % 4 == 3 else "snow rail" for i in range(40)]))
    whole = [i for i in range(40) if i % 4 == 3] + [i for i in range(40) if i % 4 != 3]
    assert found(bm25, "snow", depth) == whole[:depth]


def test_only_documents_that_share_a_word_are_found(as_documents: AsDocuments) -> None:
    bm25 = Bm25.build(PLAIN, as_documents(["snow", "rail", "snow rail", "ice"]))
    assert sorted(found(bm25, "snow", 100)) == [0, 2]


def same(one: list[Hits], other: list[Hits]) -> bool:
    return len(one) == len(other) and all(
        a.rows.tolist() == b.rows.tolist() and a.scores.tobytes() == b.scores.tobytes() and a.retrievers == b.retrievers
        for a, b in zip(one, other, strict=True)
    )


def test_what_was_saved_gives_the_same_hits(collection: Collection, tmp_path: Path) -> None:
    config = Bm25Config(k1=1.2, b=0.7)
    built = Bm25.build(config, collection.documents)
    built.save(tmp_path)
    queries = [*collection.queries.values(), "unknown", "water key pedal"]
    hits = built.search(queries, 7)
    assert sum(len(h.rows) for h in hits) > 64
    assert same(Bm25.load(config, tmp_path).search(queries, 7), hits)


def test_a_batch_of_queries_finds_what_each_finds_alone(collection: Collection) -> None:
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    queries = list(collection.queries.values())[:9]
    assert same(bm25.search(queries, 5), [bm25.search([query], 5)[0] for query in queries])


SCRIPT = """
import sys
from pathlib import Path
from secondstage.collection import Collection
from secondstage.config import Bm25Config
from secondstage.firststage.bm25 import Bm25
Bm25.build(Bm25Config(), Collection.load(sys.argv[1]).documents).save(Path(sys.argv[2]))
"""


def test_the_same_corpus_gives_the_same_files_in_every_process(collection: Collection, tmp_path: Path) -> None:
    digests = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", SCRIPT, str(collection.folder), str(tmp_path / seed)]
        subprocess.run(command, check=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": seed})
        digests.append(folder_digests(tmp_path / seed))
    assert len(digests[0]) > 1
    assert digests[0] == digests[1]


def test_an_unknown_language_is_refused_with_those_known(as_documents: AsDocuments) -> None:
    with pytest.raises(UserError, match=r"first_stage\.bm25\.language 'klingon': known are none, .*english"):
        Bm25.build(Bm25Config(language="klingon"), as_documents(["snow"]))


def test_a_corpus_without_words_is_refused(as_documents: AsDocuments) -> None:
    with pytest.raises(UserError, match="no document holds a word that BM25 can index"):
        Bm25.build(Bm25Config(), as_documents(["?", "the of", "x"]))


def test_it_is_its_only_part(as_documents: AsDocuments) -> None:
    bm25 = Bm25.build(PLAIN, as_documents(["snow"]))
    assert dict(bm25.parts()) == {"bm25": bm25}


def test_scores_do_not_increase_and_rows_are_whole_numbers(collection: Collection) -> None:
    for hits in Bm25.build(Bm25Config(), collection.documents).search(list(collection.queries.values()), 20):
        assert hits.rows.dtype == np.int64
        assert hits.scores.dtype == np.float32
        assert (np.diff(hits.scores) <= 0).all()
        assert len(set(hits.rows.tolist())) == len(hits.rows)


def test_the_index_is_bm25s_own_to_the_bit(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    import bm25s

    config = Bm25Config(k1=1.2, b=0.7)
    words = tokenize(config, [document.content for document in collection.documents])
    vocabulary = {word: i for i, word in enumerate(sorted({word for each in words for word in each}))}
    oracle = bm25s.BM25(k1=1.2, b=0.7, method="lucene")
    oracle.index(([[vocabulary[word] for word in each] for each in words], vocabulary), show_progress=False)
    for chunk in (1, 7, 4096):
        monkeypatch.setattr(bm25_module, "CHUNK", chunk)
        monkeypatch.setattr(bm25_module, "SCORED", 100)
        index = Bm25.build(config, collection.documents)._index
        assert index.vocab_dict == {word: i for word, i in oracle.vocab_dict.items() if word}
        assert index.scores["num_docs"] == oracle.scores["num_docs"]
        for name in ("data", "indices"):
            assert index.scores[name].dtype == oracle.scores[name].dtype
            assert index.scores[name].tobytes() == oracle.scores[name].tobytes()
        assert index.scores["indptr"].tolist() == oracle.scores["indptr"][: len(index.scores["indptr"])].tolist()


def test_text_without_spaces_is_found_by_pairs_of_characters(as_documents: AsDocuments) -> None:
    documents = as_documents(
        ["東京都に住んでいます。", "京都の寺", "機械学習のモデル model", "학교에 간다", "カタカナ"]
    )
    for config in (PLAIN, Bm25Config()):
        bm25 = Bm25.build(config, documents)
        assert found(bm25, "東京") == [0]
        assert found(bm25, "京都") == [1, 0]
        assert found(bm25, "学習モデル") == [2]
        assert found(bm25, "model") == [2]
        assert found(bm25, "학교에") == [3]
        assert found(bm25, "タカ") == [4]


def test_text_from_right_to_left_is_found_by_its_words(as_documents: AsDocuments) -> None:
    bm25 = Bm25.build(PLAIN, as_documents(["כלב גדול רץ", "قطة صغيرة", "a כלב too"]))
    assert sorted(found(bm25, "כלב")) == [0, 2]
    assert found(bm25, "قطة") == [1]


def test_a_document_of_ten_megabytes_is_one_among_others(as_documents: AsDocuments) -> None:
    bm25 = Bm25.build(PLAIN, as_documents(["snow frost", "rail snow " * 1_000_000, "ice"]))
    assert sorted(found(bm25, "snow")) == [0, 1]
    assert found(bm25, "rail") == [1]


def test_equal_scores_beyond_one_chunk_keep_the_corpus_order(
    as_documents: AsDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bm25_module, "CHUNK", 3)
    bm25 = Bm25.build(PLAIN, as_documents(["snow", "rail"] * 10))
    assert found(bm25, "rail", 4) == [1, 3, 5, 7]


def test_hindi_is_found_by_each_of_its_words(as_documents: AsDocuments) -> None:
    texts = ["हिन्दी", "भाषा", "इतिहास", "नदी", "पर्वत", "मौसम", "रोटी", "गाँव"]
    for config in (PLAIN, Bm25Config(language="hindi")):
        bm25 = Bm25.build(config, as_documents([f"{text} है" for text in texts]))
        assert [found(bm25, text) for text in texts] == [[i] for i in range(len(texts))]


@pytest.mark.parametrize("number", [None, 1])
def test_an_index_of_words_cut_otherwise_is_refused(
    as_documents: AsDocuments, tmp_path: Path, number: int | None
) -> None:
    Bm25.build(PLAIN, as_documents(["snow"])).save(tmp_path)
    path = tmp_path / "bm25" / "words.json"
    assert path.is_file()
    if number is None:
        path.unlink()
    else:
        path.write_text(str(number))
    with pytest.raises(UserError, match=r"holds an index of words .* give the run's command again"):
        Bm25.load(PLAIN, tmp_path)
