"""Several pipelines or TREC runs side by side on one collection: which differences are real?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from secondstage.collection import Collection, Qrels
from secondstage.errors import Faults, UserError
from secondstage.leakage import count
from secondstage.measures import Values, evaluate, mean
from secondstage.run import Run, read_trec
from secondstage.significance import compare_pairs
from secondstage.splits import answerable
from secondstage.table import columns, sentence

from ..cascade import Runs
from ..depth import finite
from ..fuse import MEASURE
from .beside import collection_beside, opened
from .queries import query_set

MEASURES = (MEASURE, "RR@10", "R@10", "AP@100", "Success@1", "Judged@10")


def read_systems(paths: Sequence[Path], collection: Collection, split: str) -> tuple[dict[str, Run], list[str]]:
    """Open every path: a bundle is asked, a TREC run is read and checked.

    A bundle that comes alone has its first stage and its reranker beside it.

    Args:
        paths: folders of bundles, or files.
        collection: queries, qrels and documents.
        split: whose queries are compared.

    Returns:
        Runs by name, and notes: what was left out or is missing, counted.

    Raises:
        UserError: a run holds documents that the collection lacks, a bundle none that it has; or one holds none of the
            split's queries; or none of these has a relevant document.
    """
    qrels = collection.split(split)
    if not answerable(qrels):
        raise UserError(f"split {split!r} of collection {collection.name!r} has no query with a relevant document")
    queries = {query_id: collection.queries[query_id] for query_id in answerable(qrels)}
    runs: dict[str, Run] = {}
    notes: list[str] = []
    faults = Faults("the comparison")
    for path, name in zip(paths, short_names(paths), strict=True):
        if path.is_dir():
            asked = _ask(path, queries, name)
            if len(paths) == 1:
                runs |= {f"{name}, first stage": asked.first_stage, f"{name}, reranked": asked.reranked}
            runs[name] = asked.pipeline
        else:
            runs[name] = read_trec(path)
        notes += check_run(runs[name], name, collection, qrels, faults, grown=path.is_dir())
    faults.raise_if_any("give runs over the documents and queries of this collection, or another --collection, --split")
    return runs, notes


def _ask(bundle: Path, queries: Mapping[str, str], name: str) -> Runs:
    with opened(bundle) as pipeline:
        return pipeline.rank(queries, label=name)


def check_run(
    run: Run, name: str, collection: Collection, qrels: Qrels, faults: Faults, *, grown: bool = False
) -> list[str]:
    """What is dubious about a run, counted; what makes it useless goes to `faults`.

    Queries without a relevant document are passed over: they count nowhere. A system that may have `grown` since has
    documents that nobody judged.
    """
    found = {doc_id for _, doc_id in run.pairs()}
    unknown = sorted(doc_id for doc_id in found if doc_id not in collection.documents)
    notes = []
    if unknown and grown and len(unknown) < len(found):
        notes.append(f"{name} finds {len(unknown)} documents that the collection lacks: they count as not relevant")
    elif unknown:
        faults.add(f"{name} holds {len(unknown)} documents that the collection lacks, e.g. {', '.join(unknown[:3])}")
    asked = answerable(qrels)
    answered = [query_id for query_id in asked if query_id in run]
    if not answered:
        faults.add(f"{name} answers none of the {len(asked)} queries")
    if missing := len(asked) - len(answered):
        notes.append(f"{name} does not answer {missing} of {len(asked)} queries: they count as zero")
    if strange := sum(query_id not in qrels for query_id in run):
        notes.append(f"{name} answers {strange} queries that this split does not judge: they are left out")
    return notes


def short_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path, short and different: its own, or with as many parents as it takes."""
    parts = [path.resolve().with_suffix("").parts if path.is_file() else path.resolve().parts for path in paths]
    # Every run's bundle is called so.
    parts = [part[:-1] if part[-1] == "bundle" and len(part) > 2 else part for part in parts]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(part[-1:])}#{i}" for i, part in enumerate(parts, 1)]


