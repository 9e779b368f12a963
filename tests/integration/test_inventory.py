"""Inventories read by real Ansible: what is right becomes a fleet, what is wrong is named with file, line and key."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
import yaml

from celium_ops.base.errors import UsageError
from celium_ops.base.paths import collections_path
from celium_ops.fleet.inventory import check_inventory, load_fleet
from celium_ops.fleet.resolve import environments
from celium_ops.workflows.deploy import Wish, deploy
from celium_ops.workflows.inventory import linted

HOTKEY = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
OTHER = "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"
PINNED = "registry.example/image@sha256:" + "0" * 64

FLEET = f"""\
all:
  vars:
    ansible_user: ops
    shared_port: 9000
  children:
    miners:
      vars: {{celium_network: local, miner_image: "{PINNED}", miner_db_image: "{PINNED}"}}
      hosts:
        miner-1:
          ansible_host: 192.0.2.1
          miner_wallet_name: wallet
          miner_hotkey_ss58: {HOTKEY}
    executors:
      vars: {{celium_network: local, executor_image: "{PINNED}", executor_db_image: "{PINNED}"}}
      hosts:
        gpu-1:
          ansible_host: 192.0.2.2
          executor_miner: miner-1
          executor_validator: {HOTKEY}
          executor_ssh_port: "{{{{ shared_port + 1 }}}}"
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep what is resolved here out of the cache of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def inventory(tmp_path):
    file = tmp_path / "fleet.yml"
    file.write_text(FLEET)
    return file


def test_plugins_of_collections_are_found(inventory, monkeypatch):
    monkeypatch.setenv("PORT_OF_GPU_1", "9123")
    named = FLEET.replace("shared_port + 1", "lookup('ansible.builtin.env', 'PORT_OF_GPU_1') | int")
    inventory.write_text(named)
    assert load_fleet(inventory).hosts["gpu-1"].values["executor_ssh_port"] == 9123


