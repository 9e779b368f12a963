"""The lock on a host, with real processes and a real flock; only ssh is one that stays on this machine."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from celium_ops.base.errors import GuardError
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.remote import lock
from celium_ops.remote.lock import locked_host
from celium_ops.remote.on_host import hold
from celium_ops.workflows.lock import fleet_locked

MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {})
HOLDER = """
import sys, time
from celium_ops.fleet.model import Connection, Host
from celium_ops.remote.lock import locked_host
with locked_host(
    Host("miner-1", "miner", Connection("192.0.2.1"), {}), "a deploy of me", print, sys.argv[1]
) as held:
    held.result()
    try:
        print("held", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def locked(file, holder="me", warn=pytest.fail, host=MINER):
    with locked_host(host, holder, warn, file) as held:
        held.result(60)
        yield


@pytest.fixture(autouse=True)
def ssh_stays_here(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text('#!/bin/sh\nfor last; do :; done\necho "welcome to this host"\nexec sh -c "$last"\n')
    (programs / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "lock")


@pytest.fixture
def holder(file):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, file], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def assert_is_held(file):
    with (
        pytest.raises(GuardError, match="being changed by a deploy of me") as caught,
        locked(file),
    ):
        pytest.fail("both hold the lock")
    assert (caught.value.exit_code, caught.value.host, caught.value.code) == (4, "miner-1", "locked")


def assert_is_free(file):
    with locked(file, "the next"):
        assert Path(file).read_text() == "the next"
    assert Path(file).read_text() == ""


def test_who_comes_second_is_told_who_was_first(file, holder):
    assert_is_held(file)


def test_a_killed_holder_leaves_no_lock(file, holder):
    holder.send_signal(signal.SIGKILL)
    assert_is_free(file)


def test_ctrl_c_ends_the_run_and_not_the_lock(file, holder):
    os.killpg(holder.pid, signal.SIGINT)  # as a terminal does: all processes of the group
    assert holder.stdout.readline() == "interrupted\n"
    assert_is_held(file)
    holder.stdin.write("\n")
    holder.stdin.flush()
    holder.wait(10)
    assert_is_free(file)


def test_a_holder_that_falls_silent_is_given_up(file):
    program = f"from celium_ops.remote.on_host import hold; hold.SILENCE = 0.2; hold.hold({file!r}, 'silent')"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"celium-lock held\n"
        assert process.wait(10) == 0
    assert lock.BEAT * 2 < hold.SILENCE
    assert_is_free(file)


def test_the_host_hears_from_us_as_long_as_we_live(monkeypatch):
    program = "import sys; sys.stdin.buffer.read(5); print('celium-lock five signs of life')"
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with lock._started([sys.executable, "-c", program]) as call:
        assert lock._first_words(call.line) == "five signs of life"


def test_a_lock_that_was_lost_is_told(file):
    warnings = []
    with locked(file, warn=warnings.append):
        pid = subprocess.run(["pgrep", "-f", f"{file} me$"], capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
        os.kill(int(pid), signal.SIGKILL)
        assert_is_free(file)
    assert len(warnings) == 1
    assert "the lock on miner-1 was lost" in warnings[0]


def test_a_host_that_cannot_be_locked_is_warned_about_and_the_work_goes_on(file, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    warnings, done = [], False
    nobody = Host("miner-1", "miner", Connection("127.0.0.1", port=1), {})
    with locked(file, warn=warnings.append, host=nobody):
        done = True
    assert done
    assert "miner-1 cannot be locked (ssh: connect to host 127.0.0.1 port 1: Connection refused)" in warnings[0]


def test_a_host_that_says_nothing_is_not_waited_for(file, monkeypatch, tmp_path):
    (tmp_path / "programs" / "ssh").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(lock, "DEADLINE", 0.2)
    warnings = []
    with locked(file, warn=warnings.append):
        pass
    assert "no answer in 0.2 s" in warnings[0]


def test_who_gives_up_while_the_host_is_silent_is_told_nothing(file, tmp_path):
    (tmp_path / "programs" / "ssh").write_text("#!/bin/sh\nexec cat\n")
    warnings = []
    with suppress(KeyboardInterrupt), locked_host(MINER, "me", warnings.append, file) as held:
        raise KeyboardInterrupt
    assert held.done()
    assert warnings == []


def test_a_fleet_without_a_miner_is_locked_here_only(tmp_path):
    warnings = []
    with fleet_locked(Fleet(tmp_path, {}), tmp_path, "a deploy", warnings.append):
        assert "a deploy of" in (tmp_path / "lock").read_text()
    assert warnings == []
