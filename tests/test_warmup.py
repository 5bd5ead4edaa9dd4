"""Warm-up: its section, what makes it anew and what does not, and a pipeline from documents alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from secondstage.collection import Collection
from secondstage.commands import carry_out_up_to
from secondstage.config import Config, TrainConfig, WarmupConfig, in_warmup_words
from secondstage.configfile import check_config, load_config, override
from secondstage.errors import UserError
from secondstage.files import MANIFEST, folder_digests, read_json, read_manifest
from secondstage.leakage import met_in_training
from secondstage.lists import NEGATIVE, POSITIVE, read_lists
from secondstage.reranker import Reranker
from secondstage.serve import Pipeline
from secondstage.synthetic import SYNTHETIC, read_records

from .conftest import write_jsonl

PATH = Path(__file__).parents[1] / "configs" / "no-queries.yaml"
KINDS = ("collection", "first_stage", "warmup_lists", "warmup", "mine", "train", "bundle", "evaluation")


# --- the section


def test_the_config_explains_every_key_and_shows_its_default() -> None:
    text = PATH.read_text(encoding="utf-8")
    shown = yaml.safe_load(text)["warmup"]
    without_default = {"minutes", "steps", "epochs"}
    assert set(shown) - without_default == set(WarmupConfig.model_fields) - without_default
    config = load_config(PATH)
    assert config.warmup == WarmupConfig(minutes=5.0)
    assert (config.train.steps, config.serve.weight) == (0, 0.2)
    section = text.partition("\nwarmup:\n")[2].partition("\ntrain:\n")[0]
    for key in WarmupConfig.model_fields:
        assert re.search(rf"\b{key}\b", section), key


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({}, "not none"),
        ({"minutes": 1, "epochs": 1}, "not minutes and epochs"),
        ({"steps": 2, "minutes": 1}, "not min"),
    ],
)
def test_there_is_exactly_one_budget_and_the_fault_is_told_beside_others(budget: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(
            {"output": "x", "collection": "x", "train": {"steps": 1}, "warmup": {**budget, "depht": 3, "use": "maybe"}}
        )
    assert f"warmup: give exactly one of minutes, steps, epochs, {told}" in str(caught.value)
    assert "warmup.depht: unknown key, did you mean 'depth'?" in str(caught.value)
    assert "warmup.use: input should be 'auto', 'always' or 'never'" in str(caught.value)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"epochs": 0.0}, {"minutes": 1.0, "queries": "heading"}])
def test_an_impossible_value_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WarmupConfig(**settings)


def test_its_lists_and_its_training_are_plain_settings_of_mine_and_train() -> None:
    warmup = WarmupConfig(
        steps=3, queries="first_sentence", max_documents=9, min_words=2, round_trip=4, depth=6, negatives=5
    )
    mining = warmup.mining
    assert mining.synthesize is not None
    assert (mining.depth, mining.negatives, mining.teachers, mining.reviewed) == (6, 5, {}, None)
    made = mining.synthesize
    assert (made.generator, made.documents, made.min_words, made.round_trip) == ("first_sentence", 9, 2, 4)
    labels = TrainConfig(minutes=9.0, model="m", max_length=77, precision="fp32", learning_rate=0.5, negatives=2)
    training = warmup.training(labels)
    assert (training.model, training.max_length, training.precision) == ("m", 77, "fp32")
    assert (training.steps, training.minutes, training.learning_rate, training.negatives) == (3, None, 1e-4, 5)


def test_another_recipe_for_the_labels_is_no_other_warm_up() -> None:
    warmup = WarmupConfig(steps=3)
    one = warmup.training(TrainConfig(steps=1))
    assert one == warmup.training(
        TrainConfig(epochs=2.0, learning_rate=1e-3, negatives=3, batch_tokens=128, patience=2)
    )
    assert one != warmup.training(TrainConfig(steps=1, max_length=64))
    assert one == WarmupConfig(steps=3, use="never").training(TrainConfig(steps=1))


def test_what_mining_says_of_its_keys_is_said_of_the_warm_ups() -> None:
    told = "mine.synthesize: none of 3 fits: lower mine.synthesize.min_words, mine.synthesize.documents or mine.depth"
    assert in_warmup_words(told) == (
        "warmup: none of 3 fits: lower warmup.min_words, warmup.max_documents or warmup.depth"
    )
    assert in_warmup_words("train.negatives=7, train.learning_rate") == "warmup.negatives=7, warmup.learning_rate"


@pytest.mark.parametrize("key", ["depth", "round_trip"])
def test_it_looks_no_deeper_than_a_hybrid_fuses(key: str) -> None:
    config: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 0}, "warmup": {"steps": 1, key: 201}}
    with pytest.raises(
        UserError, match=r"warmup looks 201 documents deep, .* lower warmup.depth and warmup.round_trip"
    ):
        check_config(config)
    assert check_config(config | {"first_stage": "bm25"}).warmup is not None


def test_a_run_has_no_lists_for_titles() -> None:
    config: dict[str, Any] = {"output": "x", "collection": "x", "train": {"steps": 0}, "warmup": {"steps": 1}}
    with pytest.raises(UserError, match=r"warmup makes new queries, .* leave warmup out"):
        check_config(config | {"first_stage": {"kind": "run", "run": ["a.trec"]}})


# --- the stage


class Project:
    """A run over BM25, warmed up for two steps."""

    def __init__(self, output: Path, beir: Path, model: Path) -> None:
        self.output = output
        self.config: dict[str, Any] = {
            "output": str(output),
            "collection": str(beir),
            "first_stage": "bm25",
            "warmup": {"steps": 2, "min_words": 3, "depth": 20, "batch_tokens": 512, "learning_rate": 1e-3},
            "train": {
                "model": str(model),
                "steps": 2,
                "max_length": 32,
                "batch_tokens": 512,
                "precision": "fp32",
                "evaluations": 1,
                "dev_depth": 10,
            },
            "serve": {"depth": 10, "precision": "fp32"},
            "evaluate": {"resamples": 100, "latency_queries": 2},
        }

    def checked(self, *overrides: str) -> Config:
        return check_config(override(self.config, overrides))

    def run(self, command: str, *overrides: str) -> list[str]:
        """Carry out a command; return the stages that were made, which are not those that were done before."""
        before = {kind: self.made(kind) for kind in KINDS}
        carry_out_up_to(command, self.checked(*overrides))
        return [kind for kind in KINDS if self.made(kind) != before[kind]]

    def made(self, kind: str) -> int:
        path = self.output / kind / MANIFEST
        return path.stat().st_mtime_ns if path.is_file() else 0

    def manifest(self, kind: str) -> dict[str, Any]:
        return read_manifest(self.output / kind, kind)


@pytest.fixture(scope="module")
def beir(beir_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, with a second sentence in every document."""
    folder = Path(shutil.copytree(beir_folder, tmp_path_factory.mktemp("changing") / "beir"))
    records = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    for record in records:
        record["text"] += f". Of the {' '.join(reversed(record['text'].split()))}."
    write_jsonl(folder / "corpus.jsonl", records)
    return folder


