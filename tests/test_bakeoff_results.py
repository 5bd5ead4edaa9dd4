"""What cells show: means, spread, comparisons, cost and the winner, against sums done by hand."""

from __future__ import annotations

import json
from statistics import stdev
from typing import Any

import pytest

from secondstage.bakeoff.cells import Cell
from secondstage.bakeoff.contest import Outcome
from secondstage.bakeoff.recipes import read_recipes
from secondstage.bakeoff.results import over_seeds, results, verdict
from secondstage.configfile import check_config, override
from secondstage.leakage import Basis
from secondstage.significance import compare, holm

QUERIES = [f"q{i}" for i in range(40)]


def cell(recipe: str, seed: int, shift: float, *, tokens: int = 1000) -> Cell:
    """The pipeline's value of query i is i / 100 + the shift, a little less for every other query."""
    pipeline = {query_id: i / 100 + shift - 0.01 * (i % 2) * (shift > 0) for i, query_id in enumerate(QUERIES)}
    reranked = {query_id: value / 2 for query_id, value in pipeline.items()}
    values = {"reranked": reranked, "pipeline": pipeline}
    return Cell(f"{recipe} {seed}", recipe, seed, values, 10, tokens, 100.0 + seed, 20.0, 800, 4.0, "f")


FREE = Basis({}, True, 40, {"same_text": 0, "near_duplicate": 0, "document": 0, "any": 0})


def found(
    cells: dict[str, list[Cell]],
    *overrides: str,
    failed: dict[str, str] | None = None,
    basis: Basis | None = None,
) -> dict[str, Any]:
    names = {"a": {"train.negatives": 3}, "b": {"train.negatives": 5}}
    data = {
        "output": "x",
        "collection": "pydocs",
        "train": {"minutes": 4},
        "evaluate": {"resamples": 2000},
        "bakeoff": {"recipes": names, "seeds": sorted({c.seed for own in cells.values() for c in own})},
    }
    config = check_config(override(data, overrides))
    assert config.bakeoff is not None
    first = dict.fromkeys(QUERIES, 0.125)
    return results(config, config.bakeoff, read_recipes(config), Outcome(cells, failed or {}), first, basis or FREE)


CELLS = {
    "base": [cell("base", 13, 0.0), cell("base", 14, -0.04)],
    "a": [cell("a", 13, 0.1), cell("a", 14, 0.06)],
    "b": [cell("b", 13, -0.1), cell("b", 14, -0.1)],
}


def test_means_spread_and_cost_are_those_of_the_cells() -> None:
    result = found(CELLS)
    by_seed = [own.mean("pipeline") for own in CELLS["a"]]
    assert result["recipes"]["a"]["systems"]["pipeline"] == {
        "mean": pytest.approx(sum(by_seed) / 2),
        "sd": pytest.approx(stdev(by_seed)),
        "by_seed": by_seed,
    }
    assert by_seed[0] == pytest.approx(0.195 + 0.1 - 0.005)
    assert result["recipes"]["a"]["cost"] == {
        "seconds": 113.5,
        "prepared": 20.0,
        "steps": 10.0,
        "tokens": 1000.0,
        "pairs_per_second": 200.0,
    }
    assert result["recipes"]["a"]["changes"] == {"train.negatives": 3}
    assert result["first_stage"] == pytest.approx(0.125)
    assert (result["queries"], result["seeds"], result["budget"]) == (40, [13, 14], {"minutes": 4.0})
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_differences_are_paired_over_queries_that_are_means_over_seeds_and_adjusted_by_holm() -> None:
    result = found(CELLS)
    values = {name: over_seeds([own.values["pipeline"] for own in cells]) for name, cells in CELLS.items()}
    single = {name: compare(values[name], values["base"], resamples=2000) for name in ("a", "b")}
    adjusted = holm({name: one.p for name, one in single.items()})
    for name, one in single.items():
        row = result["recipes"][name]["difference"]
        assert (row["delta"], row["p"]) == (pytest.approx(one.delta), pytest.approx(one.p, abs=1e-9))
        assert row["p_holm"] == pytest.approx(adjusted[name])
        assert row["real"] is (adjusted[name] < 0.05)
        assert row["low"] <= row["delta"] <= row["high"]
        assert row["detectable"] == pytest.approx(one.detectable)
    assert result["recipes"]["a"]["difference"]["delta"] == pytest.approx(0.1 - 0.005)
    assert result["recipes"]["base"]["difference"] is None


def test_the_best_mean_wins_and_is_said_to_be_better_where_that_is_shown() -> None:
    result = found(CELLS)
    assert (result["winner"], result["best_seed"]) == ("a", 13)
    assert result["sentence"].startswith("a wins: a is better than base: nDCG@10 +0.0950")


def test_a_winner_that_is_not_proven_better_is_said_to_be_so() -> None:
    small = cell("a", 13, 0.0)
    lucky = dict(small.values["pipeline"])
    lucky["q0"] += 0.2
    result = found({"base": [cell("base", 13, 0.0)], "a": [small._replace(values={**small.values, "pipeline": lucky})]})
    assert result["winner"] == "a"
    assert "a is not proven different from base" in result["sentence"]
    assert "40 queries detect" in result["sentence"]


