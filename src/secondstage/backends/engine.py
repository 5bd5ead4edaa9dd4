"""A cross-encoder whose logits an engine computes: the same tokens, contract and checks as torch's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compute import Precision, has_bf16, has_vnni
from ..errors import UserError, in_a_line
from ..files import file_digest
from ..networks import load_tokenizer
from ..pairmodel import calibration_of, read_contract, token_budget
from ..reranker import Reranker
from .onnx import OnnxSession
from .openvino import OpenvinoSession
from .record import GRAPHS, RECORD, EngineRecord, read_record
from .session import Kind, Session, library_of
from .threads import available_threads

# Dynamic int8 takes the scale of a whole batch's activations: pairs are computed alone, so that none changes another's
# score. It costs nothing: a pair's hundred tokens fill the vector units, and stay in the cache.
KINDS = {
    "onnx": Kind(OnnxSession, "onnxruntime", "onnx", 1024),
    "onnx-int8": Kind(OnnxSession, "onnxruntime", "onnx", 1024, alone=True),
    "openvino": Kind(OpenvinoSession, "openvino", "openvino", 2048, step=8),
    "openvino-int8": Kind(OpenvinoSession, "openvino", "openvino", 2048, step=8),
}


class EngineReranker(Reranker):
    """A cross-encoder behind another engine than torch. It scores only: it has no weights to train or save.

    `model` is the engine's session.

    Attributes:
        record: what the engine's folder says of it.
    """

    record: EngineRecord

    @classmethod
    def open(
        cls,
        model: Path,
        folder: Path,
        engine: str,
        *,
        batch_tokens: int = 8192,
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> EngineReranker:
        """Open an engine.

        Args:
            model: the reranker's folder, for tokenizer and contract.
            folder: the engine's.
            engine: its name.
            batch_tokens: tokens that are computed at once at most, padding included; fewer where that is faster.
            precision: of what is not quantised, in OpenVINO; "auto" is bf16 where the processor has it.
            threads: that compute; none takes all that the process may use.

        Raises:
            UserError: the engine is not there, is broken, was altered or made from other weights, or its library is
                not installed.
        """
        if not folder.is_dir():
            raise UserError(
                f"{folder} is missing: make the engine with `secondstage export BUNDLE --to {engine}`, or set "
                "serve.backend=auto"
            )
        record, kind = read_record(folder, engine, model), KINDS[engine]
        library_of(kind.library, kind.extra, engine)
        if record.parity.get("vnni") and not has_vnni():
            raise UserError(
                f"{folder} was made where the processor sums products of eight bits in 32; this one sums them in 16, "
                f"which overflow: make it again here (`secondstage export BUNDLE --to {engine}`), or set "
                "serve.backend=auto"
            )
        threads = threads or available_threads()
        half = precision == "bf16" or (precision == "auto" and has_bf16())
        session = _open_graph(kind, folder / GRAPHS[engine], engine, threads, half)
        contract = read_contract(str(model))
        if "max_length" not in contract:
            raise UserError(f"{model} has no score contract, which says how pairs are cut: set serve.backend=torch")
        reranker = cls(
            session,
            load_tokenizer(str(model)),
            max_length=contract["max_length"],
            batch_tokens=min(batch_tokens, kind.batch_tokens),
            calibration=calibration_of(contract),
            origin=(str(model), "bf16" if half else "fp32"),
        )
        # Scores are kept by what made them.
        reranker.wording = (engine, file_digest(folder / RECORD))
        reranker.engine, reranker.record, reranker.threads = engine, record, threads
        return reranker

    def collate(
        self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """The rows at `places`, as wide as the longest, or a little wider (`Kind.step`), padded on the right."""
        lengths = np.array([len(rows["input_ids"][place]) for place in places])
        longest, step = int(lengths.max()), KINDS[self.engine].step
        # No wider than the positions that the model knows.
        width = max(longest, min(-(-longest // step) * step, self.max_length))
        features = {}
        for name in self._session.inputs - {"attention_mask"}:
            filled = np.full((len(places), width), self._padding if name == "input_ids" else 0, np.int64)
            for i, place in enumerate(places):
                filled[i, : lengths[i]] = rows[name][place]
            features[name] = filled
        features["attention_mask"] = (np.arange(width) < lengths[:, None]).astype(np.int64)
        return features

    def logits(self, features: Mapping[str, Any]) -> Any:
        """`[pairs]` scores in single precision, a tensor without gradients."""
        import torch

        return torch.from_numpy(self._session.logits(features))

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Batches of similar length, at least one for each thread; of one pair where pairs are computed alone."""
        if KINDS[self.engine].alone:
            yield from ([i] for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]))
            return
        yield from even_batches(lengths, self.batch_tokens, self.threads)

    def compute_all(
        self, rows: Mapping[str, Sequence[Sequence[int]]], batches: Iterator[list[int]]
    ) -> Iterator[tuple[list[int], Any]]:
        """Places and logits of each batch, as many at once as there are threads."""
        if self.threads == 1:
            for places in batches:
                yield places, self._session.logits(self.collate(rows, places))
            return

        def work(places: list[int]) -> tuple[list[int], Any]:
            return places, self._session.logits(self.collate(rows, places))

        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(work, batches)

    def save(self, folder: Path) -> None:
        """An engine holds no weights.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"the engine {self.engine} cannot be saved: save the reranker that it was made from")

    @property
    def _session(self) -> Session:
        session: Session = self.model
        return session

    @property
    def _padding(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)


def even_batches(lengths: Sequence[int], batch_tokens: int, threads: int) -> Iterator[list[int]]:
    """Batches as `token_budget` makes them, of sizes that keep all threads busy to the end.

    Args:
        lengths: tokens of each row.
        batch_tokens: of a batch at most, unless a single row is longer.
        threads: that take the batches.
    """
    rounds = -(-sum(lengths) // (batch_tokens * threads))
    yield from token_budget(lengths, min(batch_tokens, -(-sum(lengths) // max(1, rounds * threads))))


def _open_graph(kind: Kind, graph: Path, engine: str, threads: int, half: bool) -> Session:
    """Turn whatever a library raises at a graph that it cannot read into one line."""
    try:
        with contextlib.redirect_stdout(None):
            return kind.opens(graph, threads, half)
    except Exception as error:
        raise UserError(
            f"{graph} cannot be opened by {kind.library}: {in_a_line(error)}. Make the engine again (`secondstage "
            f"export BUNDLE --to {engine}`), or set serve.backend=torch"
        ) from error