def test_a_driver_that_validators_refuse_stops_a_deploy_before_any_host(inventory, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    inventory.write_text(FLEET + "          nvidia_docker_driver_version: 580.95.05\n")
    (found,) = linted(inventory)[1]
    assert (found.severity, found.file, found.line, found.key, found.found) == (
        "error", str(inventory), len(FLEET.splitlines()) + 1, "nvidia_docker_driver_version", "580.95.05",
    )  # fmt: skip
    nothing = {"agree": print, "on_plan": print, "on_start": print, "on_host": print, "warn": print}
    with pytest.raises(UsageError, match="by the rules of 2025-08 validators refuse it"):
        deploy(Wish(inventory), **nothing)
    inventory.write_text(FLEET + "          nvidia_docker_driver_version: 575.57.08\n")
    assert linted(inventory)[1] == []


def test_a_correct_inventory_becomes_a_fleet(inventory):
    fleet, findings = check_inventory(inventory)
    assert findings == []
    gpu = fleet.hosts["gpu-1"]
    assert gpu.values["executor_ssh_port"] == 9001, "Jinja is templated"
    assert gpu.endpoint == ("192.0.2.2", 8001), "defaults of the role are seen, the Jinja ones too"
    assert gpu.values["executor_miner_hotkey"] == HOTKEY, "the miner's hotkey reaches its executors"
    assert (gpu.connection.address, gpu.connection.user) == ("192.0.2.2", "ops")
    assert [host.name for host in fleet.executors_of("miner-1")] == ["gpu-1"]


# (what is replaced, by what, the line it stands on, the key, a piece of the message)
WRONG = [
    ("executor_miner: miner-1", "executor_miner: miner-9", 18, "executor_miner", "no host of the group miners"),
    (f"executor_validator: {HOTKEY}", "executor_validator: 5F7x", 19, "executor_validator", "checksum is wrong"),
    ("executor_ssh_port:", "executor_shh_port:", 20, "executor_shh_port", "did you mean executor_ssh_port?"),
    ('"{{ shared_port + 1 }}"', "70000", 20, "executor_ssh_port", "a port, 1 to 65535"),
    ('"{{ shared_port + 1 }}"', '"{{ missing }}"', 20, "executor_ssh_port", "'missing' is undefined"),
    ('"{{ shared_port + 1 }}"', "8001", 20, "executor_ssh_port", "is executor_external_port too"),
    ("          miner_wallet_name: wallet\n", "", 9, "miner_wallet_name", "miner-1 has no miner_wallet_name"),
    ("shared_port: 9000", "celium_dialect: klingon", 4, "celium_dialect", "one of celium, lium"),
    ("shared_port: 9000", "ansible_port: ssh", 4, "ansible_port", "a port, 1 to 65535"),
    ("shared_port: 9000", "celium_registry: Upper:5000", 4, "celium_registry", "in lower case"),
    ("          ansible_host: 192.0.2.2\n", "          ansible_host:\n", 17, "ansible_host", "not empty"),
    ("shared_port: 9000", 'ansible_ssh_common_args: "-o \'x"', 4, "ansible_ssh_common_args", "quotation"),
    (
        "miner_wallet_name: wallet",
        "miner_wallet_name: wallet\n          miner_wallet_source: /nowhere",
        12,
        "miner_wallet_source",
        "no hotkey file",
    ),
    ("shared_port: 9000", "celium_netuid: many", 4, "celium_netuid", "a whole number"),
    ("shared_port: 9000", "nvidia_docker_disk: sdb", 4, "nvidia_docker_disk", "below /dev"),
    ("executor_miner: miner-1\n", "executor_price: 1\n", 16, "executor_miner", "neither executor_miner nor"),
    (
        "executor_miner: miner-1\n",
        f"executor_miner: miner-1\n          executor_miner_hotkey: {OTHER}\n",
        19,
        "executor_miner_hotkey",
        "is not the hotkey of miner-1",
    ),
    ("hosts:\n        gpu-1", "hosts:\n        miner-1: {}\n        gpu-1", 9, None, "groups of two roles"),
    ("miner_wallet_name: wallet", "miner_wallet_name: ../wallet", 11, "miner_wallet_name", "without its folder"),
    ("miner_wallet_name: wallet", 'miner_wallet_name: "a:b"', 11, "miner_wallet_name", "a text without colons"),
    ("shared_port: 9000", 'miner_wallet_dir: "/srv/a:b"', 4, "miner_wallet_dir", "a text without colons"),
    ("shared_port: 9000", "executor_db_name: my db", 4, "executor_db_name", "letters without accents, digits"),
    ("shared_port: 9000", "miner_db_name: a/b", 4, "miner_db_name", "letters without accents, digits"),
    (
        "executor_ssh_port:",
        "executor_renting_port_range: 8000-9000\n          executor_ssh_port:",
        20,
        "executor_renting_port_range",
        "8001 is a port of the executor itself",
    ),
    (
        "executor_ssh_port:",
        "executor_renting_port_mappings: [[9001, 1], [9002, 2]]\n          executor_ssh_port:",
        20,
        "executor_renting_port_mappings",
        "9001 is a port of the executor itself",
    ),
    (
        "executor_miner: miner-1\n",
        "executor_miner: miner-1\n          celium_network: test\n          executor_gpu_proof: simulated\n",
        20,
        "executor_gpu_proof",
        "gpu-1 would stand on the public network test with simulated GPUs",
    ),
    (
        "shared_port: 9000",
        "nvidia_docker_address_pools: [{base: 172.80.0.0/16, size: 24}]\n    shared_port: 9000",
        4,
        "nvidia_docker_address_pools",
        "a list of private networks",
    ),
    (
        "        miner-1:\n",
        f"        miner-0: {{ansible_host: 192.0.2.7, miner_wallet_name: w, miner_hotkey_ss58: {HOTKEY}}}\n"
        "        miner-1:\n",
        13,
        "miner_hotkey_ss58",
        "miner-1 and miner-0 share",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "message"), WRONG)
def test_a_wrong_inventory_is_named_with_its_place(inventory, old, new, line, key, message):
    assert old in FLEET
    inventory.write_text(FLEET.replace(old, new, 1))
    _, findings = check_inventory(inventory)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert any(
        message in error.message and (error.file, error.line, error.key) == (str(inventory), line, key)
        for error in errors
    ), errors
    with pytest.raises(UsageError):
        load_fleet(inventory)


UNREADABLE = [
    ("all: [", "fleet.yml"),
    ("", "no host is in the groups"),
    ("all:\n  hosts: {lonely: {}}\n", "no host is in the groups"),
    (FLEET.replace(HOTKEY, "!vault |\n            $ANSIBLE_VAULT;1.1;AES256\n            6162", 1), "vault"),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE)
def test_an_unreadable_inventory_is_wrong_usage(inventory, text, message):
    inventory.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_fleet(inventory)
    assert message in f"{caught.value.file} {caught.value.message}".lower()


def test_group_vars_and_host_vars_are_read_and_named(inventory):
    (inventory.parent / "host_vars").mkdir()
    host_vars = inventory.parent / "host_vars" / "gpu-1.yml"
    host_vars.write_text("---\nexecutor_price: free\n")
    _, findings = check_inventory(inventory)
    assert [(finding.file, finding.line, finding.key) for finding in findings] == [
        (str(host_vars), 2, "executor_price")
    ]


SECOND_HOSTS = f"""{FLEET}\
      hosts:
        gpu-2: {{ansible_host: 192.0.2.3, executor_miner: miner-1}}
"""
MERGED = f"""{FLEET}\
        gpu-9: &nine
          <<: {{executor_price: 1}}
          <<: {{executor_weight: 1}}
          ansible_host: 192.0.2.9
          executor_miner: miner-1
        gpu-8: {{<<: *nine, ansible_host: 192.0.2.8}}
"""

# (what it is, its files, the file, the line and the key of the error, a piece of the message)
DUPLICATES = [
    (
        "a second list of hosts",
        {"fleet.yml": SECOND_HOSTS},
        "fleet.yml",
        21,
        "hosts",
        "in all.children.executors, at line 15 column 7 and at line 21 column 7: Ansible uses only the last one;"
        " gpu-1 would be lost",
    ),
    (
        "a host twice",
        {"fleet.yml": FLEET + "        gpu-1: {executor_miner: miner-1}\n"},
        "fleet.yml",
        21,
        "gpu-1",
        "ansible_host, executor_validator, executor_ssh_port would be lost",
    ),
    (
        "a key of a host",
        {"fleet.yml": FLEET + "          executor_miner: miner-1\n"},
        "fleet.yml",
        21,
        "executor_miner",
        "all.children.executors.hosts.gpu-1, at line 18 column 11",
    ),
    (
        "a key of the variables of a group, quoted once",
        {"fleet.yml": FLEET.replace("  shared_port: 9000", '  shared_port: 9000\n    "shared_port": 9000')},
        "fleet.yml",
        5,
        "shared_port",
        "in all.vars",
    ),
    (
        "a key deep in a value, in a list",
        {"group_vars/all.yml": "anything:\n  - {a: 1, b: 2,\n     a: 3}\n"},
        "group_vars/all.yml",
        3,
        "a",
        "in anything[0], at line 2 column 6 and at line 3 column 6",
    ),
    (
        "a key of a host's file",
        {"host_vars/gpu-1.yml": "executor_price: 1\nexecutor_price: 1\n"},
        "host_vars/gpu-1.yml",
        2,
        "executor_price",
        "executor_price is given twice, at line 1",
    ),
    (
        "a key in JSON",
        {"host_vars/gpu-1.json": '{"executor_price": 1,\n\t"executor_price": 2}'},
        "host_vars/gpu-1.json",
        2,
        "executor_price",
        "given twice",
    ),
]


@pytest.mark.parametrize(
    ("files", "file", "line", "key", "message"), [case[1:] for case in DUPLICATES], ids=[case[0] for case in DUPLICATES]
)
def test_a_key_that_is_given_twice_is_an_error_with_both_places(inventory, files, file, line, key, message):
    for name, content in files.items():
        (inventory.parent / name).parent.mkdir(exist_ok=True)
        (inventory.parent / name).write_text(content)
    for _ in ("read", "read again, perhaps from the cache"):
        found = [finding for finding in check_inventory(inventory)[1] if finding.code == "duplicate-key"]
        assert [(one.severity, one.file, one.line, one.key) for one in found] == [
            ("error", str(inventory.parent / file), line, key)
        ]
        assert message in found[0].message
    with pytest.raises(UsageError) as caught:
        load_fleet(inventory)
    assert (caught.value.code, caught.value.line) == ("duplicate-key", line), "the cause goes before what follows"


def test_what_merge_keys_give_may_be_given_again(inventory):
    inventory.write_text(MERGED)
    fleet, findings = check_inventory(inventory)
    assert findings == []
    assert fleet.hosts["gpu-8"].values["executor_price"] == 1
    assert fleet.hosts["gpu-8"].endpoint == ("192.0.2.8", 8001)


def test_keys_given_twice_in_an_encrypted_file_are_found(inventory, monkeypatch):
    password = inventory.with_name("password")
    password.write_text("secret")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    host_vars = inventory.parent / "host_vars" / "gpu-1.yml"
    host_vars.parent.mkdir()
    host_vars.write_text("executor_price: 1\nexecutor_price: 2\n")
    subprocess.run(["ansible-vault", "encrypt", str(host_vars)], check=True, capture_output=True)
    found = [finding for finding in check_inventory(inventory)[1] if finding.severity == "error"]
    assert [(one.code, one.file, one.line) for one in found] == [("duplicate-key", str(host_vars), 2)]


# (what stands at the end of the inventory, severity, line, groups, a piece of the message)
WITHOUT_ROLE = [
    (
        "    bastions: {hosts: {jump: {ansible_host: 192.0.2.9}}}\n",
        "warning",
        21,
        ["bastions"],
        "(its groups: bastions)",
    ),
    ("    gpu-hosts: {hosts: {gpu-2: }}\n", "warning", 21, ["gpu-hosts"], "gpu-2 is in no group that gives it a role"),
    ("  hosts:\n    gpu-2:\n", "warning", 22, [], "(it has no group)"),
    ("    executor: {hosts: {gpu-2: }}\n", "error", 21, ["executor"], "executor looks like executors"),
    ("    executers: {hosts: {gpu-2: }}\n", "error", 21, ["executers"], "executers looks like executors"),
    ("    Miner: {hosts: {gpu-2: }}\n", "error", 21, ["Miner"], "Miner looks like miners"),
    ("    validatros: {hosts: {gpu-2: }}\n", "error", 21, ["validatros"], "validatros looks like validators"),
    ("    a: {hosts: {gpu-2: {executor_miner: miner-1}}}\n", "error", 21, ["a"], "it has executor_miner, which only"),
    ("    a: {vars: {celium_network: local}, hosts: {gpu-2: }}\n", "error", 21, ["a"], "it has celium_network"),
    ("    a: {vars: {firewall_manage: true}, hosts: {gpu-2: }}\n", "warning", 21, ["a"], "groups: a)"),
    ("    a: {hosts: {gpu-2: }}\n    b: {children: {a: }}\n", "warning", 21, ["a", "b"], "its groups: a, b)"),
]


@pytest.mark.parametrize(("end", "severity", "line", "groups", "message"), WITHOUT_ROLE)
def test_a_host_without_a_role_is_named(inventory, end, severity, line, groups, message):
    inventory.write_text(FLEET.replace("shared_port: 9000", "shared_port: 9000\n    miner_external_port: 8000") + end)
    (found,) = check_inventory(inventory)[1]
    assert (found.severity, found.code, found.file, found.line, found.found) == (
        severity, "host-without-role", str(inventory), line + 1, groups,
    )  # fmt: skip
    assert message in found.message
    assert found.expected.startswith("a host of ")


def test_a_host_without_a_role_that_has_a_file_of_our_keys_is_an_error(inventory):
    (inventory.parent / "group_vars").mkdir()
    (inventory.parent / "group_vars" / "a.yml").write_text("executor_price: 1\n")
    inventory.write_text(FLEET + "    a: {hosts: {gpu-2: }}\n")
    (found,) = check_inventory(inventory)[1]
    assert (found.severity, found.code) == ("error", "host-without-role")


def test_nothing_is_pruned_while_hosts_are_left_out(inventory, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    inventory.write_text(FLEET + "    gpu-hosts: {hosts: {gpu-2: }}\n")
    for more in ([], ["--check"], ["--limit", "gpu-1"]):
        done = run("deploy", "--prune", "--yes", "--json", "-i", str(inventory), *more)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["code"], error["file"], error["line"]) == (
            4, "prune-without-role", str(inventory), 21,
        )  # fmt: skip
        assert f"gpu-2 ({inventory}:21)" in error["message"]
    inventory.write_text(FLEET + "    executer: {hosts: {gpu-2: }}\n")
    done = run("deploy", "--prune", "--yes", "--json", "-i", str(inventory))
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "host-without-role")
    inventory.write_text(SECOND_HOSTS)
    done = run("deploy", "--prune", "--yes", "--json", "-i", str(inventory))
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "duplicate-key")
    assert not (tmp_path / "state").exists(), "nothing was begun"


