"""`celium-ops plan` names what was changed on a host by hand or by an upgrade, and a deploy cures it."""

from __future__ import annotations

import pytest
from fleet import broken
from tampering import DAEMON, E1, E2, FIRST, SECOND, STACK, WALLET, M, V, keys


def _names(seen, tamper):
    return seen["kind"] == tamper.kind and tamper.name in seen["name"] and tamper.why in seen["why"]


@pytest.mark.parametrize("tampers", [FIRST, SECOND], ids=["first", "second"])
def test_what_was_tampered_with_is_named_and_cured(deployed, tampers):
    assert deployed.run_json("plan")["changes"] == 0
    for host in dict.fromkeys(one.host for one in tampers):
        deployed.on(host, "\n".join(f"( {one.script} ) || exit 1" for one in tampers if one.host == host))
    found = deployed.run_json("plan")
    drift = {host["name"]: host["drift"] for host in found["hosts"]}
    missing = [one for one in tampers if not any(_names(seen, one) for seen in drift[one.host])]
    assert (found["rc"], missing) == (3, []), drift
    answer = deployed.deploy()
    assert answer["ok"], [(host["name"], host["error"]) for host in answer["hosts"]]
    clean = deployed.run_json("plan")
    assert (clean["rc"], clean["changes"]) == (0, 0), clean
    assert deployed.status()["ok"]


def test_what_is_not_ours_is_no_drift(deployed):
    for host in (E1, M):
        deployed.on(
            host,
            keys("d['labels'] = ['theirs=1']") + f"; touch -d '-1 day' {DAEMON}; echo x > /opt/celium/theirs;"
            "docker run -d --name theirs --label theirs $(docker images -q | head -1) sleep 99 >/dev/null 2>&1 || true",
        )
    try:
        assert deployed.run_json("plan", "--limit", f"{E1},{M}")["changes"] == 0
    finally:
        for host in (E1, M):
            deployed.on(
                host,
                keys("del d['labels']")
                + f"; touch -d '-1 day' {DAEMON}; rm /opt/celium/theirs; docker rm -f theirs || true",
            )


def test_a_coldkey_that_turned_up_is_named_and_stops_a_deploy(deployed):
    coldkey = f"{WALLET.format('validator')}/coldkey"
    with broken(deployed, V, f"touch {coldkey}", f"rm {coldkey}"):
        found = deployed.run_json("plan", "--limit", V)
        assert [(one["name"], one["why"]) for one in found["hosts"][0]["drift"]] == [(coldkey, "is there, and was not")]
        assert "is a coldkey" in deployed.deploy("--limit", V)["by_name"][V]["error"]
    assert deployed.run_json("plan", "--limit", V)["rc"] == 0


def test_an_input_is_named_and_played_where_it_belongs(deployed):
    before = deployed.started()
    with deployed.variables(E1, executor_db_user="celium_ops_unused", celium_start_timeout=301):
        found = deployed.run_json("plan")
        states = {host["name"]: host["state"] for host in found["hosts"]}
        assert {name for name, state in states.items() if state != "converged"} == {E1}
        names = {one["name"] for host in found["hosts"] for one in host["drift"]}
        assert names == {"executor_db_user", "celium_start_timeout"}
        secret = {one["why"] for host in found["hosts"] for one in host["drift"]}
        assert all("has changed since the last apply" in why or "is new" in why for why in secret)
    assert deployed.run_json("plan")["changes"] == 0
    assert deployed.started() == before


def test_a_record_is_for_root_only_and_holds_no_secret(deployed):
    for host, stack in ((E1, "executor"), (V, "validator")):
        listing = deployed.on(host, "stat -c '%a %U' /var/lib/celium-ops /var/lib/celium-ops/record.json")
        assert listing.splitlines() == ["700 root", "600 root"]
        record = deployed.on(host, "cat /var/lib/celium-ops/record.json")
        password = deployed.on(host, f"sed -n s/^POSTGRES_PASSWORD=//p /opt/celium/{stack}/db.env")
        assert password
        assert password not in record
        keys = deployed.on(host, f"cat {WALLET.format(stack)}/hotkeys/* 2>/dev/null || true")
        assert not keys or keys.split('"secretSeed": "')[-1][:20] not in record


