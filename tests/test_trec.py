"""Documents, queries and qrels in files of their own."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from secondstage.collection import Collection, Document, Qrel, Query
from secondstage.config import CollectionConfig
from secondstage.errors import Faults, UserError
from secondstage.intake import write_collection
from secondstage.sources import open_source
from secondstage.sources.trec import FilesSource

DOCUMENTS = """<?xml version="1.0"?>
<root>
<DOC>
<DOCNO> FT-1 </DOCNO>
<!-- a comment -->
<HEADLINE>
FT  Profits &amp;
    losses
</HEADLINE>
<TEXT>
First <b>bold</b> line.

Second: 1 < 2.
</TEXT>
<BYLINE>By nobody</BYLINE>
<TEXT>More.</TEXT>
</DOC>
<doc><docno>2</docno><title>lower <i>case</i></title><author>me</author><hl>line</hl> rest</doc><DOC id="3">
<DOCNO>3</DOCNO><DOCHDR>http://example.org</DOCHDR>
<TEXT>bare</TEXT></DOC>
</root>
"""
TOPICS = """
<top>

<num> Number: 301
<title> International &amp; Organized
   Crime

<desc> Description:
Identify organizations.
</top>
<top><num>302</num><title>Topic: closed tags</title></top>
"""


def source_of(
    folder: Path, documents: str | bytes = DOCUMENTS, topics: str | bytes = TOPICS, qrels: str = "301 0 FT-1 1\n"
) -> FilesSource:
    contents = {"docs.sgml": documents, "topics.txt": topics, "qrels.txt": qrels}
    for name, content in contents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return FilesSource(folder / "docs.sgml", folder / "topics.txt", {"test": folder / "qrels.txt"})


def in_words(faults: Faults) -> list[str]:
    """The messages with the files' names instead of their paths."""
    return [re.sub(r"^.*?/(?=[\w.]+:\d+:)", "", message) for message in faults.messages]


def read_documents(source: FilesSource) -> tuple[list[Document], list[str]]:
    faults = Faults("test")
    return list(source.documents(faults)), in_words(faults)


def read_queries(source: FilesSource) -> tuple[list[Query], list[str]]:
    faults = Faults("test")
    return list(source.queries(faults)), in_words(faults)


def read_qrels(source: FilesSource) -> tuple[list[Qrel], list[str]]:
    faults = Faults("test")
    return source.qrels(faults)["test"], in_words(faults)


def test_trec_documents_are_read(tmp_path: Path) -> None:
    documents, faults = read_documents(source_of(tmp_path))
    assert faults == []
    assert [document.doc_id for document in documents] == ["FT-1", "2", "3"]
    assert documents[0].title == "FT Profits & losses"
    assert documents[0].text.split() == ["First", "bold", "line.", "Second:", "1", "<", "2.", "More."]
    assert "\n\nSecond" in documents[0].text
    assert (documents[1].title, documents[1].text.split()) == ("lower case", ["me", "line", "rest"])
    assert documents[2] == Document("3", "", "bare")


def test_faulty_documents_are_told_with_their_line_and_the_others_read(tmp_path: Path) -> None:
    lines = [
        b"<DOC><DOCNO>1</DOCNO><TEXT>good</TEXT></DOC>",
        b"<DOC><TEXT>nameless</TEXT></DOC>",
        b"<DOC><DOCNO>2</DOCNO><TEXT>",
        b"not UTF-8: \xff",
        b"</TEXT></DOC>",
        b"stray words",
        b"<DOC><DOCNO>3</DOCNO> not closed",
        b"<DOC><DOCNO>4</DOCNO><TEXT>good</TEXT></DOC>",
        b"</DOC>",
        b"<DOC><DOCNO>5</DOCNO> cut o",
    ]
    documents, faults = read_documents(source_of(tmp_path, b"\n".join(lines)))
    assert [document.doc_id for document in documents] == ["1", "4"]
    assert faults == [
        "docs.sgml:2: this <DOC> has no <DOCNO>",
        "docs.sgml:4: not UTF-8: invalid start byte at byte 12 of the line",
        "docs.sgml:6: text outside of any <DOC>: 'stray words'",
        "docs.sgml:8: <DOC> stands before the <DOC> of line 7 is closed",
        "docs.sgml:9: </DOC> closes nothing",
        "docs.sgml:10: this <DOC> is not closed",
    ]


def test_topics_are_read(tmp_path: Path) -> None:
    queries, faults = read_queries(source_of(tmp_path))
    assert queries == [Query("301", "International & Organized Crime"), Query("302", "closed tags")]
    assert faults == []


def test_topics_of_another_kind_are_told(tmp_path: Path) -> None:
    topics = '<topics>\n<topic number="1">\n<query>bread</query>\n</topic>\n</topics>\n'
    queries, faults = read_queries(source_of(tmp_path, topics=topics))
    assert not queries
    (fault,) = faults
    assert fault.endswith(
        "topics.txt: no <top> in it: give topics as TREC writes them, JSON lines, or an id, a tab and a text"
    )


def test_faulty_topics_are_told_with_their_line(tmp_path: Path) -> None:
    topics = "<top><num> 1 <desc> d\n</top>\n<top>\n<title> t </top>\n<top><num> 2 <title> good </top>"
    queries, faults = read_queries(source_of(tmp_path, topics=topics))
    assert queries == [Query("2", "good")]
    assert faults == ["topics.txt:1: this <top> has no <title>", "topics.txt:3: this <top> has no <num>"]


