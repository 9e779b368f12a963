"""What OpenSSH itself makes of a connection: its configuration files and the inventory's arguments, resolved."""

from __future__ import annotations

import getpass
import itertools
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.base.processes import bound
from celium_ops.fleet.model import Connection
from celium_ops.remote.ssh import CONNECT_TIMEOUT, ssh_options

DEFAULT_PORT = 22
DEADLINE = 10.0


@dataclass(frozen=True)
class Options:
    """The options of one connection, named as OpenSSH prints them, in lower case; some have several values."""

    connection: Connection
    values: Mapping[str, tuple[str, ...]]

    def get(self, name: str) -> str:
        """Return the value of an option; empty when it is not set."""
        value = self.values.get(name, ("",))[0]
        return "" if value == "none" else value

    @property
    def host_key_name(self) -> str:
        """Return the name under which a known_hosts file holds this host's keys."""
        port = int(self.get("port"))
        return self.get("hostkeyalias") or (
            self.get("hostname") if port == DEFAULT_PORT else f"[{self.get('hostname')}]:{port}"
        )

    def files(self, name: str) -> list[Path]:
        """Return the files that an option names, in the order OpenSSH reads them."""
        # OpenSSH prints several in one line, without quotes; each begins with a slash or a tilde.
        parts = [part for value in self.values.get(name, ()) for part in re.split(r" (?=[/~])", value)]
        return [Path(self.expand(part)).expanduser() for part in parts if part != "none"]

    def expand(self, text: str) -> str:
        """Return a value with its %-tokens replaced.

        Raises:
            CeliumError: a token that only OpenSSH knows.
        """
        known = {
            "%": "%",
            "h": self.get("hostname"),
            "n": self.connection.address,
            "p": self.get("port"),
            "r": self.get("user"),
            "k": self.host_key_name,
            "d": str(Path.home()),
            "u": getpass.getuser(),
        }

        def value(token: re.Match[str]) -> str:
            if token[1] not in known:
                raise CeliumError(f"{token[0]} in {text!r} is not supported here", code="ssh-option")
            return known[token[1]]

        return re.sub("%(.)", value, text)


def resolve(connection: Connection) -> Options:
    """Return the options that ssh would connect with.

    Raises:
        CeliumError: ssh does not understand the arguments.
    """
    command = ["ssh", "-G", *ssh_options(connection), "--", connection.address]
    try:
        done = subprocess.run(
            bound(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        raise CeliumError(f"ssh did not read its configuration in {DEADLINE:g} s", code="ssh-option") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CeliumError(f"ssh does not understand the connection's arguments: {lines[-1]}", code="ssh-option")
    values: dict[str, tuple[str, ...]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        values[name] = (*values.get(name, ()), value)
    return Options(connection, values)


def proxy_command(options: Options) -> list[str] | None:
    """Return the program that leads to the host; null when nothing does; pure. A jump is made by ssh itself."""
    command, jumps = options.get("proxycommand"), options.get("proxyjump").split(",")
    if command:
        return ["sh", "-c", f"exec {options.expand(command)}"]
    if not jumps[-1]:
        return None
    words = shlex.split(options.connection.arguments)
    own = [part for flag, file in itertools.pairwise(words) if flag == "-F" for part in (flag, file)]
    before = ["-J", ",".join(jumps[:-1])] if jumps[:-1] else []
    destination = jumps[-1] if jumps[-1].startswith("ssh://") else f"ssh://{jumps[-1]}"
    timeout = f"ConnectTimeout={CONNECT_TIMEOUT}"
    forward = ["-W", f"[{options.get('hostname')}]:{options.get('port')}"]
    return ["ssh", "-o", "BatchMode=yes", "-o", timeout, *own, *before, *forward, "--", destination]
