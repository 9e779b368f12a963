"""The lab's simulated chain, read by the unmodified SDK and its ``btcli`` over a real socket on loopback."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import bittensor_core
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.chain.snapshot import Neuron
from celium_ops.lab import neurons
from celium_ops.lab.chain import metadata, state, worlds
from celium_ops.lab.chain.codec import Codec
from celium_ops.lab.chain.faults import Fault
from celium_ops.lab.chain.node import running_node
from celium_ops.lab.chain.runtime import Runtime
from celium_ops.lab.chain.state import State
from celium_ops.lab.chain.worlds import NETUID, default_world

ALL_ALPHA = 21_000_000 * 10**9
FINNEY = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03"


@pytest.fixture(scope="module")
def recording():
    return metadata.ensure(print)


@pytest.fixture(scope="module")
def codec(recording):
    return Codec(metadata.load(recording))


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path_factory, recording):
    """Keep what the SDK writes away from the caches of whoever runs the tests; ours stays where it is."""
    home = tmp_path_factory.getbasetemp() / "sdk-home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(recording.parents[3]))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(home / "runtime"))
    monkeypatch.setenv("BTCLI_TOKEN_SYMBOLS_CACHE", str(home / "symbols.json"))


@pytest.fixture
def node(recording):
    with running_node(default_world(), recording=recording, slow_seconds=0.3) as found:
        yield found


@contextlib.contextmanager
def connected(url):
    import bittensor

    with contextlib.closing(bittensor.Subtensor(url, fallback_endpoints=[], archive_endpoints=[])) as client:
        yield client


@pytest.fixture
def client(node):
    with connected(node.url) as found:
        yield found


def read(client, netuid=NETUID):
    return client.subnets.metagraph(netuid, commitments=False)


def shown(neuron):
    """Return what the SDK says of a neuron, as a snapshot has it; shares are its floats, of 65535."""
    return Neuron(
        uid=neuron.uid,
        hotkey=neuron.hotkey,
        coldkey=neuron.coldkey,
        active=neuron.active,
        validator_permit=neuron.validator_permit,
        last_update=neuron.last_update,
        registered_at=neuron.block_at_registration,
        incentive=round(neuron.incentive * 65535),
        dividends=round(neuron.dividends * 65535),
        emission=neuron.emission.rao,
        alpha_stake=neuron.alpha_stake.rao,
        tao_stake=neuron.tao_stake.rao,
        total_stake=neuron.total_stake.rao,
        axon=neuron.axon,
    )


# What was recorded from a real chain


def test_the_recording_is_that_of_the_sdk_we_use():
    assert version("bittensor") == metadata.SDK_VERSION, "pin the recording of the new SDK: see lab/chain/metadata.py"


def test_recorded_values_are_encoded_byte_for_byte(codec, recording):
    vectors = metadata.load(recording).vectors
    for call in vectors["runtime_calls"]:
        answer, raw = codec.answer_type(call["api"], call["method"]), bytes.fromhex(call["raw_hex"][2:])
        assert codec.encode(answer, codec.decode(answer, raw)) == raw, call["method"]
    for key in vectors["storage_keys"]:
        assert codec.storage_key(key["pallet"], key["storage_function"], *key["params"]) == key["key_hex"]
    present = [value for value in vectors["storage_values"] if value["raw_hex"]]
    for value in present:
        pallet, item, raw = value["pallet"], value["storage_function"], bytes.fromhex(value["raw_hex"][2:])
        decoded = codec.decode(codec.storage_type(pallet, item), raw)
        assert codec.storage_value(pallet, item, decoded) == value["raw_hex"], item
    assert (len(vectors["runtime_calls"]), len(vectors["storage_keys"]), len(present)) == (4, 10, 7)


def test_the_recorded_subnet_is_answered_byte_for_byte(codec, recording):
    """Our own answers, not only the codec's: the one neuron of the recorded chain, as a snapshot of ours."""
    vectors = metadata.load(recording).vectors
    listed = next(call for call in vectors["runtime_calls"] if call["method"] == "get_neurons_lite")
    values = {(value["storage_function"], *value["params"]): value["raw_hex"] for value in vectors["storage_values"]}
    one = listed["decoded"][0]
    world = default_world(neurons=1)
    neuron = world.neurons[0].model_copy(
        update={name: one[name] for name in ("hotkey", "coldkey", "active", "validator_permit", "last_update")}
        | {name: one[name] for name in ("emission", "incentive", "dividends")}
        | {"alpha_stake": one["stake"][0][1], "axon": None}
    )
    moment = int.from_bytes(bytes.fromhex(values["Now",][2:]), "little")
    subnet = world.subnet.model_copy(update={"tempo": 100, "owner_coldkey": one["coldkey"]})
    recorded = world.model_copy(
        update={"netuid": 1, "neurons": (neuron,), "subnet": subnet, "block": 0x43}
        | {"block_time": datetime.fromtimestamp(moment / 1000, UTC)}
    )
    runtime = Runtime(codec)
    assert runtime.call("NeuronInfoRuntimeApi_get_neurons_lite", b"\1\0", recorded).hex() == listed["raw_hex"][2:]
    stored = runtime.storage(recorded)
    for pallet, item, *key in [
        *(("SubtensorModule", name, 1) for name in ("Tempo", "NetworksAdded", "SubnetOwner")),
        *(("Timestamp", "Now"), ("System", "Number")),
    ]:
        assert stored[codec.storage_key(pallet, item, *key)] == values[item, *key], item


