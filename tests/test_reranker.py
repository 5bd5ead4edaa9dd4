"""The reranker against sentence-transformers' CrossEncoder, and what must not change a score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secondstage.calibration import Calibration
from secondstage.collection import Collection
from secondstage.compute import Precision
from secondstage.errors import UserError
from secondstage.networks import load_cross_encoder
from secondstage.pairmodel import CONTRACT, chunks
from secondstage.reranker import Reranker, keep_scores
from secondstage.run import Run, rank

HALF_AND_SINGLE: tuple[Precision, ...] = ("bf16", "fp32")


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a head, and weights large enough for scores to differ; as a plain Hugging Face folder."""
    network, tokenizer = load_cross_encoder(str(tiny_model))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("reranker") / "model"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(collection: Collection) -> list[tuple[str, str]]:
    """Pairs of every length up to some 60 tokens: one to ten documents long, queries of some words or many."""
    contents = [document.content for document in collection.documents]
    queries = list(collection.queries.values())
    return [
        (" ".join(queries[i : i + 1 + 9 * (i % 11 == 0)]), "\n".join(contents[i : i + 1 + i % 10])) for i in range(64)
    ]


def cross_encoder(folder: Path, pairs: Sequence[tuple[str, str]], **settings: Any) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", **settings).predict(list(pairs), show_progress_bar=False)


def set_head(reranker: Reranker, weight: float, bias: float) -> Reranker:
    with torch.no_grad():
        reranker.model.classifier.weight.fill_(weight)
        reranker.model.classifier.bias.fill_(bias)
    return reranker


@pytest.mark.parametrize("max_length", [16, 24, 64])
def test_cross_encoder_gives_the_same_scores_from_the_saved_folder(
    model: Path, pairs: list[tuple[str, str]], tmp_path: Path, max_length: int
) -> None:
    reranker = Reranker.load(model, max_length=max_length, precision="fp32")
    reranker.save(tmp_path)
    scores = reranker.score(pairs)
    assert np.ptp(scores) > 1
    assert scores == pytest.approx(cross_encoder(tmp_path, pairs), abs=1e-5)
    assert Reranker.load(tmp_path, precision="fp32").score(pairs) == pytest.approx(scores, abs=1e-6)


