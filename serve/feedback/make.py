"""From judgements and clicks to a collection that can be trained on, and to training lists."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from secondstage import firststage
from secondstage.collection import Collection, Document, Documents, Qrels, beside
from secondstage.errors import UserError
from secondstage.files import read_json, read_manifest, refuse_foreign, replacing, write_manifest
from secondstage.firststage import FirstStage, search_run
from secondstage.lists import ListsIndex, has_labels, write_lists
from secondstage.run import Run

from ..opening import KIND as BUNDLE
from .events import read_events
from .labels import TRAIN, Known, Labels, gather
from .traininglists import training_list

KIND = "feedback"
LISTS = "mine"
# What `mine.reviewed` reads.
REVIEWED = "reviewed.tsv"

REASONS = {
    "broken": "lines that are no whole record",
    "held_out": "judgements and clicks of queries that another split than train asks: training would give them away",
    "no_document": "judgements and clicks of documents that the bundle does not have",
    "clicks_without_list": "clicks of searches that no journal has: what was passed over is not known",
    "undecided": "documents whose clicks contradict each other",
    "queries_without_news": "queries about which nothing new was said; a click on the first result says nothing",
    "qrels_without_document": "judgements of the collection, of documents that the bundle does not have",
}


def make_feedback(
    files: Sequence[Path], bundle: Path, output: Path, *, collection: Path | None = None, least: int = 1
) -> list[str]:
    """Write a BEIR folder that has what people said in its train split, and training lists below `mine/`.

    The folder is a source of a collection as it stands: `secondstage train CONFIG collection.source=OUTPUT`. That mines
    anew, from qrels, which do not say what was passed over for another: `mine.reviewed=OUTPUT/reviewed.tsv` does. The
    lists are what training reads of a mining, of these queries alone, e.g. to be exported.

    Args:
        files: of judgements, and journals.
        bundle: whose documents were searched.
        output: a new folder, or one that this has made.
        collection: a stored one, to which all this is added; none takes the one beside the bundle, if there is one.
        least: times that a preference must have been seen more often than its opposite.

    Returns:
        What was written and what was left out, in sentences.

    Raises:
        UserError: no such bundle, or collection, nothing was said in the files, or nothing follows from it.
    """
    read_manifest(bundle, BUNDLE, verify=True)
    refuse_foreign(output, KIND)
    events = read_events(files)
    documents, stored = Documents(bundle / "documents.arrow"), _collection(bundle, collection)
    known, gone = _known(stored, documents) if stored else (Known({}, {}), 0)
    found, counts = gather(events, known, documents, least=least)
    counts.update(broken=events.broken, qrels_without_document=gone)
    if not found:
        raise UserError("\n".join(["nothing to train on follows from what was said", *_left_out(counts)]))
    run = _search(bundle, documents, found)
    with replacing(output) as folder:
        _write_beir(folder, documents, known, stored.synthetic if stored else frozenset(), found)
        _write_reviewed(folder / REVIEWED, found)
        index, trainable = _write_lists(folder / LISTS, found, run)
        write_manifest(folder, KIND, counts=dict(sorted(counts.items())), **_made(found, index, trainable))
    return [
        f"{output}: {counts['judgements']} judgements and {counts['clicks']} clicks; {len(found)} queries with news, "
        f"{counts['clicked_positives']} positives by clicks, {counts['judgements_replaced']} judgements replaced",
        f"{output / LISTS / TRAIN}: {trainable} lists with a positive and a negative, of {index.lists}; a training "
        "mines its own instead",
        f"{output / REVIEWED}: {counts['skipped_negatives']} negatives that were passed over for a positive",
        *_left_out(counts),
        f"train on it: secondstage train CONFIG collection.source={output} mine.reviewed={output / REVIEWED}",
    ]


def _made(found: Sequence[Labels], index: ListsIndex, trainable: int) -> dict[str, Any]:
    return {"queries": len(found), "lists": index.lists, "trainable": trainable}


def _left_out(counts: Mapping[str, int]) -> list[str]:
    return [f"left out: {counts[key]} {reason}" for key, reason in REASONS.items() if counts[key]]


def _collection(bundle: Path, given: Path | None) -> Collection | None:
    folder = given or beside(bundle)
    return Collection.load(folder) if folder else None


def _search(bundle: Path, documents: Documents, found: Iterable[Labels]) -> Run:
    """What the bundle's first stage finds now for each query that it can answer."""
    first_stage: FirstStage = firststage.load(bundle / "first_stage")
    texts = {labels.query_id: labels.query for labels in found}
    answered = set(firststage.answered(first_stage, list(texts.values())))
    queries = {query_id: text for query_id, text in texts.items() if text in answered}
    return search_run(first_stage, documents.ids, queries, read_json(bundle / "pipeline.json")["depth"])


