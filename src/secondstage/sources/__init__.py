"""Readers of collections: BEIR folders, TREC files, the Hugging Face hub, and the built-in one."""

from __future__ import annotations

import re
from pathlib import Path

from secondstage.collection import Source
from secondstage.config import CollectionConfig
from secondstage.errors import UserError

from .records import SPLITS

BUILT_IN = "pydocs"
HUB_PREFIX = "hf:"
ACCEPTED = (
    f"give a BEIR folder (corpus.jsonl, queries.jsonl, qrels/<split>.tsv), {BUILT_IN!r} (the built-in collection), "
    f"{HUB_PREFIX}<dataset id>, or, instead of a source, the files collection.documents, .queries and .qrels"
)


def open_source(config: CollectionConfig) -> Source:
    """The reader of what the `collection` section of a config names; nothing but the presence of files is checked yet.

    Raises:
        UserError: there is no such source, or a file of it is missing.
    """
    if not config.source:
        from .trec import FilesSource

        # As in BEIR and on the hub.
        names = {split: name for split, name in SPLITS.items() if name not in config.qrels}
        qrels = {names.get(split, split): Path(path).expanduser() for split, path in config.qrels.items()}
        queries = Path(config.queries).expanduser() if config.queries else None
        return FilesSource(Path(config.documents or "").expanduser(), queries, qrels)
    if config.source == BUILT_IN:
        from secondstage.pydocs import PydocsSource

        return PydocsSource()
    if config.source.startswith(HUB_PREFIX):
        from .hub import HubSource

        return HubSource(config.source.removeprefix(HUB_PREFIX))
    folder = Path(config.source).expanduser()
    if folder.is_dir():
        from .beir import BeirSource

        return BeirSource(folder)
    raise UserError(_not_found(config.source, folder))


def _not_found(source: str, path: Path) -> str:
    if path.exists():
        return f"collection source {source!r} is a file, not a folder: {ACCEPTED}"
    hint = f" (did you mean {HUB_PREFIX}{source}?)" if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) else ""
    return f"collection source {source!r} is nowhere to be found{hint}: {ACCEPTED}"
