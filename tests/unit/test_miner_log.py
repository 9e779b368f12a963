"""What a miner's log says of the chain, in upstream's own words, whatever else is in it."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.module_utils import miner_log, probe

HEAD = "Miner: 5F | Name: core.miner | Time: 2026-11-30 | Level: INFO | Line: 64 | Process: 9 | Message: "
INIT, CHECK = "[Error] failed initializing subtensor", "[check_registered] Checking miner registered failed"
ANNOUNCE, ANNOUNCING = "[announce] Announce miner", "[announce] Announcing miner error"
SYNC, DONE = "[sync] Miner sync failed", "[save_validators] Sync validators"
UNKNOWN = "[check_registered] Wallet: Wallet (w, h) is not registered on netuid 51."


def log(*messages):
    """Return a log as Docker gives it: each line behind eight bytes of a frame."""
    lines = (f'{HEAD}{message} >>> {{"coro_name": "start", "error": "no"}}\n'.encode() for message in messages)
    return b"".join(b"\x02\0\0\0" + len(line).to_bytes(4, "big") + line for line in lines)


LOGS = [
    ([], None),
    ([DONE], None),
    (["Initializing subtensor", ANNOUNCE, DONE], None),
    ([INIT], INIT),
    ([INIT, INIT, ANNOUNCING, SYNC, INIT], INIT),
    ([ANNOUNCE, DONE, ANNOUNCING, SYNC], SYNC),
    ([INIT, ANNOUNCING, SYNC, INIT, ANNOUNCE, DONE], None),
    ([INIT, ANNOUNCING, SYNC, DONE], None),
    ([ANNOUNCE, ANNOUNCING, DONE], ANNOUNCING),
    ([ANNOUNCE, ANNOUNCING, DONE, DONE], None),
    ([DONE, CHECK], CHECK),
    ([UNKNOWN], "is not registered on netuid"),
    (["what a stranger sent: " + SYNC + " or not"], None),
]


@pytest.mark.parametrize(("messages", "found"), LOGS)
def test_the_newest_cycle_counts(messages, found):
    assert miner_log.trouble(log(*messages)) == found


def test_what_strangers_have_it_log_is_no_message_of_its_own():
    for line in (
        f'INFO: 192.0.2.7 - "GET /websocket/{SYNC} HTTP/1.1" 404',
        f'{HEAD}Received >>> {{"message": "{SYNC} >>> {{"}}',
        f"{SYNC}: no subtensor",
        "\x1b[2J" + "x" * 100_000,
    ):
        assert miner_log.trouble(line.encode() + b"\n") is None
    assert miner_log.trouble(bytes(range(256)) * 100 + b"\n" + log(SYNC)) == SYNC


STATE = b'HTTP/1.0 200 OK\r\n\r\n{"State": {"Status": "%s", "StartedAt": "2026-11-30T10:00:00.123456789Z"}}'


@pytest.fixture
def engine(monkeypatch):
    """Give an engine that answers one request after the other, and keeps what it was asked."""
    asked = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        monkeypatch.setattr(probe, "ENGINE", str(Path(folder, "engine")))
        server.bind(probe.ENGINE)
        server.listen()

        def answers(*bodies):
            def serve():
                for body in bodies:
                    with server.accept()[0] as connection:
                        asked.append(connection.recv(4096).decode())
                        connection.sendall(body)

            threading.Thread(target=serve, daemon=True).start()
            return asked

        yield answers


def test_the_end_of_the_log_is_read_since_the_container_was_started(engine, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_796_032_860.0)  # a minute after it was started
    noise = log(*["a validator asked"] * 20_000)
    asked = engine(STATE % b"running", b"HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\n" + noise + log(INIT, SYNC))
    assert miner_log.chain_trouble() == INIT
    assert "tail=2000" in asked[1]
    assert "since=1796032800 " in asked[1]


def test_a_miner_that_does_not_run_is_not_asked_and_a_log_that_is_not_given_is_an_error(engine):
    engine(STATE % b"exited", STATE % b"running", b'HTTP/1.0 501 Not Implemented\r\n\r\n{"message": "no"}')
    assert miner_log.chain_trouble() is None
    with pytest.raises(ValueError, match="does not give the log"):
        miner_log.chain_trouble()