def test_what_is_not_the_pinned_recording_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(metadata, "_fetch", lambda: b"{}")
    with pytest.raises(CeliumError, match="not the file that was pinned"):
        metadata.ensure(lambda _line: None)
    assert not list(tmp_path.rglob("*.json"))


def test_an_index_that_does_not_answer_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        CeliumError, match=r"bittensor 11\.3\.0 cannot be fetched: .*No matching distribution"
    ) as raised:
        metadata.ensure(lambda _line: None)
    assert "package index" in raised.value.remedy


def test_a_recording_of_another_runtime_is_refused(monkeypatch, recording):
    monkeypatch.setattr(metadata, "SPEC_VERSION", 462)
    with pytest.raises(CeliumError, match="is of runtime 461, the simulated chain is made for 462"):
        metadata.load(recording)


def test_the_lab_runs_the_node_with_the_libraries_of_these_tests():
    top = Path(neurons.__file__).parents[2]
    locked = set((top / "constraints.txt").read_text().splitlines())
    lines = (top / "celium_ops/lab/images/chain/requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} <= locked


# Reading


rao = st.one_of(st.sampled_from([0, 1, ALL_ALPHA - 1, ALL_ALPHA, 2**64 - 1]), st.integers(0, ALL_ALPHA))
share = st.integers(0, 65535)
block = st.integers(0, 2**32)
address = st.binary(min_size=32, max_size=32)


@st.composite
def neuron_rows(draw):
    made = []
    for uid, public in enumerate(draw(st.lists(address, max_size=12, unique=True))):
        hotkey = bittensor_core.ss58_encode(public)
        fields = {"alpha_stake": rao, "tao_stake": rao, "total_stake": rao, "emission": rao}
        fields |= {"incentive": share, "dividends": share, "last_update": block, "registered_at": block}
        fields |= {"active": st.booleans(), "validator_permit": st.booleans()}
        axon = st.sampled_from([None, "192.0.2.7:1", "255.255.255.255:65535", "[2001:db8::7]:8091"])
        values = draw(st.fixed_dictionaries({**fields, "axon": axon}))
        made.append(Neuron(uid=uid, hotkey=hotkey, coldkey=bittensor_core.ss58_encode(public[::-1]), **values))
    return tuple(made)


@st.composite
def subnets(draw):
    short, long = st.integers(0, 65535), st.integers(0, 2**48)
    fields = dict.fromkeys(("tempo", "immunity_period", "max_uids", "max_validators", "min_non_immune_uids"), short)
    fields |= {"immune_owner_uids_limit": short, "activity_cutoff": long, "last_step": long, "registered_at": long}
    fields |= {"burn": rao, "registration_allowed": st.booleans(), "name": st.text(max_size=20)}
    fields |= {"symbol": st.text(min_size=1, max_size=3)}
    return default_world(neurons=0).subnet.model_copy(update=draw(st.fixed_dictionaries(fields)))


@pytest.fixture(scope="module")
def one_client(recording, tmp_path_factory):
    with running_node(default_world(), recording=recording) as node, connected(node.url) as client:
        yield node, client, itertools.count(6_000_000, 1_000)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=neuron_rows(), subnet=subnets(), weight=st.integers(0, 2**64 - 1), threshold=rao)
