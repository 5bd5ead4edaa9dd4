"""Teachers made from a config: really called, never mixed up, and their faults told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secondstage.config import TeacherConfig
from secondstage.decoder import INSTRUCTION, DecoderReranker
from secondstage.errors import UserError
from secondstage.files import read_json, write_json
from secondstage.networks import load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.run import Scores
from secondstage.scoring import Random
from secondstage.teachers import Teacher, identities, identity, model_teacher, open_teacher

from .conftest import serving
from .server import JsonServer, first
from .test_decoder import saved, tokenizer

LISTS = [("flour of the bread", ["yeast oven", "wheel pedal", "dough"]), ("chain", ["brake", "dough"])]
PAIRS = [(query, document) for query, documents in LISTS for document in documents]


@pytest.fixture(scope="module")
def cross_encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("teachers") / "model"
    Reranker(*load_cross_encoder(str(tiny_model)), max_length=32).save(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("teachers"), tokenizer())


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    """A rerank API, and a model that turns every list around."""

    def answer(body: dict[str, Any]) -> object:
        if "messages" in body:
            count = body["messages"][-1]["content"].count("\n[")
            text = " > ".join(f"[{number}]" for number in range(count, 0, -1))
            return {
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": 90, "completion_tokens": 10},
            }
        scores = Random(4).score([(body["query"], document) for document in body["documents"]])
        return {"results": [{"index": i, "relevance_score": score} for i, score in enumerate(scores.tolist())]}

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = JsonServer("/v2", answer)
    with serving(server):
        yield server


def of(**settings: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(settings)


def flat(found: list[Scores]) -> list[float]:
    assert [len(scores) for scores in found] == [3, 2]
    return [float(score) for scores in found for score in scores]


def count_calls(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> list[int]:
    calls: list[int] = []
    stream = kind.stream

    def counted(self: Any, pairs: Any) -> Iterator[tuple[list[int], Scores]]:
        calls.append(len(pairs))
        yield from stream(self, pairs)

    monkeypatch.setattr(kind, "stream", counted)
    return calls


# --- models


def test_a_cross_encoder_is_really_called_and_once(
    cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(monkeypatch, Reranker)
    config = of(model=str(cross_encoder), precision="fp32")
    teacher = open_teacher(config, tmp_path)
    found = flat(teacher.score_lists(LISTS))
    assert calls == [5]
    assert found == pytest.approx(Reranker.load(cross_encoder, precision="fp32").score(PAIRS).tolist(), abs=1e-6)
    assert len(set(found)) == 5
    calls.clear()
    again: Teacher = open_teacher(config, tmp_path)
    assert flat(again.score_lists(LISTS)) == found
    assert calls == []
    assert (again.report()["pairs"], again.report()["scored"]) == (5, 0)


def test_a_decoder_is_really_called_and_once(decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch, DecoderReranker)
    config = of(kind="decoder", model=str(decoder), precision="fp32", instruction="find it")
    found = flat(open_teacher(config, tmp_path).score_lists(LISTS))
    expected = DecoderReranker.load(decoder, instruction="find it", precision="fp32").score(PAIRS)
    assert found == pytest.approx(expected.tolist(), abs=1e-4)
    assert flat(open_teacher(config, tmp_path).score_lists(LISTS)) == found
    assert calls == [5, 5]  # the teacher's, and the test's own
    other = config.model_copy(update={"instruction": "find the opposite"})
    assert flat(open_teacher(other, tmp_path).score_lists(LISTS)) != found


def test_a_decoder_is_asked_as_its_contract_says(decoder: Path, tmp_path: Path) -> None:
    """A model that was tuned to find statutes is told to: by the score of each, and by the identity."""
    loaded, folder = DecoderReranker.load(decoder, precision="fp32"), tmp_path / "model"
    loaded.instruction = "find the statute"
    loaded.save(folder)
    teacher = model_teacher(str(folder)).model_copy(update={"precision": "fp32"})
    found = flat(open_teacher(teacher, tmp_path).score_lists(LISTS))
    asked = DecoderReranker.load(decoder, instruction="find the statute", precision="fp32").score(PAIRS)
    assert found == pytest.approx(asked.tolist(), abs=1e-4)
    assert found != pytest.approx(DecoderReranker.load(decoder, precision="fp32").score(PAIRS).tolist(), abs=1e-4)
    # What is said wins, and that the same is said changes nothing.
    said = teacher.model_copy(update={"instruction": "find the statute"})
    assert identity(said) == identity(teacher) != identity(teacher.model_copy(update={"instruction": "find it"}))


def test_two_local_models_never_share_a_score(cross_encoder: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Not even at the same place, one after the other."""
    place = tmp_path / "model"
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        Reranker(*load_cross_encoder(str(tiny_model)), max_length=32).save(place)
        config = of(model=str(place), precision="fp32")
        found.append(flat(open_teacher(config, tmp_path / "cache").score_lists(LISTS)))
        assert found[-1] == pytest.approx(Reranker.load(place, precision="fp32").score(PAIRS).tolist(), abs=1e-6)
    assert not np.allclose(found[0], found[1])
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("kind", ["cross_encoder", "decoder"])
def test_a_model_without_a_trained_head_does_not_teach(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    config = of(kind=kind, model=str(tiny_model))
    for use in (identity, lambda found: open_teacher(found, tmp_path)):
        with pytest.raises(UserError, match=f"is BertModel, which cannot teach as kind {kind}"):
            use(config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id2label": {"0": "no", "1": "maybe", "2": "yes"}}, "not a single-label classifier: it has 3 outputs"),
        ({"model_type": "fnet", "architectures": ["FNetForSequenceClassification"]}, "is of the family fnet"),
    ],
)
def test_a_classifier_whose_score_means_nothing_is_told_before_the_work(
    cross_encoder: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    model = shutil.copytree(cross_encoder, tmp_path / "model")
    config = read_json(model / "config.json")
    write_json(model / "config.json", {name: config[name] for name in config if name != "label2id"} | changes)
    with pytest.raises(UserError, match=told):
        identity(of(model=str(model)))
    with pytest.raises(UserError, match=told):
        model_teacher(str(model))


@pytest.mark.parametrize("kind", ["cross_encoder", "decoder"])
def test_a_misspelt_hub_id_is_told_before_the_work(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def nobody(place: str, **settings: Any) -> None:
        asked.append(place)
        raise OSError(f"{place} is not a valid model identifier")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", nobody)
    with pytest.raises(UserError, match=r"model 'hub/misspelt' cannot be loaded .* not a valid model identifier"):
        identity(of(kind=kind, model="hub/misspelt"))
    assert asked == ["hub/misspelt"]


def test_a_cross_encoder_is_no_decoder(cross_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="BertForSequenceClassification, which cannot teach as kind decoder"):
        open_teacher(of(kind="decoder", model=str(cross_encoder)), tmp_path)


@pytest.mark.parametrize("kind", ["cross_encoder", "decoder"])
def test_a_model_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    config = of(kind=kind, model=str(tmp_path / "nowhere"))
    for use in (identity, lambda found: open_teacher(found, tmp_path)):
        with pytest.raises(UserError, match="nowhere"):
            use(config)


# --- endpoints


def test_an_api_teaches_and_is_paid_once(api: JsonServer, tmp_path: Path) -> None:
    section = {"url": api.url, "model": "m", "concurrency": 2, "documents_per_request": 2}
    for sent in (3, 0):
        teacher = open_teacher(of(kind="api", api=section), tmp_path)
        assert flat(teacher.score_lists(LISTS)) == Random(4).score(PAIRS).tolist()
        report = teacher.report()
        assert (report["requests"], report["scored"], report["pairs"], report["lists"]) == (sent, sent and 5, 5, 2)
    assert sorted(len(body["documents"]) for body in api.seen) == [1, 2, 2]


def test_an_api_that_refuses_a_query_leaves_its_documents_without_scores(api: JsonServer, tmp_path: Path) -> None:
    api.misbehave = lambda server, body: (400, b"filtered", {}) if body["query"] == "chain" else None
    teacher = open_teacher(of(kind="api", api={"url": api.url}), tmp_path)
    first, second = teacher.score_lists(LISTS)
    assert first.tolist() == Random(4).score(PAIRS)[:3].tolist()
    assert np.isnan(second).tolist() == [True, True]
    assert (teacher.report()["refused"], teacher.report()["scored"]) == (2, 3)


def test_a_listwise_model_teaches_and_is_paid_once(api: JsonServer, tmp_path: Path) -> None:
    config = of(kind="listwise", endpoint={"url": api.url, "model": "m"}, window=20, price=3.0)
    for sent in (2, 0):
        teacher = open_teacher(config, tmp_path)
        assert flat(teacher.score_lists(LISTS)) == pytest.approx([1 / 3, 1 / 2, 1, 1 / 2, 1])
        report = teacher.report()
        assert (report["requests"], report["windows"], report["unreadable"]) == (sent, 2, 0)
        assert report["cost"] == pytest.approx(3.0 * sent * 100 / 1e6)
    assert len(api.seen) == 2
    assert INSTRUCTION in api.seen[0]["messages"][-1]["content"]


@pytest.mark.parametrize("kind", ["api", "listwise"])
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ((500, b"down", {}), "status 500, 'down', in 1 attempts; check that the server runs"),
        ((429, b"", {}), "status 429, '', in 1 attempts; lower concurrency"),
        ((401, b"who?", {}), "check the API key"),
        ((200, b"<html>", {}), "the answer is not JSON"),
        ((200, b"", {}), "the answer is not JSON"),
        ((200, b"{}", {}), "the answer has no"),
    ],
)
def test_a_faulty_endpoint_is_told(
    kind: str, answer: tuple[int, bytes, dict[str, str]], fault: str, api: JsonServer, tmp_path: Path
) -> None:
    api.misbehave = first(99, answer)
    section = {"url": api.url, "model": "m", "retries": 0}
    config = of(kind=kind, **{"api" if kind == "api" else "endpoint": section})
    with pytest.raises(UserError) as caught:
        open_teacher(config, tmp_path).score_lists(LISTS)
    assert str(caught.value).startswith(f"{api.url}: ")
    assert fault in str(caught.value)


