"""What the simulated chain is at any moment: a snapshot, a clock that makes blocks of it, and a fault, if it has one.

It is one file, replaced whole: whoever commands the chain writes it, the node watches it, and a restart changes
nothing. A head is computed from the clock, so no block is ever lost or made twice.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.chain.snapshot import Neuron, Snapshot
from celium_ops.lab.chain.faults import STILL_SECONDS, Fault, distorted

BLOCK_SECONDS = 12.0
"""What a block of the real chain takes."""


class State(BaseModel):
    """The chain. Its head was ``block`` at ``since``, and has grown since then.

    Attributes:
        snapshot: the subnet, as it was set.
        block: never below that of the snapshot, nor below a head that was shown before: a chain does not go back.
        since: when ``block`` was made.
        block_seconds: what a block takes; None for a chain whose blocks are made by ``grown`` alone.
        fault: how it misbehaves.
        fault_block: the head when the fault began.
        set_by_hand: the snapshot was chosen by somebody; ``lab up`` then keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["celium-ops/lab-chain/1"] = Field(default="celium-ops/lab-chain/1", alias="schema")
    snapshot: Snapshot
    block: int
    since: AwareDatetime
    block_seconds: float | None = BLOCK_SECONDS
    fault: Fault | None = None
    fault_block: int | None = None
    set_by_hand: bool = False

    @classmethod
    def begun(cls, snapshot: Snapshot, now: datetime, block_seconds: float | None = BLOCK_SECONDS) -> State:
        """Return a chain whose head is the snapshot's block: at this moment, or at the block's own when time stands."""
        since = now if block_seconds else snapshot.block_time
        return cls(snapshot=snapshot, block=snapshot.block, since=since, block_seconds=block_seconds)

    def head(self, now: datetime) -> int:
        """Return the number of the newest block."""
        if self.fault is Fault.STILL and self.fault_block is not None:
            return self.fault_block
        if not self.block_seconds:
            return self.block
        return self.block + max(0, int((now - self.since).total_seconds() / self.block_seconds))

    def seconds_to_next(self, now: datetime) -> float | None:
        """Return when the next block is due; None when none is."""
        if self.fault is Fault.STILL or not self.block_seconds:
            return None
        return (self._due(self.head(now) + 1) - now).total_seconds()

    def time_of(self, block: int) -> datetime:
        """Return the time of a block, as the chain shows it."""
        return self._due(block) - timedelta(seconds=STILL_SECONDS if self.fault is Fault.STILL else 0)

    def _due(self, block: int) -> datetime:
        return self.since + timedelta(seconds=(block - self.block) * (self.block_seconds or BLOCK_SECONDS))

    def at(self, block: int) -> Snapshot:
        """Return the subnet at a block: as it was set, with the epochs passed since, and distorted by the fault."""
        passed = _after(self.snapshot, block, self.time_of(block))
        return distorted(passed, self.fault, block)

    def with_snapshot(self, snapshot: Snapshot, now: datetime, *, by_hand: bool = True) -> State:
        """Return the chain from here on with another snapshot; its fault stays."""
        fresh = State.begun(snapshot, now, self.block_seconds)
        head = self.head(now)
        block, since = fresh.block, fresh.since
        if block <= head:
            block, since = head + 1, now if self.block_seconds else self._due(head + 1)
        kept = {"fault": self.fault, "fault_block": self.fault_block, "set_by_hand": by_hand}
        return fresh.model_copy(update={"block": block, "since": since, **kept})

    def with_fault(self, fault: Fault | None, now: datetime) -> State:
        """Return the chain with a fault, or without one."""
        return self.model_copy(update={"fault": fault, "fault_block": self.head(now) if fault else None})

    def grown(self, blocks: int) -> State:
        """Return the chain with more blocks, made at once."""
        return self.model_copy(update={"block": self.block + blocks, "since": self._due(self.block + blocks)})


def load(path: Path) -> State:
    """Read the state of a chain.

    Raises:
        CeliumError: it cannot be read.
    """
    try:
        return State.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CeliumError(
            f"the state of the simulated chain cannot be read from {path}",
            remedy=f"delete {path}: `celium-ops lab up` writes it anew",
        ) from error


def save(state: State, path: Path) -> None:
    """Write the state of a chain."""
    write_atomic(path, state.model_dump_json(by_alias=True, indent=1) + "\n", 0o600)


def _after(snapshot: Snapshot, block: int, time: datetime) -> Snapshot:
    """Return the subnet as it is at another block.

    With every tempo an epoch ends, and the validators that are active have set their weights again. Nothing else
    happens on this chain.
    """
    subnet = snapshot.subnet
    epochs = 0
    if subnet.tempo and block > snapshot.block:
        epochs = (block - subnet.last_step) // subnet.tempo - (snapshot.block - subnet.last_step) // subnet.tempo
    moved: dict[str, object] = {"block": block, "block_time": time}
    if epochs:
        step = epochs * subnet.tempo
        moved["subnet"] = subnet.model_copy(update={"last_step": subnet.last_step + step})
        moved["neurons"] = tuple(_updated(neuron, step, block) for neuron in snapshot.neurons)
    return snapshot.model_copy(update=moved)


def _updated(neuron: Neuron, step: int, block: int) -> Neuron:
    if not (neuron.validator_permit and neuron.active):
        return neuron
    return neuron.model_copy(update={"last_update": min(neuron.last_update + step, block)})


def digest(state: State) -> str:
    """Return what tells one state from another."""
    return hashlib.sha256(state.model_dump_json(by_alias=True).encode()).hexdigest()[:16]
