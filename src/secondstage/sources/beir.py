"""A BEIR folder: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, each plain or gzipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from secondstage.collection import Document, Qrel, Query
from secondstage.errors import Faults

from .records import BEIR_COLUMNS, SPLITS, QrelsReader, json_documents, json_queries
from .text import files_fingerprint, plain_name

LAYOUT = (
    "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv, each plain or with .gz; only documents may "
    "be there, but not qrels without queries"
)

# Names of files in a note.
SHOWN = 5


class BeirSource:
    """Reads a BEIR folder.

    One that holds nothing but a corpus has no queries: they can be made from the documents. `qrels/validation.tsv` is
    dev, unless there is a `dev.tsv`.

    Raises:
        UserError: the corpus is missing, or there are qrels without queries, or a file is there both plain and gzipped.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        faults = Faults(f"{folder}")
        self._corpus = _find(folder, "corpus.jsonl", faults)
        self._qrels, self._passed_over = _find_qrels(folder / "qrels", faults)
        corpus_alone = self._corpus.is_file() and not self._qrels and not [*folder.glob("queries.jsonl*")]
        self._queries = None if corpus_alone else _find(folder, "queries.jsonl", faults)
        faults.raise_if_any(LAYOUT[0].upper() + LAYOUT[1:])
        self._reader = QrelsReader(BEIR_COLUMNS)

    def fingerprint(self) -> str:
        """A digest of every file that is read, with its name in the folder."""
        qrels = ((f"qrels/{path.name}", path) for path in self._qrels.values())
        texts = ((path.name, path) for path in (self._corpus, self._queries) if path)
        return files_fingerprint([*texts, *qrels])

    def documents(self, faults: Faults) -> Iterator[Document]:
        """The corpus, line by line."""
        return json_documents(self._corpus, faults)

    def queries(self, faults: Faults) -> Iterator[Query]:
        """The queries, line by line; none if there is no file."""
        return json_queries(self._queries, faults) if self._queries else iter(())

    def qrels(self, faults: Faults) -> dict[str, list[Qrel]]:
        """The judgements, a split for every file; none if there is no file."""
        self._reader = QrelsReader(BEIR_COLUMNS)
        return {split: self._reader.read(path, faults) for split, path in self._qrels.items()}

    def notes(self) -> list[str]:
        """What was read otherwise than it is written, or is not there."""
        alone = () if self._queries else ("no queries.jsonl and no qrels: only documents",)
        return [*self._passed_over, *self._reader.notes(), *alone]


def is_beir(folder: Path) -> bool:
    """Whether a folder holds a corpus in this layout."""
    return bool(_forms(folder, "corpus.jsonl"))


def _forms(folder: Path, name: str) -> list[Path]:
    """The file, plain or gzipped, or both."""
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def _find(folder: Path, name: str, faults: Faults) -> Path:
    found = _forms(folder, name)
    if not found:
        faults.add(f"no {name}")
    elif len(found) > 1:
        faults.add(f"both {name} and {name}.gz, so that it is not clear which one is meant: delete one")
    return found[0] if found else folder / name


def _find_qrels(folder: Path, faults: Faults) -> tuple[dict[str, Path], list[str]]:
    """The files by split, and notes of what is passed over; hidden files, which file systems and archives leave behind,
    are none."""
    splits: dict[str, Path] = {}
    notes, others = [], []
    for path in sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith(".")):
        split = plain_name(path).removesuffix(".tsv")
        if split == plain_name(path):
            others.append(path.name)
            continue
        if split in splits:
            faults.add(f"both qrels/{split}.tsv and qrels/{split}.tsv.gz: delete one")
        splits[split] = path
    for name, own in SPLITS.items():
        if name in splits and own not in splits:
            notes.append(f"qrels/{splits[name].name} is read as the split {own}")
            splits[own] = splits.pop(name)
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        names = f"{', '.join(others[:SHOWN])}{more}"
        notes.append(f"passed over in qrels, whose files are <split>.tsv: {names}")
        if not splits and any(name.partition(".")[0] in ("train", "dev", "test", *SPLITS) for name in others):
            faults.add(f"no qrels/<split>.tsv, but {names}: name them so, and part their columns by tabs")
    return splits, notes
