"""Which fusion of BM25 and dense retrieval is best? The answer is the default of `first_stage.fusion`.

    python -m bench.fusion OUTPUT [OUTPUT …]

OUTPUT is the output folder of a finished run with a hybrid first stage. Train queries are used (up to 1,500), which no
fusion was tuned on. The last line is JSON: nDCG@10 by collection and fusion, and the mean over the collections.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

from secondstage import Collection, Run, evaluate, firststage
from secondstage.firststage.hybrid import Fusion, fuse
from secondstage.measures import mean
from secondstage.run import Ranking, strictly_decreasing
from secondstage.splits import answerable, choose_queries

WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7)
DEPTH, EACH, QUERIES = 50, 200, 1500


def measure(output: Path) -> dict[str, float]:
    """nDCG@10 of every fusion and weight, and of both retrievers alone (weight 0 and 1)."""
    collection = Collection.load(output / "collection")
    qrels = answerable(collection.split("train"))
    qrels = {query_id: qrels[query_id] for query_id in choose_queries(qrels, QUERIES, 13)}
    texts = [collection.queries[query_id] for query_id in qrels]
    parts = firststage.load(output / "first_stage").parts()
    found = {name: part.search(texts, EACH) for name, part in parts.items()}
    ids = collection.documents.ids
    values = {}
    for fusion in get_args(Fusion):
        for weight in WEIGHTS:
            rankings = {}
            for i, query_id in enumerate(qrels):
                hits = {name: hits[i] for name, hits in found.items()}
                fused = fuse(hits, {"bm25": 1 - weight, "dense": weight}, fusion, DEPTH)
                doc_ids = tuple(ids[row] for row in fused.rows.tolist())
                rankings[query_id] = Ranking(doc_ids, strictly_decreasing(fused.scores), fused.retrievers)
            values[f"{fusion} {weight}"] = mean(evaluate(Run(fusion, rankings), qrels)["nDCG@10"])
    return values


def main() -> None:
    """Print a line a collection and fusion, and the JSON line."""
    by_collection = {str(path): measure(Path(path)) for path in sys.argv[1:]}
    if not by_collection:
        sys.exit(__doc__)
    for name, values in by_collection.items():
        for setting, value in values.items():
            print(f"{name}: {setting}: {value:.4f}")
    settings = next(iter(by_collection.values()))
    means = {s: round(sum(v[s] for v in by_collection.values()) / len(by_collection), 4) for s in settings}
    print(json.dumps({"best": max(means, key=lambda s: means[s]), "mean": means, "by_collection": by_collection}))


if __name__ == "__main__":
    main()
