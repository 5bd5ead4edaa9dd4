"""What a collection keeps, what it refuses, and how it cuts dev from train."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.collection import ROWS_PER_BATCH, Collection, Document, Qrel, Qrels, Query
from secondstage.duplicates import normalise
from secondstage.errors import MAX_SHOWN, Faults, UserError
from secondstage.files import MANIFEST
from secondstage.intake import write_collection
from secondstage.splits import answerable, choose_queries, cut_split, group_queries

DOCUMENTS = [Document("d1", "A title", "a text"), Document("d2", "", "no title"), Document("d3", "no text", "")]
QUERIES = [Query("q1", "first?"), Query("q2", "second?")]
QRELS = {"train": [Qrel("q1", "d1", 2), Qrel("q1", "d2", 0)], "test": [Qrel("q2", "d3", 1)]}


class Fake:
    """A source in memory."""

    name = "fake"

    def __init__(
        self,
        documents: Iterable[Document] = DOCUMENTS,
        queries: Iterable[Query] = QUERIES,
        qrels: dict[str, list[Qrel]] | None = None,
    ) -> None:
        self._documents, self._queries = list(documents), list(queries)
        self._qrels = QRELS if qrels is None else qrels

    def fingerprint(self) -> str:
        return "fake"

    def documents(self, faults: Faults) -> Iterator[Document]:
        return iter(self._documents)

    def queries(self, faults: Faults) -> Iterator[Query]:
        return iter(self._queries)

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        return self._qrels

    def notes(self) -> list[str]:
        return ["a note of the source"]


def stored(folder: Path, source: Fake, dev_share: float = 0.0, **options: Any) -> Collection:
    folder.mkdir(exist_ok=True)
    write_collection(source, folder, dev_share=dev_share, seed=13, **options)
    return Collection.load(folder)


def refused(folder: Path, source: Fake) -> str:
    with pytest.raises(UserError) as caught:
        stored(folder, source)
    return str(caught.value)


def beir_folder(folder: Path, compress: bool = False) -> Path:
    """The collection above as BEIR files."""
    records = [{"_id": doc_id, "title": title, "text": text} for doc_id, title, text, _ in DOCUMENTS]
    lines = {
        "corpus.jsonl": [json.dumps(record) for record in records],
        "queries.jsonl": [json.dumps({"_id": query_id, "text": text}) for query_id, text, *_ in QUERIES],
        **{f"qrels/{split}.tsv": ["\t".join(map(str, qrel)) for qrel in qrels] for split, qrels in QRELS.items()},
    }
    (folder / "qrels").mkdir(parents=True)
    for name, content in lines.items():
        data = "".join(line + "\n" for line in content).encode()
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    collection = stored(tmp_path / "c", Fake(), digest="abc")
    assert list(collection.documents) == DOCUMENTS
    assert [collection.documents[row] for row in range(3)] == DOCUMENTS
    assert collection.documents.ids == ["d1", "d2", "d3"]
    assert len(collection.documents) == 3
    assert collection.queries == {"q1": "first?", "q2": "second?"}
    assert collection.qrels == {"train": {"q1": {"d1": 2, "d2": 0}}, "test": {"q2": {"d3": 1}}}
    assert collection.name == "fake"
    manifest = collection.manifest
    assert (manifest["documents"], manifest["queries"], manifest["faults"]) == (3, 2, 0)
    train, test = ({"queries": 1, "answerable": 1, "judgements": count, "highest": count} for count in (2, 1))
    assert manifest["splits"] == {"train": train, "test": test}
    assert manifest["fingerprint"] == "abc"
    assert manifest["notes"] == ["a note of the source"]


def test_settings_are_those_of_the_section(beir_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dev_shar: unknown key, did you mean 'dev_share'"):
        Collection.read(beir_folder, tmp_path / "c", dev_shar=1)
    with pytest.raises(UserError, match="dev_share: input should be less than or equal to 1, not 2"):
        Collection.read(beir_folder, tmp_path / "c", dev_share=2.0)
    assert not (tmp_path / "c").exists()


def test_documents_alone_are_the_same_documents(collection: Collection) -> None:
    alone = collection.documents_only()
    assert (alone.queries, alone.qrels, alone.synthetic, alone.clicked) == ({}, {}, frozenset(), {})
    assert alone.documents is collection.documents
    assert (alone.name, alone.folder) == (collection.name, collection.folder)
    assert len(collection.queries) == 64
    assert set(collection.qrels) == {"train", "dev", "test"}


def test_what_clicks_alone_judged_is_marked(tmp_path: Path) -> None:
    folder = beir_folder(tmp_path / "beir")
    lines = [
        {"_id": "q1", "text": "first?", "metadata": {"clicked": ["d1", 7, "d2"]}},
        {"_id": "q2", "text": "second?", "metadata": {"clicked": 3}},
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Collection.read(folder, tmp_path / "c").clicked == {"q1": {"d1", "d2"}}
    assert stored(tmp_path / "none", Fake()).clicked == {}


def test_synthetic_queries_are_marked(tmp_path: Path) -> None:
    queries = [Query("q1", "first?", synthetic=True), Query("q2", "second?")]
    collection = stored(tmp_path / "c", Fake(queries=queries))
    assert collection.synthetic == {"q1"}
    assert collection.queries == {"q1": "first?", "q2": "second?"}
    assert stored(tmp_path / "none", Fake()).synthetic == frozenset()
    assert stored(tmp_path / "empty", Fake(queries=[], qrels={})).synthetic == frozenset()


def test_a_collection_from_before_there_were_marks_still_opens(tmp_path: Path) -> None:
    folder = stored(tmp_path / "c", Fake(queries=[QUERIES[0]._replace(synthetic=True), QUERIES[1]])).folder
    path = folder / "queries.arrow"
    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_file(source).read_all().select(["query_id", "text"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    collection = Collection.load(folder)
    assert collection.queries == {"q1": "first?", "q2": "second?"}
    assert (collection.synthetic, collection.clicked) == (frozenset(), {})


def test_a_mark_in_a_beir_folder_is_stored_and_is_part_of_what_the_collection_is(tmp_path: Path) -> None:
    source = beir_folder(tmp_path / "tiny")
    before = Collection.read(source, tmp_path / "stored").manifest["fingerprint"]
    lines = [
        json.dumps({"_id": query_id, "text": text, "metadata": {"synthetic": query_id == "q2"}})
        for query_id, text, *_ in QUERIES
    ]
    (source / "queries.jsonl").write_text("\n".join(lines))
    collection = Collection.read(source, tmp_path / "stored")
    assert collection.synthetic == {"q2"}
    assert collection.manifest["fingerprint"] != before


def test_documents_are_found_by_id_in_any_order(tmp_path: Path) -> None:
    documents = stored(tmp_path / "c", Fake()).documents
    assert documents.contents(["d3", "d1", "d2", "d1"]) == ["no text", "A title\na text", "no title", "A title\na text"]
    assert documents.contents([]) == []
    assert documents.by_id("d2") == DOCUMENTS[1]
    assert "d2" in documents
    assert "d4" not in documents
    with pytest.raises(KeyError):
        documents.contents(["d4"])


def test_several_batches_are_read_without_loading_the_corpus(tmp_path: Path) -> None:
    count = 2 * ROWS_PER_BATCH + 1
    many = [Document(f"d{i}", "", f"text {i} " + "x" * 1000) for i in range(count)]
    documents = stored(tmp_path / "c", Fake(many, qrels={})).documents
    wanted = [f"d{i}" for i in (count - 1, 0, ROWS_PER_BATCH, ROWS_PER_BATCH - 1)]
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        contents = documents.contents(wanted)
    finally:
        pa.set_memory_pool(usual)
    assert contents == [many[int(doc_id[1:])].text for doc_id in wanted]
    assert (pool.max_memory() or 0) < 1000 * count / 10
    assert sum(1 for _ in documents) == count
    assert list(documents)[-1] == many[-1]


def test_all_faults_are_in_one_report(tmp_path: Path) -> None:
    documents = [
        *DOCUMENTS,
        Document("d1", "", "again"),
        Document("", "", "nameless"),
        Document("d 4", "", "white"),
        Document("d\x005", "", "control"),
        Document("d6", " ", "\n"),
        Document("d7", "", "half \ud800"),
    ]
    queries = [*QUERIES, Query("q1", "again"), Query("", "nameless"), Query("q\t3", "white"), Query("q4", " ")]
    queries.append(Query("q5", "\udfff"))
    qrels = {
        "test": [
            Qrel("q1", "d1", 1),
            Qrel("q1", "d1", 1),
            Qrel("q1", "d1", 2),
            Qrel("q9", "d1", 1),
            Qrel("q1", "d9", 1),
            Qrel("q1", "d2", 2**31),
        ]
    }
    report = refused(tmp_path / "c", Fake(documents, queries, qrels))
    assert report.splitlines() == [
        "collection 'fake': 15 faults",
        "  document id 'd1' is there twice",
        "  a document has an empty id",
        "  document id 'd 4' holds white space or a control character, which a TREC run cannot carry",
        "  document id 'd\\x005' holds white space or a control character, which a TREC run cannot carry",
        "  document 'd6' has neither title nor text",
        "  document 'd7' holds half a surrogate pair, which is no character",
        "  query id 'q1' is there twice",
        "  a query has an empty id",
        "  query id 'q\\t3' holds white space or a control character, which a TREC run cannot carry",
        "  query 'q4' has no text",
        "  query 'q5' holds half a surrogate pair, which is no character",
        "  test qrels judge 'q1' 'd1' twice, with different relevance",
        "  test qrels name an unknown query 'q9'",
        "  test qrels of query 'q1' name an unknown document 'd9'",
        "  test qrels judge 'q1' 'd2' with 2147483648, beyond 2147483647",
        "Mend the source, or leave the faulty records out with collection.drop_invalid=true",
    ]


def test_faulty_records_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    documents = [*DOCUMENTS, Document("d1", "", "again"), Document("d 4", "", "white")]
    qrels = {"test": [Qrel("q1", "d1", 1), Qrel("q1", "d1", 3), Qrel("q2", "d 4", 1)], "odd": [Qrel("q9", "d1", 1)]}
    collection = stored(tmp_path / "c", Fake(documents, qrels=qrels), drop_invalid=True)
    assert list(collection.documents) == DOCUMENTS
    assert collection.qrels == {"test": {"q1": {"d1": 1}}}
    assert collection.manifest["faults"] == 5
    assert any("left out as faulty" in note and "5 faults" in note for note in collection.manifest["notes"])


def test_beyond_the_first_faults_only_their_number_is_told(tmp_path: Path) -> None:
    extra = 7
    documents = [*DOCUMENTS, *(Document(f"empty{i}", "", "") for i in range(MAX_SHOWN + extra))]
    report = refused(tmp_path / "c", Fake(documents))
    assert f"{MAX_SHOWN + extra} faults" in report
    assert f"… and {extra} more" in report
    assert report.count("neither title nor text") == MAX_SHOWN


def test_a_collection_without_documents_is_refused_even_when_faults_may_be_dropped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)no valid document.*'d' has neither"):
        stored(tmp_path / "c", Fake([Document("d", "", "")], qrels={}), drop_invalid=True)


def test_a_missing_test_split_is_noted(tmp_path: Path) -> None:
    collection = stored(tmp_path / "c", Fake(qrels={"train": [Qrel("q1", "d1", 1)]}))
    assert "no test split: nothing can be evaluated on it" in collection.manifest["notes"]
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        collection.split("test")
    assert collection.split("train") == {"q1": {"d1": 1}}


def test_read_stores_and_a_second_read_replaces(tmp_path: Path) -> None:
    source, folder = beir_folder(tmp_path / "tiny"), tmp_path / "stored"
    first = Collection.read(source, folder, dev_share=0.0)
    assert first.name == "tiny"
    assert list(first.documents) == DOCUMENTS
    assert first.manifest["fingerprint"]
    (source / "queries.jsonl").write_text('{"_id": "q1", "text": "changed"}\n{"_id": "q2", "text": "x"}\n')
    second = Collection.read(source, folder, dev_share=0.0)
    assert second.queries["q1"] == "changed"
    assert second.manifest["fingerprint"] != first.manifest["fingerprint"]


def test_gzipped_files_give_the_same_collection(tmp_path: Path) -> None:
    plain = Collection.read(beir_folder(tmp_path / "plain" / "tiny"), tmp_path / "a")
    packed = Collection.read(beir_folder(tmp_path / "packed" / "tiny", compress=True), tmp_path / "b")
    assert packed.manifest["files"] == plain.manifest["files"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    source, folder = beir_folder(tmp_path / "tiny"), tmp_path / "out" / "stored"
    Collection.read(source, folder)
    with (source / "corpus.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(UserError, match=r"corpus\.jsonl:4: not JSON"):
        Collection.read(source, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["stored"]
    assert list(Collection.load(folder).documents) == DOCUMENTS
    with pytest.raises(UserError):
        Collection.read(source, tmp_path / "new" / "stored")
    assert list((tmp_path / "new").iterdir()) == []
    assert len(Collection.read(source, folder, drop_invalid=True).documents) == 3


def test_a_folder_that_is_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"is not a collection: it holds no {MANIFEST}"):
        Collection.load(tmp_path)


ids = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
texts = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    documents=st.dictionaries(ids, st.tuples(texts, texts).filter(lambda t: any(map(str.strip, t))), min_size=1),
    queries=st.dictionaries(ids, texts.filter(str.strip)),
)
def test_any_unicode_survives(
    tmp_path_factory: pytest.TempPathFactory, documents: dict[str, tuple[str, str]], queries: dict[str, str]
) -> None:
    written = [Document(doc_id, title, text) for doc_id, (title, text) in documents.items()]
    qrels = {"test": [Qrel(query_id, document.doc_id, 1) for query_id in queries for document in written]}
    source = Fake(written, [Query(*item) for item in queries.items()], qrels)
    collection = stored(tmp_path_factory.mktemp("c"), source)
    assert list(collection.documents) == written
    assert collection.queries == queries
    assert collection.qrels.get("test", {}) == {query_id: dict.fromkeys(documents, 1) for query_id in queries}


def chain(queries: int, shared: int = 1) -> Qrels:
    """Training qrels in which each document is relevant to `shared` neighbouring queries."""
    return {f"q{i}": {f"d{i // shared}": 1, f"n{i}": 0} for i in range(queries)}


def test_the_dev_cut_takes_its_share_and_is_noted() -> None:
    splits = {"train": chain(200)}
    notes = cut_split(splits, "dev", 0.1, 13)
    assert len(splits["dev"]) == 20
    assert {**splits["train"], **splits["dev"]} == chain(200)
    assert not splits["train"].keys() & splits["dev"].keys()
    assert notes == [
        "no dev split: 20 of 200 training queries were cut for it (seed 13); none shares a relevant document with train"
    ]


def test_the_dev_cut_depends_on_the_seed_and_not_on_the_order() -> None:
    items = list(chain(200, shared=2).items())
    one, other, third = (
        {"train": dict(items)},
        {"train": dict(random.Random(5).sample(items, len(items)))},
        chain(200, 2),
    )
    cut_split(one, "dev", 0.1, 13)
    cut_split(other, "dev", 0.1, 13)
    assert one["dev"] == other["dev"]
    assert list(one["dev"]) == list(other["dev"])
    seeded = {"train": third}
    cut_split(seeded, "dev", 0.1, 14)
    assert seeded["dev"].keys() != one["dev"].keys()


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 40), min_size=1, max_size=2), min_size=40, max_size=80), st.integers(0, 5))
def test_no_positive_is_in_train_and_dev_unless_it_is_said(positives: list[set[int]], seed: int) -> None:
    splits = {"train": {f"q{i}": {f"d{doc}": 1 for doc in docs} for i, docs in enumerate(positives)}}
    (note,) = cut_split(splits, "dev", 0.2, seed)
    train, dev = ({doc for judged in splits[name].values() for doc in judged} for name in ("train", "dev"))
    assert ("some share" in note) or not (train & dev)
    wanted = round(0.2 * len(positives))
    assert wanted / 2 <= len(splits["dev"]) <= wanted


def test_queries_of_the_same_words_are_on_one_side() -> None:
    """Whatever is relevant to them: one on either side would be a leak."""
    texts = {f"q{i}": f"Query {i % 40}!" if i < 80 else f"query  {i % 40}" for i in range(120)}
    apart: dict[str, Qrels] = {"train": {query_id: {f"d{query_id}": 1} for query_id in texts}}
    (note,) = cut_split(apart, "dev", 0.2, 13, texts)
    assert "none shares a relevant document" in note
    entangled: dict[str, Qrels] = {"train": {query_id: {"d": 1} for query_id in texts}}
    (note,) = cut_split(entangled, "dev", 0.2, 13, texts)
    assert "some share" in note
    for splits in (apart, entangled):
        sides = [{normalise(texts[query_id]) for query_id in splits[name]} for name in ("train", "dev")]
        assert not sides[0] & sides[1]
        assert len(splits["dev"]) == 24


def test_test_is_cut_before_dev_where_it_is_asked_for(tmp_path: Path) -> None:
    queries = [Query(f"q{i}", f"text {i}") for i in range(20)]
    train = {"train": [Qrel(query.query_id, "d1" if i < 2 else f"d{i}", 1) for i, query in enumerate(queries)]}
    documents = [Document(f"d{i}", "", "text") for i in range(20)]
    found = stored(tmp_path / "c", Fake(documents, queries, train), dev_share=0.25, test_share=0.2)
    assert {name: len(qrels) for name, qrels in found.qrels.items()} == {"test": 4, "dev": 4, "train": 12}
    assert set(found.queries) == {query_id for qrels in found.qrels.values() for query_id in qrels}
    assert [note.partition(":")[0] for note in found.manifest["notes"][1:]] == ["no test split", "no dev split"]
    given = {**train, "test": [Qrel("q0", "d1", 1)]}
    kept = stored(tmp_path / "given", Fake(documents, queries, given), test_share=0.2)
    assert kept.qrels["test"] == {"q0": {"d1": 1}}
    assert len(kept.qrels["train"]) == 20
    assert "test" not in stored(tmp_path / "none", Fake(documents, queries, train)).qrels


def test_entangled_queries_are_cut_all_the_same() -> None:
    splits: dict[str, Qrels] = {"train": {f"q{i}": {"d": 1} for i in range(50)}}
    (note,) = cut_split(splits, "dev", 0.1, 13)
    assert len(splits["dev"]) == 5
    assert "some share relevant documents with train" in note


@pytest.mark.parametrize(
    ("splits", "share"),
    [
        ({"train": chain(10), "dev": chain(1)}, 0.5),
        ({"train": chain(10)}, 0.0),
        ({"train": chain(1)}, 0.5),
        ({"test": chain(10)}, 0.5),
    ],
)
def test_there_is_no_cut_without_need(splits: dict[str, Qrels], share: float) -> None:
    before = {name: dict(qrels) for name, qrels in splits.items()}
    assert cut_split(splits, "dev", share, 13) == []
    assert splits == before


@pytest.mark.parametrize(("share", "dev"), [(0.01, 1), (1.0, 3)])
def test_both_sides_of_a_cut_keep_a_query(share: float, dev: int) -> None:
    splits = {"train": chain(4)}
    cut_split(splits, "dev", share, 13)
    assert (len(splits["dev"]), len(splits["train"])) == (dev, 4 - dev)


def test_queries_are_grouped_through_shared_positives_only() -> None:
    qrels = {
        "q4": {"d9": 1},
        "q1": {"d1": 1, "d5": 0},
        "q3": {"d2": 2},
        "q2": {"d1": 1, "d2": 1},
        "q5": {"d5": 1},
        "q6": {"d1": 0},
    }
    assert group_queries(qrels) == [["q1", "q2", "q3"], ["q4"], ["q5"], ["q6"]]


def test_only_queries_with_a_relevant_document_are_answerable() -> None:
    assert answerable({"q1": {"d1": 0, "d2": 3}, "q2": {"d1": 0}, "q3": {}}) == {"q1": {"d1": 0, "d2": 3}}


@pytest.mark.parametrize("count", [None, 5, 6])
def test_all_queries_are_chosen_where_there_are_not_more(count: int | None) -> None:
    assert choose_queries(iter("edcba"), count, 13) == list("edcba")


def test_the_choice_of_queries_depends_on_the_seed_and_keeps_the_order() -> None:
    query_ids = [f"q{i}" for i in range(100)]
    chosen = choose_queries(query_ids, 10, 13)
    assert len(chosen) == 10
    assert chosen == sorted(chosen, key=query_ids.index)
    assert choose_queries(query_ids[::-1], 10, 13) == chosen[::-1]
    assert set(choose_queries(query_ids, 10, 14)) != set(chosen)
    assert set(chosen) < set(choose_queries(query_ids, 20, 13))