def test_two_executors_cannot_share_an_endpoint(inventory):
    inventory.write_text(FLEET + "        gpu-2: {ansible_host: 192.0.2.2, executor_miner: miner-1}\n")
    _, findings = check_inventory(inventory)
    assert "gpu-2 and gpu-1 share 192.0.2.2:8001" in findings[0].message


def test_no_pool_of_containers_holds_a_host(inventory):
    pools = "nvidia_docker_address_pools: [{base: 10.9.0.0/16, size: 24}, {base: 10.8.0.0/16, size: 24}]"
    text = FLEET.replace("ansible_host: 192.0.2.1", "ansible_host: 10.8.3.4")
    inventory.write_text(text.replace("executor_miner: miner-1", f"{pools}\n          executor_miner: miner-1"))
    _, findings = check_inventory(inventory)
    assert [(finding.severity, finding.line, finding.key) for finding in findings] == [
        ("error", 18, "nvidia_docker_address_pools")
    ]
    assert "10.8.0.0/16 holds 10.8.3.4, the address of miner-1" in findings[0].message
    assert "gpu-1" in findings[0].message


def test_two_hosts_on_one_machine_are_only_warned_about(inventory):
    inventory.write_text(FLEET.replace("ansible_host: 192.0.2.2", "ansible_host: 192.0.2.1"))
    _, findings = check_inventory(inventory)
    assert [(finding.severity, finding.key) for finding in findings] == [("warning", "ansible_host")]


