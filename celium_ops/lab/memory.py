"""What a lab remembers between commands: what was wanted, pushed and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from celium_ops.base.files import write_atomic
from celium_ops.lab.registry import Pushed

_SCHEMA = "celium-ops/lab-memory/1"


@dataclass
class Memory:
    """The lab's memory.

    Attributes:
        subnet: the lab's network, which every address in its inventory is of.
        counts: how many hosts of each group were asked for; an interrupted ``up`` is finished to these.
        listed: the hosts that were written to the inventory.
        written: the image values that were written to the inventory, by ``GROUP.VARIABLE``.
        pushed: the images in the registry, by name.
    """

    subnet: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    pushed: dict[str, Pushed] = field(default_factory=dict)


def load(path: Path) -> Memory:
    """Return the memory of a lab; a new one when there is none, or none that can be read."""
    try:
        data = json.loads(path.read_text())
        pushed = {name: Pushed(**value) for name, value in data["pushed"].items()}
        return Memory(data.get("subnet"), dict(data["counts"]), list(data["listed"]), dict(data["written"]), pushed)
    except (OSError, ValueError, KeyError, TypeError):
        # Nothing is lost for good: hosts are found by their labels, images are pushed again.
        return Memory()


def save(path: Path, memory: Memory) -> None:
    """Write the memory of a lab."""
    write_atomic(path, json.dumps({"schema": _SCHEMA, **asdict(memory)}, indent=2) + "\n", 0o600)
