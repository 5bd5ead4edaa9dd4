"""What is mined: what people and generators say together, what must be spared, and what it cost, whoever did it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to
from secondstage.config import Bm25Config, MineConfig, TeacherConfig
from secondstage.configfile import check_config
from secondstage.errors import UserError
from secondstage.files import read_json
from secondstage.firststage.bm25 import Bm25
from secondstage.lists import read_lists
from secondstage.mine import Source, share
from secondstage.mine.costs import COSTS
from secondstage.mine.search import CANDIDATES, Search
from secondstage.mine.synthesis import held_out_documents
from secondstage.run import Run, Scores
from secondstage.synthetic import SyntheticQuery

from .conftest import write_jsonl


class Overlap:
    """A teacher who counts the words that query and document share, and remembers what it was shown."""

    def __init__(self) -> None:
        self.lists: list[tuple[str, list[str]]] = []
        self.known: set[tuple[str, str]] = set()
        self.scored = self.found = 0

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        self.lists += [(query, list(texts)) for query, texts in lists]
        pairs = {(query, text) for query, texts in lists for text in texts}
        self.scored += len(pairs - self.known)
        self.found += len(pairs & self.known)
        self.known |= pairs
        return [np.array([self.score(query, text) for text in texts], np.float32) for query, texts in lists]

    def score(self, query: str, text: str) -> float:
        return len({*query.split()} & {*text.split()})

    def report(self) -> Mapping[str, Any]:
        return {"pairs_scored": self.scored, "pairs_found": self.found}


def teach(monkeypatch: pytest.MonkeyPatch, *teachers: Overlap) -> dict[str, Any]:
    """The setting that makes these the teachers "t0", "t1", …"""
    named = {f"model{i}": teacher for i, teacher in enumerate(teachers)}
    monkeypatch.setattr("secondstage.mine.teaching.open_teacher", lambda config, cache: named[config.model])
    return {f"t{i}": TeacherConfig(model=f"model{i}") for i in range(len(teachers))}


def changed(
    beir_folder: Path,
    folder: Path,
    *,
    corpus: Iterable[Mapping[str, str]] = (),
    queries: Mapping[str, str] | None = None,
    splits: Sequence[str] = ("train", "dev", "test"),
    **qrels: Sequence[str],
) -> Collection:
    """The collection with more documents, queries (or others under the same id) and judgements, and fewer splits."""
    shutil.copytree(beir_folder, folder / "beir")
    for name, more in (("corpus", [*corpus]), ("queries", [{"_id": i, "text": t} for i, t in (queries or {}).items()])):
        path = folder / "beir" / f"{name}.jsonl"
        records = {record["_id"]: record for record in map(json.loads, path.read_text().splitlines())}
        write_jsonl(path, list({**records, **{record["_id"]: dict(record) for record in more}}.values()))
    for split in ("train", "dev", "test"):
        with (folder / "beir" / "qrels" / f"{split}.tsv").open("a") as file:
            file.writelines(f"{line}\n".replace(" ", "\t") for line in qrels.get(split, ()))
        if split not in splits:
            (folder / "beir" / "qrels" / f"{split}.tsv").unlink()
    return Collection.read(folder / "beir", folder / "collection", dev_share=0.0)


def review(path: Path, *rows: str) -> str:
    """A file in the form of `suspicious.tsv`: "query document answer" each."""
    path.write_text("".join("\t".join(row.split(" ")) + "\n" for row in ("query_id doc_id reviewed", *rows)))
    return str(path)


def source(collection: Collection, cache: Path, seed: int = 13, **settings: Any) -> Source:
    first_stage = Bm25.build(Bm25Config(), collection.documents)
    return Source(collection, first_stage, "bm25", MineConfig(**settings), seed, cache)


SAME = {"q-bread-0": "flour in a bread oven", "q-bread-4": "Flour, in a bread oven?"}


def test_positives_of_the_same_text_are_each_others(beir_folder: Path, tmp_path: Path) -> None:
    collection = changed(beir_folder, tmp_path, queries=SAME, train=["q-bread-0 chess-0 0"])
    made = source(collection, tmp_path)
    asked = made.miner(made.teaching(), collection.split("train")).asked
    assert asked.elsewhere == {key: {"bread-0": 1, "bread-4": 1} for key in SAME}


def test_queries_that_are_not_mined_still_tell_what_answers_their_text(beir_folder: Path, tmp_path: Path) -> None:
    collection = changed(beir_folder, tmp_path, queries=SAME, train=["q-bread-4 bread-3 1"])
    made = source(collection, tmp_path, reviewed=review(tmp_path / "r.tsv", "q-bread-4 bread-3 0"))
    asked = made.miner(made.teaching(), {"q-bread-0": {"bread-0": 1}}).asked
    assert asked.elsewhere["q-bread-0"] == {"bread-0": 1, "bread-4": 1}
    assert list(asked.queries) == ["q-bread-0"]


@pytest.mark.parametrize("positive_from", [1, 2])
def test_a_review_says_what_is_a_positive_elsewhere(beir_folder: Path, tmp_path: Path, positive_from: int) -> None:
    judged = ["q-bread-0 bread-7 2", "q-bread-4 bread-6 2"]
    collection = changed(beir_folder, tmp_path, queries=SAME, train=judged)
    rows = ["q-bread-0 bread-7 no", "q-bread-4 bread-5 yes", "q-river-0 river-1 Yes", "q-river-0 river-2 "]
    made = source(collection, tmp_path, reviewed=review(tmp_path / "r.tsv", *rows), positive_from=positive_from)
    asked = made.miner(made.teaching(), collection.split("train")).asked
    assert asked.reviewed == {
        "q-bread-0": {"bread-7": 0},
        "q-bread-4": {"bread-5": positive_from},
        "q-river-0": {"river-1": positive_from},
    }
    judgements = {"bread-0": 1, "bread-4": 1} if positive_from == 1 else {}
    assert asked.elsewhere == {key: {**judgements, "bread-6": 2, "bread-5": positive_from} for key in SAME}


def test_a_review_of_what_is_not_there_is_refused(collection: Collection, tmp_path: Path) -> None:
    made = source(collection, tmp_path, reviewed=review(tmp_path / "r.tsv", "q-bread-0 bread-99 1", "nobody bread-0 1"))
    with pytest.raises(UserError, match=r"(?s)2 faults.*no document 'bread-99'.*no query 'nobody'"):
        made.miner(made.teaching(), collection.split("train"))


def test_only_documents_excludes_spare_those_of_dev_and_test(collection: Collection, tmp_path: Path) -> None:
    held_out = held_out_documents(collection)
    assert len(held_out) == 32
    assert not held_out & {doc_id for judged in collection.split("train").values() for doc_id in judged}
    spared = {level: source(collection, tmp_path, exclude_leaks=level).spared() for level in ("none", "queries")}
    assert spared == {"none": set(), "queries": set()}
    assert source(collection, tmp_path, exclude_leaks="documents").spared() == held_out


def synthetic(count: int, **settings: Any) -> list[SyntheticQuery]:
    return [
        SyntheticQuery(f"synthetic-{i}", f"made {i}", f"chess-{i}", "question", "m", **settings) for i in range(count)
    ]


def test_shards_of_people_are_the_same_with_and_without_synthesis(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 5)
    made = source(collection, tmp_path, positive_from=2)
    teaching, qrels = made.teaching(), collection.split("train")
    alone = made.miner(teaching, qrels).asked
    dropped = [query._replace(query_id=f"{query.query_id}-x") for query in synthetic(2, kept=False, rule="leak")]
    both = made.miner(teaching, qrels, [*synthetic(7), *dropped]).asked
    assert [len(shard) for shard in alone.shards] == [5] * 6 + [2]
    assert both.shards[:7] == alone.shards
    assert both.shards[7:] == [{f"synthetic-{i}": f"made {i}" for i in part} for part in (range(5), range(5, 7))]
    assert both.queries == {**alone.queries, **{f"synthetic-{i}": f"made {i}" for i in range(7)}}
    # What a generator made is as good as a person's positive.
    assert both.qrels == {**qrels, **{f"synthetic-{i}": {f"chess-{i}": 2} for i in range(7)}}


def test_each_process_searches_and_scores_its_own_shards(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 5)
    monkeypatch.setenv("WORLD_SIZE", "3")
    asked = []
    for rank in range(3):
        teacher = Overlap()
        made = source(collection, tmp_path, teachers=teach(monkeypatch, teacher), depth=4)
        monkeypatch.setenv("RANK", str(rank))
        share(made)
        asked.append([query for query, _ in teacher.lists])
        assert read_json(tmp_path / COSTS / f"{rank}.json")["t0"]["pairs_scored"] == teacher.scored > 0
    assert [len(queries) for queries in asked] == [5 + 5 + 2, 5 + 5, 5 + 5]
    assert sorted(query for queries in asked for query in queries) == sorted(
        collection.queries[query_id] for query_id in collection.split("train")
    )
    assert len(list((tmp_path / CANDIDATES).iterdir())) == 7


def test_what_teachers_cost_is_kept_when_one_of_them_stops(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Overlap):
        def score(self, query: str, text: str) -> float:
            if self.scored > 12:
                raise UserError("no more to say")
            return super().score(query, text)

    monkeypatch.setattr("secondstage.mine.search.QUERIES_PER_SHARD", 5)
    teacher = Stopping()
    with pytest.raises(UserError, match="no more to say"):
        share(source(collection, tmp_path, teachers=teach(monkeypatch, teacher), depth=4))
    assert read_json(tmp_path / COSTS / "0.json")["t0"]["pairs_scored"] == teacher.scored > 12


def test_only_who_knows_the_synthetic_queries_says_that_reviewed_ones_are_gone(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reviewed = review(tmp_path / "r.tsv", "synthetic-0 chess-1 no", "q-bread-0 bread-7 no")
    made = source(collection, tmp_path, reviewed=reviewed, synthesize={}, depth=4)
    share(made)
    assert "not made any more" not in capsys.readouterr().err
    teaching, qrels = made.teaching(), collection.split("train")
    assert made.miner(teaching, qrels, synthetic(1)).asked.reviewed["synthetic-0"] == {"chess-1": 0}
    assert "not made any more" not in capsys.readouterr().err
    made.miner(teaching, qrels, [])
    assert "1 reviewed rows are left out" in capsys.readouterr().err


def test_without_a_train_split_there_is_nothing_to_share(
    beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = changed(beir_folder, tmp_path, splits=("dev", "test"))
    monkeypatch.setattr("secondstage.mine.teaching.open_teacher", lambda config, cache: pytest.fail("opened"))
    share(source(collection, tmp_path / "cache", teachers={"t": TeacherConfig(model="m")}, synthesize={}))
    assert not (tmp_path / "cache").exists()


def test_other_document_ids_are_other_candidates(
    beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts under other ids make the same index: only the collection says which documents its rows are."""
    searched: list[int] = []
    run = Search.run

    def counted(self: Search, shard: Mapping[str, str]) -> Run:
        before = len(list((tmp_path / "out" / CANDIDATES).glob("*.arrow")))
        found = run(self, shard)
        searched.append(len(list((tmp_path / "out" / CANDIDATES).glob("*.arrow"))) - before)
        return found

    monkeypatch.setattr(Search, "run", counted)
    renamed = tmp_path / "renamed"
    shutil.copytree(beir_folder, renamed)
    for path in (renamed / "corpus.jsonl", *(renamed / "qrels").iterdir()):
        # The queries' ids stay: only what follows no "q-" is a document.
        path.write_text("".join(_renamed(line) for line in path.read_text().splitlines(keepends=True)))
    for folder in (beir_folder, renamed):
        config = {
            "output": str(tmp_path / "out"),
            "collection": str(folder),
            "first_stage": {"kind": "bm25"},
            "mine": {"depth": 5, "negatives": 2, "max_share": None},
            "train": {"steps": 1, "dev_depth": 5},
        }
        carry_out_up_to("mine", check_config(config))
        doc_ids = {c.doc_id for found in read_lists(tmp_path / "out" / "mine" / "train") for c in found.candidates}
        assert len(doc_ids) > 30
        assert {doc_id.startswith("new-") for doc_id in doc_ids} == {folder == renamed}
    assert searched == [1, 1, 1, 1]


def _renamed(line: str) -> str:
    if line.startswith("{"):
        record = json.loads(line)
        return json.dumps({**record, "_id": f"new-{record['_id']}"}) + "\n"
    query_id, doc_id, score = line.split("\t")
    return "\t".join([query_id, doc_id if doc_id == "corpus-id" else f"new-{doc_id}", score])
