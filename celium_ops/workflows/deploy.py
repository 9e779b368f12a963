"""Bring the fleet to what the inventory says: roles on every host, then the executors into their miners' registries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from celium_ops.base.errors import GuardError
from celium_ops.fleet.inventory import ROLES, WITHOUT_ROLE, Finding, check_inventory, stop_at_errors
from celium_ops.fleet.model import Fleet, Host
from celium_ops.fleet.remedies import REFUSED_REMEDY
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal
from celium_ops.registry.rows import Endpoint, row_name
from celium_ops.remote.probe import probe
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.runner.recap import HostRecap, Recap, Result
from celium_ops.workflows.drivers import driver_findings
from celium_ops.workflows.faults import NO_ANSWER, recognise
from celium_ops.workflows.lock import fleet_lock
from celium_ops.workflows.outcomes import HostOutcome, outcome_of
from celium_ops.workflows.plan import HostPlan, Plan, plan_hosts
from celium_ops.workflows.proofs import Report
from celium_ops.workflows.selection import select
from celium_ops.workflows.settle import as_it_was, settle

if TYPE_CHECKING:
    from celium_ops.workflows.registration import Rows


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    inventory: Path
    limit: str | None = None
    check: bool = False
    diff: bool = False
    accept_outdated: bool = False
    prune: bool = False
    full: bool = False
    even_if_rented: bool = False


Leftovers = list[dict[str, Any]]
"""Rows of registries that no host of the inventory has, as the registry module takes what it shall remove."""


@dataclass(frozen=True)
class Deployment:
    """A finished run over all selected hosts."""

    run: str
    hosts: list[HostOutcome]

    @property
    def ok(self) -> bool:
        """Tell whether every selected host is as the inventory says."""
        return all(host.result in ("ok", "skipped") for host in self.hosts)

    @property
    def changed(self) -> int:
        """Return the number of changes, or in check mode of pending ones."""
        return sum(host.changed for host in self.hosts)

    @property
    def waits(self) -> bool:
        """Return whether anything was left for the end of a rental."""
        return any(host.waits for host in self.hosts)


class Agree(Protocol):
    """What the operator is asked before anything is changed; each raises when the answer is no."""

    def prune(self, rows: Leftovers) -> None:
        """Ask whether rows are to be removed from registries."""

    def disturb(self, hosts: list[HostPlan]) -> None:
        """Ask whether hosts are to be changed although tenants have them, or may have them."""


def deploy(
    wish: Wish,
    agree: Agree,
    on_plan: Callable[[Plan], None],
    on_start: Callable[[list[Host]], None],
    on_host: OnHost,
    warn: Callable[[str], None],
) -> Deployment:
    """Deploy the selected hosts.

    Hosts that are converged are left alone. ``agree`` is asked before anything is changed.

    Raises:
        UsageError: the inventory is wrong, the limit matches no host, or validators would refuse a driver; nothing was
            touched.
        GuardError: another deploy is under way, the inventory's dialect cannot work on its chain, or rows are to be
            removed while the inventory has hosts without a role.
        CeliumError: Ansible did not run at all.
        KeyboardInterrupt: ctrl-c.
    """
    fleet, findings = check_inventory(wish.inventory)
    stop_at_errors(findings)
    stop_at_errors(driver_findings(fleet))
    if wish.prune:
        _refuse_without_role(findings)
    selected = select(fleet, wish.limit)
    _refuse_outdated(wish, selected)
    state = fleet_dir(wish.inventory)
    # A check changes nothing, so it need not wait for anybody.
    with nullcontext() if wish.check else fleet_lock(fleet, state, "a deploy", warn) as held:
        plan = plan_hosts(fleet, selected, after=held)
        if held:
            held.result()  # nobody waited for it where no host could be looked at
        if dead := _dead(plan):  # they may only have been slow
            plan = plan.replaced(plan_hosts(fleet, [fleet.hosts[name] for name in dead]).hosts)
        leftovers = _leftovers(fleet, plan, warn) if wish.prune else []
        if leftovers and not wish.check:
            agree.prune(leftovers)
        if wish.even_if_rented and not wish.check and (rented := _rented(wish, plan)):
            agree.disturb(rented)
        on_plan(plan)
        on_start(selected)
        job = _Job(wish, fleet, plan, leftovers, warn)
        return _journaled(Journal(state), job, on_host)


def _rented(wish: Wish, plan: Plan) -> list[HostPlan]:
    """Return the hosts to be changed that tenants have, or may have."""
    dead = _dead(plan)
    played = (host for host in plan.hosts if (wish.full or host.state != "converged") and host.name not in dead)
    return [host for host in played if host.rentals != ()]


def _dead(plan: Plan) -> list[str]:
    """Return the hosts to which no connection is made; to others Ansible may know a way, with a password, say."""
    lost = [host for host in plan.hosts if host.state == "unreachable" and "no answer in" not in (host.error or "")]
    return [host.name for host in lost if (fault := recognise(host.error or "")) and fault.cause == NO_ANSWER]


def _leftovers(fleet: Fleet, plan: Plan, warn: Callable[[str], None]) -> Leftovers:
    """Return the rows that no host of the inventory has and no tenant needs, of the miners that could be read."""
    rows = [(host.name, endpoint) for host in plan.hosts for endpoint in host.leftovers]
    kept = _tenanted(fleet, {endpoint for _, endpoint in rows})
    for miner, endpoint in rows:
        if endpoint in kept:
            warn(f"{row_name(endpoint)} stays in the registry of {miner}: {kept[endpoint]}")
    return [
        {"miner": miner, "address": address, "port": port}
        for miner, (address, port) in rows
        if (address, port) not in kept
    ]


def _tenanted(fleet: Fleet, leftovers: Collection[Endpoint]) -> dict[Endpoint, str]:
    """Return the leftovers by which tenants pay, and why: the inventory gave their executors another miner or port."""
    from celium_ops.workflows.candidates import tenanted  # few deploys ask, and it brings the assignment along

    addresses = {address for address, _ in leftovers}
    moved = [host for host in fleet.of_role("executor") if host.endpoint[0] in addresses]
    taken = {fleet.hosts[name].endpoint[0]: why for name, why in tenanted(probe(moved)).items()}
    return {endpoint: taken[endpoint[0]] for endpoint in leftovers if endpoint[0] in taken}


def _refuse_without_role(findings: Iterable[Finding]) -> None:
    """Refuse to remove rows while hosts are left out: the rows of such executors would look like leftovers."""
    if left_out := [finding for finding in findings if finding.code == WITHOUT_ROLE]:
        shown = [f"{one.host} ({one.file}{f':{one.line}' if one.line else ''})" for one in left_out]
        more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
        first = left_out[0]
        raise GuardError(
            f"--prune is refused: in no group that gives them a role are {', '.join(shown[:_MOST_SHOWN])}{more},"
            " so their rows would be removed if they are executors",
            host=first.host,
            file=first.file,
            line=first.line,
            remedy=f"put them into {', '.join(ROLES)}, or out of this inventory, then deploy --prune again",
            code="prune-without-role",
        )


def _refuse_outdated(wish: Wish, selected: list[Host]) -> None:
    outdated = [host.name for host in selected if host.outdated]
    if outdated and not wish.accept_outdated:
        raise GuardError(
            f"the images of dialect celium cannot read today's main chain (finney): {', '.join(outdated)}",
            remedy="set celium_dialect: lium, or give --accept-outdated if you know what you do",
            code="outdated-dialect",
        )


@dataclass(frozen=True)
class _Job:
    """What is to be done, and who is warned."""

    wish: Wish
    fleet: Fleet
    plan: Plan
    leftovers: Leftovers
    warn: Callable[[str], None]


def _journaled(journal: Journal, job: _Job, on_host: OnHost) -> Deployment:
    wish = job.wish
    inputs = {"inventory": str(wish.inventory), "limit": wish.limit, "check": wish.check, "prune": wish.prune}
    run, seen = journal.begin("deploy", inputs), dict[str, HostRecap]()

    def note(host: HostRecap) -> None:
        seen[host.name] = host
        on_host(host)

    try:
        deployment = Deployment(run, _play(job, run, note))
    except BaseException as error:
        begun = (HostEntry(host.name, "interrupted", host.changed, host.seconds, host.task) for host in seen.values())
        journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", begun)
        raise
    entries = (HostEntry(host.name, host.result, host.changed, host.seconds, host.error) for host in deployment.hosts)
    journal.finish(run, "ok" if deployment.ok else "failed", entries)
    return deployment


def _play(job: _Job, run: str, on_host: OnHost) -> list[HostOutcome]:
    wish, fleet, plan = job.wish, job.fleet, job.plan

    def play(name: str, hosts: Iterable[str], variables: dict[str, Any]) -> Recap:
        free = name == "site"
        playbook = Playbook(name, wish.inventory, tuple(hosts), wish.check, wish.diff, variables, free)
        return run_playbook(playbook, on_host)

    def register(records: Rows, absent: Rows, add: bool) -> Recap:
        miners = dict.fromkeys(one["miner"] for one in records)
        rows = {"miner_executors": records, "miner_absent": absent}
        return play("register", miners, rows if add else rows | _NO_NEW_ROWS)

    def prove(newcomers: list[Host]) -> Mapping[str, Report]:
        return _proven(wish, newcomers, recap, on_host)

    outcomes = {host.name: as_it_was(host) for host in plan.hosts}
    names = _to_play(job)
    for host in plan.hosts:
        if host.name not in names:
            one, task = outcomes[host.name], _unplayed(host)
            on_host(HostRecap(host.name, task=task, result=one.result, error=one.error))
    recap, played = Recap(), dict[str, HostOutcome]()
    if names:
        recap = play("site", names, _site_variables(job, run))
        played = {name: outcome_of(name, recap) for name in names}
        if not wish.check and (unverified := settle(wish.inventory, plan, run, played)):
            job.warn(f"only Ansible reaches {', '.join(unverified)}, so nothing was verified there")
    played |= {name: outcomes[name] for name in _rows_only(job) if name not in played}
    if played:
        from celium_ops.workflows.registration import register_the_rest  # the chain's code takes a while to load

        came_up = [fleet.hosts[name] for name in played]
        register_the_rest(
            fleet, came_up, played, recap, register, None if wish.check else prove, _tenants(job, came_up)
        )
    outcomes |= played
    _warn_of_refused(fleet, outcomes.values(), job.warn)
    # Modules of ours tell what they change whether they are asked to or not.
    return [outcome if wish.diff else replace(outcome, differences=[]) for outcome in outcomes.values()]


def _warn_of_refused(fleet: Fleet, outcomes: Iterable[HostOutcome], warn: Callable[[str], None]) -> None:
    """Say which executors are registered for a validator that their miner does not accept."""
    by_miner: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.refused:
            by_miner.setdefault(fleet.hosts[outcome.name].miner or "", []).append(outcome.name)
    for miner, names in by_miner.items():
        warn(
            f"{miner} accepts the validator {fleet.hosts[miner].accepts} only, and has {', '.join(names)} registered "
            f"for another one, so no validator inspects them. Remedy: {REFUSED_REMEDY}"
        )


def _rows_only(job: _Job) -> list[str]:
    """Return the executors that need no play, and whose miners lack their rows, or could not say whether they do."""
    alive = job.fleet.hosts.keys() - set(_dead(job.plan))
    return [
        host.name
        for host in job.plan.hosts
        if host.only_registration or (host.state == "converged" and host.registered is None)
        if job.fleet.hosts[host.name].miner in alive
    ]


def _to_play(job: _Job) -> list[str]:
    """Return the hosts that are not as the inventory says, but for dead ones, and miners that are to forget rows.

    An executor of which nothing but its row differs needs no play, nor does a host whose changes all wait for a tenant
    that it still has.
    """
    if job.wish.full:
        return [host.name for host in job.plan.hosts]
    forget, dead = {row["miner"] for row in job.leftovers}, _dead(job.plan)
    return [
        host.name
        for host in job.plan.hosts
        if host.name in forget or (host.state != "converged" and not host.only_registration)
        if job.wish.even_if_rented or not host.only_waits
        if host.name not in dead
    ]


def _site_variables(job: _Job, run: str) -> dict[str, Any]:
    variables: dict[str, Any] = {"gpu_proof_self_test": False, "_common_run": run, **_JUDGED}
    if job.wish.even_if_rented:
        variables["celium_even_if_rented"] = True
    if job.leftovers:
        variables["miner_absent"] = job.leftovers
    return variables | ({} if job.wish.check else _NO_NEW_ROWS)


def _unplayed(host: HostPlan) -> str:
    """Return the reason that a host is not played, in a few words."""
    if host.only_waits:
        return str(host.waits_for)
    return "registration" if host.only_registration else "converged"


def _tenants(job: _Job, hosts: list[Host]) -> dict[str, tuple[str, ...]]:
    """Return the containers that tenants have now, by host: while they have it, it keeps its validator."""
    if job.wish.even_if_rented:
        return {}
    sights = probe([host for host in hosts if host.role == "executor" and host.connection.is_ours])
    executors = [host.name for host in hosts if host.role == "executor"]
    seen = {name: sights[name].rentals if name in sights else None for name in executors}
    return {name: ("unknown",) if rentals is None else rentals for name, rentals in seen.items()}


_MOST_SHOWN = 10
"""Hosts that a message names."""
_JUDGED = {"_nvidia_docker_driver_judged": True}
"""The role has only the rules that came with us; drivers are judged here, by the operator's where there are some."""
_NO_NEW_ROWS = {"miner_register_new": False}
"""New executors prove themselves before they are registered."""


def _proven(wish: Wish, newcomers: list[Host], played: Recap, on_host: OnHost) -> Mapping[str, Report]:
    """Let executors prove their GPUs, as ``gpu prove`` does; the fleet is locked already."""
    from celium_ops.workflows.gpu import prove_hosts  # numpy takes a while to load, and few deploys have newcomers

    def on_phase(name: str, phase: str) -> None:
        result: Result | None = "ok" if phase == "done" else None
        on_host(
            replace(
                played.hosts.get(name, HostRecap(name)), role="gpu_proof", task=f"GPU proof: {phase}", result=result
            )
        )

    inputs = {"inventory": str(wish.inventory), "limit": ",".join(host.name for host in newcomers)}
    done = prove_hosts(wish.inventory, newcomers, inputs, nullcontext(), on_phase, new=True)
    return {report.name: report.to_json() for report in done.hosts}
