"""Runs: order, ties, strictly decreasing scores, and TREC files in and out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.run import Ranking, Run, all_tied, rank, read_trec, strictly_decreasing

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

# Well above the lowest number, below which there is nothing left to lower a tie to.
single = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-float(np.float32(1e38)))
ids = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)


def ranking(doc_ids: str, scores: list[float] | None = None) -> Ranking:
    return rank(
        list(doc_ids), scores if scores is not None else [-i for i in range(len(doc_ids))], ["r"] * len(doc_ids)
    )


def below(score: float, steps: int = 1) -> float:
    """The representable number so many steps below."""
    number = np.float32(score)
    for _ in range(steps):
        number = np.nextafter(number, np.float32(-np.inf))
    return float(number)


@given(single.filter(lambda score: abs(score) < 1e37), st.integers(1, 300))
def test_ties_are_known_again_after_they_were_lowered(score: float, count: int) -> None:
    lowered = strictly_decreasing([score] * count).tolist()
    assert all_tied(lowered)
    assert not all_tied([*lowered, below(lowered[-1], 2 * count + 2)])


def test_an_empty_list_has_no_difference_and_the_largest_numbers_may_have() -> None:
    assert all_tied([])
    assert all_tied([LARGEST, below(LARGEST)])
    assert not all_tied([LARGEST, -LARGEST])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], []),
        ([3.0], [3.0]),
        ([3.0, 2.0, -1.0], [3.0, 2.0, -1.0]),
        ([1.0, 1.0, 1.0], [1.0, below(1.0), below(1.0, 2)]),
        # a tie pushes its neighbours down only as far as it must
        ([1.0, 1.0, below(1.0), 0.5], [1.0, below(1.0), below(1.0, 2), 0.5]),
        ([0.0, 0.0, 0.0], [0.0, -SMALLEST, -2 * SMALLEST]),
        ([0.0, -0.0], [0.0, -SMALLEST]),
        ([-2.0, -2.0], [-2.0, below(-2.0)]),
        ([LARGEST, LARGEST], [LARGEST, below(LARGEST)]),
        ([-1e38, -1e38], [float(np.float32(-1e38)), below(-1e38)]),
        # apart in double precision, not in single
        ([0.1 + 1e-12, 0.1], [float(np.float32(0.1)), below(0.1)]),
        ([16777217.0, 16777216.0], [16777216.0, 16777215.0]),
    ],
)
def test_ties_are_lowered_to_the_next_number(scores: list[float], expected: list[float]) -> None:
    found = strictly_decreasing(scores)
    assert found.dtype == np.float32
    assert found.tolist() == expected


@settings(deadline=None)
@given(st.lists(single, max_size=30))
def test_the_result_falls_strictly_never_rises_and_is_a_fixed_point(scores: list[float]) -> None:
    falling = sorted(scores, reverse=True)
    found = strictly_decreasing(falling)
    assert (np.diff(found.astype(np.float64)) < 0).all()
    assert (found <= np.array(falling, np.float32)).all()
    assert strictly_decreasing(found).tolist() == found.tolist()
    if len(set(map(np.float32, falling))) == len(falling):
        assert found.tolist() == falling


def test_the_scores_given_are_left_alone() -> None:
    scores = np.array([1.0, 1.0], np.float32)
    strictly_decreasing(scores)
    assert scores.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    for scores in ([score], [1.0, score], [score, 1.0]):
        with pytest.raises(ValueError, match="not finite"):
            strictly_decreasing(scores)
        with pytest.raises(ValueError, match="not finite"):
            rank(["a", "b"][: len(scores)], scores, ["r", "r"][: len(scores)])


def test_a_tie_below_which_there_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        strictly_decreasing([-LARGEST, -LARGEST])


def test_a_score_beyond_single_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        strictly_decreasing([1e300, 1.0])


def test_documents_are_ordered_by_score_and_ties_keep_their_order() -> None:
    found = rank(["c", "a", "d", "b"], [1.0, 3.0, 1.0, 1.0], ["x", "y", "z", "w"])
    assert found.doc_ids == ("a", "c", "d", "b")
    assert found.retrievers == ("y", "x", "z", "w")
    assert found.scores.tolist() == [3.0, 1.0, below(1.0), below(1.0, 2)]
    empty = rank([], [], [])
    assert (empty.doc_ids, empty.scores.tolist(), empty.retrievers) == ((), [], ())


def test_documents_and_scores_must_go_together() -> None:
    with pytest.raises(ValueError, match="2 documents, but 1 scores"):
        rank(["a", "b"], [1.0], ["r", "r"])
    run = Run("r", {"q": ranking("ab")})
    for scores in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="but"):
            run.rescored("x", scores)


@pytest.mark.parametrize("doc_ids", [["a", "b", "a"], ["b", "a", "a"], ["a", "a", "b", "b"]])
def test_a_document_that_is_ranked_twice_is_refused(doc_ids: list[str]) -> None:
    """A measure would count its relevance twice, and a fusion by id would lose one of its scores."""
    with pytest.raises(ValueError, match=r"^document 'a' is there twice$"):
        rank(doc_ids, [1.0] * len(doc_ids), ["r"] * len(doc_ids))


def assert_equal(one: Run, other: Run) -> None:
    """The same queries, documents and scores, in the same order."""
    assert list(one) == list(other)
    for query_id, found in one.items():
        assert found.doc_ids == other[query_id].doc_ids
        assert found.scores.tolist() == other[query_id].scores.tolist()


some_runs = st.dictionaries(
    ids,
    st.dictionaries(ids, single, max_size=6).map(lambda d: rank(list(d), list(d.values()), ["r"] * len(d))),
    max_size=4,
).map(lambda rankings: Run("some", rankings))


@settings(deadline=None)
@given(some_runs)
def test_its_own_scores_give_the_same_run(run: Run) -> None:
    again = run.rescored("again", [score for found in run.values() for score in found.scores])
    assert again.name == "again"
    assert_equal(again, run)


@settings(deadline=None)
@given(some_runs, single)
def test_a_constant_score_keeps_the_order(run: Run, score: float) -> None:
    constant = run.rescored("constant", [score] * sum(1 for _ in run.pairs()))
    assert list(constant.pairs()) == list(run.pairs())


def test_new_scores_reorder_each_list_on_its_own() -> None:
    run = Run("first", {"q1": ranking("abc"), "empty": ranking(""), "q2": ranking("xy")})
    assert list(run.pairs()) == [("q1", "a"), ("q1", "b"), ("q1", "c"), ("q2", "x"), ("q2", "y")]
    new = run.rescored("second", [1.0, 3.0, 2.0, -1.0, 5.0])
    assert {query_id: "".join(found.doc_ids) for query_id, found in new.items()} == {
        "q1": "bca",
        "empty": "",
        "q2": "yx",
    }
    assert new["q1"].scores.tolist() == [3.0, 2.0, 1.0]
    assert next(run.pairs()) == ("q1", "a")


def test_the_retriever_stays_with_its_document() -> None:
    run = Run("first", {"q": rank(["a", "b"], [2.0, 1.0], ["bm25", "dense"])})
    assert run.rescored("second", [0.0, 1.0])["q"].retrievers == ("dense", "bm25")


@pytest.mark.parametrize(("depth", "expected"), [(0, ""), (1, "a"), (3, "abc"), (9, "abc")])
def test_the_top_is_the_beginning_of_every_list(depth: int, expected: str) -> None:
    run = Run("first", {"q": ranking("abc"), "short": ranking("")})
    cut = run.top(depth)
    assert cut.name == "first"
    assert cut["q"].doc_ids == tuple(expected)
    assert cut["q"].scores.tolist() == run["q"].scores.tolist()[:depth]
    assert len(cut["q"].retrievers) == len(expected)
    assert list(cut) == ["q", "short"]
    assert run["q"].doc_ids == ("a", "b", "c")


@pytest.mark.parametrize(("depth", "expected"), [(0, ""), (1, "c"), (2, "ca"), (3, "cab"), (4, "cab"), (None, "cab")])
def test_a_cut_keeps_documents_scores_and_retrievers_together(depth: int | None, expected: str) -> None:
    found = rank(["a", "b", "c"], [2.0, 1.0, 3.0], ["of a", "of b", "of c"]).cut(depth)
    assert found.doc_ids == tuple(expected)
    assert found.scores.tolist() == [{"a": 2.0, "b": 1.0, "c": 3.0}[doc_id] for doc_id in expected]
    assert found.retrievers == tuple(f"of {doc_id}" for doc_id in expected)


def test_a_part_of_a_run_has_the_queries_asked_for_in_their_order() -> None:
    run = Run("r", {"q1": ranking("ab"), "q2": ranking("cd"), "empty": ranking("")})
    part = run.only(iter(["q2", "unanswered", "empty"]))
    assert part.name == "r"
    assert list(part) == ["q2", "empty"]
    assert part["q2"] is run["q2"]
    assert list(run) == ["q1", "q2", "empty"]
    assert list(run.only([])) == []


def test_another_name_changes_the_name_alone() -> None:
    run = Run("r", {"q1": ranking("ab"), "q2": ranking("")})
    other = run.named("s")
    assert (run.name, other.name) == ("r", "s")
    assert_equal(other, run)
    with pytest.raises(ValueError, match="white space"):
        run.named("no name")


def test_a_run_is_a_mapping_that_does_not_follow_the_one_it_was_made_from() -> None:
    rankings = {"q1": ranking("a"), "q2": ranking("b")}
    run = Run("r", rankings)
    del rankings["q1"]
    assert list(run) == ["q1", "q2"]
    assert len(run) == 2
    assert "q3" not in run
    with pytest.raises(KeyError):
        run["q3"]


@settings(max_examples=80, deadline=None)
@given(some_runs)
def test_ids_order_and_scores_survive_a_file(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.mktemp("trec") / "below" / "some.trec"
    run.write_trec(path)
    again = read_trec(path)
    # A query without documents has no line.
    assert_equal(again, Run("some", {query_id: found for query_id, found in run.items() if found.doc_ids}))
    assert again.name == "some"
    second = path.with_name("again.trec")
    again.write_trec(second)
    assert second.read_bytes() == path.read_bytes()


def test_the_lines_of_a_file(tmp_path: Path) -> None:
    run = Run("mine", {"q1": rank(["a", "ö"], [0.5, 0.25], ["r", "r"]), "q2": rank(["c"], [-3.0], ["r"])})
    run.write_trec(tmp_path / "x.trec")
    text = (tmp_path / "x.trec").read_text(encoding="utf-8")
    assert text == "q1 Q0 a 1 0.5 mine\nq1 Q0 ö 2 0.25 mine\nq2 Q0 c 1 -3.0 mine\n"


def test_a_file_is_ordered_by_score_and_ties_by_falling_id_whatever_its_lines_say(tmp_path: Path) -> None:
    path = tmp_path / "theirs.trec"
    path.write_text(
        "q1 Q0 a 1 1 bm25\n\nq2\tQ0  z 7 -1e-3 bm25\nq1 Q0 c 2 1.0 bm25\nq1 Q0 top 9 2E0 bm25\nq1 Q0 b 4 1.00 bm25\r\n"
        # equal in single precision, which is what trec_eval reads
        "q3 Q0 d1 1 16777217 bm25\nq3 Q0 d2 2 16777216 bm25\n"
        # ids are compared as strings
        "q4 Q0 10 1 0 bm25\nq4 Q0 9 2 0 bm25\nq4 Q0 é 3 0 bm25\nq4 Q0 z 3 0 bm25\n"
    )
    run = read_trec(path)
    assert {query_id: found.doc_ids for query_id, found in run.items()} == {
        "q1": ("top", "c", "b", "a"),
        "q2": ("z",),
        "q3": ("d2", "d1"),
        "q4": ("é", "z", "9", "10"),
    }
    assert run["q1"].scores.tolist() == [2.0, 1.0, below(1.0), below(1.0, 2)]
    assert run["q1"].retrievers == ("bm25",) * 4
    assert run.name == "bm25"


def test_a_byte_order_mark_is_no_part_of_the_first_query(tmp_path: Path) -> None:
    path = tmp_path / "theirs.trec"
    path.write_bytes(b"\xef\xbb\xbfq1 Q0 a 1 1 bm25\nq1 Q0 b 2 0.5 bm25\n")
    assert {query_id: found.doc_ids for query_id, found in read_trec(path).items()} == {"q1": ("a", "b")}


def test_an_empty_file_is_an_empty_run_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "nothing.trec").write_text("\n")
    run = read_trec(tmp_path / "nothing.trec")
    assert (len(run), run.name, list(run.pairs())) == (0, "nothing", [])
    for name in ("my own\tnothing.trec", " .trec"):
        (tmp_path / name).touch()
    assert [read_trec(tmp_path / name).name for name in ("my own\tnothing.trec", " .trec")] == ["my-own-nothing", "run"]


@pytest.mark.parametrize(
    "line",
    [
        "q1 Q0 d1 1 0.5",
        "q1 Q0 d1 1 0.5 name more",
        '{"query": 1}',
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "faulty.trec"
    path.write_text(f"q0 Q0 d1 1 1.0 name\n\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_trec(path)
    assert str(caught.value) == f"{path}, line 3: not `query_id Q0 doc_id rank score name`: {line!r}"


@pytest.mark.parametrize("score", ["high", "nan", "inf", "-Infinity", "1e39", "-1e300"])
def test_a_score_that_is_no_finite_number_is_named(tmp_path: Path, score: str) -> None:
    """1e39 is one in double precision alone."""
    path = tmp_path / "faulty.trec"
    path.write_text(f"q0 Q0 d1 1 1.0 name\nq1 Q0 d1 1 {score} name\n")
    with pytest.raises(UserError, match=rf"faulty\.trec, line 2: the score '{score}' is no finite number in single"):
        read_trec(path)


def test_documents_tied_at_the_lowest_number_are_told_with_their_query(tmp_path: Path) -> None:
    """Others use it for what they did not score; one such document has its place, two have no order."""
    lowest, path = float(np.finfo(np.float32).min), tmp_path / "sentinel.trec"
    path.write_text(f"q0 Q0 d1 1 {lowest!r} n\nq1 Q0 d1 1 1.0 n\nq1 Q0 d2 2 {lowest!r} n\n")
    assert read_trec(path)["q1"].doc_ids == ("d1", "d2")
    path.write_text(path.read_text() + f"q1 Q0 d3 3 {lowest!r} n\n")
    with pytest.raises(UserError, match=r"sentinel\.trec: query 'q1' has tied documents at -3\.4028\S+, the lowest"):
        read_trec(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faulty.trec"
    path.write_bytes(b"q0 Q0 d\xff 1 1.0 name\n")
    with pytest.raises(UserError, match=r"faulty\.trec"):
        read_trec(path)


@pytest.mark.parametrize("name", ["my system", "", " x", "a\tb"])
def test_a_name_that_a_file_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="white space"):
        Run(name, {})


def test_a_document_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "twice.trec"
    path.write_text("q1 Q0 d1 1 3 n\nq2 Q0 d1 1 3 n\nq1 Q0 d1 2 1 n\n")
    with pytest.raises(UserError, match=r"twice\.trec, line 3: document 'd1' is there twice for query 'q1'"):
        read_trec(path)
