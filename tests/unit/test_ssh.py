import re
import shlex
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from celium_ops.base.errors import GuardError
from celium_ops.fleet.model import Connection
from celium_ops.remote import ssh
from celium_ops.remote.ssh import ask, ssh_command, why


def test_host_keys_are_checked_unless_the_inventory_decides():
    assert "StrictHostKeyChecking=yes" in ssh_command(Connection("h"), ["true"])
    own = ssh_command(Connection("h", arguments="-o StrictHostKeyChecking=accept-new"), ["true"])
    assert [word for word in own if word.startswith("StrictHostKeyChecking")] == ["StrictHostKeyChecking=accept-new"]


def test_everything_of_the_inventory_is_used():
    words = ssh_command(Connection("gpu", 2222, "ops", "/key", "-o ProxyJump=bastion"), ["python3", "-"])
    assert words[-3:-1] == ["--", "gpu"]
    for pair in (["-p", "2222"], ["-l", "ops"], ["-i", "/key"], ["-o", "ProxyJump=bastion"]):
        assert shlex.join(pair) in shlex.join(words)


def test_the_key_exchange_of_the_inventory_goes_before_ours():
    words = ssh_command(Connection("localhost", arguments="-o KexAlgorithms=ecdh-sha2-nistp256 -F none"), ["true"])
    said = subprocess.run(["ssh", "-G", *words[2:-2], "localhost"], capture_output=True, text=True, check=True).stdout
    assert "kexalgorithms ecdh-sha2-nistp256\n" in said
    words = ssh_command(Connection("localhost", arguments="-F none"), ["true"])
    said = subprocess.run(["ssh", "-G", *words[2:-2], "localhost"], capture_output=True, text=True, check=True).stdout
    (offered,) = (line.split()[1].split(",") for line in said.splitlines() if line.startswith("kexalgorithms "))
    assert (offered[0], len(offered) > 3) == ("curve25519-sha256", True), "a host without it is still reached"


def test_an_argument_with_a_space_reaches_the_host_as_one(tmp_path):
    # A sudo that is none, so that the test is the same for root and for others.
    (tmp_path / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    script = ssh_command(Connection("h"), ["printf", "%s|", "a b; reboot"])[-1]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "a b; reboot|"


def test_an_address_that_looks_like_an_option_is_none():
    assert ssh_command(Connection("-oProxyCommand=x"), ["true"])[-3:-1] == ["--", "-oProxyCommand=x"]


@pytest.fixture
def crowd(tmp_path, monkeypatch):
    """Return what asks more hosts than are asked at a time; their ssh is a script that is told the host's number."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    connections = {str(number): Connection(str(number)) for number in range(ssh.MAX_PARALLEL + 8)}

    def ask_crowd(script, on_answer=lambda _name, _answer: None, after=None):
        begin = f"#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\nnumber=$1; cd {tmp_path}\n"
        (tmp_path / "ssh").write_text(f"{begin}{script}\n")
        (tmp_path / "ssh").chmod(0o755)
        return ask(connections, {name: ["true"] for name in connections}, "words\n", 60, on_answer, after)

    return ask_crowd


def test_of_a_crowd_a_few_are_asked_before_all_others_so_that_the_first_answer_comes_soon(crowd, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "HEAD_START", 60)
    begun_before = []
    answers = crowd('touch "$number.begun"; echo', lambda *_: begun_before.append(len(list(tmp_path.glob("*.begun")))))
    assert 1 <= begun_before[0] <= ssh.VANGUARD
    assert begun_before[-1] == len(answers) == ssh.MAX_PARALLEL + 8


def test_a_crowd_does_not_wait_for_a_few_that_are_silent(crowd, monkeypatch):
    monkeypatch.setattr(ssh, "HEAD_START", 0.1)
    wait = f'[ "$number" -ge {ssh.VANGUARD} ] && touch others || until [ -e others ]; do sleep 0.1; done'
    assert {answer.error for answer in crowd(wait).values()} == {None}


@pytest.fixture
def once_connected(tmp_path):
    """Return what does something as soon as the first hosts of a crowd are connected; they say so."""
    threads = []

    def begin(then):
        def wait():
            until = time.monotonic() + 60
            while len(list(tmp_path.glob("*.begun"))) < ssh.VANGUARD and time.monotonic() < until:
                time.sleep(0.01)
            then()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()


# Whole at once: who is killed while he writes his number would leave none.
BEGIN = 'echo $$ >"$number.new"; mv "$number.new" "$number.begun"'
LISTEN = f'{BEGIN}; read -r words && echo "$words" >"$number.heard"'


def test_nothing_is_sent_before_the_word_is_given(crowd, once_connected, tmp_path):
    go, heard_before = Future(), []

    def give_the_word():
        heard_before.extend(tmp_path.glob("*.heard"))
        go.set_result(None)

    once_connected(give_the_word)
    answers = crowd(LISTEN, after=go)
    assert heard_before == []
    assert {(tmp_path / f"{name}.heard").read_text() for name in answers} == {"words\n"}


def test_nobody_is_asked_who_must_not_be(crowd, once_connected, tmp_path):
    go = Future()
    once_connected(lambda: go.set_exception(GuardError("the fleet is being changed")))
    with pytest.raises(GuardError, match="being changed"):
        crowd(f"trap '' HUP PIPE; {LISTEN}; exec sleep 60", after=go)
    assert list(tmp_path.glob("*.heard")) == []
    connected = [Path("/proc", file.read_text().strip()) for file in tmp_path.glob("*.begun")]
    until = time.monotonic() + 30  # on a busy machine who is killed may need a moment; left alone he sleeps for longer
    while any(process.exists() for process in connected) and time.monotonic() < until:
        time.sleep(0.01)
    assert [process for process in connected if process.exists()] == []


UNKNOWN = (
    "No ED25519 host key is known for gpu-1 and you have requested strict checking.\nHost key verification failed.\n"
)
CHANGED = (
    "@@@\nHost key for [gpu-1]:2222 has changed and you have requested strict checking.\nHost key verification failed."
)
ANSIBLE = (
    "Task failed: Data could not be sent to remote host. Make sure it can be reached: Host key verification failed."
)
JUMP = "Host key verification failed.\r\nConnection closed by UNKNOWN port 65535\r\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (UNKNOWN, "the host key of gpu-1 is not known; celium-ops hosts trust shows and records it"),
        (CHANGED, r"the host key of \[gpu-1\]:2222 has changed; celium-ops hosts trust shows"),
        (ANSIBLE, "its host key is not known, or has changed; celium-ops hosts trust tells"),
        (JUMP, "the host key of a jump host is not known"),
        ("a banner\nubuntu@gpu-1: Permission denied (publickey).\n", r"ubuntu@gpu-1: Permission denied \(publickey\)."),
        ("\n", "$"),
    ],
)
def test_why_ssh_failed_is_said_in_one_line(words, reason):
    assert re.match(reason, why(words))


def test_what_a_jump_host_refuses_is_not_said_of_the_host_behind_it():
    assert why("Host key verification failed.\n", on_the_way=True).startswith("the host key of a jump host")
