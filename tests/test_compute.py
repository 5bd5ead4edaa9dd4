"""Which precision is taken, and when."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from secondstage import compute
from secondstage.compute import Precision, device, has_bf16, resolve, torch_dtype
from secondstage.errors import UserError


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    device.cache_clear()
    has_bf16.cache_clear()
    compute.warn_of_emulation.cache_clear()
    yield
    device.cache_clear()
    has_bf16.cache_clear()


@pytest.mark.parametrize("able", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, precision: Precision, able: bool) -> None:
    monkeypatch.setattr(compute, "has_bf16", lambda: able)
    assert resolve(precision) == precision


@pytest.mark.parametrize(("found", "able", "told"), [("cpu", False, 1), ("cpu", True, 0), ("mps", False, 0)])
def test_bf16_that_is_emulated_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: str, able: bool, told: int
) -> None:
    monkeypatch.setattr(compute, "device", lambda: found)
    monkeypatch.setattr(compute, "has_bf16", lambda: able)
    assert [resolve("bf16") for _ in range(2)] == ["bf16", "bf16"]
    assert capsys.readouterr().err.count("bf16, which this processor has no instructions for") == told


@pytest.mark.parametrize(("able", "other"), [(False, "fp32"), (True, "bf16")])
def test_fp16_is_refused_where_it_would_crawl(monkeypatch: pytest.MonkeyPatch, able: bool, other: str) -> None:
    monkeypatch.setattr(compute, "has_bf16", lambda: able)
    monkeypatch.setattr(compute, "has_fp16", lambda: False)
    with pytest.raises(UserError, match=f"precision is fp16, .* set precision={other}, or auto"):
        resolve("fp16")
    monkeypatch.setattr(compute, "has_fp16", lambda: True)
    assert resolve("fp16") == "fp16"
    assert torch_dtype("fp16") == torch.float16


@pytest.mark.parametrize(
    ("found", "capabilities", "able"),
    [
        ("cuda", {}, True),
        ("mps", {}, True),
        ("cpu", {"avx512_bf16": True, "avx512_fp16": False}, False),
        ("cpu", {"amx_fp16": True}, True),
        ("cpu", {}, False),
    ],
)
def test_fp16_pays_on_cards_and_on_few_processors(
    monkeypatch: pytest.MonkeyPatch, found: str, capabilities: dict[str, bool], able: bool
) -> None:
    monkeypatch.setattr(compute, "device", lambda: found)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    compute.has_fp16.cache_clear()
    assert compute.has_fp16() == able
    compute.has_fp16.cache_clear()


@pytest.mark.parametrize(("able", "expected"), [(False, "fp32"), (True, "bf16")])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, able: bool, expected: str) -> None:
    monkeypatch.setattr(compute, "has_bf16", lambda: able)
    assert resolve("auto") == expected


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_taken(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device() == expected


@pytest.mark.parametrize(
    ("cuda", "cards", "rank", "expected"),
    [
        (True, 4, "0", "cuda:0"),
        (True, 4, "3", "cuda:3"),
        (True, 2, "3", "cuda:1"),  # more processes than cards
        (True, 1, "3", "cuda:0"),  # each process is shown its own card alone
        (True, 4, "-1", "cuda"),  # some launchers say so that there is one process
        (False, 0, "1", "cpu"),
    ],
)
def test_each_process_of_a_launcher_has_a_card_of_its_own(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, cards: int, rank: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert device() == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx2": True, "avx512": True}, False),
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"bf16": True}, True),
    ],
)
def test_a_cpu_has_bf16_if_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(compute, "device", lambda: "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bf16() is expected


def test_mps_computes_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "device", lambda: "mps")
    assert resolve("auto") == "fp32"


@pytest.mark.parametrize("card", ["cuda", "cuda:1"])
@pytest.mark.parametrize("able", [False, True])
def test_emulated_bf16_does_not_count_on_cuda(monkeypatch: pytest.MonkeyPatch, able: bool, card: str) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return able or including_emulation

    monkeypatch.setattr(compute, "device", lambda: card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve("auto") == ("bf16" if able else "fp32")


HEAP = """
import ctypes, re, sys
from secondstage.compute import release_memory
def mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    sys.exit("no malloc_trim")
pieces = [bytes(4000) for _ in range(50_000)]
last = bytes(4000)  # behind them all: the heap cannot shrink of itself
del pieces
before = mib()
release_memory()
print(before - mib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_goes_back_to_the_kernel() -> None:
    process = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=False)
    if process.returncode and "no malloc_trim" in process.stderr:
        pytest.skip("the C library has no malloc_trim")
    assert float(process.stdout) > 100, process.stderr


def windows(name: None) -> object:
    raise TypeError("bad argument type for built-in operation")


@pytest.mark.parametrize("library", [lambda name: object(), windows])
@pytest.mark.parametrize("ask", [compute.release_memory, compute.keep_memory])
def test_other_c_libraries_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], None], library: Callable[[None], object]
) -> None:
    monkeypatch.setattr("ctypes.CDLL", library)
    ask()
