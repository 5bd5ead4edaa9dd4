"""Synthesis as a whole: documents in, training queries out, and a line for every one that was made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from secondstage.answercache import Reply
from secondstage.collection import Collection, Qrels
from secondstage.config import Bm25Config, SynthesizeConfig
from secondstage.errors import UserError
from secondstage.files import file_digest
from secondstage.firststage.bm25 import Bm25
from secondstage.mine.costs import take_costs
from secondstage.mine.synthesis import held_out_documents, stage, synthesize
from secondstage.mine.synthesis.prompts import Messages
from secondstage.run import Scores
from secondstage.synthetic import SYNTHETIC, read_records, read_synthetic, synthetic_qrels
from secondstage.texts import PairTexts

from .conftest import TOPICS


class Writer:
    """Asks for the second and third word of the document, and is not to be understood every fourth time."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def complete(self, prompts: Sequence[Messages], **settings: Any) -> list[Reply]:
        self.prompts += [messages[-1]["content"] for messages in prompts]
        return [Reply(self.answer(messages[-1]["content"])) for messages in prompts]

    def answer(self, content: str) -> str:
        passage = content.partition("Now the document to write for:\n")[2].partition("\n\nWrite")[0].split()
        kind = "question" if "question" in content.rpartition("Write")[2] else "other"
        if sum(map(ord, "".join(passage))) % 4 == 0:
            return ""
        return f"Query: {passage[3]} about {passage[1]} {passage[4]} {'how' if kind == 'question' else ''}"

    def report(self) -> Mapping[str, Any]:
        return {"prompts": len(self.prompts)}


class Agrees:
    """A teacher who looks for the words of a query at the start of a document; topics, which make titles, are none."""

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        return [
            np.array([len({*text.split()[:3]} & {*q.split()} - {*TOPICS}) for text in texts], np.float32)
            for q, texts in lists
        ]

    def report(self) -> Mapping[str, Any]:
        return {}


@pytest.fixture(scope="module")
def bm25(collection: Collection) -> Bm25:
    return Bm25.build(Bm25Config(), collection.documents)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    made = Writer()
    monkeypatch.setattr(stage, "open_generator", lambda config, cache: made)
    return made


class Made(NamedTuple):
    """What synthesis left: the texts of the queries kept, the documents that answer them, and how many there were."""

    queries: dict[str, str]
    qrels: Qrels
    counts: dict[str, int]


def run(
    collection: Collection,
    bm25: Bm25,
    folder: Path,
    *,
    teach: bool = False,
    seed: int = 13,
    spared: Set[str] = frozenset(),
    **settings: Any,
) -> Made:
    folder.mkdir(parents=True)
    config = SynthesizeConfig(**{"min_words": 3, "documents": 40, **settings})
    teacher = Agrees() if teach else None
    cache = folder / "cache"
    places = {"folder": folder, "cache": cache, "costs": folder / "costs"}
    counts = synthesize(collection, bm25, teacher, config, seed=seed, **places, spared=spared)
    path = folder / SYNTHETIC
    return Made(read_synthetic(path), synthetic_qrels(list(read_records(path))), counts)


LOCAL: dict[str, Any] = {"generator": "local", "model": "m"}


@pytest.mark.parametrize("settings", [{}, LOCAL], ids=["title", "local"])
@pytest.mark.parametrize("teach", [False, True])
def test_what_is_kept_is_written_with_all_the_rest(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path, settings: dict[str, Any], teach: bool
) -> None:
    made = run(collection, bm25, tmp_path / "a", teach=teach, **settings)
    records = list(read_records(tmp_path / "a" / SYNTHETIC))
    kept = {record.query_id: record for record in records if record.kept}
    assert made.queries == {i: r.text for i, r in kept.items()}
    assert 0 < len(kept) == made.counts["kept"] < len(records) == made.counts["queries"] or not settings
    for query_id, record in kept.items():
        assert query_id.startswith("synthetic-")
        assert query_id not in collection.queries
        assert made.qrels[query_id][record.doc_id] == 1
        assert 1 <= (record.rank or 0) <= 10
        assert (record.teacher_rank is not None) == teach
    rules = Counter(record.rule for record in records if not record.kept)
    assert {f"dropped_{rule}": number for rule, number in rules.items()} == {
        name: number for name, number in made.counts.items() if name.startswith("dropped_")
    }
    assert made.counts["documents"] == 40
    assert sum(
        number for name, number in made.counts.items() if re.match("kept_(title|question|keyword|claim)", name)
    ) == len(kept)
    costs = take_costs(tmp_path / "a" / "costs")
    assert costs == ({"local m": {"prompts": len(writer.prompts)}} if settings else {})


def test_no_kept_query_is_near_a_real_one_and_no_positive_is_left_out(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path
) -> None:
    class Leaky(Writer):
        def answer(self, content: str) -> str:
            return "\n".join([collection.queries["q-bread-2"], "pawn board"])

    leaky = Leaky()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "open_generator", lambda config, cache: leaky)
        made = run(
            collection, bm25, tmp_path / "a", documents=64, per_document=2, kinds=("question",), round_trip=64, **LOCAL
        )
    assert "q-bread-2" in collection.qrels["dev"]
    assert list(made.queries.values()) == ["pawn board"]
    ((_, judged),) = made.qrels.items()
    # Every document that gave the query is its positive: none of them can be its negative.
    holders = {d.doc_id for d in collection.documents if {"pawn", "board"} & set(d.content.split())}
    assert set(judged) == holders
    assert made.counts["dropped_leak"] == 64
    assert made.counts["dropped_same_text"] == len(holders) - 1


