"""One reading of a subnet as plain data: the adapter gives it, `chain snapshot` writes it, the lab's node loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from celium_ops.base.errors import UsageError
from celium_ops.base.files import write_atomic

# Amounts are exact: whole rao, 10^9 of them are one TAO or one alpha.
Rao = Annotated[int, Field(ge=0, lt=2**64)]
Block = Annotated[int, Field(ge=0)]
Share16 = Annotated[int, Field(ge=0, le=65535)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Neuron(_Record):
    """One UID. ``total_stake`` is its stake weight; the other two stakes are what it is made of, before inheritance."""

    uid: Share16
    hotkey: str
    coldkey: str
    active: bool
    validator_permit: bool
    last_update: Block
    registered_at: Block
    incentive: Share16
    dividends: Share16
    emission: Rao
    alpha_stake: Rao
    tao_stake: Rao
    total_stake: Rao
    axon: str | None = None


class Subnet(_Record):
    """The subnet's own settings; every duration is in blocks."""

    name: str
    symbol: str
    owner_hotkey: str
    owner_coldkey: str
    registered_at: Block
    tempo: Block
    last_step: Block
    max_uids: int
    max_validators: int
    immunity_period: Block
    activity_cutoff: Block
    min_non_immune_uids: int
    immune_owner_uids_limit: int
    registration_allowed: bool
    burn: Rao


class Snapshot(_Record):
    """One subnet at one block. ``tao_weight`` is the chain's: of 2^64 - 1; ``block_time`` is the block's own."""

    schema_: Literal["celium-ops/chain-snapshot/1"] = Field(default="celium-ops/chain-snapshot/1", alias="schema")
    network: str
    genesis: Annotated[str, Field(pattern="^0x[0-9a-f]{64}$")]
    spec_version: int
    block: Block
    block_time: AwareDatetime
    netuid: Share16
    tao_weight: Annotated[int, Field(ge=0, lt=2**64)]
    stake_threshold: Rao
    subnet: Subnet
    neurons: tuple[Neuron, ...]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name in ("uid", "hotkey"):
            values = [getattr(neuron, name) for neuron in self.neurons]
            if len(set(values)) != len(values):
                raise ValueError(f"a {name} stands twice among the neurons")
        return self


def load(file: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        UsageError: it cannot be read, or is no snapshot.
    """
    try:
        return Snapshot.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", file=str(file)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{file} is no chain snapshot: {where}: {first['msg']}",
            file=str(file),
            remedy="write one with: celium-ops chain snapshot FILE",
        ) from error


def save(snapshot: Snapshot, file: Path) -> None:
    """Write a snapshot; whoever reads ``file`` meanwhile sees the old one or the new one, whole."""
    write_atomic(file, snapshot.model_dump_json(by_alias=True, indent=1) + "\n")
