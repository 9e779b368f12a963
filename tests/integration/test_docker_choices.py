"""What the role nvidia_docker decides from what it finds on a host, as Ansible works it out; nothing is played."""

import json
import os
import re
import subprocess

import pytest
import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import load_contracts

ROLE = collection_dir() / "roles" / "nvidia_docker"
PROBE = {"engine": "", "compose": "", "source": "", "snap": "", "toolkit": "", "bridges": "", "routes": None}
HERE = {"engine": "29.2.1", "compose": "5.0", "source": "vendor"}
NO_SYSBOX = {"sysbox": "", "cdi": "", "running": ""}
AWS = [{"dst": "default", "dev": "eth0"}, {"dst": "172.31.16.0/20", "dev": "eth0"}]
UPSTREAM = {"nvidia_docker_address_pools": [{"base": "172.31.0.0/16", "size": 24}]}
CHOSEN = {"bip": "10.200.0.1/24", "default-address-pools": [{"base": "10.200.0.0/16", "size": 24}]}
RUNTIME = {"runtimes": {"sysbox-runc": {"path": "/usr/bin/sysbox-runc"}}}
OWN = {"nvidia_docker_sysbox": True, "nvidia_docker_sysbox_package": "/srv/sysbox.deb"}
MACHINE = {"architecture": "x86_64", "kernel": "6.8.0-31-generic", "distribution": "Ubuntu"}
OFF = {"features": {"cdi": False}}
SUM = "0" * 64

# What the probe says, what the inventory says, the machine, and what follows: keys that we set, keys that we set where
# there are none, why it is refused, whether something is to be done for sysbox.
CASES = {
    "new": ({"routes": AWS[:1]}, {}, {}, {}, {}, None, False),
    "no-routes-known": ({}, {}, {}, {}, {}, None, False),
    "new-collides": ({"routes": AWS}, {}, {}, {}, CHOSEN, None, False),
    "new-collides-again": (
        {"routes": [*AWS, {"dst": "10.0.0.0/8", "dev": "wg0"}]},
        *({}, {}, {}),
        {"bip": "172.24.0.1/24", "default-address-pools": [{"base": "172.24.0.0/16", "size": 24}]},
        *(None, False),
    ),
    "there-collides": (HERE | {"routes": AWS}, {}, {}, {}, {}, None, False),
    "asked": (
        HERE,
        UPSTREAM,
        {},
        {"bip": "172.31.0.1/24", "default-address-pools": UPSTREAM["nvidia_docker_address_pools"]},
        *({}, None, False),
    ),
    "asked-collides": (HERE | {"routes": AWS}, UPSTREAM, {}, None, {}, "172.31.0.0/16, but .* 172.31.16.0/20", False),
    "asked-own-bridge": (
        HERE | {"routes": [{"dst": "172.31.3.0/24", "dev": "mine"}], "bridges": "docker0 mine"},
        *(UPSTREAM, {}, None, {}, None, False),
    ),
    "sysbox": (
        HERE | NO_SYSBOX | {"routes": AWS},
        *({"nvidia_docker_sysbox": True}, {}, OFF, CHOSEN | RUNTIME, None, True),
    ),
    "sysbox-pools": (HERE | NO_SYSBOX, UPSTREAM | {"nvidia_docker_sysbox": True}, {}, None, RUNTIME, None, True),
    "sysbox-there": (
        HERE | NO_SYSBOX | {"sysbox": "enabled active", "running": "x", "routes": AWS[:1]},
        *({"nvidia_docker_sysbox": True}, {}, OFF, CHOSEN | RUNTIME, None, False),
    ),
    "sysbox-stopped": (
        HERE | NO_SYSBOX | {"sysbox": "enabled inactive", "running": "x"},
        *({"nvidia_docker_sysbox": True}, {}, OFF, CHOSEN | RUNTIME, None, True),
    ),
    "sysbox-cdi": (
        HERE | NO_SYSBOX | {"sysbox": "enabled active", "cdi": "/etc/cdi/nvidia.yaml"},
        *({"nvidia_docker_sysbox": True}, {}, OFF, CHOSEN | RUNTIME, None, True),
    ),
    "sysbox-rented": (
        HERE | NO_SYSBOX | {"running": "container_1 executor-1"},
        *({"nvidia_docker_sysbox": True}, {}, OFF, CHOSEN | RUNTIME, "container_1 executor-1 run here", True),
    ),
    "sysbox-rented-all-the-same": (
        HERE | NO_SYSBOX | {"running": "container_1"},
        *({"nvidia_docker_sysbox": True, "celium_even_if_rented": True}, {}, OFF, CHOSEN | RUNTIME, None, True),
    ),
    "sysbox-rented-and-no-said-on-the-command-line": (
        HERE | NO_SYSBOX | {"running": "container_1"},
        *({"nvidia_docker_sysbox": True, "celium_even_if_rented": "false"}, {}, OFF, CHOSEN | RUNTIME),
        *("container_1 run here", True),
    ),
    "sysbox-old-kernel": (
        HERE | NO_SYSBOX,
        {"nvidia_docker_sysbox": True},
        {"kernel": "5.15.0-100-generic"},
        *(OFF, CHOSEN | RUNTIME, "5.19 or newer, this host runs 5.15.0-100-generic", True),
    ),
    "sysbox-machine": (
        HERE | NO_SYSBOX,
        *({"nvidia_docker_sysbox": True}, {"architecture": "riscv64"}, OFF, CHOSEN | RUNTIME, "no sysbox for", True),
    ),
    "sysbox-unchecked": (HERE | NO_SYSBOX, OWN, {}, OFF, CHOSEN | RUNTIME, "nvidia_docker_sysbox_sha256", True),
    "sysbox-checked": (
        HERE | NO_SYSBOX,
        *(OWN | {"nvidia_docker_sysbox_sha256": SUM}, {}, OFF, CHOSEN | RUNTIME, None, True),
    ),
}
ANSWER = """{{ {
  'daemon': _nvidia_docker_enforced,
  'filled': _nvidia_docker_filled,
  'problem': _nvidia_docker_problem,
  'wanted': _nvidia_docker_sysbox_wanted,
  'manages': _nvidia_docker_manages,
  'origin': _nvidia_docker_sysbox_origin,
  'digest': _nvidia_docker_sysbox_digest,
} }}"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Give what Ansible makes of all cases, each a host of its own."""
    folder = tmp_path_factory.mktemp("choices")
    defaults = load_contracts()["nvidia_docker"].defaults() | load_contracts()["common"].defaults()
    hosts = {
        name: {
            "__nvidia_docker_probe": {"stdout": yaml.safe_dump(PROBE | probe)},
            "nvidia_docker_daemon_options": {},
            **given,
            "machine": MACHINE | machine,
        }
        for name, (probe, given, machine, *_) in CASES.items()
    }
    facts = {key: f"{{{{ machine.{key} }}}}" for key in MACHINE}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(file) for file in sorted((ROLE / "vars/main").glob("*.yml"))],
        "tasks": [
            {"ansible.builtin.set_fact": facts | {"cacheable": True}},
            {"ansible.builtin.debug": {"msg": ANSWER}},
        ],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": defaults}}))
    command = ["ansible-playbook", "-i", f"{folder}/hosts.yml", f"{folder}/play.yml"]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = json.loads(done.stdout)["plays"][0]["tasks"]
    return {name: result["msg"] for name, result in last["hosts"].items()}


