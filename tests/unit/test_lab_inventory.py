"""The lab's inventory: new, extended, and edited by hand in between."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from celium_ops.base.errors import UsageError
from celium_ops.lab import inventory
from celium_ops.lab.layout import DIALECTS, Files, Lab

LAB = Lab("demo", IPv4Network("198.51.100.0/24"))
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"

NEURONS = [f"daturaai/compute-subnet-{role}" for role in ("miner", "executor", "validator")]
IMAGES = [
    "library/postgres:lab",
    "daturaai/redis:lab",
    *(f"{name}:{tag}" for name in NEURONS for tag in DIALECTS.values()),
]


def facts(miners=1, executors=2, digest=OLD, folder="/state/lab/demo"):
    return inventory.Facts(
        lab=LAB,
        files=Files(Path(folder)),
        hosts=LAB.hosts({"miners": miners, "validators": 1, "executors": executors}),
        hotkeys={"validator-1": "5Validator"} | {f"miner-{one}": f"5Miner{one}" for one in range(1, miners + 1)},
        validator="5Validator",
        packages_key="A1B2",
        images=dict.fromkeys(IMAGES, digest),
    )


def update(text, what, listed=(), written=None):
    return inventory.updated(text, what, listed, written or {}, "inventory.yml")


def names(what):
    return [host.name for host in what.hosts]


def read(text):
    return YAML(typ="safe").load(text)


def test_a_new_inventory_has_all_that_ansible_needs():
    tree = read(update(None, facts()))["all"]
    assert tree["vars"]["ansible_user"] == "operator"
    assert tree["vars"]["nvidia_docker_insecure_registries"] == ["198.51.100.2:5000"]
    assert "StrictHostKeyChecking=yes" in tree["vars"]["ansible_ssh_common_args"]
    miners, executors = tree["children"]["miners"], tree["children"]["executors"]
    assert miners["vars"] == {
        "miner_image": "{{ lab_images[celium_dialect].miner }}",
        "miner_db_image": f"198.51.100.2:5000/library/postgres@{OLD}",
    }
    assert list(tree["vars"]["lab_images"]) == ["celium", "lium"]
    assert tree["vars"]["lab_images"]["lium"] == {
        "miner": f"198.51.100.2:5000/daturaai/compute-subnet-miner@{OLD}",
        "executor": f"198.51.100.2:5000/daturaai/compute-subnet-executor@{OLD}",
        "validator": f"198.51.100.2:5000/daturaai/compute-subnet-validator@{OLD}",
    }
    assert miners["hosts"]["miner-1"]["miner_hotkey_ss58"] == "5Miner1"
    assert miners["hosts"]["miner-1"]["miner_evm_rpc_url"] == "http://198.51.100.4:9945"
    assert executors["vars"]["executor_gpu_proof"] == "simulated"
    assert executors["hosts"]["executor-2"] == {
        "ansible_host": "198.51.100.102",
        "executor_miner": "miner-1",
    }
    assert tree["children"]["validators"]["hosts"]["validator-1"] == {
        "ansible_host": "198.51.100.71",
        "validator_wallet_name": "lab-validator-1",
        "validator_wallet_hotkey": "default",
        "validator_wallet_source": "/state/lab/demo/wallets",
        "validator_hotkey_ss58": "5Validator",
    }


def test_hosts_come_before_their_images():
    early = update(None, replace(facts(), images={}))
    assert "miner_image" not in early
    late = update(early, facts(), names(facts()))
    assert read(late) == read(update(None, facts()))


def test_nothing_new_is_the_same_text():
    text = update(None, facts())
    assert update(text, facts()) is text
    assert update(text, facts(), names(facts()), inventory.image_values(facts())) is text


def test_executors_are_spread_over_the_miners():
    hosts = read(update(None, facts(miners=2, executors=4)))["all"]["children"]["executors"]["hosts"]
    assert [host["executor_miner"] for host in hosts.values()] == ["miner-1", "miner-2", "miner-1", "miner-2"]


def test_hand_edits_and_comments_survive_new_hosts_and_digests():
    text = update(None, facts())
    text = text.replace("ansible_host: 198.51.100.101", "ansible_host: 198.51.100.101  # rack 1\n          mine: 'x'")
    text = text.replace("    validators:\n", "    # those who check\n    validators:\n")
    text += "    # behind everything\n    spare:\n      hosts: {elsewhere: {ansible_host: 192.0.2.9}}\n"
    new = facts(miners=2, executors=3, digest=NEW)
    after = update(text, new, names(facts()), inventory.image_values(facts()))
    assert "198.51.100.101  # rack 1\n          mine: 'x'\n" in after
    assert "miner_external_ip: 198.51.100.12\n    # those who check\n    validators:\n" in after
    assert "executor_miner: miner-1\n    # behind everything\n    spare:\n" in after
    assert re.search(r"executor-3:\n +ansible_host: 198.51.100.103\n", after)
    assert OLD not in after
    removed = [line for line in text.splitlines() if line not in after.splitlines()]
    assert all(OLD in line for line in removed)


def test_an_image_that_was_changed_by_hand_stays():
    text = update(None, facts())
    mine = re.sub("miner_image: .*", "miner_image: 198.51.100.2:5000/mine:1", text)
    after = update(mine, facts(digest=NEW), names(facts()), inventory.image_values(facts()))
    assert read(after)["all"]["children"]["miners"]["vars"]["miner_image"] == "198.51.100.2:5000/mine:1"
    assert read(after)["all"]["children"]["executors"]["vars"]["executor_db_image"].endswith(NEW)
    assert read(after)["all"]["vars"]["lab_images"]["lium"]["executor"].endswith(NEW)


def test_an_image_of_one_dialect_that_was_changed_by_hand_stays():
    text = update(None, facts())
    mine = text.replace(f"compute-subnet-miner@{OLD}", "mine:1", 1)
    after = read(update(mine, facts(digest=NEW), names(facts()), inventory.image_values(facts())))
    images = after["all"]["vars"]["lab_images"]
    assert images["celium"]["miner"] == "198.51.100.2:5000/daturaai/mine:1"
    assert {images["celium"]["executor"][-71:], images["lium"]["miner"][-71:]} == {NEW}


def test_an_inventory_from_before_the_dialects_gets_their_images():
    text = update(None, facts())
    old = f"198.51.100.2:5000/daturaai/compute-subnet-miner@{OLD}"
    text = re.sub(r"    celium_dialect.*?(?=    ansible_ssh_private)", "", text, flags=re.DOTALL)
    text = re.sub("miner_image: .*", f"miner_image: {old}", text)
    after = read(update(text, facts(digest=NEW), names(facts()), {"miners.miner_image": old}))["all"]
    assert after["children"]["miners"]["vars"]["miner_image"] == "{{ lab_images[celium_dialect].miner }}"
    assert after["vars"]["lab_images"]["celium"]["miner"].endswith(NEW)


def test_what_was_removed_by_hand_stays_away():
    text = update(None, facts())
    text = re.sub(" +miner_db_image: .*\n", "", text)
    text = text[: text.index("        executor-2:")]
    after = update(text, facts(executors=3, digest=NEW), names(facts()), inventory.image_values(facts()))
    assert "miner_db_image" not in after
    assert list(read(after)["all"]["children"]["executors"]["hosts"]) == ["executor-1", "executor-3"]


def test_flow_style_and_empty_groups_are_extended():
    text = "all:\n  children:\n    miners:\n    executors: {hosts: {executor-1: {ansible_host: 198.51.100.101}}}\n"
    tree = read(update(text, facts()))["all"]["children"]
    assert list(tree["miners"]["hosts"]) == ["miner-1"]
    assert list(tree["executors"]["hosts"]) == ["executor-1", "executor-2"]


def test_a_folder_with_a_space_is_quoted_for_ansible_and_for_ssh():
    tree = read(update(None, facts(folder="/my state/lab")))
    options = tree["all"]["vars"]["ansible_ssh_common_args"]
    assert """'UserKnownHostsFile="/my state/lab/known_hosts"'""" in options


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("all:\n  children: [\n", 3, None),
        ("all:\n  children: miners\n", None, "all.children"),
        ("- all\n", None, None),
    ],
)
def test_a_broken_inventory_is_wrong_usage(text, line, key):
    with pytest.raises(UsageError) as caught:
        update(text, facts())
    assert (caught.value.file, caught.value.line, caught.value.key) == ("inventory.yml", line, key)
