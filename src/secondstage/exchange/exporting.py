"""Training lists of a run, written for other toolkits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.files import replacing
from secondstage.lists import (
    IGNORED,
    INDEX,
    NEGATIVE,
    POSITIVE,
    Candidate,
    ListsIndex,
    TrainingList,
    read_index,
    read_lists,
)
from secondstage.sources.beir import is_beir
from secondstage.texts import PairTexts, texts_of_lists

from .formats import FORMATS, Passage, TextList, to_rows
from .rows import Row, check_new, write_rows

TREC = "trec"
RUN, QRELS = "run.trec", "qrels.trec"


def export_lists(
    folder: Path,
    form: str,
    out: Path,
    *,
    collection: Path | None = None,
    scores: bool = False,
    negatives: int | None = None,
) -> list[str]:
    """Write the training lists of a run in another toolkit's format, whole or not at all.

    Positives keep their grades in one list; ignored and dropped candidates are left out, as other toolkits have no mask
    for them. trec writes a folder with `run.trec`, all that the first stage found, and `qrels.trec`.

    Args:
        folder: the output folder of a run, or its mine folder.
        form: one of `FORMATS`, or trec.
        out: a new file (`.jsonl` or `.parquet`), for trec a new folder.
        collection: the collection folder, or one in BEIR layout; none means that beside the mine folder, or around it.
        scores: with the teachers' scores; candidates without one are left out.
        negatives: of an n-tuple; none means what most lists have. Lists with fewer are left out.

    Returns:
        What was written and what was left out, in sentences.

    Raises:
        UserError: no lists are there, no teacher scored them, the collection has no text of a query, or something is at
            `out` already.
    """
    mine = _mine_folder(folder)
    lists, index = mine / "train", read_index(mine / "train")
    _check(form, index, lists, scores=scores, negatives=negatives)
    if form == TREC:
        return _export_trec(lists, out)
    check_new(out)
    texts = texts_of_lists(Collection.open(collection or _collection(mine)), mine)
    count = (negatives or _usual(lists, scores=scores)) if form == "n-tuple" else 0
    left: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        for training_list in read_lists(lists):
            _check_texts(training_list, texts, lists)
            found = _texts(training_list, texts, scores, left)
            made = to_rows(found, form, scores=scores, negatives=count) if found.positives and found.negatives else []
            left["lists"] += not made
            yield from made

    written = write_rows(out, rows())
    named = f"{count} negatives each, " if count else ""
    sentences = [f"{out}: {written} rows of {index.lists - left['lists']} lists, {named}as {form}"]
    reasons = {
        "lists": f"lists without a positive or with fewer than {max(count, 1)} negatives",
        "ignored": "ignored candidates: other toolkits have no mask for them",
        "unscored": "candidates without a teacher's score",
    }
    return sentences + [f"left out: {left[key]} {reason}" for key, reason in reasons.items() if left[key]]


def _mine_folder(folder: Path) -> Path:
    for mine in (folder / "mine", folder):
        if (mine / "train" / INDEX).is_file():
            return mine
    raise UserError(
        f"{folder} holds no training lists (mine/train/{INDEX}): give the output folder of `secondstage mine CONFIG`"
    )


def _collection(mine: Path) -> Path:
    """Beside the lists of a run; those of feedback lie in the folder that is their collection."""
    beside = mine.parent / "collection"
    return mine.parent if not beside.exists() and is_beir(mine.parent) else beside


def _check_texts(training_list: TrainingList, texts: PairTexts, lists: Path) -> None:
    documents = (candidate.doc_id for candidate in training_list.candidates)
    unknown = next((f"document {each!r}" for each in documents if each not in texts.documents), "")
    if training_list.query_id not in texts.queries:
        unknown = f"query {training_list.query_id!r}"
    if unknown:
        raise UserError(
            f"{unknown} of {lists} has no text in the collection: name the one that these lists were made from with "
            "--collection"
        )


def _check(form: str, index: ListsIndex, lists: Path, *, scores: bool, negatives: int | None) -> None:
    if form not in (*FORMATS, TREC):
        raise UserError(f"there is no format {form!r}: give one of {', '.join((*FORMATS, TREC))}")
    if not index.lists:
        raise UserError(f"{lists} is empty: there is nothing to export")
    if scores and form == TREC:
        raise UserError("a TREC run holds the first stage's scores: leave out --scores")
    if scores and not index.teachers:
        raise UserError(f"no teacher scored {lists}: leave out --scores, or mine with mine.teachers")
    if negatives is not None and form != "n-tuple":
        raise UserError(f"--negatives is for n-tuple; {form} takes all negatives of a list")
    if negatives is not None and negatives < 1:
        raise UserError(f"--negatives {negatives}: an n-tuple has at least one negative")


def grade(candidate: Candidate) -> int:
    """The relevance that training takes: at least 1 for a positive, also one that a rule made; else 0."""
    return max(1, candidate.relevance) if candidate.role == POSITIVE else 0


def _texts(found: TrainingList, texts: PairTexts, scores: bool, left: Counter[str]) -> TextList:
    left["ignored"] += len(found.with_role(IGNORED))
    sides = []
    for role in (POSITIVE, NEGATIVE):
        kept = _exported(found, role, scores=scores)
        left["unscored"] += len(found.with_role(role)) - len(kept)
        read = zip(texts([(found.query_id, candidate.doc_id) for candidate in kept]), kept, strict=True)
        sides.append(tuple(Passage(text, grade(candidate), candidate.teacher_score) for (_, text), candidate in read))
    return TextList(texts.queries[found.query_id], *sides)


def _exported(found: TrainingList, role: str, *, scores: bool) -> list[Candidate]:
    """The candidates of a role; where scores are wanted, those that have one."""
    return [c for c in found.with_role(role) if not scores or c.teacher_score is not None]


def _usual(lists: Path, *, scores: bool) -> int:
    """How many negatives most lists have, with `scores` those that have one; of several such numbers the largest."""
    counts = Counter(len(_exported(found, NEGATIVE, scores=scores)) for found in read_lists(lists))
    del counts[0]
    return max(counts, key=lambda number: (counts[number], number), default=1)


def _export_trec(lists: Path, out: Path) -> list[str]:
    if out.exists():
        raise UserError(f"{out} is there already and is left alone: choose another folder, or delete it")
    found = judged = 0
    with (
        replacing(out) as folder,
        (folder / RUN).open("w", encoding="utf-8") as run,
        (folder / QRELS).open("w", encoding="utf-8") as qrels,
    ):
        for query_id, candidates in read_lists(lists):
            for c in sorted((c for c in candidates if c.rank), key=lambda c: c.rank):
                run.write(f"{query_id} Q0 {c.doc_id} {c.rank} {c.score!r} first_stage\n")
                found += 1
            for c in candidates:
                if c.role == POSITIVE or c.judged:
                    qrels.write(f"{query_id} 0 {c.doc_id} {grade(c) or c.relevance}\n")
                    judged += 1
    return [f"{out}: {RUN} with {found} candidates, {QRELS} with {judged} judgements"]
