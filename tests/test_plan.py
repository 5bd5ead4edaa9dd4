"""Stages: made once, made again when what they depend on changes, and never half; and the stages of a real run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.cli import main
from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to, check_models, check_splits, stages_of
from secondstage.configfile import check_config, override
from secondstage.errors import UserError
from secondstage.files import FORMAT, MANIFEST, read_json, read_manifest, write_json
from secondstage.lists import read_lists
from secondstage.plan import Stage, carry_out, claimed, describe_os_error, done
from secondstage.reranker import Reranker
from secondstage.serve import Pipeline, compare_paths, update_documents

from .families import save_family


class Maker:
    """Writes its content, and counts how often it was asked to."""

    def __init__(self, content: str = "made", fails: bool = False) -> None:
        self.content, self.fails, self.calls = content, fails, 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.calls += 1
        assert list(folder.iterdir()) == []
        (folder / "half.txt").write_text(self.content)
        if self.fails:
            raise UserError("it went wrong")
        (folder / "whole.txt").write_text(self.content)
        return {"note": self.content}


def stage(make: Callable[[Path], dict[str, Any]], sign: str = "sign", kind: str = "mine") -> Stage:
    return Stage(kind, sign, make)


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden things too, but the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_stage_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Maker()
    first = carry_out(stage(make), tmp_path)
    before = tree(tmp_path)
    second = carry_out(stage(make), tmp_path)
    assert make.calls == 1
    assert second == first == read_manifest(tmp_path / "mine", "mine", verify=True) == done(stage(make), tmp_path)
    assert (first["kind"], first["fingerprint"], first["note"]) == ("mine", "sign", "made")
    assert set(first["files"]) == {"half.txt", "whole.txt"}
    assert tree(tmp_path) == before
    news = capsys.readouterr()
    assert news.out == ""
    assert [line.partition(":")[2].strip().partition(" ")[0] for line in news.err.splitlines()[2:]] == ["done"]


def test_what_a_stage_held_is_gone_when_the_next_begins(tmp_path: Path) -> None:
    left: list[weakref.ref[Maker]] = []

    def make(folder: Path) -> dict[str, Any]:
        heavy = Maker()
        heavy.itself = heavy  # type: ignore[attr-defined]  # a cycle, as models are
        left.append(weakref.ref(heavy))
        return {}

    gc.disable()
    try:
        carry_out(stage(make), tmp_path)
        assert left[0]() is None
    finally:
        gc.enable()


def test_a_stage_is_made_again_when_its_fingerprint_changes(tmp_path: Path) -> None:
    carry_out(stage(Maker("old"), "one"), tmp_path)
    new = Maker("new")
    assert done(stage(new, "two"), tmp_path) is None
    assert carry_out(stage(new, "two"), tmp_path)["note"] == "new"
    assert (tmp_path / "mine" / "whole.txt").read_text() == "new"
    assert done(stage(new, "one"), tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_fingerprint_covers_what_is_read_of_the_stages_before() -> None:
    made: list[dict[str, Any]] = [
        {"kind": "collection", "files": {"documents.arrow": "1", "queries.arrow": "2"}},
        {"kind": "mine", "files": {"train/lists.arrow": "3", "audit.html": "4"}},
    ]

    def sign(manifests: list[dict[str, Any]], *reads: str) -> str:
        return stage(Maker())._replace(reads=reads or ("",)).after(manifests).fingerprint

    def changed(kind: int, file: str) -> list[dict[str, Any]]:
        return [
            {**found, "files": {**found["files"], **({file: "new"} if i == kind else {})}}
            for i, found in enumerate(made)
        ]

    for kind, file in ((0, "documents.arrow"), (0, "queries.arrow"), (1, "train/lists.arrow"), (1, "audit.html")):
        assert sign(changed(kind, file)) != sign(made)
        reads = ("collection/documents.arrow", "mine/train/")
        same = file in ("queries.arrow", "audit.html")
        assert (sign(changed(kind, file), *reads) == sign(made, *reads)) == same
    assert sign(made) != sign(made[:1]) != sign([])
    assert sign(made, "collection/") == sign(made[:1], "collection/") == sign(made[:1])
    assert stage(Maker(), "one").after(made).fingerprint != stage(Maker(), "two").after(made).fingerprint
    beside = [stage(Maker())._replace(beside=dict(found).copy).after(made).fingerprint for found in ((), [("a", "1")])]
    assert beside[0] == sign(made) != beside[1]


def test_stages_stand_side_by_side(tmp_path: Path) -> None:
    mine, train = Maker("mined"), Maker("trained")
    for sign in ("one", "two"):
        carry_out(stage(mine, "same"), tmp_path)
        carry_out(stage(train, sign, "train"), tmp_path)
    assert (mine.calls, train.calls) == (1, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "train"}


@pytest.mark.parametrize("old", [False, True])
def test_a_stage_that_fails_keeps_the_old_one(tmp_path: Path, old: bool) -> None:
    if old:
        carry_out(stage(Maker("old"), "one"), tmp_path)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="it went wrong"):
        carry_out(stage(Maker("new", fails=True), "two"), tmp_path)
    assert tree(tmp_path) == before
    assert (done(stage(Maker(), "one"), tmp_path) is not None) == old
    again = Maker("again")
    assert carry_out(stage(again, "two"), tmp_path)["note"] == "again"
    assert again.calls == 1


def test_nobody_sees_a_stage_before_it_is_whole(tmp_path: Path) -> None:
    seen = []

    def make(folder: Path) -> dict[str, Any]:
        (folder / "half.txt").write_text("")
        seen.append((done(stage(make, "one"), tmp_path), done(stage(make, "two"), tmp_path)))
        return {}

    first = carry_out(stage(make, "one"), tmp_path)
    carry_out(stage(make, "two"), tmp_path)
    assert seen == [(None, None), (first, None)]


@pytest.mark.parametrize("names", [("half.txt",), ("half.txt", "whole.txt")])
def test_an_incomplete_stage_is_made_again(tmp_path: Path, names: tuple[str, ...]) -> None:
    make = Maker()
    carry_out(stage(make), tmp_path)
    for name in names:
        (tmp_path / "mine" / name).unlink()
    assert done(stage(make), tmp_path) is None
    carry_out(stage(make), tmp_path)
    assert make.calls == 2
    assert read_manifest(tmp_path / "mine", "mine", verify=True)["note"] == "made"


def test_an_empty_folder_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert done(stage(Maker()), tmp_path) is None
    assert carry_out(stage(Maker()), tmp_path)["note"] == "made"


def left_alone(tmp_path: Path, make: Maker, message: str) -> None:
    """Assert that the stage folder is refused, and neither changed nor read further."""
    before = tree(tmp_path)
    for function in (done, carry_out):
        with pytest.raises(UserError, match=message):
            function(stage(make), tmp_path)
    assert make.calls == 0
    assert tree(tmp_path) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    left_alone(tmp_path, Maker(), "is not a mine folder of secondstage and is left alone: choose another output folder")


@pytest.mark.parametrize("manifest", [{"kind": "train"}, {"name": "of another tool"}, []])
def test_a_folder_with_another_manifest_is_refused_and_left_alone(tmp_path: Path, manifest: object) -> None:
    write_json(tmp_path / "mine" / MANIFEST, manifest)
    left_alone(tmp_path, Maker(), "is not a mine folder of secondstage and is left alone")


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused_and_left_alone(tmp_path: Path, number: int) -> None:
    carry_out(stage(Maker("old")), tmp_path)
    path = tmp_path / "mine" / MANIFEST
    write_json(path, read_json(path) | {"format": number})
    left_alone(tmp_path, Maker(), f"has format {number}.*choose another output folder, or delete this one")


def test_a_file_in_the_place_of_a_stage_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    make = Maker()
    with pytest.raises((UserError, OSError)):
        carry_out(stage(make), tmp_path)
    assert make.calls == 0
    assert (tmp_path / "mine").read_text() == "mine"


# --- the claim on the output folder

KINDS = ("mine", "train")

CHILD = """
import pathlib, sys, time
from secondstage.plan import Stage, carry_out, claimed

