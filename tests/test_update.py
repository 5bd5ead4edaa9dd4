"""Documents added to a bundle and removed from it: the bundle of all of them, nothing known computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secondstage import firststage
from secondstage.cli import main
from secondstage.collection import Collection, Documents
from secondstage.config import FirstStageConfig
from secondstage.encoder import Encoder
from secondstage.errors import UserError
from secondstage.files import read_json, read_manifest
from secondstage.firststage.renewal import renew
from secondstage.firststage.vectors import VectorIndex
from secondstage.plan import claimed
from secondstage.serve import Pipeline, update, update_documents

QUERIES = ["key of the piano", "water of the river", "a king and his queen", "unheard of"]
NEW: list[dict[str, Any]] = [
    {"_id": "new-1", "title": "piano wire", "text": "wire of the piano chord", "metadata": {"year": 2020}},
    {"_id": "new-2", "title": "", "text": "queen of the river bank"},
]


@pytest.fixture
def bundle(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def written(path: Path, lines: Sequence[object]) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def found(bundle: Path) -> list[list[tuple[str, float]]]:
    pipeline = Pipeline.load(bundle)
    return [[(result.doc_id, result.first_stage_score) for result in pipeline.search(query, 20)] for query in QUERIES]


def close(one: list[list[tuple[str, float]]], other: list[list[tuple[str, float]]]) -> bool:
    """The same documents in the same order, with nearly the same scores."""
    (ids, scores), (other_ids, other_scores) = (
        ([doc_id for each in lists for doc_id, _ in each], [score for each in lists for _, score in each])
        for lists in (one, other)
    )
    return ids == other_ids and np.allclose(scores, other_scores, atol=1e-5)


def test_added_documents_are_found_and_removed_ones_are_gone(bundle: Path, tmp_path: Path) -> None:
    before, manifest = found(bundle), read_manifest(bundle, "bundle")
    (bundle / "engines").mkdir()
    (bundle / "engines" / "engine.json").write_text("{}")
    corpus = written(tmp_path / "new.jsonl", NEW)
    assert update_documents(bundle, add=corpus) == (2, 0, 66)
    after = read_manifest(bundle, "bundle", verify=True)
    step = {"added": 2, "removed": 0, "at": after["updated"][0]["at"], "from": manifest["fingerprint"]}
    assert (after["documents"], after["updated"]) == (66, [step])
    assert after["fingerprint"] != manifest["fingerprint"]
    assert {name: after[name] for name in ("choices", "seconds", "versions")} == {
        name: manifest[name] for name in ("choices", "seconds", "versions")
    }
    # The proof was for the old documents; what lies beside the manifest's files still does.
    pipeline = Pipeline.load(bundle)
    assert pipeline.verdict is None
    assert not (bundle / "verdict.json").exists()
    assert (bundle / "engines" / "engine.json").exists()
    assert "engines/engine.json" not in after["files"]
    assert {"new-1", "new-2"} <= {result.doc_id for query in QUERIES for result in pipeline.search(query, 20)}
    assert pipeline.documents.by_id("new-1").metadata == '{"year": 2020}'
    # And back.
    ids = written(tmp_path / "ids.txt", ["new-2", "", "new-1"])
    assert update_documents(bundle, remove=ids) == (0, 2, 64)
    assert close(found(bundle), before)
    assert [(step["added"], step["removed"]) for step in read_manifest(bundle, "bundle")["updated"]] == [(2, 0), (0, 2)]


def test_a_document_is_replaced(bundle: Path, tmp_path: Path) -> None:
    corpus = written(tmp_path / "new.jsonl", [{"_id": "piano-0", "text": "a saddle"}])
    ids = written(tmp_path / "ids.txt", ["piano-0", "river-3"])
    assert update_documents(bundle, add=corpus, remove=ids, output=tmp_path / "other") == (1, 2, 63)
    documents = Pipeline.load(tmp_path / "other").documents
    assert (documents.by_id("piano-0").text, documents.ids[-1], "river-3" in documents) == (
        "a saddle",
        "piano-0",
        False,
    )
    # The bundle itself is as it was.
    assert len(Pipeline.load(bundle).documents) == 64


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_a_kill_between_the_renames_left_is_put_right(bundle: Path, tmp_path: Path, elsewhere: bool) -> None:
    bundle.rename(tmp_path / ".bundle.old")
    (tmp_path / ".bundle.tmp-killed").mkdir()
    with pytest.raises(UserError, match=r"that was interrupted left .*\.bundle\.old: give that command again"):
        Pipeline.load(bundle)
    output = tmp_path / "other" / "bundle" if elsewhere else None
    assert update_documents(bundle, add=written(tmp_path / "new.jsonl", NEW), output=output) == (2, 0, 66)
    assert len(Pipeline.load(bundle).documents) == (64 if elsewhere else 66)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".bundle")] == []


def test_two_updates_at_once_lose_neither(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused, and what clears up after killed ones does not take the first for one."""
    one, other = (written(tmp_path / f"{line['_id']}.jsonl", [line]) for line in NEW)
    refused: list[str] = []

    def meanwhile(*arguments: Any) -> Any:
        for attempt in (lambda: update_documents(bundle, add=other), lambda: claimed(tmp_path, ["bundle"]).__enter__()):
            with pytest.raises(UserError) as caught:
                attempt()
            refused.append(str(caught.value))
        return renew(*arguments)

    monkeypatch.setattr(update, "renew", meanwhile)
    assert update_documents(bundle, add=one) == (1, 0, 65)
    assert refused == [f"another run is writing to {tmp_path}: wait for it, or choose another output"] * 2
    monkeypatch.undo()
    assert update_documents(bundle, add=other) == (1, 0, 66)


