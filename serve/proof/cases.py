"""Single queries to look at: the largest losses, with the texts side by side, and all of them in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage.collection import Documents
from secondstage.measures import Values

from ..cascade import Runs
from ..fuse import MEASURE
from .queries import QuerySet
from .standing import Standing
from .systems import BASELINE

SHOWN = 3
RELEVANT_SHOWN = 2
CHARACTERS = 600


def differences(found: Standing) -> Values:
    """The pipeline's value less the first stage's, by query id."""
    first, pipeline = found[BASELINE][MEASURE], found["pipeline"][MEASURE]
    return {query_id: pipeline[query_id] - first[query_id] for query_id in first}


def quantiles(values: Sequence[float], count: int = 400) -> list[float]:
    """At most `count` of the values, evenly picked, falling; the largest and the smallest are among them."""
    ordered = sorted(values, reverse=True)
    if len(ordered) <= count:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def worst(
    tested: QuerySet, runs: Runs, found: Standing, causes: Mapping[str, str], documents: Documents, count: int = 10
) -> list[dict[str, Any]]:
    """The queries that lose most, worst first, with what stood before and stands now at the top."""
    lost = differences(found)
    order = sorted((query_id for query_id in lost if lost[query_id] < 0), key=lambda query_id: lost[query_id])
    return [
        _case(query_id, tested, runs, documents)
        | {
            "first_stage": found[BASELINE][MEASURE][query_id],
            "pipeline": found["pipeline"][MEASURE][query_id],
            "delta": lost[query_id],
            "cause": causes.get(query_id),
        }
        for query_id in order[:count]
    ]


def _case(query_id: str, tested: QuerySet, runs: Runs, documents: Documents) -> dict[str, Any]:
    judged = tested.qrels[query_id]
    relevant = sorted((doc_id for doc_id in judged if judged[doc_id] > 0), key=lambda doc_id: -judged[doc_id])

    def show(doc_ids: Sequence[str]) -> list[dict[str, Any]]:
        return [_document(query_id, doc_id, runs, judged, documents) for doc_id in doc_ids if doc_id in documents]

    return {
        "query_id": query_id,
        "query": tested.queries[query_id],
        "before": show(runs.first_stage[query_id].doc_ids[:SHOWN]),
        "after": show(runs.pipeline[query_id].doc_ids[:SHOWN]),
        "relevant": show(relevant[:RELEVANT_SHOWN]),
    }


def _document(
    query_id: str, doc_id: str, runs: Runs, judged: Mapping[str, int], documents: Documents
) -> dict[str, Any]:
    document = documents.by_id(doc_id)
    places = {run.name: run[query_id].doc_ids.index(doc_id) for run in runs if doc_id in run[query_id].doc_ids}
    first, reranked, pipeline = (places.get(run.name) for run in runs)
    return {
        "doc_id": doc_id,
        "title": document.title,
        "text": document.text if len(document.text) <= CHARACTERS else document.text[: CHARACTERS - 1] + "…",
        "relevance": judged.get(doc_id),
        "first_stage_rank": None if first is None else first + 1,
        "pipeline_rank": None if pipeline is None else pipeline + 1,
        "first_stage_score": None if first is None else float(runs.first_stage[query_id].scores[first]),
        "reranker_score": None if reranked is None else float(runs.reranked[query_id].scores[reranked]),
    }


def write_per_query(
    path: Path, sets: Sequence[tuple[QuerySet, Standing, Mapping[str, Mapping[str, list[str]]]]]
) -> None:
    """Write one line per query and test set: nDCG@10 of every system, the difference, leaks, slices, the text."""
    systems = list(dict.fromkeys(name for _, found, _ in sets for name in found))
    parts = list(dict.fromkeys(name for _, _, slices in sets for name in slices))
    with path.open("w", encoding="utf-8") as file:
        header = [
            "split",
            "query_id",
            *(f"{name} {MEASURE}" for name in systems),
            "difference",
            "leaks",
            *parts,
            "query",
        ]
        file.write("\t".join(header) + "\n")
        for tested, found, slices in sets:
            lost = differences(found)
            leaks: dict[str, list[str]] = {}
            for leak in tested.leaks:
                leaks.setdefault(leak.query_id, []).append(f"{leak.kind}:{leak.split}:{leak.other_id}")
            value_of = {
                (name, query_id): value for name, by in slices.items() for value, ids in by.items() for query_id in ids
            }
            for query_id, text in tested.queries.items():
                values = [found.get(name, {}).get(MEASURE, {}).get(query_id) for name in systems]
                row = [
                    tested.split,
                    query_id,
                    *("" if value is None else f"{value:.6f}" for value in values),
                    f"{lost[query_id]:.6f}",
                    " ".join(leaks.get(query_id, [])),
                    *(value_of.get((name, query_id), "") for name in parts),
                    " ".join(text.split()),
                ]
                file.write("\t".join(row) + "\n")