def make(folder):
    (folder / "half.txt").write_text("half")
    print("making", flush=True)
    sys.stdin.read()
    (folder / "whole.txt").write_text("of the child")
    return {"note": "of the child"}

output = pathlib.Path(sys.argv[1])
with claimed(output, ["mine"]):
    carry_out(Stage("mine", "child", make), output)
"""


@contextmanager
def child(output: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the midst of making a stage; it ends well when its input is closed."""
    command = [sys.executable, "-c", CHILD, str(output)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "making\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "one"
    with child(output) as process:
        before = tree(output)
        with pytest.raises(UserError) as caught, claimed(output, KINDS):
            pass
        assert str(caught.value) == f"another run is writing to {output}: wait for it, or choose another output"
        assert tree(output) == before
        with claimed(output.with_name("two"), KINDS):
            pass
        process.communicate()
        assert process.returncode == 0
    with claimed(output, KINDS):
        assert read_manifest(output / "mine", "mine", verify=True)["note"] == "of the child"


@pytest.mark.parametrize("old", [False, True])
def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, old: bool) -> None:
    if old:
        carry_out(stage(Maker("old")), tmp_path)
    whole = tree(tmp_path)
    with child(tmp_path) as process:
        process.kill()
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert any(name.endswith("half.txt") and name.startswith(".mine.tmp-") for name in tree(tmp_path))
    assert (done(stage(Maker()), tmp_path) is not None) == old
    with claimed(tmp_path, KINDS):
        assert tree(tmp_path) == whole
        assert carry_out(stage(Maker("new"), "new"), tmp_path)["note"] == "new"


