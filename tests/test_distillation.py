"""A run that distils: who teaches whom, which stage depends on what, and the whole path with tiny models."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from secondstage.cli import main
from secondstage.commands import carry_out_up_to
from secondstage.config import Config, TrainConfig
from secondstage.configfile import check_config, override
from secondstage.distillation import Distillation
from secondstage.errors import UserError
from secondstage.files import folder_digests, read_json, read_manifest
from secondstage.learning import in_words_of
from secondstage.lists import read_lists
from secondstage.networks import load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.run import read_trec
from secondstage.stages import Stages
from secondstage.train.watch import Watch
from secondstage.unlabelled import read_unlabelled

from .families import save_family

TUNED = {"steps": 4, "max_length": 32, "batch_tokens": 512, "precision": "fp32", "dev_depth": 10, "evaluations": 1}
KINDS = ("collection", "first_stage", "mine", "train", "teach", "student", "bundle", "evaluation")


@pytest.fixture(scope="module")
def another(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reranker that was trained elsewhere."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("models") / "another"
    Reranker(*load_cross_encoder(str(tiny_model)), max_length=32).save(folder)
    return folder


@pytest.fixture
def base(beir_folder: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    log = tmp_path / "log.txt"
    log.write_text("what does dough need\nwhich rook is white\nword of the winter\n")
    return {
        "output": str(tmp_path / "out"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "bm25"},
        "mine": {"depth": 10, "negatives": 4},
        "train": {"model": str(tiny_model), **TUNED},
        "distill": {
            "queries": str(log),
            "depth": 8,
            "student": {
                **TUNED,
                "steps": 10,
                "learning_rate": 1e-3,
                "student": {"layers": 1, "match_hidden": 0.1, "match_attention": 0.1},
                "loss": {"kl": {"temperature": 2.0}, "lce": {"weight": 0.2}},
            },
        },
        "serve": {"depth": 10, "precision": "fp32"},
        "evaluate": {"resamples": 100, "latency_queries": 2, "untuned": False},
    }


def planned(base: Mapping[str, Any], *overrides: str) -> dict[str, str]:
    config = check_config(override(base, overrides))
    return {stage.kind: stage.fingerprint for stage in Stages(config, Path(config.output)).plan()}


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        (["distill.student.learning_rate=1e-4"], {"student"}),
        (["distill.student.steps=5"], {"student"}),
        (["distill.student.student={layers: 1}"], {"student"}),
        (["distill.student.loss={kl: 1}"], {"student"}),
        (["distill.depth=9"], {"teach"}),
        (["distill.candidates=4"], {"teach"}),
        (["distill.max_queries=2"], {"teach"}),
        (["distill.queries=null"], {"teach"}),
        (["train.steps=5"], {"train"}),
        (["serve.depth=9"], {"bundle"}),
        (["evaluate.split=dev"], {"evaluation"}),
        (["mine.negatives=3"], {"mine"}),
    ],
)
def test_a_stage_is_moved_by_its_own_keys_alone(base: dict[str, Any], changes: list[str], moved: set[str]) -> None:
    """What the stages before it made is part of its fingerprint as well, when its turn comes."""
    before, after = planned(base), planned(base, *changes)
    assert tuple(before) == tuple(after) == KINDS
    assert {kind for kind in KINDS if before[kind] != after[kind]} == moved


def test_what_is_read_beside_the_config_moves_a_stage(base: dict[str, Any], another: Path, tmp_path: Path) -> None:
    before = planned(base)
    (tmp_path / "log.txt").write_text("another question\n")
    after = planned(base)
    assert {kind for kind in KINDS if before[kind] != after[kind]} == {"teach"}
    # Where the teacher is someone else's, nothing is trained but the student.
    foreign = planned(base, f"distill.teacher={another}")
    assert tuple(foreign) == tuple(kind for kind in KINDS if kind != "train")
    assert {kind for kind in foreign if after[kind] != foreign[kind]} == {"teach"}
    (another / "note").write_text("changed")
    changed = planned(base, f"distill.teacher={another}")
    assert {kind for kind in foreign if foreign[kind] != changed[kind]} == {"teach"}


def test_a_run_without_a_student_has_the_stages_it_had(base: dict[str, Any]) -> None:
    usual = planned(base, "distill=null")
    with_student = planned(base)
    assert tuple(usual) == tuple(kind for kind in KINDS if kind not in ("teach", "student"))
    # So a student can be added to a run that has been trained.
    assert usual == {kind: with_student[kind] for kind in usual}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("distill.queries=nowhere.txt", r"distill\.queries: nowhere\.txt is not there"),
        ("distill.teacher=./nowhere", r"model '\./nowhere': no such folder"),
        ("distill.student.model=./nowhere", r"model '\./nowhere': no such folder"),
        ("distill.student.replay=./nowhere", r"^distill\.student\.replay: .* is not there or is empty"),
        ("distill.student.student={layers: 9}", r"^distill\.student\.student\.layers is 9, but .* has 2 layers"),
        ("train.student={layers: 1}", r"^distill\.student\.student\.layers is 2, but .* has 1 layers"),
    ],
)
def test_what_is_not_there_is_told_before_the_work(base: dict[str, Any], change: str, told: str) -> None:
    changes = ["distill.student.student={layers: 2}", change]
    with pytest.raises(UserError, match=told):
        carry_out_up_to("train", check_config(override(base, changes)))
    assert not (Path(base["output"]) / "collection").exists()


def test_a_student_has_the_head_of_the_teacher_that_it_is_cut_from(
    base: dict[str, Any], tiny_model: Path, another: Path, tmp_path: Path
) -> None:
    decoder = save_family("qwen3", tmp_path / "decoder", tiny_model, head="tokens")
    for teacher, head, other in ((decoder, "classification", "yes_no"), (another, "yes_no", "classification")):
        changes = [f"distill.teacher={teacher}", f"distill.student.head={head}", "distill.student.student={layers: 1}"]
        with pytest.raises(UserError, match=f"whose head is {other}: set distill.student.head={other}"):
            carry_out_up_to("train", check_config(override(base, changes)))
    with pytest.raises(UserError, match="match_attention compare networks with a classification head"):
        check_config(override(base, ["distill.student.head=yes_no", "train.head=yes_no"]))
    with pytest.raises(UserError, match=r"match_attention .* set dropout to 0"):
        check_config(override(base, ["distill.student.dropout=0.1"]))
    assert not Path(base["output"]).exists()


def test_a_file_of_scores_knows_no_new_queries(base: dict[str, Any]) -> None:
    scores = "mine.teachers={other: {kind: run, run: scores.trec}}"
    with pytest.raises(UserError, match=r"distill\.queries are new queries, but a teacher of the kind run"):
        check_config(override(base, ["distill.teacher=mine", scores]))
    check_config(override(base, ["distill.teacher=mine", scores, "distill.queries=null"]))


def test_the_say_of_a_teacher_moves_the_lessons(base: dict[str, Any]) -> None:
    before, after = (
        planned(base, "distill.teacher=mine", API, f"mine.teachers.llm.weight={weight}") for weight in (1, 2)
    )
    assert before["teach"] != after["teach"]
    assert before["train"] == after["train"]


def test_what_is_said_of_a_student_has_its_own_keys(
    base: dict[str, Any],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError, match=r"^distill\.student\.student\.layers is 9, but "):
        planned(base, f"distill.student.model={tiny_model}", "distill.student.student={layers: 9}")
    told = "lower train.clip, or give train.teacher: see qrels/train.tsv"
    assert in_words_of("student", told) == "lower distill.student.clip, or give distill.teacher: see qrels/train.tsv"

    def train(*given: object) -> dict[str, Any]:
        watch = Watch(TrainConfig(steps=1), tmp_path)
        watch.note("unmoved", told)
        return watch.findings

    monkeypatch.setattr("secondstage.train.train", train)
    for name in ("_task", "_work"):
        monkeypatch.setattr(Stages, name, lambda *_: None)
    stages = {stage.kind: stage for stage in Stages(check_config(base), tmp_path).plan(evaluating=False)}
    for kind, words in (("student", in_words_of("student", told)), ("train", told)):
        assert stages[kind].make(tmp_path) == {"unmoved": words}
        assert capsys.readouterr().err == f"  ! {words}\n"


def test_a_model_without_a_head_cannot_teach(base: dict[str, Any], tiny_model: Path) -> None:
    with pytest.raises(UserError, match="cannot teach as kind cross_encoder"):
        planned(base, f"distill.teacher={tiny_model}")


def distilled(base: Mapping[str, Any], *overrides: str) -> Distillation:
    config: Config = check_config(override(base, overrides))
    assert config.distill is not None
    return Distillation(config, config.distill, Path("out").joinpath)


API = "mine.teachers={llm: {kind: api, api: {url: 'http://127.0.0.1'}}}"


@pytest.mark.parametrize(
    ("overrides", "teacher", "student"),
    [
        ([], "out/train/reranker", "out/train/reranker"),
        (["distill.teacher=large"], "large", "large"),
        (["distill.teacher=large", "distill.student.model=small"], "large", "small"),
        (["distill.student.model=small"], "out/train/reranker", "small"),
        (["distill.teacher=mine", API], None, "out/train/reranker"),
    ],
)
def test_words_stand_for_models(base: dict[str, Any], overrides: list[str], teacher: str | None, student: str) -> None:
    found = distilled(base, *overrides)
    assert found.name == (
        teacher if overrides and "teacher" in overrides[0] else f"{base['train']['model']}, trained here"
    )
    assert (found.model, found.training().model) == (teacher, student)
    assert found.training().learning_rate == 1e-3


def test_a_teacher_that_is_taken_as_it_is_was_not_trained_here(base: dict[str, Any]) -> None:
    untrained = ["train.model=large", "train.steps=0"]
    assert distilled(base, *untrained).name == "large"
    assert distilled(base, *untrained, "warmup.steps=5").name == "large, trained here"


def test_the_teacher_is_evaluated_beside_its_student_if_it_is_one_model(base: dict[str, Any], another: Path) -> None:
    found = distilled(base, f"distill.teacher={another}", "evaluate.rerankers={other: x}")
    assert {name: teacher.kind for name, teacher in found.teachers().items()} == {"teacher": "cross_encoder"}
    assert found.evaluated().rerankers == {"other": "x", "teacher": str(another)}
    several = distilled(base, "distill.teacher=mine", API)
    assert list(several.teachers()) == ["llm"]
    assert several.evaluated().rerankers == {}


def test_without_labels_there_must_be_unlabelled_queries(
    base: dict[str, Any], another: Path, beir_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "beir"
    folder.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).write_bytes((beir_folder / name).read_bytes())
    (folder / "qrels").mkdir()
    for split in ("dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_bytes((beir_folder / "qrels" / f"{split}.tsv").read_bytes())
    elsewhere = {**base, "collection": str(folder), "train": {**TUNED, "model": str(another), "steps": 0}}
    config = check_config(override(elsewhere, ["distill.queries=null"]))
    with pytest.raises(UserError, match=r"no train split, and no unlabelled queries \(distill\.queries\)"):
        carry_out_up_to("train", config)
    # With them a teacher that was trained elsewhere is enough.
    with pytest.raises(UserError, match=r"no loss of the student \(lce\) looks at the teacher's scores"):
        check_config(override(elsewhere, ["distill.student.loss=lce"]))
    carry_out_up_to("train", check_config(elsewhere))
    # However long one is trained that is not, as the teacher is another.
    unused = override(elsewhere, [f"distill.teacher={another}", "train.steps=4", f"output={tmp_path / 'unused'}"])
    assert [made["kind"] for made in carry_out_up_to("train", check_config(unused))][2:] == ["mine", "teach", "student"]
    lists = list(read_lists(Path(base["output"]) / "teach" / "train"))
    assert len(lists) == 3
    assert all(c.teacher_score is not None and c.role == "ignored" for found in lists for c in found.candidates)


@pytest.mark.slow
def test_from_teacher_to_student_to_proof(
    base: dict[str, Any], scored: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(base["output"])
    before = copy.deepcopy(base)
    made = {manifest["kind"]: manifest for manifest in carry_out_up_to("evaluate", check_config(base))}
    assert tuple(made) == KINDS
    assert base == before
    # The lists: all of mining's, and those of the log, scored by the model that train made.
    lists = list(read_lists(output / "teach" / "train"))
    assert len(lists) == 32 + 3
    assert {found.query_id for found in lists[32:]} == set(read_unlabelled(output / "teach"))
    dev = len(list(read_trec(output / "mine" / "dev.trec").pairs()))
    assert made["teach"]["teachers"]["teacher"]["pairs"] == made["teach"]["candidates_with_teacher"] + dev
    # Another model than the teacher, and the one in the bundle.
    weights = {kind: folder_digests(output / kind / "reranker")["model.safetensors"] for kind in ("train", "student")}
    assert weights["train"] != weights["student"]
    assert read_json(output / "student" / "reranker" / "config.json")["num_hidden_layers"] == 1
    # It learnt from the lists of the log too, of which labels say nothing.
    taught_by = read_json(output / "student" / "run.json")["data"]["teachers"]
    assert taught_by == [f"{base['train']['model']}, trained here"]
    assert made["student"]["lists_with_labels"] == 32
    assert made["student"]["lists_with_teacher"] == 32 + 3
    steps = [json.loads(line) for line in (output / "student" / "steps.jsonl").read_text().splitlines()]
    assert all(step["counted"]["lce"] <= step["counted"]["kl"] == step["lists"] for step in steps)
    assert any(step["counted"]["lce"] < step["counted"]["kl"] for step in steps)
    assert folder_digests(output / "bundle" / "reranker")["model.safetensors"] == weights["student"]
    # The proof has both on the same lists.
    metrics = read_json(output / "evaluation" / "metrics.json")
    (tested,) = metrics["test_sets"].values()
    assert {"teacher", "reranked", "pipeline"} < tested["systems"].keys()
    assert tested["gain_kept"]["queries"] == 16
    assert tested["gain_kept"]["teacher"] == tested["systems"]["teacher"]["measures"]["nDCG@10"]
    assert {"train", "teach", "student"} < metrics["seconds"].keys()
    assert "Teacher" in (output / "evaluation" / "report.html").read_text()

    # Nothing is made again that does not depend on a change, and nothing scored twice.
    def again(*overrides: str) -> set[str]:
        carry_out_up_to("bundle", check_config(override(base, overrides)))
        now = {kind: read_manifest(output / kind, kind) for kind in KINDS[:-1]}
        return {kind for kind in now if now[kind] != made[kind]}

    assert again() == set()
    assert again("serve.weight=0.5") == {"bundle"}
    assert again("distill.student.learning_rate=2e-3") == {"student", "bundle"}
    # Of other lists only what is new is scored.
    scored.clear()
    assert again("distill.max_queries=2", "distill.depth=7") == {"teach", "student", "bundle"}
    assert read_manifest(output / "teach", "teach")["teachers"]["teacher"]["scored"] == 0
    assert again("train.steps=5") == {"train", "teach", "student", "bundle"}
    # `train` goes as far as the student, and says where it is.
    config = output.parent / "config.yaml"
    config.write_text(json.dumps(base))
    capsys.readouterr()
    assert main(["train", str(config), "train.steps=5"]) == 0
    assert capsys.readouterr().out == f"{output / 'student'}\n"
