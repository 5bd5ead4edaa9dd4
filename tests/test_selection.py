"""The choice of checkpoint on dev."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.leakage import Met
from secondstage.measures import Values, evaluate, mean
from secondstage.parallel import shares
from secondstage.run import Run, Scores, rank
from secondstage.scoring import Constant, Random, rerank
from secondstage.significance import detectable
from secondstage.texts import PairTexts
from secondstage.train.selection import MEASURE, Selection, dev_selection

from .children import launch


class Fake:
    """Puts relevant documents first (+1) or last (-1)."""

    def __init__(self, collection: Collection, sign: int) -> None:
        pairs = [(q, doc_id) for q, judged in collection.qrels["dev"].items() for doc_id in judged]
        self.relevant, self.sign = set(texts(collection)(pairs)), sign

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return np.array([self.sign * (pair in self.relevant) for pair in pairs], np.float32)


class Broken(Constant):
    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        return np.full(len(pairs), np.nan, np.float32)


def texts(collection: Collection) -> PairTexts:
    return PairTexts(collection.queries, collection.documents)


@pytest.fixture
def run(collection: Collection) -> Run:
    """Each dev query's own document is at rank 3 of 6."""
    lists = {}
    for query_id in collection.qrels["dev"]:
        own = query_id.removeprefix("q-")
        others = [doc_id for doc_id in collection.documents.ids if doc_id != own]
        lists[query_id] = rank([*others[:2], own, *others[2:5]], [6, 5, 4, 3, 2, 1], ["bm25"] * 6)
    return Run("first_stage", lists)


def selection(collection: Collection, run: Run, patience: int | None = None) -> Selection:
    return Selection(run, collection.qrels["dev"], texts(collection), patience=patience)


def chosen(
    collection: Collection, run: Run, met: Met | None = None, *, queries: int = 100, depth: int = 30, seed: int = 13
) -> Selection:
    qrels = collection.qrels["dev"]
    return dev_selection(
        run, qrels, texts(collection), met or Met({}, {}), queries=queries, depth=depth, seed=seed, patience=None
    )


def test_values_are_those_of_the_reranked_lists(collection: Collection, run: Run) -> None:
    dev = selection(collection, run)
    assert len(dev) == 16
    assert list(dev.first_stage()) == list(collection.qrels["dev"])
    assert mean(dev.first_stage()) == pytest.approx(1 / 2)  # rank 3: 1 / log2(4)
    assert dev.values(Constant()) == dev.first_stage()
    assert set(dev.values(Fake(collection, 1)).values()) == {1}
    assert mean(dev.values(Fake(collection, -1))) == pytest.approx(0.3562071871)  # rank 6: 1 / log2(7)
    reranked = rerank(Random(3), run, collection.queries, collection.documents)
    assert dev.values(Random(3)) == evaluate(reranked, collection.qrels["dev"], [MEASURE])[MEASURE]


def test_a_query_without_a_list_counts_nothing_and_one_without_an_answer_does_not_count(
    collection: Collection, run: Run
) -> None:
    first, second, *_ = qrels = dict(collection.qrels["dev"])
    qrels[first] = dict.fromkeys(qrels[first], 0)
    dev = Selection(run.only([q for q in run if q != second]), qrels, texts(collection))
    found = dev.values(Fake(collection, 1))
    assert found == dict.fromkeys(list(qrels)[1:], 1) | {second: 0}
    assert list(found) == list(qrels)[1:]


def test_scores_that_are_not_finite_are_refused(collection: Collection, run: Run) -> None:
    with pytest.raises(UserError, match="96 of 96 scores are not finite"):
        selection(collection, run).values(Broken())


def test_lists_are_cut_to_the_depth(collection: Collection, run: Run) -> None:
    assert mean(chosen(collection, run, depth=3).values(Fake(collection, 1))) == 1
    cut = chosen(collection, run, depth=2)
    assert {len(ranking.doc_ids) for ranking in cut.run.values()} == {2}
    assert mean(cut.values(Fake(collection, 1))) == mean(cut.first_stage()) == 0


