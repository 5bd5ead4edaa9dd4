"""The bundle: what is copied into it, and that what dev chose lands in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage import firststage
from secondstage.answerability import Answerability, fit
from secondstage.calibrate import choose
from secondstage.calibration import Calibration
from secondstage.collection import Collection
from secondstage.config import ServeConfig
from secondstage.files import folder_digests, read_json, read_manifest
from secondstage.firststage import search_run
from secondstage.firststage.without import search_without
from secondstage.leakage import ENOUGH
from secondstage.lists import NEGATIVE, POSITIVE, Candidate, TrainingList, write_lists
from secondstage.pairmodel import CONTRACT
from secondstage.reranker import Reranker
from secondstage.run import Run, Scores, rank, read_trec
from secondstage.serve import make_bundle
from secondstage.serve.depth import Timing
from secondstage.serve.fuse import WEIGHTS, choose_weight

from .warmups import learnt_title

SEED = 13


def bundle(
    run_folder: Path,
    folder: Path,
    *,
    dev_queries: int = 300,
    saw_train: bool = True,
    mined: Path | None = None,
    warmed: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Make a bundle from the stages of a run, with scores beside it; return what the manifest says was chosen."""
    folder.mkdir()
    details = make_bundle(
        Collection.load(run_folder / "collection"),
        run_folder / "first_stage",
        run_folder / "train",
        ServeConfig(precision="fp32", **settings),
        folder,
        seed=SEED,
        scores=folder.parent / "scores",
        dev_queries=dev_queries,
        saw_train=saw_train,
        mined=mined,
        warmed=warmed,
    )
    choices: dict[str, Any] = json.loads(json.dumps(details, allow_nan=False))["choices"]
    return choices


def dev_run(run_folder: Path, depth: int) -> Run:
    """What the first stage finds for the dev queries."""
    collection = Collection.load(run_folder / "collection")
    queries = {query_id: collection.queries[query_id] for query_id in collection.split("dev")}
    return search_run(firststage.load(run_folder / "first_stage"), collection.documents.ids, queries, depth)


def dev_lists(run_folder: Path, depth: int) -> tuple[Run, Run]:
    """The dev candidates, and the same in the reranker's order, computed anew."""
    collection = Collection.load(run_folder / "collection")
    first = dev_run(run_folder, depth)
    reranker = Reranker.load(run_folder / "train" / "reranker", precision="fp32")
    return first, reranker.rerank(first, collection.queries, collection.documents)


def linked(run_folder: Path, folder: Path) -> Path:
    """The folder with the stages of a run, but for the collection."""
    folder.mkdir(exist_ok=True)
    for name in ("first_stage", "mine", "train"):
        (folder / name).symlink_to(run_folder / name)
    return folder


def without_dev(run_folder: Path, beir_folder: Path, folder: Path) -> Path:
    """The same run, but its collection has no dev split."""
    shutil.copytree(beir_folder, folder / "beir")
    (folder / "beir" / "qrels" / "dev.tsv").unlink()
    Collection.read(folder / "beir", folder / "collection", dev_share=0)
    return linked(run_folder, folder)


def finding(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Sequence[str]]) -> None:
    """The first stage finds these documents for each query, whatever it is asked, as deep as it is asked."""

    def search(stage: Any, doc_ids: Any, queries: Mapping[str, str], depth: int) -> Run:
        ranked = {query_id: list(found[query_id]) for query_id in queries}
        lists = {q: rank(ids, [-float(i) for i in range(len(ids))], ["x"] * len(ids)) for q, ids in ranked.items()}
        return Run("first_stage", lists).top(depth)

    monkeypatch.setattr("secondstage.serve.bundle.search_run", search)


@pytest.fixture
def refuse_to_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Reranker, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        raise AssertionError(f"{len(pairs)} pairs were scored")

    monkeypatch.setattr(Reranker, "stream", refuse)


