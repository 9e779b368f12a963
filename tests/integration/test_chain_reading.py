"""The subnet as ``celium-ops chain`` reads it: the real SDK, over a real socket, from the lab's simulated chain."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from celium_ops.base.errors import CeliumError, GuardError
from celium_ops.chain import snapshot
from celium_ops.chain.guards import check
from celium_ops.chain.networks import Network
from celium_ops.chain.reader import read, read_chain
from celium_ops.lab.chain import faults, metadata
from celium_ops.lab.chain.node import running_node
from celium_ops.lab.chain.worlds import NETUID, default_world
from celium_ops.workflows import chain

MINER = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
NOBODY = "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"
PINNED = "registry.example/image@sha256:" + "0" * 64


@pytest.fixture(scope="module")
def recording():
    return metadata.ensure(print)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def own_files(monkeypatch, tmp_path, caches):
    """Keep what is written away from whoever runs the tests; the metadata is fetched from the node once for all."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    for name in ("BITTENSOR_RUNTIME_CACHE_DIR", "BTCLI_TOKEN_SYMBOLS_CACHE", "CELIUM_OPS_INVENTORY"):
        monkeypatch.delenv(name, raising=False)


def world(**changes):
    """Return the lab's world, its newest block made just now."""
    made = default_world({MINER: "192.0.2.7:8000"})
    return made.model_copy(update={"block_time": datetime.now(UTC).replace(microsecond=0), **changes})


@contextmanager
def running(recording, made=None, **options):
    with running_node(made or world(), recording=recording, **options) as node:
        yield node


@pytest.fixture
def node(recording):
    with running(recording) as found:
        yield found


def pool(*nodes):
    return Network("pool", tuple(node.url for node in nodes))


def ops(*arguments, cwd=None):
    """Run ``celium-ops`` where there is no inventory; its answer as JSON, its exit code, and what it said beside."""
    command = [str(Path(sys.executable).with_name("celium-ops")), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or os.environ["XDG_CACHE_HOME"])
    return json.loads(done.stdout), done.returncode, done.stderr


# What is read


def test_all_of_the_subnet_is_read_exactly_with_one_metagraph_call(recording):
    made = world()
    with running(recording, made) as node:
        found = read(node.url)
        assert found == made.model_copy(update={"network": node.url, "genesis": metadata.GENESIS})
        node.requests.clear()
        assert read(node.url, NETUID) == found
        assert node.requests["SubnetInfoRuntimeApi_get_metagraph"] == 1
        assert node.requests["Metadata_metadata_at_version"] == 0, "metadata is kept"
        assert node.requests.total() <= 15, node.requests


def test_stakes_of_any_size_agree_with_btcli_to_the_rao(recording):
    chance = random.Random(51)  # noqa: S311  made-up stakes
    sizes = [0, 1, 2**53 + 1, 21_000_000 * 10**9, 2**64 - 1, *(chance.randrange(10**17) for _ in range(251))]
    made = default_world(neurons=len(sizes))
    stakes = ("alpha_stake", "tao_stake", "total_stake")
    rows = [
        neuron.model_copy(
            update={name: sizes[(neuron.uid + place * 7) % len(sizes)] for place, name in enumerate(stakes)}
        )
        for neuron in made.neurons
    ]
    with running(recording, world(neurons=tuple(rows))) as node:
        ours, code, _ = ops("chain", "validators", "--all", "--network", node.url)
        btcli = [str(Path(sys.executable).with_name("btcli")), "--json", "-n", node.url]
        theirs = subprocess.run(
            [*btcli, "subnets", "metagraph", str(NETUID)], capture_output=True, text=True, check=True
        )
    graph = json.loads(theirs.stdout)
    assert code == 0
    assert len(ours["validators"]) == len(sizes)
    columns = {"total_stake": "total_stake", "alpha_stake": "alpha_stake", "tao_stake": "tao_stake"}
    columns |= {"hotkey": "hotkeys", "validator_permit": "validator_permit", "active": "active"}
    for row in ours["validators"]:
        assert {name: row[name] for name in columns} == {name: graph[key][row["uid"]] for name, key in columns.items()}
    assert ours["block"] == graph["block"]
    assert ours["whole"] == sum(row["total_stake"] for row in ours["validators"] if row["validator_permit"])
    assert all(one["total_stake"] >= two["total_stake"] for one, two in pairwise(ours["validators"]))