def test_what_a_user_keeps_beside_the_stages_is_left_alone(tmp_path: Path) -> None:
    for name in (".conf.old", "conf", ".x.tmp-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / ".bashrc.old").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    with claimed(tmp_path, KINDS):
        pass
    assert {path.name for path in tmp_path.iterdir()} == before | {".lock"}


def test_a_kill_between_the_renames_is_undone(tmp_path: Path) -> None:
    make = Maker("old")
    carry_out(stage(make), tmp_path)
    (tmp_path / "mine").rename(tmp_path / ".mine.old")
    with claimed(tmp_path, KINDS):
        assert carry_out(stage(make), tmp_path)["note"] == "old"
    assert make.calls == 1


def test_the_claim_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), claimed(tmp_path, KINDS):
            raise ValueError("inside")
    with claimed(tmp_path, KINDS):
        pass


@pytest.mark.parametrize("below", ["", "runs", "runs/one"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with (
        pytest.raises(UserError, match=f"cannot write to the output folder {file / below}: "),
        claimed(file / below, KINDS),
    ):
        pass
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (OSError(28, "No space left on device", "/x/y"), "No space left on device (/x/y): "),
        (OSError(28, "No space left on device"), "No space left on device: "),
        (OSError("something odd"), "something odd: "),
    ],
)
def test_a_failed_write_is_told_in_words(error: OSError, start: str) -> None:
    told = describe_os_error(error)
    assert told.startswith(start)
    assert told.endswith("run the same command again to go on")


# --- the stages of a real run

STAGES = ("collection", "first_stage", "mine", "train", "bundle", "evaluation")
DEPTH = 10


