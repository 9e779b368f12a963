"""After a play: what still differs is a failure, and what does not gets the seal of the inputs it was played with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.fleet.fingerprint import Inputs, inputs, seal
from celium_ops.fleet.inventory import load_fleet
from celium_ops.registry.rows import row_name
from celium_ops.remote.probe import Sight, probe
from celium_ops.workflows.outcomes import HostOutcome, explained
from celium_ops.workflows.plan import HostPlan, Plan, drifted


def as_it_was(host: HostPlan) -> HostOutcome:
    """Return what became of a host that nothing was done to."""
    if host.state == "unreachable":
        error, remedy = explained(host.error)
        return HostOutcome(host.name, "unreachable", error=error, remedy=remedy)
    leftovers = [row_name(endpoint) for endpoint in host.leftovers]
    waits = [asdict(one) for one in host.waits]
    return HostOutcome(host.name, "ok", registered=host.registered, waits=waits, leftovers=leftovers)


def settle(inventory: Path, plan: Plan, run: str, played: dict[str, HostOutcome]) -> list[str]:
    """Look at the hosts that a play brought through, and note in ``played`` what still differs there.

    The inventory is read again: had it changed meanwhile, nobody could say what the hosts were given, and none is
    sealed; nor is one that another run has played since. Returns the hosts that only Ansible can reach, which are not
    verified: the next deploy plays them again.
    """
    done = [name for name, outcome in played.items() if outcome.result == "ok"]
    try:
        hosts = load_fleet(inventory).hosts
    except CeliumError:
        hosts = {}
    given = inputs(hosts[name] for name in done if name in hosts)
    same = [name for name in given if _same(plan.given[name], given[name])]
    reached = {host.name for host in plan.hosts if host.state != "unreachable"}
    sights = probe([hosts[name] for name in same if name in reached], {name: seal(given[name], run) for name in same})
    for name in done:
        if name not in same:
            error = "the inventory changed while it was deployed"
            played[name].add(HostOutcome(name, "failed", error=error, remedy="deploy again"))
        elif name in reached:
            _judge(sights[name], run, played[name])
    return [name for name in same if name not in reached]


def _judge(sight: Sight, run: str, outcome: HostOutcome) -> None:
    record = sight.record
    if not sight.reachable:
        error, remedy = explained("; ".join(sight.errors))
        outcome.add(HostOutcome(outcome.name, "unreachable", error=error, remedy=remedy))
    elif record is None:
        error = sight.record_error or "it has no record of what was done"
        outcome.add(HostOutcome(outcome.name, "failed", error=f"it was played, but cannot be verified: {error}"))
    elif record.drift:
        words = "; ".join(f"{one.name} {one.why}" for one in map(drifted, record.drift))
        outcome.add(HostOutcome(outcome.name, "failed", error=f"differs again after the deploy: {words}"))
    elif record.seal is None or record.seal["run"] != run:
        error = "somebody else played it at the same time"
        outcome.add(HostOutcome(outcome.name, "failed", error=error, remedy="deploy again"))


def _same(before: Inputs, after: Inputs) -> bool:
    """Tell whether a play had these inputs from its beginning to its end; passwords it may have made itself."""
    made = {name for name in after if name.startswith("(password: ") and name not in before}
    return before == {name: content for name, content in after.items() if name not in made}