@pytest.fixture(scope="module")
def warmed(beir: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a warm-up."""
    project = Project(tmp_path_factory.mktemp("warmed") / "out", beir, tiny_model)
    assert project.run("warmup") == ["collection", "first_stage", "warmup_lists", "warmup"]
    return project.output


@pytest.fixture
def project(warmed: Path, beir: Path, tiny_model: Path, tmp_path: Path) -> Project:
    """A copy of the warm-up and of its collection, to go on with."""
    shutil.copytree(warmed, tmp_path / "out")
    shutil.copytree(beir, tmp_path / "beir")
    return Project(tmp_path / "out", tmp_path / "beir", tiny_model)


def test_titles_ask_for_the_rest_of_their_documents(warmed: Path, tiny_model: Path) -> None:
    records = {record.query_id: record for record in read_records(warmed / "warmup_lists" / SYNTHETIC) if record.kept}
    lists = list(read_lists(warmed / "warmup_lists" / "train"))
    assert {found.query_id for found in lists} == set(records)
    assert len(lists) > 30
    for found in lists:
        assert [c.doc_id for c in found.candidates if c.role == POSITIVE] == [records[found.query_id].doc_id]
        assert records[found.query_id].kind == "title"
        assert any(c.role == NEGATIVE for c in found.candidates)
    # A plain cross-encoder, which learnt something.
    manifest = read_manifest(warmed / "warmup", "warmup")
    assert (manifest["steps"], manifest["dev_nDCG@10"]) == (2, None)
    pairs = [("water of the river", "river water"), ("king", "snow")]
    assert Reranker.load(warmed / "warmup" / "reranker", precision="fp32").score(pairs).shape == (2,)
    encoder = "bert.encoder.layer.0.output.dense.weight"
    own = Reranker.load(warmed / "warmup" / "reranker", precision="fp32").model.state_dict()[encoder]
    assert not own.equal(Reranker.load(tiny_model, precision="fp32").model.state_dict()[encoder])


def test_new_labels_and_queries_warm_up_nothing_again(project: Project, tmp_path: Path) -> None:
    beir = tmp_path / "beir"
    train, dev = beir / "qrels" / "train.tsv", beir / "qrels" / "dev.tsv"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:-3]))
    assert project.run("warmup") == ["collection"]
    with (beir / "queries.jsonl").open("a") as file:
        # Even where it is a title: what it asks for was no secret.
        file.write(json.dumps({"_id": "new", "text": "bread flour"}) + "\n")
    with dev.open("a") as file:
        file.write("new\tbread-0\t1\n")
    assert project.run("warmup") == ["collection"]
    shutil.rmtree(beir / "qrels")
    assert project.run("warmup") == ["collection"]
    assert project.run("warmup", "train.learning_rate=0.5", "warmup.use=never", "mine.negatives=3") == []


def test_other_documents_warm_up_again(project: Project, tmp_path: Path) -> None:
    corpus = tmp_path / "beir" / "corpus.jsonl"
    lines = corpus.read_text().splitlines(keepends=True)
    corpus.write_text("".join([*lines, lines[0].replace("bread-0", "bread-99").replace("bread flour", "bread bun")]))
    assert project.run("warmup") == ["collection", "first_stage", "warmup_lists", "warmup"]


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ("warmup.steps=1", ["warmup"]),
        ("warmup.learning_rate=1e-2", ["warmup"]),
        ("train.max_length=24", ["warmup"]),
        ("warmup.queries=first_sentence", ["warmup_lists", "warmup"]),
        ("warmup.max_documents=40", ["warmup_lists", "warmup"]),
        # All documents have the same length: the lists come out the same, and nothing new can be learnt of them.
        ("first_stage.bm25.b=0.9", ["first_stage", "warmup_lists"]),
        ("seed=5", ["collection", "warmup_lists", "warmup"]),
    ],
)
def test_what_makes_it_anew(project: Project, change: str, made: list[str]) -> None:
    assert project.run("warmup", change) == made
    assert project.run("warmup", change) == []


def test_a_killed_warm_up_finds_its_lists_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    shutil.rmtree(project.output / "warmup_lists")
    shutil.rmtree(project.output / "warmup")
    with monkeypatch.context() as patch:
        patch.setattr("secondstage.train.train", killed)
        with pytest.raises(KeyboardInterrupt):
            project.run("warmup")
    assert project.made("warmup_lists")
    assert project.run("warmup") == ["warmup"]


def test_mining_waits_for_no_warm_up(beir: Path, tiny_model: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "out", beir, tiny_model)
    assert project.run("mine") == ["collection", "first_stage", "mine"]
    # It changes nothing of what is mined either.
    assert project.run("train", "warmup.use=never") == ["warmup_lists", "warmup", "train"]


def test_without_the_section_there_is_no_warm_up(beir: Path, tiny_model: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "out", beir, tiny_model)
    with pytest.raises(UserError, match=r"no section warmup: give it a budget, e.g. warmup.minutes=5"):
        project.run("warmup", "warmup=null")
    assert not project.output.exists()


def test_errors_name_the_keys_of_the_warm_up(project: Project) -> None:
    with pytest.raises(UserError, match=r"^warmup: none of the 64 documents .* lower warmup.min_words"):
        project.run("warmup", "warmup.min_words=100")


# --- its use


def start_of(project: Project) -> str:
    return str(project.manifest("train").get("start", "model"))


def test_dev_says_whether_it_is_used(project: Project) -> None:
    assert project.run("train") == ["mine", "train"]
    manifest = project.manifest("train")
    values = {name: found["dev_nDCG@10"] for name, found in manifest["starts"].items()}
    assert list(values) == ["model", "warmup"]
    assert manifest["dev_nDCG@10"] == max(values.values()) == values[manifest["start"]]
    (other,) = {"model", "warmup"} - {manifest["start"]}
    assert "reranker/model.safetensors" in manifest["files"]
    assert f"from_{other}/steps.jsonl" in manifest["files"]
    assert not any(name.startswith(f"from_{other}/reranker") for name in manifest["files"])
    assert project.run("train") == []


def test_each_start_is_what_it_says(project: Project) -> None:
    """What auto keeps is exactly what training from that start alone gives."""
    project.run("train")
    kept, both = start_of(project), folder_digests(project.output / "train" / "reranker")
    assert project.run("train", "warmup.use=always") == ["train"]
    assert start_of(project) == "warmup"
    card = (project.output / "train" / "reranker" / "README.md").read_text()
    assert "trained on the documents of the collection first" in card
    always = folder_digests(project.output / "train" / "reranker")
    assert project.run("train", "warmup.use=never") == ["train"]
    assert start_of(project) == "model"
    never = folder_digests(project.output / "train" / "reranker")
    assert always != never
    assert both == {"model": never, "warmup": always}[kept]
    # Left out altogether, it is the same training.
    assert project.run("train", "warmup=null") == []


def test_another_warm_up_trains_again_only_where_it_is_used(project: Project) -> None:
    project.run("bundle", "warmup.use=never")
    assert project.run("bundle", "warmup.use=never", "warmup.steps=1") == ["warmup"]
    project.run("bundle", "warmup.use=always")
    assert project.run("bundle", "warmup.use=always", "warmup.steps=1") == ["warmup", "train", "bundle"]


def test_without_dev_it_is_used_and_said(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "beir" / "qrels" / "dev.tsv").unlink()
    project.run("train", "collection.dev_share=0")
    assert start_of(project) == "warmup"
    assert "starts" not in project.manifest("train")
    assert "no dev query tells whether the warm-up helps" in capsys.readouterr().err


def test_a_model_that_is_taken_as_it_is_may_be_the_warmed_up_one(project: Project, tmp_path: Path) -> None:
    (tmp_path / "beir" / "qrels" / "train.tsv").unlink()
    with pytest.raises(UserError, match=r"no train split: .* takes the warmed-up model as it is"):
        project.run("train")
    project.run("train", "train.steps=0")
    # The model itself has no trained head: there is nothing to choose from.
    assert project.manifest("train")["start"] == "warmup"
    assert "starts" not in project.manifest("train")
    weights = "reranker/model.safetensors"
    assert project.manifest("train")["files"][weights] == project.manifest("warmup")["files"][weights]


def test_the_proof_knows_what_it_started_from(project: Project, tmp_path: Path) -> None:
    """A test query that is nearly a title that was learnt is given away; documents that were read give nothing away."""
    beir = tmp_path / "beir"
    with (beir / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "copied", "text": "river water"}) + "\n")
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("copied\triver-0\t1\n")
    project.run("evaluate", "warmup.use=always", "train.steps=0")
    tested = read_json(project.output / "evaluation" / "metrics.json")["test_sets"]["test"]
    assert tested["leakage"]["against"] == ["train", "dev"]
    assert tested["leakage"]["counts"]["same_text"] == 1
    assert tested["leakage"]["counts"]["document"] == 0
    assert "untuned" in tested["systems"]
    collection = Collection.load(project.output / "collection")
    titles = project.output / "warmup_lists"
    met = met_in_training(collection, project.output / "mine", trained=False, warmed=titles)
    assert "river water" in met.queries.values()
    assert set(map(len, met.qrels.values())) == {0}
    assert met_in_training(collection, None, trained=False) == ({}, {})


# --- no query at all


def test_a_pipeline_from_documents_alone(
    beir: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(beir / "corpus.jsonl", tmp_path / "docs")
    overrides = [
        f"output={tmp_path / 'out'}",
        f"collection={tmp_path / 'docs'}",
        f"first_stage.dense.model={tiny_model}",
        f"train.model={tiny_model}",
        "train.max_length=32",
        "train.precision=fp32",
        "serve.precision=fp32",
        "warmup.steps=2",
        "warmup.min_words=3",
        "warmup.round_trip=64",
    ]
    config = load_config(PATH, overrides)
    carry_out_up_to("bundle", config)
    told = capsys.readouterr().err
    assert "only documents" in told
    assert "depth 50 and fusion weight 0.20 are guesses" in told
    output = tmp_path / "out"
    assert read_manifest(output / "train", "train")["start"] == "warmup"
    assert "2 steps" in (output / "train" / "reranker" / "README.md").read_text()
    assert list(read_lists(output / "mine" / "train")) == []
    pipeline = Pipeline.load(output / "bundle")
    assert (pipeline.weight, pipeline.answerability, pipeline.verdict) == (0.2, None, None)
    results = pipeline.search("water of the river", 5)
    assert len(results) == 5
    assert "river" in results[0].title
    with pytest.raises(UserError, match=r"no 'test' split.*\n.*without a proof"):
        carry_out_up_to("evaluate", config)
