"""What others than NVML say of the cards: the kernel's driver, the PCI bus, torch. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NVIDIA, _DISPLAY = "0x10de", "0x03"
INJECTIONS = ("LD_PRELOAD", "CUDA_INJECTION64_PATH", "CUDA_INJECTION32_PATH", "NVTX_INJECTION64_PATH", "LD_AUDIT")
"""Variables with which a foreign library gets between a program and the driver."""


def kernel_view(root: Path = Path("/")) -> list[dict[str, str]] | None:
    """Return the cards that the kernel's driver has, with ``uuid``, ``name``, PCI ``address``; null without one."""
    folder = root / "proc/driver/nvidia/gpus"
    if not folder.is_dir():
        return None
    found = []
    for file in sorted(folder.glob("*/information")):
        lines = (line.partition(":") for line in file.read_text().splitlines())
        said = {key.strip(): value.strip() for key, _, value in lines}
        found.append(
            {"uuid": said.get("GPU UUID", ""), "name": said.get("Model", ""), "address": file.parent.name.lower()}
        )
    return found


def bus_view(root: Path = Path("/")) -> list[dict[str, str]] | None:
    """Return NVIDIA's display devices on the PCI bus, with ``address`` and ``board`` (vendor:device).

    It is null where no bus is to be seen at all, as in WSL.
    """
    devices, found = sorted((root / "sys/bus/pci/devices").glob("*")), []
    if not devices:
        return None
    for device in devices:
        vendor, kind, number = (_line(device / name) for name in ("vendor", "class", "device"))
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            found.append({"address": device.name.lower(), "board": f"10DE:{number[2:].upper()}"})
    return found


def torch_view(torch: Any) -> list[dict[str, Any]]:
    """Return the cards that torch has, in its order; it has no PCI ids."""
    found = []
    for index in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(index)
        found.append(
            {
                "uuid": f"GPU-{seen.uuid}" if hasattr(seen, "uuid") else None,
                "name": seen.name,
                "sm": seen.multi_processor_count,
                "memory_mib": seen.total_memory // 2**20,
                "capability": f"{seen.major}.{seen.minor}",
                "bus_bits": getattr(seen, "memory_bus_width", None),
            }
        )
    return found


def tampering(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what stands between a program and the driver: preloads and injections."""
    found = [f"{name}={environment[name]}" for name in INJECTIONS if environment.get(name)]
    preload = root / "etc/ld.so.preload"
    if preload.exists() and preload.read_text().strip():
        found.append(f"/etc/ld.so.preload: {preload.read_text().split()[0]}")
    return found


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