def test_a_disk_whose_name_does_not_last_is_only_warned_about(inventory):
    for name, expected in (("/dev/sdb", [("warning", "nvidia_docker_disk")]), ("/dev/disk/by-id/nvme-X", [])):
        line = f"executor_miner: miner-1\n          nvidia_docker_disk: {name}"
        inventory.write_text(FLEET.replace("executor_miner: miner-1", line))
        _, findings = check_inventory(inventory)
        assert [(finding.severity, finding.key) for finding in findings] == expected


WALLETS = [
    ({"hotkeys/default": OTHER}, "error", "miner_hotkey_ss58", "is not the key in"),
    ({"hotkeys/default": OTHER, "coldkeypub.txt": HOTKEY}, "error", "miner_hotkey_ss58", "address of the coldkey"),
    ({"hotkeys/default": HOTKEY, "coldkeypub.txt": HOTKEY}, "error", "miner_wallet_source", "is the coldkey"),
    ({"hotkeys/default": None}, "error", "miner_wallet_source", "encrypted"),
    ({"coldkeypub.txt": OTHER}, "error", "miner_wallet_source", "no hotkey file"),
    ({"hotkeys/default": HOTKEY, "coldkey": None}, "warning", "miner_wallet_source", "does not belong here"),
]


@pytest.mark.parametrize(("files", "severity", "key", "message"), WALLETS)
def test_a_wallet_is_checked_before_it_is_copied(inventory, files, severity, key, message):
    wallets = inventory.parent / "wallets"
    (wallets / "wallet" / "hotkeys").mkdir(parents=True)
    for name, address in files.items():
        (wallets / "wallet" / name).write_text(json.dumps({"ss58Address": address}) if address else "$NACL...")
    source = f"miner_wallet_name: wallet\n          miner_wallet_source: {wallets}"
    inventory.write_text(FLEET.replace("miner_wallet_name: wallet", source))
    _, findings = check_inventory(inventory)
    assert [(finding.severity, finding.key) for finding in findings] == [(severity, key)]
    assert message in findings[0].message