def _write_lists(folder: Path, found: Sequence[Labels], run: Run) -> tuple[ListsIndex, int]:
    """Write them as a mining does, with no dev queries; and say how many have both labels."""
    lists = [training_list(labels, run.get(labels.query_id)) for labels in found]
    index = write_lists(folder / TRAIN, lists)
    (folder / "dev.trec").touch()
    return index, sum(map(has_labels, lists))


def _known(stored: Collection, documents: Documents) -> tuple[Known, int]:
    """What a collection says of documents that the bundle has; and how many judgements it has of others."""
    qrels: dict[str, Qrels] = {split: {} for split in stored.qrels}
    gone = 0
    for split, judged in stored.qrels.items():
        for query_id, rows in judged.items():
            qrels[split][query_id] = {doc_id: rows[doc_id] for doc_id in rows if doc_id in documents}
            gone += len(rows) - len(qrels[split][query_id])
    return Known(stored.queries, qrels, stored.clicked), gone


def _write_beir(folder: Path, documents: Documents, known: Known, synthetic: Set[str], found: Sequence[Labels]) -> None:
    """Write corpus, queries and qrels: what is known, and over it what was found."""
    qrels: dict[str, Qrels] = {split: dict(each) for split, each in known.qrels.items()}
    qrels.setdefault(TRAIN, {}).update((labels.query_id, labels.relevance) for labels in found)
    queries = {**known.queries, **{labels.query_id: labels.query for labels in found}}
    clicked = {**known.clicked, **{labels.query_id: labels.clicks.positives for labels in found}}
    _write_records(folder / "corpus.jsonl", map(record_of, documents))
    marked = (
        ({"synthetic": True} if query_id in synthetic else {})
        | ({"clicked": sorted(clicked[query_id])} if clicked.get(query_id) else {})
        for query_id in queries
    )
    records = ({"_id": query_id, "text": text} for query_id, text in queries.items())
    _write_records(
        folder / "queries.jsonl",
        (record | ({"metadata": marks} if marks else {}) for record, marks in zip(records, marked, strict=True)),
    )
    (folder / "qrels").mkdir()
    for split, judged in qrels.items():
        _write_qrels(folder / "qrels" / f"{split}.tsv", judged)


def record_of(document: Document) -> dict[str, Any]:
    """As a line of a BEIR corpus, with its further fields."""
    fields = {"metadata": json.loads(document.metadata)} if document.metadata else {}
    return {"_id": document.doc_id, "title": document.title, "text": document.text, **fields}


def _write_qrels(path: Path, qrels: Qrels) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query_id, judged in qrels.items():
            file.writelines(f"{query_id}\t{doc_id}\t{relevance}\n" for doc_id, relevance in judged.items())


def _write_reviewed(path: Path, found: Iterable[Labels]) -> None:
    """Write what was passed over as a reviewed sample: not relevant beside what was clicked."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
        writer.writerow(["query_id", "doc_id", "reviewed"])
        for labels in found:
            writer.writerows([labels.query_id, doc_id, 0] for doc_id in sorted(labels.clicks.negatives))


def _write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
