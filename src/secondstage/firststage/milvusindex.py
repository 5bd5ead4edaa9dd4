"""A collection in Milvus: how it is made, what it holds, and what is looked for in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..collection import Documents
from ..config import FirstStageConfig
from ..encoder import Encoder
from ..errors import UserError
from ..files import fingerprint, write_json
from ..progress import bar, say
from .dense import embed
from .milvusstore import Store
from .words import WORDS, tokenize

# Documents read at a time, and sent at a time: a request of a cluster is at most 64 MiB.
CHUNK = 2048
SENT = 256
# What milvus-lite's analyser, which takes runs of \w, splits a word at: marks, such as the vowel signs of Hindi.
_MARK = re.compile(r"\W")
# Bytes of a text.
LONGEST = 65_535
# By `first_stage.dense.index`: Milvus' name, and its settings.
INDEXES: dict[str, tuple[str, dict[str, int]]] = {
    "auto": ("AUTOINDEX", {}),
    "flat": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "ivf": ("IVF_FLAT", {"nlist": 1024}),
}


class Index(NamedTuple):
    """A collection, and what its documents and queries go through.

    Attributes:
        store: the connection.
        name: of the collection.
        size: how many documents it holds: their row numbers are the primary keys.
        config: of the first stage.
        encoder: for dense retrieval; none without it.
    """

    store: Store
    name: str
    size: int
    config: FirstStageConfig
    encoder: Encoder | None

    def make(self, documents: Documents, cache: Path | None = None) -> None:
        """Fill the collection anew; embeddings that `cache` holds are not computed again.

        Raises:
            UserError: Milvus refuses, or no document holds a word.
        """
        with self.store.asking() as client:
            client.drop_collection(self.name)
            client.create_collection(
                self.name, schema=_schema(self), consistency_level="Strong", timeout=self.store.timeout
            )
            _fill(self, client, documents, cache)
            client.flush(self.name)
            client.create_index(self.name, _index_params(self))
            client.load_collection(self.name)

    def held(self) -> int | None:
        """How many documents the collection holds; 0 if it was never finished, none if there is no such collection."""
        from pymilvus.exceptions import MilvusException

        with self.store.asking() as client:
            if not client.has_collection(self.name, timeout=self.store.timeout):
                return None
            if len(client.list_indexes(self.name)) < len(_index_params(self)):
                return 0
            try:
                client.load_collection(self.name)
                counted = client.query(self.name, filter="", output_fields=["count(*)"], consistency_level="Strong")
            except MilvusException:
                return 0
        return int(counted[0]["count(*)"])

    def search(
        self, field: str, queries: Sequence[Any], limit: int, settings: Mapping[str, int]
    ) -> Sequence[Sequence[Mapping[str, Any]]]:
        """For each query up to `limit` documents, as records of `row` and `distance`."""
        with self.store.asking() as client:
            found: Sequence[Sequence[Mapping[str, Any]]] = client.search(
                self.name,
                data=list(queries),
                anns_field=field,
                limit=limit,
                output_fields=["row"],
                search_params={"params": dict(settings)},
                timeout=self.store.timeout,
            )
        return found

    def words(self, texts: Sequence[str]) -> list[str]:
        """The texts as they are analysed, their words between spaces; an empty one holds none."""
        return [_fit(tokens) for tokens in self.tokens(texts)]

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, in which the analyser of Milvus sees no edges."""
        found = tokenize(self.config.bm25, texts)
        if self.config.milvus.uri:
            return found
        return [[_MARK.sub(lambda mark: f"_{ord(mark.group()):x}", word) for word in words] for words in found]

    def save(self, folder: Path) -> None:
        """Write everything that opens the collection again below `folder`."""
        words = {"words": WORDS} if self.config.uses("bm25") else {}
        write_json(folder / "milvus.json", {"collection": self.name, "documents": self.size} | words)
        self.store.copy_to(folder / "milvus.db")
        if self.encoder is not None:
            self.encoder.save(folder / "encoder")


