"""What validators run on a GPU host to see whether sysbox and limited disks work, run by us: their own commands."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celium_ops.fleet.contract import validators_image
from celium_ops.fleet.model import Host
from celium_ops.remote.program import asking, program, shared
from celium_ops.remote.ssh import ask

MODULES = ("tenancy", "probe")
"""What goes along to the host, in the order of their imports."""
SECONDS = 30
"""What upstream gives each command (2025-08 and 2025-12)."""
SYSBOX, STORAGE = "sysbox", "storage"
_PATIENCE = 30.0
_SHOWN = 160


@dataclass(frozen=True)
class Run:
    """What came of one command: ``error`` is why it failed, in at most a line; null where it went well."""

    error: str | None


@dataclass(frozen=True)
class Trial:
    """What came of the commands, by name; ``skipped`` and ``error`` say why none was run."""

    runs: Mapping[str, Run] = field(default_factory=dict)
    skipped: str | None = None
    error: str | None = None


def commands(host: Host, container: str) -> dict[str, list[str]]:
    """Return upstream's commands by name; newer validators try a disk of limited size too.

    Only the image that is there is run, and the container has a name by which it can be removed.
    """
    ours = ["--pull=never", f"--name={container}", "--label=org.celium-ops.preflight"]
    start = ["docker", "run", "--rm", *ours, "--runtime=sysbox-runc", "--gpus", "all"]
    end = [validators_image(), "nvidia-smi"]
    found = {SYSBOX: [*start, *end]}
    if host.values["celium_ruleset"] != "2025-08":
        found[STORAGE] = [*start, "--storage-opt", "size=1g", *end]
    return found


def trial(host: Host) -> Trial:
    """Run the commands of validators on a host that no tenant has."""
    container = f"celium-ops-preflight-{secrets.token_hex(4)}"
    tried = commands(host, container)
    asked = {"commands": tried, "seconds": SECONDS, "container": container}
    text = asking(program("trial", {name: shared(name) for name in MODULES}), asked)
    deadline = len(tried) * SECONDS + _PATIENCE
    answer = ask({host.name: host.connection}, {host.name: ["python3", "-I", "-S", "-"]}, text, deadline)[host.name]
    if answer.output is None:
        return Trial(error=answer.error or "no answer")
    try:
        said = json.loads(answer.output)
        runs = {name: Run(_why(said["runs"][name])) for name in tried if name in said["runs"]}
        return Trial(runs, None if said["skipped"] is None else str(said["skipped"])[:_SHOWN])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Trial(error="it does not say what came of them")


def _why(run: Mapping[str, Any]) -> str | None:
    """Return the last line of a failed command, bounded and printable; null for one that succeeded."""
    if run["rc"] == 0:
        return None
    if run["rc"] is None:
        return f"it did not end in {SECONDS} s"
    lines = [line.strip() for line in str(run["said"]).splitlines() if line.strip()]
    # Docker's own last line says how to get help.
    told = [line for line in lines if not line.startswith("See 'docker run --help'") and "--help' for more" not in line]
    words = "".join(one for one in (told or ["it said nothing"])[-1] if one.isprintable())
    return f"{words[:_SHOWN]} (exit {int(run['rc'])})"
