"""The reference table: what each card is and reaches, and what a measured speed says about it. Pure.

Speed is judged in two factors, since one number of TFLOPS mixes up a wrong card with one that may draw less power: what
a card does in each clock of each of its multiprocessors tells which silicon it is, and how fast it clocks under load
tells how it is powered and cooled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from celium_ops.base.checks import Status

EFFICIENCY_WARN, EFFICIENCY_FAIL = 0.60, 0.48
"""Of what a multiprocessor can do in a clock; a product of one fixed shape reaches 0.8 to 0.9 of the best shape's.

Dies of half the rate reach 0.94 of theirs, 0.47 of what they pass for (L40 for L40S, 4090 for 6000 Ada); genuine full
ones 0.53 and more."""
CLOCK_WARN = 0.90
"""Of the clock at which the sheet's throughput holds; below it a card is capped, or too hot."""
TOO_FAST = 1.03
"""Of what is possible at the card's highest clock; more than that was not measured but made up."""
BANDWIDTH_TOO_FAST = 1.02


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Record):
    """Where a value begins to be doubtful, and where it is wrong; an ``estimate`` comes from no measurement."""

    warn: float
    fail: float
    estimate: bool = False


class Card(_Record):
    """One model, by the name that NVML has for it.

    Attributes:
        pci: vendor and device of the boards, in hexadecimal digits.
        capability: CUDA's compute capability, or the name of AMD's architecture.
        sm: multiprocessors.
        memory_mib: what NVML shows; two values where ECC takes a part of it.
        bandwidth_gb_s: of the sheet.
        tflops: dense, 16 bit with sums in fp32, of the sheet; the other two without tensor cores.
        flop_per_clock_per_sm: floating-point operations in 16 bit with sums in fp32.
        clock_mhz: at which ``tflops`` holds; ``circular`` when it was worked out from them.
        best_tflops: the most that anybody measured.
        pcie: generation and lanes.
        throughput: limits in TFLOPS after 5 s of steady load.
        bandwidth: limits in GB/s of copies, read and written bytes together.
        sources: keys of the table's list.
        p2p_gb_s: the least between two of them over NVLink, where they have it.
        unsure: fields that no source of the vendor's confirms: hints, never a reason to fail.
    """

    name: str
    pci: tuple[str, ...]
    capability: str
    sm: int
    memory_mib: tuple[int, ...]
    bandwidth_gb_s: float
    bus_bits: int
    tflops: float
    fp32_tflops: float
    fp64_tflops: float
    flop_per_clock_per_sm: int
    clock_mhz: int | None = None
    circular: bool = False
    best_tflops: float | None = None
    pcie: tuple[int, int]
    watts: int
    throughput: Limits | None = None
    bandwidth: Limits
    p2p_gb_s: float | None = None
    sources: Annotated[tuple[str, ...], Field(alias="from")]
    unsure: tuple[str, ...] = ()

    def ceiling(self, clock_mhz: float) -> float:
        """Return the TFLOPS that its silicon can do at a clock."""
        return self.sm * self.flop_per_clock_per_sm * clock_mhz / 1e6


class _Table(_Record):
    schema_: Literal["celium-ops/cards/1"] = Field(alias="schema")
    date: object
    cards: tuple[Card, ...]
    others: dict[str, str]


@dataclass(frozen=True)
class Speed:
    """What a measured throughput says: the work in each clock, the clock, and what to make of them.

    ``efficiency`` is of what the silicon can do at the clock that was observed; ``clock_share`` is that clock's part of
    the sheet's, null where the sheet's is not known.
    """

    status: Status
    efficiency: float
    clock_share: float | None
    message: str


@functools.cache
def _table() -> _Table:
    text = resources.files(__package__).joinpath("cards.yml").read_text()
    return _Table.model_validate(yaml.load(text, Loader=yaml.CSafeLoader))


def cards() -> tuple[Card, ...]:
    """Return all cards that are known."""
    return _table().cards


def find(name: str) -> Card | None:
    """Return a card by the name that NVML has for it; an unknown one is measured, not failed."""
    return next((card for card in cards() if card.name == name), None)


def named_by_board(pci: str) -> str | None:
    """Return the name that belongs to a board (vendor:device), whatever it calls itself; null if unknown."""
    known = next((card.name for card in cards() if pci.upper() in card.pci), None)
    return known or _table().others.get(pci.upper())


def judge_throughput(card: Card, tflops: float, clock_mhz: float, max_clock_mhz: float) -> Speed:
    """Return what a steady throughput says of a card.

    Args:
        card: what it says it is.
        tflops: median of at least 5 s of products in 16 bit with sums in fp32.
        clock_mhz: the multiprocessors' clock during them, as observed.
        max_clock_mhz: the highest that NVML has for the card.
    """
    if clock_mhz <= 0 or max_clock_mhz <= 0 or tflops < 0:
        return Speed(
            "error", 0.0, None, f"{clock_mhz:g} of {max_clock_mhz:g} MHz and {tflops:g} TFLOPS are no measurement"
        )
    efficiency = tflops / card.ceiling(clock_mhz)
    share = clock_mhz / card.clock_mhz if card.clock_mhz else None
    if tflops > TOO_FAST * card.ceiling(max_clock_mhz):
        most = f"{card.ceiling(max_clock_mhz):.0f} TFLOPS are possible at {max_clock_mhz:g} MHz"
        return Speed("fail", efficiency, share, f"{tflops:.0f} TFLOPS are more than the card can do: {most}")
    said = f"{tflops:.0f} TFLOPS, {efficiency:.0%} of what {card.name} does at {clock_mhz:.0f} MHz"
    if efficiency < EFFICIENCY_FAIL:
        return Speed("fail", efficiency, share, f"{said}: other silicon than its name says, or it is shared")
    if efficiency < EFFICIENCY_WARN:
        return Speed("warn", efficiency, share, f"{said}: less than is usual")
    if share is not None and share < CLOCK_WARN:
        return Speed("warn", efficiency, share, f"{said}, which is {share:.0%} of its clock: capped, or too hot")
    return Speed("pass", efficiency, share, said)


def judge_bandwidth(card: Card, gb_s: float) -> tuple[Status, str]:
    """Return what the bandwidth of copies within a card's memory (read and written bytes together) says of it."""
    said = f"{gb_s:.0f} GB/s, {gb_s / card.bandwidth_gb_s:.0%} of the sheet's {card.bandwidth_gb_s:g}"
    if gb_s > BANDWIDTH_TOO_FAST * card.bandwidth_gb_s:
        return "error", f"{said}: no memory of this card is that fast, so the caches were measured, or nothing was"
    if gb_s < card.bandwidth.fail:
        return "fail", said
    return ("warn" if gb_s < card.bandwidth.warn else "pass"), said
