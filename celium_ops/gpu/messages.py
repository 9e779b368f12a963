"""What a prover may say, checked as it comes in: it runs on somebody else's machine, and may say anything."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

MOST_CARDS = 32


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def printable(text: Any) -> Any:
    """Return a text without what a terminal would obey."""
    return "".join(filter(str.isprintable, text)) if isinstance(text, str) else text


Name = Annotated[str, BeforeValidator(printable), Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Clock = Annotated[float, Field(ge=1, le=1e5, allow_inf_nan=False)]
Watts = Annotated[float, Field(ge=1e-3, le=1e5, allow_inf_nan=False)]
Celsius = Annotated[float, Field(ge=-100, le=1000, allow_inf_nan=False)]
Speed = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
Blob = Annotated[bytes, BeforeValidator(_decoded)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Pci(_Part):
    """Where a card is on the bus, and which board it is."""

    address: Name
    board: Name


class RemappedRows(_Part):
    """Faulty rows of a card's memory."""

    pending: bool
    failed: bool


class Card(_Part):
    """A card as NVML has it, as far as anything here looks at it; null is what it does not tell."""

    uuid: Name | None
    name: Name | None
    pci: Pci | None
    memory_mib: Count | None
    held_mib: Count | None
    capability: Name | None
    cores: Count | None
    max_sm_clock_mhz: Clock | None
    utilisation: Count | None
    memory_utilisation: Count | None
    processes: list[Any] | None
    power_limit_w: Watts | None
    default_power_limit_w: Watts | None
    max_pcie_lanes: Count | None
    ecc_uncorrected: Count | None
    remapped_rows: RemappedRows | None


class Library(_Part):
    """The file that answered for NVML."""

    path: Name
    sha256: Name


class Nvml(_Part):
    """NVML's view of a host."""

    driver: Name | None
    count: Count
    library: Library | None
    cards: Annotated[list[Card], Field(max_length=MOST_CARDS)]


class KernelCard(_Part):
    """A card as the kernel's driver has it."""

    uuid: Name
    name: Name
    address: Name


class BusCard(_Part):
    """A board on the PCI bus."""

    address: Name
    board: Name


class TorchCard(_Part):
    """A card as CUDA has it."""

    uuid: Name | None
    name: Name
    sm: Count
    memory_mib: Count
    capability: Name


class Hello(_Part):
    """How a prover presents itself."""

    protocol: Literal["celium-ops/gpu-proof/1"]
    mode: Literal["cuda", "cpu", "simulated"]
    about: dict[Name, Name | None] = {}
    nvml: Nvml | None
    kernel: Annotated[list[KernelCard], Field(max_length=MOST_CARDS)] | None
    bus: Annotated[list[BusCard], Field(max_length=MOST_CARDS)] | None
    tampering: Annotated[list[Name], Field(max_length=MOST_CARDS)]
    cards: Annotated[list[Name], Field(max_length=MOST_CARDS)]

    @field_validator("cards")
    @classmethod
    def _once(cls, cards: list[str]) -> list[str]:
        if len(set(cards)) != len(cards):
            raise ValueError("a card stands twice")
        return cards


class Look(_Part):
    """All cards that CUDA has."""

    torch: Annotated[list[TorchCard], Field(max_length=MOST_CARDS)] | None


class Room(_Part):
    """How many layers a card has memory for, by the rows of their matrices."""

    room: dict[int, Annotated[int, Field(ge=1)]]


class Done(_Part):
    """It is done."""


class Commitment(_Part):
    """A digest of the digests of all layers: little to send, so that its time tells of the card, not of the way."""

    digest: Blob


class Digests(_Part):
    """The digests of all layers."""

    digests: Blob


class Openings(_Part):
    """What was asked to be seen."""

    openings: list[list[Blob]]


class Report(_Part):
    """What a chain measured of itself.

    Attributes:
        seconds: from its first product to its last.
        tflops: the median of its products alone.
        wrong_rows: rows of products whose sums were wrong.
        changed_rows: rows that changed while they were stored.
    """

    seconds: Speed
    tflops: Speed
    wrong_rows: Count
    changed_rows: Count


class Measures(_Part):
    """Other speeds; null is what was not measured."""

    copy_gb_s: Speed | None = None
    fp32_tflops: Speed | None = None
    fp64_tflops: Speed | None = None
    to_card_gb_s: Speed | None = None
    from_card_gb_s: Speed | None = None
    launch_us: Speed | None = None


class Measured(_Part):
    """Some of them."""

    measures: Measures


class CardLoad(_Part):
    """What NVML had to say of a card while it worked."""

    sm_clock_mhz: Clock | None
    power_w: Watts | None
    temperature_c: Celsius | None
    pcie_generation: Count | None
    pcie_lanes: Count | None
    slowed_by: dict[Name, Annotated[float, Field(ge=0, le=1)]]


class Load(_Part):
    """The same of all cards."""

    cards: Annotated[dict[Name, CardLoad], Field(max_length=MOST_CARDS)]


class Link(_Part):
    """The speed from one card to another."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    source: Annotated[Name, Field(alias="from")]
    to: Name
    gb_s: Speed


class Links(_Part):
    """All of them."""

    links: Annotated[list[Link], Field(max_length=MOST_CARDS**2)]


class Read(_Part):
    """NVML's view, once more."""

    nvml: Nvml | None


class Failed(_Part):
    """A card gave up."""

    code: Name
    message: Annotated[str, BeforeValidator(printable), Field(max_length=2000)]
