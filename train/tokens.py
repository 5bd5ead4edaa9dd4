"""Token rows of query-document pairs. Every text is tokenised once, into a file that is memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secondstage.files import fingerprint, writing_whole
from secondstage.parallel import wait, workers
from secondstage.progress import bar, say
from secondstage.texts import PairTexts

from .template import FEATURES, Lengths, PairTemplate, longest_first

# Texts that are read and tokenised at a time.
CHUNK = 4096
# Documents whose pairs are checked: half of them the longest, half spread over all.
SAMPLE = 64
# Characters for each token of a pair: a text of so many has more tokens than half a pair.
BEGINNING = 8
# From this share of cut documents on, it is said.
MANY = 0.1
# Raised when the same inputs would give another file.
FORMAT = 1

Pair = tuple[str, str]
Rows = Mapping[str, list[list[int]]]


class Tokenizing(Protocol):
    """The part of a model that makes tokens of pairs, cut to `max_length`, not padded."""

    tokenizer: Any
    max_length: int

    def tokenize(self, pairs: Sequence[Pair]) -> Rows:
        """Token rows of (query text, document text) pairs, by feature."""
        ...


class Tokens:
    """The token rows of (query id, document id) pairs: exactly what the scorer's `tokenize` gives for their texts.

    Where a sample of the pairs shows that the rows of a pair are put together from those of its texts, each text is
    tokenised once, and kept in a file that further runs find again. The file is named after the tokenizer and the
    texts: not after `max_length`. Otherwise, e.g. for a decoder with a prompt, `tokenize` is asked every time.

    Attributes:
        fast: whether the rows are put together.
    """

    def __init__(self, scorer: Tokenizing, texts: PairTexts, pairs: Iterable[Pair], folder: Path) -> None:
        """Tokenise the texts, or find them tokenised. All processes of a run call this together; the lead does it.

        Args:
            scorer: the model.
            texts: of queries and documents.
            pairs: (query id, document id) pairs, read once: all that will be asked for.
            folder: of the files; it need not exist.
        """
        self._scorer, self._texts = scorer, texts
        self._queries: dict[str, int] = {}
        self._documents: dict[object, int] = {}
        # Of each document the first pair that it is in.
        self._firsts: list[Pair] = []
        for pair in pairs:
            self._queries.setdefault(pair[0], len(self._queries))
            if self._key(pair) not in self._documents:
                self._documents[self._key(pair)] = len(self._firsts)
                self._firsts.append(pair)
        self._window: tuple[dict[Pair, int], Rows] = {}, {}
        digest, characters = self._read()
        self._template, self._features = self._checked(characters)
        self.fast = self._template is not None
        if self.fast:
            name = fingerprint(FORMAT, _tokenizer_parts(scorer.tokenizer), digest)[:40]
            path = folder / f"{name}.tokens"
            if workers().lead and not path.exists():
                self._write(path)
            wait()
            self._map(path)
            self._tell_cut_documents()
            self._tell_cut_queries()
        else:
            self._tell_cut_pairs()

    def lengths(self, pairs: Sequence[Pair]) -> Lengths:
        """`[pairs]` tokens of each pair, special tokens included; `KeyError` if one was not named at the start."""
        if self._template is not None:
            _, queries, _, documents = self._cut(pairs, self._template)
            return queries + documents + self._template.size
        rows = self._tokenize(pairs)
        # Whoever asks for the lengths of many lists will ask for the rows of some of them next.
        self._window = {pair: i for i, pair in enumerate(pairs)}, rows
        return np.array([len(row) for row in rows["input_ids"]], np.int64)

    def rows(self, pairs: Sequence[Pair]) -> Rows:
        """Token rows of pairs, by feature: `input_ids`, `attention_mask`, … Errors as `lengths`."""
        if self._template is not None:
            starts, queries, document_starts, documents = self._cut(pairs, self._template)
            return self._template.rows(
                self._slices(starts, queries), self._slices(document_starts, documents), self._features
            )
        places, rows = self._window
        if all(pair in places for pair in pairs):
            return {feature: [row[places[pair]] for pair in pairs] for feature, row in rows.items()}
        return self._tokenize(pairs)

    def _tell_cut_documents(self) -> None:
        """Say how many documents lose their end beside a query of median length, where these are not few."""
        assert self._template is not None
        queries, documents = np.split(self._sizes, [len(self._queries)])
        query = int(np.median(queries))
        total = self._scorer.max_length - self._template.size
        room = int(longest_first(np.array([query]), np.array([total]), total)[1][0])
        cut = int((documents > room).sum())
        if cut >= MANY * len(documents):
            say(
                f"  {cut} of {len(documents)} documents ({cut / len(documents):.0%}) have more than {room} tokens, "
                f"which max_length={self._scorer.max_length} leaves beside {query} of the question (the median "
                f"document has {int(np.median(documents))}): their ends are not read"
            )

    def _tell_cut_queries(self) -> None:
        """Say how many queries lose their end: pairs are cut in silence, and of a short query nothing is."""
        assert self._template is not None
        half = (self._scorer.max_length - self._template.size) // 2
        cut = int((self._sizes[: len(self._queries)] > half).sum())
        if cut:
            say(
                f"  {cut} of {len(self._queries)} queries have more than {half} tokens, half of max_length="
                f"{self._scorer.max_length}: beside a long document the rest of them is not read"
            )

    def _tell_cut_pairs(self) -> None:
        """The same of pairs whose two texts are not counted apart: those that fill `max_length`, of a sample."""
        if not self._firsts:
            return
        most, sample = self._scorer.max_length, self._firsts[:: -(-len(self._firsts) // SAMPLE)]
        cut = sum(len(row) >= most for row in self._tokenize(sample)["input_ids"])
        if cut >= MANY * len(sample):
            say(f"  {cut} of {len(sample)} sampled pairs fill max_length={most}: their documents' ends are not read")

    def _key(self, pair: Pair) -> object:
        return self._texts.document_key(*pair)

    def _tokenize(self, pairs: Sequence[Pair]) -> Rows:
        return self._scorer.tokenize(self._texts(pairs))

    def _cut(self, pairs: Sequence[Pair], template: PairTemplate) -> tuple[Lengths, Lengths, Lengths, Lengths]:
        """Where the queries of pairs start in the file and what is left of them, and the same of their documents."""
        queries = np.array([self._queries[query_id] for query_id, _ in pairs], np.int64)
        documents = np.array([self._documents[self._key(pair)] for pair in pairs], np.int64) + len(self._queries)
        left = longest_first(self._sizes[queries], self._sizes[documents], self._scorer.max_length - template.size)
        return self._starts[queries], left[0], self._starts[documents], left[1]

    def _slices(self, starts: Lengths, sizes: Lengths) -> list[list[int]]:
        return [
            self._ids[start : start + size].tolist()
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
        ]

    def _checked(self, characters: Lengths) -> tuple[PairTemplate | None, tuple[str, ...]]:
        """The pair template and the features it gives; no template where the rows of a sample are not made by it."""
        tokenizer = self._scorer.tokenizer
        if not characters.any() or not getattr(tokenizer, "is_fast", False):
            return None, ()
        sample = self._sample(characters)
        wanted = self._scorer.tokenize(sample)
        features = tuple(wanted)
        template = PairTemplate.probe(tokenizer([sample[0][1]], [sample[0][1]], verbose=False))
        if template is None or not {"input_ids"} <= set(features) <= FEATURES:
            return None, ()
        sides = [_plain(tokenizer, texts) for texts in zip(*sample, strict=True)]
        query_sizes, document_sizes = (np.array(list(map(len, side)), np.int64) for side in sides)
        left = longest_first(query_sizes, document_sizes, self._scorer.max_length - template.size)
        queries, documents = (
            [ids[:size] for ids, size in zip(side, sizes.tolist(), strict=True)]
            for side, sizes in zip(sides, left, strict=True)
        )
        made = template.rows(queries, documents, features)
        exact = all(made[feature] == wanted[feature] for feature in features)
        return (template, features) if exact else (None, ())

    def _sample(self, characters: Lengths) -> list[tuple[str, str]]:
        """Pairs of texts: of the longest documents, the longest first, and of others.

        The last ones have a document in place of the query, so that both sides are cut. Of these only a beginning is
        taken: a tokenizer makes a row of every part of one side with every part of the other, and keeps the first.
        """
        longest = np.argsort(-characters, kind="stable")[: SAMPLE // 2].tolist()
        spread = np.linspace(0, len(characters) - 1, SAMPLE // 2).astype(int).tolist()
        sample = self._texts([self._firsts[i] for i in dict.fromkeys(longest + spread)])
        (query, first), (_, second) = sample[0], sample[min(1, len(sample) - 1)]
        first, second = (text[: BEGINNING * self._scorer.max_length] for text in (first, second))
        return [*sample, (first, query), (first, first), (first, second), (second, first)]

    def _read(self) -> tuple[str, Lengths]:
        """Read all texts: the digest of them, and how many characters each document has."""
        digest = hashlib.sha256()
        sizes: list[int] = []
        for part in self._all_texts():
            sizes += map(len, part)
            for text in part:
                data = text.encode("utf-8", "surrogatepass")
                # With its length, so that no two lists of texts read the same.
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.hexdigest(), np.array(sizes[len(self._queries) :], np.int64)

    def _all_texts(self) -> Iterator[list[str]]:
        """The texts of queries, then of documents, some at a time."""
        for query_ids in _parts(self._queries):
            yield [self._texts.queries[query_id] for query_id in query_ids]
        for pairs in _parts(self._firsts):
            yield [document for _, document in self._texts(pairs)]

    def _write(self, path: Path) -> None:
        """Write how many tokens each text has, then the tokens, all as 32-bit integers."""
        count = len(self._queries) + len(self._documents)
        for leftover in path.parent.glob(f".{path.stem}.*"):  # of a run that was killed here: it may be large
            leftover.unlink(missing_ok=True)
        progress = bar(total=count, label="tokenise", unit="text")
        sizes: list[int] = []
        with writing_whole(path) as temporary, temporary.open("wb") as file:
            file.seek(4 * count)
            for texts in self._all_texts():
                rows = _plain(self._scorer.tokenizer, texts)
                sizes += map(len, rows)
                np.fromiter(chain.from_iterable(rows), np.int32).tofile(file)
                progress.update(len(texts))
            file.seek(0)
            np.array(sizes, np.int32).tofile(file)
        progress.close()

    def _map(self, path: Path) -> None:
        count = len(self._queries) + len(self._documents)
        self._ids: npt.NDArray[np.int32] = np.memmap(path, np.int32, mode="r")
        self._sizes = self._ids[:count].astype(np.int64)
        self._starts = count + np.cumsum(self._sizes) - self._sizes


def _plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without special tokens, not cut."""
    rows: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # it would warn of texts that are longer than the model reads
    )["input_ids"]
    return rows


def _tokenizer_parts(tokenizer: Any) -> object:
    """What decides the tokens of a text: not how the last call cut and padded, which the tokenizer also remembers."""
    import tokenizers

    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = {name: part for name, part in parts.items() if name not in ("truncation", "padding", "post_processor")}
    return parts, getattr(tokenizer, "split_special_tokens", False), tokenizers.__version__


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while part := list(islice(remaining, CHUNK)):
        yield part
