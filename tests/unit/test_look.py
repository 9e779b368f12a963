"""What exec and logs are made of, without a host."""

import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest

from celium_ops.base.errors import UsageError
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.remote.on_host import leash
from celium_ops.remote.streams import Masked
from celium_ops.workflows.logs import Wish, _must_have, command, secrets

HOST = Host("gpu-1", "executor", Connection("192.0.2.9"), {"celium_stack_dir": "/opt/celium"})


def test_secrets_are_hidden_however_the_bytes_arrive():
    text = "url=postgres://u:p%40ss@db p@ss\nlast p@s"
    for size in (1, 3, 100):
        out = BytesIO()
        sink = Masked(out, ["p@ss", ""])
        for start in range(0, len(text), size):
            sink.write(text[start : start + size].encode())
        assert out.getvalue() == b"url=postgres://u:***@db ***\n", "a line is passed on when it is complete"
        sink.end()
        assert out.getvalue() == b"url=postgres://u:***@db ***\nlast p@s"


def test_the_secrets_of_a_host_are_those_of_the_inventory_and_the_generated_ones(tmp_path):
    (tmp_path / "gpu-1").mkdir()
    (tmp_path / "gpu-1" / "executor_db_password").write_text("generated\n")
    (tmp_path / "gpu-1" / "unreadable").mkdir()
    values = {"celium_secrets_dir": str(tmp_path), "executor_db_password": "given", "executor_db_user": "postgres"}
    assert secrets(Host("gpu-1", "executor", Connection("h"), values)) == ["given", "generated"]


LOGS = ["docker", "compose", "-f", "/opt/celium/executor/compose.yml", "logs", "--tail"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ["100"]),
        ({"tail": 0, "service": "db"}, ["0", "db"]),
        ({"since": "10m"}, ["all", "--since", "10m"]),
        ({"since": "10m", "tail": 5, "follow": True}, ["5", "--follow", "--since", "10m"]),
    ],
)
def test_logs_are_asked_of_compose(more, words):
    assert command(HOST, Wish(Path("fleet.yml"), "gpu-1", **more)) == LOGS + words


def test_a_service_or_host_that_does_not_exist_is_answered_with_those_that_do():
    _must_have(HOST, "db")
    with pytest.raises(UsageError, match="no service exekutor; did you mean executor") as caught:
        _must_have(HOST, "exekutor")
    assert caught.value.remedy.endswith("db, executor, monitor")
    with pytest.raises(UsageError, match=r"gpu1 is no host of fleet\.yml; did you mean gpu-1") as caught:
        Fleet(Path("fleet.yml"), {"gpu-1": HOST}).host("gpu1")
    assert (caught.value.exit_code, caught.value.remedy) == (2, "hosts are gpu-1")


def run_leashed(*command):
    return subprocess.run([sys.executable, leash.__file__, *command], capture_output=True, text=True, check=False)


def test_the_leash_passes_on_what_the_command_says():
    done = run_leashed("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert run_leashed("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL


def test_the_leash_says_what_is_no_program():
    done = run_leashed("df -h | tail -1")
    assert done.returncode == 127
    assert "sh -c" in done.stderr
    assert run_leashed("/").returncode == 126


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_leash_ends_the_command_and_its_children_when_nobody_listens():
    script = "sleep 61 & echo $! $$; wait"
    process = subprocess.Popen([sys.executable, leash.__file__, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "something of it still runs"
