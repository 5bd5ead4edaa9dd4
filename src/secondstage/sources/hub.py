"""A data set of the Hugging Face hub, laid out as BEIR's and MTEB's are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secondstage.collection import Document, Qrel, Query
from secondstage.errors import Faults, UserError
from secondstage.files import fingerprint

from .records import SPLITS, QrelsReader, id_text, to_document, to_query

QRELS_COLUMNS = ("query-id", "corpus-id", "score")
WAY_OUT = (
    "Check the id and the connection. Without a connection, set HF_HOME to a cache that holds the data set, or "
    "download it elsewhere as a BEIR folder and give the folder as collection.source"
)


class HubSource:
    """Reads the configurations `corpus` and `queries` of a data set, and its qrels where they are.

    MTEB keeps the qrels in the configuration `default` or `qrels`, BEIR in a second data set, `<id>-qrels`. The split
    `validation` is called dev here.

    Raises:
        UserError: the id is that of a local folder, which would be read in the hub's place.
    """

    def __init__(self, dataset_id: str) -> None:
        if not dataset_id or Path(dataset_id).exists():
            raise UserError(
                f"hf:{dataset_id} must name a data set of the hub, e.g. hf:BeIR/scifact; "
                "a folder in BEIR's layout is given without hf:"
            )
        self.name = dataset_id
        self._reader = QrelsReader()
        self._read_from: dict[str, None] = {}

    def fingerprint(self) -> str:
        """A digest of the id alone.

        The revision is unknown before the first download, and asking for it needs the network at every start: what
        was stored once stays valid, and `notes` says which revision it was.
        """
        return fingerprint("hub", self.name)

    def documents(self, faults: Faults) -> Iterator[Document]:
        """The corpus, row by row."""
        for where, row in self._rows("corpus"):
            if document := to_document(row, where, faults):
                yield document

    def queries(self, faults: Faults) -> Iterator[Query]:
        """The queries, row by row."""
        for where, row in self._rows("queries"):
            if query := to_query(row, where, faults):
                yield query

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The judgements by split.

        Raises:
            UserError: they are in none of the usual places; the message says what each attempt met.
        """
        self._reader = QrelsReader()
        attempts: list[str] = []
        for dataset_id, config in ((self.name, "default"), (self.name, "qrels"), (f"{self.name}-qrels", None)):
            place = f"{dataset_id} ({config})" if config else dataset_id
            try:
                splits = self._load(dataset_id, config)
            except UserError as error:
                attempts.append(str(error).splitlines()[0])
                continue
            if all(set(QRELS_COLUMNS) <= set(rows.column_names) for rows in splits.values()):
                return self._qrels_of(place, splits, faults)
            attempts.append(f"{place} lacks the columns {', '.join(QRELS_COLUMNS)}")
        raise UserError("\n  ".join([f"no qrels were found for data set {self.name!r}:", *attempts]) + f"\n{WAY_OUT}")

    def notes(self) -> list[str]:
        """Which revisions were read, and what was read otherwise than it is written."""
        read = [f"{name} at revision {_cached_revision(name) or 'unknown'}" for name in self._read_from]
        return [*(["read from the hub: " + ", ".join(read)] if read else []), *self._reader.notes()]

    def _qrels_of(self, place: str, splits: Mapping[str, Any], faults: Faults) -> dict[str, list[Qrel]]:
        found: dict[str, list[Qrel]] = {}
        for split, rows in splits.items():
            qrels = found.setdefault(SPLITS.get(split, split), [])
            for number, row in enumerate(rows, 1):
                query_id, doc_id = id_text(row["query-id"]), id_text(row["corpus-id"])
                score = row["score"]
                if query_id is None or doc_id is None:
                    faults.add(f"{place}, {split}, row {number}: ids must be strings or whole numbers")
                elif not isinstance(score, (int, float)) or score % 1:
                    faults.add(f"{place}, {split}, row {number}: score {score!r} is not a whole number")
                else:
                    qrels.append(self._reader.qrel(query_id, doc_id, int(score)))
        return found

    def _rows(self, config: str) -> Iterator[tuple[str, dict[str, Any]]]:
        splits = self._load(self.name, config)
        if config not in splits and len(splits) != 1:
            raise UserError(
                f"configuration {config!r} of data set {self.name!r} has the splits {', '.join(splits)}, "
                f"where one called {config!r} is expected"
            )
        rows = splits[config] if config in splits else next(iter(splits.values()))
        for number, row in enumerate(rows, 1):
            # MTEB's newer data sets call the id `id`.
            yield f"{self.name}, {config}, row {number}", {"_id": row.get("id"), **row}

    def _load(self, dataset_id: str, config: str | None) -> Mapping[str, Any]:
        import datasets

        try:
            splits: Any = datasets.load_dataset(dataset_id, config)
        except Exception as error:  # the hub's client, the HTTP client and the builders share no base class
            raise UserError(_cannot_load(dataset_id, config, error)) from error
        self._read_from[dataset_id] = None
        return {str(split): rows for split, rows in splits.items()}


def _cannot_load(dataset_id: str, config: str | None, error: Exception) -> str:
    part = f"configuration {config!r} of data set {dataset_id!r}" if config else f"data set {dataset_id!r}"
    reason = " ".join(str(error).split())
    return f"cannot load {part} from the hub: {type(error).__name__}: {reason:.300}\n{WAY_OUT}"


def _cached_revision(dataset_id: str) -> str | None:
    """The commit that the local cache holds, from the folder of the data set's card."""
    import huggingface_hub

    card = huggingface_hub.try_to_load_from_cache(dataset_id, "README.md", repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else None
