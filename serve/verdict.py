"""What the gate said of a bundle, kept in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from secondstage.errors import UserError
from secondstage.files import read_json, write_json

FILE = "verdict.json"


class Verdict(NamedTuple):
    """Ship, or do not.

    Attributes:
        passed: whether the gate lets the pipeline through.
        sentence: what was found, and why it was refused.
    """

    passed: bool
    sentence: str


def write_verdict(bundle: Path, fingerprint: str, verdict: Verdict) -> None:
    """Keep what the gate said of the bundle with this fingerprint in its folder, beside what its manifest covers.

    The same verdict is not written twice: a folder that did not change keeps its dates.
    """
    if read_verdict(bundle, fingerprint) != verdict:
        write_json(bundle / FILE, {"bundle": fingerprint, **verdict._asdict()})


def read_verdict(bundle: Path, fingerprint: str) -> Verdict | None:
    """What the gate said; none if it was never asked, or of another bundle."""
    found = read_json(bundle / FILE) if (bundle / FILE).is_file() else None
    if not isinstance(found, Mapping) or found.get("bundle") != fingerprint:
        return None
    passed, sentence = found.get("passed"), found.get("sentence")
    # No digest covers this file.
    if not isinstance(passed, bool) or not isinstance(sentence, str):
        raise UserError(f"{bundle / FILE} was changed: delete it, and evaluate the bundle again")
    return Verdict(passed, sentence)
