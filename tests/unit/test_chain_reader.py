"""Parts of the reader that need no node: networks, the pause that a node asks for, and what it says of a subnet."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.chain import networks
from celium_ops.chain.reader import _reason, _retry_after, is_file
from celium_ops.chain.record import Record


def test_finney_is_the_sdks():
    from bittensor import settings

    finney = networks.find("finney")
    assert finney.genesis == settings.FINNEY_GENESIS_HASH
    pools = {settings.NETWORKS["finney"], *settings.FALLBACK_ENDPOINTS["finney"], *settings.ARCHIVE_ENDPOINTS["finney"]}
    assert (finney.endpoints[0], set(finney.endpoints)) == (settings.NETWORKS["finney"], pools)
    assert networks.find("test").endpoints == (settings.NETWORKS["test"],)
    assert networks.find("local").endpoints == ("ws://127.0.0.1:9944",)


SHOWN = {
    "ws://127.0.0.1:9944": "ws://127.0.0.1:9944",
    "wss://node.example": "wss://node.example",
    "wss://me:secret@node.example:443/ws?apikey=secret#secret": "wss://node.example:443",
    "ws://[2001:db8::1]:9944/secret": "ws://[2001:db8::1]:9944",
    "ws://node.example:port": "",
    "ws://": "",
}


@pytest.mark.parametrize(("endpoint", "shown"), SHOWN.items())
def test_keys_in_an_address_are_not_shown(endpoint, shown):
    assert networks.shown(endpoint) == shown
    if shown:
        assert networks.find(endpoint) == networks.Network(shown, (endpoint,))


@pytest.mark.parametrize("name", ["", "finny", "http://node.example", "ws://", "wss://node:port"])
def test_what_is_no_network_is_refused(name):
    with pytest.raises(UsageError, match="is no network"):
        networks.find(name)


def test_files_are_told_by_their_ending():
    assert is_file("sn51.json")
    assert not is_file("finney")


class Refused(Exception):  # noqa: N818  the SDK's has no such name either
    def __init__(self, retry_after):
        self.retry_after = retry_after


# The other tests go first, and a busy machine takes its time for them.
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
PAUSES = {
    "none": (None, 0),
    "seconds": ("30", 30),
    "parts of seconds": ("0.5", 0.5),
    "a moment": (str(int(time.time()) + 3600), 3600),
    "a moment that is over": (str(int(time.time()) - 60), 0),
    "a date": (format_datetime(IN_AN_HOUR, usegmt=True), 3600),
    "nonsense": ("soon", 0),
}


@pytest.mark.parametrize(("said", "seconds"), PAUSES.values(), ids=PAUSES)
def test_the_pause_that_a_node_asks_for(said, seconds):
    assert _retry_after(Refused(said)) == pytest.approx(seconds, abs=seconds // 2)
    assert (_retry_after(Refused(said)) > 0) == (seconds > 0)


COLUMNS = {
    "hotkeys": ["a", "b"],
    "coldkeys": ["c", "c"],
    "active": [True, False],
    "validator_permit": [True, False],
    "last_update": [1, 2],
    "block_at_registration": [1, 2],
    "incentives": [0, 65535],
    "dividends": [65535, 0],
    "emission": [0, 2**64 - 1],
    "alpha_stake": [1, 0],
    "tao_stake": [1, 0],
    "total_stake": [2**53 + 1, 0],
    "axons": [
        {"ip": 3221225985, "port": 8091, "ip_type": 4},
        {"ip": 0, "port": 0, "ip_type": 0},
    ],
}
GRAPH = {
    **COLUMNS,
    "block": 7,
    "name": list("Café".encode()),
    "symbol": "t",
    "owner_hotkey": "o",
    "owner_coldkey": "p",
    "network_registered_at": 1,
    "tempo": 360,
    "last_step": 5,
    "max_uids": 256,
    "max_validators": 64,
    "immunity_period": 4096,
    "activity_cutoff": 5000,
    "registration_allowed": True,
    "burn": 1,
}


def record(**changes):
    return Record({**GRAPH, **changes}, "0x" + "1" * 64, 461, 1_700_000_000_123, 1, 2, 3, 4)


def test_a_record_becomes_a_snapshot():
    found = record().snapshot("finney", 51)
    assert (found.network, found.netuid, found.block, found.subnet.name) == ("finney", 51, 7, "Café")
    assert found.block_time == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert [neuron.axon for neuron in found.neurons] == ["192.0.2.1:8091", None]
    assert found.neurons[0].total_stake == 2**53 + 1, "not rounded"
    assert found.neurons[1].emission == 2**64 - 1
    assert (found.subnet.min_non_immune_uids, found.subnet.immune_owner_uids_limit) == (3, 4)


def test_an_axon_may_have_a_long_address():
    axons = [{"ip": 2**125 + 1, "port": 80, "ip_type": 6}, COLUMNS["axons"][1]]
    assert record(axons=axons).snapshot("finney", 51).neurons[0].axon == "[2000::1]:80"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_short_or_missing_is_not_made_up(column):
    with pytest.raises(CeliumError, match="not understood") as short:
        record(**{column: COLUMNS[column][:1]}).snapshot("finney", 51)
    assert short.value.code == "chain-not-understood"
    graph = {name: value for name, value in GRAPH.items() if name != column}
    with pytest.raises(CeliumError, match=f"has no '{column}'"):
        Record(graph, "0x" + "1" * 64, 461, 0, 1, 2, 3, 4).snapshot("finney", 51)


@pytest.mark.parametrize(
    ("column", "value"), [("total_stake", [-1, 0]), ("emission", [2**64, 0]), ("hotkeys", ["a", "a"])]
)
def test_a_value_that_cannot_be_is_refused(column, value):
    with pytest.raises(CeliumError, match="not understood"):
        record(**{column: value}).snapshot("finney", 51)


def test_an_error_that_repeats_the_address_does_not_show_its_key():
    endpoint = "wss://node.example/?apikey=secret"
    assert _reason(OSError(f"cannot reach {endpoint}\nat all"), endpoint) == (
        "chain-unreachable",
        "cannot reach wss://node.example at all",
    )
