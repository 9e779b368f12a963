"""What the validator would say: each gate of each rule set on its own, and all of them together."""

from __future__ import annotations

import functools
import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.base.errors import UsageError
from celium_ops.verdict import ruleset
from celium_ops.verdict.judge import Host, judge

CARD = {
    "name": "NVIDIA H200",
    "memory_mib": 143771,
    "held_mib": 4,
    "processes": 0,
    "utilisation": 0,
    "memory_utilisation": 0,
    "power_limit_ratio": 1.0,
}
DRIVER = "580.95.05"
FACTS = {
    "rented": False,
    "ld_preload": False,
    "gpu_count": 2,
    "gpu_details": 2,
    "kernel_gpu_count": 2,
    "driver": DRIVER,
    "nvml_digest": "md5:sha256",
    "spec": "NVIDIA H200:2",
    "uuids": ["GPU-0", "GPU-1"],
    "proof": "pass",
    "all_cards_seconds": 20,
    "ports_open": 10,
    "available_mib": 64_000,
    "free_gb": 500,
    "sysbox": True,
}


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@functools.cache
def rules(name):
    """Return a rule set that knows the digest of our driver, as an operator's update would."""
    found = ruleset.load(name)
    drivers = found.tables["drivers"].model_copy(update={"entries": {DRIVER: "md5:sha256", "575.57.08": "other"}})
    return found.model_copy(update={"tables": {**found.tables, "drivers": drivers}})


def host(card=None, second=None, **facts):
    cards = ({**CARD, "uuid": "GPU-0", **(card or {})}, {**CARD, "uuid": "GPU-1", **(second or {})})
    known = {key: value for key, value in {**FACTS, **facts}.items() if value != "absent"}
    return Host(known, [{key: value for key, value in card.items() if value != "absent"} for card in cards])


ALL = ("2025-08", "2025-12", "2026-09")
NEW = ("2026-09",)
OLD = ("2025-08", "2025-12")

# What is wrong with the host, and the gate that says so, in these rule sets.
FLAWS = [
    ({"ld_preload": True}, "gpu.scrape.preload", ALL),
    ({"gpu_count": 15, "gpu_details": 15, "kernel_gpu_count": 15}, "gpu.validate.count", ALL),
    ({"gpu_count": 0, "gpu_details": 0, "kernel_gpu_count": 0}, "gpu.validate.count.none", ALL),
    ({"gpu_details": 1}, "gpu.validate.count.details", ALL),
    ({"gpu_details": None}, "gpu.validate.count.details", ALL),
    ({"card": {"name": "NVIDIA A40"}}, "gpu.validate.model", OLD),
    ({"driver": "100.0"}, "gpu.validate.nvml_digest.version", OLD),
    ({"driver": None}, "gpu.validate.nvml_digest.version", OLD),
    ({"nvml_digest": "patched"}, "gpu.validate.nvml_digest", ALL),
    ({"driver": "575.57.08", "nvml_digest": "other"}, "gpu.validate.driver_minimum", NEW),
    ({"card": {"memory_mib": 20000}}, "gpu.validate.vram", NEW),
    ({"card": {"memory_mib": 160000}}, "gpu.validate.vram", NEW),
    ({"second": {"power_limit_ratio": 0.89}}, "gpu.validate.power_limit", NEW),
    ({"second": {"processes": 1, "utilisation": 5}}, "gpu.validate.usage", ALL),
    ({"second": {"processes": 1, "memory_utilisation": 6}}, "gpu.validate.usage", ALL),
    ({"second": {"held_mib": 2049}}, "gpu.validate.usage.held", NEW),
    ({"second": {"utilisation": 95, "memory_utilisation": 1}}, "gpu.validate.usage.wedged", NEW),
    ({"card": {"held_mib": 2049}}, "gpu.validate.capability.memory", OLD),
    ({"proof": "fail"}, "gpu.validate.capability", ALL),
    ({"ports_open": 2}, "executor.validate.port_connectivity", ("2025-08",)),
    ({"ports_open": 2}, "executor.validate.port_count", ("2025-12", "2026-09")),
    ({"available_mib": 8191}, "gpu.validate.verifyx.memory", ("2025-12", "2026-09")),
    ({"free_gb": 99.9}, "gpu.validate.verifyx.disk", ("2025-12", "2026-09")),
    ({"sysbox": False}, "executor.validate.sysbox", NEW),
]
CASES = [(flaw, gate, name) for flaw, gate, names in FLAWS for name in names]


@pytest.mark.parametrize("name", ALL)
def test_a_good_host_is_accepted_by_all_gates_that_can_be_seen(name):
    verdict = judge(host(), rules(name))
    assert (verdict.prediction, verdict.ruleset) == ("accept", name)
    unseen = {check.id for check in verdict.checks if check.status != "pass"}
    assert unseen == {"gpu.validate.banned", "gpu.validate.rental_history"}


@pytest.mark.parametrize(("flaw", "gate", "name"), CASES)
def test_each_flaw_is_named_by_its_gate_alone(flaw, gate, name):
    verdict = judge(host(**flaw), rules(name))
    failed = {check.id for check in verdict.checks if check.status == "fail"}
    assert (verdict.prediction, failed) == ("reject", {gate})
    (check,) = verdict.reasons
    assert check.remedy
    assert check.required