def test_a_wrong_path_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a bundle"):
        update_documents(
            tmp_path / "no" / "bundle", add=written(tmp_path / "new.jsonl", NEW), output=tmp_path / "o" / "p"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["new.jsonl"]


@pytest.mark.parametrize(
    ("add", "remove", "words"),
    [
        (None, None, "nothing to do: give --add"),
        ([{"_id": "piano-0", "text": "x"}], None, "'piano-0' is there twice"),
        ([{"_id": "a", "text": "x"}, {"_id": "a", "text": "y"}], None, "'a' is there twice"),
        ([{"_id": "a", "text": " "}], None, "neither title nor text"),
        (["{"], None, "not JSON"),
        (None, ["piano-0", "piano-99"], "line 2: there is no document 'piano-99' in the bundle"),
        (None, "all", "removes every document"),
    ],
)
def test_mistakes_leave_the_bundle_alone(bundle: Path, tmp_path: Path, add: Any, remove: Any, words: str) -> None:
    before = read_json(bundle / "manifest.json")
    ids = Documents(bundle / "documents.arrow").ids if remove == "all" else remove
    with pytest.raises(UserError, match=words):
        update_documents(
            bundle,
            add=None if add is None else written(tmp_path / "new.jsonl", add),
            remove=None if ids is None else written(tmp_path / "ids.txt", ids),
        )
    assert read_manifest(bundle, "bundle", verify=True) == before


@pytest.mark.parametrize(("kind", "words"), [("run", "is a run, a file of lists"), ("milvus", "is Milvus")])
def test_first_stages_without_an_index_here_are_refused(kind: str, words: str, tmp_path: Path) -> None:
    from secondstage.firststage.renewal import check_renewable

    config: dict[str, Any] = {"kind": kind} | ({"run": [str(tmp_path / "a.trec")]} if kind == "run" else {})
    with pytest.raises(UserError, match=words):
        check_renewable(FirstStageConfig.from_json(config))


def test_the_command(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = written(tmp_path / "new.jsonl", [NEW[0], {**NEW[1], "metadata": {"nested": {}}}])
    assert main(["documents", str(bundle), "--add", str(corpus)]) == 0
    printed = capsys.readouterr()
    assert "66 documents: 2 added, 0 removed" in printed.out
    assert f"`secondstage evaluate {bundle} --collection OUTPUT/collection` measures it" in printed.out
    assert "metadata fields left out" in printed.err
    assert main(["documents", str(bundle), "--add", str(corpus)]) == 2
    assert "'new-1' is there twice" in capsys.readouterr().err


def test_the_command_names_the_collection_that_measures_it(
    run_folder: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints can be typed: beside the new bundle, or beside the old one, lies a collection."""
    corpus, collection = written(tmp_path / "new.jsonl", NEW), tmp_path / "collection"
    shutil.copytree(run_folder / "collection", collection)
    elsewhere = tmp_path / "elsewhere" / "bundle"
    for output, asked in ((elsewhere, f"{elsewhere} --collection {collection}"), (bundle, f"{bundle}")):
        assert main(["documents", str(bundle), "--add", str(corpus), "--output", str(output)]) == 0
        assert f"`secondstage evaluate {asked}` measures it" in capsys.readouterr().out
        assert main(["evaluate", *asked.split()]) == 0


@pytest.mark.parametrize("options", [("add",), ("remove",), ("add", "remove")])
def test_files_that_name_nothing_leave_the_bundle_as_it_is(
    bundle: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The gate's verdict would be lost for nothing."""
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    files = {name: written(tmp_path / f"{name}.txt", ["", " "]) for name in options}
    for output in (None, tmp_path / "new" / "bundle"):
        with pytest.raises(UserError, match=r"(add|remove)\.txt names nothing: the bundle is left as it is"):
            update_documents(bundle, output=output, **files)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    assert not (tmp_path / "new" / "bundle").exists()


# --- indexes


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that an encoder encodes."""
    texts: list[str] = []
    encode = Encoder.encode

    def counted(self: Encoder, batch: Sequence[str], *arguments: Any) -> Any:
        texts.extend(batch)
        return encode(self, batch, *arguments)

    monkeypatch.setattr(Encoder, "encode", counted)
    return texts


@pytest.mark.parametrize("kind", ["bm25", "flat", "hnsw", "hybrid"])
def test_it_is_the_index_of_the_union(
    kind: str, tiny_model: Path, collection: Collection, tmp_path: Path, encoded: list[str]
) -> None:
    dense = {"model": str(tiny_model), "index": kind if kind in ("flat", "hnsw") else "auto"}
    config = FirstStageConfig.from_json({"kind": "dense" if kind in ("flat", "hnsw") else kind, "dense": dense})
    from secondstage.intake import write_documents

    old, union = list(collection.documents)[:40], list(collection.documents)[10:]
    for name, documents in (("old", old), ("union", union)):
        write_documents(documents, tmp_path / f"{name}.arrow")
    (tmp_path / "index").mkdir()
    firststage.save(firststage.build(config, Documents(tmp_path / "old.arrow")), config, tmp_path / "index")
    encoded.clear()
    after = Documents(tmp_path / "union.arrow")
    made = renew(config, tmp_path / "index", after, list(range(10, 40)))
    # Ten are gone and thirty stay: the other 24 alone are encoded.
    assert encoded == ([] if kind == "bm25" else [document.content for document in union[30:]])
    expected = firststage.build(config, after)
    for hits, other in zip(made.search(QUERIES, 20), expected.search(QUERIES, 20), strict=True):
        assert hits.rows.tolist() == other.rows.tolist()
        assert hits.scores == pytest.approx(other.scores, abs=1e-5)


def test_vectors_come_out_of_lists_as_they_went_in(tmp_path: Path) -> None:
    from secondstage.config import DenseConfig
    from secondstage.embeddings import Embeddings

    rows = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for kind in ("flat", "hnsw", "ivf"):
        built = VectorIndex.build(DenseConfig(model="x", index=kind), Embeddings([rows], 8, [1200]))
        assert np.array_equal(built.vectors(), rows)  # type: ignore[arg-type]
    built = VectorIndex.build(DenseConfig(model="x", index="pq"), Embeddings([rows], 8, [1200]))
    assert built.vectors() is None


def test_a_sparse_index_keeps_its_rows() -> None:
    from scipy import sparse

    from secondstage.config import SparseConfig
    from secondstage.firststage.sparse import Sparse

    generator = np.random.default_rng(0)
    weights, more = (sparse.csr_matrix(generator.random((rows, 9), np.float32).round()) for rows in (6, 2))

    class Fixed:
        def encode(self, texts: Sequence[str], prompt: str) -> Any:
            assert len(texts) == 2
            return more

    made = Sparse(SparseConfig(model="x"), Fixed(), weights.T.tocsr())  # type: ignore[arg-type]
    kept = np.array([0, 3, 5])
    expected = sparse.vstack([weights[kept], more]).T
    assert (made.with_documents(kept, ["a", "b"])._postings != expected).nnz == 0
    assert (made.with_documents(kept, [])._postings != weights[kept].T).nnz == 0