def test_the_same_seed_gives_the_same_files(collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(collection, bm25, tmp_path / name, seed=seed, **LOCAL)
    digests = [file_digest(tmp_path / name / SYNTHETIC) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_examples_come_from_the_train_split_alone(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path
) -> None:
    made = run(collection, bm25, tmp_path / "a", documents=64, examples=5, **LOCAL)
    assert made.counts["examples"] == 5
    shown = {
        line.removeprefix("Query: ") for p in writer.prompts for line in p.splitlines() if line.startswith("Query: ")
    }
    assert len(shown) == 5
    assert shown < {collection.queries[query_id] for query_id in collection.qrels["train"]}


def test_documents_of_dev_and_test_are_counted(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    made = run(collection, bm25, tmp_path / "a", documents=None)
    held_out = {doc_id for split in ("dev", "test") for judged in collection.qrels[split].values() for doc_id in judged}
    answers = [doc_id for judged in made.qrels.values() for doc_id in judged]
    assert made.counts["kept_of_dev_or_test_documents"] == sum(doc_id in held_out for doc_id in answers) > 0
    assert made.counts["kept_without_their_text"] == len(answers)


def test_training_reads_titles_pairs_without_the_title(collection: Collection, bm25: Bm25, tmp_path: Path) -> None:
    made = run(collection, bm25, tmp_path / "a", documents=None)
    texts = PairTexts(collection.queries, collection.documents, read_records(tmp_path / "a" / SYNTHETIC))
    for query_id, judged in made.qrels.items():
        ((query, content),) = texts([(query_id, doc_id) for doc_id in judged])
        assert query.split()[0] in TOPICS
        assert query not in content
        assert content


@pytest.mark.parametrize("settings", [{}, LOCAL], ids=["title", "local"])
def test_no_query_is_made_from_a_spared_document(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path, settings: dict[str, Any]
) -> None:
    spared = held_out_documents(collection)
    assert len(spared) == 32
    made = run(collection, bm25, tmp_path / "a", spared=spared, documents=None, **settings)
    assert {record.doc_id for record in read_records(tmp_path / "a" / SYNTHETIC)} == {
        *collection.documents.ids
    } - spared
    assert (made.counts["documents"], made.counts["documents_spared"]) == (32, 32)
    assert made.counts["kept_of_dev_or_test_documents"] == 0
    with pytest.raises(UserError, match=r"none of the 64 documents can be asked about \(64 are spared"):
        run(collection, bm25, tmp_path / "b", spared={*collection.documents.ids}, **settings)


# --- nothing left


def test_no_document_long_enough_is_an_error(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"none of the 64 documents can .* 64 have not at least 99 words: lower mine\.synthesize\.min"
    ):
        run(collection, bm25, tmp_path / "a", min_words=99, **LOCAL)
    with pytest.raises(UserError, match=r"64 have not a title or first sentence and, besides it, 99 words"):
        run(collection, bm25, tmp_path / "b", min_words=99)
    assert writer.prompts == []


def test_no_query_left_is_an_error_that_names_the_rules(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["zebra stripes", "", "I'm sorry, but I can't help.", "zebra"] * 30)
    monkeypatch.setattr(writer, "answer", lambda content: next(answers))
    with pytest.raises(UserError) as caught:
        run(collection, bm25, tmp_path / "a", **LOCAL)
    message = str(caught.value)
    assert message.startswith(
        "mine.synthesize made 120 queries, and none passed the filters:\n  60 not found by the first"
    )
    assert "raise mine.synthesize.round_trip" in message
    assert "30 without a query in the answer" in message
    assert "30 refused: try another model" in message
    assert "e.g. 'zebra stripes' for document" in message
    # What was made can be looked at.
    assert len(list(read_records(tmp_path / "a" / SYNTHETIC))) == 120


def test_what_a_generator_cost_is_kept_when_it_stops(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(content: str) -> str:
        raise UserError("the server has gone")

    monkeypatch.setattr(writer, "answer", stop)
    with pytest.raises(UserError, match="gone"):
        run(collection, bm25, tmp_path / "a", **LOCAL)
    assert take_costs(tmp_path / "a" / "costs") == {"local m": {"prompts": len(writer.prompts)}}


def test_the_counts_are_said(
    collection: Collection, bm25: Bm25, writer: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(collection, bm25, tmp_path / "a", **LOCAL)
    said = capsys.readouterr().err
    assert (
        f"synthetic queries: {made.counts['kept']} of {made.counts['queries']} kept, from 40 documents; dropped: "
        in said
    )
    assert f"{made.counts['dropped_empty']} without a query in the answer" in said


def test_every_rule_has_a_way_out() -> None:
    source = "".join(
        (Path(stage.__file__).parent / f"{name}.py").read_text() for name in ("filters", "parse", "generator")
    )
    named = {"same_text", "leak", "known", "empty", "refusal", "too_long", "torn"}
    used = set(re.findall(r'dropped\("(\w+)"', source)) | named
    assert used == set(stage.RULES)