def test_queries_may_be_an_id_a_tab_and_a_text(tmp_path: Path) -> None:
    queries, faults = read_queries(source_of(tmp_path, topics="\ufeff7\twhat is <b>?\r\n\n8\ta\tb\nno tab\n"))
    assert queries == [Query("7", "what is <b>?"), Query("8", "a\tb")]
    assert faults == ["topics.txt:4: no tab between a query id and its text"]


def test_json_lines_are_told_by_the_extension(tmp_path: Path) -> None:
    corpus, queries = tmp_path / "corpus.JSONL", tmp_path / "queries.jsonl.gz"
    corpus.write_text('{"_id": 1, "text": "one"}\n')
    queries.write_bytes(gzip.compress(b'{"_id": "q", "text": "?"}\n'))
    source = FilesSource(corpus, queries, {})
    assert read_documents(source) == ([Document("1", "", "one")], [])
    assert read_queries(source) == ([Query("q", "?")], [])
    assert source.qrels(Faults("test")) == {}


def test_trec_qrels_are_read_and_negative_ones_noted(tmp_path: Path) -> None:
    source = source_of(tmp_path, qrels="301 0 FT-1 2\n301\tQ0\t2\t-2\n\n302 0   3 0\n")
    assert read_qrels(source) == ([Qrel("301", "FT-1", 2), Qrel("301", "2", 0), Qrel("302", "3", 0)], [])
    assert source.notes() == ["judgements with a negative relevance, taken as 0: 1"]


def test_beir_qrels_are_read_too(tmp_path: Path) -> None:
    source = source_of(tmp_path, qrels="query-id\tcorpus-id\tscore\n301\tFT-1\t1\n")
    assert read_qrels(source) == ([Qrel("301", "FT-1", 1)], [])
    assert source.notes() == []


def test_a_file_of_qrels_keeps_to_one_form(tmp_path: Path) -> None:
    qrels, faults = read_qrels(source_of(tmp_path, qrels="301 0 FT-1 1\n301 2 1\n301 0 2 1 x\n301 0 2 no\n"))
    assert qrels == [Qrel("301", "FT-1", 1)]
    assert faults == [
        "qrels.txt:2: 3 columns, where 4 are expected: query-id iteration doc-id relevance",
        "qrels.txt:3: 5 columns, where 4 are expected: query-id iteration doc-id relevance",
        "qrels.txt:4: score 'no' is not a whole number",
    ]


def test_qrels_that_begin_with_a_fault_are_read_on(tmp_path: Path) -> None:
    qrels, faults = read_qrels(source_of(tmp_path, qrels="junk\n301 0 FT-1 1\n"))
    assert qrels == [Qrel("301", "FT-1", 1)]
    assert faults == [
        "qrels.txt:1: 1 columns, where 3 or 4 are expected: query-id corpus-id score or query-id iteration doc-id "
        "relevance"
    ]


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        FilesSource(tmp_path / "docs", tmp_path, {"test": tmp_path / "qrels.txt"})
    assert str(caught.value).splitlines() == [
        "collection files: 3 faults",
        f"  collection.documents: '{tmp_path}/docs' is missing",
        f"  collection.queries: '{tmp_path}' is not a file",
        f"  collection.qrels.test: '{tmp_path}/qrels.txt' is missing",
        "Paths are relative to the working directory",
    ]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    packed = tmp_path / "docs.sgml.gz"
    packed.write_bytes(gzip.compress(DOCUMENTS.encode())[:-9])
    with pytest.raises(UserError, match=r"docs\.sgml\.gz is no whole gzip file"):
        list(FilesSource(packed, tmp_path / "topics.txt", {}).documents(Faults("test")))
    assert len(read_documents(source)[0]) == 3


def test_the_fingerprint_knows_contents_and_splits(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    usual = source.fingerprint()
    assert source_of(tmp_path).fingerprint() == usual
    files = tmp_path / "docs.sgml", tmp_path / "topics.txt"
    other_split = FilesSource(*files, {"dev": tmp_path / "qrels.txt"}).fingerprint()
    changed = source_of(tmp_path, topics=TOPICS.replace("301", "310")).fingerprint()
    assert len({usual, other_split, changed}) == 3


def test_a_config_of_gzipped_files_becomes_a_collection(tmp_path: Path) -> None:
    contents = {"ft.sgml.gz": DOCUMENTS, "topics.gz": TOPICS, "qrels.gz": "301 0 FT-1 1\n302 0 2 -1\n"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    config = CollectionConfig(
        documents=str(tmp_path / "ft.sgml.gz"),
        queries=str(tmp_path / "topics.gz"),
        qrels={"test": str(tmp_path / "qrels.gz")},
    )
    source = open_source(config)
    assert source.name == "ft"
    folder = tmp_path / "stored"
    folder.mkdir()
    write_collection(source, folder, dev_share=0.1, seed=13)
    collection = Collection.load(folder)
    assert collection.qrels == {"test": {"301": {"FT-1": 1}, "302": {"2": 0}}}
    assert "judgements with a negative relevance, taken as 0: 1" in collection.manifest["notes"]


def test_a_file_of_documents_alone_has_no_queries(tmp_path: Path) -> None:
    source_of(tmp_path)
    alone = open_source(CollectionConfig(documents=str(tmp_path / "docs.sgml")))
    (tmp_path / "collection").mkdir()
    details = write_collection(alone, tmp_path / "collection", dev_share=0.1, seed=13)
    assert (details["documents"], details["queries"], details["splits"]) == (3, 0, {})
    assert "no queries and no qrels: only documents" in details["notes"]
    assert Collection.load(tmp_path / "collection").queries == {}
    before = alone.fingerprint()
    (tmp_path / "docs.sgml").write_text(DOCUMENTS.replace("bare", "other"))
    assert alone.fingerprint() != before
