"""What the programs for hosts make of the answers of Docker's engine; in the lab they meet real ones."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest
from ansible_collections.celium.ops.plugins.module_utils import managed, probe


@pytest.fixture
def engine(monkeypatch):
    """Let an engine answer once with some pieces, and then end the connection, unless it hangs."""
    done = threading.Event()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        monkeypatch.setattr(probe, "ENGINE", str(Path(folder, "engine")))  # pytest's own folders are too long for it
        server.bind(probe.ENGINE)
        server.listen()

        def answers(*pieces, hangs=False):
            def answer():
                with server.accept()[0] as connection:
                    connection.recv(4096)
                    for piece in pieces:
                        connection.sendall(piece)
                    if hangs:
                        done.wait(10)

            threading.Thread(target=answer, daemon=True).start()

        yield answers
        done.set()


def test_an_answer_is_read_to_its_end(engine):
    engine(b"HTTP/1.0 200 OK\r\nServer: D", b'ocker\r\n\r\n{"a": ', b"[1]}")
    assert probe.docker("/info") == {"a": [1]}


@pytest.mark.parametrize(
    ("pieces", "error", "words"),
    [
        ([b'HTTP/1.1 404 Not Found\r\n\r\n{"message": "No such image: x"}'], ValueError, "^No such image: x$"),
        ([b"HTTP/1.0 500 Internal\r\n\r\n{}"], ValueError, "500 Internal$"),
        ([b'HTTP/1.0 200 OK\r\n\r\n{"cut o'], OSError, "before its answer did"),
        ([b"HTTP/1.0 200"], OSError, "ended the connection"),
        ([], OSError, "ended the connection"),
    ],
)
def test_what_is_no_answer_says_why(engine, pieces, error, words):
    engine(*pieces)
    with pytest.raises(error, match=words):
        probe.docker("/images/x/json")


LOST = "NVML: Driver/library version mismatch"


@pytest.mark.parametrize(
    ("status", "output", "shown"),
    [
        ("unhealthy", LOST, LOST),
        ("unhealthy", f"warning\n{LOST}\n", LOST),
        ("healthy", LOST, None),
        ("unhealthy", "Traceback\nconnection refused", None),
        ("unhealthy", "a stranger says NVML: gone", None),
        ("unhealthy", "NVML: \x1b[2J", None),
        ("unhealthy", "NVML: a\x1b[2Jb", "NVML: a"),
        ("unhealthy", "NVML: " + "x" * 9999, "NVML: " + "x" * 150),
    ],
)
def test_what_the_check_of_a_sick_container_says_of_its_gpus_is_passed_on_and_nothing_else(status, output, shown):
    health = {"Status": status, "Log": [{"Output": "NVML: older"}, {"Output": output}]}
    assert probe.complaint({"Status": "running", "Health": health}) == shown
    assert probe.complaint({"Status": "exited", "Health": health}) is None, "Docker keeps it"


def test_a_container_without_a_check_has_nothing_to_say():
    for health in ({}, {"Health": {"Status": "unhealthy"}}, {"Health": {"Status": "unhealthy", "Log": None}}):
        assert probe.complaint({"Status": "running", **health}) is None


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'HTTP/1.0 200 OK\r\n\r\n{"Id": "sha256:1", "RepoTags": []}', {"image": "sha256:1"}),
        (b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such image: x"}', None),
        (b"", None),
    ],
)
def test_the_image_that_a_name_stands_for(engine, answer, state):
    engine(answer)
    entry = {"kind": "image", "name": "daturaai/compute-subnet-executor:latest", "wants": {"image": "sha256:1"}}
    assert managed.Eyes("salt", [entry]).see(entry) == state
    assert bool(list(managed._unwanted({**entry, "state": state}, ()))) == (state is None)


def test_an_engine_that_hangs_is_left(engine):
    engine(b"HTTP/1.0 200 OK\r\n", hangs=True)
    with pytest.raises(OSError, match="timed out"):
        probe.docker("/info", timeout=0.1)
