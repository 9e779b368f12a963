"""Ports are tried by the same code from here and from a host; what runs on hosts runs here as itself, without ssh."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celium_ops.fleet.model import Connection, Host
from celium_ops.remote import bandwidth, conversation, ports
from celium_ops.remote.on_host import reach as on_host
from celium_ops.remote.on_host import transfer
from celium_ops.remote.on_host.reach import reach

HOST = Host("gpu-1", "executor", Connection("192.0.2.1"), {})
MINER = Host("miner-1", "miner", Connection("192.0.2.2"), {})
HERE = "127.0.0.1"
WITHIN = 0.5


@pytest.fixture
def no_ssh(monkeypatch):
    """Let commands for hosts run here."""

    def command(connection, words, *settings):
        return [sys.executable if word == "python3" else word for word in words]

    monkeypatch.setattr(conversation, "ssh_command", command)
    monkeypatch.setattr(bandwidth, "ssh_command", command)


def answering(stack, *parts, pause=0.0):
    """Listen, and say the parts one after the other to who connects; return the port."""
    listener = stack.enter_context(closing(socket.create_server((HERE, 0))))

    def serve():
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with closing(socket.create_server((HERE, 0))) as listener:
        return listener.getsockname()[1]


def test_only_the_expected_answer_counts_where_one_is_expected():
    with ExitStack() as stack:
        whole, halves = answering(stack, b"secret"), answering(stack, b"sec", b"ret", pause=0.05)
        other, short, nothing = answering(stack, b"public"), answering(stack, b"sec"), answering(stack)
        silent = stack.enter_context(closing(socket.create_server((HERE, 0)))).getsockname()[1]
        tries = [(HERE, port, "secret") for port in (whole, halves, other, short, nothing, silent, free_port())]
        assert reach(tries, WITHIN) == [True, True, False, False, False, False, False]
        assert reach([(HERE, silent, None), (HERE, free_port(), None)], WITHIN) == [True, False]


def test_all_tries_together_have_one_deadline(monkeypatch):
    def hangs(*_):
        time.sleep(30)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hangs)  # as a name server that does not answer makes it
    began = time.monotonic()
    assert reach([("nowhere", port, None) for port in range(1, 20)], WITHIN) == [False] * 19
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["", "a" * 70, "ä" * 80 + ".example", "..", "256.1.1.1", "no host"])
def test_an_address_that_is_none_is_not_reached(address):
    assert reach([(address, 80, None)], WITHIN) == [False]


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["right", "wrong", "closed"]), max_size=12))
def test_each_try_has_its_own_result_in_its_place(kinds):
    with ExitStack() as stack:
        places = {"right": answering(stack, b"yes"), "wrong": answering(stack, b"no!"), "closed": free_port()}
        tries = [(HERE, places[kind], "yes") for kind in kinds]
        assert reach(tries, 2) == [kind == "right" for kind in kinds]


def test_a_host_tries_what_we_would(no_ssh):
    with ExitStack() as stack, ports.trying_from(None) as here, ports.trying_from(MINER) as there:
        tries = [(HERE, answering(stack, b"secret"), "secret"), (HERE, free_port(), None)]
        assert here(tries) == there(tries) == [True, False]
        assert there([]) == []


def test_questions_of_several_threads_are_not_mixed_up(no_ssh, monkeypatch):
    monkeypatch.setattr(ports, "REACH_WITHIN", 1.0)
    with ExitStack() as stack, ports.trying_from(MINER) as there:
        silent = stack.enter_context(closing(socket.create_server((HERE, 0)))).getsockname()[1]
        good = answering(stack, b"secret")
        asked = [[(HERE, silent, "secret")] * 2, [(HERE, good, "secret")], [(HERE, good, "other!")] * 3]
        found = {}
        threads = [
            threading.Thread(target=lambda number=number, tries=tries: found.update({number: there(tries)}))
            for number, tries in enumerate(asked * 9)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[number] for number in range(27)] == [[False, False], [True], [False] * 3] * 9
        assert time.monotonic() - began < 7 * ports.REACH_WITHIN, "all at once"


def says(text):
    """Return a program for a host that says something and waits for the end of its stdin."""
    return f"import sys\nprint({text!r}, flush=True)\nsys.stdin.read()"


LIES = [
    "no message",
    '{"number": "0"}',
    '{"number": "0", "reached": [true, true]}',
    '{"number": "0", "reached": ["yes"]}',
    '{"number": [], "reached": 1}\n{"number": 0, "reached": null}',
]


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_says_something_else_has_not_tried(no_ssh, monkeypatch, lie):
    monkeypatch.setattr(ports, "_program", lambda _: says(lie).replace("print", "sys.stdin.readline(); print"))
    with ports.trying_from(MINER) as there:
        way = ports.service_way(there, HERE, [1])
        assert (way.listening, way.reached) == ((), ())
        assert way.error.startswith("miner-1")
        began = time.monotonic()
        if lie == "no message":  # nobody listens to it any more, though it lives
            assert ports.service_way(there, HERE, [1]).error == way.error
        assert time.monotonic() - began < 10


def test_nobody_to_try_from_is_said_of_every_way_at_once(monkeypatch):
    monkeypatch.setattr(conversation, "ssh_command", lambda *_: ["sh", "-c", "echo no route >&2; exit 255"])
    began = time.monotonic()
    with ports.trying_from(MINER) as there:
        for _ in range(3):
            assert ports.service_way(there, HERE, [1]).error == "miner-1: no route"
    assert time.monotonic() - began < 10


def test_who_never_answers_is_given_up(no_ssh, monkeypatch):
    monkeypatch.setattr(ports, "_program", lambda _: says("{}"))
    monkeypatch.setattr(ports, "START_WITHIN", 0.2)
    monkeypatch.setattr(ports, "REACH_WITHIN", 0.2)
    with ports.trying_from(MINER) as there:
        assert "in time" in ports.service_way(there, HERE, [1]).error


def test_the_listener_is_there_while_its_ports_are_tried_and_gone_afterwards(no_ssh):
    free, taken = free_port(), socket.create_server(("", 0))
    with closing(taken), ports.trying_from(MINER) as there:
        pairs = [(free, free), (taken.getsockname()[1], 7)]
        way = ports.host_way(HOST, there, HERE, pairs)
        assert way == ports.Way((free,), (free,))
        assert there([(HERE, free, None)]) == [False]


def test_a_squatter_on_the_way_is_not_taken_for_the_host(no_ssh):
    with ExitStack() as stack:
        port, squatter = free_port(), answering(stack, b"0" * 16)
        with ports.trying_from(None) as here:
            way = ports.host_way(HOST, here, HERE, [(port, squatter)])
        assert (way.listening, way.reached) == ((squatter,), ())


def test_the_program_ends_with_who_asks_and_in_any_case(no_ssh):
    with ports.trying_from(MINER) as there:
        process = there.line.process
        assert there([]) == []
        assert process.poll() is None
        with suppress(TimeoutError):  # the end does not wait for what is still tried
            there._asked([("192.0.2.1", 1, None)]).result(0.1)
        began = time.monotonic()
    assert process.returncode == 0
    assert time.monotonic() - began < 4
    assert on_host.IDLE < 600
    source = Path(on_host.__file__).read_text()
    assert source.count("signal.alarm(IDLE)") == 2, "at the beginning and with each question"


def test_the_answer_that_is_expected_stands_in_no_argument_of_the_host_that_tries(no_ssh):
    with ports.trying_from(MINER) as there:
        there([(HERE, free_port(), "an-answer")])
        assert not [word for word in there.line.command if "an-answer" in word]


def test_the_way_is_measured_both_ways(no_ssh, monkeypatch):
    monkeypatch.setattr(bandwidth, "MOST", 4 * 2**20)
    rates = bandwidth.measure(MINER)
    assert rates.error is None
    assert rates.down > 1, "through two pipes"
    assert rates.up > 1


def test_a_slow_way_is_measured_in_a_bounded_time(monkeypatch):
    # A pipe through which 200 KiB a second go at most, in either direction.
    slow = "import os, sys, time\nwhile data := os.read({0}, 20480):\n    os.write({1}, data); time.sleep(0.1)"
    monkeypatch.setattr(
        bandwidth,
        "ssh_command",
        lambda _, words, *__: [
            "bash", "-c", '"$1" -c "$2" | "$1" "${@:4}" | "$1" -c "$3"', "-", sys.executable,
            slow.format(0, 1), slow.format(0, 1), *words[1:],
        ],
    )  # fmt: skip
    monkeypatch.setattr(bandwidth, "SECONDS", 1.0)
    began = time.monotonic()
    rates = bandwidth.measure(MINER)
    assert time.monotonic() - began < 12
    assert rates.error is None
    assert 0.05 < rates.down < 4, rates
    assert 0.05 < rates.up < 4, rates


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo no route >&2; exit 255", "no route"),
        ("echo hello; sleep 9", "no message"),
        ("echo '[]'", "no message"),
        ("""echo '{"bytes": "x", "seconds": 1}'""", "no message"),
        ("sleep 9", "nothing was measured"),
    ],
)
def test_a_way_that_cannot_be_measured_is_said_so(monkeypatch, command, words):
    monkeypatch.setattr(bandwidth, "ssh_command", lambda *_: ["bash", "-c", f"exec 2>&2; {command}"])
    monkeypatch.setattr(bandwidth, "DEADLINE", 1.0)
    began = time.monotonic()
    rates = bandwidth.measure(MINER)
    assert (rates.down, rates.up) == (None, None)
    assert words in rates.error
    assert time.monotonic() - began < 8


def test_neither_end_goes_on_for_longer_than_agreed(monkeypatch):
    monkeypatch.setattr(bandwidth, "SECONDS", 0.3)
    monkeypatch.setattr(
        bandwidth, "ssh_command", lambda *_: ["bash", "-c", """echo '{"bytes": 0, "seconds": 0}'; cat /dev/zero"""]
    )
    began = time.monotonic()
    assert bandwidth.measure(MINER).up > 1
    program = [sys.executable, "-I", "-S", transfer.__file__, '{"bytes": 1e15, "seconds": 0.3}']
    with Path("/dev/zero").open() as endless:
        done = subprocess.run(program, stdin=endless, capture_output=True, timeout=10, check=True)
    assert time.monotonic() - began < 9
    assert json.loads(done.stdout[: done.stdout.index(b"\n")])["seconds"] < 5
    assert len(done.stdout) > 2**20


def test_what_came_at_once_tells_no_rate():
    for count, seconds, rate in ((10_000, 0.001, None), (0, 0.0, None), (125_000, 1.0, 1.0)):
        assert bandwidth._rate({"bytes": count, "seconds": seconds}) == rate
