"""A collection: documents, queries, and relevance judgements (qrels) by split.

Documents live in a memory-mapped Arrow file: to hold a corpus costs no more than its ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from .errors import Faults, UserError
from .files import MANIFEST, read_manifest, refuse_foreign, replacing

KIND = "collection"
ROWS_PER_BATCH = 4096

Qrels = dict[str, dict[str, int]]
"""Relevance by query id and document id; 0 means judged and not relevant."""


class Document(NamedTuple):
    """One document; `title` may be empty.

    `metadata` is its further fields as a JSON object, for filters: no stage reads them. Empty if it has none.
    """

    doc_id: str
    title: str
    text: str
    metadata: str = ""

    @property
    def content(self) -> str:
        """What every stage reads: the title, a line break, and the text."""
        return f"{self.title}\n{self.text}" if self.title and self.text else self.title or self.text


class Query(NamedTuple):
    """One query; `synthetic` if no person typed it as a query.

    `clicked` are the documents that clicks alone judged relevant to it, not a person: later clicks may overturn them.
    """

    query_id: str
    text: str
    synthetic: bool = False
    clicked: Sequence[str] = ()


class Qrel(NamedTuple):
    """One relevance judgement, with ir_measures' field names."""

    query_id: str
    doc_id: str
    relevance: int


class Source(Protocol):
    """Where a collection is read from. Each reader adds what is wrong with a record to `faults` and goes on."""

    name: str

    def fingerprint(self) -> str:
        """A digest of everything that is read, cheap enough to be taken at every start."""
        ...

    def documents(self, faults: Faults) -> Iterator[Document]:
        """Every document, in the source's order."""
        ...

    def queries(self, faults: Faults) -> Iterator[Query]:
        """Every query, in the source's order."""
        ...

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The judgements by split ("train", "dev", "test" and any other name)."""
        ...

    def notes(self) -> list[str]:
        """What a reader of the collection should know, e.g. what was left out; asked for after the rest was read."""
        ...


class Documents:
    """The documents of a collection, memory-mapped: a row number or an id gives a `Document`."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> Document:
        columns = (self._table.column(name)[row].as_py() for name in self._names)
        return Document(*columns)

    def __iter__(self) -> Iterator[Document]:
        for batch in self._table.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield from map(Document, *(column.to_pylist() for column in batch.columns))

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._rows

    @cached_property
    def ids(self) -> list[str]:
        """The document ids by row."""
        return list(self._table.column("doc_id").to_pylist())

    @cached_property
    def _names(self) -> list[str]:
        # What was stored before documents had further fields has no such column.
        return [name for name in Document._fields if name in self._table.column_names]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self.ids)}

    def metadata(self) -> Iterator[str]:
        """The further fields of each document, by row, as JSON objects; empty where there are none."""
        if "metadata" not in self._names:
            return iter([""] * len(self))
        return (text for chunk in self._table.column("metadata").chunks for text in chunk.to_pylist())

    def by_id(self, doc_id: str) -> Document:
        """The document with this id; `KeyError` if there is none."""
        return self[self._rows[doc_id]]

    def contents(self, doc_ids: Sequence[str]) -> list[str]:
        """The `content` of each document, in the order of the ids.

        One row at a time: `take` on a table of several batches would first copy the whole corpus into memory.
        """
        return [self.by_id(doc_id).content for doc_id in doc_ids]


def beside(bundle: Path) -> Path | None:
    """The stored collection that a run left beside its bundle; none if there is none."""
    folder = bundle.absolute().parent / KIND
    return folder if (folder / MANIFEST).is_file() else None


class Collection:
    """Documents, queries, and qrels by split, read from a folder that `write_collection` made.

    Attributes:
        folder: where it lies.
        documents: the corpus, memory-mapped.
        queries: text by query id.
        synthetic: the ids of the queries that no person typed.
        clicked: of what the qrels have, the documents that clicks alone judged, by query id, where there are any.
        qrels: judgements by split: `qrels["test"][query_id][doc_id]` is a relevance.
        manifest: name, counts, notes and fingerprint.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        self.folder = folder
        self.manifest = read_manifest(folder, KIND)
        self.documents = Documents(folder / "documents.arrow")
        queries = pa.ipc.open_file(str(folder / "queries.arrow")).read_all()
        ids = queries.column("query_id").to_pylist()
        self.queries: dict[str, str] = dict(zip(ids, queries.column("text").to_pylist(), strict=True))
        marks = queries.column("synthetic").to_pylist() if "synthetic" in queries.column_names else []
        self.synthetic = frozenset(query_id for query_id, mark in zip(ids, marks, strict=False) if mark)
        clicked = queries.column("clicked").to_pylist() if "clicked" in queries.column_names else []
        self.clicked = {query_id: frozenset(found) for query_id, found in zip(ids, clicked, strict=False) if found}
        self.qrels: dict[str, Qrels] = {}
        rows = pa.ipc.open_file(str(folder / "qrels.arrow")).read_all()
        for split, *qrel in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            query_id, doc_id, relevance = qrel
            self.qrels.setdefault(split, {}).setdefault(query_id, {})[doc_id] = relevance

    @classmethod
    def load(cls, folder: str | Path) -> Collection:
        """Open a collection folder. `UserError` if it is none."""
        return cls(Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> Collection:
        """A collection folder, or one in BEIR layout, which is read anew, as it stands: no split is cut.

        What is read anew is kept as long as it is in use, and in no folder: `folder` is gone.

        Raises:
            UserError: it is neither, or faulty.
        """
        from .sources.beir import is_beir

        folder = Path(folder).absolute()
        if not is_beir(folder):
            return cls.load(folder)
        # Its documents stay mapped into memory when their file is gone: on POSIX, where secondstage runs.
        with TemporaryDirectory(prefix="secondstage-collection-") as place:
            try:
                return cls.read(folder, Path(place) / "collection", dev_share=0.0)
            except UserError as error:
                raise UserError(f"{error}\nHere: give what a run stored of it, OUTPUT/collection") from None

    @classmethod
    def read(cls, source: str | Path, folder: str | Path, **settings: Any) -> Collection:
        """Read a source (a BEIR folder, `pydocs`, `hf:<dataset id>`), validate it, and store it under `folder`.

        `settings` are those of the `collection` section of a config, e.g. `dev_share`.

        Raises:
            UserError: the source or a setting is faulty, or `folder` holds anything but a collection, which this one
                would replace.
        """
        from .config import CollectionConfig
        from .configfile import section_of
        from .intake import write_collection
        from .sources import open_source

        config = section_of(CollectionConfig, {"source": str(source), **settings}, "the settings of a collection")
        refuse_foreign(Path(folder), KIND)
        with replacing(Path(folder)) as temporary:
            opened = open_source(config)
            write_collection(
                opened,
                temporary,
                dev_share=config.dev_share,
                test_share=config.test_share,
                seed=13,
                drop_invalid=config.drop_invalid,
                digest=opened.fingerprint(),
            )
        return cls(Path(folder))

    @property
    def name(self) -> str:
        """The name of the source."""
        return str(self.manifest["name"])

    def documents_only(self) -> Collection:
        """The same documents, without a query or a judgement."""
        alone = copy(self)
        alone.queries, alone.synthetic, alone.clicked, alone.qrels = {}, frozenset(), {}, {}
        return alone

    def split(self, name: str) -> Qrels:
        """The judgements of one split.

        Raises:
            UserError: there is no such split; the message lists those there are.
        """
        if name not in self.qrels:
            raise UserError(f"collection {self.name!r} has no split {name!r}; it has {', '.join(self.qrels) or 'none'}")
        return self.qrels[name]
