"""The volume of a wallet in the compose files of miners and validators, as Ansible writes it; nothing is deployed."""

import json
import os
import subprocess

import pytest
import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import load_contracts

ORDINARY = "my-wallet_1.a"
NAMES = [
    ORDINARY,
    "my wallet #1",
    "w$HOME ${X} $$",
    'it\'s "quoted" \\',
    "{a, [b]",
    "*a",
    "! - ? |",
    "käse 🜲",
    "null",
    "7",
]
RUNNING = {"miner": ["miner", "connector"], "validator": ["validator", "connector"]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Give the text of each compose file by role and name of the wallet."""
    folder = tmp_path_factory.mktemp("volumes")
    hosts = {f"{role}-{number}": _host(role, name) for role in RUNNING for number, name in enumerate(NAMES)}
    text = "{{ lookup('ansible.builtin.template', compose_template) }}"
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": text}}]}
    (folder / "play.yml").write_text(json.dumps([play]))
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    command = ["ansible-playbook", "-i", f"{folder}/hosts.yml", f"{folder}/play.yml"]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]
    return {(role, name): results[f"{role}-{number}"]["msg"] for role in RUNNING for number, name in enumerate(NAMES)}


def _host(role, name):
    own = {}
    for part in ("common", role):
        own |= yaml.safe_load((collection_dir() / f"roles/{part}/vars/main.yml").read_text())
        own |= load_contracts()[part].defaults()
    return own | {
        f"{role}_wallet_name": name,
        f"{role}_wallet_dir": "/srv/$wallets",
        f"{role}_hotkey_ss58": "5F",
        "_common_stack_digests": {".env": "a", "db.env": "b"},
        "_common_stack_probe": "pass",
        "compose_template": str(collection_dir() / f"templates/{role}.compose.yml.j2"),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", RUNNING)
def test_a_wallet_is_mounted_whatever_its_name(written, role, name):
    services = yaml.safe_load(written[role, name])["services"]
    for service in RUNNING[role]:
        (volume,) = services[service]["volumes"]
        assert isinstance(volume, str), "Compose's short form, whose hash is that of earlier versions"
        assert "$" not in volume.replace("$$", ""), "Compose would put a variable there"
        expected = f"/srv/$wallets/{name}:/root/.bittensor/wallets/{name}:ro"
        assert volume.replace("$$", "$") == expected
