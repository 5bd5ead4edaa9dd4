"""What the processor at hand can do: its device, and whether bfloat16 pays."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from typing import Literal

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

Precision = Literal["auto", "fp32", "bf16"]


@lru_cache(maxsize=1)
def device() -> str:
    """The device to compute on: "cuda", "mps" or "cpu"; "cuda:1" and so on where a launcher started several processes.

    Each process takes the card of its LOCAL_RANK. Where there are fewer cards, or the launcher shows each process its
    own alone, they are counted round.
    """
    import torch

    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK", "")
        return f"cuda:{int(rank) % torch.cuda.device_count()}" if rank.isdecimal() else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    """Whether the device multiplies bfloat16 in hardware. Where it does not, bfloat16 is several times slower."""
    import torch

    if device().startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device() == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def keep_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of giving it back to the kernel.

    A step frees hundreds of megabytes of activations, and the next one faults every page in again: a tenth of the time
    of a training step on two cores. Elsewhere than on glibc this does nothing.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def resolve(precision: Precision) -> Literal["fp32", "bf16"]:
    """Choose for "auto"."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16() else "fp32"


def set_seed(seed: int) -> None:
    """Seed torch's global generator, from which new heads are drawn."""
    import torch

    torch.manual_seed(seed)
