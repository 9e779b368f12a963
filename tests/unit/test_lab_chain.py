"""The simulated chain without a socket: its clock, its worlds, its container."""

from __future__ import annotations

import http.client
import json
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from celium_ops.base.errors import CeliumError
from celium_ops.chain.snapshot import Snapshot
from celium_ops.lab.chain import container, evm, state
from celium_ops.lab.chain.faults import Fault
from celium_ops.lab.chain.state import State
from celium_ops.lab.chain.worlds import default_world
from celium_ops.lab.layout import Files, Lab

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WORLD = default_world()
LAB = Lab("demo", IPv4Network("198.51.100.0/24"))


def later(seconds):
    return NOW + timedelta(seconds=seconds)


def test_a_block_comes_every_twelve_seconds_from_the_moment_of_setting():
    begun = State.begun(WORLD, NOW)
    heads = [begun.head(later(seconds)) - WORLD.block for seconds in (-5, 0, 11.9, 12, 120)]
    assert heads == [0, 0, 0, 1, 10]
    assert begun.time_of(WORLD.block + 10) == later(120)
    assert begun.seconds_to_next(later(13)) == 11


def test_without_time_a_snapshot_is_shown_as_it_is():
    begun = State.begun(WORLD, NOW, None)
    assert begun.at(begun.head(later(10**6))) == WORLD
    assert begun.seconds_to_next(NOW) is None
    assert begun.grown(2).at(WORLD.block + 2).block_time == WORLD.block_time + timedelta(seconds=24)


@pytest.mark.parametrize("seconds", [12.0, None])
def test_a_chain_never_goes_back(seconds):
    begun = State.begun(WORLD, NOW, seconds)
    older = WORLD.model_copy(update={"block": 7})
    head = begun.head(later(120))
    changed = begun.with_snapshot(older, later(120))
    assert changed.head(later(120)) == head + 1
    assert changed.time_of(head + 1) >= begun.time_of(head)
    assert changed.with_snapshot(WORLD.model_copy(update={"block": 10**7}), later(130)).head(later(130)) == 10**7


def test_standing_still_begins_now_and_ends_where_time_is():
    still = State.begun(WORLD, NOW).with_fault(Fault.STILL, later(24))
    assert still.head(later(1_000)) == WORLD.block + 2
    assert still.seconds_to_next(later(1_000)) is None
    assert still.with_fault(None, later(1_000)).head(later(1_000)) == WORLD.block + 83


def test_a_fault_survives_another_snapshot_and_the_file(tmp_path):
    kept = State.begun(WORLD, NOW).with_fault(Fault.HALF, NOW).with_snapshot(default_world(neurons=10), later(5))
    state.save(kept, tmp_path / "state.json")
    found = state.load(tmp_path / "state.json")
    assert (found, state.digest(found)) == (kept, state.digest(kept))
    assert len(found.at(found.head(later(5))).neurons) == 5
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(CeliumError, match="cannot be read"):
        state.load(tmp_path / "state.json")


def test_the_worlds_are_the_same_every_time_and_snapshots_like_any_other():
    again = Snapshot.model_validate_json(WORLD.model_dump_json(by_alias=True))
    assert again == WORLD == default_world()
    assert [neuron.uid for neuron in WORLD.neurons] == list(range(64))


def test_stake_weight_is_alpha_and_the_counted_part_of_the_root_stake():
    holders = [neuron for neuron in WORLD.neurons if neuron.validator_permit]
    for neuron in holders:
        counted = neuron.tao_stake * WORLD.tao_weight // (2**64 - 1)
        assert neuron.total_stake == neuron.alpha_stake + counted
    assert sum(neuron.total_stake for neuron in holders) == 2_000_000 * 10**9
    assert sorted(neuron.active for neuron in holders) == [False] + [True] * 9


@pytest.mark.parametrize("neurons", [2, 10, 12, 64, 256])
def test_those_of_the_lab_are_registered(neurons):
    miners, validators = {"5M1": "192.0.2.1:1"}, ["5V1"]
    world = default_world(miners, validators, neurons=neurons)
    first = max(world.neurons, key=lambda neuron: neuron.total_stake)
    assert (first.hotkey, len(world.neurons)) == ("5V1", neurons)
    if neurons > 10:
        assert next(neuron.axon for neuron in world.neurons if neuron.hotkey == "5M1") == "192.0.2.1:1"


def test_the_container_is_the_labs_and_cannot_change_its_orders():
    arguments = container.create_arguments(LAB, Files(Path("/lab")), "image", "hash")
    assert "--label=org.celium-ops.lab=demo" in arguments
    assert arguments[arguments.index("--ip") + 1] == "198.51.100.4"
    assert "--mount=type=bind,source=/lab/chain,target=/state,readonly" in arguments
    assert "--publish" not in arguments
    assert "--evm-port=9945" in arguments
    assert LAB.chain == "ws://198.51.100.4:9944"
    assert LAB.services["celium-lab-demo-chain"] == "198.51.100.4"


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (b'{"id": 7, "method": "eth_call", "params": []}', {"jsonrpc": "2.0", "id": 7, "result": "0x" + 64 * "0"}),
        (b'{"id": 7, "method": ["eth_call"]}', -32601),
        (b"[]", -32601),
        (b"{", 400),
        (b"[" * 50_000, 400),
    ],
)
def test_no_executor_has_collateral_at_its_evm_endpoint(request_, result):
    server = evm.serve("127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", "/", request_)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    server.shutdown()
    server.server_close()
    if result == 400:
        assert answer.status == 400
    else:
        found = json.loads(content)
        assert result in (found, found.get("error", {}).get("code"))


def test_what_is_copied_into_the_container_runs_by_itself(tmp_path):
    """A module that the node imports and that is not copied would be missed only in a lab."""
    import subprocess
    import sys

    (tmp_path / "recording.json").write_text("{}")
    # Debian 12's Python (3.11.2) unpacks without a filter only.
    archive = container._archive(tmp_path / "recording.json")
    subprocess.run(["tar", "--extract", "--directory", tmp_path], input=archive, check=True)
    program = (  # Debian's Python starts with a module of its own
        "import sys; before = {*sys.modules}; import celium_ops.lab.chain.__main__, json;"
        "print(json.dumps(sorted({m.split('.')[0] for m in {*sys.modules} - before})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    allowed = {"celium_ops", "bittensor_core", "websockets", "pydantic", "pydantic_core", "annotated_types"}
    allowed |= {"typing_extensions", "typing_inspection"}
    assert {name for name in imported if not name.startswith("_")} <= allowed


def test_the_labs_own_world_follows_the_lab_and_a_chosen_one_stays(tmp_path):
    folder = tmp_path / "chain"
    begun = container._ensure_state(folder, WORLD)
    assert (begun.snapshot, begun.set_by_hand) == (WORLD, False)
    assert container._ensure_state(folder, WORLD) == begun
    wider = default_world({"5M2": None})
    assert container._ensure_state(folder, wider).snapshot == wider
    chosen = state.load(folder / "state.json").with_snapshot(default_world(neurons=5), NOW)
    state.save(chosen, folder / "state.json")
    assert container._ensure_state(folder, wider) == chosen
    assert (folder / "state.json").stat().st_mode & 0o077 == 0