@pytest.mark.parametrize("kind", ["api", "listwise"])
@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"url": "localhost"}, "has an address such as"),
        ({"url": "http://h", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
    ],
)
def test_what_an_endpoint_would_miss_is_told_before_the_work(kind: str, section: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        identity(of(kind=kind, **{"api" if kind == "api" else "endpoint": section}))


# --- identity


@pytest.fixture
def on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.teachers.check_head", lambda config: None)


@pytest.mark.usefixtures("on_the_hub")
def test_a_teacher_is_another_when_its_scores_would_be() -> None:
    chat, rerank = {"url": "http://h/v1", "model": "m"}, {"url": "http://h/v1", "model": "m"}
    different = [
        of(model="hub/a"),
        of(model="hub/b"),
        of(model="hub/a", max_length=64),
        of(model="hub/a", precision="fp32"),
        of(kind="decoder", model="hub/a"),
        of(kind="decoder", model="hub/a", instruction="other"),
        of(kind="listwise", endpoint=chat),
        of(kind="listwise", endpoint={**chat, "model": "n"}),
        of(kind="listwise", endpoint={**chat, "url": "http://h/v2"}),
        of(kind="listwise", endpoint=chat, instruction="other"),
        of(kind="listwise", endpoint=chat, window=8, step=4),
        of(kind="listwise", endpoint=chat, passage_words=9),
        of(kind="listwise", endpoint=chat, max_tokens=9000),
        of(kind="api", api=rerank),
        of(kind="api", api={**rerank, "api": "jina"}),
        of(kind="api", api={**rerank, "model": "n"}),
        of(kind="api", api={**rerank, "document_words": 9}),
    ]
    assert len({identity(config) for config in different}) == len(different)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"model": "hub/a"}, {"model": "hub/a", "batch_tokens": 99, "weight": 3.0, "price": 1.0, "instruction": "x"}),
        ({"kind": "api", "api": {"url": "http://h"}},
         {"kind": "api", "api": {"url": "http://h", "concurrency": 9, "timeout": 1.0, "documents_per_request": 2}}),
        ({"kind": "listwise", "endpoint": {"url": "http://h"}},
         {"kind": "listwise", "endpoint": {"url": "http://h", "retries": 0}, "weight": 2.0}),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("on_the_hub")
