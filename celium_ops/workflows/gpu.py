"""Prove the GPUs of executors: one conversation with a container on each, judged here, kept in the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import UsageError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.gpu.assessment import NOT_PROVEN, Assessment, assess
from celium_ops.gpu.examination import Examination, ExaminationError, Proof
from celium_ops.gpu.report import NO_PROVER, NOT_EXAMINED, CardReport, HostReport, Reason, Verdict
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal
from celium_ops.registry.rows import row_name
from celium_ops.remote.conversation import Conversation
from celium_ops.remote.probe import probe
from celium_ops.verdict import judge
from celium_ops.workflows.lock import fleet_locked
from celium_ops.workflows.outcomes import outcome_of
from celium_ops.workflows.predictions import last_accepted, prediction, rules_of, seen_by_nvml
from celium_ops.workflows.proofs import COMMAND
from celium_ops.workflows.selection import select

IMAGE = "celium-ops/gpu-proof:installed"
"""What the role gpu_proof leaves on a host, wherever it came from."""
AT_ONCE = 8
"""Hosts; each one's verification takes the better part of a core for a second."""

TRIES = 3
"""Examinations of simulated cards that only our clock speaks against: they are as slow as the machine is busy.

A real card has one: with more, who was drawn badly once would be drawn anew.
"""

OnPhase = Callable[[str, str], None]


@dataclass(frozen=True)
class Proving:
    """A run."""

    run: str
    hosts: list[HostReport]

    @property
    def ok(self) -> bool:
        """Tell whether nothing speaks against any host."""
        return all(host.ok for host in self.hosts)


def prove(
    inventory: Path,
    limit: str | None,
    deep: bool,
    on_hosts: Callable[[list[Host]], None],
    on_phase: OnPhase,
    warn: Callable[[str], None],
) -> Proving:
    """Examine the executors, all at once; rented ones are left alone, and those that lack the prover get it.

    Raises:
        UsageError: the inventory is wrong, or the limit names no executor.
        GuardError: hosts lack the prover, and somebody else changes the fleet.
        CeliumError: the journal cannot be used.
        KeyboardInterrupt: ctrl-c.
    """
    fleet = load_fleet(inventory)
    hosts = [host for host in select(fleet, limit) if host.role == "executor"]
    if not hosts:
        raise UsageError("there is no executor to prove", remedy="--limit names hosts of the group executors")
    on_hosts(hosts)
    lock = fleet_locked(fleet, fleet_dir(inventory), "a proof of GPUs", warn)
    inputs = {"inventory": str(inventory), "limit": limit, "deep": deep}
    return prove_hosts(inventory, hosts, inputs, lock, on_phase, deep)


def prove_hosts(
    inventory: Path,
    hosts: list[Host],
    inputs: dict[str, Any],
    lock: AbstractContextManager[object],
    on_phase: OnPhase,
    deep: bool = False,
    new: bool = False,
) -> Proving:
    """Examine executors as ``prove`` does, and keep it in the journal; ``lock`` is held while provers are installed.

    ``new`` ones have no history that their cards could differ from.
    """
    journal = Journal(fleet_dir(inventory))
    before = {} if new else last_accepted(inventory)
    run = journal.begin(COMMAND, inputs)
    try:
        reports = _all(hosts, before, on_phase, deep)
        lacking = [host for host in hosts if reports[host.name].lacks_prover]
        if lacking:
            with lock:
                reports |= _installed(inventory, lacking, on_phase)
            ready = [host for host in lacking if reports[host.name].lacks_prover]
            reports |= _all(ready, before, on_phase, deep)
    except BaseException as error:
        journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    done = Proving(run, [reports[host.name] for host in hosts])
    places = {host.name: row_name(host.endpoint) for host in hosts}
    journal.detail(run, {"hosts": [report.to_json() for report in done.hosts], "places": places})
    journal.finish(run, "ok" if done.ok else "failed", [_entry(report) for report in done.hosts])
    return done


def _all(hosts: list[Host], before: Mapping[str, judge.Host], on_phase: OnPhase, deep: bool) -> dict[str, HostReport]:
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        reports = pool.map(lambda host: _guarded(host, before.get(host.name), on_phase, deep), hosts)
        return {report.name: report for report in reports}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _installed(inventory: Path, hosts: list[Host], on_phase: OnPhase) -> dict[str, HostReport]:
    """Bring the prover to hosts; return the reports of those where that failed."""
    from celium_ops.runner.playbook import Playbook, run_playbook

    names = tuple(host.name for host in hosts)
    recap = run_playbook(
        Playbook("gpu_proof", inventory, names, variables={"gpu_proof_self_test": False}),
        lambda host: on_phase(host.name, "installing"),
    )
    outcomes = [outcome_of(name, recap) for name in names]
    failed = [outcome for outcome in outcomes if outcome.result != "ok"]
    return {
        outcome.name: _not_examined(outcome.name, f"the prover could not be installed: {outcome.error}")
        for outcome in failed
    }


