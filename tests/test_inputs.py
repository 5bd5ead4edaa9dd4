"""What a run reads beside its collection: refused before the work if it is not there or would be lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from secondstage.config import (
    DistillConfig,
    EvaluateConfig,
    MineConfig,
    RemoteConfig,
    ServeConfig,
    StudentTraining,
    TeacherConfig,
    TrainConfig,
)
from secondstage.errors import UserError
from secondstage.files import write_manifest
from secondstage.inputs import cascaded, check_model, evaluated, mined_from, taught_from, tuned_from

from .families import save_family


def test_a_review_decides_by_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.tsv"
    digests = []
    for text in ("one", "two", "one"):
        path.write_text(text)
        digests.append(mined_from(MineConfig(reviewed=str(path)), tmp_path)["reviewed"])
    assert digests[0] == digests[2] != digests[1]
    path.unlink()
    with pytest.raises(UserError, match="is not there; give the "):
        mined_from(MineConfig(reviewed=str(path)), tmp_path)


@pytest.mark.parametrize("linked", [False, True])
def test_a_review_in_the_folder_that_is_made_again_is_refused(tmp_path: Path, linked: bool) -> None:
    """It would be replaced by a blank one, and what a person wrote be lost."""
    output = tmp_path / "run"
    (output / "mine").mkdir(parents=True)
    (output / "mine" / "suspicious.tsv").write_text("reviewed")
    path = output / "mine" / "suspicious.tsv"
    if linked:
        path = tmp_path / "link.tsv"
        path.symlink_to(output / "mine" / "suspicious.tsv")
    config = MineConfig(reviewed=str(path))
    with pytest.raises(UserError, match=r"copy it elsewhere first, e\.g\. to .*run/reviewed\.tsv"):
        mined_from(config, output)
    # Another run's is left alone.
    assert mined_from(config, tmp_path / "another") == mined_from(config)
    (output / "mine-2").mkdir()
    beside = output / "mine-2" / "suspicious.tsv"
    beside.write_text("reviewed")
    assert mined_from(MineConfig(reviewed=str(beside)), output) == mined_from(config)


def test_two_teachers_that_are_the_same_are_refused() -> None:
    api = {"kind": "api", "api": {"url": "http://127.0.0.1/rerank"}}
    config = MineConfig.model_validate({"teachers": {"a": api, "b": {**api, "weight": 2.0}}})
    with pytest.raises(UserError, match="a and b are one and the same teacher"):
        mined_from(config)
    one = MineConfig.model_validate({"teachers": {"a": api}})
    assert list(mined_from(one)) == ["teacher a"]


def test_a_generator_that_is_not_there_or_writes_nothing_is_told_before_the_work(
    tiny_model: Path, tmp_path: Path
) -> None:
    def of(model: Path) -> MineConfig:
        return MineConfig.model_validate({"synthesize": {"generator": "local", "model": str(model)}})

    with pytest.raises(UserError, match="nowhere"):
        mined_from(of(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot be loaded from"):
        mined_from(of(tmp_path))  # a folder without a model
    with pytest.raises(UserError, match=r"is an encoder \(bert\), which writes no text"):
        mined_from(of(tiny_model))
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}')
    assert list(mined_from(of(tmp_path / "llama"))) == ["generator"]


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ({"url": "htp:/bad"}, "a chat endpoint has an address such as"),
        ({"url": "http://127.0.0.1/v1", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
    ],
)
def test_a_generators_endpoint_is_told_before_the_work(
    endpoint: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    config = MineConfig.model_validate({"synthesize": {"generator": "endpoint", "endpoint": endpoint}})
    with pytest.raises(UserError, match=fault):
        mined_from(config)


def test_unlabelled_queries_decide_by_what_is_in_them_and_how_they_are_read(tmp_path: Path) -> None:
    student, digests = StudentTraining(steps=1), []
    for name, text in (("a.txt", "one"), ("a.txt", "two"), ("b/a.txt", "one"), ("a.jsonl", "one")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        digests.append(taught_from(DistillConfig(queries=str(path), student=student), MineConfig())["queries"])
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3
    assert taught_from(DistillConfig(student=student), MineConfig()) == {}


def test_those_who_teach_together_decide_of_the_students_lists() -> None:
    config, digests = DistillConfig(teacher="mine", student=StudentTraining(steps=1)), []
    for model in ("a", "b"):
        api = RemoteConfig(url="http://127.0.0.1/rerank", model=model)
        teachers = {"large": TeacherConfig(kind="api", api=api)}
        digests.append(taught_from(config, MineConfig(teachers=teachers)))
    assert digests[0] != digests[1]


def test_the_teacher_of_a_student_is_no_model_of_its_own(tiny_model: Path) -> None:
    assert tuned_from(StudentTraining(steps=1)) == {}
    model = str(tiny_model)
    assert tuned_from(StudentTraining(steps=1, model=model)) == tuned_from(TrainConfig(steps=1, model=model))
    with pytest.raises(UserError, match="cannot teach as kind cross_encoder"):
        tuned_from(TrainConfig.model_validate({"steps": 1, "model": model, "loss": "kl", "teacher": model}))


def test_a_model_that_is_none_is_told_before_the_work(tiny_model: Path, tmp_path: Path) -> None:
    """Also one that scores a pair with several outputs, or by the pairs beside it."""
    (tmp_path / "empty").mkdir()
    for kind in (TrainConfig, StudentTraining):
        with pytest.raises(UserError, match="cannot be loaded from"):
            check_model(kind(steps=1, model=str(tmp_path / "empty")))
        check_model(kind(steps=1, model=str(tiny_model)))
    check_model(StudentTraining(steps=1))
    several = shutil.copytree(tiny_model, tmp_path / "several")
    config = json.loads((several / "config.json").read_text())
    labels = {"0": "no", "1": "maybe", "2": "yes"}
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": labels}
    (several / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="not a single-label classifier: it has 3 outputs"):
        check_model(TrainConfig(steps=1, model=str(several)))
    (several / "config.json").write_text(json.dumps({"model_type": "fnet"}))
    with pytest.raises(UserError, match="is of the family fnet, in which the score of a pair depends on"):
        check_model(TrainConfig(steps=1, model=str(several)))


@pytest.mark.parametrize(("kind", "key"), [(TrainConfig, "train.head"), (StudentTraining, "distill.student.head")])
def test_a_reranker_of_another_kind_is_told_before_the_work(
    tiny_model: Path, tmp_path: Path, kind: type[TrainConfig], key: str
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "score.json").write_text('{"kind": "yes_no"}')
    with pytest.raises(UserError, match=f"of kind yes_no, but {key} is classification: set {key}=yes_no$"):
        check_model(kind(steps=1, model=str(model)))
    check_model(kind(steps=1, model=str(model), head="yes_no"))


def test_an_export_that_nothing_here_can_score_is_told_before_the_work(tmp_path: Path) -> None:
    write_manifest(tmp_path, "export", to="vespa", parity=None)
    with pytest.raises(UserError, match="is an export to vespa, which only that engine opens"):
        evaluated(EvaluateConfig(exports={"copy": str(tmp_path)}))


def test_a_reranker_whose_head_would_be_random_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Before the cascade drops candidates at random, or the pipeline is proven better than chance."""
    trained = save_family("bert", tmp_path / "trained", tiny_model, head="classification")
    for model, told in ((tiny_model, True), (trained, False)):
        cascade = ServeConfig.from_json({"cascade": [{"model": str(model), "depth": 30}, {"depth": 10}]})
        rerankers = EvaluateConfig(rerankers={"other": str(model)})
        if told:
            with pytest.raises(UserError, match=r"serve\.cascade: model .* is no trained reranker \(BertModel\)"):
                cascaded(cascade)
            with pytest.raises(UserError, match=r"evaluate\.rerankers: model .* would be drawn at random"):
                evaluated(rerankers)
        else:
            assert len(cascaded(cascade)) == 1
            assert str(model) in evaluated(rerankers)