@pytest.mark.parametrize("shift", [0.0, -0.1])
def test_the_base_wins_where_nothing_is_better(shift: float) -> None:
    result = found({"base": [cell("base", 13, 0.0)], "a": [cell("a", 13, shift)], "b": [cell("b", 13, -0.2)]})
    assert result["winner"] == "base"
    assert verdict(result) == "base wins: no recipe has a better mean"


def test_the_reranker_alone_decides_where_that_is_asked_for() -> None:
    worse_alone = CELLS["a"][0]._replace(
        values={"pipeline": CELLS["a"][0].values["pipeline"], "reranked": dict.fromkeys(QUERIES, 0.0)}
    )
    cells = {"base": CELLS["base"][:1], "a": [worse_alone]}
    assert found(cells)["winner"] == "a"
    assert found(cells, "bakeoff.system=reranked")["winner"] == "base"


def test_notes_say_what_the_figures_do_not() -> None:
    told = "\n".join(found(CELLS, failed={"c": "it diverged"})["notes"])
    assert "up to 40 of these queries" in told
    assert "each the mean of 2 seeds" in told
    assert "c is left out: it diverged" in told
    assert "half and half" in told
    assert "tokens" not in told
    assert "a is ahead of base with 2 of 2 seeds" in told
    assert "below the first stage" not in told
    alone = "\n".join(found({name: own[:1] for name, own in CELLS.items()}, "bakeoff.system=reranked")["notes"])
    assert "one seed does not show" in alone
    assert "half and half" not in alone
    low = {"base": [cell("base", 13, -0.15)], "a": [cell("a", 13, -0.12)]}
    assert "the winner is below the first stage (0.0750 against 0.1250)" in "\n".join(found(low)["notes"])


def test_a_budget_in_steps_whose_steps_differ_is_told() -> None:
    cells = {"base": [cell("base", 13, 0.0)], "a": [cell("a", 13, 0.1, tokens=2000)], "b": [cell("b", 13, 0.1)]}
    told = found(cells, "train.steps=10")["notes"]
    assert [note for note in told if "tokens" in note] == [
        "a took 2.0 times the tokens of base: a budget in steps is equal only for steps that are; bakeoff.tokens "
        "allows for train.batch_tokens"
    ]
    told = found(cells, "distill={teacher: m, student: {model: n, steps: 3}}")["notes"]
    assert [note for note in told if "tokens" in note] == [
        "a took 2.0 times the tokens of base: a budget in steps is equal only for steps that are; give minutes"
    ]
    told = found(cells, "bakeoff.tokens=409600")["notes"]
    assert [note for note in told if "times the tokens" in note] == [
        "a took 2.0 times the tokens of base: bakeoff.tokens counts full steps of train.batch_tokens, and a step holds "
        "whole lists, more or less full"
    ]
    assert not [note for note in found(cells)["notes"] if "tokens" in note]


def test_whether_all_recipes_chose_alike_is_told() -> None:
    (alike,) = [note for note in found(CELLS)["notes"] if "chose its checkpoint" in note]
    assert "up to 40 of these queries (train.dev_queries), for all recipes alike" in alike
    changed = "bakeoff.recipes.a={train.evaluations: 20, train.dev_queries: 9, train.negatives: 2}"
    (unlike,) = [note for note in found(CELLS, changed)["notes"] if "chose its checkpoint" in note]
    assert "not for all recipes alike: a (train.evaluations, train.dev_queries); who" in unlike
    patient = "bakeoff.recipes.a={train.patience: 2}"
    (unlike,) = [note for note in found(CELLS, patient)["notes"] if "chose its checkpoint" in note]
    assert "not for all recipes alike: a (train.patience); who" in unlike
    # Where there is nothing to choose among, nothing was chosen.
    for nothing in ("train.evaluations=1", "train.folds=3"):
        assert not [note for note in found(CELLS, nothing)["notes"] if "chose its checkpoint" in note]


@pytest.mark.parametrize(
    ("enough", "word"), [(True, "these do not decide, only the other 40"), (False, "the other 40 are fewer than 30")]
)
def test_what_training_gives_away_is_told(enough: bool, word: str) -> None:
    counts = {"same_text": 2, "near_duplicate": 1, "document": 4, "any": 6}
    result = found(CELLS, basis=FREE._replace(enough=enough, counts=counts))
    (told,) = [note for note in result["notes"] if "gives 6 queries of the split away (3 have nearly the text" in note]
    assert word in told
    assert result["given_away"] == counts
    assert not [note for note in found(CELLS)["notes"] if "gives" in note]


def test_one_query_is_no_evidence_and_no_number_is_missing_from_the_json() -> None:
    def only(own: Cell) -> Cell:
        return own._replace(values={name: {"q0": values["q0"]} for name, values in own.values.items()})

    result = found({name: [only(own[0])] for name, own in CELLS.items()})
    row = result["recipes"]["a"]["difference"]
    assert (row["low"], row["high"], row["sd"], row["detectable"]) == (None, None, None, None)
    assert result["detectable"] is None
    assert "1 queries show very little" in result["notes"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
