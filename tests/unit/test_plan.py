"""When a host is converged, and in which words it is not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.module_utils import registry_plan
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from celium_ops.fleet.fingerprint import changed, inputs, seal
from celium_ops.fleet.model import LIUM_VALIDATOR, Connection, Fleet, Host
from celium_ops.registry.rows import Registration
from celium_ops.remote.probe import Record, Sight, Wait
from celium_ops.workflows.plan import drifted, judge

ROOT = Path(__file__).parents[2]
VALUES = {
    "celium_dialect": "celium",
    "celium_secrets_dir": "/nowhere",
    "executor_address": "192.0.2.9",
    "executor_external_port": 8001,
    "executor_miner": "miner-1",
}
EXECUTOR = Host("gpu-1", "executor", Connection("192.0.2.9"), VALUES, {"executor_external_port": ("fleet.yml", 7)})
MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {"celium_secrets_dir": "/nowhere"})
FLEET = Fleet(Path("fleet.yml"), {"miner-1": MINER, "gpu-1": EXECUTOR})
GIVEN = inputs([EXECUTOR])["gpu-1"]
ROW = Registration("u", "192.0.2.9", 8001, "5F")
_RENTED = "waits for the tenant of gpu-1: pod_1"
_RESTARTS = f"Docker restarts; {_RENTED}"
_BOOT = "with a reboot if that needs one and nvidia_docker_reboot allows it"
_CHANGES = f"the NVIDIA driver changes, {_BOOT}; {_RENTED}"
ROWS = {"miner-1": {("192.0.2.9", 8001): ROW}}
WELL = Sight(True, rentals=(), record=Record(seal(GIVEN, "run"), ()))
STOPPED = {
    "kind": "container",
    "name": "executor-db-1",
    "fields": ["state"],
    "before": {"state": "running"},
    "after": {"state": "exited"},
}


def plan(sight=WELL, rows=ROWS, given=GIVEN, host=EXECUTOR):
    return judge(FLEET, host, sight, rows, given)


def test_a_host_as_its_apply_left_it_is_converged():
    assert (plan().state, plan().drift, plan().registered, plan().changes) == ("converged", (), True, 0)


@pytest.mark.parametrize(
    ("sight", "rows", "state", "kinds"),
    [
        (Sight(False, errors=("no route to host",)), ROWS, "unreachable", []),
        (Sight(True, errors=("no Docker",)), ROWS, "new", []),
        (Sight(True, record_error="cannot be compared"), ROWS, "differs", []),
        (replace(WELL, record=Record(None, ())), ROWS, "differs", ["input"]),
        (replace(WELL, record=Record(seal(GIVEN, "run"), (STOPPED,))), ROWS, "differs", ["container"]),
        (replace(WELL, errors=("the registry cannot be read",)), {}, "differs", []),
        (WELL, {"miner-1": {}}, "differs", ["registration"]),
        (WELL, {}, "converged", []),
    ],
    ids=["dead", "virgin", "unreadable", "unsealed", "drifted", "half read", "unregistered", "miner unasked"],
)
def test_anything_else_is_not(sight, rows, state, kinds):
    found = plan(sight, rows)
    assert (found.state, [one.kind for one in found.drift]) == (state, kinds)
    assert found.changes == (len(kinds) or int(state in ("new", "differs")))


def test_an_input_that_changed_is_named_with_its_place():
    moved = inputs([replace(EXECUTOR, values=VALUES | {"executor_external_port": 8002, "executor_price": 1})])["gpu-1"]
    found = plan(given=moved)
    assert [(one.name, one.why) for one in found.drift] == [
        ("executor_external_port", "has changed since the last apply (fleet.yml:7)"),
        ("executor_price", "is new since the last apply"),
    ]


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("nvidia_docker_address_pools", _RESTARTS),
        ("nvidia_docker_daemon_options", _RESTARTS),
        ("nvidia_docker_disk", _RESTARTS),
        ("nvidia_docker_insecure_registries", _RESTARTS),
        ("nvidia_docker_sysbox", _RESTARTS),
        ("nvidia_docker_toolkit_version", _RESTARTS),
        (
            "nvidia_docker_reboot",
            f"the NVIDIA driver changes, {_BOOT}; {_RENTED}",
        ),
        ("executor_image", f"containers whose environment or configuration differs are made anew; {_RENTED}"),
        ("firewall_open", f"the firewall is loaded anew; {_RENTED}"),
        ("nvidia_docker_driver_version", _CHANGES),
    ],
)
def test_what_a_changed_input_does_is_foretold(key, effect):
    given = inputs([replace(EXECUTOR, values=VALUES | {key: "another"})])["gpu-1"]
    found = plan(replace(WELL, rentals=("pod_1",)), given=given)
    assert effect in found.effects
    assert found.waits_for == _RENTED


def test_another_writing_of_a_value_is_another_input():
    # The check makes 8001 of both, the template writes what it is given.
    hosts = [replace(EXECUTOR, given={"executor_external_port": port}) for port in (8001, "08001")]
    one, other = (inputs([host])["gpu-1"] for host in hosts)
    assert changed(other, seal(one, "run")) == ["executor_external_port"]


@pytest.mark.parametrize(
    ("dialect", "key", "reaches"),
    [
        ("celium", "executor_validator", False),
        ("celium", "executor_weight", False),
        ("celium", "executor_price", True),
        ("lium", "executor_price", False),
        ("celium", "gpu_proof_image", False),
        ("celium", "executor_gpu_proof", True),
    ],
)
def test_what_a_deploy_does_nothing_with_on_a_host_is_no_input_of_roles(dialect, key, reaches):
    before = replace(EXECUTOR, values=VALUES | {"celium_dialect": dialect})
    after = replace(before, values=before.values | {key: 2})
    assert (inputs([before])["gpu-1"] != inputs([after])["gpu-1"]) is reaches


def test_no_role_does_anything_on_a_host_with_what_only_a_registry_hears_of():
    parts = [
        ROOT / "templates",
        *ROOT.glob("roles/*/tasks"),
        *ROOT.glob("roles/*/vars"),
        *ROOT.glob("roles/*/templates"),
    ]
    named = {
        str(file.relative_to(ROOT))
        for part in parts
        for file in part.rglob("*")
        if file.is_file() and re.search("executor_(validator|weight|price)", file.read_text())
    }
    assert named == {"roles/executor/tasks/verify.yml"}, "where it is put into words for the miner"


def test_a_row_for_another_validator_is_all_that_changes():
    pinned = replace(EXECUTOR, values=VALUES | {"executor_validator": "5G"})
    found = plan(host=pinned, given=inputs([pinned])["gpu-1"])
    assert [(one.kind, one.why) for one in found.drift] == [
        ("registration", "registered for 5F, the inventory says 5G")
    ]
    assert (found.only_registration, found.effects) == (True, ("its row at its miner changes",))


def test_a_row_whose_validator_the_miner_of_lium_does_not_accept_differs_and_no_role_is_played_for_it():
    lium = {"celium_dialect": "lium"}
    executor, miner = (replace(one, values=one.values | lium) for one in (EXECUTOR, MINER))
    given = inputs([executor])["gpu-1"]
    sight = replace(WELL, record=Record(seal(given, "run"), ()))

    def found(row, **values):
        hosts = {"miner-1": replace(miner, values=miner.values | values), "gpu-1": executor}
        return judge(replace(FLEET, hosts=hosts), executor, sight, {"miner-1": {executor.endpoint: row}}, given)

    strange = found(ROW)
    assert (strange.state, strange.changes, strange.only_registration, strange.effects) == ("differs", 1, True, ())
    ((drift),) = strange.drift
    assert (drift.kind, drift.name) == ("validator", "192.0.2.9:8001")
    assert f"registered for 5F, which miner-1 does not accept: it accepts {LIUM_VALIDATOR} only" in drift.why
    assert "celium-ops assign apply" in drift.why
    assert found(replace(ROW, validator=LIUM_VALIDATOR)).state == "converged"
    moved = found(ROW, miner_default_validator="5G")
    assert [one.kind for one in moved.drift] == ["registration"], "a deploy switches it"


def test_leftovers_are_named_and_are_no_change():
    gone = Registration("v", "192.0.2.10", 8001, "5F")
    sight = replace(WELL, record=Record(seal(inputs([MINER])["miner-1"], "run"), ()))
    rows = {"miner-1": {("192.0.2.9", 8001): ROW, ("192.0.2.10", 8001): gone}}
    found = judge(FLEET, MINER, sight, rows, inputs([MINER])["miner-1"])
    assert (found.state, found.changes, found.leftovers) == ("converged", 0, (("192.0.2.10", 8001),))
    assert [(one.kind, one.name) for one in found.drift] == [("leftover", "192.0.2.10:8001")]


WAITS = (Wait("container", "executor-db-1", "is recreated or restarted", "it is rented (pod_1)"),)


@pytest.mark.parametrize(
    ("rentals", "more", "only_waits"),
    [(("pod_1",), (), True), (None, (), True), ((), (), False), (("pod_1",), (STOPPED,), False)],
    ids=["rented", "perhaps rented", "left", "rented and drifted"],
)
def test_what_an_earlier_deploy_left_for_a_tenant_is_pending_until_it_is_done(rentals, more, only_waits):
    found = plan(replace(WELL, rentals=rentals, record=Record(seal(GIVEN, "run"), more, WAITS)))
    assert (found.state, found.changes, found.only_waits) == ("differs", 1 + len(more), only_waits)
    assert found.drift[-1].why == "is recreated or restarted when no tenant has the host any more"


def test_who_says_even_if_rented_waits_for_no_tenant():
    host = replace(EXECUTOR, values=VALUES | {"celium_even_if_rented": True})
    assert plan(replace(WELL, rentals=("pod_1",)), host=host).waits_for is None
    assert judge(FLEET, MINER, replace(WELL, rentals=None), ROWS, inputs([MINER])["miner-1"]).waits_for is None


def test_a_restart_of_docker_is_foretold_and_waits_for_a_rental():
    keys = {"kind": "file", "name": "/etc/docker/daemon.json", "before": {}, "after": {}, "fields": []}
    sight = replace(WELL, record=Record(seal(GIVEN, "run"), (keys,)))
    assert plan(sight).effects == ("Docker restarts",)
    assert _RENTED in plan(replace(sight, rentals=("pod_1",))).effects[0]
    assert plan(replace(WELL, record=Record(seal(GIVEN, "run"), (STOPPED,)))).effects == (
        "containers are made or started: executor-db-1",
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (STOPPED, "state is exited, was running"),
        ({"kind": "file", "name": "/x", "before": {"mode": "0600"}, "after": None}, "is gone"),
        ({"kind": "file", "name": "/x", "before": None, "after": {"mode": "0600"}}, "is there, and was not"),
        (
            {
                "kind": "file",
                "name": "/x",
                "before": {},
                "after": {},
                "fields": [],
                "variables": ["A"],
                "content": True,
            },
            "A changed",
        ),
        (
            {"kind": "file", "name": "/x", "before": {}, "after": {}, "fields": [], "content": True},
            "its content changed",
        ),
        ({"kind": "firewall", "name": "t", "before": None, "after": None, "diff": "-a\n+b"}, "its rules changed"),
        ({"kind": "file", "name": "/x", "before": ["a"], "after": []}, "is nothing, was a"),
    ],
)
def test_differences_in_words(found, why):
    assert drifted(found).why == why


# The fingerprint

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
KEYS = st.dictionaries(
    st.from_regex("[a-z_]{1,9}", fullmatch=True),
    st.integers() | st.text() | st.lists(SCALARS) | st.dictionaries(st.text(), SCALARS),
)


def given_to(values, **more):
    host = replace(EXECUTOR, values={"celium_secrets_dir": "/nowhere", **values}, **more)
    return inputs([host, MINER])[host.name]


@settings(max_examples=60)
@cases(KEYS, KEYS)
def test_exactly_what_changed_is_found(before, after):
    before, after = ({k: v for k, v in one.items() if k not in VALUES} for one in (before, after))
    absent = object()

    def differ(key):
        old, new = before.get(key, absent), after.get(key, absent)
        return (type(old), old) != (type(new), new) or str(old) != str(new)

    wanted = sorted(key for key in {*before, *after} if differ(key))
    assert changed(given_to(after), seal(given_to(before), "run")) == wanted


def test_a_seal_gives_nothing_away_and_two_are_not_alike():
    kept = [seal(given_to({"executor_db_password": "hunter2"}), "run") for _ in range(2)]
    assert "hunter2" not in str(kept)
    assert kept[0]["digests"]["executor_db_password"] != kept[1]["digests"]["executor_db_password"]


def test_files_of_the_controller_count_by_what_is_in_them(tmp_path):
    (tmp_path / "gpu-1").mkdir()
    (tmp_path / "other").mkdir()
    secret, key = tmp_path / "gpu-1" / "executor_db_password", tmp_path / "key.asc"
    wallet = tmp_path / "cold" / "hotkeys" / "hot"
    wallet.parent.mkdir(parents=True)
    for file in (secret, key, wallet):
        file.write_text("one")
    values = {
        "celium_secrets_dir": str(tmp_path),
        "nvidia_docker_key": str(key),
        "executor_wallet_source": str(tmp_path),
        "executor_wallet_name": "cold",
        "executor_wallet_hotkey": "hot",
    }
    sealed = seal(given_to(values), "run")
    assert changed(given_to(values), sealed) == []
    (tmp_path / "other" / "executor_db_password").write_text("another host's")
    assert changed(given_to(values), sealed) == []
    names = {
        secret: "(password: executor_db_password)",
        key: "(file: nvidia_docker_key)",
        wallet: "(wallet: hotkeys/hot)",
    }
    for file, name in names.items():
        file.write_text("two")
        assert changed(given_to(values), sealed) == [name]
        file.write_text("one")
    secret.unlink()
    assert changed(given_to(values), sealed) == ["(password: executor_db_password)"]


def test_another_role_or_release_is_another_input(monkeypatch):
    sealed = seal(GIVEN, "run")
    assert changed(inputs([replace(EXECUTOR, role="validator")])["gpu-1"], sealed) == ["(role)"]
    monkeypatch.setattr("celium_ops.fleet.fingerprint.__version__", "0.0.0")
    assert changed(inputs([EXECUTOR])["gpu-1"], sealed) == ["(celium-ops)"]


@pytest.mark.parametrize("place", ["roles/executor/tasks/main.yml", "templates/env.j2", "plugins/modules/record.py"])
def test_another_role_template_or_module_is_another_input(monkeypatch, tmp_path, place):
    from shutil import copytree

    from celium_ops.base.paths import collection_dir

    for folder in ("playbooks", "plugins", "roles", "templates"):
        copytree(collection_dir() / folder, tmp_path / folder)
    sealed = seal(GIVEN, "run")
    monkeypatch.setattr("celium_ops.fleet.fingerprint.collection_dir", lambda: tmp_path)
    assert changed(inputs([EXECUTOR])["gpu-1"], sealed) == []
    (tmp_path / place).write_text((tmp_path / place).read_text() + "\n")
    assert changed(inputs([EXECUTOR])["gpu-1"], sealed) == ["(roles)"]


def test_hosts_and_the_inventory_agree_on_the_validator_of_dialect_lium():
    assert registry_plan.LIUM_VALIDATOR == LIUM_VALIDATOR


def test_of_an_executor_that_cannot_be_reached_it_cannot_be_told_whether_it_is_rented():
    found = plan(Sight(False, errors=("no route to host",)))
    assert (found.rentals, found.waits_for) == (None, "waits: it cannot be told whether a tenant has gpu-1")
    assert judge(FLEET, MINER, Sight(False), ROWS, inputs([MINER])["miner-1"]).rentals == ()