def test_a_playbook_alone_leaves_a_host_that_the_next_deploy_plays_and_seals(deployed):
    deployed.play("validator")
    found = deployed.run_json("plan", "--limit", V)
    assert (found["rc"], found["hosts"][0]["drift"][0]["name"]) == (3, "(all)")
    assert deployed.deploy("--limit", V)["by_name"][V]["changed"] == 0
    assert deployed.run_json("plan", "--limit", V)["rc"] == 0


def test_settings_of_the_kernel_are_kept(deployed):
    name, file = "net.ipv4.ip_local_reserved_ports", "/etc/sysctl.d/90-celium.conf"
    with deployed.variables(E2, celium_sysctls={name: "40000-40010"}):
        checked = deployed.deploy("--limit", E2, "--check")
        assert checked["rc"] == 3
        assert deployed.on(E2, f"sysctl -n {name}; ls {file} 2>/dev/null || :") == "", "a check sets nothing"
        assert deployed.deploy("--limit", E2)["by_name"][E2]["changed"] == 1
        assert deployed.on(E2, f"sysctl -n {name}; cat {file}").splitlines() == ["40000-40010", f"{name}=40000-40010"]
        deployed.on(E2, f"chmod 600 {file}")
        assert deployed.deploy("--limit", E2)["ok"]
        deployed.on(E2, f"sysctl -qw {name}=50000; rm {file}")
        (host,) = deployed.run_json("plan", "--limit", E2)["hosts"]
        drift = {one["name"]: (one["kind"], one["why"]) for one in host["drift"]}
        assert drift == {
            name: ("sysctl", "value is 50000, was 40000-40010"),
            file: ("file", "is gone"),
        }
        assert deployed.deploy("--limit", E2)["ok"]
        assert deployed.run_json("plan", "--limit", E2)["rc"] == 0
    with deployed.variables(E2, celium_sysctls={name: "41000,40000-40010"}):
        said = deployed.deploy("--limit", E2)["by_name"][E2]["error"]
        assert f"the kernel writes {name} as '40000-40010,41000', not '41000,40000-40010': write it so" in said
        deployed.on(E2, f"sysctl -qw {name}=40000-40010")
    # Taken out, it stays as it is: nobody knows what it was before.
    assert deployed.deploy("--limit", E2)["ok"]
    assert deployed.on(E2, f"sysctl -n {name}; rm {file}; sysctl -qw {name}=") == "40000-40010"


def test_a_host_that_cannot_be_read_beats_pending_changes(deployed):
    deployed.on(E1, f"chmod 755 {STACK.format('executor')}")
    with broken(
        deployed, E2, "systemctl stop ssh.socket ssh; pkill -f '[s]shd.*operator' || true", "systemctl start ssh"
    ):
        found = deployed.run_json("plan")
        states = {host["name"]: host["state"] for host in found["hosts"]}
        assert (found["rc"], states[E1], states[E2]) == (1, "differs", "unreachable")
    assert deployed.deploy()["ok"]


def test_hosts_are_shown_as_they_answer(deployed):
    with deployed.lab.paused(E2):
        plan = deployed.lab.start("-i", str(deployed.lab.inventory), "plan")
        try:
            shown = [plan.stdout.readline()]
            assert plan.poll() is None, "it still waits for the one that does not answer"
            shown += [plan.stdout.readline() for _ in deployed.names[2:]]
            rest, _ = plan.communicate(timeout=60)
        finally:
            plan.kill()
    assert {line.split()[0] for line in shown} == {"converged"}
    assert rest.startswith(f"unreachable {E2}")
    assert plan.returncode == 1