def test_every_gate_that_can_be_seen_and_counts_has_a_flaw_here():
    for name in ALL:
        gates = {gate.id for gate in ruleset.load(name).gates if gate.observable and gate.effect != "shadow"}
        tried = {gate for _, gate, names in FLAWS if name in names}
        not_alone = {"gpu.validate.spec_change", "gpu.validate.fingerprint"}  # they need a host of before
        if name in NEW:
            not_alone |= {"gpu.validate.model", "gpu.validate.nvml_digest.version"}  # whose lists are not complete
        assert gates == tried | not_alone


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("changed", [{"spec": "NVIDIA H200:1"}, {"uuids": ["GPU-0", "GPU-2"]}])
def test_a_host_that_has_changed_is_not_the_host_of_before(name, changed):
    verdict = judge(host(**changed), rules(name), before=host())
    assert [check.code for check in verdict.reasons] == ["SPEC_CHANGED" if "spec" in changed else "GPU_UUID_CHANGED"]
    assert judge(host(), rules(name), before=host()).prediction == "accept"


def test_what_nobody_looked_at_is_unknown_and_not_what_the_validator_does_without_it():
    assert judge(host(driver=None), rules("2026-09")).prediction == "reject"
    not_looked = judge(host(driver="absent"), rules("2026-09"))
    assert not_looked.prediction == "unknown"
    assert "gpu.validate.driver_minimum" in {check.id for check in not_looked.reasons}
    assert judge(host(second={"power_limit_ratio": None}), rules("2026-09")).prediction == "accept"
    assert judge(host(second={"power_limit_ratio": "absent"}), rules("2026-09")).prediction == "unknown"


def test_a_list_that_is_not_complete_rejects_nobody():
    verdict = judge(host(driver="615.10"), ruleset.load("2026-09"))
    assert verdict.prediction == "unknown"
    (version,) = [check for check in verdict.checks if check.id == "gpu.validate.nvml_digest.version"]
    assert "the validator's list has more" in version.message


def test_a_rule_that_is_not_enforced_only_warns():
    verdict = judge(host(all_cards_seconds=100, kernel_gpu_count=1), rules("2026-09"))
    warned = {check.id for check in verdict.checks if check.status == "warn"}
    assert (verdict.prediction, warned) == ("accept", {"gpu.validate.all_cards", "gpu.validate.kernel"})


def test_a_rented_host_may_be_busy():
    busy = {"processes": 3, "utilisation": 100, "memory_utilisation": 90, "held_mib": 100_000}
    assert judge(host(card=busy, second=busy, proof="absent"), rules("2026-09")).prediction == "reject"
    verdict = judge(host(card=busy, second=busy, rented=True, proof="absent"), rules("2026-09"))
    assert verdict.prediction == "accept"
    assert {check.status for check in verdict.checks if check.id.startswith("gpu.validate.usage")} == {"skipped"}


@given(st.data())
def test_the_verdict_is_the_worst_of_its_checks(data):
    names = data.draw(st.sets(st.sampled_from(sorted(FACTS)), max_size=4))
    verdict = judge(host(**dict.fromkeys(names, "absent")), rules("2026-09"))
    assert verdict.prediction != "reject", "nothing was seen that is wrong"
    gates = {gate.id for gate in ruleset.load("2026-09").gates if gate.observable}
    unknown = [check for check in verdict.checks if check.status == "unknown" and check.enforced and check.id in gates]
    assert (verdict.prediction == "unknown") == bool(unknown)


# Rule sets as files


def shipped(tmp_path, change):
    content = json.loads(ruleset.load("2026-09").model_dump_json(by_alias=True))
    change(content)
    file = tmp_path / "new.yml"
    file.write_text(json.dumps(content))
    return file


def test_an_operators_rule_set_takes_the_place_of_ours_until_it_is_deleted(tmp_path):
    def newer(content):
        content["date"] = "2026-11-20"
        content["tables"]["drivers"]["entries"][DRIVER] = "md5:sha256"

    _, kept = ruleset.install(shipped(tmp_path, newer))
    assert ruleset.load("2026-09").age_days(date(2026, 11, 21)) == 1
    assert judge(host(), ruleset.load("2026-09")).prediction == "accept"
    ruleset.install(shipped(tmp_path, lambda content: content.update(name="2026-11")))
    assert ruleset.names() == [*ALL, "2026-11"]
    kept.unlink()
    assert ruleset.load("2026-09").date == date(2026, 9, 22)


BROKEN = [
    (lambda content: content.pop("gates"), "gates: Field required"),
    (lambda content: content["gates"][0].update(effect="deadly"), "gates.0.effect"),
    (lambda content: content["gates"][0].update(limit=3), "gates.0.limit: Extra inputs"),
    (lambda content: content["gates"].append(content["gates"][0]), "a gate's id stands twice"),
    (lambda content: content["tables"].pop("sizes"), "asks for the table sizes"),
    (lambda content: content["sources"].pop("constants"), "names the source constants"),
    (lambda content: content.update(name="../../etc/x"), "name: String should match"),
    (lambda content: content.update(schema="celium-ops/ruleset/2"), "schema"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_what_is_no_rule_set_is_refused_with_the_place(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        ruleset.install(shipped(tmp_path, change))
    assert ruleset.load("2026-09").date == date(2026, 9, 22)


def test_files_that_cannot_be_read_are_wrong_usage(tmp_path):
    (tmp_path / "x.yml").write_text("a: [")
    for file, message in ((tmp_path / "none.yml", "cannot read"), (tmp_path / "x.yml", "is no YAML")):
        with pytest.raises(UsageError, match=message):
            ruleset.install(file)
    with pytest.raises(UsageError, match="there is no rule set 2024-01"):
        ruleset.load("2024-01")
