"""The command: what is written where, what was measured, and that a refusal leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from secondstage.backends.record import read_record
from secondstage.cli import main
from secondstage.config import ServeConfig
from secondstage.errors import UserError
from secondstage.exportcommand import TARGETS
from secondstage.files import file_digest, read_json, read_manifest
from secondstage.plan import claimed
from secondstage.reranker import Reranker
from secondstage.run import Scores
from secondstage.serve import Pipeline
from secondstage.serve.export import command, parity
from secondstage.serve.export.command import MAKERS
from secondstage.serve.export.layouts import LAYOUTS, Source, elasticsearch
from secondstage.serve.export.loaded import scores_of_graph

from .bundles import resigned
from .test_cli import fails

Pairs = list[tuple[str, str]]


@pytest.fixture
def bundle(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of a run's bundle, its collection beside it."""
    shutil.copytree(run_folder / "bundle", tmp_path / "my run" / "bundle")
    (tmp_path / "my run" / "collection").symlink_to(run_folder / "collection")
    return tmp_path / "my run" / "bundle"


@pytest.fixture(scope="module")
def run_graphs(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of the run's reranker, made as the command makes them. Read it only."""
    folder = tmp_path_factory.mktemp("run-graphs")
    for name in (engine for engine in MAKERS if engine != "openvino"):
        MAKERS[name](run_folder / "bundle" / "reranker", folder / name)
    return folder


@pytest.fixture
def made_once(run_graphs: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs in ONNX's format are not made again, as weights are the same."""
    weights = file_digest(run_folder / "bundle" / "reranker" / "model.safetensors")

    def copied(name: str, reranker: Path, folder: Path) -> Path:
        assert file_digest(reranker / "model.safetensors") == weights
        return Path(shutil.copytree(run_graphs / name, folder)) / "model.onnx"

    for name in (path.name for path in run_graphs.iterdir()):
        monkeypatch.setitem(command.MAKERS, name, partial(copied, name))


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")


def test_the_command_line_knows_every_layout() -> None:
    assert list(TARGETS) == list(LAYOUTS)


@pytest.mark.slow
def test_engines_go_into_the_bundle_which_stays_what_it_was(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random model of 32 numbers a token: what eight bits cost it says nothing.
    monkeypatch.setattr(parity, "MAY_LOSE", 1.0)
    engines = ("onnx", "onnx-int8", "openvino", "openvino-int8")
    assert main(["export", str(bundle), "--to", *engines]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(engines)
    for name, line in zip(engines, lines, strict=True):
        folder = bundle / "engines" / name
        record = read_record(folder, name, bundle / "reranker")
        assert f"{name}: {folder}  scores off by " in line
        assert record.parity["basis"] == "dev"
        assert record.parity["queries"] == 16
        assert record.parity["largest"] <= (1 if name.endswith("int8") else 1e-3)
        assert record.parity["ndcg_delta"] == pytest.approx(
            record.parity["ndcg"] - record.parity["ndcg_torch"], abs=1e-6
        )
    assert everything(bundle / "engines" / "onnx") == ["engine.json", "model.onnx"]
    assert everything(bundle / "engines" / "openvino-int8") == [
        "engine.json", "openvino_model.bin", "openvino_model.xml"]  # fmt: skip
    Pipeline.load(bundle)


@pytest.mark.usefixtures("made_once")
def test_layouts_go_below_output_with_a_manifest_that_says_what_was_measured(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    targets = ("safetensors", "opensearch", "qdrant")
    for _ in range(2):  # an export of ours is replaced
        assert main(["export", str(bundle), "--to", *targets, "--output", str(out), "--queries", "5"]) == 0
    assert capsys.readouterr().out.count("(5 queries of dev, ") == 2 * len(targets)
    assert sorted(path.name for path in out.iterdir()) == sorted(targets)
    for name in targets:
        found = read_manifest(out / name, "export", verify=True)
        assert (found["to"], found["parity"]["queries"]) == (name, 5)
        assert found["parity"]["largest"] < 1e-3
    assert (out / "opensearch" / "my-run.zip").is_file()
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize(
    ("weight", "before", "words"),
    [
        (0.4, 0, "orders by 0.4 × this score + 0.6 × the first stage's"),
        (1.0, 0, ""),
        (1.0, 1, "smaller rerankers choose"),
    ],
)
def test_an_engine_that_orders_by_the_reranker_alone_is_told_apart_from_the_pipeline(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weight: float,
    before: int,
    words: str,
) -> None:
    found = read_json(bundle / "pipeline.json")["weight"]
    asked = command.Exports(bundle, ("safetensors",), tmp_path, None, 5, "reranker", 10)
    assert asked.apart == command.apart(found, 0)
    monkeypatch.setattr(command.Exports, "apart", command.apart(weight, before))
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--to", "safetensors", "--output", str(out), "--queries", "5"]) == 0
    said, text = capsys.readouterr().err, (out / "safetensors" / "README.md").read_text()
    assert ("another engine orders by the reranker alone" in said) == bool(words)
    assert ("It is the reranker alone" in text) == bool(words)
    assert words in said
    assert words in text


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs score in the opposite order."""
    monkeypatch.setattr(command, "scores_of_graph", lambda *given, **named: -scores_of_graph(*given, **named))


@pytest.mark.usefixtures("made_once")
def test_an_export_that_is_off_is_refused_and_leaves_nothing(
    bundle: Path, tmp_path: Path, broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(tmp_path)
    said = fails(capsys, "export", str(bundle), "--to", "safetensors", "onnx", "--output", str(tmp_path / "out"))
    assert "onnx is refused, and nothing was written: scores off by" in said
    assert "Way out: " in said
    said = fails(capsys, "export", str(bundle), "--to", "onnx-int8")
    assert "onnx-int8 is refused, and nothing was written" in said
    assert "eight bits may lose 0.003" in said
    assert everything(tmp_path) == before


def damaged(monkeypatch: pytest.MonkeyPatch, target: str, damage: Callable[[Path], object]) -> None:
    """Have a layout do something to what it wrote."""
    layout = LAYOUTS[target]

    def write(source: Source, folder: Path) -> None:
        layout.write(source, folder)
        damage(folder)

    monkeypatch.setitem(LAYOUTS, target, layout._replace(write=write))


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize(
    ("target", "name"),
    [("safetensors", "model.safetensors"), ("opensearch", "my-run.zip"), ("qdrant", "tokenizer.json"),
     ("vespa", "models/model.onnx")],
)  # fmt: skip
def test_what_cannot_be_opened_once_it_is_written_is_refused_with_all_others(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    name: str,
) -> None:
    damaged(monkeypatch, target, lambda folder: (folder / name).write_text("{}"))
    asked = ["--to", "elasticsearch", target, "--output", str(tmp_path / "out"), "--queries", "2"]
    said = fails(capsys, "export", str(bundle), *asked)
    assert f"{target} is refused, and nothing was written: what it would be read from cannot be opened" in said
    assert "Way out: " in said
    assert list((tmp_path / "out").iterdir()) == []


def test_a_written_folder_that_scores_otherwise_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its configuration does not say that the logit is the score: sentence-transformers takes the sigmoid."""

    def damage(folder: Path) -> None:
        config = read_json(folder / "config.json")
        del config["sentence_transformers"]
        (folder / "config.json").write_text(json.dumps(config))

    damaged(monkeypatch, "safetensors", damage)
    asked = ["--to", "safetensors", "--output", str(tmp_path / "out"), "--queries", "2"]
    assert "gives scores that are off by" in fails(capsys, "export", str(bundle), *asked)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_openvino_is_measured_as_it_serves_too(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sign: int
) -> None:
    """In bfloat16, which is off by more than single precision may be, and must rank alike."""
    monkeypatch.setattr(command, "serve_config", lambda _: ServeConfig(precision="bf16"))

    def scored(folder: Path, engine: str, reranker: Path, pairs: Pairs, *, label: str, precision: str) -> Scores:
        scores = Reranker.load(reranker, precision="fp32").score(pairs)
        return sign * scores + 0.01 if precision == "bf16" else scores

    monkeypatch.setattr(command, "scores_of_graph", scored)
    if sign < 0:
        said = fails(capsys, "export", str(bundle), "--to", "openvino")
        assert "bfloat16 may lose 0.003. Way out: make the bundle with serve.precision=fp32" in said
        assert not (bundle / "engines").exists()
        return
    assert main(["export", str(bundle), "--to", "openvino"]) == 0
    assert "; in bfloat16, which serves, scores off by 0.01 at most" in capsys.readouterr().out
    measured = read_record(bundle / "engines" / "openvino", "openvino", bundle / "reranker").parity
    assert measured["largest"] == 0
    assert measured["served"]["largest"] == pytest.approx(0.01, abs=1e-6)
    assert measured["served"]["ndcg_delta"] == 0


def test_a_decoder_is_written_without_a_search(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would be compared on what it finds, and the first stage may be a run, which answers few queries."""
    monkeypatch.setattr(command, "read_contract", lambda _: {"kind": "yes_no"})
    monkeypatch.setattr(command, "lists_of", None)
    assert main(["export", str(bundle), "--to", "safetensors", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("safetensors  the same weights; not compared\n")
    assert "compared on" not in said.err
    assert read_manifest(tmp_path / "out" / "safetensors", "export")["parity"] is None


@pytest.mark.parametrize(
    ("without", "made"),
    [
        ([], ["rerankers/1", "reranker"]),
        (["reranker"], ["rerankers/1"]),
        (["1"], ["reranker"]),
        (["1", "reranker"], []),
    ],
)
def test_of_a_cascade_all_that_have_a_graph_get_an_engine(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    without: list[str],
    made: list[str],
) -> None:
    """Others get the last one alone."""
    shutil.copytree(bundle / "reranker", bundle / "rerankers" / "1")

    def checked(folder: Path) -> None:
        if folder.name in without:
            raise UserError(f"{folder.name} has no graph")

    monkeypatch.setattr(command, "stage_folders", lambda *_: [(bundle / "rerankers" / "1", 8)])
    monkeypatch.setattr(command, "check_exportable", checked)
    if made:
        found = command._wanted(bundle, ("onnx",), None, None, 5)
        assert [one.name for one in found] == made
        assert [one.depth for one in found if one.name == "rerankers/1"] == [8] * ("rerankers/1" in made)
        assert capsys.readouterr().err.count("torch goes on computing") == len(without)
        (other,) = command._wanted(bundle, ("safetensors",), bundle.parent / "out", None, 5)
        assert other.name == "reranker"
    else:
        with pytest.raises(UserError, match="reranker has no graph"):
            command._wanted(bundle, ("onnx",), None, None, 5)


def test_nothing_is_put_into_a_bundle_that_a_run_may_replace(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(bundle.parent, ()):
        said = fails(capsys, "export", str(bundle), "--to", "onnx")
        assert main(["export", str(bundle), "--to", "safetensors", "--output", str(tmp_path / "out")]) == 0
    assert f"another run is writing to {bundle.parent}" in said
    assert not (bundle / "engines").exists()


def test_openvinos_eight_bits_are_tried_again_with_more_in_higher_precision(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first try scores in the opposite order."""
    tried: list[int | None] = []

    def quantized(xml: Path, rows: object, target: Path, *, spared: int | None) -> None:
        tried.append(spared)
        shutil.copytree(xml.parent, target, dirs_exist_ok=True)

    monkeypatch.setattr(command, "quantize_openvino", quantized)

    def scored(folder: Path, engine: str, reranker: Path, pairs: Pairs, **_: object) -> Scores:
        return (-1 if len(tried) == 1 else 1) * Reranker.load(reranker, precision="fp32").score(pairs)

    monkeypatch.setattr(command, "scores_of_graph", scored)
    assert main(["export", str(bundle), "--to", "openvino-int8"]) == 0
    assert tried == [1, None]
    assert "again, with more of it in higher precision" in capsys.readouterr().err


def test_a_quantisation_that_fails_otherwise_is_not_tried_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int | None] = []

    def failing(xml: Path, rows: object, target: Path, *, spared: int | None) -> None:
        tried.append(spared)
        raise UserError("nncf is not installed")

    monkeypatch.setattr(command, "quantize_openvino", failing)
    assert "nncf is not installed" in fails(capsys, "export", str(bundle), "--to", "openvino-int8")
    assert tried == [1]


@pytest.mark.usefixtures("made_once")
def test_what_opensearch_gets_is_what_was_compared(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old graph, which no engine here serves."""
    compared: list[bytes] = []

    def scored(folder: Path, engine: str, reranker: Path, pairs: Pairs, **_: object) -> Scores:
        compared.append((folder / "model.onnx").read_bytes())
        return scores_of_graph(folder, engine, reranker, pairs)

    monkeypatch.setattr(command, "scores_of_graph", scored)
    assert main(["export", str(bundle), "--to", "opensearch", "--output", str(tmp_path / "out")]) == 0
    with zipfile.ZipFile(tmp_path / "out" / "opensearch" / "my-run.zip") as archive:
        assert [archive.read("my-run.onnx")] == compared


def test_what_cannot_be_done_is_refused_before_any_work(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "lists_of", None)
    assert "is not a bundle" in fails(capsys, "export", str(tmp_path), "--to", "onnx")
    assert "say where to with --output" in fails(capsys, "export", str(bundle), "--to", "onnx", "vespa")
    assert "queries is 0" in fails(capsys, "export", str(bundle), "--to", "onnx", "--queries", "0")
    (tmp_path / "out" / "vespa").mkdir(parents=True)
    (tmp_path / "out" / "vespa" / "mine.txt").write_text("mine")
    said = fails(capsys, "export", str(bundle), "--to", "vespa", "--output", str(tmp_path / "out"))
    assert "is left alone" in said
    # What one of several cannot read is told before any of them is made.
    monkeypatch.setattr(elasticsearch, "KINDS", ())
    said = fails(capsys, "export", str(bundle), "--to", "onnx", "elasticsearch", "--output", str(tmp_path / "both"))
    assert "elasticsearch has no tokenizer for a network of kind" in said
    assert not (tmp_path / "both").exists()
    (bundle / "engines" / "onnx").mkdir(parents=True)
    (bundle / "engines" / "onnx" / "mine.txt").write_text("mine")
    assert "holds no engine.json and is left alone" in fails(capsys, "export", str(bundle), "--to", "onnx")
    contract = bundle / "reranker" / "score.json"
    contract.write_text('{"kind": "yes_no"}')
    resigned(bundle)
    said = fails(capsys, "export", str(bundle), "--to", "qdrant", "--output", str(tmp_path / "new"))
    assert "only a cross-encoder with a classification head becomes a graph" in said
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(bundle), "--to", "tensorrt"])