def test_a_misspelt_secret_is_not_shown(inventory):
    inventory.write_text(FLEET.replace("shared_port: 9000", "miner_db_pasword: hunter2"))
    answer = run("inventory", "lint", "--json", "-i", str(inventory))
    assert "miner_db_pasword" in answer.stdout
    assert "hunter2" not in answer.stdout + answer.stderr


def test_the_environment_is_rendered_as_a_deploy_would_and_without_secrets(inventory, tmp_path):
    inventory.write_text(
        FLEET.replace("shared_port: 9000", "shared_port: 9000\n    executor_price: 1.5\n    miner_db_password: hunter2")
    )
    shown = json.loads(run("env", "render", "gpu-1", "--json", "-i", str(inventory)).stdout)
    files = {file["path"]: file["content"] for file in shown["files"]}
    assert list(files) == ["/opt/celium/executor/.env", "/opt/celium/executor/db.env"]
    assert f"MINER_HOTKEY_SS58_ADDRESS={HOTKEY}\n" in files["/opt/celium/executor/.env"]
    assert "RENTING_PRICE=1.5\n" in files["/opt/celium/executor/.env"]
    assert "SSH_PORT=9001\n" in files["/opt/celium/executor/.env"]
    assert "POSTGRES_PASSWORD=MASKED\n" in files["/opt/celium/executor/db.env"]
    miner = run("env", "render", "miner-1", "-i", str(inventory)).stdout
    assert "postgresql://postgres:MASKED@db:5432/" in miner
    assert "hunter2" not in miner
    assert not (tmp_path / "secrets").exists(), "asking makes no password"
    unknown = run("env", "render", "gpu-2", "-i", str(inventory))
    assert (unknown.returncode, "did you mean gpu-1?" in unknown.stderr) == (2, True)


