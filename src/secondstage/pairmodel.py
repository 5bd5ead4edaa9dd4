"""What cross-encoders and decoders share: scoring in chunks, padded by similar length, and the contract of a folder."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from .calibration import Calibration
from .collection import Documents
from .compute import Precision
from .errors import UserError
from .files import read_json, write_json, writing
from .models import locate, quiet_transformers
from .networks import merged
from .pieces import pieces
from .run import Run, Scores
from .scoring import rerank, streamed

CONTRACT = "score.json"
# Pairs that are tokenised and sorted by length at a time, and characters: tokenizers keep what they cut off of each
# pair until all are done, which takes tens of bytes a character.
CHUNK = 8192
CHARACTERS = 1 << 24
# By whether torch computed it.
NOT_FINITE = {
    True: "the reranker gave a score that is not finite: its weights are broken, or its precision is too low; train it "
    "again, or set precision=fp32",
    False: "the reranker gave a score that is not finite, as {engine} computes it: set serve.backend=torch; if torch's "
    "scores are finite, make the engine again (`secondstage export BUNDLE --to {engine}`)",
}


class PairModel(ABC):
    """A network that gives each query-document pair a logit, and the tokenizer that goes with it.

    Attributes:
        model: the network.
        tokenizer: its own.
        max_length: tokens of a pair, all included.
        batch_tokens: tokens scored at once, padding included.
        calibration: turns logits into probabilities; none until it was fitted, on dev.
        origin: where it was loaded from, and in which precision it computes; none if it was not loaded.
        wording: what decides a score beside weights, tokenizer, length and precision: the words around a pair.
        kind: of its score, as the contract says it.
        engine: what computes.
        threads: batches that may be computed at once; torch computes one with all processors.
    """

    kind: ClassVar[str]
    engine: str = "torch"
    threads: int = 1

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        batch_tokens: int = 8192,
        calibration: Calibration | None = None,
        origin: tuple[str, Precision] | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_length, self.batch_tokens = max_length, batch_tokens
        self.calibration, self.origin = calibration, origin
        self.wording: tuple[object, ...] = ()

    @abstractmethod
    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        """Token ids of (query text, document text) pairs, and what goes with them; cut to `max_length`, not padded."""

    @abstractmethod
    def collate(self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Mapping[str, Any]:
        """The rows at `places` as tensors `[places, longest row]` on the device."""

    @abstractmethod
    def logits(self, features: Mapping[str, Any]) -> Any:
        """`[pairs]` scores in single precision, a tensor that gradients flow through."""

    @abstractmethod
    def contract(self) -> dict[str, Any]:
        """What the score contract says of this kind."""

    def remember_documents(self) -> None:  # noqa: B027 # a decoder writes query and document into one text
        """Keep the tokens of documents, if the kind allows: for searches of one collection, where they come again."""

    @property
    def overhead(self) -> int:
        """How many of `max_length` tokens are neither query nor document."""
        return int(self.tokenizer.num_special_tokens_to_add(pair=True))

    def with_model(self, model: Any) -> Self:
        """The same contract, computed by another network of the same shape: a working copy, an average."""
        other = copy.copy(self)
        other.model = model
        return other

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs, a chunk at a time, without gradients.

        Args:
            pairs: `[n]` pairs.
            label: shows a progress bar under this name.

        Returns:
            `[n]` logits, in the order of the pairs.

        Raises:
            UserError: a score is not finite, so no order can be made of it.
        """
        return streamed(self, pairs, label=label)

    def stream(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Scores]]:
        """The places and logits of pairs that were computed together, as soon as they are.

        Raises:
            UserError: as `score`.
        """
        for start, end in chunks(pairs):
            rows = self.tokenize(pairs[start:end])
            for places, found in self.compute_all(rows, self.batches(list(map(len, rows["input_ids"])))):
                if not np.isfinite(found).all():
                    raise UserError(NOT_FINITE[self.engine == "torch"].format(engine=self.engine))
                yield [start + place for place in places], found

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """The places of rows of these lengths that are computed together."""
        return token_budget(lengths, self.batch_tokens)

    def compute_all(
        self, rows: Mapping[str, Sequence[Sequence[int]]], batches: Iterator[list[int]]
    ) -> Iterator[tuple[list[int], Scores]]:
        """Places and logits of each batch of tokenised rows, without gradients."""
        import torch

        for places in batches:
            # Not inference_mode: weights that are gathered for the pass may be trained on later.
            with torch.no_grad():
                found = self.logits(self.collate(rows, places))
            yield places, found.cpu().numpy()

    def rerank(self, run: Run, queries: Mapping[str, str], documents: Documents, *, label: str | None = None) -> Run:
        """Order every list of `run` by this model's scores; equal scores keep the run's order.

        Args:
            run: the first stage's lists.
            queries: texts by query id.
            documents: the corpus.
            label: shows a progress bar under this name.
        """
        return rerank(self, run, queries, documents, label=label)

    def probabilities(self, scores: Scores) -> list[float] | list[None]:
        """The probability of each candidate of one query to be relevant; nones if the reranker was never calibrated.

        Args:
            scores: `[candidates]` logits, of all of them.
        """
        return self.calibration.of_list(scores).tolist() if self.calibration else [None] * len(scores)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and score contract, as a folder that any Hugging Face library opens.

        Adapters are merged into the weights; the model in memory keeps them.
        """
        self.tokenizer.model_max_length = self.max_length
        with writing(folder), quiet_transformers():
            self._write_network(merged(self.model), folder)
            self.tokenizer.save_pretrained(folder)
        contract: dict[str, Any] = {
            "score": "logit",
            "kind": self.kind,
            "higher_is_better": True,
            "max_length": self.max_length,
            "document": "title and text, joined by a line break",
            **self.contract(),
        }
        if self.calibration:
            contract["calibration"] = self.calibration.to_json()
        write_json(folder / CONTRACT, contract)

    def _write_network(self, network: Any, folder: Path) -> None:
        network.save_pretrained(folder)


def read_contract(model: str) -> dict[str, Any]:
    """The score contract of a model's folder; empty if it has none, or if it is no folder.

    Raises:
        UserError: it is none.
    """
    path = Path(locate(model)) / CONTRACT
    found = read_json(path) if path.is_file() else {}
    length = found.get("max_length", 1) if isinstance(found, dict) else 0
    if not isinstance(found, dict) or type(length) is not int or length < 1:
        raise UserError(
            f"{path} is no score contract: it must be a JSON object, whose max_length is a whole number of tokens; "
            "write the reranker again, or delete this file"
        )
    return found


def calibration_of(contract: Mapping[str, Any]) -> Calibration | None:
    """The calibration in a score contract."""
    found = contract.get("calibration")
    return None if found is None else Calibration.from_json(found)


def chunks(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Start and end of what is tokenised together: up to `CHUNK` pairs with `CHARACTERS` in all, or one longer pair."""
    for piece in pieces(range(len(pairs)), lambda i: sum(map(len, pairs[i])), count=CHUNK, total=CHARACTERS):
        yield piece[0], piece[-1] + 1


def token_budget(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group indices of similar length so that each padded batch holds at most `batch_tokens` tokens.

    Longest first: memory runs out at once or not at all. A text longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    width = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and width * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        if not batch:
            width = lengths[i]
        batch.append(i)
    if batch:
        yield batch