def test_queries_are_chosen_by_the_seed(collection: Collection, run: Run) -> None:
    found = [set(chosen(collection, run, queries=5, seed=seed).run) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    some = chosen(collection, run, queries=5, seed=1)
    assert len(some) == 5
    assert some.qrels == {query_id: collection.qrels["dev"][query_id] for query_id in some.run}
    assert len(chosen(collection, run)) == 16


def test_what_training_gives_away_is_left_out_where_enough_is_left(
    collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query is in training by its text, another by its document; drawn is from the others alone."""
    qrels = collection.qrels["dev"]
    same, shared, *others = qrels
    met = Met({"t1": collection.queries[same].upper(), "t2": "zebra"}, {"t1": {"x": 1}, "t2": dict(qrels[shared])})
    few = chosen(collection, run, met)
    assert (list(few.qrels), few.left_out, few.given_away, few.overlap["any"]) == (list(qrels), 0, 2, 2)
    assert "training gives 2 dev queries away, but fewer than 30 others are left" in few.introduction()
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 14)
    enough = chosen(collection, run, met)
    assert (list(enough.qrels), enough.left_out, enough.given_away, enough.overlap) == (others, 2, 0, {})
    assert "2 further dev queries are left out: training gives them away" in enough.introduction()
    assert len(chosen(collection, run, met, queries=14)) == 14


def taken(dev: Selection, values: Sequence[float]) -> list[bool]:
    return [dev.take(dict.fromkeys(dev.qrels, value)) for value in values]


def test_the_later_of_two_equal_values_is_best(collection: Collection, run: Run) -> None:
    dev = selection(collection, run)
    assert dev.best is None
    assert taken(dev, [0.0, 0.3, 0.2, 0.3, 0.5, 0.5, 0.4]) == [True, True, False, True, True, True, False]
    assert dev.best == 0.5
    assert dev.best_values == dict.fromkeys(dev.qrels, 0.5)


@pytest.mark.parametrize(
    ("gaps", "kept"),
    [
        ([0.0] * 16, True),
        ([0.01] * 16, False),  # without an error
        ([0.0] * 15 + [0.5], True),  # what one query shows is its own error
        ([0.0] * 14 + [0.3, 0.3], False),
        ([-0.01] * 16, True),
    ],
)
def test_the_last_is_best_unless_it_is_worse_by_more_than_the_standard_error(
    collection: Collection, run: Run, gaps: list[float], kept: bool
) -> None:
    dev, other = selection(collection, run), selection(collection, run)
    values = dict(zip(dev.qrels, (0.5 - gap for gap in gaps), strict=True))
    taken(dev, [0.5])
    taken(other, [0.5])
    assert dev.take(values, last=True) is kept
    assert dev.best_values == (values if kept else dict.fromkeys(dev.qrels, 0.5))
    assert other.take(values) is (sum(gaps) <= 0)


@pytest.mark.parametrize(
    ("patience", "values", "ends"),
    [
        (2, [0.1, 0.2, 0.1, 0.3, 0.2, 0.2], [False, False, False, False, False, True]),
        (1, [0.1, 0.1, 0.2], [False, True, False]),  # an equal one is no better
        (2, [0.3, 0.3, 0.3], [False, False, True]),
        (None, [0.3, 0.2, 0.1], [False, False, False]),
    ],
)
def test_patience_ends_with_the_evaluations_in_a_row_that_are_no_better(
    collection: Collection, run: Run, patience: int | None, values: list[float], ends: list[bool]
) -> None:
    dev = selection(collection, run, patience)
    assert not dev.exhausted
    found = []
    for value in values:
        taken(dev, [value])
        found.append(dev.exhausted)
    assert found == ends


def test_a_state_that_went_through_json_goes_on_as_if_nothing_had_been(collection: Collection, run: Run) -> None:
    values = [dict.fromkeys(collection.qrels["dev"], value) for value in (1 / 3, 0.2, 0.1)]
    values[0]["q-" + next(iter(collection.documents.ids))] = 0.1 + 0.2
    dev = selection(collection, run, 2)
    assert json.loads(json.dumps(dev.state())) == selection(collection, run, 2).state()
    for each in values[:2]:
        dev.take(each)
    resumed = selection(collection, run, 2)
    resumed.restore(json.loads(json.dumps(dev.state())))
    assert resumed.best == dev.best
    assert not resumed.exhausted
    assert resumed.take(values[2]) == dev.take(values[2])
    assert resumed.state() == dev.state()
    assert resumed.exhausted


def test_what_dev_can_show(collection: Collection, run: Run) -> None:
    """First by the first stage's spread, half the queries at rank 1 and half at rank 3; then by the differences."""
    query_ids = list(collection.qrels["dev"])
    lists = {q: run[q] if i % 2 else rank([q.removeprefix("q-")], [1], ["bm25"]) for i, q in enumerate(query_ids)}
    dev = Selection(Run("first_stage", lists), collection.qrels["dev"], texts(collection))
    sd = 0.25 * (16 / 15) ** 0.5
    assert dev.detectable() == pytest.approx(detectable(sd, 16))
    assert f"dev: 16 queries, first stage nDCG@10 0.7500; differences from about {dev.detectable():.2f} on show" in (
        dev.introduction()
    )
    assert "with fewer than 100 dev queries, chance has a say" in dev.introduction()
    dev.take({q: value + 0.1 * (i % 4 < 2) for i, (q, value) in enumerate(dev.first_stage().items())})
    assert dev.detectable() == pytest.approx(detectable(0.05 * (16 / 15) ** 0.5, 16))
    alone = Selection(run, {query_ids[0]: collection.qrels["dev"][query_ids[0]]}, texts(collection))
    assert alone.detectable() == float("inf")
    for unknown in (alone, selection(collection, run)):  # one query, and queries of one value
        assert "what difference they show is not known" in unknown.introduction()


def test_an_empty_run_chooses_nothing(collection: Collection) -> None:
    dev = chosen(collection, Run("first_stage", {}))
    assert len(dev) == len(dev.run) == 0
    assert dev.values(Constant()) == {}


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 5))
def test_pieces_are_divided_whole_and_evenly(sizes: list[int], count: int) -> None:
    found = shares(sizes, count)
    assert sorted(i for part in found for i in part) == list(range(len(sizes)))
    loads = [sum(sizes[i] for i in part) for part in found]
    assert max(loads) - min(loads) <= max(sizes, default=0)
    assert shares([3, 2, 2, 1], 2) == [[0, 3], [1, 2]]


