"""What the processor can multiply at most, and what a reranker's work is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

SIZE = 2048
REPEATS = 7


def measure_peak() -> dict[str, float]:
    """Operations a second of large matrix products, the best of some, by type; a multiply-add is two.

    Where the processor has no bfloat16, what would be computed in it is computed in single precision; of eight bits
    nothing is known there.
    """
    import torch

    from secondstage.compute import has_bf16

    def best(product: Callable[[], object]) -> float:
        product()
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - start)
        return 2 * SIZE**3 / min(seconds)

    real = torch.randn(SIZE, SIZE)
    half, small = real.bfloat16(), (real * 40).clamp(-127, 127).to(torch.int8)
    fp32 = best(lambda: real @ real)
    if not has_bf16():
        return {"fp32": fp32, "bf16": fp32}
    bf16 = best(lambda: half @ half)
    # Eight bits are twice sixteen in hardware; whichever is larger is nearer to the peak.
    return {"fp32": fp32, "bf16": bf16, "int8": max(2 * bf16, best(lambda: _int8(small)))}


def _int8(values: Any) -> Any:
    import torch

    multiply: Any = vars(torch)["_int_mm"]  # there is no public name for it
    return multiply(values, values)


def work_of(config: Any, lengths: Sequence[int]) -> float:
    """Operations of a BERT's matrix products on rows of these lengths, the last layer for the first token alone."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    linear = 2 * (4 * width * width + 2 * width * inner)
    whole = sum((layers - 1) * (linear * n + 4 * width * n * n) for n in lengths)
    last = sum(2 * 2 * width * width * n + linear for n in lengths)
    return float(whole + last)
