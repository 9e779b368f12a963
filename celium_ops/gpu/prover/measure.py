"""Speeds that a card reaches beside the chain: they are reported, not proven."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_GIB, _MIB = 2**30, 2**20
_SAMPLES = 30
_SECONDS = 0.3
"""How long each precision is measured."""
_SIZE = 4096


def memory() -> dict[str, Any]:
    """Return the GB/s of copies within the card's memory, read and written bytes together."""
    source, target = (torch.rand(_GIB // 4, dtype=torch.float32, device="cuda") for _ in range(2))
    return {"copy_gb_s": 2 * _GIB / _median(lambda: target.copy_(source), _SAMPLES) / 1e9}


def precisions() -> dict[str, float]:
    """Return the TFLOPS of products in fp32, without tensor cores, and in fp64."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return {
            "fp32_tflops": _products(torch.float32),
            "fp64_tflops": _products(torch.float64),
        }
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _products(dtype: Any) -> float:
    left, right = (torch.rand((_SIZE, _SIZE), dtype=dtype, device="cuda") for _ in range(2))
    _median(lambda: torch.mm(left, right), 2)
    once = _median(lambda: torch.mm(left, right), 1)
    times = max(3, min(200, int(_SECONDS / once)))
    return 2 * _SIZE**3 / _median(lambda: torch.mm(left, right), times) / 1e12


def bus() -> dict[str, float]:
    """Return the GB/s to and from the card, and the microseconds that starting and awaiting the least work takes."""
    here = torch.empty(256 * _MIB, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(here, device="cuda")
    size = here.numel()
    tiny = torch.zeros(1, device="cuda")

    def launch() -> None:
        tiny.add_(1)
        torch.cuda.synchronize()

    return {
        "to_card_gb_s": size / _median(lambda: there.copy_(here, non_blocking=True), 8) / 1e9,
        "from_card_gb_s": size / _median(lambda: here.copy_(there, non_blocking=True), 8) / 1e9,
        "launch_us": _wall(launch, 200) * 1e6,
    }


def links() -> list[dict[str, Any]]:
    """Return the GB/s of copies from each card to each other one, by their UUIDs."""
    count = torch.cuda.device_count()
    names = [f"GPU-{torch.cuda.get_device_properties(card).uuid}" for card in range(count)]
    buffers = [torch.empty(256 * _MIB, dtype=torch.uint8, device=f"cuda:{card}") for card in range(count)]
    found = []
    for source in range(count):
        for target in (other for other in range(count) if other != source):

            def copy(source: int = source, target: int = target) -> None:
                buffers[target].copy_(buffers[source], non_blocking=True)
                torch.cuda.synchronize(source)
                torch.cuda.synchronize(target)

            speed = buffers[source].numel() / _wall(copy, 8) / 1e9
            found.append({"from": names[source], "to": names[target], "gb_s": speed})
    return found


def _median(work: Callable[[], object], times: int) -> float:
    """Return the median seconds of some work on the card, by the card's clock; the first time does not count."""
    work()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return float(statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(events))) / 1000


def _wall(work: Callable[[], object], times: int) -> float:
    work()
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)
