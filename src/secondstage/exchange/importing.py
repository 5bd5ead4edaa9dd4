"""Lists of other toolkits, made into a collection that can be trained on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from secondstage.errors import Faults, UserError
from secondstage.files import refuse_foreign, replacing, write_manifest
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists

from .formats import FORMATS, Passage, TextList, from_row
from .rows import read_rows

KIND = "imported lists"
GIVEN = "given"
TEACHER = "teacher"
RUN = "given.trec"
SCORES = "teacher.trec"
# 80 bits: two of a billion texts share an id with a chance of a millionth.
DIGEST = 20

Judged = dict[str, dict[str, Passage]]


def import_lists(path: Path, form: str, out: Path) -> list[str]:
    """Make a file of lists into a folder in BEIR layout, whole or not at all.

    `corpus.jsonl`, `queries.jsonl` and `qrels/train.tsv` are a collection: ids are digests of the texts, so that a text
    is there once. `given.trec` has each query's documents, for `first_stage.kind: run`; such files do not say how a
    first stage ranked them, so all have the same score, and nothing about a first stage can be proven with them.
    `teacher.trec` has the scores of the teacher, if there are any, for a teacher of the kind run; `lists/` all of it as
    training lists.

    Args:
        path: JSON lines, plain or gzipped, or Parquet.
        form: one of `FORMATS`.
        out: a new folder, or one made so before, which is replaced.

    Returns:
        What was read, and what was taken otherwise than it is written, in sentences.

    Raises:
        UserError: with all faults and their lines, or `out` is something else.
    """
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r} to read: give one of {', '.join(FORMATS)}")
    refuse_foreign(out, KIND)
    faults = Faults(f"{path} as {form}")
    counts: Counter[str] = Counter()
    with replacing(out) as folder:
        judged = _read(path, form, folder, faults, counts)
        faults.raise_if_any("Mend these rows: nothing was written")
        if not judged:
            raise UserError(f"{path} holds no list with a positive: nothing was written")
        scored = _write(folder, judged)
        notes = _notes(out, judged, counts, scored=scored)
        write_manifest(folder, KIND, source=path.name, format_read=form, notes=notes)
    return notes


def text_id(letter: str, text: str) -> str:
    """The id of a text: a letter and a digest. A letter first: a spreadsheet would take some digests for numbers."""
    return letter + hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def _read(path: Path, form: str, folder: Path, faults: Faults, counts: Counter[str]) -> Judged:
    """Write the texts as they come, and return what each query has: only ids and numbers are held."""
    judged: Judged = {}
    seen: set[str] = set()
    with (
        (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as queries,
    ):
        for where, row in read_rows(path, faults):
            try:
                found = from_row(row, form)
            except ValueError as error:
                faults.add(f"{where}: {error}")
                continue
            if not found.positives:
                counts["without a positive"] += 1
                continue
            query_id = text_id("q", found.query)
            if query_id not in judged:
                _write_json(queries, {"_id": query_id, "text": found.query})
            _merge(judged.setdefault(query_id, {}), found, corpus, seen, counts)
    counts["documents"] = len(seen)
    return judged


def _merge(known: dict[str, Passage], found: TextList, corpus: IO[str], seen: set[str], counts: Counter[str]) -> None:
    """Add a row's documents to those of its query; where rows differ the higher relevance holds."""
    for passage in (*found.positives, *found.negatives):
        doc_id = text_id("d", passage.text)
        if doc_id not in seen:
            seen.add(doc_id)
            _write_json(corpus, {"_id": doc_id, "title": "", "text": passage.text})
        before = known.get(doc_id, passage)
        counts["both"] += (before.relevance > 0) != (passage.relevance > 0)
        score = passage.score if before.score is None else before.score
        # The text is in the corpus, and need not be held.
        known[doc_id] = Passage("", max(before.relevance, passage.relevance), score)


def _write(folder: Path, judged: Judged) -> bool:
    """Write qrels, run and lists; return whether a teacher's scores are among them."""
    (folder / "qrels").mkdir()
    with (
        (folder / "qrels" / "train.tsv").open("w", encoding="utf-8") as qrels,
        (folder / RUN).open("w", encoding="utf-8") as run,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for query_id, passages in judged.items():
            for rank, (doc_id, passage) in enumerate(passages.items(), 1):
                if passage.relevance:
                    qrels.write(f"{query_id}\t{doc_id}\t{passage.relevance}\n")
                run.write(f"{query_id} Q0 {doc_id} {rank} 0.0 {GIVEN}\n")
    scored = any(passage.score is not None for passages in judged.values() for passage in passages.values())
    if scored:
        _write_scores(folder / SCORES, judged)
    write_lists(folder / "lists", _lists(judged, scored), [GIVEN] if scored else [])
    return scored


def _write_scores(path: Path, judged: Judged) -> None:
    with path.open("w", encoding="utf-8") as file:
        for query_id, passages in judged.items():
            scores = {doc_id: passage.score for doc_id, passage in passages.items() if passage.score is not None}
            for rank, doc_id in enumerate(sorted(scores, key=scores.__getitem__, reverse=True), 1):
                file.write(f"{query_id} Q0 {doc_id} {rank} {scores[doc_id]!r} {TEACHER}\n")


def _lists(judged: Judged, scored: bool) -> Iterator[TrainingList]:
    for query_id, passages in judged.items():
        yield TrainingList(
            query_id,
            tuple(
                Candidate(
                    doc_id,
                    relevance,
                    judged=relevance > 0,
                    retriever=GIVEN,
                    rank=0,
                    score=0.0,
                    role=POSITIVE if relevance else NEGATIVE,
                    decision=GIVEN,
                    teacher_score=score,
                    teacher_scores=(score,) if scored else (),
                )
                for doc_id, (_, relevance, score) in passages.items()
            ),
        )


def _notes(out: Path, judged: Judged, counts: Counter[str], *, scored: bool) -> list[str]:
    positives = sum(passage.relevance > 0 for passages in judged.values() for passage in passages.values())
    candidates = sum(map(len, judged.values()))
    # All of each list: the defaults of mining would take some, chosen by the order of the ids.
    deep = max(map(len, judged.values()))
    most = max(sum(not passage.relevance for passage in passages.values()) for passages in judged.values())
    notes = [
        f"{out}: {len(judged)} queries, {counts['documents']} documents, {positives} positives, "
        f"{candidates - positives} negatives"
    ]
    if counts["without a positive"]:
        notes.append(f"left out: {counts['without a positive']} rows without a positive")
    if counts["both"]:
        notes.append(f"taken as positives: {counts['both']} times a document is positive and negative for one query")
    # As given: the teacher's scores are learnt from, and overrule no label.
    teacher = f", teachers: {{{GIVEN}: {{kind: run, run: {out / SCORES}}}}}, false_negatives: {{teacher: keep}}"
    if scored:
        notes.append(
            f"the teacher's scores are in {out / SCORES}, a teacher of the kind run; to learn from them as well: "
            "train: {loss: {kl: 1, lce: 0.2}}"
        )
    return [
        *notes,
        f"to train on these candidates: collection: {out}, first_stage: {{kind: run, run: [{out / RUN}]}}, "
        f"mine: {{max_share: null, depth: {deep}, negatives: {max(1, most)}{teacher * scored}}}; they have no order, "
        "so compare rerankers on them, never with the first stage",
        f"to mine from the search that you deploy, and to prove that reranking pays: collection: {out}, and another "
        "first stage",
    ]


def _write_json(file: IO[str], record: dict[str, str]) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