def test_scores_are_logits_and_not_probabilities(model: Path, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    """Without the contract in the saved config, CrossEncoder would apply a sigmoid."""
    reranker = Reranker.load(model, precision="fp32")
    scores = reranker.score(pairs)
    assert scores.min() < 0
    probabilities = cross_encoder(model, pairs)
    assert probabilities == pytest.approx(1 / (1 + np.exp(-scores.astype(np.float64))), abs=1e-5)


def test_half_precision_is_close(model: Path, pairs: list[tuple[str, str]]) -> None:
    half, single = (Reranker.load(model, precision=precision).score(pairs) for precision in HALF_AND_SINGLE)
    assert half.dtype == np.float32
    assert not np.array_equal(half, single)
    assert np.abs(half - single).max() < 0.1 * np.ptp(single)
    assert np.corrcoef(half, single)[0, 1] > 0.995


def test_half_precision_keeps_scores_apart(model: Path, pairs: list[tuple[str, str]]) -> None:
    """A bf16 logit has eight bits: most of these would fall together."""
    scores = Reranker.load(model, precision="bf16").score(pairs)
    assert len(np.unique(torch.from_numpy(scores).bfloat16().float().numpy())) < len(np.unique(scores))


def test_the_tuned_reranker_of_a_run_is_a_cross_encoder(run_folder: Path, pairs: list[tuple[str, str]]) -> None:
    folder = run_folder / "train" / "reranker"
    scores = Reranker.load(folder, precision="fp32").score(pairs)
    assert scores == pytest.approx(cross_encoder(folder, pairs), abs=1e-5)


def test_the_contract_is_saved_and_obeyed(model: Path, tmp_path: Path) -> None:
    Reranker.load(model, max_length=24).save(tmp_path)
    assert json.loads((tmp_path / CONTRACT).read_text()) == {
        "score": "logit",
        "kind": "classification",
        "higher_is_better": True,
        "max_length": 24,
        "truncation": "longest_first",
        "document": "title and text, joined by a line break",
    }
    assert Reranker.load(tmp_path).max_length == 24
    assert Reranker.load(tmp_path, max_length=16).max_length == 16


CALIBRATIONS = [
    Calibration("temperature", 0.123456789),
    Calibration("platt", 2.5, -1.25),
    Calibration("isotonic", x=(-1.5, 0.1, 2.0), y=(0.05, 0.3, 0.9)),
    Calibration("platt", 1.5, 0.75, basis="list"),
]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda c: f"{c.method} of the {c.basis}")
def test_a_calibration_survives_in_the_contract_and_is_the_same_function_in_any_precision(
    model: Path, pairs: list[tuple[str, str]], tmp_path: Path, calibration: Calibration
) -> None:
    reranker = Reranker.load(model, precision="fp32")
    assert reranker.calibration is None
    reranker.calibration = calibration
    reranker.save(tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    shutil.rmtree(tmp_path / "saved")
    probes = np.linspace(-5, 5, 21, dtype=np.float32)
    for precision in HALF_AND_SINGLE:
        loaded = Reranker.load(tmp_path / "copy", precision=precision)
        assert loaded.calibration == calibration
        assert loaded.probabilities(probes) == calibration.of_list(probes).tolist()
        # And the second time round.
        loaded.save(tmp_path / precision)
        assert Reranker.load(tmp_path / precision).calibration == calibration
    # Probabilities are those of this very list of scores, which bf16 changes a little.
    single = Reranker.load(tmp_path / "copy", precision="fp32")
    assert single.probabilities(single.score(pairs)) == calibration.of_list(single.score(pairs)).tolist()


def test_probabilities_do_not_decide_the_scores(model: Path, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    """What is saved with a calibration scores as it did without: `CrossEncoder` and the scores that were kept agree."""
    reranker = Reranker.load(model, precision="fp32")
    scores = reranker.score(pairs)
    reranker.calibration = CALIBRATIONS[1]
    reranker.save(tmp_path)
    assert Reranker.load(tmp_path, precision="fp32").score(pairs) == pytest.approx(scores, abs=1e-6)
    assert cross_encoder(tmp_path, pairs) == pytest.approx(scores, abs=1e-5)


def test_without_a_calibration_there_is_no_probability(model: Path) -> None:
    reranker = Reranker.load(model)
    assert reranker.probabilities(np.zeros(3, np.float32)) == [None] * 3
    assert reranker.probabilities(np.zeros(0, np.float32)) == []
    reranker.calibration = CALIBRATIONS[0]
    assert reranker.probabilities(np.zeros(0, np.float32)) == []


def test_a_broken_calibration_is_told(model: Path, tmp_path: Path) -> None:
    Reranker.load(model).save(tmp_path)
    contract = json.loads((tmp_path / CONTRACT).read_text())
    (tmp_path / CONTRACT).write_text(json.dumps(contract | {"calibration": {"method": "magic"}}))
    with pytest.raises(UserError, match=r"calibration: the method of .*'magic'.* is none of temperature"):
        Reranker.load(tmp_path)


# --- scores that are kept


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_kept_scores_are_those_of_the_model_and_computed_once(
    model: Path, pairs: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = Reranker.load(model, precision="fp32")
    scores = reranker.score(pairs)
    assert keep_scores(reranker, tmp_path).score(pairs) == pytest.approx(scores, abs=1e-6)
    before = kept(tmp_path)
    monkeypatch.setattr(Reranker, "stream", None)
    again = keep_scores(Reranker.load(model, precision="fp32"), tmp_path).score(pairs)
    assert again == pytest.approx(scores, abs=1e-6)
    assert kept(tmp_path) == before


def test_a_file_of_scores_belongs_to_all_that_decides_them(model: Path, tmp_path: Path) -> None:
    """Weights, length, precision and what is named besides; not the place, and not the calibration."""
    Reranker.load(model, max_length=32).save(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    contract = tmp_path / "same" / CONTRACT
    added = {"calibration": CALIBRATIONS[1].to_json()}
    contract.write_text(json.dumps(json.loads(contract.read_text()) | added))
    set_head(Reranker.load(tmp_path / "one", precision="fp32"), 0.5, 0.5).save(tmp_path / "other")

    def name(folder: str, *parts: object, **settings: Any) -> str:
        return keep_scores(Reranker.load(tmp_path / folder, **settings), tmp_path, *parts).path.name

    usual = name("one", precision="fp32")
    assert name("same", precision="fp32") == usual
    others = [
        name("other", precision="fp32"),
        name("one", precision="bf16"),
        name("one", precision="fp32", max_length=31),
        name("one", 13, precision="fp32"),
        name("one", 14, precision="fp32"),
    ]
    assert len({usual, *others}) == 6
    assert name("one", precision="fp32", batch_tokens=64) == usual


def test_scores_are_kept_of_loaded_models_only(model: Path, tmp_path: Path) -> None:
    network, tokenizer = load_cross_encoder(str(model))
    with pytest.raises(ValueError, match="that were loaded"):
        keep_scores(Reranker(network, tokenizer, max_length=16), tmp_path)


@pytest.mark.parametrize(("asked", "given"), [(None, 64), (32, 32), (4096, 64)])
def test_max_length_ends_where_the_model_does(model: Path, asked: int | None, given: int) -> None:
    assert Reranker.load(model, max_length=asked).max_length == given


def test_tokens_beyond_max_length_do_not_count(model: Path) -> None:
    reranker = Reranker.load(model, max_length=16, precision="fp32")
    query, document = "snow", "rail station ticket platform engine wheel carriage travel king queen rook bishop"
    # [CLS] snow [SEP] and [SEP] leave twelve tokens.
    same, other = reranker.score([(query, document), (query, f"{document} pawn check")])
    assert same == pytest.approx(other, abs=1e-6)
    longer = Reranker.load(model, max_length=24, precision="fp32")
    same, other = longer.score([(query, document), (query, f"{document} pawn check")])
    assert same != pytest.approx(other, abs=1e-3)
    assert max(map(len, reranker.tokenize([(query, document * 9), (document * 9, query)])["input_ids"])) == 16


def test_the_order_of_pairs_does_not_matter(model: Path, pairs: list[tuple[str, str]]) -> None:
    reranker = Reranker.load(model, precision="fp32")
    scores = reranker.score(pairs)
    order = np.random.default_rng(5).permutation(len(pairs))
    assert reranker.score([pairs[i] for i in order]) == pytest.approx(scores[order], abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_the_batch_budget_does_not_matter(model: Path, pairs: list[tuple[str, str]], batch_tokens: int) -> None:
    some = pairs[:12]
    one_by_one = Reranker.load(model, precision="fp32")
    expected = [one_by_one.score([pair])[0] for pair in some]
    reranker = Reranker.load(model, batch_tokens=batch_tokens, precision="fp32")
    assert reranker.score(some) == pytest.approx(expected, abs=1e-5)


def test_chunks_do_not_matter(model: Path, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = Reranker.load(model, precision="fp32")
    whole = reranker.score(pairs, label="with a progress bar")
    with monkeypatch.context() as few:
        few.setattr("secondstage.pairmodel.CHUNK", 25)
        assert reranker.score(pairs) == pytest.approx(whole, abs=1e-5)
    monkeypatch.setattr("secondstage.pairmodel.CHARACTERS", 300)
    assert reranker.score(pairs) == pytest.approx(whole, abs=1e-5)


def test_chunks_are_bounded_in_pairs_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondstage.pairmodel.CHUNK", 3)
    monkeypatch.setattr("secondstage.pairmodel.CHARACTERS", 10)
    sizes = [1, 1, 1, 1, 9, 1, 1, 30, 5, 5, 1]
    # Three; ten characters; two, as the next is too long for any; ten; what is left.
    pairs = [("q" * (size // 2), "d" * (size - size // 2)) for size in sizes]
    assert list(chunks(pairs)) == [(0, 3), (3, 5), (5, 7), (7, 8), (8, 10), (10, 11)]
    assert list(chunks([])) == []


def test_no_pairs_have_no_scores(model: Path, collection: Collection) -> None:
    reranker = Reranker.load(model)
    assert reranker.score([]).tolist() == []
    assert len(reranker.rerank(Run("first_stage", {}), {}, collection.documents)) == 0
    reranked = reranker.rerank(Run("first_stage", {"q": rank([], [], [])}), {"q": "snow"}, collection.documents)
    assert reranked["q"].doc_ids == ()


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(model: Path, pairs: list[tuple[str, str]], bias: float) -> None:
    reranker = set_head(Reranker.load(model, precision="fp32"), 0.0, bias)
    with pytest.raises(UserError, match="a score that is not finite"):
        reranker.score(pairs)


def first_stage(collection: Collection) -> Run:
    """Two lists, in an order that neither the ids nor the corpus have."""
    ids = np.random.default_rng(7).permutation(collection.documents.ids)
    lists = {"q-winter-0": ids[:20], "q-chess-0": ids[10:40]}
    return Run(
        "first_stage",
        {
            q: rank(list(map(str, found)), np.arange(len(found), 0, -1), ["x"] * len(found))
            for q, found in lists.items()
        },
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_constant_model_keeps_the_order(model: Path, collection: Collection, precision: Precision) -> None:
    first = first_stage(collection)
    reranker = set_head(Reranker.load(model, precision=precision), 0.0, -3.7)
    reranked = reranker.rerank(first, collection.queries, collection.documents)
    assert reranked.name == "reranked"
    assert list(reranked) == list(first)
    for query_id, ranking in first.items():
        assert reranked[query_id].doc_ids == ranking.doc_ids
        assert reranked[query_id].scores[0] == pytest.approx(-3.7)


def test_each_list_is_ordered_by_the_scores_of_its_pairs(model: Path, collection: Collection) -> None:
    first = first_stage(collection)
    reranker = Reranker.load(model, precision="fp32")
    for query_id, ranking in reranker.rerank(first, collection.queries, collection.documents).items():
        pairs = [
            (collection.queries[query_id], collection.documents.by_id(doc_id).content) for doc_id in ranking.doc_ids
        ]
        scores = reranker.score(pairs)
        assert set(ranking.doc_ids) == set(first[query_id].doc_ids)
        assert ranking.doc_ids != first[query_id].doc_ids
        assert ranking.scores == pytest.approx(scores, abs=1e-5)
        assert (np.diff(ranking.scores) < 0).all()


def test_a_new_head_is_drawn_from_torchs_generator(tiny_model: Path) -> None:
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(Reranker.load(tiny_model, precision="fp32").model.classifier.weight.detach().clone())
    assert heads[0].shape == (1, 32)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_model_with_several_outputs_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="not a single-label classifier: it has 3 outputs"):
        Reranker.load(tmp_path)


@pytest.mark.parametrize("damage", ["weights", "config", "tokenizer"])
def test_a_damaged_folder_is_refused(model: Path, tmp_path: Path, damage: str) -> None:
    Reranker.load(model).save(tmp_path)
    files = {"weights": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}
    (tmp_path / files[damage]).write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        Reranker.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Reranker.load(tmp_path / "nowhere")