def test_every_field_arrives_exactly(one_client, rows, subnet, weight, threshold):
    import bittensor

    node, client, numbers = one_client
    moment = datetime(2026, 5, 17, 12, 0, 0, 123_000, tzinfo=UTC)
    chain = {"block": next(numbers), "block_time": moment, "tao_weight": weight, "stake_threshold": threshold}
    world = default_world().model_copy(update={"neurons": rows, "subnet": subnet, **chain})
    node.set(world)
    graph = read(client)
    assert tuple(map(shown, graph.neurons)) == rows
    assert (client.block, graph.block, client.timestamp()) == (world.block, world.block, moment)
    assert (graph.name, graph.symbol) == (subnet.name, subnet.symbol)
    for ours, theirs in {"registered_at": "network_registered_at", "burn": "burn"}.items():
        assert graph.raw[theirs] == getattr(subnet, ours)
    for name in (
        *("owner_hotkey", "owner_coldkey", "tempo", "last_step", "max_uids", "max_validators"),
        *("immunity_period", "activity_cutoff", "registration_allowed"),
    ):
        assert graph.raw[name] == getattr(subnet, name), name
    module = bittensor.storage.SubtensorModule
    assert client.query(module.TaoWeight) == weight
    assert client.query(module.StakeThreshold) == threshold
    assert client.query(module.MinNonImmuneUids, [NETUID]) == subnet.min_non_immune_uids
    assert client.query(module.ImmuneOwnerUidsLimit, [NETUID]) == subnet.immune_owner_uids_limit
    for neuron in rows[:2]:
        assert client.neurons.uid(neuron.hotkey, NETUID) == neuron.uid
        assert client.neurons.netuids_for_hotkey(neuron.hotkey) == [NETUID]
        assert client.neurons.hotkey_owner(neuron.hotkey) == neuron.coldkey


def test_a_full_subnet_is_read_with_one_metagraph_call(node, client):
    node.set(default_world(neurons=256))
    node.requests.clear()
    assert tuple(map(shown, read(client).neurons)) == default_world(neurons=256).neurons
    assert node.requests["SubnetInfoRuntimeApi_get_metagraph"] == 1


def test_the_other_reads_agree(node, client):
    world = default_world()
    assert client.subnets.subnet_hyperparameters(NETUID)["immunity_period"] == world.subnet.immunity_period
    assert client.hyperparameters.immunity_period(NETUID) == world.subnet.immunity_period
    holder = next(neuron for neuron in world.neurons if neuron.validator_permit)
    assert client.epochs.blocks_since_last_update(NETUID, holder.uid) == world.block - holder.last_update
    assert client.epochs.blocks_until_next_epoch(NETUID) == 260
    assert [neuron.total_stake.rao for neuron in client.neurons.all(NETUID)] == [
        neuron.alpha_stake for neuron in world.neurons
    ], "this list has the bare alpha, on the real chain too"
    assert client.neurons.uid(world.subnet.owner_hotkey, NETUID) is None
    assert client.subnets.subnet_hyperparameters(77) is None
    assert [subnet.netuid for subnet in client.subnets.all()] == [0, NETUID]


def test_it_is_never_taken_for_a_real_chain(node, client):
    said = json.load(urllib.request.urlopen(f"http{node.url.removeprefix('ws')}/status"))  # noqa: S310 -- loopback
    assert said["simulated"] is True
    assert "simulated" in said["name"]
    assert "simulated" in request(node, "system_chain")
    first = request(node, "chain_getBlockHash", [0])
    assert first == metadata.GENESIS != FINNEY
    node.set(default_world().model_copy(update={"genesis": FINNEY, "network": "finney"}))
    assert request(node, "chain_getBlockHash", [0]) == first, "whatever snapshot is served"


def request(node, method, parameters=()):
    """Ask the node without the SDK."""
    from websockets.sync.client import connect

    with connect(node.url) as socket:
        socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}))
        answer = json.loads(socket.recv())
    return answer.get("result", answer.get("error"))


def test_what_it_does_not_know_is_an_error_and_no_made_up_answer(node):
    assert "does not know the method author_rotateKeys" in request(node, "author_rotateKeys")["message"]
    call = request(node, "state_call", ["SubnetInfoRuntimeApi_get_all_metagraphs", "0x"])
    assert "does not know the runtime call" in call["message"]
    assert request(node, "chain_getHeader", ["0x" + "ff" * 32]) is None
    assert request(node, "chain_getHeader", [7])["code"] == -32602