def test_an_old_copy_of_the_collection_among_the_users_is_not_played(inventory, tmp_path, monkeypatch):
    for stale in ("home/.ansible/collections", "configured"):
        filters = tmp_path / stale / "ansible_collections/celium/ops/plugins/filter"
        filters.mkdir(parents=True)
        (filters / "env_value.py").write_text("raise RuntimeError('an old copy')")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert "EXTERNAL_PORT=8001" in environments(inventory, masked=True)["gpu-1"].files[".env"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ansible.cfg").write_text("[defaults]\ncollections_path = configured:/elsewhere\n")
    assert collections_path().split(":")[1:] == ["configured", "/elsewhere"]
    assert "EXTERNAL_PORT=8001" in environments(inventory, masked=True)["gpu-1"].files[".env"]


@pytest.mark.parametrize("password", ["p@ss:w/rd?#[]%41", "käse ✓ ' \" $x", "{% raw %}{{ no }}{% endraw %}"])
def test_a_password_stands_percent_encoded_in_the_address_of_the_database(inventory, password):
    inventory.write_text(
        FLEET.replace("shared_port: 9000", f"shared_port: 9000\n    miner_db_password: {json.dumps(password)}")
    )
    (line,) = (
        line for line in environments(inventory, masked=False)["miner-1"].files[".env"].splitlines() if "_URI=" in line
    )
    address = urlsplit(line.partition("=")[2])
    assert (address.hostname, address.port, address.path) == ("db", 5432, "/compute-subnet-db")
    assert unquote(address.password) == re.sub("{%.*?%}", "", password)


OF_PLAYS = [
    ("ansible_facts.kernel | default(9000)", "ansible_facts"),
    ("9000 if ansible_facts is defined else 9001", "ansible_facts"),
    ("hostvars['miner-1']['ansible_facts']['kernel'] | default(9000)", "ansible_facts"),
    ("ansible_kernel | default(9000)", "ansible_kernel"),
    ("9000 if ansible_check_mode | default(false) else 9001", "ansible_check_mode"),
    ("(playbook_dir | length) + 9000", "playbook_dir"),
    ("by_another", "ansible_facts"),
]


@pytest.mark.parametrize(("expression", "name"), OF_PLAYS)
def test_a_value_that_only_a_play_knows_is_wrong(inventory, expression, name):
    another = 'by_another: "{{ ansible_facts.kernel | default(9000) }}"\n    shared_port: 9000'
    inventory.write_text(FLEET.replace("shared_port + 1", expression).replace("shared_port: 9000", another))
    (error,) = [finding for finding in check_inventory(inventory)[1] if finding.severity == "error"]
    assert error.key == "executor_ssh_port"
    assert f"it depends on {name}, which only a play knows" in error.message


@pytest.mark.parametrize(
    "expression", ["ansible_port | default(22)", "ansible_ssh_port | default(22)", "ansible_host | length"]
)
def test_what_the_connection_of_a_host_is_may_be_asked(inventory, expression):
    inventory.write_text(FLEET.replace("shared_port + 1", f"({expression}) + 9000"))
    assert load_fleet(inventory).hosts["gpu-1"].values["executor_ssh_port"] in (9022, 9000 + len("192.0.2.2"))


def test_an_executor_without_a_validator_gets_one_from_the_stake(inventory):
    inventory.write_text(FLEET.replace(f"          executor_validator: {HOTKEY}\n", ""))
    _, findings = check_inventory(inventory)
    assert findings == []


def test_each_dialect_is_told_what_it_lacks_and_what_it_does_not_read(inventory):
    def doubts():
        return [(finding.severity, finding.line, finding.message) for finding in check_inventory(inventory)[1]]

    lium = FLEET.replace("shared_port: 9000", "shared_port: 9000\n    celium_dialect: lium")
    inventory.write_text(lium)
    assert doubts() == [
        ("warning", 17, "gpu-1 has no executor_price, so it will not be registered and earns nothing"),
        ("warning", 20, "executor_validator means nothing in dialect lium"),
    ]
    inventory.write_text(lium.replace(f"executor_validator: {HOTKEY}", "executor_price: 1.5"))
    assert doubts() == []
    address = lium.replace(f"executor_validator: {HOTKEY}", "executor_price: 1.5").replace(
        "celium_network: local, miner_image", "celium_network: 'ws://192.0.2.9:9944', miner_image"
    )
    inventory.write_text(address)
    ((severity, line, message),) = doubts()
    assert (severity, line) == ("warning", 8)
    assert "no miner_evm_rpc_url" in message
    assert "removes no row" in message
    inventory.write_text(
        address.replace("miner_wallet_name", "miner_evm_rpc_url: http://x\n          miner_wallet_name")
    )
    assert doubts() == []
    inventory.write_text(
        address.replace("    celium_dialect: lium\n", "").replace("executor_price: 1.5", "celium_netuid: 51")
    )
    assert doubts() == [], "upstream of dialect celium removes rows without asking"
    inventory.write_text(FLEET.replace("miner_wallet_name", "miner_central_mode: true\n          miner_wallet_name"))
    assert doubts() == [("warning", 9, "miner_central_mode means nothing in dialect celium")]


def run(*arguments):
    return subprocess.run(["celium-ops", *arguments], capture_output=True, text=True, check=False)


def test_the_command_line_answers_in_the_contracts_form(inventory):
    good = run("inventory", "lint", "--json", "-i", str(inventory))
    assert (good.returncode, json.loads(good.stdout)) == (
        0,
        {"schema": "celium-ops/inventory-lint/1", "ok": True, "findings": []},
    )
    inventory.write_text(FLEET.replace("miner-1\n", "miner-9\n"))
    bad = run("--json", "-i", str(inventory), "deploy")
    answer = json.loads(bad.stdout)
    assert (bad.returncode, answer["schema"], answer["ok"]) == (2, "celium-ops/deploy/1", False)
    assert (answer["error"]["file"], answer["error"]["line"]) == (str(inventory), 18)
    assert "Traceback" not in bad.stderr


def test_wrong_usage_is_answered_in_the_contracts_form():
    done = run("deploy", "--json", "--bogus")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], "--bogus" in answer["error"]["message"]) == (2, False, True)
    for arguments in (["nonsense"], ["lab"], ["inventory", "lint", "too", "much"]):
        done = run(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), arguments


