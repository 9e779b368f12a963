"""What NVML says of the cards while they work: clocks, power, temperature, and what slows them."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

from celium_ops.gpu.nvml import READINGS

_EVERY = 0.1
_WATCHED = ("sm_clock_mhz", "power_w", "temperature_c", "slowed_by", "pcie_generation", "pcie_lanes")


class Load:
    """Looks ten times a second, from ``start`` to ``stop``. ``nvml`` is the module ``pynvml``, initialised, or null."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.samples: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def start(self) -> None:
        """Begin to look, and forget what was seen before."""
        self.stop()
        # One that hangs in the driver goes on with what is its own.
        self.over, self.samples = threading.Event(), defaultdict(list)
        if self.nvml is not None:
            self.thread = threading.Thread(target=self._look, args=(self.over, self.samples), daemon=True)
            self.thread.start()

    def stop(self) -> dict[str, dict[str, Any]]:
        """Return what was seen of each card, by UUID: medians, extremes, and the share of looks that each cause had."""
        self.over.set()
        if self.thread:
            self.thread.join(2)
        return {uuid: _summary(samples) for uuid, samples in list(self.samples.items())}

    def _look(self, over: threading.Event, into: dict[str, list[dict[str, Any]]]) -> None:
        handles = [self.nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self.nvml.nvmlDeviceGetCount())]
        uuids = [READINGS["uuid"](self.nvml, handle) for handle in handles]
        while not over.wait(_EVERY):
            for uuid, handle in zip(uuids, handles, strict=True):
                sample = {}
                for name in _WATCHED:
                    with suppress(self.nvml.NVMLError, AttributeError):
                        sample[name] = READINGS[name](self.nvml, handle)
                into[uuid].append(sample)


def _summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    def seen(name: str) -> list[Any]:
        return [sample[name] for sample in samples if name in sample]

    # The first looks were at a card that had not begun.
    busy = seen("sm_clock_mhz")[len(samples) // 5 :]
    causes = Counter(cause for sample in seen("slowed_by") for cause in sample)
    return {
        "sm_clock_mhz": statistics.median(busy) if busy else None,
        "power_w": max(seen("power_w"), default=None),
        "temperature_c": max(seen("temperature_c"), default=None),
        "pcie_generation": max(seen("pcie_generation"), default=None),
        "pcie_lanes": max(seen("pcie_lanes"), default=None),
        "slowed_by": {cause: count / len(samples) for cause, count in causes.items()},
    }
