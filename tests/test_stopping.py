"""How long to train, by folds: the curves, the choice, and what is trained on what."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection
from secondstage.errors import UserError
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.texts import PairTexts
from secondstage.train.selection import Selection
from secondstage.train.stopping import Curve, Stop, choose, choose_stop, describe


def test_the_highest_mean_over_all_queries_is_chosen() -> None:
    """Three queries in two folds: a mean of folds would choose the first share, as the fold of one query does."""
    curves: list[Curve] = [
        [(0.5, {"a": 1.0}), (1.0, {"a": 0.8})],
        [(0.5, {"b": 0.5, "c": 0.3}), (1.0, {"b": 0.6, "c": 0.5})],
    ]
    stop = choose(curves, 2)
    assert stop.progress == 1
    assert [point.progress for point in stop.points] == [0.5, 1]
    assert [point.value for point in stop.points] == pytest.approx([1.8 / 3, 1.9 / 3])
    assert (stop.gain, stop.error, stop.queries) == (0, 0, 3)
    assert describe(stop).endswith("at the end of the budget: the training on all lists uses all of it")


def test_the_gain_over_the_end_has_a_paired_standard_error() -> None:
    stop = choose([[(0.5, {"a": 0.9, "b": 0.5}), (1.0, {"a": 0.5, "b": 0.3})]], 2)
    assert stop.progress == 0.5
    assert stop.gain == pytest.approx(0.3)
    assert stop.error == pytest.approx(0.1)  # of 0.4 and 0.2: sqrt(0.02) / sqrt(2)
    assert stop.points[0].error == pytest.approx(sqrt(0.08) / sqrt(2))
    assert "highest, 0.7000, at 50% of the budget (+0.3000 over its end, standard error 0.1000)" in describe(stop)
    assert choose([[(1.0, {"a": 0.5})]], 1).error == inf


def test_of_equal_shares_the_latest_is_chosen() -> None:
    curve: Curve = [(1 / 3, {"a": 0.1, "b": 0.7}), (2 / 3, {"a": 0.7, "b": 0.1}), (1.0, {"a": 0.2, "b": 0.2})]
    assert choose([curve], 3).progress == 2 / 3


def test_evaluations_that_came_late_are_read_off_straight_lines() -> None:
    """A step is rarely done at exactly a share of the budget, and a long one may pass over an evaluation."""
    early: Curve = [(0.3, {"a": 0.2}), (0.7, {"a": 0.6}), (1.01, {"a": 0.6})]
    late: Curve = [(1.2, {"b": 0.9})]
    stop = choose([early, late], 4)
    assert [point.value for point in stop.points] == pytest.approx([(v + 0.9) / 2 for v in (0.2, 0.4, 0.6, 0.6)])


def test_a_fold_without_an_evaluation_is_a_fault() -> None:
    with pytest.raises(ValueError, match="without an evaluation"):
        choose([[(1.0, {"a": 0.5})], []], 1)


@pytest.fixture
def lists(collection: Collection) -> list[TrainingList]:
    """The train queries, their positive at rank 2 of 2."""
    other = collection.documents.ids[0]
    return [
        TrainingList(
            query_id,
            (
                Candidate(next(iter(judged)), 1, True, "bm25", 2, 1.0, POSITIVE),
                Candidate(other, 0, False, "bm25", 1, 2.0, NEGATIVE),
            ),
        )
        for query_id, judged in collection.qrels["train"].items()
        if other not in judged
    ]


class Trainings:
    """Fake trainings, all best at half of the budget."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen: list[tuple[set[str], set[str], str]] = []
        self.fails_at = fails_at

    def __call__(self, lists: Sequence[TrainingList], selection: Selection, folder: Path) -> Curve:
        if len(self.seen) == self.fails_at:
            raise KeyboardInterrupt
        self.seen.append(({x.query_id for x in lists}, set(selection.qrels), folder.name))
        return [(p, dict.fromkeys(selection.qrels, 0.1 + 0.2 - abs(p - 0.5) / 7)) for p in (0.25, 0.5, 0.75, 1.0)]


def run(collection: Collection, lists: list[TrainingList], train: Trainings, folder: Path, **changes: Any) -> Stop:
    settings: dict[str, Any] = {"folds": 3, "evaluations": 4, "queries": 100, "depth": 30, "seed": 13} | changes
    texts = PairTexts(collection.queries, collection.documents)
    return choose_stop(lists, texts, train, folder=folder, **settings)


def test_each_fold_is_held_out_once_and_the_rest_is_trained_on(
    collection: Collection, lists: list[TrainingList], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings = Trainings()
    stop = run(collection, lists, trainings, tmp_path)
    everything = {x.query_id for x in lists}
    assert [name for _, _, name in trainings.seen] == ["fold-0", "fold-1", "fold-2"]
    for trained, tested, _ in trainings.seen:
        assert trained | tested == everything
        assert not trained & tested
    assert sorted(q for _, tested, _ in trainings.seen for q in tested) == sorted(everything)
    assert stop.progress == 0.5
    assert stop.queries == len(lists)
    told = capsys.readouterr().err
    assert "3 trainings without a fold each, then one on all lists: 4 times the budget" in told
    assert "at 50% of the budget" in told


def test_a_finished_fold_is_not_trained_again(
    collection: Collection, lists: list[TrainingList], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(collection, lists, Trainings(fails_at=2), tmp_path / "a")
    resumed, whole = Trainings(), Trainings()
    assert run(collection, lists, resumed, tmp_path / "a") == run(collection, lists, whole, tmp_path / "b")
    assert [name for _, _, name in resumed.seen] == ["fold-2"]
    assert len(whole.seen) == 3


def test_a_fold_without_a_relevant_candidate_is_refused_before_any_is_trained(
    collection: Collection, lists: list[TrainingList], tmp_path: Path
) -> None:
    """As a loss on a teacher's scores trains on them. Where one of a fold has one, it is the one that is evaluated."""

    def unlabelled(found: TrainingList) -> TrainingList:
        return found._replace(candidates=tuple(c._replace(relevance=0, role=NEGATIVE) for c in found.candidates))

    run(collection, lists, whole := Trainings(), tmp_path / "whole")
    inside = {x.query_id for x in lists} - whole.seen[-1][0]
    one, *_ = inside
    trainings = Trainings()
    mixed = [unlabelled(x) if x.query_id in inside - {one} else x for x in lists]
    run(collection, mixed, trainings, tmp_path / "mixed", queries=1)
    assert {one} in [tested for _, tested, _ in trainings.seen]
    with pytest.raises(UserError, match="no query to evaluate, that is one of the collection with a relevant candid"):
        run(collection, [unlabelled(x) for x in lists], Trainings(fails_at=0), tmp_path / "none")


def test_only_some_queries_are_evaluated_but_no_query_of_the_fold_is_trained_on(
    collection: Collection, lists: list[TrainingList], tmp_path: Path
) -> None:
    ids = [x.query_id for x in lists]
    asked = set(ids[::2])
    trainings = Trainings()
    run(collection, lists, trainings, tmp_path, queries=2, measured=asked)
    for trained, tested, _ in trainings.seen:
        assert len(tested) == 2
        assert tested <= asked - trained
    sizes = [len(ids) - len(trained) for trained, _, _ in trainings.seen]
    assert sum(sizes) == len(ids)
    with pytest.raises(UserError, match="has no query to evaluate"):
        run(collection, lists, Trainings(), tmp_path / "none", measured=())