class Project:
    """A run of a few steps over BM25."""

    def __init__(self, output: Path, beir: Path, model: Path) -> None:
        self.output = output
        self.config: dict[str, Any] = {
            "output": str(output),
            "collection": str(beir),
            "first_stage": "bm25",
            "train": {"model": str(model), "steps": 2, "max_length": 32, "batch_tokens": 512, "precision": "fp32"},
            "serve": {"depth": DEPTH, "precision": "fp32"},
            "evaluate": {"resamples": 100, "latency_queries": 2},
        }

    def run(self, *overrides: str, command: str = "evaluate") -> list[str]:
        """Carry out a command; return the stages that were made, which are not those that were done before."""
        before = {kind: self.made(kind) for kind in STAGES}
        carry_out_up_to(command, check_config(override(self.config, overrides)))
        return [kind for kind in STAGES if self.made(kind) != before[kind]]

    def made(self, kind: str) -> int:
        path = self.output / kind / MANIFEST
        return path.stat().st_mtime_ns if path.is_file() else 0

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.output / "evaluation" / "metrics.json")
        return found

    @property
    def verdict(self) -> Path:
        return self.output / "bundle" / "verdict.json"

    @property
    def scores(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.output / "scores").iterdir()}


@pytest.fixture(scope="module")
def finished(beir_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a whole run."""
    project = Project(tmp_path_factory.mktemp("finished") / "out", beir_folder, tiny_model)
    assert project.run() == list(STAGES)
    return project.output


@pytest.fixture
def project(finished: Path, beir_folder: Path, tiny_model: Path, tmp_path: Path) -> Project:
    """A copy of the whole run, to go on with."""
    shutil.copytree(finished, tmp_path / "out")
    return Project(tmp_path / "out", beir_folder, tiny_model)


def test_a_copied_run_is_done_and_its_bundle_keeps_its_dates(project: Project) -> None:
    """Where it lies is no part of what it is made from; a second run writes nothing."""
    assert project.run() == []
    files = [path for path in project.output.rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert project.run() == []
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_the_verdict_is_in_the_bundle(project: Project) -> None:
    said = project.metrics["verdict"]
    bundle = read_manifest(project.output / "bundle", "bundle", verify=True)
    assert read_json(project.verdict) == {
        "bundle": bundle["fingerprint"],
        "passed": said["passed"],
        "sentence": said["sentence"],
    }
    assert Pipeline.load(project.output / "bundle").refused


def test_a_bundle_that_is_made_anew_is_judged_anew(project: Project) -> None:
    before = read_json(project.verdict)
    shutil.rmtree(project.output / "bundle")
    assert project.run(command="bundle") == ["bundle"]
    assert Pipeline.load(project.output / "bundle").verdict is None  # of this one nobody said anything yet
    # The same came out: the evaluation stands, and what it says is put where it belongs.
    assert project.run() == []
    assert read_json(project.verdict) == before
    # Another one: it is evaluated.
    assert project.run("serve.weight=0.5") == ["bundle", "evaluation"]
    after = read_json(project.verdict)
    assert after["bundle"] != before["bundle"]
    assert after["sentence"] == project.metrics["verdict"]["sentence"] != before["sentence"]


def test_a_named_engine_is_made_after_the_proof(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Engines are made from a bundle: until then torch scores, and the line says how to make it."""
    assert project.run("serve.backend=onnx") == ["bundle", "evaluation"]
    bundle = project.output / "bundle"
    assert f"torch computes its scores. Make it with `secondstage export {bundle} --to onnx`" in capsys.readouterr().err
    with pytest.raises(UserError, match="is missing: make the engine"):
        Pipeline.load(bundle)
    assert main(["export", str(bundle), "--to", "onnx", "--queries", "2"]) == 0
    assert Pipeline.load(bundle).reranker.engine == "onnx"
    assert main(["evaluate", str(bundle)]) == 0
    assert "torch computes" not in capsys.readouterr().err
    # What computes now is proven anew, once.
    assert project.run("serve.backend=onnx") == ["evaluation"]
    assert "torch computes" not in capsys.readouterr().err
    assert project.run("serve.backend=onnx") == []


def test_a_bundle_with_other_documents_is_not_undone(project: Project, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text('{"_id": "new-1", "text": "key of the piano"}\n')
    bundle = project.output / "bundle"
    update_documents(bundle, add=tmp_path / "new.jsonl")
    for command in ("bundle", "evaluate"):
        with pytest.raises(UserError, match="holds documents added or removed by `secondstage documents`"):
            project.run("train.steps=1", command=command)
    assert project.run(command="train") == []
    assert "new-1" in Pipeline.load(bundle).documents
    notes = compare_paths([bundle], None, "test", resamples=10)["notes"]
    assert any("finds 1 documents that the collection lacks" in note for note in notes)
    bundle.rename(tmp_path / "kept")
    assert project.run() == ["bundle"]


def test_a_verdict_that_was_lost_or_changed_is_put_right(project: Project) -> None:
    before = read_json(project.verdict)
    write_json(project.verdict, before | {"passed": True})
    assert project.run() == []
    assert read_json(project.verdict) == before
    project.verdict.unlink()
    assert project.run() == []
    assert read_json(project.verdict) == before


def test_another_margin_is_judged_without_scoring_anything_again(project: Project, scored: list[int]) -> None:
    scores, before = project.scores, project.metrics
    assert not before["verdict"]["passed"]
    assert project.run("evaluate.gate.margin=-0.9") == ["evaluation"]
    assert project.scores == scores
    # What is timed is scored on purpose, one list at a time.
    assert max(scored) <= DEPTH
    after = project.metrics
    assert after["verdict"]["passed"]
    assert after["test_sets"]["test"]["systems"] == before["test_sets"]["test"]["systems"]
    assert read_json(project.verdict)["passed"]
    assert not Pipeline.load(project.output / "bundle").refused
    assert project.run() == ["evaluation"]
    assert not read_json(project.verdict)["passed"]


def test_what_only_the_evaluation_reads_makes_only_that_again(project: Project) -> None:
    for change in ("evaluate.resamples=101", "evaluate.gate.leaks=ignore", "evaluate.extra_splits=[dev]"):
        assert project.run(change) == ["evaluation"]
        assert project.run(change) == []


@pytest.fixture
def other_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A cross-encoder with a head that is always the same."""
    import torch

    torch.manual_seed(5)
    Reranker.load(tiny_model, max_length=32, precision="fp32").save(tmp_path / "other")
    return tmp_path / "other"


def test_a_deeper_pipeline_is_not_mined_and_trained_again(project: Project) -> None:
    for depth in (20, 40, 30):
        settings = (f"serve={{max_depth: {depth}, precision: fp32}}",)
        assert project.run(*settings) == ["bundle", "evaluation"]
        assert project.metrics["development"]["depth"]["depths"][-1] == depth
        assert project.run(*settings) == []
    assert project.run("serve={max_depth: 30, precision: fp32}", "train.dev_depth=25")[:2] == ["mine", "train"]


def test_another_reranker_that_changed_is_evaluated_again(project: Project, other_model: Path) -> None:
    settings = (f"evaluate.rerankers={{teacher: {other_model}}}", f"evaluate.exports={{teacher: {other_model}}}")
    for number, setting in enumerate(settings, 1):
        with_it = settings[:number]  # in the end, one name for two things
        assert project.run(*with_it) == ["evaluation"]
        assert project.run(*with_it) == []
        assert ("teacher" in project.metrics["exports"]) == (number == 2), setting
    own = project.metrics["test_sets"]["test"]["systems"]["teacher"]["measures"]
    reranker = Reranker.load(other_model, precision="fp32")
    reranker.model.classifier.weight.data.neg_()
    reranker.save(other_model)
    assert project.run(*settings) == ["evaluation"]
    assert project.metrics["test_sets"]["test"]["systems"]["teacher"]["measures"] != own
    # The same name in both sections: either may change.
    shutil.copytree(other_model, other_model.with_name("export"))
    both = (settings[0], f"evaluate.exports={{teacher: {other_model.with_name('export')}}}")
    assert project.run(*both) == ["evaluation"]
    for folder in (other_model, other_model.with_name("export")):
        os.utime(folder / "model.safetensors", (1, 1))
        assert project.run(*both) == ["evaluation"], folder
        assert project.run(*both) == []


def test_another_list_of_queries_is_evaluated_again(project: Project, tmp_path: Path) -> None:
    (tmp_path / "hard.txt").write_text("q-bread-3\n")
    setting = f"evaluate.slices={{hard: {tmp_path / 'hard.txt'}}}"
    for text, count in (("q-bread-3\n", 1), ("q-bread-3\nq-river-7\n", 2)):
        (tmp_path / "hard.txt").write_text(text)
        assert project.run(setting) == ["evaluation"]
        assert project.run(setting) == []
        slices = project.metrics["test_sets"]["test"]["slices"]
        assert [row["queries"] for row in slices if row["slice"] == "hard"] == [count, 16 - count]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluate.rerankers={teacher: ./nowhere}", "nowhere': no such folder"),
        ("evaluate.exports={onnx: ./nowhere}", "nowhere': no such folder"),
        ("evaluate.replicates=[./nowhere]", "nowhere is not a bundle"),
        ("evaluate.slices={hard: ./nowhere}", "evaluate.slices: hard: nowhere is not there"),
        ("evaluate.remote={url: 'http://127.0.0.1:9', api_key_env: NO_SUCH_KEY}", "NO_SUCH_KEY"),
    ],
)
def test_what_an_evaluation_would_miss_is_told_before_any_work(
    beir_folder: Path, tiny_model: Path, tmp_path: Path, setting: str, message: str
) -> None:
    project = Project(tmp_path / "out", beir_folder, tiny_model)
    with pytest.raises(UserError, match=message):
        project.run(setting)
    assert not project.output.exists()


# --- a reranker that was trained elsewhere


def part_of(beir: Path, folder: Path, *splits: str) -> Path:
    """The collection with some of its splits only."""
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in splits)):
        shutil.copy(beir / name, folder / name)
    return folder


def test_a_model_is_taken_as_it_is_with_nothing_but_a_test_split(
    beir_folder: Path, other_model: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "out", part_of(beir_folder, tmp_path / "beir", "test"), other_model)
    assert project.run("train.steps=0", "serve={precision: fp32}") == list(STAGES)
    mined = project.output / "mine"
    assert list(read_lists(mined / "train")) == []
    assert (mined / "dev.trec").read_text() == ""
    pairs = [("water of the river", "river water"), ("king", "snow")]
    given, own = (
        Reranker.load(folder, precision="fp32") for folder in (other_model, project.output / "bundle" / "reranker")
    )
    assert own.score(pairs) == pytest.approx(given.score(pairs), abs=1e-6)
    assert np.ptp(own.score(pairs)) > 0
    pipeline = Pipeline.load(project.output / "bundle")
    assert (pipeline.depth, pipeline.weight, pipeline.answerability) == (50, 0.5, None)
    tested = project.metrics["test_sets"]["test"]
    assert tested["queries"] == 16
    assert "untuned" not in tested["systems"]  # it is the reranker itself
    assert tested["leakage"]["against"] == []
    assert tested["leakage"]["counts"]["any"] == 0
    assert tested["calibration"]["method"] == "cross-fitted"
    assert tested["answerability"] is None
    assert project.metrics["development"]["fusion"]["chosen_on"] == "nothing: there is no dev split"
    assert (project.output / "evaluation" / "report.html").is_file()
    assert project.run("train.steps=0", "serve={precision: fp32}") == []


def test_a_model_taken_as_it_is_has_its_pipeline_chosen_on_dev(
    project: Project, other_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.run("train.steps=0", f"train.model={other_model}") == ["mine", "train", "bundle", "evaluation"]
    assert "nothing was trained here, so no query is a leak from train" in capsys.readouterr().err
    assert list(read_lists(project.output / "mine" / "train")) == []
    assert read_manifest(project.output / "mine", "mine")["dev_queries"] == 16
    assert read_manifest(project.output / "train", "train")["steps"] == 0
    assert project.metrics["development"]["fusion"]["chosen_on"] == "dev"
    tested = project.metrics["test_sets"]["test"]
    assert tested["calibration"]["fitted_on"] == "dev"
    assert tested["leakage"]["against"] == ["dev"]  # nothing was learnt from train


@pytest.mark.parametrize(
    ("splits", "overrides", "command", "told", "untold"),
    [
        (["test"], [], "bundle", ["no train split", "train.steps=0 takes train.model"], ["without a proof"]),
        (
            ["train"],
            [],
            "evaluate",
            ["no 'test' split, which evaluate.split", "collection.test_share=0.1 cuts one", "without a proof"],
            ["no train split"],
        ),
        (
            ["dev"],
            ["train.steps=0"],
            "evaluate",
            ["no 'test' split", "without a proof"],
            ["no train split", "test_share"],
        ),
        (
            ["dev", "test"],
            ["evaluate.extra_splits=[human]"],
            "evaluate",
            ["no train split", "no 'human' split, which evaluate.extra_splits", "there are dev, test"],
            ["no 'test' split", "without a proof"],
        ),
    ],
)
def test_a_missing_split_is_told_before_the_work(
    beir_folder: Path,
    other_model: Path,
    tmp_path: Path,
    splits: list[str],
    overrides: list[str],
    command: str,
    told: list[str],
    untold: list[str],
) -> None:
    project = Project(tmp_path / "out", part_of(beir_folder, tmp_path / "beir", *splits), other_model)
    with pytest.raises(UserError) as caught:
        project.run(*overrides, command=command)
    for words in told:
        assert words in str(caught.value)
    for words in untold:
        assert words not in str(caught.value)
    assert not (project.output / "first_stage").exists()
    assert Collection.load(project.output / "collection").queries


@pytest.mark.parametrize(
    ("relevance", "overrides", "told"),
    [
        (0, [], r"no query of the train split has a judgement of mine\.positive_from=1 .* with 0 at most"),
        (
            1,
            ["mine.positive_from=2"],
            r"mine\.positive_from=2 or higher \(32 are judged, with 1 at most\)",
        ),
        (0, ["train.steps=0"], ""),
        (0, ["mine.synthesize={}"], ""),
        (1, [], ""),
    ],
)
def test_a_train_split_that_teaches_nothing_is_told_before_the_work(
    beir_folder: Path, tmp_path: Path, relevance: int, overrides: list[str], told: str
) -> None:
    beir = part_of(beir_folder, tmp_path / "beir", "train", "test")
    train = beir / "qrels" / "train.tsv"
    train.write_text(train.read_text().replace("\t1\n", f"\t{relevance}\n"))
    found = Collection.read(beir, tmp_path / "c", dev_share=0.0).manifest
    base = {"output": "x", "collection": "x", "train": {"steps": 1}, "evaluate": {"split": "train"}}
    config = check_config(override(base, overrides))
    check_splits(found, config, "warmup")
    if not told:
        check_splits(found, config, "mine")
        return
    with pytest.raises(UserError, match=told) as caught:
        check_splits(found, config, "mine")
    assert "without a proof" not in str(caught.value)  # there is no pipeline either
    del found["splits"]["train"]["highest"]  # stored long ago
    check_splits(found, config, "mine")


def test_lists_that_nothing_would_learn_from_are_told(project: Project) -> None:
    with pytest.raises(UserError, match=r"train\.steps=0 takes train\.model as it is, which needs no lists, so mine"):
        project.run("train.steps=0", command="mine")


def test_a_finished_run_leaves_no_checkpoints(project: Project, tmp_path: Path) -> None:
    """Of its own: those of another training that was stopped are kept."""
    assert not (project.output / "checkpoints").exists()
    other = project.output / "checkpoints" / "train-other"
    other.mkdir(parents=True)
    shutil.rmtree(project.output / "train")
    assert project.run(command="train") == ["train"]
    assert [*(project.output / "checkpoints").iterdir()] == [other]


def test_a_start_that_is_none_is_told_before_the_work(
    beir_folder: Path, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "out", beir_folder, tiny_model)
    (tmp_path / "empty").mkdir()
    none = f"model={tmp_path / 'empty'}"
    student = [f"distill.teacher={other_model}", "distill.student.steps=1", f"distill.student.{none}"]
    for overrides in ([f"train.{none}"], student):
        with pytest.raises(UserError, match="cannot be loaded from"):
            project.run(*overrides)
    with pytest.raises(UserError, match="cannot be loaded from"):
        project.run(f"train.{none}", "warmup.steps=1", command="warmup")
    with pytest.raises(UserError, match=r"train\.steps=0 takes the model as it is, but .* is no trained reranker"):
        project.run("train.steps=0")
    unfit = save_family("bert", tmp_path / "unfit", tiny_model, vocab_size=50)
    for overrides in ([f"train.model={unfit}"], [*student[:2], f"distill.student.model={unfit}"]):
        with pytest.raises(UserError, match=r"a tokenizer that does not fit the model: .* of 50 tokens only"):
            project.run(*overrides)
    assert not project.output.exists()
    for good in (
        ["train.steps=1"],
        ["train.steps=0", f"train.model={other_model}"],
        ["train.steps=0", "warmup.steps=1"],
    ):
        config = check_config(override(project.config, good))
        check_models(config, stages_of("evaluate", config, project.output), project.output)


def test_what_a_training_asks_for_and_cannot_have_is_told_before_the_work(
    beir_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "out", beir_folder, tiny_model)
    decoder = save_family("gpt2", tmp_path / "gpt2", tiny_model, head="tokens")
    for overrides, words in (
        (["train.head=yes_no"], "is not a token of this decoder"),
        ([f"train.model={decoder}", "train.head=yes_no", "train.max_length=60"], "max_length 60 is too small"),
        (["train.freeze_layers=3"], r"train\.freeze_layers is 3, but the model has 2 layers"),
        (["train.lora.targets=[nothing]"], r"train\.lora\.targets: no linear layer is named nothing"),
        (["train.freeze_embeddings=true", "train.freeze_layers=2", "train.lora.rank=2"], "all layers are frozen"),
    ):
        with pytest.raises(UserError, match=words):
            project.run(*overrides)
    assert not project.output.exists()


def test_a_training_that_is_to_be_made_again_is_looked_at_first(project: Project, tmp_path: Path) -> None:
    """Nothing is mined again for a model that cannot be trained, though another one was."""
    before = read_json(project.output / "mine" / MANIFEST)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded from"):
        project.run("mine.depth=7", f"train.model={tmp_path / 'empty'}")
    assert read_json(project.output / "mine" / MANIFEST) == before


def test_what_is_done_needs_its_model_no_more(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the hub, say, that this machine cannot reach any more."""

    def gone(_: Any) -> None:
        raise UserError("no such model")

    config = check_config(project.config)
    stages = stages_of("evaluate", config, project.output)
    monkeypatch.setattr("secondstage.commands._check_start", gone)
    check_models(config, stages, project.output)
    shutil.rmtree(project.output / "bundle")
    check_models(config, stages, project.output)
    shutil.rmtree(project.output / "train")
    with pytest.raises(UserError, match="no such model"):
        check_models(config, stages, project.output)


def test_a_test_split_without_any_relevant_document_is_told_before_the_work(
    beir_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    beir = part_of(beir_folder, tmp_path / "beir", "train", "test")
    test = beir / "qrels" / "test.tsv"
    test.write_text(test.read_text().replace("\t1\n", "\t0\n"))
    project = Project(tmp_path / "out", beir, tiny_model)
    told = r"no query of the 'test' split, which evaluate.split names, has a relevant document \(16 are judged\)"
    with pytest.raises(UserError, match=told):
        project.run()
    assert not (project.output / "first_stage").exists()
    assert project.run(command="mine") == ["first_stage", "mine"]
