"""What the `collection` section of a config opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from secondstage.config import CollectionConfig
from secondstage.errors import UserError
from secondstage.sources import open_source
from secondstage.sources.beir import BeirSource
from secondstage.sources.hub import HubSource
from secondstage.sources.trec import FilesSource


def make_beir(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "t"}\n')
    return folder


def test_a_folder_is_read_as_beir(tmp_path: Path) -> None:
    source = open_source(CollectionConfig(source=str(make_beir(tmp_path / "tiny"))))
    assert isinstance(source, BeirSource)
    assert source.name == "tiny"


def test_the_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_beir(tmp_path / "tiny")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source(CollectionConfig(source="~/tiny")).name == "tiny"


def test_pydocs_is_the_built_in_collection() -> None:
    from secondstage.pydocs import PydocsSource

    assert isinstance(open_source(CollectionConfig(source="pydocs")), PydocsSource)


def test_the_hub_is_asked_by_prefix() -> None:
    source = open_source(CollectionConfig(source="hf:BeIR/scifact"))
    assert isinstance(source, HubSource)
    assert source.name == "BeIR/scifact"


def test_files_are_read_as_files(tmp_path: Path) -> None:
    folder = make_beir(tmp_path / "tiny")
    (folder / "test.txt").write_text("q 0 d 1\n")
    source = open_source(
        CollectionConfig(
            documents=str(folder / "corpus.jsonl"),
            queries=str(folder / "queries.jsonl"),
            qrels={"test": str(folder / "test.txt")},
        )
    )
    assert isinstance(source, FilesSource)
    assert source.name == "corpus"


def test_a_source_that_is_nowhere_is_named_with_the_accepted_forms() -> None:
    with pytest.raises(UserError) as caught:
        open_source(CollectionConfig(source="no/such/folder"))
    for words in ("'no/such/folder'", "BEIR folder", "pydocs", "hf:<dataset id>", "collection.documents"):
        assert words in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_what_looks_like_a_hub_id_is_asked_back() -> None:
    with pytest.raises(UserError, match=r"did you mean hf:BeIR/scifact\?"):
        open_source(CollectionConfig(source="BeIR/scifact"))


def test_a_file_is_no_source(tmp_path: Path) -> None:
    corpus = make_beir(tmp_path / "tiny") / "corpus.jsonl"
    with pytest.raises(UserError, match="is a file, not a folder"):
        open_source(CollectionConfig(source=str(corpus)))


def test_importing_the_package_is_light() -> None:
    heavy = {"datasets", "huggingface_hub", "numpy", "pandas", "pyarrow", "torch", "transformers"}
    program = f"import sys, secondstage.sources; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
