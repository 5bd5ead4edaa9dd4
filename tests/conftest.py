"""What many tests share: a small collection in BEIR layout, and a tiny model with random weights."""

from __future__ import annotations

import gc
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from secondstage.collection import Collection, Documents
    from secondstage.run import Scores

# Models this small are computed by one thread: two would wait for each other, for seconds where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Leave out of garbage collections what is loaded by now: the product makes one after every stage."""
    gc.collect()
    gc.freeze()


# Topics with words of their own: lexical retrieval works, and a cross-encoder can learn that words should agree.
TOPICS = {
    "bread": "flour yeast oven dough crust knead loaf bake",
    "bicycle": "wheel pedal chain brake saddle tyre spoke ride",
    "garden": "soil seed flower water prune weed compost grow",
    "piano": "key pedal chord melody hammer string tune play",
    "river": "water bridge flood bank current fish boat flow",
    "chess": "king queen rook bishop pawn check board move",
    "winter": "snow frost ice coat scarf cold sledge freeze",
    "train": "rail station ticket platform engine wheel carriage travel",
}


def write_jsonl(path: Path, records: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture(scope="session")
def beir_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 documents and 64 queries: each document has a marker word, which its query names beside the topic."""
    folder = tmp_path_factory.mktemp("beir")
    documents, queries, qrels = [], [], []
    for t, (topic, text) in enumerate(TOPICS.items()):
        words = text.split()
        for i, word in enumerate(words):
            others = [words[(i + step) % len(words)] for step in range(1, 5)]
            doc_id = f"{topic}-{i}"
            documents.append({"_id": doc_id, "title": f"{topic} {word}", "text": f"{word} " + " ".join(others)})
            queries.append({"_id": f"q-{doc_id}", "text": f"{word} of the {topic}"})
            qrels.append((f"q-{doc_id}", doc_id, (8 * t + i) % 4))
    write_jsonl(folder / "corpus.jsonl", documents)
    write_jsonl(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir()
    for split, parts in {"train": (0, 1), "dev": (2,), "test": (3,)}.items():
        lines = [f"{query_id}\t{doc_id}\t1\n" for query_id, doc_id, part in qrels if part in parts]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, and a tokenizer that knows the words of the collection."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = dict.fromkeys([*TOPICS, *" ".join(TOPICS.values()).split(), "of", "the"])
    letters = [f"{prefix}{chr(code)}" for code in range(ord("a"), ord("z") + 1) for prefix in ("", "##")]
    vocabulary = {token: i for i, token in enumerate([*special, *words, *letters])}
    inner = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = BertNormalizer()
    inner.pre_tokenizer = BertPreTokenizer()
    inner.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=inner,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def collection(beir_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The collection of `beir_folder`, stored: 32 train, 16 dev and 16 test queries with one positive each."""
    from secondstage.collection import Collection

    return Collection.read(beir_folder, tmp_path_factory.mktemp("collection") / "collection")


@pytest.fixture(scope="module")
def mined(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What BM25 finds, mined: the folder of `mine`. Read it only."""
    from secondstage.config import Bm25Config, MineConfig
    from secondstage.firststage.bm25 import Bm25
    from secondstage.mine import Source, mine

    folder = tmp_path_factory.mktemp("mined")
    bm25 = Bm25.build(Bm25Config(), collection.documents)
    mine(Source(collection, bm25, "bm25", MineConfig(), 13, folder.parent), folder, dev_depth=10)
    return folder


@pytest.fixture
def as_documents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Documents]:
    """Turns texts into a corpus whose ids are d0, d1, …; no text is refused."""

    def store(texts: Sequence[str]) -> Documents:
        import pyarrow as pa

        from secondstage.collection import Documents

        ids = [f"d{i}" for i in range(len(texts))]
        columns = {"doc_id": ids, "title": [""] * len(texts), "text": list(texts)}
        table = pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()})
        path = tmp_path_factory.mktemp("corpus") / "documents.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return Documents(path)

    return store


@pytest.fixture(scope="session")
def run_folder(beir_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a whole run: a hybrid over `beir_folder`, and `tiny_model` after 20 steps. Read it only."""
    from secondstage.commands import carry_out_up_to
    from secondstage.configfile import check_config

    output = tmp_path_factory.mktemp("run") / "out"
    config = {
        "output": str(output),
        "collection": str(beir_folder),
        "first_stage": {"kind": "hybrid", "dense": {"model": str(tiny_model)}},
        "train": {
            "model": str(tiny_model),
            "steps": 20,
            "max_length": 32,
            "batch_tokens": 1024,
            "learning_rate": 1e-3,
            "precision": "fp32",
        },
        "serve": {"depth": 20, "precision": "fp32"},
        "evaluate": {"resamples": 200},
    }
    carry_out_up_to("evaluate", check_config(config))
    return output


@pytest.fixture(scope="session")
def light_bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `run_folder` over BM25 alone, which a process opens in half the time. Read it only."""
    from secondstage import firststage
    from secondstage.collection import Documents
    from secondstage.config import FirstStageConfig

    from .bundles import resigned

    folder = tmp_path_factory.mktemp("light") / "bundle"
    shutil.copytree(run_folder / "bundle", folder)
    shutil.rmtree(folder / "first_stage")
    (folder / "first_stage").mkdir()
    config = FirstStageConfig(kind="bm25")
    firststage.save(firststage.build(config, Documents(folder / "documents.arrow")), config, folder / "first_stage")
    return resigned(folder)


@pytest.fixture(scope="session")
def apart_model(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reranker of `run_folder` with weights drawn so large that scores differ: a folder. Read it only."""
    import torch

    from secondstage.reranker import Reranker

    reranker = Reranker.load(run_folder / "bundle" / "reranker", precision="fp32")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in reranker.model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("apart") / "reranker"
    folder.mkdir()
    reranker.save(folder)
    return folder


@pytest.fixture(scope="session")
def many_pairs(collection: Collection) -> list[tuple[str, str]]:
    """48 pairs of many lengths."""
    contents = [document.content for document in collection.documents]
    queries = list(collection.queries.values())
    return [(queries[i], "\n".join(contents[i : i + 1 + i % 10])) for i in range(48)]


@pytest.fixture(scope="session")
def made_graphs(apart_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engines of `apart_model` in single precision, with records that say they were checked. Read it only."""
    from secondstage.backends.record import write_record
    from secondstage.serve.export.graphs import to_onnx, to_openvino

    folder = tmp_path_factory.mktemp("graphs")
    for name, make in (("onnx", to_onnx), ("openvino", to_openvino)):
        make(apart_model, folder / name)
        write_record(folder / name, name, apart_model, {"ndcg_delta": 0.0, "kept": 1.0})
    return folder


@pytest.fixture(scope="session")
def made_engines(
    apart_model: Path,
    made_graphs: Path,
    many_pairs: list[tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The same, and those in eight bits. Read it only."""
    from secondstage.backends.record import GRAPHS, write_record
    from secondstage.reranker import Reranker
    from secondstage.serve.export.quantize import quantize_onnx, quantize_openvino

    folder = tmp_path_factory.mktemp("engines") / "all"
    shutil.copytree(made_graphs, folder)
    quantize_onnx(folder / "onnx" / GRAPHS["onnx"], folder / "onnx-int8")
    columns = Reranker.load(apart_model, precision="fp32").tokenize(many_pairs)
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(many_pairs))]
    quantize_openvino(folder / "openvino" / GRAPHS["openvino"], rows, folder / "openvino-int8")
    for name in ("onnx-int8", "openvino-int8"):
        write_record(folder / name, name, apart_model, {"ndcg_delta": 0.0, "kept": 1.0})
    return folder


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each call of a model scores."""
    from secondstage.reranker import Reranker

    calls: list[int] = []
    stream = Reranker.stream

    def counted(self: Reranker, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        calls.append(len(pairs))
        yield from stream(self, pairs)

    monkeypatch.setattr(Reranker, "stream", counted)
    return calls


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Answers requests in a thread until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield
        server.shutdown()
        thread.join()