def test_what_changes_no_score_changes_no_teacher(one: dict[str, Any], same: dict[str, Any]) -> None:
    assert identity(of(**one)) == identity(of(**same))
    # Both would be paid for.
    with pytest.raises(UserError, match=r"mine\.teachers: first and second are one and the same teacher"):
        identities({"first": of(**one), "other": of(model="hub/other"), "second": of(**same)})


@pytest.mark.usefixtures("on_the_hub")
def test_different_teachers_have_their_identities_by_name() -> None:
    config = {"one": of(model="hub/a"), "two": of(model="hub/b")}
    assert identities(config) == {name: identity(teacher) for name, teacher in config.items()}


def test_a_folder_that_was_written_again_is_another_teacher(cross_encoder: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    trained = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {"0": "yes"}}
    (place / "config.json").write_text(json.dumps(trained))
    before = identity(of(model=str(place)))
    (place / "config.json").write_text(json.dumps({**trained, "a": 1}))
    assert identity(of(model=str(place))) != before


def test_a_model_teaches_as_what_it_is(cross_encoder: Path, decoder: Path, tiny_model: Path) -> None:
    assert model_teacher(str(cross_encoder)) == TeacherConfig(model=str(cross_encoder))
    assert model_teacher(str(decoder)) == TeacherConfig(kind="decoder", model=str(decoder))
    with pytest.raises(UserError, match="cannot teach as kind cross_encoder"):
        model_teacher(str(tiny_model))
