"""Look at hosts before they are trusted, or when something is wrong: everything at once, and nothing is changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from celium_ops.base.checks import Check
from celium_ops.base.errors import UsageError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.fleet.values import renting_range
from celium_ops.gpu.messages import Nvml
from celium_ops.preflight.checks import checks, service_ports
from celium_ops.registry.rows import row_name
from celium_ops.remote.bandwidth import Rates, measure
from celium_ops.remote.ports import Reach, host_way, published_way, service_way, trying_from
from celium_ops.remote.probe import probe
from celium_ops.remote.survey import Seen, survey
from celium_ops.remote.trial import SYSBOX, Trial, trial
from celium_ops.verdict import judge
from celium_ops.workflows.cards import Shown, changes, last_shown
from celium_ops.workflows.predictions import last_accepted, prediction, rules_of, seen_by_nvml
from celium_ops.workflows.proofs import Report, last_reports
from celium_ops.workflows.selection import select

DEFAULT_RANGES = {"celium": "40000-65535", "lium": "20000-65534"}
"""The ports for renters where the inventory names none, as upstream has them."""
TRIED = 5
"""Renting ports that are tried on each of the two ways."""
ENOUGH = 3
"""Open ports that validators want."""
AT_ONCE = 16

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class HostPreflight:
    """One host; ``prediction`` is what the validator would say, null for what is no executor or only rehearses."""

    name: str
    role: str
    reachable: bool
    rented: bool | None
    checks: tuple[Check, ...]
    prediction: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Tell whether nothing is wrong with it, and the validator would not refuse it."""
        refused = self.prediction is not None and self.prediction["verdict"] == "reject"
        return not refused and all(check.status not in ("fail", "error") for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``preflight --json`` promises it."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True)
class Preflight:
    """All hosts; ``tried_from`` is the host from which ports were tried, null for here."""

    tried_from: str | None
    hosts: list[HostPreflight]

    @property
    def ok(self) -> bool:
        """Tell whether all hosts are fit."""
        return all(host.ok for host in self.hosts)

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``preflight --json``, but for its schema's name."""
        return {"ok": self.ok, "tried_from": self.tried_from, "hosts": [host.to_json() for host in self.hosts]}


@dataclass(frozen=True)
class _Known:
    """What is known beside what hosts show: their last proofs, and how and from where ports are tried."""

    reports: Mapping[str, Report]
    before: Mapping[str, judge.Host]
    reach: Reach
    tried_from: str | None
    rates: Mapping[str, dict[str, Any]]


def preflight(
    inventory: Path,
    limit: str | None,
    on_phase: Callable[[str], None],
    tried_from: str | None = None,
    bandwidth: bool = False,
) -> Preflight:
    """Return what is well and what is not with each host, in the inventory's order; ``on_phase`` hears what is done.

    Args:
        inventory: the fleet.
        limit: hosts to look at; null for all.
        on_phase: hears what is done now.
        tried_from: the host of the inventory from which ports are tried; null for here.
        bandwidth: measure the way to each host too, which takes seconds for each.

    Raises:
        UsageError: the inventory is wrong, the limit matches no host, or there is none to try from.
    """
    fleet = load_fleet(inventory)
    hosts = select(fleet, limit)
    origin = None if tried_from is None else fleet.host(tried_from)
    if origin and not origin.connection.is_ours:
        raise UsageError(f"{origin.name} is reached by Ansible only", remedy="--from names a host that SSH reaches")
    on_phase(f"asking {len(hosts)} hosts")
    seen = survey(hosts)
    executors = [host for host in hosts if host.role == "executor"]
    reports, before = last_reports(inventory, executors), last_accepted(inventory)
    rates = _measured(hosts, seen, on_phase) if bandwidth else {}
    on_phase(f"trying their ports from {tried_from or 'here'}")
    with trying_from(origin) as reach, ThreadPoolExecutor(AT_ONCE) as pool:
        known = _Known(reports, before, reach, tried_from, rates)
        found = list(pool.map(lambda host: _guarded(host, seen[host.name], known), hosts))
    return Preflight(tried_from, _between(_changed(found, executors, last_shown(inventory))))


def _measured(
    hosts: list[Host], seen: Mapping[str, Seen], on_phase: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Measure the hosts that answer, one after the other, as they share our end of the way."""
    on_phase("measuring the way to each host, one after the other")
    return {host.name: _rates(host, facts) for host in hosts if (facts := seen[host.name].facts) is not None}


def _rates(host: Host, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one host, unless that would disturb a tenant; null rates where it was not to be."""
    skipped = None
    try:
        rented = _rented(host, facts)
        if rented is None:
            rates, skipped = Rates(), "whether it is rented out cannot be read, so nothing is sent"
        elif rented or (host.role == "executor" and _rented_by_now(host)):
            rates, skipped = Rates(), "it is rented out: nothing is sent beside a tenant"
        else:
            rates = measure(host)
    except Exception as error:  # hosts may say anything
        rates = Rates(error=f"{type(error).__name__}: {error}")
    return {**asdict(rates), "skipped": skipped}


def _guarded(host: Host, seen: Seen, known: _Known) -> HostPreflight:
    """Look at one host; whatever it says, the others are looked at too."""
    try:
        return _look(host, seen, known)
    except Exception as error:  # hosts may say anything
        broken = Check("host.survey", "error", f"what it shows makes no sense: {type(error).__name__}: {error}")
        return HostPreflight(host.name, host.role, True, None, (broken,))


def _look(host: Host, seen: Seen, known: _Known) -> HostPreflight:
    if seen.facts is None:
        unreachable = Check("host.reach", "fail", str(seen.error), remedy="celium-ops exec tells more; is it up?")
        return HostPreflight(host.name, host.role, False, None, (unreachable,))
    facts = {**seen.facts, "drift_s": seen.facts["clock"]["now"] - seen.at if seen.facts["clock"] else 0.0}
    rented = _rented(host, facts)
    facts |= {"tried_from": known.tried_from, "rates": known.rates.get(host.name)}
    if host.name == known.tried_from:  # its own firewall does not look at what stays on it
        facts |= {"services": None, "ways": {}}
    else:
        with ThreadPoolExecutor(1) as beside:  # a firewall that drops makes each wait for its whole time
            services = beside.submit(_services, host, facts, known.reach)
            facts |= {"ways": _ways(host, facts, rented, known.reach), "services": services.result()}
    facts |= {"sysbox": _sysbox(host, rented)}
    return judged(host, facts, rented, known.reports.get(host.name), known.before.get(host.name))


def judged(
    host: Host, facts: Mapping[str, Any], rented: bool | None, report: Report | None, before: judge.Host | None
) -> HostPreflight:
    """Return what is to be said of a host that has shown its facts; pure."""
    found = [Check("host.reach", "pass", "it answers"), *checks(host, facts)]
    if host.name == facts["tried_from"]:
        found.append(Check("ports.service", "skipped", "no host is tried from itself"))
    prediction = _predicted(host, facts, rented, report, before)
    return HostPreflight(host.name, host.role, True, rented, tuple(found), prediction)


def _rented(host: Host, facts: Mapping[str, Any]) -> bool | None:
    """Tell whether somebody rents a host; null where nobody can tell."""
    if host.role != "executor":
        return False
    tenants = facts["tenants"]
    if tenants is None or tenants["unclear"]:
        return None
    return bool(tenants["rented"])


def _rented_by_now(host: Host) -> bool:
    """Tell whether a tenant may have come to an executor while others were asked."""
    return probe([host])[host.name].rentals != ()


def _services(host: Host, facts: Mapping[str, Any], reach: Reach) -> dict[str, Any] | None:
    """Try the ports of a stack that is there; before its first deploy there is nothing to reach."""
    if not any(one["project"] == host.role and one["state"] == "running" for one in facts["containers"] or ()):
        return None
    public = host.values.get("executor_ssh_public_port")
    ports = [*service_ports(host)[:1], int(public)] if public else service_ports(host)
    return asdict(service_way(reach, _address(host), ports))


def _address(host: Host) -> str:
    names = {"executor": "executor_address", "miner": "miner_external_ip"}
    return str(host.values.get(names.get(host.role, ""), host.connection.address))


def _ways(host: Host, facts: Mapping[str, Any], rented: bool | None, reach: Reach) -> dict[str, dict[str, Any]]:
    """Try some renting ports; on a host that is rented out, or may be, nothing is opened."""
    if host.role != "executor" or rented is not False:
        return {}
    if _rented_by_now(host):
        return {}
    pairs, address = renting_ports(host), _address(host)
    image = next((one["image"] for one in facts["containers"] if one["name"].startswith("executor-executor-")), None)
    if image is None:
        return {"host": asdict(host_way(host, reach, address, pairs))}
    with ThreadPoolExecutor(1) as beside:
        published = beside.submit(published_way, host, reach, address, pairs[1::2], image)
        return {
            "host": asdict(host_way(host, reach, address, pairs[0::2])),
            "published": asdict(published.result()),
        }


def _sysbox(host: Host, rented: bool | None) -> dict[str, Any] | None:
    """Run what validators would to see whether sysbox works, where it is wanted; never beside a tenant."""
    if host.role != "executor" or not host.values.get("nvidia_docker_sysbox"):
        return None
    if host.values["executor_gpu_proof"] == "simulated":
        return asdict(Trial(skipped="it has no cards, being a host of a rehearsal"))
    if rented is not False:
        return asdict(Trial(skipped="it is rented out" if rented else "whether it is rented out cannot be read"))
    return asdict(trial(host))


def renting_ports(host: Host) -> Pairs:
    """Return some of the ports for renters, as they are there and as the world sees them: the first, and a spread.

    Validators try the first ones, and then others.
    """
    pairs = [(int(inside), int(outside)) for inside, outside in host.values.get("executor_renting_port_mappings") or ()]
    if not pairs:
        default = DEFAULT_RANGES[str(host.values["celium_dialect"])]
        ports = renting_range(str(host.values.get("executor_renting_port_range") or default))
        pairs = [(port, port) for port in ports]
    many = 2 * TRIED
    first, rest = pairs[:TRIED], pairs[TRIED:]
    step = max(1, len(rest) // TRIED)
    return [*first, *rest[step - 1 :: step]][:many]


def _predicted(
    host: Host, facts: Mapping[str, Any], rented: bool | None, report: Report | None, before: judge.Host | None
) -> dict[str, Any] | None:
    if host.role != "executor" or host.values["executor_gpu_proof"] == "simulated":
        return None
    gpus, system, docker = facts["gpus"], facts["system"], facts["docker"]
    more: dict[str, Any] = {} if rented is None else {"rented": rented}
    if system:
        more |= {"ld_preload": system["preload"], "available_mib": system["available_mib"]}
    if docker:
        more |= {"free_gb": docker["free_gb"], "sysbox": _has_sysbox(facts)}
    more |= _proven(report) | _open_ports(facts["ways"])
    if gpus is None:  # nobody could look, which is not to say that there is none
        return prediction(judge.Host(more), rules_of(host), before)
    if gpus["kernel"] is not None:
        more["kernel_gpu_count"] = len(gpus["kernel"])
    if gpus["nvml"] is None:
        more |= {"driver": None, "gpu_count": 0, "gpu_details": 0}
        return prediction(judge.Host(more), rules_of(host), before)
    try:
        nvml = Nvml.model_validate(gpus["nvml"])
    except ValidationError:  # a broken card says what cannot be
        return prediction(judge.Host(more), rules_of(host), before)
    return prediction(seen_by_nvml(nvml, more), rules_of(host), before)


def _has_sysbox(facts: Mapping[str, Any]) -> bool:
    """Return whether Docker has the runtime, and a container gets the cards with it where that was tried."""
    tried = (facts.get("sysbox") or {"runs": {}})["runs"].get(SYSBOX)
    return "sysbox-runc" in facts["docker"]["runtimes"] and not (tried and tried["error"])


def _proven(report: Report | None) -> dict[str, str]:
    """Return whether the cards can do their work, as far as the last proof told."""
    if report is not None and report["verdict"] == "reject":
        return {"proof": "fail"}
    return {"proof": "pass"} if report is not None and report["assurance"] == "work_proven" else {}


def _open_ports(ways: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return how many of the tried ports are open; nothing where too few could be tried to tell."""
    tried = sum(len(way["listening"]) for way in ways.values())
    if tried < ENOUGH or any(way["error"] for way in ways.values()):
        return {}
    return {"ports_open": sum(len(way["reached"]) for way in ways.values())}


def _changed(hosts: list[HostPreflight], executors: list[Host], before: Mapping[str, Shown]) -> list[HostPreflight]:
    """Look at which cards are not where they were."""
    now = {
        host.name: frozenset(host.prediction["facts"]["host"]["uuids"])
        for host in hosts
        if host.prediction and "uuids" in host.prediction["facts"]["host"]
    }
    found = changes(now, {host.name: row_name(host.endpoint) for host in executors}, before)
    return [replace(host, checks=(*host.checks, found[host.name])) if host.name in found else host for host in hosts]


def _between(hosts: list[HostPreflight]) -> list[HostPreflight]:
    """Look at what no two hosts may share."""
    owners: dict[str, set[str]] = defaultdict(set)
    for host in hosts:
        for card in (host.prediction or {"facts": {"cards": ()}})["facts"]["cards"]:
            if card["uuid"]:  # one that fell off the bus has none
                owners[card["uuid"]].add(host.name)
    shared = {name: names for names in owners.values() if len(names) > 1 for name in names}
    return [
        replace(host, checks=(*host.checks, _shared(shared[host.name]))) if host.name in shared else host
        for host in hosts
    ]


def _shared(names: set[str]) -> Check:
    message = f"{' and '.join(sorted(names))} show the same card"
    return Check(
        "fleet.cards", "fail", message, remedy="one of them is not the machine you think", code="EXECUTOR_DUPLICATE"
    )
