"""BEIR folders: what is read, and the place of everything that cannot be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from secondstage.collection import Collection, Document, Qrel, Query
from secondstage.errors import Faults, UserError
from secondstage.intake import write_collection
from secondstage.sources.beir import BeirSource

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CORPUS = '{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "text": "two"}\n'
QUERIES = '{"_id": "q1", "text": "first?"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"


def folder_with(folder: Path, **files: str | bytes) -> Path:
    """A BEIR folder; `corpus`, `queries` and every other name, a split, give the files that differ from the usual."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, content in {"corpus": CORPUS, "queries": QUERIES, **(files or {"test": QRELS})}.items():
        path = folder / (f"{name}.jsonl" if name in ("corpus", "queries") else f"qrels/{name}.tsv")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(
    folder: Path,
) -> tuple[list[Document], list[Query], dict[str, list[Qrel]], list[str]]:
    source, faults = BeirSource(folder), Faults("test")
    documents, queries = list(source.documents(faults)), list(source.queries(faults))
    qrels = source.qrels(faults)
    return documents, queries, qrels, [message.replace(f"{folder}/", "") for message in faults.messages]


def faults_of(folder: Path) -> list[str]:
    return read(folder)[-1]


def test_a_validation_split_is_dev(tmp_path: Path) -> None:
    """As on the hub; where there is a dev split as well, it keeps its name."""
    source = BeirSource(folder_with(tmp_path / "one", validation=QRELS, test=QRELS))
    assert source.qrels(Faults("test")).keys() == {"dev", "test"}
    assert source.notes() == ["qrels/validation.tsv is read as the split dev"]
    both = BeirSource(folder_with(tmp_path / "both", validation=QRELS, dev=QRELS))
    assert both.qrels(Faults("test")).keys() == {"dev", "validation"}
    assert both.notes() == []


def test_files_that_are_no_qrels_are_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    for name in ("dev.csv", ".DS_Store", "train.txt"):
        (folder / "qrels" / name).write_text(QRELS)
    (folder / "qrels" / "older").mkdir()
    source = BeirSource(folder)
    assert source.qrels(Faults("test")).keys() == {"test"}
    assert source.notes() == ["passed over in qrels, whose files are <split>.tsv: dev.csv, train.txt"]
    for i in range(9):
        (folder / "qrels" / f"a{i}").write_text("")
    assert BeirSource(folder).notes()[0].endswith(": a0, a1, a2, a3, a4 and 6 more")


def test_qrels_of_other_names_alone_are_no_qrels(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "test.csv")
    (tmp_path / "alone" / "qrels").mkdir(parents=True)
    (tmp_path / "alone" / "corpus.jsonl").write_text(CORPUS)
    (tmp_path / "alone" / "qrels" / "README").write_text("none yet")
    assert BeirSource(tmp_path / "alone").qrels(Faults("test")) == {}
    with pytest.raises(
        UserError, match=r"no qrels/<split>\.tsv, but test\.csv: name them so, and part their columns by tabs"
    ):
        BeirSource(folder)


def test_a_folder_is_read(tmp_path: Path) -> None:
    assert read(folder_with(tmp_path / "tiny")) == (
        [Document("d1", "T", "one"), Document("d2", "", "two")],
        [Query("q1", "first?")],
        {"test": [Qrel("q1", "d1", 2), Qrel("q1", "d2", 0)]},
        [],
    )


def test_ids_may_be_numbers_and_titles_null(tmp_path: Path) -> None:
    corpus = '{"_id": 7, "title": null, "text": "seven", "metadata": {"a": [[1]]}}\n'
    documents, queries, _, faults = read(folder_with(tmp_path, corpus=corpus, queries='{"_id": -1, "text": "?"}'))
    assert (documents, queries, faults) == ([Document("7", "", "seven")], [Query("-1", "?")], [])


def test_fields_that_cannot_be_asked_for_are_counted(tmp_path: Path) -> None:
    corpus = '{"_id": "d1", "text": "one", "metadata": {"a": [1, 2.5, true], "b": {"c": 1}, "d": [[1]], "e": null}}\n'
    source, faults = BeirSource(folder_with(tmp_path, corpus=corpus)), Faults("f")
    assert [document.metadata for document in source.documents(faults)] == ['{"a": [1, 2.5, true]}']
    assert (faults.count, faults.notes()) == (
        0,
        ["metadata fields left out, as they are neither text, number, true or false, nor a list of such: 2"],
    )
    (tmp_path / "stored").mkdir()
    assert faults.notes()[0] in write_collection(source, tmp_path / "stored", dev_share=0.1, seed=1)["notes"]


