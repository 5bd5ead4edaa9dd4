"""The further fields of documents, and which documents hold what is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from secondstage.collection import Documents
from secondstage.errors import UserError
from secondstage.files import fingerprint

from .options import Value, Where

# Filters whose rows are remembered.
REMEMBERED = 64
Rows = npt.NDArray[np.int64]
Kept = npt.NDArray[np.bool_]


class Fields:
    """An index of the fields of a corpus; nothing of it is made before a filter asks for it.

    Values are compared by their text, so that a command line, which knows texts alone, can ask for numbers too: 2020,
    2020.0 and "2020" are the same, and so are true and "true".
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._rows: dict[str, dict[str, Rows]] = {}
        self._kept: dict[str, Kept] = {}

    @cached_property
    def names(self) -> list[str]:
        """The fields that some document has."""
        return sorted({name for text in self._documents.metadata() if text for name in json.loads(text)})

    def check(self, where: Where) -> None:
        """Raise `UserError` if a field is asked for that no document has, or a value that none can have."""
        if not isinstance(where, Mapping) or not where:
            raise UserError(f"where is {where!r:.80}, must be at least one field with its value, e.g. year=2020")
        for name, wanted in where.items():
            if name not in self.names:
                has = f"they have {', '.join(self.names)}" if self.names else "they have none"
                raise UserError(f"where names the field {name!r}, which no document has ({has})")
            values = _values(wanted)
            if not values or not all(isinstance(value, str | int | float) for value in values):
                raise UserError(
                    f"where: {name} is {wanted!r:.80}, must be a text, a number, true or false, or some such"
                )

    def matching(self, where: Where) -> Kept:
        """`[documents]`: which rows hold, for every field, one of the values that it may have."""
        wanted = {name: sorted(set(map(as_text, _values(value)))) for name, value in where.items()}
        key = fingerprint(json.dumps(wanted, sort_keys=True))  # short, however much a client asks for
        if key not in self._kept:
            kept = np.ones(len(self._documents), bool)
            for name, values in wanted.items():
                of_field = np.zeros(len(kept), bool)
                for value in values:
                    of_field[self._field(name).get(value, np.empty(0, np.int64))] = True
                kept &= of_field
            while len(self._kept) >= REMEMBERED:
                # Another thread may have been faster.
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = kept
        return self._kept[key]

    def _field(self, name: str) -> dict[str, Rows]:
        if name not in self._rows:
            rows: dict[str, list[int]] = {}
            for row, text in enumerate(self._documents.metadata()):
                if text and name in (fields := json.loads(text)):
                    for value in _values(fields[name]):
                        rows.setdefault(as_text(value), []).append(row)
            self._rows[name] = {value: np.array(found, np.int64) for value, found in rows.items()}
        return self._rows[name]


def as_text(value: Value) -> str:
    """The text by which values are compared."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _values(wanted: object) -> Sequence[Value]:
    return list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]  # type: ignore[list-item]