def test_btcli_agrees(node):
    btcli = Path(sys.executable).with_name("btcli")
    command = [str(btcli), "--json", "-n", node.url, "subnets", "metagraph", str(NETUID)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    neurons_ = default_world().neurons
    assert answer["hotkeys"] == [neuron.hotkey for neuron in neurons_]
    for ours, theirs in {"total_stake": "total_stake", "alpha_stake": "alpha_stake", "tao_stake": "tao_stake"}.items():
        assert answer[theirs] == [getattr(neuron, ours) for neuron in neurons_]


# Time


def test_blocks_pass_and_are_streamed(recording):
    with running_node(default_world(), recording=recording, block_seconds=0.1) as node, connected(node.url) as client:
        seen = [head.number for head in itertools.islice(client.blocks(), 4)]
        assert seen == list(range(seen[0], seen[0] + 4))
        head = client.block
        assert client.timestamp(head) - client.timestamp(head - 1) == timedelta(seconds=0.1)
        assert abs(client.timestamp() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_subscriber_is_told_of_each_block_once(recording):
    seen = {}
    with running_node(default_world(), recording=recording, block_seconds=0.01) as node, connect(node.url) as client:
        for asked in range(120):
            client.send(json.dumps({"jsonrpc": "2.0", "id": asked, "method": "chain_subscribeNewHeads"}))
        while len(seen) < 120 or min(map(len, seen.values())) < 3:
            told = json.loads(client.recv(timeout=5))
            if "params" in told:
                heads = seen.setdefault(told["params"]["subscription"], [])
                heads.append(int(told["params"]["result"]["number"], 16))
    for heads in seen.values():
        assert heads == list(range(heads[0], heads[0] + len(heads)))


def test_an_old_block_can_be_asked_for(node, client):
    node.advance(500)
    before = client.at(default_world().block - 3)
    assert before.subnets.metagraph(NETUID, commitments=False).block == default_world().block - 3
    assert client.at(default_world().block).subnets.metagraph(NETUID).neurons[0].last_update == 4_999_911


def test_with_every_tempo_the_active_validators_set_weights(node, client):
    world = default_world()
    before = {neuron.uid: neuron.last_update for neuron in world.neurons}
    node.advance(10 * world.subnet.tempo)
    after = {neuron.uid: neuron.last_update for neuron in read(client).neurons}
    for neuron in world.neurons:
        moved = after[neuron.uid] - before[neuron.uid]
        assert moved == (3_600 if neuron.active and neuron.validator_permit else 0)


# Faults


def test_every_fault_has_a_meaning():
    from celium_ops.lab.chain.faults import MEANINGS

    assert set(MEANINGS) == set(Fault)


@pytest.mark.parametrize(
    ("fault", "error", "message", "longest"),
    [
        (Fault.DEAD, "RpcConnectionError", "could not connect to any endpoint", 5),
        (Fault.RATE_LIMIT, "RpcPolicyError", "HTTP 429", 5),
        (Fault.POLICY, "RpcPolicyError", "traffic policy", 5),
        (Fault.PRUNED, "ChainError", "State discarded", 5),
        (Fault.DROPPING, "RpcConnectionError", "exhausting endpoint retries", 20),
    ],
)
@pytest.mark.parametrize("connected_before", [True, False])
def test_a_fault_is_met_as_the_real_thing_is_and_can_be_cleared(
    node, client, fault, error, message, longest, connected_before
):
    import bittensor

    if connected_before:
        read(client)
    node.fault(fault)
    started = time.monotonic()
    with pytest.raises(getattr(bittensor, error), match=message) as raised:
        read(client)
    assert time.monotonic() - started < longest
    if error == "RpcPolicyError":
        assert raised.value.retry_after == "30"
    node.fault(None)
    assert len(read(client).neurons) == 64, "the same client, on the same port"


def test_a_closing_chain_makes_the_sdk_wait_forever(node):
    """So whoever reads needs a deadline of their own."""
    node.fault("closing")
    done = threading.Event()

    def reading():
        with connected(node.url) as client, contextlib.suppress(Exception):
            read(client)
        done.set()

    threading.Thread(target=reading, daemon=True).start()
    assert not done.wait(4), "a chain that breaks its connections is given up after 2.5 s"


def test_a_slow_chain_takes_its_time_for_every_answer(node, client):
    read(client)
    node.fault("slow")
    node.requests.clear()
    started = time.monotonic()
    read(client)
    assert time.monotonic() - started >= 0.3 * node.requests.total() > 0


def test_another_chain_has_other_hashes(node):
    hashes = {number: request(node, "chain_getBlockHash", [number]) for number in (0, 4_999_999)}
    node.fault("wrong-genesis")
    for number, known in hashes.items():
        assert request(node, "chain_getBlockHash", [number]) != known
    with connected(node.url) as client:
        assert len(read(client).neurons) == 64, "and is read like any other"


def test_a_subnet_can_be_gone_empty_or_halved(node, client):
    whole = default_world().neurons
    node.fault("no-subnet")
    assert read(client) is None
    assert client.neurons.uid(whole[0].hotkey, NETUID) is None
    assert client.subnets.subnet_hyperparameters(NETUID) is None
    node.fault("empty")
    assert read(client).neurons == []
    node.fault("half")
    assert tuple(map(shown, read(client).neurons)) == whole[:32]
    node.fault(None)
    assert tuple(map(shown, read(client).neurons)) == whole


def test_flapping_stakes_change_with_every_block_and_nothing_else_does(node, client):
    node.fault("flapping")
    seen = []
    for _ in range(5):
        seen.append([shown(neuron) for neuron in read(client).neurons])
        node.advance()
    stakes = [tuple(neuron.total_stake for neuron in neurons_ if neuron.validator_permit) for neurons_ in seen]
    assert len(set(stakes)) == 5
    assert len({tuple(sorted(stake)) for stake in stakes}) == 1
    without = [
        [neuron.model_dump(exclude={"alpha_stake", "tao_stake", "total_stake"}) for neuron in neurons_]
        for neurons_ in seen
    ]
    assert all(one == without[0] for one in without)


def test_a_chain_that_stands_still_goes_on_where_time_is(recording):
    with running_node(default_world(), recording=recording, block_seconds=0.05) as node, connected(node.url) as client:
        node.fault("still")
        head, moment = client.block, client.timestamp()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert (client.block, client.timestamp()) == (head, moment)
        node.fault(None)
        assert client.block >= head + 5


# The program, commanded by a file


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "state.json"
    state.save(State.begun(default_world(), datetime.now(UTC)), path)
    return path


@contextlib.contextmanager
def program(recording, *arguments):
    command = [sys.executable, "-m", "celium_ops.lab.chain", f"--recording={recording}", "--port=0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        try:
            line = started.stdout.readline()
            found = re.match(r"(ws://127\.0\.0\.1:\d+): simulated chain, block \d+, fault (\S+)", line)
            assert found, line
            yield found[1], found[2]
        finally:
            started.terminate()


def until_block(client, wanted):
    deadline = time.monotonic() + 20
    while client.block < wanted:
        assert time.monotonic() < deadline


def test_the_program_does_what_the_file_says_and_a_restart_changes_nothing(recording, file):
    with program(recording, f"--state={file}") as (url, fault), connected(url) as client:
        assert fault == "none"
        assert len(read(client).neurons) == 64
        file.write_text("{", encoding="utf-8")  # not ours, and not whole: the chain stays what it was
        now = datetime.now(UTC)
        wider = default_world(neurons=100).model_copy(update={"block": 7_000_000})
        state.save(State.begun(wider, now).with_fault(Fault.STILL, now), file)
        until_block(client, 7_000_000)
        assert len(read(client).neurons) == 100
    with program(recording, f"--state={file}") as (url, fault), connected(url) as client:
        assert fault == "still"
        assert (client.block, len(read(client).neurons)) == (7_000_000, 100)


def test_the_program_serves_a_snapshot(recording, tmp_path):
    from celium_ops.chain import snapshot

    snapshot.save(default_world(neurons=3), tmp_path / "small.json")
    with program(recording, str(tmp_path / "small.json"), "--fault=pruned") as (_, fault):
        assert fault == "pruned"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neurons": default_world().neurons[1:]}, "UIDs of a chain are 0, 1, 2"),
        ({"subnet": default_world().subnet.model_copy(update={"tempo": 70_000})}, "cannot"),
        ({"subnet": default_world().subnet.model_copy(update={"owner_hotkey": "nobody"})}, "cannot"),
        ({"neurons": (default_world().neurons[0].model_copy(update={"axon": "here"}),)}, "cannot"),
    ],
)
def test_a_snapshot_that_fits_on_no_chain_is_refused(changed, message, recording):
    with pytest.raises(UsageError, match=message):
        worlds.check(default_world().model_copy(update=changed), print)
