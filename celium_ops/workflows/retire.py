"""An executor leaves the fleet: its miner forgets it, then its containers stop. Its volumes stay on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import GuardError, UsageError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal
from celium_ops.remote.probe import probe
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.workflows.lock import fleet_locked


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    inventory: Path
    host: str
    even_if_rented: bool = False


@dataclass(frozen=True)
class Retirement:
    """A finished run; ``errors`` say what went wrong, by host: at the miner, or at the executor itself."""

    run: str
    host: str
    miner: str | None
    errors: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as ``retire --json`` promises it."""
        return {"ok": not self.errors, **vars(self)}


def retire(wish: Wish, agree: Callable[[Host], None], on_host: OnHost, warn: Callable[[str], None]) -> Retirement:
    """Take an executor out of its miner's registry and stop its stack; the fleet is locked meanwhile.

    ``agree`` is shown the host before anything is changed, and raises when it is to stay.

    Raises:
        UsageError: the inventory is wrong, or has no such executor.
        GuardError: it is rented, or nobody can tell; or somebody else changes the fleet.
        KeyboardInterrupt: ctrl-c; the same command finishes the job.
    """
    fleet, state = load_fleet(wish.inventory), fleet_dir(wish.inventory)
    host = fleet.host(wish.host)
    if host.role != "executor":
        raise UsageError(f"{host.name} is no executor but a {host.role}", remedy="only executors retire")
    with fleet_locked(fleet, state, "a retirement", warn):
        if not wish.even_if_rented:
            _refuse_rented(host)
        agree(host)
        journal = Journal(state)
        run = journal.begin("retire", {"inventory": str(wish.inventory), "host": host.name})
        try:
            done = Retirement(run, host.name, host.miner, _play(wish, host, on_host))
        except BaseException as error:
            journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        entry = HostEntry(host.name, "failed" if done.errors else "ok", 1, 0.0, "; ".join(done.errors.values()) or None)
        journal.finish(run, "failed" if done.errors else "ok", [entry])
        return done


def _refuse_rented(host: Host) -> None:
    sight = probe([host])[host.name]
    if sight.rentals is None:
        reason = f"cannot be asked whether it is rented: {'; '.join(sight.errors)}"
    elif sight.rentals:
        reason = f"is rented ({', '.join(sight.rentals)})"
    else:
        return
    raise GuardError(
        f"{host.name} {reason}",
        host=host.name,
        remedy="wait until the rental has ended, or --even-if-rented",
        code="rented",
    )


def _play(wish: Wish, host: Host, on_host: OnHost) -> dict[str, str]:
    hosts = tuple(name for name in (host.name, host.miner) if name)
    # The playbook looks for rentals too, for those who play it themselves.
    variables = {"retire": host.name, **({"celium_even_if_rented": True} if wish.even_if_rented else {})}
    playbook = Playbook("retire", wish.inventory, hosts, variables=variables)
    recap = run_playbook(playbook, on_host)
    found = {name: recap.hosts.get(name) for name in hosts}
    return {
        name: (one.error if one else None) or "was never reached"
        for name, one in found.items()
        if one is None or one.result != "ok"
    }
