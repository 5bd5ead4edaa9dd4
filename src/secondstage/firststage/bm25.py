"""BM25 over stemmed words, with bm25s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..collection import Documents
from ..config import Bm25Config
from ..errors import UserError
from . import FirstStage, Hits


class Bm25:
    """A sparse lexical index (Robertson and Zaragoza 2009; Lucene's variant)."""

    def __init__(self, config: Bm25Config, index: Any) -> None:
        self.config = config
        self._index = index

    @classmethod
    def build(cls, config: Bm25Config, documents: Documents) -> Bm25:
        """Tokenise and index every document."""
        import bm25s

        index = bm25s.BM25(k1=config.k1, b=config.b, method="lucene")
        tokens = _tokenize(config, (document.content for document in documents))
        # Sorted, where bm25s would take a set's order: the same corpus gives the same files.
        vocabulary = {token: i for i, token in enumerate(sorted({token for words in tokens for token in words}))}
        if not vocabulary:
            raise UserError(f"no document holds a word that BM25 can index (language {config.language!r})")
        ids = [[vocabulary[token] for token in words] for words in tokens]
        index.index((ids, vocabulary), show_progress=False)
        return cls(config, index)

    @classmethod
    def load(cls, config: Bm25Config, folder: Path) -> Bm25:
        """Open what `save` wrote."""
        import bm25s

        return cls(config, bm25s.BM25.load(str(folder / "bm25"), load_vocab=True))

    def save(self, folder: Path) -> None:
        """Write the index below `folder`."""
        self._index.save(str(folder / "bm25"), show_progress=False)

    def parts(self) -> Mapping[str, FirstStage]:
        """Itself."""
        return {"bm25": self}

    def search(self, queries: Sequence[str], depth: int) -> list[Hits]:
        """The documents that share a word with the query; equal scores in the order of the corpus."""
        return [self._search_tokens(tokens, depth) for tokens in _tokenize(self.config, queries)]

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


def _tokenize(config: Bm25Config, texts: Iterable[str]) -> list[list[str]]:
    """Lower-cased words of two letters or more, stemmed, without stop words."""
    import bm25s

    plain = config.language == "none"
    tokenize: Any = bm25s.tokenize
    tokens: list[list[str]] = tokenize(
        texts,
        stopwords=[] if plain else _stop_words(config.language),
        stemmer=None if plain else _stemmer(config.language),
        return_ids=False,
        show_progress=False,
    )
    return tokens


def _stemmer(language: str) -> Any:
    import Stemmer

    check_language(language)
    return Stemmer.Stemmer(language)


def check_language(language: str) -> None:
    """Raise `UserError` if there is no stemmer for the language, and it is not "none"."""
    import Stemmer

    known = ["none", *Stemmer.algorithms()]
    if language not in known:
        raise UserError(f"first_stage.bm25.language {language!r}: known are {', '.join(known)}")


def _stop_words(language: str) -> Any:
    """bm25s' list for the language where it has one."""
    try:
        from bm25s.tokenization import _infer_stopwords

        return list(_infer_stopwords(language))
    except ValueError:
        return []
