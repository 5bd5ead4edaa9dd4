"""The kinds of rerankers: which one a folder holds, and how it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .compute import Precision
from .decoder import DecoderReranker
from .errors import UserError
from .pairmodel import PairModel, read_contract
from .reranker import Reranker

Kind = Literal["classification", "yes_no"]


def load_reranker(
    model: str | Path,
    *,
    kind: Kind | None = None,
    instruction: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 8192,
    precision: Precision = "auto",
) -> PairModel:
    """Open a folder, a hub id or a package, for scoring, as the kind that it is.

    Args:
        model: where the model is; see `models.locate`.
        kind: of its score; by default what the folder's score contract says, else a classification head.
        instruction: of a decoder's prompt; by default as the contract says.
        max_length: tokens of a pair; by default as the contract says, else as many as the model reads.
        batch_tokens: tokens scored at once, padding included.
        precision: "auto" is bf16 where the processor has it.

    Raises:
        UserError: the model cannot be opened as this kind, or the contract names one that is not known.
    """
    chosen = kind or read_contract(str(model)).get("kind", Reranker.kind)
    if chosen == Reranker.kind:
        return Reranker.load(model, max_length=max_length, batch_tokens=batch_tokens, precision=precision)
    if chosen == DecoderReranker.kind:
        return DecoderReranker.load(
            model, instruction=instruction, max_length=max_length, batch_tokens=batch_tokens, precision=precision
        )
    raise UserError(
        f"{model}: its score is of kind {chosen!r}, which this version does not know "
        f"({Reranker.kind}, {DecoderReranker.kind}): open it with the version that wrote it"
    )