@pytest.mark.parametrize(
    ("metadata", "synthetic"),
    [
        ('{"synthetic": true}', True),
        ('{"synthetic": true, "model": "x"}', True),
        ('{"synthetic": false}', False),
        ("{}", False),
        ("null", False),
        # Whatever else a data set keeps there is none of our business, and no fault.
        ('{"synthetic": 1}', False),
        ('{"synthetic": "true"}', False),
        ('["synthetic"]', False),
        ('"synthetic"', False),
    ],
)
def test_a_query_may_be_marked_as_synthetic(tmp_path: Path, metadata: str, synthetic: bool) -> None:
    line = f'{{"_id": "q1", "text": "first?", "metadata": {metadata}}}\n'
    _, queries, _, faults = read(folder_with(tmp_path, queries=line))
    assert queries == [Query("q1", "first?", synthetic)]
    assert faults == []


def test_marks_blank_lines_and_windows_line_ends_are_no_faults(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    folder = folder_with(
        tmp_path,
        corpus=bom + b'\r\n{"_id": "d1", "text": "one"}\r\n  \r\n{"_id": "d2", "text": "two"}',
        queries=bom + QUERIES.encode() + b"\n\n",
        test=bom + b"\r\nquery-id\tcorpus-id\tscore\r\nq1\td1\t1\r\n\r\n",
    )
    documents, queries, qrels, faults = read(folder)
    assert [document.doc_id for document in documents] == ["d1", "d2"]
    assert queries == [Query("q1", "first?")]
    assert qrels == {"test": [Qrel("q1", "d1", 1)]}
    assert faults == []


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0cd"
    corpus = json.dumps({"_id": "d1", "text": text}, ensure_ascii=False).replace("\\f", "\\u000c") + "\n"
    assert read(folder_with(tmp_path, corpus=corpus))[0] == [Document("d1", "", text)]


def test_every_fault_of_a_record_is_told_with_its_line(tmp_path: Path) -> None:
    lines = [
        '{"_id": "d1", "text": "good"}',
        '{"_id": "d2", "text": ',
        '["d3", "text"]',
        '{"text": "nameless"}',
        '{"_id": "", "text": "empty name"}',
        '{"_id": "d4", "title": "no text"}',
        '{"_id": "d5", "text": null}',
        '{"_id": 1.5, "text": "a float"}',
        '{"_id": true, "text": "a flag"}',
        '{"_id": "d6", "title": ["x"], "text": "t"}',
        "[" * 200_000,
        '{"_id": ' + "1" * 5000 + ', "text": "long"}',
        '{"_id": "d7", "text": "good"}',
    ]
    documents, _, _, faults = read(folder_with(tmp_path, corpus="\n".join(lines)))
    assert [document.doc_id for document in documents] == ["d1", "d7"]
    assert faults[:9] == [
        "corpus.jsonl:2: not JSON: Expecting value at column 22",
        "corpus.jsonl:3: a list, where a JSON object is expected",
        "corpus.jsonl:4: no '_id'; there is text",
        "corpus.jsonl:5: no '_id'; there is text",
        "corpus.jsonl:6: no 'text'",
        "corpus.jsonl:7: 'text' must be a string, not None",
        "corpus.jsonl:8: '_id' must be a string or a whole number, not 1.5",
        "corpus.jsonl:9: '_id' must be a string or a whole number, not True",
        "corpus.jsonl:10: 'title' must be a string, not ['x']",
    ]
    assert [fault.partition(" not JSON")[0] for fault in faults[9:]] == ["corpus.jsonl:11:", "corpus.jsonl:12:"]


def test_queries_are_checked_alike(tmp_path: Path) -> None:
    faults = faults_of(folder_with(tmp_path, queries='{"_id": "q1"}\nnope\n'))
    assert faults == ["queries.jsonl:1: no 'text'", "queries.jsonl:2: not JSON: Expecting value at column 1"]


def test_a_line_that_is_not_utf8_is_a_fault_and_the_next_is_read(tmp_path: Path) -> None:
    data = b'{"_id": "d1", "text": "caf\xe9"}\n{"_id": "d2", "text": "good"}\n'
    place = "not UTF-8: invalid continuation byte at byte 27 of the line"
    folder = folder_with(tmp_path / "plain", corpus=data)
    documents, _, _, faults = read(folder)
    assert documents == [Document("d2", "", "good")]
    assert faults == [f"corpus.jsonl:1: {place}"]
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(data))
    documents, _, _, faults = read(folder)
    assert documents == [Document("d2", "", "good")]
    assert faults == [f"corpus.jsonl.gz:1: {place}"]


def test_qrels_need_no_header_and_give_their_split_by_name(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, train="q1\td1\t1\n", hard="q1 d2 +3\n", empty="")
    (folder / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(QRELS.encode()))
    (folder / "qrels" / "._test.tsv").write_bytes(b"\x00\x05\x16\x07")
    assert read(folder)[2:] == (
        {
            "train": [Qrel("q1", "d1", 1)],
            "hard": [Qrel("q1", "d2", 3)],
            "empty": [],
            "test": [Qrel("q1", "d1", 2), Qrel("q1", "d2", 0)],
        },
        [],
    )


