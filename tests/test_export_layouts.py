"""Layouts: real consumers load theirs and give the bundle's scores; what no consumer is here for is read back."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage.errors import UserError
from secondstage.files import read_json
from secondstage.reranker import Reranker
from secondstage.run import Scores
from secondstage.serve.export.graphs import to_onnx, to_openvino
from secondstage.serve.export.layouts import LAYOUTS, OLD_ONNX, Source, vespa
from secondstage.serve.export.layouts.parts import write_tokenizer

from .families import PAIRS, save_family

QUERY, DOCUMENT = PAIRS[0]
# One that is longer than the contract allows, so that all must cut it alike.
LONG = "winter snow frost ice coat scarf cold sledge freeze " * 6
MAX_LENGTH = 24
Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def reranker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a head, saved as a bundle holds it."""
    folder = save_family("bert", tmp_path_factory.mktemp("bert"), tiny_model, head="classification")
    made = Reranker.load(folder, precision="fp32", max_length=MAX_LENGTH)
    saved = tmp_path_factory.mktemp("reranker")
    made.save(saved)
    return saved


@pytest.fixture(scope="module")
def graphs(reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    to_onnx(reranker, folder / "onnx")
    to_onnx(reranker, folder / OLD_ONNX, old=True)
    to_openvino(reranker, folder / "openvino")
    return folder


@pytest.fixture
def write(reranker: Path, graphs: Path, tmp_path: Path) -> Write:
    """Writes a layout, and returns its folder."""

    def written(name: str) -> Path:
        layout, folder = LAYOUTS[name], tmp_path / name
        folder.mkdir()
        graph = graphs / layout.graph if layout.graph else None
        layout.write(Source("my-model", reranker, graph, "off by nothing"), folder)
        return folder

    return written


@pytest.fixture(scope="module")
def expected(reranker: Path) -> Scores:
    """The bundle's own scores of `PAIRS` and of the long one."""
    return Reranker.load(reranker, precision="fp32").score([*PAIRS, (QUERY, LONG)])


def run_example(folder: Path, variable: str) -> Any:
    """Run the first Python of a README as it stands, the folder's place and the texts put in."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code
    text = code[1].replace("FOLDER", str(folder))
    names: dict[str, Any] = {}
    exec(text.replace('"a query"', repr(QUERY)).replace('"a document"', repr(DOCUMENT)), names)
    return names[variable]


def test_every_layout_says_how_it_is_read_what_the_score_is_and_what_was_measured(write: Write) -> None:
    for name in ("safetensors", "onnx", "openvino", "opensearch", "vespa", "qdrant", "elasticsearch"):
        folder = write(name)
        text = (folder / "README.md").read_text()
        assert f"At most {MAX_LENGTH} tokens a pair" in text
        assert "raw logit" in text
        assert "off by nothing" in text
        # Words that should have been put in.
        assert not re.search(r"MAX_LENGTH|PAD_ID|INPUTS|\bNAME\b|QUERY_TOKENS", text), name
        contract = read_json(folder / "score.json")
        assert (contract["score"], contract["max_length"]) == ("logit", MAX_LENGTH)


def test_sentence_transformers_loads_the_folder(write: Write, expected: Scores) -> None:
    from sentence_transformers import CrossEncoder

    for name in ("safetensors", "elasticsearch", "onnx", "openvino"):
        model = CrossEncoder(str(write(name)), device="cpu")
        found = model.predict([*PAIRS, (QUERY, LONG)], show_progress_bar=False)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_was_written_scores_as_the_bundle(write: Write, reranker: Path, expected: Scores) -> None:
    for name in ("safetensors", "onnx", "openvino", "opensearch", "vespa", "qdrant", "elasticsearch"):
        found = LAYOUTS[name].scores(Source("my-model", reranker, None, ""), write(name), [*PAIRS, (QUERY, LONG)])
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def test_tei_reads_as_many_tokens_as_the_bundle(write: Write) -> None:
    for name in ("safetensors", "onnx"):
        folder = write(name)
        # It takes the first that is there.
        assert read_json(folder / "config.json")["max_position_embeddings"] > MAX_LENGTH
        assert read_json(folder / "sentence_bert_config.json")["max_seq_length"] == MAX_LENGTH


def test_the_examples_of_the_readme_give_the_bundles_score(write: Write, expected: Scores) -> None:
    assert run_example(write("onnx"), "scores")[0] == pytest.approx(expected[0], abs=1e-4)
    # In bfloat16 where the processor has it.
    assert run_example(write("openvino"), "scores")[0] == pytest.approx(expected[0], abs=0.1)


def test_fastembed_loads_the_folder_offline(write: Write, expected: Scores) -> None:
    # Its pins do not go with huggingface-hub 2, so it is in no extra: `make install` installs it without them.
    fastembed = pytest.importorskip("fastembed.rerank.cross_encoder", reason="fastembed is not installed: make install")
    folder = write("qdrant")
    assert run_example(folder, "scores")[0] == pytest.approx(expected[0], abs=1e-4)

    model = fastembed.TextCrossEncoder("my-model", specific_model_path=str(folder))
    found = list(model.rerank_pairs([*PAIRS, (QUERY, LONG)], batch_size=4))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_opensearchs_archive_holds_a_graph_and_a_tokenizer_under_its_digest(write: Write, expected: Scores) -> None:
    import onnx
    import onnxruntime
    from tokenizers import Tokenizer

    folder = write("opensearch")
    content = (folder / "my-model.zip").read_bytes()
    call = read_json(folder / "model_config.json")
    assert call["model_content_hash_value"] == hashlib.sha256(content).hexdigest()
    assert call["model_content_size_in_bytes"] == len(content)
    assert (call["function_name"], call["model_format"], call["name"]) == ("TEXT_SIMILARITY", "ONNX", "my-model")
    assert call["model_config"] == {
        "model_type": "bert",
        "embedding_dimension": 1,
        "framework_type": "huggingface_transformers",
    }
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["my-model.onnx", "tokenizer.json"]
        graph, words = (archive.read(name) for name in archive.namelist())
    # What ONNX Runtime 1.16 reads, which OpenSearch brings.
    model = onnx.load_from_string(graph)
    assert (model.ir_version <= 9, model.opset_import[0].version <= 19) == (True, True)
    # As OpenSearch scores: a pair at a time, three inputs by name, cut as tokenizer.json says.
    session, tokenizer = onnxruntime.InferenceSession(graph), Tokenizer.from_str(words.decode())
    for (query, document), score in zip([*PAIRS, (QUERY, LONG)], expected, strict=True):
        row = tokenizer.encode(query, document)
        features = {"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}
        found = np.asarray(session.run(None, {name: np.array([ids]) for name, ids in features.items()})[0])
        assert found.shape == (1, 1)
        assert found[0, 0] == pytest.approx(score, abs=1e-4)


def test_the_same_archive_has_the_same_digest(write: Write, tmp_path: Path) -> None:
    first = write("opensearch")
    first.rename(tmp_path / "first")
    digests = {read_json(folder / "model_config.json")["model_content_hash_value"]
               for folder in (tmp_path / "first", write("opensearch"))}  # fmt: skip
    assert len(digests) == 1


def test_opensearch_gives_segment_ids_to_a_graph_that_reads_none(tiny_model: Path, tmp_path: Path) -> None:
    import onnxruntime

    folder = save_family("distilbert", tmp_path / "model", tiny_model, head="classification")
    made = Reranker.load(folder, precision="fp32")
    made.save(tmp_path / "reranker")
    to_onnx(tmp_path / "reranker", tmp_path / "graph")
    (tmp_path / "out").mkdir()
    LAYOUTS["opensearch"].write(Source("m", tmp_path / "reranker", tmp_path / "graph", ""), tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "m.zip") as archive:
        session = onnxruntime.InferenceSession(archive.read("m.onnx"))
    row = made.tokenizer(*PAIRS[0])
    features = {name: np.array([row[name]]) for name in ("input_ids", "attention_mask")}
    found = np.asarray(session.run(None, {**features, "token_type_ids": np.zeros_like(features["input_ids"])})[0])
    assert found[0, 0] == pytest.approx(made.score(PAIRS[:1])[0], abs=1e-4)


def test_vespa_puts_the_pair_together_from_tokens_that_have_no_marks(
    write: Write, reranker: Path, expected: Scores
) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    folder = write("vespa")
    schema = (folder / "schemas" / "reranked.sd").read_text()
    assert (folder / "services.xml").is_file()
    assert f"customTokenInputIds(2, 3, {MAX_LENGTH}, query(q_tokens), attribute(tokens))" in schema
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert f"input {name}: {name}" in schema
        assert f"function {name}()" in schema
    assert schema.count("{") == schema.count("}")
    # In Vespa a concatenation of nothing with something is nothing, and `||` gives the first that is something.
    assert r"""((input title . "\n" . input text) || input title || input text || "") | embed tokenizer""" in schema
    tokenizer = Tokenizer.from_file(str(folder / "models" / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "models" / "model.onnx")
    kept = Reranker.load(reranker).tokenizer
    for (query, document), score in zip(PAIRS, expected, strict=False):
        if len(kept(query, document)["input_ids"]) > MAX_LENGTH:
            continue
        first, second = tokenizer.encode(query).ids, tokenizer.encode(document).ids
        row = [2, *first, 3, *second, 3]
        filled = MAX_LENGTH - len(row)
        features = {
            "input_ids": [row + [0] * filled],
            "attention_mask": [[1] * len(row) + [0] * filled],
            "token_type_ids": [[0] * (len(first) + 2) + [1] * (len(second) + 1) + [0] * filled],
        }
        found = np.asarray(session.run(["logits"], {name: np.array(ids) for name, ids in features.items()})[0])
        assert found[0, 0] == pytest.approx(score, abs=1e-4)


def test_vespa_takes_its_own_function_for_the_marks_of_bert(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vespa, "BERT_MARKS", (2, 3))
    schema = (write("vespa") / "schemas" / "reranked.sd").read_text()
    assert f"expression: tokenInputIds({MAX_LENGTH}, query(q_tokens)" in schema


def test_vespa_refuses_a_tokenizer_that_puts_more_between_two_texts(reranker: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import RobertaProcessing

    copied = tmp_path / "reranker"
    copied.mkdir()
    for path in reranker.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    inner = Tokenizer.from_file(str(copied / "tokenizer.json"))
    inner.post_processor = RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    inner.save(str(copied / "tokenizer.json"))
    with pytest.raises(UserError, match="vespa joins query and document as start"):
        LAYOUTS["vespa"].check(Source("m", copied, None, ""))


def test_elasticsearch_refuses_a_network_whose_tokenizer_it_has_not(reranker: Path, tmp_path: Path) -> None:
    copied = tmp_path / "reranker"
    copied.mkdir()
    for path in reranker.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    (copied / "config.json").write_text(json.dumps({"model_type": "modernbert"}))
    with pytest.raises(UserError, match="no tokenizer for a network of kind 'modernbert'"):
        LAYOUTS["elasticsearch"].check(Source("m", copied, None, ""))


def test_a_tokenizer_without_a_fast_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        write_tokenizer(Source("m", tmp_path, None, ""), tmp_path / "out")
    for name in ("opensearch", "qdrant", "vespa"):
        with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
            LAYOUTS[name].check(Source("m", tmp_path, None, ""))
