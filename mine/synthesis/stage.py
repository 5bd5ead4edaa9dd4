"""From documents to training queries: drawn, asked about, filtered, all written down with what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from secondstage.collection import Collection
from secondstage.config import SynthesizeConfig
from secondstage.errors import UserError
from secondstage.firststage import FirstStage
from secondstage.firstwords import first_words
from secondstage.progress import say
from secondstage.synthetic import SYNTHETIC, TAKEN, SyntheticQuery, write_synthetic
from secondstage.teachers import Teacher

from ..costs import keep_costs
from .draw import draw_documents
from .filters import drop_copies, drop_known, drop_lost, drop_repeated
from .generator import generate, name, open_generator
from .prompts import Ask, Messages, asks, choose_examples, messages
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


def synthesize(
    collection: Collection,
    first_stage: FirstStage,
    teacher: Teacher | None,
    config: SynthesizeConfig,
    *,
    seed: int,
    folder: Path,
    cache: Path,
    costs: Path,
    spared: Set[str] = frozenset(),
) -> dict[str, int]:
    """Make queries from the collection's documents, filter them, and write all of them to `folder/synthetic.jsonl`.

    Args:
        collection: its documents are asked about; its training queries are examples, all its queries are kept clear of.
        first_stage: must find a query's document.
        teacher: must rank it high; none asks none.
        config: who generates, how many, and how strict.
        seed: of every choice.
        folder: existing; training reads the texts of the queries there.
        cache: the folder of the generator's answers, which outlive a kill.
        costs: the folder that keeps what the generator costs, by its name, whatever becomes of the queries.
        spared: ids of documents that no query is made from, e.g. `held_out_documents(collection)`.

    Returns:
        How many documents, queries by kind and, if dropped, by rule.

    Raises:
        UserError: no document is long enough, the generator cannot be reached or loaded, or no query is left.
    """
    counts: Counter[str] = Counter()
    if config.generator in TAKEN:
        made = title_queries(collection.documents, config, seed=seed, counts=counts, spared=spared)
        _refuse_none(counts, len(collection.documents), config)
    else:
        doc_ids = draw_documents(collection.documents, config, seed=seed, counts=counts, spared=spared)
        _refuse_none(counts, len(collection.documents), config)
        made = _generated(doc_ids, collection, config, seed, cache=cache, costs=costs, counts=counts)
    queries = drop_known(drop_copies(made, collection.documents), collection)
    queries = drop_repeated(drop_lost(queries, collection, first_stage, teacher, config))
    write_synthetic(folder / SYNTHETIC, queries)
    counts.update(count(queries, collection))
    _refuse_all_dropped(queries, counts)
    kept, documents = counts["kept"], counts["documents"]
    say(f"  synthetic queries: {kept} of {len(queries)} kept, from {documents} documents{_why(counts)}")
    return dict(sorted(counts.items()))


def _generated(
    doc_ids: Sequence[str],
    collection: Collection,
    config: SynthesizeConfig,
    seed: int,
    *,
    cache: Path,
    costs: Path,
    counts: Counter[str],
) -> list[SyntheticQuery]:
    """What a generator writes for these documents, usable or not."""
    examples = choose_examples(collection, config, seed=seed)
    counts["examples"] = len(examples)

    def text(ask: Ask) -> Messages:
        content = collection.documents.by_id(ask.doc_id).content
        return messages(ask, first_words(content, config.passage_words).strip(), examples)

    generator = open_generator(config, cache)
    try:
        return generate(generator, asks(doc_ids, config), text, config, seed=seed, counts=counts)
    finally:
        keep_costs(costs, {name(config): generator.report()})


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