def test_faults_of_qrels_are_told_with_their_line(tmp_path: Path) -> None:
    test = "q1\td1\t1\nq1\td1\nq1\t0\td2\t1\nq1\td2\t0.5\nq1\td2\thigh\nquery-id\tcorpus-id\tscore\n"
    _, _, qrels, faults = read(folder_with(tmp_path, test=test))
    assert qrels == {"test": [Qrel("q1", "d1", 1)]}
    assert faults == [
        "qrels/test.tsv:2: 2 columns, where 3 are expected: query-id corpus-id score",
        "qrels/test.tsv:3: 4 columns, where 3 are expected: query-id corpus-id score",
        "qrels/test.tsv:4: score '0.5' is not a whole number",
        "qrels/test.tsv:5: score 'high' is not a whole number",
        "qrels/test.tsv:6: score 'score' is not a whole number",
    ]


def test_negative_relevance_counts_as_none_and_is_noted(tmp_path: Path) -> None:
    source = BeirSource(folder_with(tmp_path, test="q1\td1\t-2\nq1\td2\t1\n"))
    for _ in range(2):
        assert source.qrels(Faults("test")) == {"test": [Qrel("q1", "d1", 0), Qrel("q1", "d2", 1)]}
        assert source.notes() == ["judgements with a negative relevance, taken as 0: 1"]


def test_a_folder_without_qrels_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, corpus=CORPUS)
    (folder / "qrels").rmdir()
    documents, _, qrels, faults = read(folder)
    assert (len(documents), qrels, faults) == (2, {}, [])


def test_a_corpus_alone_has_no_queries(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(CORPUS)
    documents, queries, qrels, faults = read(tmp_path)
    assert (len(documents), queries, qrels, faults) == (2, [], {}, [])
    alone = BeirSource(tmp_path)
    assert alone.notes() == ["no queries.jsonl and no qrels: only documents"]
    before = alone.fingerprint()
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    assert BeirSource(tmp_path).fingerprint() != before
    assert BeirSource(tmp_path).notes() == []


def test_qrels_without_queries_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, test="q1\td1\t1\n")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(UserError, match=r"1 fault.*\n.*no queries\.jsonl"):
        BeirSource(folder)


def test_missing_files_are_told_with_what_a_folder_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        BeirSource(tmp_path)
    for words in (str(tmp_path), "no corpus.jsonl", "no queries.jsonl", "A BEIR folder holds", "qrels/<split>.tsv"):
        assert words in str(caught.value)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b""))
    (folder / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(UserError, match=r"(?s)2 faults.*both corpus.jsonl and.*both qrels/test.tsv and"):
        BeirSource(folder)


def corrupted(data: bytes, place: int) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[place] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(CORPUS.encode() * 99)[:-20],
        corrupted(CORPUS.encode(), 10),
        corrupted(CORPUS.encode(), -6),
        CORPUS.encode(),
        b"\x1f\x8b\x08",
    ],
    ids=["truncated", "content", "checksum", "not gzip", "stub"],
)
def test_a_gzip_file_that_is_not_whole_is_refused_even_when_faults_may_be_dropped(tmp_path: Path, data: bytes) -> None:
    folder = folder_with(tmp_path / "tiny")
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"corpus\.jsonl\.gz is no whole gzip file"):
        Collection.read(folder, tmp_path / "out" / "stored", drop_invalid=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    source = BeirSource(folder_with(tmp_path))
    (tmp_path / "corpus.jsonl").unlink()
    for read_it in (lambda: list(source.documents(Faults("test"))), source.fingerprint):
        with pytest.raises(UserError, match=r"cannot read .*corpus\.jsonl: No such file"):
            read_it()


def test_the_fingerprint_knows_contents_and_names_and_not_the_place(tmp_path: Path) -> None:
    one, same = folder_with(tmp_path / "a"), folder_with(tmp_path / "b")
    usual = BeirSource(one).fingerprint()
    assert BeirSource(same).fingerprint() == usual
    (one / "qrels" / "test.tsv").rename(one / "qrels" / "dev.tsv")
    renamed = BeirSource(one).fingerprint()
    (same / "corpus.jsonl").write_text(CORPUS.replace("one", "won"))
    assert len({usual, renamed, BeirSource(same).fingerprint()}) == 3


@pytest.mark.parametrize(("name", "documents", "test_queries"), [("scifact", 5183, 300), ("medquad", 16350, 2964)])
def test_real_collections_are_read(tmp_path: Path, name: str, documents: int, test_queries: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the collection {name} does not lie beside the repository")
    collection = Collection.read(DATA / name, tmp_path / "stored")
    assert collection.manifest["documents"] == documents
    assert len(collection.split("test")) == test_queries
    assert collection.manifest["faults"] == 0
