"""Collections in files of their own: documents, queries and qrels as TREC, MS MARCO and BEIR write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from secondstage.collection import Document, Qrel, Query
from secondstage.errors import Faults

from .records import BEIR_COLUMNS, TREC_COLUMNS, QrelsReader, json_documents, json_queries
from .sgml import trec_documents, trec_topics
from .text import files_fingerprint, is_json_lines, plain_name, read_lines


class FilesSource:
    """Reads a file of documents, a file of queries, and a file of qrels for each split, plain or gzipped.

    Documents: JSON lines as in BEIR by the file's extension, TREC's SGML otherwise. Queries: JSON lines by the
    extension; TREC topics if the first character is `<`; lines of id, tab and text otherwise. There may be none.

    Raises:
        UserError: a file is missing; the message names all that are.
    """

    def __init__(self, documents: Path, queries: Path | None, qrels: Mapping[str, Path]) -> None:
        self.name = plain_name(documents).rpartition(".")[0] or plain_name(documents)
        self._documents, self._queries, self._qrels = documents, queries, dict(qrels)
        faults = Faults("collection files")
        keys = {"documents": documents, **({"queries": queries} if queries else {})}
        for key, path in {**keys, **{f"qrels.{split}": path for split, path in qrels.items()}}.items():
            if not path.is_file():
                faults.add(f"collection.{key}: {str(path)!r} is {'not a file' if path.exists() else 'missing'}")
        faults.raise_if_any("Paths are relative to the working directory")
        self._reader = QrelsReader(BEIR_COLUMNS, TREC_COLUMNS)

    def fingerprint(self) -> str:
        """A digest of every file that is read, with what it is read as."""
        files = {f"documents/{self._documents.name}": self._documents}
        if self._queries:
            files[f"queries/{self._queries.name}"] = self._queries
        qrels = {f"qrels/{split}/{path.name}": path for split, path in self._qrels.items()}
        return files_fingerprint({**files, **qrels}.items())

    def documents(self, faults: Faults) -> Iterator[Document]:
        """Every document, in the order of the file."""
        read = json_documents if is_json_lines(self._documents) else trec_documents
        return read(self._documents, faults)

    def queries(self, faults: Faults) -> Iterator[Query]:
        """Every query, in the order of the file; none if there is no file."""
        if self._queries is None:
            return iter(())
        if is_json_lines(self._queries):
            return json_queries(self._queries, faults)
        return (trec_topics if _starts_with_a_tag(self._queries) else _tab_queries)(self._queries, faults)

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The judgements by split, of three columns as in BEIR or of four as in TREC."""
        self._reader = QrelsReader(BEIR_COLUMNS, TREC_COLUMNS)
        return {split: self._reader.read(path, faults) for split, path in self._qrels.items()}

    def notes(self) -> list[str]:
        """What was read otherwise than it is written, or is not there."""
        return [*self._reader.notes(), *(() if self._queries else ("no queries and no qrels: only documents",))]


def _starts_with_a_tag(path: Path) -> bool:
    return next((line.lstrip().startswith("<") for _, line in read_lines(path, Faults("")) if line.strip()), False)


def _tab_queries(path: Path, faults: Faults) -> Iterator[Query]:
    for number, line in read_lines(path, faults):
        query_id, tab, text = line.rstrip("\r\n").partition("\t")
        if tab:
            yield Query(query_id.strip(), text.strip())
        elif line.strip():
            faults.add(f"{path}:{number}: no tab between a query id and its text")
