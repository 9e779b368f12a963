"""The typed fleet: what the workflows know of it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from celium_ops.base.errors import UsageError

Role = Literal["miner", "executor", "validator"]

LIUM_VALIDATOR = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
"""The only validator that upstream's miner accepts unless it is told of another one (2025-12)."""
NAMED_NETWORKS = ("finney", "test", "local")
"""The networks that upstream's library of collateral has an EVM endpoint for (2025-12)."""


@dataclass(frozen=True)
class Connection:
    """How we reach a host: Ansible's connection variables, nothing of our own.

    ``plugin`` is null where the inventory names none, which is OpenSSH; we know no other, Ansible does.
    """

    address: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    arguments: str = ""
    plugin: str | None = None

    @property
    def is_ours(self) -> bool:
        """Tell whether we reach the host by the same program as Ansible does."""
        return self.plugin in (None, "ssh", "smart", "ansible.builtin.ssh")


@dataclass(frozen=True)
class Host:
    """A host of the fleet.

    ``values`` hold its variables, checked, defaults included, and ``given`` the same as its roles see them: one value
    can be written in several ways. ``origins`` are the file and line of each, null for defaults.
    """

    name: str
    role: Role
    connection: Connection
    values: dict[str, Any] = field(repr=False)
    origins: dict[str, tuple[str | None, int | None]] = field(default_factory=dict, repr=False)
    given: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Return an executor's (address, port): what the miner's registry knows it by."""
        return str(self.values["executor_address"]), int(self.values["executor_external_port"])

    @property
    def stack(self) -> str:
        """Return the folder on the host that holds its stack of containers."""
        return f"{self.values['celium_stack_dir']}/{self.role}"

    @property
    def outdated(self) -> bool:
        """Tell whether its software cannot read the chain it is to work on.

        The images of dialect celium pin an SDK that does not understand the main chain's present runtime (2026-11).
        """
        return self.values.get("celium_dialect") == "celium" and self.values.get("celium_network") == "finney"

    @property
    def lium(self) -> bool:
        """Tell whether its dialect is lium; else it is celium."""
        return self.values.get("celium_dialect") == "lium"

    @property
    def accepts(self) -> str | None:
        """Return the only validator that a miner accepts; null in dialect celium, where it accepts any."""
        return (self.values.get("miner_default_validator") or LIUM_VALIDATOR) if self.lium else None

    @property
    def without_evm(self) -> bool:
        """Return whether upstream's software has no EVM endpoint for collateral, so that it can remove no row.

        Its library of collateral knows a few networks by name; of an address it does not know what to make.
        """
        named = self.values.get("celium_network") in (None, *NAMED_NETWORKS)
        return self.role == "miner" and self.lium and not named and not self.values.get("miner_evm_rpc_url")

    @property
    def miner(self) -> str | None:
        """Return the inventory name of an executor's miner."""
        return self.values.get("executor_miner")


@dataclass(frozen=True)
class Fleet:
    """All hosts of an inventory that have a role, by name, in the inventory's order."""

    inventory: Path
    hosts: dict[str, Host]

    def host(self, name: str) -> Host:
        """Return one host.

        Raises:
            UsageError: there is none of this name.
        """
        if name in self.hosts:
            return self.hosts[name]
        near = difflib.get_close_matches(name, self.hosts, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(list(self.hosts)[:10])
        raise UsageError(
            f"{name} is no host of {self.inventory}{hint}", remedy=f"hosts are {known}", code="no-such-host"
        )

    def of_role(self, role: Role) -> list[Host]:
        """Return the hosts of one role."""
        return [host for host in self.hosts.values() if host.role == role]

    def executors_of(self, miner: str) -> list[Host]:
        """Return the executors that a miner registers."""
        return [host for host in self.of_role("executor") if host.miner == miner]
