"""From documents to training queries: drawn, asked about, filtered, all written down with what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.collection import Collection, Qrels
from secondstage.config import SynthesizeConfig
from secondstage.errors import UserError
from secondstage.firststage import FirstStage
from secondstage.progress import say
from secondstage.synthetic import SYNTHETIC, TAKEN, SyntheticQuery, synthetic_qrels, write_synthetic
from secondstage.teachers import Teacher

from .draw import draw_passages
from .filters import drop_copies, drop_known, drop_lost, drop_repeated
from .generator import Generator, generate, name, open_generator
from .prompts import asks, choose_examples
from .titles import title_queries

# What became of a query that was dropped, and what to do if that became of all.
RULES = {
    "empty": ("without a query in the answer", "try another model, or raise mine.synthesize.max_tokens"),
    "refusal": ("refused", "try another model"),
    "too_long": ("too long", "try another model"),
    "torn": ("cut off, or broken JSON", "raise mine.synthesize.max_tokens"),
    "copy": ("copied from the document", "try another model, or a higher mine.synthesize.temperature"),
    "leak": ("near a dev or test query", "draw more documents (mine.synthesize.documents)"),
    "known": ("near a query of the collection", "draw more documents (mine.synthesize.documents)"),
    "round_trip": ("not found by the first stage", "raise mine.synthesize.round_trip"),
    "teacher": ("ranked too low by the teacher", "raise mine.synthesize.teacher_rank, or train without this teacher"),
    "same_text": ("the same as another", "draw more documents (mine.synthesize.documents)"),
    "near_duplicate": ("nearly the same as another", "draw more documents (mine.synthesize.documents)"),
}
SHOWN = 3


class Synthesized(NamedTuple):
    """What came of it.

    Attributes:
        queries: the texts of those kept, by id ("synthetic-" and a digest).
        qrels: the documents that answer each, with relevance 1.
        counts: documents, queries by kind and, if dropped, by rule.
        report: who generated, and what it cost.
    """

    queries: dict[str, str]
    qrels: Qrels
    counts: dict[str, int]
    report: dict[str, Any]


def synthesize(
    collection: Collection,
    first_stage: FirstStage,
    teacher: Teacher | None,
    config: SynthesizeConfig,
    *,
    seed: int,
    folder: Path,
    cache: Path,
    spared: Set[str] = frozenset(),
) -> Synthesized:
    """Make queries from the collection's documents, filter them, and write all of them to `folder/synthetic.jsonl`.

    Args:
        collection: its documents are asked about; its training queries are examples, all its queries are kept clear of.
        first_stage: must find a query's document.
        teacher: must rank it high; none asks none.
        config: who generates, how many, and how strict.
        seed: of every choice.
        folder: existing; training reads the texts of the queries there.
        cache: the folder of the generator's answers, which outlive a kill.
        spared: ids of documents that no query is made from, e.g. `held_out_documents(collection)`.

    Raises:
        UserError: no document is long enough, the generator cannot be reached or loaded, or no query is left.
    """
    counts: Counter[str] = Counter()
    generator: Generator | None = None
    if config.generator in TAKEN:
        made = title_queries(collection.documents, config, seed=seed, counts=counts, spared=spared)
        _refuse_none(counts, len(collection.documents), config)
    else:
        passages = draw_passages(collection.documents, config, seed=seed, counts=counts, spared=spared)
        _refuse_none(counts, len(collection.documents), config)
        examples = choose_examples(collection, config, seed=seed)
        counts["examples"] = len(examples)
        generator = open_generator(config, cache)
        made = generate(generator, asks(passages, examples, config), config, seed=seed, counts=counts)
    queries = drop_known(drop_copies(made, collection.documents), collection)
    queries = drop_repeated(drop_lost(queries, collection, first_stage, teacher, config))
    write_synthetic(folder / SYNTHETIC, queries)
    qrels = synthetic_qrels(queries)
    counts.update(count(queries, collection))
    _refuse_all_dropped(queries, counts)
    say(f"  synthetic queries: {len(qrels)} of {len(queries)} kept, from {counts['documents']} documents{_why(counts)}")
    report = {"generator": name(config), **(generator.report() if generator else {})}
    texts = {query.query_id: query.text for query in queries if query.kept}
    return Synthesized(texts, qrels, dict(sorted(counts.items())), report)


def count(queries: Sequence[SyntheticQuery], collection: Collection) -> dict[str, int]:
    """Queries made and kept, kept by kind, dropped by rule, and kept ones whose document a dev or test query needs.

    These are no leak of a query, but the proof will say that training has met those documents.
    """
    counts = Counter(f"dropped_{query.rule}" for query in queries if not query.kept)
    counts.update(f"kept_{query.kind}" for query in queries if query.kept)
    held_out = held_out_documents(collection)
    counts["queries"] = len(queries)
    counts["kept"] = sum(query.kept for query in queries)
    counts["kept_without_their_text"] = sum(query.kept and query.kind in TAKEN for query in queries)
    counts["kept_of_dev_or_test_documents"] = sum(query.kept and query.doc_id in held_out for query in queries)
    return dict(counts)


def held_out_documents(collection: Collection) -> set[str]:
    """The documents that are relevant to a query of any split but train."""
    splits = (qrels for split, qrels in collection.qrels.items() if split != "train")
    judged = (judged for qrels in splits for judged in qrels.values())
    return {doc_id for relevances in judged for doc_id, relevance in relevances.items() if relevance > 0}


def _refuse_none(counts: Mapping[str, int], total: int, config: SynthesizeConfig) -> None:
    if counts["documents"]:
        return
    own = {"title": "a title or first sentence", "first_sentence": "a first sentence"}.get(config.generator)
    needs = f"{own} and, besides it," if own else "at least"
    raise UserError(
        f"mine.synthesize: none of the {total} documents can be asked about ({counts['documents_spared']} are spared "
        f"for dev and test queries); {counts['documents_too_short']} have not {needs} {config.min_words} words: lower "
        "mine.synthesize.min_words"
    )


def _refuse_all_dropped(queries: Sequence[SyntheticQuery], counts: Mapping[str, int]) -> None:
    if counts["kept"]:
        return
    rules = Counter(query.rule for query in queries).most_common()
    lines = [f"  {number} {RULES[rule][0]}: {RULES[rule][1]}" for rule, number in rules]
    shown = [f"  e.g. {query.text!r} for document {query.doc_id}: {query.reason}" for query in queries[:SHOWN]]
    raise UserError(
        "\n".join([f"mine.synthesize made {len(queries)} queries, and none passed the filters:", *lines, *shown])
    )


def _why(counts: Mapping[str, int]) -> str:
    dropped = [
        f"{counts[f'dropped_{rule}']} {words}" for rule, (words, _) in RULES.items() if counts[f"dropped_{rule}"]
    ]
    return f"; dropped: {', '.join(dropped)}" if dropped else ""
