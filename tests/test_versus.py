"""Systems side by side: every difference that is called real is, and no run is compared on what it does not answer."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from secondstage.collection import Collection, Qrels
from secondstage.errors import Faults, UserError
from secondstage.measures import evaluate, mean
from secondstage.run import Run, rank, read_trec
from secondstage.serve import Pipeline, compare_paths, render_comparison
from secondstage.serve.proof.versus import MEASURES, check_run, lay_side_by_side, read_systems, short_names
from secondstage.significance import compare, holm

MEASURE = "nDCG@10"
FAST: dict[str, Any] = {"resamples": 500, "seed": 7}


def named(folder: Path, *names: str) -> list[str]:
    """Short names of paths, of which those that end in a dot are made as files, without the dot."""
    paths = []
    for name in names:
        path = folder / name.removesuffix(".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("."):
            path.write_text("")
        else:
            path.mkdir(exist_ok=True)
        paths.append(path)
    return short_names(paths)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["bm25.trec."], ["bm25"]),
        (["bm25.trec.", "tuned.trec."], ["bm25", "tuned"]),
        (["a/run.trec.", "b/run.trec."], ["a/run", "b/run"]),
        # As short as they can be and still be different: one more parent for all.
        (["a/x/run.trec.", "b/x/run.trec.", "c.trec."], ["a/x/run", "b/x/run", None]),
        # Every run's bundle is called so: it goes by its run's name.
        (["one/bundle", "two/bundle"], ["one", "two"]),
        (["one/bundle", "one/evaluation/runs/bm25.trec."], ["one", "bm25"]),
        (["a/one/bundle", "b/one/bundle"], ["a/one", "b/one"]),
        # A folder's name has no suffix that could be dropped.
        (["v1.5/bundle", "v1.6/bundle"], ["v1.5", "v1.6"]),
        (["bm25.v1.trec.", "bm25.v2.trec."], ["bm25.v1", "bm25.v2"]),
        # The same system twice, or a run beside a folder of its name.
        (["a.trec.", "a.trec."], ["a#1", "a#2"]),
        (["a.trec.", "a", "b"], ["a#1", "a#2", "b#3"]),
    ],
)
def test_names_are_short_and_different(tmp_path: Path, paths: list[str], expected: list[str | None]) -> None:
    found = named(tmp_path, *paths)
    assert len(set(found)) == len(found)
    assert [name for name, known in zip(found, expected, strict=True) if known] == [name for name in expected if name]


def test_relative_paths_have_the_names_of_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one" / "bundle").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one" / "bundle")
    assert short_names([Path(), Path("../../two")]) == ["one", "two"]


def test_any_paths_have_different_names(tmp_path: Path) -> None:
    draw = random.Random(5)
    for _ in range(30):
        paths = ["/".join(draw.choices(["a", "b", "bundle"], k=draw.randint(1, 4))) for _ in range(4)]
        found = short_names([tmp_path / path for path in paths])
        assert len(set(found)) == 4


# --- what is dubious about a run


@pytest.fixture
def qrels(collection: Collection) -> Qrels:
    return collection.split("test")


def run_of(rankings: Mapping[str, Sequence[str]], name: str = "r") -> Run:
    return Run(name, {q: rank(ids, range(len(ids), 0, -1), [name] * len(ids)) for q, ids in rankings.items()})


def ideal(qrels: Qrels, name: str = "ideal") -> Run:
    return run_of({query_id: list(judged) for query_id, judged in qrels.items()}, name)


def checked(run: Run, collection: Collection, qrels: Qrels) -> tuple[list[str], tuple[str, ...]]:
    faults = Faults("x")
    return check_run(run, "mine", collection, qrels, faults), faults.messages


def test_a_whole_run_is_passed_without_a_word(collection: Collection, qrels: Qrels) -> None:
    assert checked(ideal(qrels), collection, qrels) == ([], ())


def test_missing_and_strange_queries_are_counted(collection: Collection, qrels: Qrels) -> None:
    some = dict(list(ideal(qrels).items())[3:])
    strange = {"q-of-another-set": some["q-river-7"], "q-bread-0": some["q-river-7"]}
    notes, faults = checked(Run("r", some | strange), collection, qrels)
    assert notes == [
        "mine does not answer 3 of 16 queries: they count as zero",
        "mine answers 2 queries that this split does not judge: they are left out",
    ]
    assert faults == ()


def test_queries_without_a_relevant_document_are_not_missed(collection: Collection, qrels: Qrels) -> None:
    """They count nowhere, so that none of them counts as zero; to answer them is no mistake either."""
    more = {**qrels, "q-bread-0": {"bread-1": 0}}
    assert checked(ideal(qrels), collection, more) == ([], ())
    assert checked(ideal(more), collection, more) == ([], ())


def test_unknown_documents_are_counted_once_each_and_some_are_named(collection: Collection, qrels: Qrels) -> None:
    strangers = ["z9", "z1", "z5", "z3"]
    rankings = {query_id: [*strangers, *judged] for query_id, judged in qrels.items()}
    _, faults = checked(run_of(rankings), collection, qrels)
    assert faults == ("mine holds 4 documents that the collection lacks, e.g. z1, z3, z5",)


def test_documents_that_a_bundle_gained_are_told_and_not_judged(collection: Collection, qrels: Qrels) -> None:
    run = run_of({query_id: ["z9", *judged] for query_id, judged in qrels.items()})
    faults = Faults("f")
    assert check_run(run, "mine", collection, qrels, faults, grown=True) == [
        "mine finds 1 documents that the collection lacks: they count as not relevant"
    ]
    assert faults.count == 0
    # One of another collection has none in common.
    check_run(run_of({query_id: ["z9"] for query_id in qrels}), "mine", collection, qrels, faults, grown=True)
    assert faults.count == 1


def test_a_run_of_other_queries_is_at_fault(collection: Collection, qrels: Qrels) -> None:
    _, faults = checked(run_of({"q1": ["bread-0"]}), collection, qrels)
    assert faults == ("mine answers none of the 16 queries",)
    assert checked(Run("r", {}), collection, qrels)[1] == faults


# --- the comparison


def shuffled(run: Run, name: str, seed: int) -> Run:
    draw = random.Random(seed)
    return run_of({q: draw.sample(found.doc_ids, len(found.doc_ids)) for q, found in run.items()}, name)


@pytest.fixture
def deep(qrels: Qrels, collection: Collection) -> Run:
    """The relevant document first, then nine others."""
    others = collection.documents.ids
    return run_of(
        {q: [*judged, *[doc_id for doc_id in others if doc_id not in judged][:9]] for q, judged in qrels.items()}
    )


def test_equal_runs_are_not_called_different(deep: Run, qrels: Qrels) -> None:
    worse = shuffled(deep, "worse", 1)
    found = lay_side_by_side({"one": worse, "same": worse.named("same"), "again": worse.named("x")}, qrels, **FAST)
    assert len(found["pairs"]) == 3
    for pair in found["pairs"]:
        assert (pair["delta"], pair["low"], pair["high"]) == (0, 0, 0)
        assert (pair["p"], pair["p_holm"], pair["ties"], pair["real"]) == (1, 1, 16, False)
    text = render_comparison({"collection": "c", "split": "test", "notes": [], **found})
    assert "real: " not in text.replace("not shown to be real: ", "")
    assert text.count("not shown to be real: ") == 3


def test_a_difference_on_every_query_is_real(deep: Run, qrels: Qrels) -> None:
    runs = {"best": deep, "last": run_of({q: found.doc_ids[::-1] for q, found in deep.items()})}
    found = lay_side_by_side(runs, qrels, **FAST)
    (pair,) = found["pairs"]
    assert (pair["system"], pair["baseline"], pair["losses"], pair["real"]) == ("last", "best", 16, True)
    assert pair["high"] < 0
    assert pair["delta"] == pytest.approx(found["systems"]["last"][MEASURE] - found["systems"]["best"][MEASURE])
    back = lay_side_by_side(dict(reversed(runs.items())), qrels, **FAST)["pairs"][0]
    assert (back["delta"], back["wins"], back["real"]) == (-pair["delta"], 16, True)


def test_every_pair_is_compared_and_adjusted_for_all_of_them(deep: Run, qrels: Qrels) -> None:
    runs = {name: shuffled(deep, name, seed) for seed, name in enumerate("abcd")} | {"best": deep}
    found = lay_side_by_side(runs, qrels, **FAST)
    pairs = {(row["baseline"], row["system"]): row for row in found["pairs"]}
    assert list(pairs) == list(itertools.combinations(runs, 2))
    values = {name: evaluate(run, qrels, [MEASURE])[MEASURE] for name, run in runs.items()}
    alone = {pair: compare(values[pair[1]], values[pair[0]], **FAST) for pair in pairs}
    adjusted = holm({pair: result.p for pair, result in alone.items()})
    for pair, row in pairs.items():
        expected = alone[pair]
        assert (row["delta"], row["p"]) == (pytest.approx(expected.delta), expected.p)
        assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
        assert row["p_holm"] == adjusted[pair] >= row["p"]
        assert row["real"] == (adjusted[pair] < 0.05)


def test_a_difference_that_one_test_would_show_may_not_survive_many(deep: Run, qrels: Qrels) -> None:
    """One of six queries at a time is lost, so that p is 1/32 before the adjustment, and far from it after."""
    ids = list(qrels)
    lost = {q: found.doc_ids[::-1] if q in ids[:6] else found.doc_ids for q, found in deep.items()}
    one = lay_side_by_side({"best": deep, "lost": run_of(lost)}, qrels, resamples=4000, seed=7)["pairs"][0]
    assert 0.02 < one["p"] == one["p_holm"] < 0.05
    assert one["real"]
    copies = {f"copy{i}": deep for i in range(4)}
    many = lay_side_by_side({"best": deep, "lost": run_of(lost), **copies}, qrels, resamples=4000, seed=7)["pairs"]
    assert not any(row["real"] for row in many)


def test_the_level_is_that_of_the_confidence_asked_for(deep: Run, qrels: Qrels) -> None:
    ids = list(qrels)
    lost = {q: found.doc_ids[::-1] if q in ids[:6] else found.doc_ids for q, found in deep.items()}
    runs = {"best": deep, "lost": run_of(lost)}
    real = {
        level: lay_side_by_side(runs, qrels, resamples=4000, seed=7, confidence=level)["pairs"][0]["real"]
        for level in (0.9, 0.95, 0.99)
    }
    assert real == {0.9: True, 0.95: True, 0.99: False}


def test_means_are_those_of_the_measures_and_a_query_without_an_answer_is_zero(deep: Run, qrels: Qrels) -> None:
    part = deep.only(list(qrels)[:12])
    found = lay_side_by_side({"whole": deep, "part": part}, qrels, **FAST)
    assert found["queries"] == 16
    for name, run in (("whole", deep), ("part", part)):
        expected = evaluate(run, qrels, MEASURES)
        assert found["systems"][name] == {measure: mean(values) for measure, values in expected.items()}
        assert found["values"][name] == expected[MEASURE]
    assert found["systems"]["part"][MEASURE] == 12 / 16
    assert [found["values"]["part"][query_id] for query_id in list(qrels)[12:]] == [0] * 4


def test_one_query_is_json_and_shows_nothing(deep: Run, qrels: Qrels) -> None:
    query_id = next(iter(qrels))
    one = {query_id: qrels[query_id]}
    worse = run_of({query_id: deep[query_id].doc_ids[::-1]})
    found = lay_side_by_side({"best": deep, "worse": worse}, one, **FAST)
    (pair,) = found["pairs"]
    assert (pair["low"], pair["high"], pair["sd"], pair["detectable"]) == (None, None, None, None)
    assert not pair["real"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "worse against best: -" in render_comparison({"collection": "c", "split": "s", "notes": [], **found})


def test_intervals_are_called_what_they_are(deep: Run, qrels: Qrels) -> None:
    worse = run_of({query_id: deep[query_id].doc_ids[::-1] for query_id in qrels})
    found = lay_side_by_side({"best": deep, "worse": worse}, qrels, confidence=0.99, **FAST)
    assert "99 %" in render_comparison({"collection": "c", "split": "s", "notes": [], **found})


# --- from paths to text


@pytest.fixture
def runs(run_folder: Path) -> Path:
    return run_folder / "evaluation" / "runs"


def test_a_bundle_is_asked_and_equals_the_run_that_it_wrote(
    run_folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondstage.reranker.Reranker.stream", forbidden)  # its scores lie beside it
    paths = [run_folder / "bundle", runs / "pipeline.trec", runs / "random.trec"]
    found = compare_paths(paths, None, "test", **FAST)
    name = Collection.load(run_folder / "collection").name
    assert (found["collection"], found["split"], found["notes"]) == (name, "test", [])
    assert [name.rpartition("/")[2] for name in found["systems"]] == ["out", "pipeline", "random"]
    own, written, _ = found["systems"].values()
    assert own == written
    assert [pair["real"] for pair in found["pairs"]] == [False, True, True]


def test_a_bundle_alone_has_its_first_stage_and_its_reranker_beside_it(run_folder: Path, runs: Path) -> None:
    found = compare_paths([run_folder / "bundle"], None, "test", **FAST)
    whole = compare_paths([runs / f"{name}.trec" for name in ("first_stage", "reranked", "pipeline")],
                          str(run_folder / "collection"), "test", **FAST)  # fmt: skip
    assert [name.partition(", ")[2] for name in found["systems"]] == ["first stage", "reranked", ""]
    assert list(found["systems"].values()) == list(whole["systems"].values())
    assert len(found["pairs"]) == 3


def test_the_judgements_may_be_those_of_a_folder_in_beir_layout(
    run_folder: Path, beir_folder: Path, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    (tmp_path / "beir" / "qrels" / "week2.tsv").write_bytes((beir_folder / "qrels" / "test.tsv").read_bytes())
    (tmp_path / "beir" / "qrels" / "dev.tsv").unlink()
    before = sorted(path.name for path in (tmp_path / "beir").rglob("*"))
    found = compare_paths([runs / "pipeline.trec"], str(tmp_path / "beir"), "week2", **FAST)
    stored = compare_paths([runs / "pipeline.trec"], str(run_folder / "collection"), "test", **FAST)
    assert (found["systems"], found["split"]) == (stored["systems"], "week2")
    assert sorted(path.name for path in (tmp_path / "beir").rglob("*")) == before
    with pytest.raises(UserError, match="has no split 'dev'"):  # none is cut from train
        compare_paths([runs / "pipeline.trec"], str(tmp_path / "beir"), "dev", **FAST)


def test_queries_that_train_shares_are_counted_in_a_note(
    beir_folder: Path, collection: Collection, qrels: Qrels, tmp_path: Path
) -> None:
    shutil.copytree(beir_folder, tmp_path / "beir")
    train = tmp_path / "beir" / "qrels" / "train.tsv"
    shared = list(qrels)[:3]
    with train.open("a") as file:
        file.writelines(f"{query_id}\twinter-0\t1\n" for query_id in shared)
    Collection.read(tmp_path / "beir", tmp_path / "leaking")
    ideal(qrels).write_trec(tmp_path / "ideal.trec")
    for folder, notes in (
        (tmp_path / "leaking", ["3 of 16 queries share text or relevant documents with train or dev: a system that "]),
        (collection.folder, []),
    ):
        found = compare_paths([tmp_path / "ideal.trec"], str(folder), "test", **FAST)
        assert [note[: len(start)] for note, start in zip(found["notes"], notes, strict=True)] == notes
        assert found["queries"] == 16


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("a score was computed")


def test_a_bundle_that_lies_alone_is_asked_with_the_collection_named(
    run_folder: Path, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "moved").symlink_to(run_folder / "bundle")
    with pytest.raises(UserError, match=r"no collection lies beside .*moved: name its folder with --collection"):
        compare_paths([tmp_path / "moved"], None, "test")
    given = str(run_folder / "collection")
    found = compare_paths([tmp_path / "moved", runs / "pipeline.trec"], given, "test", **FAST)
    one, other = found["values"].values()
    assert one == pytest.approx(other, abs=1e-9)
    assert not (tmp_path / ".lock").exists()


def test_the_collection_is_that_beside_the_first_bundle_wherever_it_stands(run_folder: Path, runs: Path) -> None:
    paths = [runs / "bm25.trec", run_folder / "bundle"]
    assert compare_paths(paths, None, "test", **FAST)["queries"] == 16


def test_a_folder_that_is_no_bundle_and_a_file_that_is_no_run_are_told(run_folder: Path, tmp_path: Path) -> None:
    given = str(run_folder / "collection")
    with pytest.raises(UserError, match="is not a bundle: it holds no manifest"):
        compare_paths([tmp_path], given, "test")
    with pytest.raises(UserError, match="is not a bundle: its manifest says 'mine'"):
        compare_paths([run_folder / "mine"], given, "test")
    (tmp_path / "notes.txt").write_text("no run at all\n")
    with pytest.raises(UserError, match=r"notes\.txt, line 1: not `query_id Q0"):
        compare_paths([tmp_path / "notes.txt"], given, "test")


def test_the_faults_of_all_runs_are_told_at_once_with_the_way_out(
    collection: Collection, qrels: Qrels, tmp_path: Path
) -> None:
    run_of({query_id: ["nowhere"] for query_id in qrels}).write_trec(tmp_path / "a.trec")
    run_of({"strange": ["bread-0"]}).write_trec(tmp_path / "b.trec")
    ideal(qrels).write_trec(tmp_path / "good.trec")
    with pytest.raises(UserError) as caught:
        read_systems([tmp_path / f"{name}.trec" for name in ("a", "b", "good")], collection, "test")
    assert str(caught.value).splitlines() == [
        "the comparison: 2 faults",
        "  a holds 1 documents that the collection lacks, e.g. nowhere",
        "  b answers none of the 16 queries",
        "give runs over the documents and queries of this collection, or another --collection, --split",
    ]


def test_a_split_that_cannot_be_judged_on_is_refused(collection: Collection, qrels: Qrels, tmp_path: Path) -> None:
    ideal(qrels).write_trec(tmp_path / "a.trec")
    with pytest.raises(UserError, match=r"has no split 'human'; it has dev, test, train"):
        read_systems([tmp_path / "a.trec"], collection, "human")
    judged = Collection.load(collection.folder)
    judged.qrels = {"none": {"q-bread-0": {"bread-1": 0}}}
    with pytest.raises(UserError, match=r"split 'none' of collection 'beir.*' has no query with a relevant document"):
        read_systems([tmp_path / "a.trec"], judged, "none")


def test_bundles_are_asked_only_what_counts(
    collection: Collection, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Collection.load(collection.folder)
    judged.qrels = {"test": {**collection.qrels["test"], "q-bread-0": {"bread-1": 0}}}
    asked: list[str] = []
    rank_queries = Pipeline.rank

    def noted(self: Pipeline, queries: Mapping[str, str], **options: Any) -> Any:
        asked.extend(queries)
        return rank_queries(self, queries, **options)

    monkeypatch.setattr(Pipeline, "rank", noted)
    _, notes = read_systems([run_folder / "bundle"], judged, "test")
    assert asked == list(collection.qrels["test"])
    assert notes == []


@pytest.fixture
def compared(deep: Run, qrels: Qrels) -> Callable[..., str]:
    def text(**runs: Run) -> str:
        found = lay_side_by_side(runs, qrels, **FAST)
        return render_comparison({"collection": "c", "split": "test", "notes": ["a note"], **found})

    return text


def test_the_text_has_the_systems_the_notes_and_real_differences_first(compared: Callable[..., str], deep: Run) -> None:
    first, *lines = compared(best=deep, same=deep, worst=shuffled(deep, "worst", 1)).splitlines()
    assert first == "c, test: 16 queries"
    assert lines[0].split() == list(MEASURES)
    assert [line.split()[0] for line in lines[1:4]] == ["worst", "best", "same"]
    assert lines[4:6] == ["  a note", "differences in nDCG@10, p values adjusted for all 3 pairs (Holm):"]
    assert [line.partition(" against")[0].partition(":")[0].strip() for line in lines[6:]] == [
        "real",
        "real",
        "not shown to be real",
    ]
    assert lines[6].startswith("  real: worst is worse than best: nDCG@10 -0.")
    assert lines[8].startswith("  not shown to be real: same against best: +0.0000, p = 1.0000")


def test_one_system_alone_asks_for_another(compared: Callable[..., str], deep: Run) -> None:
    assert compared(alone=deep).splitlines()[-1] == "one system alone: give another to compare it with"


def test_a_trec_run_scores_as_its_file_says(runs: Path, collection: Collection) -> None:
    found, _ = read_systems([runs / "reranked.trec", runs / "oracle.trec"], collection, "test")
    for name, run in found.items():
        written = read_trec(runs / f"{name}.trec")
        assert list(run.pairs()) == list(written.pairs())
        assert [found.scores.tolist() for found in run.values()] == [w.scores.tolist() for w in written.values()]
