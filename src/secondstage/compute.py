"""What the processor at hand can do: its device, and whether bfloat16 pays."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

from .errors import UserError, in_a_line
from .progress import say

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# What asking a C library for them ends with elsewhere: musl and macOS lack them, Windows has no library of no name.
NO_GLIBC = (OSError, AttributeError, TypeError)

Precision = Literal["auto", "fp32", "bf16", "fp16"]


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


def has_vnni() -> bool:
    """Whether the processor sums products of eight bits in 32; one that is not x86 is taken for one that does."""
    import torch

    found = torch.cpu.get_capabilities()
    if found.get("architecture") not in ("x86_64", "AMD64"):
        return True
    return any(found.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def keep_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of giving it back to the kernel.

    A step frees hundreds of megabytes of activations, and the next one faults every page in again: a tenth of the time
    of a training step on two cores. Elsewhere than on glibc this does nothing.
    """
    import ctypes

    with contextlib.suppress(*NO_GLIBC):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_memory() -> None:
    """Give memory that nothing uses any more back to the kernel: finished models, the activations of an encoding.

    Modules lie in cycles, and glibc keeps what was freed in small pieces: 0.1 GiB after an encoder of 23 million
    parameters. Elsewhere than on glibc only cycles are collected. What a card's allocator keeps is given back, too.
    """
    import ctypes

    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(*NO_GLIBC):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def within_memory(way_out: str) -> Iterator[None]:
    """Turn what torch raises where memory runs out into `UserError`, with a way out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        place = "main memory" if _of_main_memory(error) else f"the memory of {device()}"
        raise UserError(f"{place} is not enough: {in_a_line(error)}. {way_out}") from error


def ran_out(error: Exception) -> bool:
    """Whether this is what torch, or Python, raises where memory runs out."""
    import torch

    return _of_main_memory(error) or isinstance(error, torch.OutOfMemoryError)


def _of_main_memory(error: Exception) -> bool:
    """Whether it is main memory that ran out: torch has no error of its own for it."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


@lru_cache(maxsize=1)
def has_fp16() -> bool:
    """Whether the device multiplies float16 in hardware. Most CPUs do not: there it is many times slower."""
    import torch

    if device() != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_fp16", "amx_fp16", "fp16"))


def resolve(precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """Choose for "auto". bf16 on a processor that has none is taken, and said once: results are the same, much later.

    Raises:
        UserError: fp16 on a processor that has none.
    """
    if precision == "auto":
        return "bf16" if has_bf16() else "fp32"
    if precision == "fp16" and not has_fp16():
        raise UserError(
            "precision is fp16, which this processor does not compute in: it would be many times slower than fp32; set "
            f"precision={'bf16' if has_bf16() else 'fp32'}, or auto"
        )
    if precision == "bf16" and device() != "mps" and not has_bf16():
        warn_of_emulation()
    return precision


@lru_cache(maxsize=1)
def warn_of_emulation() -> None:
    """Say, once in a process, that bfloat16 will be slow."""
    say(
        "precision is bf16, which this processor has no instructions for: it is emulated, many times slower than fp32; "
        "set precision=fp32, or auto"
    )


def torch_dtype(precision: Precision) -> Any:
    """The torch type of numbers that a precision computes in."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[resolve(precision)]


def set_seed(seed: int) -> None:
    """Seed torch's global generator, from which new heads are drawn."""
    import torch

    torch.manual_seed(seed)
