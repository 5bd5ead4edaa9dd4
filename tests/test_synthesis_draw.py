"""Which documents queries are made from: the seed and the ids decide, and what is too short is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from secondstage.collection import Collection, Documents
from secondstage.config import SynthesizeConfig
from secondstage.mine.synthesis.draw import draw_documents, in_drawn_order

Corpus = Callable[[Sequence[str]], Documents]


def drawn(corpus: Documents, seed: int = 13, **settings: int | None) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    config = SynthesizeConfig(**{"min_words": 3, **settings})  # type: ignore[arg-type]
    return draw_documents(corpus, config, seed=seed, counts=counts), counts


def test_the_draw_hangs_on_the_seed_and_more_documents_are_these_and_more(collection: Collection) -> None:
    draws = {seed: drawn(collection.documents, seed, documents=9)[0] for seed in (1, 2, 3)}
    assert draws[1] == drawn(collection.documents, 1, documents=9)[0]
    assert len(set(map(tuple, draws.values()))) == 3
    assert drawn(collection.documents, 1, documents=20)[0][:9] == draws[1]
    everything, counts = drawn(collection.documents, 1, documents=None)
    assert sorted(everything) == sorted(collection.documents.ids)
    assert counts == {"documents": 64}


def test_the_order_of_the_corpus_does_not_matter(collection: Collection) -> None:
    class Reversed(Documents):
        def __init__(self) -> None:
            self._table = collection.documents._table.take(list(range(63, -1, -1)))

    assert Reversed().ids == collection.documents.ids[::-1]
    orders = [[document.doc_id for document in in_drawn_order(d, 5)] for d in (collection.documents, Reversed())]
    assert orders[0] == orders[1] != collection.documents.ids


def test_short_documents_are_passed_over_and_counted(as_documents: Corpus) -> None:
    documents = as_documents(["one two", "one two three", "線路の上", "", "... ! ? ...", "a b c d e"])
    found, counts = drawn(documents)
    assert sorted(found) == ["d1", "d2", "d5"]
    assert counts == {"documents": 3, "documents_too_short": 3}


def test_a_shown_part_shorter_than_the_least_is_long_enough(as_documents: Corpus) -> None:
    found, counts = drawn(as_documents(["one two three four five"]), min_words=5, passage_words=2)
    assert (found, counts["documents_too_short"]) == (["d0"], 0)
