"""Whether the cards are what they say: four views of them, and the reference table, have to agree. Pure.

A library that pretends to be NVML is a few lines of C. To agree with it the kernel's driver, the PCI bus and CUDA would
have to be deceived too. A patched kernel driver does that, and so does a prover that was changed, as all views come
through it: nothing here would notice, which is what the proof of work is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celium_ops.base.checks import Check
from celium_ops.gpu.reference import Card, find, named_by_board

View = Sequence[Mapping[str, Any]]

TORCH_MEMORY = (0.96, 1.0)
"""CUDA keeps a part of a card's memory for itself: torch shows at most 4 % less than NVML."""
MEMORY = 0.03
"""Drivers differ in what they keep for themselves."""
CORES = {"7.0": 64, "7.5": 64, "8.0": 64}
"""FP32 lanes of a multiprocessor, by compute capability; all others have 128."""


@dataclass(frozen=True)
class Views:
    """What was seen of a host's cards. A view that could not be had is null.

    Args:
        nvml: what ``nvml.read`` returns.
        kernel: what ``views.kernel_view`` returns.
        bus: what ``views.bus_view`` returns.
        torch: what ``views.torch_view`` returns.
        tampering: what ``views.tampering`` returns.
    """

    nvml: Mapping[str, Any]
    kernel: View | None
    bus: View | None
    torch: View | None
    tampering: Sequence[str] = ()


_FAKE = (
    "something pretends to be the driver (look for LD_PRELOAD, LD_LIBRARY_PATH, files over libnvidia-ml.so), "
    "or the card was sold as what it is not"
)


def cross_check(views: Views) -> list[Check]:
    """Return what agrees and what does not."""
    return [*_host(views), *(check for card in views.nvml["cards"] for check in _of_card(card, views))]


def _host(views: Views) -> Iterator[Check]:
    uuids = [card["uuid"] for card in views.nvml["cards"]]
    yield _is("gpu.tampering", "nothing is between programs and the driver", "; ".join(views.tampering) or None, None)
    twice = sorted({uuid for uuid in uuids if uuids.count(uuid) > 1})
    yield _is("gpu.uuids", "every card has a UUID of its own", ", ".join(map(str, twice)) or None, None)
    for name, view in (("kernel", views.kernel), ("bus", views.bus), ("torch", views.torch)):
        if view is None:
            yield Check(f"gpu.count.{name}", "unknown", f"the cards of the {name} view could not be seen")
        else:
            yield _is(
                f"gpu.count.{name}", f"NVML and {_WHO[name]} have the same number of cards", len(uuids), len(view)
            )


_WHO = {"kernel": "the kernel's driver", "bus": "the PCI bus", "torch": "CUDA"}


def _of_card(card: Mapping[str, Any], views: Views) -> Iterator[Check]:
    uuid, reference = card["uuid"], find(str(card["name"]))
    yield from (_about(check, uuid) for check in _board(card, views, reference))
    yield from (_about(check, uuid) for check in _silicon(card, views, reference))


def _board(card: Mapping[str, Any], views: Views, reference: Card | None) -> Iterator[Check]:
    """The kernel, the bus and the table on which board it is."""
    pci = card["pci"] or {}
    if views.kernel is not None:
        same = next((one for one in views.kernel if one["uuid"] == card["uuid"]), None)
        yield _is("gpu.kernel", "the kernel's driver has the card by its UUID", "it does" if same else "no", "it does")
        if same:
            yield _is("gpu.kernel.name", "and by its name", card["name"], same["name"])
    if views.bus is not None and pci:
        boards = {one["address"]: one["board"] for one in views.bus}
        yield _is("gpu.bus", "the board is on the PCI bus", pci["board"], boards.get(pci["address"], "nothing there"))
    own = named_by_board(pci.get("board", ""))
    if own is None:
        yield Check("gpu.name", "unknown", f"no board {pci.get('board')} is in the table of cards", str(card["name"]))
    else:
        yield _is("gpu.name", "its name belongs to its board", card["name"], own)
    if reference is None:
        yield Check("gpu.model", "unknown", "the model is not in the table of cards: it is measured, not judged")
    else:
        yield _is("gpu.capability", "its compute capability is its model's", card["capability"], reference.capability)
        if "memory_mib" not in reference.unsure:
            yield _sized(card["memory_mib"], reference)


def _silicon(card: Mapping[str, Any], views: Views, reference: Card | None) -> Iterator[Check]:
    """CUDA and the table on what is in it."""
    if views.torch is None:
        return
    seen = next((one for one in views.torch if one["uuid"] == card["uuid"]), None)
    if seen is None:
        yield _is("gpu.torch", "CUDA has the card by its UUID", "no", "it does")
        return
    yield _is("gpu.torch.name", "CUDA has it by its name", card["name"], seen["name"])
    yield _is("gpu.torch.capability", "and with its compute capability", card["capability"], seen["capability"])
    low, high = (bound * (card["memory_mib"] or 0) for bound in TORCH_MEMORY)
    required = f"{low:.0f} to {high:.0f} MiB"
    measured = required if low <= seen["memory_mib"] <= high else f"{seen['memory_mib']} MiB"
    yield _is("gpu.torch.memory", "and with its memory", measured, required)
    if card["cores"] is not None:
        lanes = CORES.get(seen["capability"], 128)
        yield _is("gpu.cores", "NVML's cores are those of CUDA's multiprocessors", card["cores"], seen["sm"] * lanes)
    if reference is not None and "sm" not in reference.unsure:
        yield _is("gpu.sm", "its multiprocessors are its model's; a slice has fewer", seen["sm"], reference.sm)


def _sized(mib: int | None, reference: Card) -> Check:
    what = "its memory is its model's"
    required = " or ".join(f"about {size} MiB" for size in reference.memory_mib)
    if mib is None:
        return Check("gpu.memory", "unsupported", f"{what}: NVML does not tell", None, required)
    if any(abs(mib - size) <= MEMORY * size for size in reference.memory_mib):
        return Check("gpu.memory", "pass", what, f"{mib} MiB", required)
    return Check("gpu.memory", "fail", f"{what}: {mib} MiB, not {required}", f"{mib} MiB", required, _FAKE)


def _is(id_: str, what: str, measured: object, *required: object) -> Check:
    """Return whether a value is one of those that are required; a value that NVML does not have is unsupported."""
    wanted = " or ".join("nothing" if value is None else str(value) for value in required)
    if measured in required:
        return Check(id_, "pass", what, None if measured is None else str(measured), wanted)
    if measured is None:
        return Check(id_, "unsupported", f"{what}: NVML does not tell", None, wanted)
    return Check(id_, "fail", f"{what}: {measured}, not {wanted}", str(measured), wanted, _FAKE)


def _about(check: Check, uuid: str | None) -> Check:
    return replace(check, card=uuid)