def test_nothing_is_written_but_our_own_cache(recording, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with running(recording) as node:
        (tmp_path / "cache").mkdir()
        _, code, said = ops("chain", "validators", "--network", node.url)
    assert (code, said) == (0, "")
    assert not (tmp_path / "home").exists()
    assert [file.parent.name for file in (tmp_path / "cache").rglob("*") if file.is_file()] == ["chain"]


def test_help_does_not_wait_for_the_sdk():
    script = "import sys, celium_ops.cli.main; sys.exit('bittensor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_snapshot_is_what_was_read_and_can_be_read_and_served(recording, node, tmp_path):
    file = tmp_path / "sn51.json"
    answer, code, _ = ops("chain", "snapshot", file, "--network", node.url)
    kept = snapshot.load(file)
    assert (code, snapshot.Snapshot.model_validate(answer)) == (0, kept)
    live, _, _ = ops("chain", "validators", "--network", node.url)
    from_file, code, _ = ops("chain", "validators", "--network", file)
    assert (code, from_file["validators"]) == (0, live["validators"])
    with running(recording, kept) as again:
        assert read(again.url).neurons == kept.neurons
    old = kept.model_copy(update={"block_time": datetime(2026, 1, 1, tzinfo=UTC)})
    snapshot.save(old, file)
    assert ops("chain", "validators", "--network", file)[1] == 0, "a file may be of any age"
    wrong, code, _ = ops("chain", "validators", "--network", file, "--netuid", "12")
    assert (code, wrong["error"]["message"]) == (2, f"{file} is of subnet 51, not of 12")
    lost, code, _ = ops("chain", "snapshot", tmp_path / "nowhere" / "x.json", "--network", file)
    assert (code, lost["error"]["code"]) == (1, "cannot-write")


# Nodes that misbehave


@pytest.mark.parametrize(
    ("fault", "seconds", "code", "message"),
    [
        ("dead", 60, "chain-unreachable", "Connect call failed"),
        ("429", 5, "chain-rate-limited", "HTTP 429.*again after 30 s"),
        ("policy", 5, "chain-rate-limited", "storage work rate limit exceeded.*again after 30 s"),
        ("pruned", 60, "chain-error", "State discarded"),
        ("dropping", 30, "chain-unreachable", "exhausting endpoint retries"),
        ("slow", 2, "chain-timeout", "no answer in time"),
        ("closing", 2, "chain-timeout", "no answer in time"),
    ],
)
def test_a_node_that_fails_is_named_with_the_reason_and_in_time(node, capfd, fault, seconds, code, message):
    node.fault(fault)
    begun, threads = time.monotonic(), threading.active_count()
    with pytest.raises(CeliumError, match=f"(?s){node.url}: .*{message}") as raised:
        read(node.url, seconds=seconds)
    assert time.monotonic() - begun < min(seconds, 20) + 3
    assert (raised.value.code, int(raised.value.exit_code)) == (code, 1)
    assert raised.value.remedy
    assert threading.active_count() == threads
    assert capfd.readouterr() == ("", "")
    node.fault(None)
    assert len(read(node.url).neurons) == 64


@pytest.mark.parametrize("fault", ["dead", "429", "policy", "pruned", "closing"])
def test_the_next_node_is_asked(recording, node, fault):
    with running(recording) as other:
        node.fault(fault)
        begun = time.monotonic()
        assert read_chain(pool(node, other), NETUID, seconds=10).neurons == world().neurons
        assert time.monotonic() - begun < 8
        assert other.requests["SubnetInfoRuntimeApi_get_metagraph"] == 1


def test_all_nodes_are_named_when_none_answers(recording, node):
    with running(recording) as other:
        node.fault("429")
        other.fault("dead")
        with pytest.raises(
            CeliumError, match=f"{node.url}: .*HTTP 429.*; {other.url}: .*Connect call failed"
        ) as raised:
            read_chain(pool(node, other), NETUID, seconds=20)
    assert raised.value.code == "chain-unreachable"


def test_a_node_that_comes_back_is_read(node):
    node.fault("dead")
    threading.Timer(0.5, node.fault, [None]).start()
    assert read(node.url, seconds=20).block == 5_000_000


def test_a_node_is_left_alone_as_long_as_it_says(node, monkeypatch):
    monkeypatch.setattr(faults, "RETRY_AFTER_SECONDS", 3)
    node.fault("429")
    threading.Timer(0.2, node.fault, [None]).start()
    begun = time.monotonic()
    assert read(node.url, seconds=20).block == 5_000_000
    assert 3 <= time.monotonic() - begun < 6


def test_all_of_a_reading_is_of_one_block(recording):
    """Blocks pass while it is read: the time is that of the metagraph's block."""
    made = world()
    with running(recording, made, block_seconds=0.01, slow_seconds=0.05) as node:
        first = read(node.url)
        node.fault("slow")
        found = read(node.url)
    assert found.block > first.block > made.block
    per_block = (found.block_time - first.block_time).total_seconds() / (found.block - first.block)
    assert per_block == pytest.approx(0.01, rel=0.02)


# (what happened, the exit code, the code, a piece of the message; what the operator may override)
@pytest.mark.parametrize(
    ("fault", "changes", "exit_code", "code", "message", "override"),
    [
        ("no-subnet", {}, 4, "chain-no-subnet", "has no subnet 51", False),
        ("empty", {}, 4, "chain-empty", "has no neurons", True),
        (None, {"block_time": datetime(2026, 1, 1, tzinfo=UTC)}, 4, "chain-stale", "block 5000000", True),
        ("dead", {}, 1, "chain-unreachable", "Connect call failed", False),
    ],
)
def test_what_an_operator_is_told(recording, fault, changes, exit_code, code, message, override):
    with running(recording, world(**changes)) as node:
        node.fault(fault)
        answer, found, said = ops("chain", "validators", "--network", node.url)
        assert (found, answer["ok"], answer["error"]["code"]) == (exit_code, False, code)
        assert message in answer["error"]["message"]
        lines = said.splitlines()
        assert [line.split()[0] for line in lines] == ["Error", "Remedy"], said
        if override:
            answer, found, _ = ops("chain", "validators", "--network", node.url, "--override", code)
            assert (found, answer["ok"]) == (0, True)


def test_a_chain_that_is_another_one_than_before_is_not_believed(node):
    good = read(node.url)
    check(good, good, datetime.now(UTC))
    node.fault("wrong-genesis")
    with pytest.raises(GuardError, match="first block"):
        check(read(node.url), good, datetime.now(UTC))
    node.fault("half")
    with pytest.raises(GuardError, match="32 UIDs are left of 64"):
        check(read(node.url), good, datetime.now(UTC))


def test_a_node_that_only_says_it_is_of_the_main_chain(node):
    found = read_chain(Network("finney", (node.url,)), NETUID)
    with pytest.raises(GuardError, match="0x2f0555cc76fc") as raised:
        check(found, None, datetime.now(UTC))
    assert raised.value.code == "chain-wrong-genesis"


def test_keys_of_customers_are_not_shown(node):
    node.fault("dead")
    answer, _, said = ops("-v", "chain", "validators", "--network", f"{node.url}/?apikey=secret")
    assert "secret" not in json.dumps(answer) + said
    assert "celium_ops.chain.reader" in said, "-v tells of every try"


# With an inventory


INVENTORY = """\
all:
  vars: {{celium_network: "{url}", celium_dialect: {dialect}, ansible_user: ops}}
  children:
    miners:
      vars: {{miner_wallet_name: w, miner_image: {image}, miner_db_image: {image}}}
      hosts:
        miner-1:
          ansible_host: {address}
          miner_hotkey_ss58: {hotkey}
          {more}
"""


def inventory(folder, node, **changes):
    values = {
        "url": node.url,
        "dialect": "celium",
        "image": PINNED,
        "address": "192.0.2.7",
        "hotkey": MINER,
        "more": "",
    }
    file = folder / "fleet.yml"
    file.write_text(INVENTORY.format(**{**values, **changes}))
    return file


def test_the_miners_of_the_inventory_are_found(node, tmp_path):
    answer, code, said = ops("-i", inventory(tmp_path, node), "chain", "miner")
    (row,) = answer["miners"]
    assert (code, answer["ok"], said) == (0, True, "")
    assert (row["host"], row["uid"], row["axon"], row["axon_differs"]) == ("miner-1", 1, "192.0.2.7:8000", False)
    assert (row["total_stake"], row["emission"]) == (11 * 10**9, 37_000_111)
    assert (row["immune_blocks"], row["eviction_rank"], row["registrations_until_eviction"]) == (0, 5, 197)
    assert (answer["free_slots"], answer["burn"]) == (192, 350_000_000)


def test_an_axon_elsewhere_is_seen(node, tmp_path):
    answer, code, _ = ops("-i", inventory(tmp_path, node, address="192.0.2.8"), "chain", "miner")
    assert (code, answer["miners"][0]["axon_differs"], answer["miners"][0]["axon_expected"]) == (
        0,
        True,
        "192.0.2.8:8000",
    )


def test_a_miner_that_is_not_registered_is_said(node, tmp_path):
    file = inventory(tmp_path, node, hotkey=NOBODY)
    answer, code, _ = ops("-i", file, "chain", "miner")
    assert (code, answer["ok"], answer["miners"][0]["registered"]) == (1, False, False)
    program = str(Path(sys.executable).with_name("celium-ops"))
    shown = subprocess.run([program, "-i", str(file), "chain", "miner"], capture_output=True, text=True, check=False)
    assert "miner-1 is not registered on subnet 51" in shown.stdout


def test_the_rules_are_those_of_the_miners(node, tmp_path):
    first = next(neuron.hotkey for neuron in node.state.snapshot.neurons if neuron.uid == 6)
    file = inventory(tmp_path, node, more="miner_min_total_stake: 200000")
    options = ("--deny", first, "--min-total", "100000", "--silent-blocks", "61")
    answer, code, _ = ops("-i", file, "chain", "validators", *options)
    assert code == 0
    assert [row["uid"] for row in answer["validators"] if row["eligible"]] == [48, 30, 12], "options win"

    def eligible(**changes):
        source = chain.find_source(inventory(tmp_path, node, **changes), None, None)
        rows = chain.validators(chain.read(source), chain.rules_for(source.fleet, None), "permit", everybody=False)
        return [row.uid for row in rows if row.eligible]

    assert eligible() == [6, 48, 30, 12, 54, 18, 0]
    assert eligible(more="miner_min_total_stake: 200000") == [6, 48, 30]
    assert eligible(dialect="lium") == [], "upstream's only validator is not on this chain"
    assert eligible(dialect="lium", more=f"miner_default_validator: {first}") == [6]


def test_without_an_inventory_and_a_network_nothing_is_asked(tmp_path):
    answer, code, _ = ops("chain", "validators", cwd=tmp_path)
    assert (code, answer["error"]["message"]) == (2, "there is neither an inventory nor a network")
    for arguments in (("miner", "5F7x"), ("validators", "--deny", "5F7x")):
        answer, code, _ = ops("chain", *arguments, "--network", "local")
        assert (code, answer["error"]["code"]) == (2, "wrong-hotkey")
