"""What we start ends when we do: with real processes, whose parent is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celium_ops.base.processes import bound, children, kill_descendants
from celium_ops.remote.last_words import MOST, LastWords

STARTS = """
import subprocess, sys
from celium_ops.base.processes import bound
process = subprocess.Popen(bound(["sleep", "1000"], {how}))
print(process.pid, flush=True)
process.wait()
"""


def state(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def wait_until_gone(*processes):
    until = time.monotonic() + 20
    while any(state(process) not in ("gone", "Z") for process in processes):
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.01)


def is_sleep(process):
    return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"sleep")


@pytest.fixture
def started():
    """Give what starts a parent; it returns the parent and the number of its child, which runs."""
    parents = []

    def start(how=""):
        code = STARTS.replace("{how}", how)
        parents.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        child = int(parents[-1].stdout.readline())
        while not is_sleep(child):
            time.sleep(0.01)
        return parents[-1], child

    yield start
    for parent in parents:
        parent.kill()
        parent.communicate()


@pytest.mark.parametrize("how", ["", 'ending="TERM"', "deaf=True"])
def test_it_ends_when_its_parent_is_killed(started, how):
    parent, child = started(how)
    parent.kill()
    wait_until_gone(child)


def test_what_ends_a_run_does_not_end_the_deaf(started):
    _, child = started("deaf=True")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    ignored = next(line for line in Path(f"/proc/{child}/status").read_text().splitlines() if "SigIgn" in line)
    assert int(ignored.split()[1], 16) & 0b100000000000011 == 0b100000000000011
    assert is_sleep(child)


def test_it_does_not_begin_when_its_parent_is_gone_already():
    command = bound(["echo", "begun"])
    # Between it and us stands a shell, as somebody else would take the orphan of a parent that has ended.
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "begun\n"


def test_all_descendants_are_killed_those_with_a_session_of_their_own_too():
    script = "setsid sh -c 'sleep 1000 & echo $!; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        grandchild = int(parent.stdout.readline())
        (child,) = children(parent.pid)
        kill_descendants(parent.pid)
        wait_until_gone(child, grandchild)


def test_of_endless_words_the_last_are_kept():
    script = "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        words = LastWords(process.stdout)
        process.wait(60)
        assert str(words).endswith("x\nthe end\n")
        assert len(str(words)) == MOST
