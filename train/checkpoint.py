"""What a training goes on from after it was stopped: written whole or not at all, the last few are kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from secondstage.compute import device
from secondstage.files import read_json, recover, replacing, sweep, to_disk, write_json, writing

RECORD = "state.json"
TENSORS = "state.pt"


class Checkpoints:
    """The folders `step-00000012` and so on of one training."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Look into `folder`, which need not exist; `keep` of the last are kept."""
        self.folder, self.keep = folder, keep

    def write(self, step: int, record: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Write the state after `step` steps, and delete those that are older than the last few.

        Args:
            step: optimizer steps made.
            record: JSON.
            tensors: what torch saves.

        Raises:
            OSError: no room, for example; those that are there stay.
        """
        with self.making(step, record) as folder:
            torch.save(tensors, folder / TENSORS)

    @contextmanager
    def making(self, step: int, record: dict[str, Any]) -> Iterator[Path]:
        """Give a temporary folder for the tensors after `step` steps: as `write`, whoever writes them."""
        with replacing(self.place(step)) as temporary:
            with writing(temporary):
                yield temporary
            write_json(temporary / RECORD, record)
            to_disk(temporary)
        to_disk(self.folder, below=False)
        for old in sorted(self.steps())[: -self.keep]:
            shutil.rmtree(self.place(old))

    def steps(self) -> Iterator[int]:
        """The steps that there are checkpoints of."""
        for path in self.folder.glob("step-*"):
            if (found := re.fullmatch(r"step-(\d{8})", path.name)) and (path / RECORD).is_file():
                yield int(found[1])

    def latest(self) -> int | None:
        """The last step that there is a checkpoint of. What killed processes left half-written is cleared away."""
        for path in [*self.folder.glob("step-*"), *self.folder.glob(".step-*.old")]:
            place = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
            recover(place)
        for leftover in self.folder.glob(".step-*.tmp-*"):
            sweep(self.folder / leftover.name.removeprefix(".").partition(".tmp-")[0])
        return max(self.steps(), default=None)

    def record(self, step: int) -> dict[str, Any]:
        """The JSON of a checkpoint."""
        found: dict[str, Any] = read_json(self.place(step) / RECORD)
        return found

    def tensors(self, step: int) -> dict[str, Any]:
        """The tensors of a checkpoint, on the CPU."""
        # Where they are copied to a card anyway, several processes share the pages of one file.
        mapped = device() != "cpu"
        found: dict[str, Any] = torch.load(
            self.place(step) / TENSORS, map_location="cpu", weights_only=True, mmap=mapped
        )
        return found

    def place(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / f"step-{step:08}"