def test_a_missing_inventory_is_wrong_usage():
    for arguments in (["status"], ["deploy"], ["inventory", "lint"]):
        done = run(*arguments, "-i", "/nowhere/fleet.yml")
        assert (done.returncode, "no inventory /nowhere/fleet.yml" in done.stderr) == (2, True), arguments


def test_the_sample_inventory_is_wrong_only_at_its_placeholders():
    sample = Path(__file__).parents[2] / "inventory" / "fleet.example.yml"
    _, findings = check_inventory(sample)
    lines = sample.read_text().splitlines()
    errors = [finding for finding in findings if finding.severity == "error"]
    assert errors
    assert all("<" in lines[finding.line - 1] for finding in errors), errors


def test_init_writes_the_sample_once_and_never_over_a_file(tmp_path):
    target = tmp_path / "new" / "fleet.yml"
    assert run("init", str(target)).returncode == 0
    lint = run("inventory", "lint", "-i", str(target), "--json")
    findings = json.loads(lint.stdout)["findings"]
    assert lint.returncode == 2
    lines = target.read_text().splitlines()
    assert all("<" in lines[finding["line"] - 1] for finding in findings if finding["severity"] == "error")
    target.write_text("mine")
    again = run("init", str(target))
    assert (again.returncode, target.read_text(), "exists" in again.stderr) == (2, "mine", True)


