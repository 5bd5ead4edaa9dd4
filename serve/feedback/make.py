"""From judgements and clicks to a collection that can be trained on, and to training lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage import firststage
from secondstage.collection import Collection, Document, Documents, Qrels
from secondstage.errors import UserError
from secondstage.files import MANIFEST, read_json, read_manifest, refuse_foreign, replacing, write_manifest
from secondstage.firststage import FirstStage, search_run
from secondstage.lists import ListsIndex, has_labels, write_lists
from secondstage.run import Run

from ..opening import KIND as BUNDLE
from .events import read_events
from .labels import TRAIN, Known, Labels, gather
from .traininglists import training_list

KIND = "feedback"
LISTS = "mine"

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

    The folder is a source of a collection as it stands: `secondstage train CONFIG collection.source=OUTPUT`. The lists
    are what training reads of a mining, of these queries alone.

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
    known = Known(stored.queries, stored.qrels) if stored else Known({}, {})
    found, counts = gather(events, known, documents, least=least)
    counts["broken"] = events.broken
    if not found:
        raise UserError("\n".join(["nothing to train on follows from what was said", *_left_out(counts)]))
    run = _search(bundle, documents, found)
    with replacing(output) as folder:
        _write_beir(folder, documents, stored, found, counts)
        index, trainable = _write_lists(folder / LISTS, found, run)
        write_manifest(folder, KIND, counts=dict(sorted(counts.items())), **_made(found, index, trainable))
    return [
        f"{output}: {counts['judgements']} judgements and {counts['clicks']} clicks; {len(found)} queries with news, "
        f"{counts['clicked_positives']} positives by clicks, {counts['judgements_replaced']} judgements replaced",
        f"{output / LISTS / TRAIN}: {trainable} lists with a positive and a negative, of {index.lists}",
        *_left_out(counts),
        f"train on it: secondstage train CONFIG collection.source={output}",
    ]


def _made(found: Sequence[Labels], index: ListsIndex, trainable: int) -> dict[str, Any]:
    return {"queries": len(found), "lists": index.lists, "trainable": trainable}


def _left_out(counts: Mapping[str, int]) -> list[str]:
    return [f"left out: {counts[key]} {reason}" for key, reason in REASONS.items() if counts[key]]


def _collection(bundle: Path, given: Path | None) -> Collection | None:
    beside = bundle.absolute().parent / "collection"
    if given is None and not (beside / MANIFEST).is_file():
        return None
    return Collection.load(given or beside)


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


def _write_beir(
    folder: Path, documents: Documents, stored: Collection | None, found: Sequence[Labels], counts: Counter[str]
) -> None:
    """Write corpus, queries and qrels: those of the collection, and over them what was found."""
    new = {labels.query_id: labels for labels in found}
    qrels: dict[str, Qrels] = {split: dict(each) for split, each in stored.qrels.items()} if stored else {}
    qrels.setdefault(TRAIN, {}).update((query_id, labels.relevance) for query_id, labels in new.items())
    queries = {**(stored.queries if stored else {}), **{query_id: labels.query for query_id, labels in new.items()}}
    synthetic = stored.synthetic if stored else frozenset()
    _write_records(folder / "corpus.jsonl", map(record_of, documents))
    marks = {query_id: {"metadata": {"synthetic": True}} for query_id in synthetic}
    _write_records(
        folder / "queries.jsonl", ({"_id": each, "text": text, **marks.get(each, {})} for each, text in queries.items())
    )
    (folder / "qrels").mkdir()
    for split, judged in qrels.items():
        counts["qrels_without_document"] += _write_qrels(folder / "qrels" / f"{split}.tsv", judged, documents)


def record_of(document: Document) -> dict[str, Any]:
    """As a line of a BEIR corpus, with its further fields."""
    fields = {"metadata": json.loads(document.metadata)} if document.metadata else {}
    return {"_id": document.doc_id, "title": document.title, "text": document.text, **fields}


def _write_qrels(path: Path, qrels: Qrels, documents: Documents) -> int:
    """Write one split; return how many judgements are left out, as their document is not there any more."""
    left = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query_id, judged in qrels.items():
            for doc_id, relevance in judged.items():
                left += doc_id not in documents
                if doc_id in documents:
                    file.write(f"{query_id}\t{doc_id}\t{relevance}\n")
    return left


def _write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
