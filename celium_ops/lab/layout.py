"""What a lab is made of: names, addresses and files. Pure; nothing here touches the machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from celium_ops.base.errors import UsageError
from celium_ops.base.paths import state_dir

DEFAULT_LAB = "demo"
USER = "operator"
UBUNTU = "noble"
DEBIAN = "trixie"

# Documentation ranges of RFC 5737 for the labs we know. Some virtual machines live in such a range themselves, so
# every lab can also take a part of the range for benchmarks of RFC 2544.
_PREFERRED = {"demo": "198.51.100.0/24", "tests": "203.0.113.0/24"}
_OTHERS = IPv4Network("198.18.0.0/16")
_CHOICES = 8
_REGISTRY_OFFSET = 2
_REGISTRY_PORT = 5000
_PACKAGES_OFFSET = 3
_CHAIN_OFFSET = 4
_CHAIN_PORT = 9944
_EVM_PORT = 9945

DIALECTS = {"celium": "2025-08", "lium": "2025-12"}
"""Whose interfaces the stand-in neurons have, by dialect: the month of upstream's snapshot, which tags their images."""
ANY_DIALECT = "lab"
"""The tag of the other images."""


@dataclass(frozen=True)
class Group:
    """A group of the inventory and the addresses its hosts have in every lab."""

    name: str
    role: str
    first: int
    """The last number of the first host's address."""
    limit: int
    default: int
    """How many hosts a new lab has."""


GROUPS = {
    group.name: group
    for group in (
        Group("miners", "miner", first=11, limit=60, default=1),
        Group("validators", "validator", first=71, limit=30, default=1),
        Group("executors", "executor", first=101, limit=150, default=3),
    )
}


@dataclass(frozen=True)
class Lab:
    """A lab's name and its network."""

    name: str
    subnet: IPv4Network

    @property
    def network(self) -> str:
        """Return the name of the Docker network."""
        return network_name(self.name)

    @property
    def registry_container(self) -> str:
        """Return the name of the container (and of the volume) of the registry."""
        return f"celium-lab-{self.name}-registry"

    @property
    def registry_ip(self) -> str:
        """Return the fixed address of the registry."""
        return str(self.subnet[_REGISTRY_OFFSET])

    @property
    def registry(self) -> str:
        """Return the registry as an image reference names it: ``ADDRESS:PORT``."""
        return f"{self.registry_ip}:{_REGISTRY_PORT}"

    @property
    def packages_container(self) -> str:
        """Return the name of the container that serves the package repositories."""
        return f"celium-lab-{self.name}-packages"

    @property
    def packages_ip(self) -> str:
        """Return the fixed address of the package repositories."""
        return str(self.subnet[_PACKAGES_OFFSET])

    @property
    def packages(self) -> str:
        """Return the URL of the package repositories."""
        return f"http://{self.packages_ip}"

    @property
    def chain_container(self) -> str:
        """Return the name of the container that the simulated chain runs in."""
        return f"celium-lab-{self.name}-chain"

    @property
    def chain_ip(self) -> str:
        """Return the fixed address of the simulated chain."""
        return str(self.subnet[_CHAIN_OFFSET])

    @property
    def chain(self) -> str:
        """Return where clients connect to the simulated chain: ``ws://ADDRESS:PORT``."""
        return f"ws://{self.chain_ip}:{_CHAIN_PORT}"

    @property
    def evm(self) -> str:
        """Return the URL of the simulated chain's EVM endpoint, where no executor has collateral."""
        return f"http://{self.chain_ip}:{_EVM_PORT}"

    @property
    def services(self) -> dict[str, str]:
        """Return the fixed addresses of the containers that are no hosts, by the container's name."""
        return {
            self.registry_container: self.registry_ip,
            self.packages_container: self.packages_ip,
            self.chain_container: self.chain_ip,
        }

    def hosts(self, counts: Mapping[str, int]) -> list[Host]:
        """Return the hosts, in the order of the groups; a group that is not named has none."""
        return [
            Host(self, group.name, number)
            for group in GROUPS.values()
            for number in range(1, counts.get(group.name, 0) + 1)
        ]


@dataclass(frozen=True)
class Host:
    """One host of a lab."""

    lab: Lab
    group: str
    number: int

    @property
    def name(self) -> str:
        """Return the inventory name, ``executor-2`` for one."""
        return f"{GROUPS[self.group].role}-{self.number}"

    @property
    def address(self) -> str:
        """Return the fixed address on the lab's network."""
        return str(self.lab.subnet[GROUPS[self.group].first + self.number - 1])

    @property
    def container(self) -> str:
        """Return the name of the container."""
        return f"celium-lab-{self.lab.name}-{self.name}"

    @property
    def volumes(self) -> dict[str, str]:
        """Return the volumes by the folder they hold: overlay does not stack on overlay, Docker 29 needs the second."""
        return {f"{self.container}-{part}": f"/var/lib/{part}" for part in ("docker", "containerd")}

    @property
    def suite(self) -> str:
        """Return the system it runs: Ubuntu, but Debian on every third executor, so that both are always there."""
        return DEBIAN if self.group == "executors" and self.number % 3 == 2 else UBUNTU


@dataclass(frozen=True)
class Files:
    """Where a lab keeps its files."""

    folder: Path

    @property
    def inventory(self) -> Path:
        """Return the Ansible inventory."""
        return self.folder / "inventory.yml"

    @property
    def key(self) -> Path:
        """Return the private ssh key that opens every host of the lab."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Return the host keys of the lab's hosts."""
        return self.folder / "known_hosts"

    @property
    def wallets(self) -> Path:
        """Return the folder of the lab's wallets."""
        return self.folder / "wallets"

    @property
    def packages(self) -> Path:
        """Return the folder of the package repositories and their key."""
        return self.folder / "packages"

    @property
    def chain(self) -> Path:
        """Return the folder of the simulated chain's state."""
        return self.folder / "chain"

    @property
    def memory(self) -> Path:
        """Return what the lab remembers between commands."""
        return self.folder / "lab.json"


def lab_name() -> str:
    """Return the name of the lab that commands mean: ``$CELIUM_LAB``, else ``demo``.

    Raises:
        UsageError: the name cannot be part of a container's name.
    """
    name = os.environ.get("CELIUM_LAB") or DEFAULT_LAB
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
        raise UsageError(
            f"CELIUM_LAB={name!r} is not a lab name",
            remedy="use up to 20 lower case letters, digits and hyphens, beginning with a letter or digit",
            key="CELIUM_LAB",
        )
    return name


def files(lab: str) -> Files:
    """Return where the files of a lab are."""
    return Files(state_dir() / "lab" / lab)


def network_name(lab: str) -> str:
    """Return the name of the Docker network of a lab."""
    return f"celium-lab-{lab}"


def subnets(lab: str) -> list[IPv4Network]:
    """Return the networks a lab may have, best first."""
    first = hashlib.sha256(lab.encode()).digest()[0]
    others = [
        IPv4Network((int(_OTHERS.network_address) + 256 * ((first + step) % 256), 24)) for step in range(_CHOICES)
    ]
    return [IPv4Network(_PREFERRED[lab]), *others] if lab in _PREFERRED else others


def check_counts(counts: Mapping[str, int]) -> None:
    """Check how many hosts were asked for.

    Raises:
        UsageError: a count is out of range.
    """
    for name, count in counts.items():
        if not 0 <= count <= GROUPS[name].limit:
            raise UsageError(f"a lab has 0 to {GROUPS[name].limit} {name}, not {count}", key=name)