def test_show_names_the_origin_of_each_value_and_hides_secrets(inventory):
    inventory.write_text(FLEET + "          executor_db_password: hunter2\n")
    done = run("inventory", "show", "gpu-1", "--json", "-i", str(inventory))
    (host,) = json.loads(done.stdout)["hosts"]
    values = {value["key"]: value for value in host["values"]}
    assert (values["executor_ssh_port"]["value"], values["executor_ssh_port"]["line"]) == (9001, 20)
    assert (values["executor_external_port"]["value"], values["executor_external_port"]["file"]) == (8001, None)
    people = run("inventory", "show", "-i", str(inventory))
    assert "hunter2" not in done.stdout + people.stdout + people.stderr
    assert run("inventory", "show", "gpu-7", "-i", str(inventory)).returncode == 2


def test_the_schema_for_editors_agrees_with_the_checks(inventory):
    schema = json.loads((Path(__file__).parents[2] / "inventory" / "fleet.schema.json").read_text())

    def is_valid(text):
        return jsonschema.Draft7Validator(schema).is_valid(yaml.safe_load(text))

    assert is_valid(FLEET)
    assert is_valid((Path(__file__).parents[2] / "inventory" / "fleet.example.yml").read_text())
    assert not is_valid(FLEET.replace("executor_ssh_port:", "executor_shh_port:"))
    assert not is_valid(FLEET.replace('"{{ shared_port + 1 }}"', "70000"))
    assert not is_valid(FLEET.replace("shared_port: 9000", "celium_dialect: klingon"))