@pytest.mark.parametrize("name", CASES)
def test_what_follows_from_what_is_found(answers, name):
    *_, enforced, filled, refused, wanted = CASES[name]
    answer = answers[name]
    assert enforced is None or answer["daemon"] == enforced
    assert answer["filled"] == filled
    assert answer["wanted"] == wanted
    if refused is None:
        assert not answer["problem"]
    else:
        assert re.search(refused, answer["problem"]), answer["problem"]


def test_what_is_enforced_is_recorded(answers):
    kinds = {entry["name"]: entry for entry in answers["sysbox"]["manages"]}
    assert kinds["/etc/docker/daemon.json"]["values"] == OFF
    assert kinds["/etc/docker/daemon.json"]["defaults"] == CHOSEN | RUNTIME
    assert kinds["sysbox.service"]["wants"] == {"active": "active", "enabled": "enabled"}
    assert kinds["/etc/cdi/nvidia.yaml"] == {"kind": "present", "name": "/etc/cdi/nvidia.yaml", "wants": None}
    assert not [entry for entry in answers["asked"]["manages"] if "sysbox" in entry["name"] or "cdi" in entry["name"]]


def test_a_package_of_ones_own_has_a_sum_of_its_own(answers):
    own, published = answers["sysbox-checked"], answers["sysbox"]
    assert (own["origin"], own["digest"]) == ("/srv/sysbox.deb", SUM)
    assert published["origin"].endswith("/v0.6.6/sysbox-ce_0.6.6-0.linux_amd64.deb")
    assert published["digest"].startswith("87cfa5ca")