SHARING = """
import json, pickle, sys
from pathlib import Path
from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.parallel import workers
from secondstage.scoring import Random
from secondstage.texts import PairTexts
from secondstage.train.selection import Selection
folder, run = Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes())
collection = Collection.load(folder)
counted = []
class Counting(Random):
    def score(self, pairs, *, label=None):
        counted.append(len(pairs))
        return super().score(pairs, label=label)
class Failing(Counting):
    def score(self, pairs, *, label=None):
        if workers().rank == 1:
            raise SystemExit(7)
        return super().score(pairs, label=label)
selection = Selection(run, collection.qrels["dev"], PairTexts(collection.queries, collection.documents))
values = selection.values(Counting(3))
# Where the processes do not agree, the first one's word counts.
alone = selection.values(Counting(3 + workers().rank), shared=False)
print(json.dumps([values, alone, counted]))
if sys.argv[3:]:
    try:
        selection.values(Failing(3))
    except UserError as error:
        print("told:", error)
        raise SystemExit(3)
"""


@pytest.fixture
def stored(collection: Collection, run: Run, tmp_path: Path) -> tuple[Values, tuple[str, str]]:
    """The values that one process finds for lists of 1 to 6 candidates, and what the script needs."""
    run = Run(run.name, {q: ranking.cut(1 + i % 6) for i, (q, ranking) in enumerate(run.items())})
    (tmp_path / "run").write_bytes(pickle.dumps(run))
    return selection(collection, run).values(Random(3)), (str(collection.folder), str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_queries_and_all_find_the_values_of_one(
    stored: tuple[Values, tuple[str, str]], size: int
) -> None:
    expected, arguments = stored
    pairs = 2 * (1 + 2 + 3 + 4 + 5 + 6) + 1 + 2 + 3 + 4
    scored = 0
    for finished in launch(SHARING, size, *arguments):
        assert finished.returncode == 0, finished.stderr
        values, alone, counted = json.loads(finished.stdout)
        for found in (values, alone):
            assert list(found.items()) == list(expected.items())  # also in order: so the mean is the same to the bit
            assert mean(found) == mean(expected)
        assert counted[0] == pytest.approx(pairs / size, abs=3)
        assert counted[1] == pairs
        scored += counted[0]
    assert scored == pairs


@pytest.mark.slow
def test_a_process_that_fails_ends_the_evaluation_of_the_others(stored: tuple[Values, tuple[str, str]]) -> None:
    first, second = launch(SHARING, 2, *stored[1], "fails")
    assert (first.returncode, second.returncode) == (3, 7), first.stderr
    assert "another process of this run has failed" in first.stdout
