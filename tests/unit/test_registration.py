"""New executors are registered when their GPUs have proven themselves, as ``executor_gpu_proof`` wants it."""

from __future__ import annotations

from pathlib import Path

import pytest

from celium_ops.fleet.model import LIUM_VALIDATOR, Connection, Fleet, Host
from celium_ops.remote.probe import Sight
from celium_ops.runner.recap import HostRecap, Recap
from celium_ops.workflows import registration
from celium_ops.workflows.assign import REGISTRY_MODULE
from celium_ops.workflows.deploy import _warn_of_refused
from celium_ops.workflows.outcomes import outcome_of
from celium_ops.workflows.proofs import objection
from celium_ops.workflows.registration import register_the_rest

PROVEN = {"mode": "cuda", "assurance": "work_proven", "verdict": "accept", "reasons": []}
SIMULATED = {"mode": "simulated", "assurance": "none", "verdict": "unknown", "reasons": []}
LIED = {"mode": "cuda", "assurance": "none", "verdict": "reject", "reasons": [{"code": "inexact", "message": "no"}]}
RENTED = {"mode": None, "assurance": "none", "verdict": "skipped", "reasons": [{"code": "rented", "message": "it is"}]}
UNSURE = {"mode": "cuda", "assurance": "self_reported", "verdict": "unknown", "reasons": []}

POLICIES = [
    ("required", PROVEN, None),
    ("required", {**PROVEN, "verdict": "unknown"}, None),
    ("required", {**PROVEN, "verdict": "reject"}, "reject"),
    ("required", SIMULATED, "unknown"),
    ("required", {**PROVEN, "mode": "simulated", "assurance": "none"}, "accept"),
    ("required", UNSURE, "unknown"),
    ("required", LIED, "inexact: no"),
    ("required", RENTED, "rented: it is"),
    ("required", None, "not proven themselves yet"),
    ("simulated", SIMULATED, None),
    ("simulated", LIED, "inexact: no"),
    ("simulated", {**SIMULATED, "verdict": "reject"}, "reject"),
    ("simulated", None, "not proven themselves yet"),
    ("advise", LIED, None),
    ("advise", RENTED, None),
    ("advise", None, None),
]


@pytest.mark.parametrize(("policy", "report", "why"), POLICIES)
def test_what_keeps_an_executor_out(policy, report, why):
    host = Host("gpu-1", "executor", Connection("gpu-1"), {"executor_gpu_proof": policy})
    found = objection(host, report)
    assert (found is None) == (why is None)
    assert why is None or why in found


class Rehearsal:
    """A miner with a registry, and executors that came up; it answers as the registry module does."""

    def __init__(self, policy, *names, limit=False):
        values = {"executor_gpu_proof": policy, "executor_miner": "miner-1", "executor_external_port": 8001}
        hosts = {"miner-1": Host("miner-1", "miner", Connection("miner-1"), {})}
        for name in names:
            own = {**values, "executor_address": name, "executor_validator": "5Validator"}
            hosts[name] = Host(name, "executor", Connection(name), own)
        self.fleet = Fleet(Path("fleet.yml"), hosts)
        self.selected = [host for host in hosts.values() if host.role == "executor" or not limit]
        self.registered, self.plays, self.asked, self.removed, self.postponed = set(), [], [], [], []

    def register(self, records, absent, add):
        self.plays.append(([record["name"] for record in records], add))
        self.rented = [name for record in records for name in record["rented"]]
        self.removed += absent
        if add:
            self.registered |= {record["name"] for record in records}
        return self.recap([record["name"] for record in records], ["miner-1"])

    def recap(self, executors, hosts):
        recap = Recap({name: HostRecap(name, result="ok") for name in hosts})
        entries = [
            {
                "name": name,
                "registered": name in self.registered,
                "unassigned": False,
                "missing": name not in self.registered,
            }
            for name in executors
        ]
        absent = [{**row, "registered": True, "postponed": True} for row in self.postponed]
        recap.outputs[REGISTRY_MODULE] = {"miner-1": {"executors": entries, "absent": absent, "others": []}}
        return recap

    def deploy(self, reports, check=False):
        executors = [host.name for host in self.selected if host.role == "executor"]
        inside = any(host.role == "miner" for host in self.selected)
        played = self.recap(executors if inside else [], [host.name for host in self.selected])
        outcomes = {host.name: outcome_of(host.name, played) for host in self.selected}

        def prove(hosts):
            self.asked.append([host.name for host in hosts])
            return reports

        prover = None if check else prove
        register_the_rest(self.fleet, self.selected, outcomes, played, self.register, prover, {"gpu-1": ["pod_1"]})
        return outcomes