def docker_run(host: str, simulated: bool) -> list[str]:
    """Return the command that starts a prover: no network, nothing writable, no capability, only the GPUs; pure."""
    # Simulated cards are called after the host's name.
    gpus = ["--hostname", host] if simulated else ["--gpus", "all"]
    locked = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    return ["docker", "run", "--rm", "-i", "--pull", "never", "--log-driver", "none", *locked, *gpus, IMAGE]


def _guarded(host: Host, before: judge.Host | None, on_phase: OnPhase, deep: bool) -> HostReport:
    """Examine one host; whatever goes wrong with it, the others' reports are not lost."""
    try:
        return _prove(host, before, on_phase, deep)
    except Exception as error:  # its prover may say anything
        return _not_examined(host.name, f"the examination broke off: {type(error).__name__}: {error}")


def _prove(host: Host, before: judge.Host | None, on_phase: OnPhase, deep: bool) -> HostReport:
    simulated = host.values["executor_gpu_proof"] == "simulated"
    sight = probe([host])[host.name]  # now, as a tenant may come while others are examined
    if not sight.reachable:
        return _not_examined(host.name, f"it cannot be reached: {sight.errors[0]}")
    if sight.rentals is None:
        return _not_examined(host.name, "whether it is rented out cannot be read: " + "; ".join(sight.errors))
    if sight.rentals:
        return HostReport(host.name, "skipped", reasons=(Reason(code="rented", message="it is rented out"),))
    try:
        for _ in range(TRIES if simulated else 1):
            with Conversation(host, docker_run(host.name, simulated)) as line:
                proof = Examination(line, lambda phase: on_phase(host.name, phase), deep).run()
            found = assess(proof, simulated)
            if not found.only_late:
                break
    except ExaminationError as error:
        lacking = error.code == NO_PROVER or any(words in str(error) for words in _NO_IMAGE)
        return _not_examined(host.name, str(error), NO_PROVER if lacking else NOT_EXAMINED)
    on_phase(host.name, "done")
    prediction = None if simulated else _predicted(host, proof, found, before)
    return _report(host, proof, found, prediction)


_NO_IMAGE = ("No such image", "Unable to find image")


def _not_examined(name: str, message: str, code: str = NOT_EXAMINED) -> HostReport:
    return HostReport(name, "unknown", reasons=(Reason(code=code, message=message),))


def facts_of(proof: Proof, found: Assessment) -> judge.Host | None:
    """Return what the validator would find on a host, as far as a proof shows it; null without NVML; pure."""
    nvml = proof.hello.nvml
    if nvml is None:
        return None
    more: dict[str, Any] = {
        "ld_preload": bool(proof.hello.tampering),
        "rented": False,
        "proof": "fail" if found.verdict == "reject" else "pass",
    }
    if proof.hello.kernel is not None:
        more["kernel_gpu_count"] = len(proof.hello.kernel)
    return seen_by_nvml(nvml, more)


def _predicted(host: Host, proof: Proof, found: Assessment, before: judge.Host | None) -> dict[str, Any] | None:
    facts = facts_of(proof, found)
    return None if facts is None else prediction(facts, rules_of(host).of_the_proof(), before)


def _report(host: Host, proof: Proof, found: Assessment, prediction: dict[str, Any] | None) -> HostReport:
    reasons = [Reason(code=check.code or check.id, message=check.message) for check in found.reasons]
    verdict: Verdict = found.verdict
    if prediction and verdict != "reject":
        verdict = prediction["verdict"] if verdict == "accept" else verdict
        if prediction["verdict"] == "reject":
            reasons += [Reason(code=one["code"], message=one["message"]) for one in prediction["reasons"]]
        verdict = "reject" if prediction["verdict"] == "reject" else verdict
    return HostReport(
        name=host.name,
        verdict=verdict,
        mode=found.mode,
        assurance=found.assurance,
        seconds=proof.seconds,
        reasons=tuple(reasons),
        prediction=prediction,
        checks=tuple(check.record() for check in found.host),
        gpus=tuple(_card(uuid, proof, found) for uuid in found.cards),
        not_proven=NOT_PROVEN,
        about=dict(proof.hello.about),
    )


def _card(uuid: str, proof: Proof, found: Assessment) -> CardReport:
    card, checks, nvml = proof.cards[uuid], found.cards[uuid], proof.hello.nvml
    known = {one.uuid: str(one.name) for one in (nvml.cards if nvml else [])}
    together = card.together
    failed = any(check.status == "fail" for check in checks)
    return CardReport(
        uuid=uuid,
        name=known.get(uuid, "processor"),
        verdict="reject" if failed else "accept" if found.mode == "cuda" else "unknown",
        proven_tflops=together.proven_tflops if together else None,
        tflops=together.report.tflops if together and together.report else None,
        of_clock=found.efficiencies.get(uuid),
        memory_gib=together.shape.stored / 2**30 if together and together.proven_tflops else None,
        bandwidth_gb_s=card.measures.copy_gb_s,
        checks=tuple(check.record() for check in checks),
    )


def _entry(report: HostReport) -> HostEntry:
    result = {"reject": "failed", "skipped": "skipped"}.get(report.verdict, "ok" if report.ok else "failed")
    error = "; ".join(f"{reason.code}: {reason.message}" for reason in report.reasons[:3]) or None
    return HostEntry(report.name, result, 0, report.seconds, error)
