"""A connection to Milvus: the embedded one on a folder of its own, or a cluster's."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import MilvusConfig
from ..errors import UnreachableError, UserError

# Seconds for a connection, and for one request to a cluster.
CONNECT = 10
TIMEOUT = 120
# milvus-lite writes these once and never again: they can be linked to instead of copied.
IMMUTABLE = (".parquet", ".idx")


def check_settings(config: MilvusConfig) -> None:
    """Raise `UserError` if pymilvus is not installed, or the token of the cluster is not set."""
    needed = ("pymilvus",) if config.uri else ("pymilvus", "milvus_lite")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise UserError("a first stage of the kind milvus needs pymilvus: pip install 'secondstage[milvus]'")
    _token(config)


class Store:
    """Milvus, reached; closed when nobody holds it any more.

    milvus-lite locks its folder, and writes into it even where it only searches. So that a bundle stays as it is, can
    be opened by several processes at once and may lie on a disk that cannot be written, each process works in a
    temporary folder that links to the data.
    """

    def __init__(self, config: MilvusConfig, saved: Path | None = None) -> None:
        """Connect.

        Args:
            config: the address; none is milvus-lite.
            saved: of milvus-lite, what `copy_to` wrote; none starts empty.

        Raises:
            UserError: pymilvus is not installed, the token is not set, or there is no connection.
        """
        check_settings(config)
        from pymilvus import MilvusClient

        self.place = config.uri or "milvus-lite"
        # Embedded, slow is not broken.
        self.timeout = TIMEOUT if config.uri else None
        self._embedded = None if config.uri else Path(tempfile.mkdtemp(prefix="secondstage-milvus-")) / "milvus.db"
        self.client: Any = None
        if self._embedded is not None:
            weakref.finalize(self, shutil.rmtree, self._embedded.parent, ignore_errors=True)
            if saved is not None:
                _mirror(saved, self._embedded, link=True)
        with self.asking():
            # A connection within the process needs no pings; the server would take them for an attack.
            calm: dict[str, Any] = (
                {} if config.uri else {"grpc_options": {"grpc.keepalive_permit_without_calls": False}}
            )
            address = config.uri or str(self._embedded)
            self.client = MilvusClient(address, token=_token(config), timeout=CONNECT, **calm)
        # Finalizers run in the reverse order of their making: closed first, deleted then.
        weakref.finalize(self, _close, self.client, self._embedded)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Any]:
        """Give the client, and turn what it raises into `UnreachableError`.

        pymilvus also logs every error with its whole stack, and the server of milvus-lite what it does not implement:
        left out here, for the message says it.
        """
        from pymilvus.exceptions import MilvusException

        logs = [logging.getLogger(name) for name in ("pymilvus", "grpc")]
        levels = [log.level for log in logs]
        for log in logs:
            log.setLevel(logging.CRITICAL)
        try:
            yield self.client
        except MilvusException as error:
            raise UnreachableError(
                f"Milvus at {self.place}: {error.message}; check that it runs, first_stage.milvus.uri, and the token "
                "that first_stage.milvus.token_env names; or leave uri out for the embedded Milvus"
            ) from error
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)

    def copy_to(self, folder: Path) -> None:
        """Write the data of milvus-lite to `folder`, all of it flushed before; a cluster keeps its own."""
        if self._embedded is not None:
            _mirror(self._embedded, folder, link=False)


def _token(config: MilvusConfig) -> str:
    token = os.environ.get(config.token_env or "", "").strip()
    if config.token_env and not token:
        raise UserError(
            f"the environment variable {config.token_env} is not set: export the token of Milvus, or leave "
            "first_stage.milvus.token_env out for none"
        )
    return token


def _mirror(source: Path, target: Path, *, link: bool) -> None:
    """The same tree elsewhere, without the lock; what never changes as links, if asked and where there are links."""
    for path in source.rglob("*"):
        other = target / path.relative_to(source)
        if path.is_dir():
            other.mkdir(parents=True, exist_ok=True)
        elif path.name != "LOCK":
            other.parent.mkdir(parents=True, exist_ok=True)
            _put(path.resolve(), other, link=link and path.suffix in IMMUTABLE)


def _put(path: Path, other: Path, *, link: bool) -> None:
    if link:
        with contextlib.suppress(OSError):
            other.symlink_to(path)
            return
    shutil.copyfile(path, other)


def _close(client: Any, embedded: Path | None) -> None:
    client.close()
    if embedded is not None:
        from milvus_lite import server_manager_instance

        server_manager_instance.release_server(str(embedded))
