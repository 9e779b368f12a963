"""What the driver says of each card, through NVML. It runs in the prover: standard library and ``pynvml``, no more.

A reading that a card, a driver or a permission does not give is ``unsupported``, which is never a fault: GeForce has
no ECC, old drivers lack functions. One that should be there and is not, or cannot be true, is an error of its own; the
others are taken all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_MIB = 2**20
_LARGEST = {
    "temperature_c": 150,
    "utilisation": 100,
    "memory_utilisation": 100,
    "power_w": 5_000,
    "sm_clock_mhz": 10_000,
}
"""A broken card answers with the largest number there is, and says that all is well."""
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display",
}
"""Why a card clocks lower than it could; bits, of which several may be set."""

Reading = Callable[[Any, Any], Any]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pci(nvml: Any, handle: Any) -> dict[str, Any]:
    info = nvml.nvmlDeviceGetPciInfo(handle)
    # The device is in the upper half, the vendor in the lower one.
    board, subsystem = (
        f"{number & 0xFFFF:04X}:{number >> 16:04X}" for number in (info.pciDeviceId, info.pciSubSystemId)
    )
    return {"address": _text(info.busId).lower()[-12:], "board": board, "subsystem": subsystem}


def _processes(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    found = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in ask(handle):
            found[process.pid] = None if process.usedGpuMemory is None else process.usedGpuMemory // _MIB
    return [{"pid": pid, "mib": mib} for pid, mib in sorted(found.items())]


def _remapped(nvml: Any, handle: Any) -> dict[str, Any]:
    corrected, uncorrected, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return {"corrected": corrected, "uncorrected": uncorrected, "pending": bool(pending), "failed": bool(failed)}


def _ecc(kind: str, counter: str) -> Reading:
    def read(nvml: Any, handle: Any) -> int:
        kinds = (getattr(nvml, f"NVML_MEMORY_ERROR_TYPE_{kind}"), getattr(nvml, f"NVML_{counter}_ECC"))
        return int(nvml.nvmlDeviceGetTotalEccErrors(handle, *kinds))

    return read


def _clock(name: str, ask: str) -> Reading:
    return lambda nvml, handle: getattr(nvml, f"nvmlDeviceGet{ask}")(handle, getattr(nvml, f"NVML_CLOCK_{name}"))


def _plain(function: str, change: Callable[[Any], Any] = lambda value: value) -> Reading:
    return lambda nvml, handle: change(getattr(nvml, f"nvmlDeviceGet{function}")(handle))


def _watts(milliwatts: int) -> float:
    return milliwatts / 1000


READINGS: dict[str, Reading] = {
    "uuid": _plain("UUID", _text),
    "name": _plain("Name", _text),
    "pci": _pci,
    "memory_mib": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB,
    "held_mib": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used // _MIB,
    "capability": _plain("CudaComputeCapability", lambda value: "{}.{}".format(*value)),
    "cores": _plain("NumGpuCores"),
    "bus_bits": _plain("MemoryBusWidth"),
    "memory_clock_mhz": _clock("MEM", "MaxClockInfo"),
    "max_sm_clock_mhz": _clock("SM", "MaxClockInfo"),
    "sm_clock_mhz": _clock("SM", "ClockInfo"),
    "vbios": _plain("VbiosVersion", _text),
    "serial": _plain("Serial", _text),
    "pdi": _plain("Pdi", lambda value: f"{int(getattr(value, 'value', value)):#018x}"),
    "module": _plain("ModuleId"),
    "utilisation": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "memory_utilisation": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).memory,
    "processes": _processes,
    "temperature_c": lambda nvml, handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    "power_w": _plain("PowerUsage", _watts),
    "power_limit_w": _plain("PowerManagementLimit", _watts),
    "default_power_limit_w": _plain("PowerManagementDefaultLimit", _watts),
    "energy_j": _plain("TotalEnergyConsumption", _watts),
    "slowed_by": _plain(
        "CurrentClocksEventReasons", lambda bits: [word for bit, word in REASONS.items() if bits & bit]
    ),
    "pcie_generation": _plain("CurrPcieLinkGeneration"),
    "pcie_lanes": _plain("CurrPcieLinkWidth"),
    "max_pcie_generation": _plain("MaxPcieLinkGeneration"),
    "max_pcie_lanes": _plain("MaxPcieLinkWidth"),
    "pcie_replays": _plain("PcieReplayCounter"),
    "persistence": _plain("PersistenceMode", bool),
    "compute_mode": _plain("ComputeMode"),
    "display": _plain("DisplayActive", bool),
    "mig": _plain("MigMode", lambda value: bool(value[0])),
    "ecc": _plain("EccMode", lambda value: bool(value[0])),
    "ecc_uncorrected": _ecc("UNCORRECTED", "VOLATILE"),
    "ecc_uncorrected_ever": _ecc("UNCORRECTED", "AGGREGATE"),
    "remapped_rows": _remapped,
}
"""What is read of each card, by the name it has in reports."""


def read(nvml: Any) -> dict[str, Any]:
    """Return the driver and its cards.

    ``nvml`` is the module ``pynvml``, initialised. Each card has every key of ``READINGS``, null where there is no
    reading, beside the lists ``unsupported`` and ``errors`` that say why.

    Raises:
        pynvml.NVMLError: not even the number of cards can be read.
    """
    count = nvml.nvmlDeviceGetCount()
    host: dict[str, Any] = {"unsupported": [], "errors": {}}
    for name, ask in (
        ("driver", lambda: _text(nvml.nvmlSystemGetDriverVersion())),
        ("nvml", lambda: _text(nvml.nvmlSystemGetNVMLVersion())),
        ("cuda", lambda: "{}.{}".format(*divmod(nvml.nvmlSystemGetCudaDriverVersion_v2() // 10, 100))),
    ):
        host[name] = _take(nvml, name, ask, host)
    return {**host, "count": count, "library": library(), "cards": [_card(nvml, index) for index in range(count)]}


def _card(nvml: Any, index: int) -> dict[str, Any]:
    card: dict[str, Any] = {"index": index, "unsupported": [], "errors": {}}
    handle = _take(nvml, "handle", partial(nvml.nvmlDeviceGetHandleByIndex, index), card)
    for name, reading in READINGS.items():
        card[name] = None if handle is None else _take(nvml, name, partial(reading, nvml, handle), card)
    return card


def _take(nvml: Any, name: str, ask: Callable[[], Any], into: dict[str, Any]) -> Any:
    """Return a reading; note why there is none."""
    try:
        value = ask()
    except nvml.NVMLError as error:
        absent = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION)
        if error.value in absent:
            into["unsupported"].append(name)
        else:
            into["errors"][name] = str(error)
        return None
    except (AttributeError, getattr(nvml, "NVMLLibraryMismatchError", AttributeError)):
        into["unsupported"].append(name)  # pynvml is older, or newer, than the driver
        return None
    if name in _LARGEST and not 0 <= value <= _LARGEST[name]:
        into["errors"][name] = f"{value} cannot be"
        return None
    return value


def library(maps: Path = Path("/proc/self/maps")) -> dict[str, str] | None:
    """Return path and digest of the NVML library that this process has loaded; null when none is."""
    found = re.search(r"(/\S*libnvidia-ml\.so\S*)", maps.read_text())
    if found is None:
        return None
    path = Path(found.group(1))
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
