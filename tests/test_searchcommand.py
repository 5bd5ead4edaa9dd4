"""`secondstage search`: what it is told, and what it prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from secondstage.cli import main
from secondstage.errors import UserError
from secondstage.searchcommand import one_line, parse_where
from secondstage.serve import Pipeline, SearchOptions, update_documents

QUERY = "key of the piano"


@pytest.fixture(scope="module")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two documents that have fields."""
    folder = tmp_path_factory.mktemp("search")
    shutil.copytree(run_folder / "bundle", folder / "bundle")
    lines = [
        {"_id": "en-1", "text": "key of a piano", "metadata": {"language": "en", "year": 2020}},
        {"_id": "de-1", "text": "keys of pianos", "metadata": {"language": "de", "year": 2021}},
    ]
    (folder / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    update_documents(folder / "bundle", add=folder / "new.jsonl")
    return folder / "bundle"


def printed(capsys: pytest.CaptureFixture[str], bundle: Path, *arguments: str) -> str:
    assert main(["search", str(bundle), QUERY, *arguments]) == 0
    return capsys.readouterr().out


def test_settings_reach_the_pipeline(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--top-n", "4", "--depth", "6", "--min-score", "0.01", "--latency-ms", "60000", "--json"]
    found = json.loads(printed(capsys, bundle, *told))
    expected = Pipeline.load(bundle).answer(QUERY, options=SearchOptions(4, 6, 0.01))
    assert [result["doc_id"] for result in found["results"]] == [result.doc_id for result in expected.results]
    assert set(found) == {"answerable", "confidence", "results"}


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (["language=en"], {"en-1"}),
        (["language=en", "language=de"], {"en-1", "de-1"}),
        (["language=en", "year=2021"], set()),
        (["year=2021"], {"de-1"}),
    ],
)
def test_fields(bundle: Path, capsys: pytest.CaptureFixture[str], where: list[str], ids: set[str]) -> None:
    told = [part for each in where for part in ("--where", each)]
    found = json.loads(printed(capsys, bundle, "--json", *told))
    assert {result["doc_id"] for result in found["results"]} == ids


def test_a_context(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline.load(bundle)
    context = pipeline.answer(QUERY, options=SearchOptions(pack_tokens=25)).context
    assert context
    assert printed(capsys, bundle, "--pack-tokens", "25") == "\n\n".join(piece.text for piece in context) + "\n"
    found = json.loads(printed(capsys, bundle, "--pack-tokens", "25", "--json"))
    assert found["context"] == [piece._asdict() for piece in context]


def test_a_lowered_depth_is_told(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(bundle), QUERY, "--latency-ms", "0.000001"]) == 0
    assert "0 candidates were reranked, to keep --latency-ms" in capsys.readouterr().err
    # A depth that was asked for is not a lowered one.
    assert main(["search", str(bundle), QUERY, "--depth", "5", "--latency-ms", "60000"]) == 0
    assert "--latency-ms" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--where", "language"], "--where 'language' is no FIELD=VALUE"),
        (["--where", "lang=en"], "names the field 'lang', which no document has (they have language, year)"),
        (["--top-n", "0"], "top_n is 0, must be at least 1"),
        (["--min-score", "2"], "min_score is 2.0, must be a number from 0 to 1"),
        (["--latency-ms", "nan"], "latency_ms is nan"),
    ],
)
def test_mistakes_end_with_2(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["search", str(bundle), QUERY, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_texts_of_the_command_line() -> None:
    assert parse_where(["a=1", "b=x=y", "a=2"]) == {"a": ["1", "2"], "b": ["x=y"]}
    for text in ("a", "=a", ""):
        with pytest.raises(UserError, match="FIELD=VALUE"):
            parse_where([text])
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