def collection_name(config: FirstStageConfig, documents: Documents, encoder: Encoder | None) -> str:
    """The collection's name: of the config, and of everything that its content depends on."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.doc_id}\0{document.content}\0".encode())
    made_from: list[object] = [digest.hexdigest(), config.milvus.retrieve]
    if config.uses("bm25"):
        made_from += [config.bm25.model_dump(mode="json"), WORDS]
    if encoder is not None:
        # Not its name: what a hub holds under a name may change.
        made_from += [encoder.digest, config.dense.document_prompt, config.dense.index]
    return f"{config.milvus.collection}_{fingerprint(made_from)[:16]}"


def _schema(index: Index) -> Any:
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description="made by secondstage")
    schema.add_field("row", DataType.INT64, is_primary=True)
    if index.config.uses("bm25"):
        # The text is words between spaces already. milvus-lite lacks the tokenizer that splits at white space alone.
        analyzer = {"tokenizer": "whitespace" if index.config.milvus.uri else "standard"}
        schema.add_field("words", DataType.VARCHAR, max_length=LONGEST, enable_analyzer=True, analyzer_params=analyzer)
        schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["words"], ["bm25"]))
    if index.encoder is not None:
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=index.encoder.dimension)
    return schema


def _index_params(index: Index) -> Any:
    from pymilvus import MilvusClient

    params, config = MilvusClient.prepare_index_params(), index.config
    # pymilvus spreads `params` over the request, where milvus-lite does not look; one level deeper both read it.
    if config.uses("bm25"):
        weights = {"bm25_k1": config.bm25.k1, "bm25_b": config.bm25.b}
        params.add_index("bm25", "SPARSE_INVERTED_INDEX", metric_type="BM25", params={"params": weights})
    if config.uses("dense"):
        name, settings = INDEXES[config.dense.index]
        # Embedded, nothing is gained by an approximation.
        name = "FLAT" if name == "AUTOINDEX" and not config.milvus.uri else name
        params.add_index("dense", name, metric_type="IP", params={"params": settings})
    return params


def _fill(index: Index, client: Any, documents: Documents, cache: Path | None) -> None:
    vectors = embed(index.config.dense, documents, index.encoder, cache=cache) if index.encoder else None
    progress = bar(total=len(documents), label="index in Milvus", unit="doc")
    row, without_words, cut = 0, 0, 0
    reader = iter(documents)
    while chunk := list(islice(reader, CHUNK)):
        records: list[dict[str, Any]] = [{"row": row + i} for i in range(len(chunk))]
        texts = [document.content for document in chunk]
        if index.config.uses("bm25"):
            for record, tokens in zip(records, index.tokens(texts), strict=True):
                record["words"] = _fit(tokens)
                without_words += not tokens
                cut += len(record["words"]) < sum(map(len, tokens)) + len(tokens) - 1
        if vectors is not None:
            for record, vector in zip(records, vectors.take(range(row, row + len(chunk))), strict=True):
                record["dense"] = vector
        for start in range(0, len(records), SENT):
            client.insert(index.name, records[start : start + SENT], timeout=index.store.timeout)
        row += len(chunk)
        progress.update(len(chunk))
    progress.close()
    if index.config.milvus.retrieve == "bm25" and without_words == row:
        raise UserError(f"no document holds a word that BM25 can index (language {index.config.bm25.language!r})")
    if cut:
        say(f"  BM25 in Milvus reads {LONGEST} bytes of words: the rest of {cut} longer documents is left out")


def _fit(tokens: Sequence[str]) -> str:
    """The tokens as one text, as many as Milvus takes."""
    text = " ".join(tokens).encode()
    return (text if len(text) <= LONGEST else text[:LONGEST].rpartition(b" ")[0]).decode(errors="ignore")