def lay_side_by_side(
    runs: Mapping[str, Run], qrels: Qrels, *, confidence: float = 0.95, **statistics: Any
) -> dict[str, Any]:
    """Means of every system, and every pair compared on nDCG@10, p values adjusted for all pairs (Holm 1979).

    Args:
        runs: by name.
        qrels: queries without a relevant document are left out; one that a run does not answer counts as zero.
        confidence: of the intervals.
        statistics: resamples and seed of the comparisons.

    Returns:
        `systems`: measures by name; `pairs`: one record each, the later system against the earlier; `values`: nDCG@10
        by name and query id.
    """
    found = {name: evaluate(run, qrels, MEASURES) for name, run in runs.items()}
    values: dict[str, Values] = {name: by_measure[MEASURE] for name, by_measure in found.items()}
    pairs = {(one, other): (values[other], values[one]) for one, other in combinations(runs, 2)}
    results = compare_pairs(pairs, confidence=confidence, **statistics)
    return {
        "measure": MEASURE,
        "confidence": confidence,
        "queries": len(next(iter(values.values()))),
        "systems": {name: {m: mean(v) for m, v in by_measure.items()} for name, by_measure in found.items()},
        "pairs": [
            {
                "system": other,
                "baseline": one,
                "measure": MEASURE,
                "queries": result.queries,
                **{key: value for key, value in result._asdict().items() if key not in ("low", "high", "sd")},
                "low": finite(result.low),
                "high": finite(result.high),
                "sd": finite(result.sd),
                "detectable": finite(result.detectable),
                "real": bool(result.p_holm < 1 - confidence),
            }
            for (one, other), result in results.items()
        ],
        "values": values,
    }


def compare_paths(paths: Sequence[Path], collection: str | None, split: str, **statistics: Any) -> dict[str, Any]:
    """Lay bundles and TREC runs side by side; see `lay_side_by_side`.

    Args:
        paths: folders of bundles, or files of TREC runs.
        collection: the folder of a stored collection, or in BEIR layout; none means the one beside the first bundle.
        split: whose queries are compared.
        statistics: confidence, resamples and seed.

    Raises:
        UserError: a path does not exist, or there is no collection; and as `read_systems`.
    """
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"there is no {' and no '.join(missing)}: give a YAML file, or bundles and TREC runs")
    judged = collection_beside(paths, collection)
    runs, notes = read_systems(paths, judged, split)
    tested = query_set(judged, split, None, 0)
    if leaks := count(tested.leaks)["any"]:
        notes.append(
            f"{leaks} of {len(tested.queries)} queries share text or relevant documents with "
            f"{' or '.join(tested.against)}: a system that was trained on these has seen them (what a training mined, "
            "e.g. synthetic queries, is not known here: the proof of its run looks through that)"
        )
    found = lay_side_by_side(runs, judged.split(split), **statistics)
    return {"collection": judged.name, "split": split, "notes": notes, **found}


def render(found: Mapping[str, Any]) -> str:
    """The systems as a table, and every pair in words, the real differences first."""
    lines = [f"{found['collection']}, {found['split']}: {found['queries']} queries"]
    lines += columns(found["systems"], MEASURES)
    lines += [f"  {note}" for note in found["notes"]]
    if not found["pairs"]:
        return "\n".join([*lines, "one system alone: give another to compare it with"])
    real = [row for row in found["pairs"] if row["real"]]
    others = [row for row in found["pairs"] if not row["real"]]
    lines.append(f"differences in {found['measure']}, p values adjusted for all {len(found['pairs'])} pairs (Holm):")
    lines += [f"  real: {sentence(row, found['confidence'])}" for row in real]
    return "\n".join([*lines, *(f"  not shown to be real: {_plain(row)}" for row in others)])


def _plain(row: Mapping[str, Any]) -> str:
    text = f"{row['system']} against {row['baseline']}: {row['delta']:+.4f}, p = {row['p_holm']:.4f}"
    return text if row["detectable"] is None else f"{text}; {row['queries']} queries detect {row['detectable']:.4f}"