def test_only_what_proved_itself_is_registered():
    fleet = Rehearsal("required", "gpu-1", "gpu-2")
    outcomes = fleet.deploy({"gpu-1": PROVEN, "gpu-2": LIED})
    assert fleet.plays == [(["gpu-1"], True)]
    good, bad = outcomes["gpu-1"], outcomes["gpu-2"]
    assert (good.result, good.registered, good.proof) == ("ok", True, "accept")
    assert (bad.result, bad.registered, bad.proof) == ("failed", False, "reject")
    assert "inexact: no" in bad.error
    assert "gpu show" in bad.remedy


def test_advice_stops_nobody():
    outcomes = Rehearsal("advise", "gpu-1").deploy({"gpu-1": LIED})
    assert (outcomes["gpu-1"].result, outcomes["gpu-1"].registered, outcomes["gpu-1"].proof) == ("ok", True, "reject")


def test_what_is_registered_proves_nothing():
    fleet = Rehearsal("required", "gpu-1", "gpu-2")
    fleet.registered = {"gpu-1"}
    fleet.deploy({"gpu-2": PROVEN})
    assert (fleet.asked, fleet.plays) == ([["gpu-2"]], [(["gpu-2"], True)])
    fleet.deploy({})
    assert len(fleet.asked) == 1


def test_executors_of_a_miner_outside_the_limit_prove_themselves_too():
    fleet = Rehearsal("required", "gpu-1", limit=True)
    assert fleet.deploy({"gpu-1": LIED})["gpu-1"].registered is False
    assert (fleet.plays, fleet.rented) == ([(["gpu-1"], False)], ["pod_1"])
    assert fleet.deploy({"gpu-1": PROVEN})["gpu-1"].registered is True


def test_what_another_miner_has_is_neither_proven_nor_registered(monkeypatch):
    fleet = Rehearsal("required", "gpu-1", "gpu-2")
    fleet.fleet.hosts["miner-2"] = Host("miner-2", "miner", Connection("miner-2"), {})
    row = {"uuid": "u", "address": "gpu-1", "port": 8001, "validator": "v"}
    monkeypatch.setattr(registration, "probe", lambda hosts: {host.name: Sight(True, registry=[row]) for host in hosts})
    outcome = fleet.deploy({"gpu-2": PROVEN})["gpu-1"]
    assert (fleet.asked, fleet.plays) == ([["gpu-2"]], [(["gpu-2"], True)])
    assert (outcome.result, outcome.registered) == ("failed", False)
    assert "still registered at miner-2" in outcome.error


def test_rows_that_a_miner_of_lium_does_not_accept_are_said_once_for_each_miner():
    fleet = Rehearsal("required", "gpu-1", "gpu-2", "gpu-3")
    fleet.fleet.hosts["miner-1"].values["celium_dialect"] = "lium"
    recap = fleet.recap(["gpu-1", "gpu-2", "gpu-3"], ["miner-1", "gpu-1", "gpu-2", "gpu-3"])
    for entry in recap.outputs[REGISTRY_MODULE]["miner-1"]["executors"]:
        entry["refused"] = entry["name"] != "gpu-2"
    outcomes = {host.name: outcome_of(host.name, recap) for host in fleet.selected}
    registration.note_registrations(fleet.fleet, recap, fleet.selected, outcomes)
    warnings = []
    _warn_of_refused(fleet.fleet, outcomes.values(), warnings.append)
    (line,) = warnings
    assert line.startswith(f"miner-1 accepts the validator {LIUM_VALIDATOR} only, and has gpu-1, gpu-3 registered")
    assert "celium-ops assign apply" in line
    assert "miner_default_validator" in line


def test_a_check_proves_and_registers_nothing():
    fleet = Rehearsal("required", "gpu-1")
    assert fleet.deploy({}, check=True)["gpu-1"].registered is False
    assert (fleet.asked, fleet.plays) == ([], [])


OLD = {"miner": "miner-1", "address": "192.0.2.9", "port": 8001}


def test_a_row_is_removed_when_all_that_are_missing_have_theirs():
    fleet = Rehearsal("required", "gpu-1", "gpu-2")
    fleet.postponed = [OLD]
    fleet.deploy({"gpu-1": PROVEN, "gpu-2": LIED})
    assert fleet.removed == [], "it may be the old place of gpu-2"
    fleet.deploy({"gpu-2": PROVEN})
    assert fleet.removed == [OLD]
