"""API keys: read from a file, compared in constant time."""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path

from secondstage.errors import UserError

from .errors import UnauthorizedError

SCHEME = "bearer"


class Keys:
    """Who may ask. Only digests are kept: a key is nowhere in memory, and all comparisons take the same time."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __len__(self) -> int:
        return len(self._digests)

    def check(self, authorization: str | None) -> None:
        """`UnauthorizedError` unless the header holds a key as a bearer token, or no key is needed."""
        if not self._digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != SCHEME or not key.strip():
            raise UnauthorizedError("an API key is needed: send the header Authorization: Bearer KEY")
        given = _digest(key.strip())
        # All of them, so that the time does not tell which one it was.
        if not sum(hmac.compare_digest(given, digest) for digest in self._digests):
            raise UnauthorizedError("this API key is not known")


def read_keys(path: str | None) -> Keys:
    """The keys of a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        UserError: the file cannot be read, holds no key, or one that no header can hold.
    """
    if path is None:
        return Keys([])
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"keys_file {path} cannot be read ({error}): give a text file with a key a line") from None
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise UserError(f"keys_file {path} holds no key: write one a line, or leave keys_file out to ask for none")
    for number, key in enumerate(keys, 1):
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(
                f"keys_file {path}, key {number}: must be of ASCII letters, digits and signs without spaces"
            )
    return Keys(keys)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