def test_index_reranker_and_documents_are_copied(run_folder: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {name: digest for name, digest in folder_digests(folder).items() if "manifest" not in name}

    found = run_folder / "bundle"
    assert digests(found / "first_stage") == digests(run_folder / "first_stage")
    own, trained = digests(found / "reranker"), digests(run_folder / "train" / "reranker")
    # The calibration is what the bundle adds.
    assert own.pop(CONTRACT) != trained.pop(CONTRACT)
    assert own == trained
    assert digests(found)["documents.arrow"] == digests(run_folder / "collection")["documents.arrow"]
    assert {path.name for path in found.iterdir()} == {
        "first_stage",
        "reranker",
        "documents.arrow",
        "pipeline.json",
        "release.json",
        "manifest.json",
        "verdict.json",
    }
    assert not (found / "first_stage" / "manifest.json").exists()


def test_the_manifest_covers_every_file_but_the_verdict_and_says_how_all_was_chosen(run_folder: Path) -> None:
    manifest = read_manifest(run_folder / "bundle", "bundle", verify=True)
    digests = folder_digests(run_folder / "bundle")
    assert digests.pop("verdict.json")  # it comes after the bundle is made
    assert manifest["files"] == digests
    assert manifest["documents"] == 64
    fusion, depth = manifest["choices"]["fusion"], manifest["choices"]["depth"]
    assert fusion["chosen_on"] == "dev"
    assert (fusion["queries"], depth["queries"]) == (16, 16)
    assert list(fusion["curve"]) == [f"{weight:.2f}" for weight in WEIGHTS]
    settings = read_json(run_folder / "bundle" / "pipeline.json")
    assert (settings["weight"], settings["depth"]) == (fusion["weight"], depth["recommended"])


@pytest.mark.parametrize("depth", [3, 20])
def test_the_weight_is_the_best_on_dev_at_the_pipelines_depth(run_folder: Path, tmp_path: Path, depth: int) -> None:
    found = bundle(run_folder, tmp_path / "bundle", depth=depth)
    first, reranked = dev_lists(run_folder, depth)
    choice = choose_weight(first, reranked, Collection.load(run_folder / "collection").split("dev"))
    assert found["fusion"]["weight"] == choice.weight
    assert list(found["fusion"]["curve"].values()) == pytest.approx(list(choice.curve.values()))
    assert found["depth"]["depths"] == [depth]
    settings = read_json(tmp_path / "bundle" / "pipeline.json")
    assert (settings["weight"], settings["depth"], settings["serve"]["depth"]) == (choice.weight, depth, depth)


@pytest.mark.parametrize("weight", [0.0, 0.35, 1.0])
def test_a_configured_weight_stands(run_folder: Path, tmp_path: Path, weight: float) -> None:
    found = bundle(run_folder, tmp_path / "bundle", weight=weight)
    assert found["fusion"] == {"weight": weight, "chosen_on": "the configuration"}
    assert read_json(tmp_path / "bundle" / "pipeline.json")["weight"] == weight


def test_the_depth_is_chosen_among_those_that_may_be(run_folder: Path, tmp_path: Path) -> None:
    found = bundle(run_folder, tmp_path / "bundle", max_depth=25, weight=1.0)
    assert found["depth"]["depths"] == [5, 10, 20, 25]
    assert found["depth"]["p95_ms"] is None  # without a budget nothing is timed
    depth = read_json(tmp_path / "bundle" / "pipeline.json")["depth"]
    # This reranker was hardly trained: the deeper it reaches, the more it spoils.
    assert depth == found["depth"]["recommended"] == 10
    assert found["depth"]["pipeline"][1] == max(found["depth"]["pipeline"][1:])


@pytest.mark.parametrize(("budget", "depth"), [(1000.0, 20), (40.0, 20), (39.0, 10), (1.0, 10)])
def test_a_latency_budget_bounds_the_depth(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, depth: int
) -> None:
    """A search takes a millisecond per candidate, and twice that at worst."""
    asked: list[tuple[int, list[int]]] = []

    def timings(pipeline: Any, queries: Sequence[str], depths: Sequence[int]) -> Mapping[int, Timing]:
        asked.append((len(queries), list(depths)))
        return {depth: Timing(float(depth), 2.0 * depth) for depth in depths}

    monkeypatch.setattr("secondstage.serve.bundle.time_searches", timings)
    monkeypatch.setattr(Reranker, "stream", knowing(run_folder))
    # The relevant document is the last candidate, the 19th or 20th: it is reached at 20, not at 10.
    collection = Collection.load(run_folder / "collection")
    others = collection.documents.ids[:19]
    dev = collection.split("dev")
    lists = {query_id: [d for d in others if d not in judged] + list(judged) for query_id, judged in dev.items()}
    finding(monkeypatch, lists)
    found = bundle(run_folder, tmp_path / "bundle", max_depth=30, weight=1.0, latency_ms=budget)
    assert asked == [(16, [5, 10, 20, 30])]
    assert found["depth"]["p95_ms"] == [10, 20, 40, 60]
    assert read_json(tmp_path / "bundle" / "pipeline.json")["depth"] == found["depth"]["recommended"] == depth


def knowing(run_folder: Path) -> Any:
    """A method `stream` that gives the relevant document of a dev query 5, all others some number below 1."""
    collection = Collection.load(run_folder / "collection")
    relevant = {
        (collection.queries[query_id], collection.documents.by_id(doc_id).content)
        for query_id, judged in collection.split("dev").items()
        for doc_id in judged
    }

    def stream(self: Reranker, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        scores = [5.0 if pair in relevant else sum(map(len, pair)) % 7 / 7 for pair in pairs]
        yield list(range(len(pairs))), np.array(scores, np.float32)

    return stream


def test_calibration_and_threshold_are_those_of_the_dev_lists(run_folder: Path, tmp_path: Path) -> None:
    """The same functions on scores that were computed anew, at the pipeline's depth."""
    assert bundle(run_folder, tmp_path / "bundle", depth=12)["calibrated"] is True
    _, reranked = dev_lists(run_folder, 12)
    qrels = Collection.load(run_folder / "collection").split("dev")
    rows = [
        (score, qrels[query_id].get(doc_id, 0) > 0, query_id)
        for query_id, ranking in reranked.items()
        for doc_id, score in zip(ranking.doc_ids, ranking.scores.tolist(), strict=True)
    ]
    scores, relevant, queries = (list(column) for column in zip(*rows, strict=True))
    assert 0 < sum(relevant) < len(relevant) == 16 * 12
    expected = choose(scores, relevant, queries, seed=SEED)
    loaded = Reranker.load(tmp_path / "bundle" / "reranker", precision="fp32").calibration
    assert loaded is not None
    assert (loaded.method, loaded.basis) == (expected.method, expected.basis)
    probes = np.linspace(min(scores), max(scores), 12)
    assert loaded.of_list(probes) == pytest.approx(expected.of_list(probes), abs=1e-6)
    first = dev_run(run_folder, 12)
    answered = [
        query_id for query_id, ranking in first.items() if not qrels[query_id].keys().isdisjoint(ranking.doc_ids)
    ]
    collection = Collection.load(run_folder / "collection")
    asked = {query_id: collection.queries[query_id] for query_id in first}
    stage = firststage.load(run_folder / "first_stage")
    hidden = search_without(stage, collection.documents.ids, asked, qrels, 12)
    reranker = Reranker.load(run_folder / "train" / "reranker", precision="fp32")
    again = reranker.rerank(hidden, asked, collection.documents)
    assert 0 < len(answered) <= len(hidden) == 16
    fitted = fit(
        [np.stack([reranked[q].scores_of(first[q].doc_ids), first[q].scores]) for q in answered],
        [np.stack([again[q].scores_of(hidden[q].doc_ids), hidden[q].scores]) for q in hidden],
    )
    chosen = Answerability.from_json(read_json(tmp_path / "bundle" / "pipeline.json")["answerability"])
    assert chosen.threshold == pytest.approx(fitted.threshold, abs=1e-6)
    assert len(chosen.weights) == 6
    for q, ranking in first.items():
        both = np.stack([reranked[q].scores_of(ranking.doc_ids), ranking.scores])
        assert chosen.confidence(both) == pytest.approx(fitted.confidence(both), abs=1e-5)


def test_without_dev_nothing_is_chosen_and_nothing_scored(
    run_folder: Path, beir_folder: Path, tmp_path: Path, refuse_to_score: None
) -> None:
    found = bundle(without_dev(run_folder, beir_folder, tmp_path / "run"), tmp_path / "bundle")
    fusion = {"weight": 0.5, "chosen_on": "nothing: there is no dev split"}
    assert found == {"fusion": fusion, "depth": None, "calibrated": False}
    settings = read_json(tmp_path / "bundle" / "pipeline.json")
    assert (settings["depth"], settings["weight"], settings["answerability"]) == (50, 0.5, None)
    trained = read_json(run_folder / "train" / "reranker" / CONTRACT)
    assert read_json(tmp_path / "bundle" / "reranker" / CONTRACT) == trained
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(("settings", "depth"), [({"max_depth": 7}, 7), ({"max_depth": 300}, 50), ({"depth": 64}, 64)])
def test_without_dev_the_depth_is_usual_or_what_may_be(
    run_folder: Path, beir_folder: Path, tmp_path: Path, settings: dict[str, Any], depth: int
) -> None:
    bundle(without_dev(run_folder, beir_folder, tmp_path / "run"), tmp_path / "bundle", weight=0.3, **settings)
    found = read_json(tmp_path / "bundle" / "pipeline.json")
    assert (found["depth"], found["weight"]) == (depth, 0.3)


def test_without_dev_a_calibration_that_the_model_had_is_kept(
    run_folder: Path, beir_folder: Path, tmp_path: Path
) -> None:
    run = without_dev(run_folder, beir_folder, tmp_path / "run")
    (run / "train").unlink()
    shutil.copytree(run_folder / "train", run / "train")
    contract = run / "train" / "reranker" / CONTRACT
    given = Calibration("platt", 2.0, -1.0)
    contract.write_text(json.dumps(read_json(contract) | {"calibration": given.to_json()}))
    assert bundle(run, tmp_path / "bundle")["calibrated"] is False
    assert Reranker.load(tmp_path / "bundle" / "reranker").calibration == given


def test_where_no_candidate_is_relevant_there_is_nothing_to_calibrate_on(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qrels = Collection.load(run_folder / "collection").split("dev")
    run = dev_run(run_folder, 12)
    lists = {query_id: [d for d in ranking.doc_ids if d not in qrels[query_id]] for query_id, ranking in run.items()}
    assert 0 < sum(map(len, lists.values())) < len(list(run.pairs()))
    finding(monkeypatch, lists)
    assert bundle(run_folder, tmp_path / "bundle", depth=10)["calibrated"] is False
    assert "calibration" not in read_json(tmp_path / "bundle" / "reranker" / CONTRACT)
    settings = read_json(tmp_path / "bundle" / "pipeline.json")
    assert (settings["answerability"], settings["weight"]) == (None, 0)


def test_a_second_bundle_scores_nothing_again(run_folder: Path, tmp_path: Path, scored: list[int]) -> None:
    bundle(run_folder, tmp_path / "one", max_depth=20)
    # For the threshold the relevant document is hidden, and the next one moves up.
    assert sum(scored) == 16 * 21
    (kept,) = (tmp_path / "scores").iterdir()
    before = (kept.read_bytes(), kept.stat().st_mtime_ns)
    bundle(run_folder, tmp_path / "two", max_depth=20)
    bundle(run_folder, tmp_path / "three", depth=10)  # a part of these
    assert sum(scored) == 16 * 21
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    one, two = (folder_digests(tmp_path / name) for name in ("one", "two"))
    assert one == two
    bundle(run_folder, tmp_path / "four", depth=25)
    assert sum(scored) == 16 * 26


def test_the_choices_search_deeper_than_mining_did_and_begin_with_the_same_lists(run_folder: Path) -> None:
    """A hybrid, too: what it fuses does not depend on how many documents are asked for, up to its own depth."""
    mined = read_trec(run_folder / "mine" / "dev.trec")
    deeper = dev_run(run_folder, 50)
    assert {len(ranking.doc_ids) for ranking in mined.values()} == {30}  # train.dev_depth
    assert {len(ranking.doc_ids) for ranking in deeper.values()} == {50}
    assert list(mined) == list(deeper)
    for query_id, ranking in deeper.top(30).items():
        assert ranking.doc_ids == mined[query_id].doc_ids
        assert ranking.scores.tolist() == mined[query_id].scores.tolist()


def leaking(run_folder: Path, beir_folder: Path, folder: Path, count: int) -> Path:
    """The same run, but `count` of its 16 dev queries have a relevant document that one of train has."""
    shutil.copytree(beir_folder, folder / "beir")
    train, dev = (folder / "beir" / "qrels" / f"{split}.tsv" for split in ("train", "dev"))
    given = train.read_text().splitlines()[1].split()[1]
    asked = [line.split()[0] for line in dev.read_text().splitlines()[1:]]
    with dev.open("a") as file:
        file.writelines(f"{query_id}\t{given}\t1\n" for query_id in asked[:count])
    Collection.read(folder / "beir", folder / "collection")
    return linked(run_folder, folder)


def test_what_train_gives_away_of_dev_is_left_out_of_the_choices_where_enough_is_left(
    run_folder: Path,
    beir_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 10)
    found = bundle(leaking(run_folder, beir_folder, tmp_path / "run", 6), tmp_path / "bundle", depth=10)
    assert found["leakage"] == {
        "against": ["train"],
        "queries": 16,
        "counts": {"same_text": 0, "near_duplicate": 0, "document": 6, "any": 6},
        "free": 10,
        "chosen_on": "free",
        "used": 10,
    }
    assert found["fusion"]["queries"] == found["depth"]["queries"] == 10
    assert "6 share a relevant document: choices are made on 10 of the other 10" in capsys.readouterr().err
    # The same as if the leaking queries had never been there.
    first, reranked = dev_lists(run_folder, 10)
    dev = Collection.load(run_folder / "collection").split("dev")
    free = list(dev)[6:]
    choice = choose_weight(first.only(free), reranked.only(free), {query_id: dev[query_id] for query_id in free})
    assert list(found["fusion"]["curve"].values()) == pytest.approx(list(choice.curve.values()))


def test_choices_are_made_on_all_dev_queries_where_too_few_are_free_of_train(
    run_folder: Path, beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ENOUGH == 30
    found = bundle(leaking(run_folder, beir_folder, tmp_path / "run", 6), tmp_path / "bundle", depth=10)
    assert (found["leakage"]["free"], found["leakage"]["chosen_on"]) == (10, "all")
    assert found["fusion"]["queries"] == found["depth"]["queries"] == 16
    told = capsys.readouterr().err
    assert (
        "the other 10 are fewer than 30, so choices are made on 16 of all, and may trust the reranker too much" in told
    )


def test_the_queries_that_choices_are_made_on_are_drawn_from_those_that_are_free(
    run_folder: Path, beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not first drawn, then thinned out: what train gives away must not cost the others their place."""
    monkeypatch.setattr("secondstage.leakage.ENOUGH", 10)
    found = bundle(leaking(run_folder, beir_folder, tmp_path / "run", 6), tmp_path / "some", depth=10, dev_queries=8)
    assert (found["leakage"]["free"], found["leakage"]["used"], found["fusion"]["queries"]) == (10, 8, 8)


def test_a_model_that_was_not_trained_here_saw_nothing_of_train(
    run_folder: Path, beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bundle(
        leaking(run_folder, beir_folder, tmp_path / "run", 6), tmp_path / "bundle", depth=10, saw_train=False
    )
    assert (found["leakage"]["against"], found["leakage"]["counts"]["any"]) == ([], 0)
    assert (found["leakage"]["chosen_on"], found["fusion"]["queries"]) == ("free", 16)
    assert "training query" not in capsys.readouterr().err


def test_what_was_mined_gives_away_and_what_was_not_gives_nothing(
    run_folder: Path, beir_folder: Path, tmp_path: Path
) -> None:
    """A positive that was relabelled is shared with one dev query, the document that train shares was not mined."""
    run = leaking(run_folder, beir_folder, tmp_path / "run", 6)
    collection = Collection.load(run / "collection")
    query_id, asked = list(collection.qrels["train"])[-1], list(collection.qrels["dev"])[-1]
    (shared,) = collection.qrels["dev"][asked]
    roles = [(shared, POSITIVE), ("winter-0", NEGATIVE)]
    candidates = tuple(Candidate(doc_id, 0, False, "bm25", 1, 1.0, role) for doc_id, role in roles)
    write_lists(tmp_path / "mined" / "train", [TrainingList(query_id, candidates)])
    found = bundle(run, tmp_path / "bundle", depth=10, mined=tmp_path / "mined")
    assert found["leakage"]["against"] == ["train"]
    assert found["leakage"]["counts"] == {"same_text": 0, "near_duplicate": 0, "document": 1, "any": 1}
    assert found["leakage"]["free"] == 15


def test_a_title_that_the_warm_up_learnt_gives_a_dev_query_away(
    run_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    """Its document does not."""
    title = collection.queries[next(iter(collection.qrels["dev"]))].upper()
    titles = learnt_title(tmp_path / "titles", title)
    found = bundle(run_folder, tmp_path / "bundle", depth=10, saw_train=False, warmed=titles)["leakage"]
    assert found["against"] == ["train"]
    assert found["counts"] == {"same_text": 1, "near_duplicate": 0, "document": 0, "any": 1}


def test_what_train_gives_away_of_dev_is_counted(run_folder: Path, collection: Collection) -> None:
    found = read_manifest(run_folder / "bundle", "bundle")["choices"]["leakage"]
    assert (found["against"], found["queries"]) == (["train"], len(collection.qrels["dev"]))
    train = {doc_id for judged in collection.qrels["train"].values() for doc_id in judged}
    shared = sum(not train.isdisjoint(judged) for judged in collection.qrels["dev"].values())
    assert found["counts"]["document"] == shared
    assert found["counts"]["same_text"] == 0
    assert found["free"] == len(collection.qrels["dev"]) - found["counts"]["any"]
