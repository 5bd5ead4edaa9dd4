"""BM25 over stemmed words, with bm25s; what a word is, `words` says."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..collection import Documents
from ..config import Bm25Config
from ..errors import UserError
from ..files import read_json, write_json
from ..pieces import pieces
from ..progress import bar
from . import FirstStage, Hits
from .words import WORDS, check_words, tokenize

# Documents whose words are held as Python's own objects at a time.
CHUNK = 4096
# Of long ones, so many characters.
CHARACTERS = 1 << 26
# Entries of the index that are scored at a time.
SCORED = 1 << 22
# In the folder of the index: the number of its words.
NUMBER = "words.json"


class Bm25:
    """A sparse lexical index (Robertson and Zaragoza 2009; Lucene's variant)."""

    def __init__(self, config: Bm25Config, index: Any) -> None:
        self.config = config
        self._index = index

    @classmethod
    def build(cls, config: Bm25Config, documents: Documents) -> Bm25:
        """Tokenise and index every document, a chunk at a time.

        bm25s would hold every word of the corpus at once, and count them in Python; the index is the same to the bit.
        """
        import bm25s

        counts = _count(config, documents)
        if not counts.vocabulary:
            raise UserError(f"no document holds a word that BM25 can index (language {config.language!r})")
        index = bm25s.BM25(k1=config.k1, b=config.b, method="lucene")
        index.scores = _score(config, counts)
        index.vocab_dict = counts.vocabulary
        index.unique_token_ids_set = set(counts.vocabulary.values())
        index.nonoccurrence_array = None
        return cls(config, index)

    @classmethod
    def load(cls, config: Bm25Config, folder: Path) -> Bm25:
        """Open what `save` wrote, memory-mapped.

        Raises:
            UserError: its words are not those that queries are cut into now.
        """
        import bm25s

        number = folder / "bm25" / NUMBER
        check_words(read_json(number) if number.is_file() else None, folder)
        return cls(config, bm25s.BM25.load(str(folder / "bm25"), load_vocab=True, mmap=True))

    def save(self, folder: Path) -> None:
        """Write the index below `folder`."""
        self._index.save(str(folder / "bm25"), show_progress=False)
        write_json(folder / "bm25" / NUMBER, WORDS)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"bm25": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The documents that share a word with the query; equal scores in the order of the corpus."""
        return [self._search_tokens(tokens, depth) for tokens in tokenize(self.config, queries)]

    def _search_tokens(self, tokens: list[str], depth: int) -> Hits:
        known = [token for token in tokens if token in self._index.vocab_dict]
        if not known:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32), ())
        scores = np.asarray(self._index.get_scores(known), dtype=np.float32)
        rows = np.flatnonzero(scores > 0)
        if len(rows) > depth:
            # Everything that ties with the last place stays in, so that the cut is the corpus order's, not chance's.
            rows = rows[scores[rows] >= np.partition(scores[rows], -depth)[-depth]]
        rows = rows[np.argsort(-scores[rows], kind="stable")][:depth]
        return Hits(rows.astype(np.int64), scores[rows], ("bm25",) * len(rows))


class Counts(NamedTuple):
    """How often each document holds each word.

    Attributes:
        matrix: `[documents, words]` sparse, by column; single precision.
        lengths: `[documents]` words.
        vocabulary: column by word, sorted.
    """

    matrix: Any
    lengths: npt.NDArray[np.int64]
    vocabulary: dict[str, int]


def _count(config: Bm25Config, documents: Documents) -> Counts:
    """Count the words of every document; what is held grows with the entries of the index, not with the text."""
    from scipy.sparse import csr_array

    numbers: dict[str, int] = {}
    chunks, lengths = [], array("q")
    progress = bar(total=len(documents), label="bm25", unit="doc")
    texts = (document.content for document in documents)
    for chunk in pieces(texts, len, count=CHUNK, total=CHARACTERS):
        words = tokenize(config, chunk)
        lengths.extend(map(len, words))
        for word in chain.from_iterable(words):
            numbers.setdefault(word, len(numbers))
        chunks.append(_rows(words, numbers))
        progress.update(len(chunk))
    progress.close()
    # Sorted, where words were numbered as they came: the same corpus gives the same files.
    vocabulary = {word: i for i, word in enumerate(sorted(numbers))}
    places = np.fromiter((vocabulary[word] for word in numbers), np.int32, len(numbers))
    ends = np.cumsum(np.concatenate([[0], *(np.diff(chunk.indptr) for chunk in chunks)]))
    columns, values = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    start = 0
    for number, chunk in enumerate(chunks):
        end = start + chunk.nnz
        columns[start:end], values[start:end] = places[chunk.indices], chunk.data
        chunks[number] = None
        start = end
    matrix = csr_array((values, columns, ends), shape=(len(lengths), len(vocabulary)))
    return Counts(matrix.tocsc(), np.array(lengths, np.int64), vocabulary)


def _rows(words: list[list[str]], numbers: dict[str, int]) -> Any:
    """The counts of some documents, `[documents, words so far]`."""
    from scipy.sparse import csr_array

    ends = np.cumsum([0, *map(len, words)])
    columns = np.fromiter((numbers[word] for word in chain.from_iterable(words)), np.int32, ends[-1])
    matrix = csr_array((np.ones(ends[-1], np.float32), columns, ends), shape=(len(words), len(numbers)))
    matrix.sum_duplicates()
    return matrix


def _score(config: Bm25Config, counts: Counts) -> dict[str, Any]:
    """bm25s' arrays: what each word adds to each document's score."""
    matrix, lengths = counts.matrix, counts.lengths
    documents = len(lengths)
    holding, places = np.unique(np.diff(matrix.indptr), return_inverse=True)
    idf = np.array([log(1 + (documents - n + 0.5) / (n + 0.5)) for n in holding.tolist()], np.float32)[places]
    damping = config.k1 * ((1 - config.b) + config.b * lengths / lengths.mean())
    for start in range(0, matrix.nnz, SCORED):
        part = slice(start, min(start + SCORED, matrix.nnz))
        words = np.searchsorted(matrix.indptr, np.arange(part.start, part.stop), side="right") - 1
        frequency = matrix.data[part]
        matrix.data[part] = idf[words] * (frequency / (damping[matrix.indices[part]] + frequency))
    return {
        "data": matrix.data,
        "indices": matrix.indices.astype(np.int32, copy=False),
        "indptr": matrix.indptr.astype(np.int64),
        "num_docs": documents,
    }
