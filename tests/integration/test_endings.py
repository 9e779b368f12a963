"""How celium-ops ends: real processes, and an ssh that stays on this machine, knows the lock and hangs in a play."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from celium_ops.runner import silence
from celium_ops.runner.playbook import Playbook, run_playbook
from celium_ops.runner.playbook import environment as settings

PROGRAM = Path(sys.executable).with_name("celium-ops")
MARK = "CELIUM_OPS_TEST_MARK"
HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
FLEET = f"""
all:
  vars: {{celium_network: test, ansible_python_interpreter: /usr/bin/python3}}
  children:
    miners:
      hosts:
        miner-1: {{ansible_host: 192.0.2.1, miner_wallet_name: w, miner_wallet_hotkey: h, miner_hotkey_ss58: {HOTKEY}}}
    executors:
      hosts:
        executor-1: {{ansible_host: 192.0.2.2, executor_miner: miner-1}}
"""
SSH = """#!/bin/sh
for last; do :; done
at() { touch "$FOLDER/$1"; [ "$HANGS_AT" != "$1" ] || exec sleep 1000; }
case "$last" in
*/run/celium-ops.lock*)
  at lock
  exec sh -c "$(printf '%s' "$last" | sed "s|/run/celium-ops.lock|$FOLDER/held|")" ;;
*python3*-I*)
  at plan
  echo 'ops@192.0.2.2: Permission denied (publickey).' >&2
  exit 255 ;;
*)
  at play ;;
esac
"""


@pytest.fixture
def environment(tmp_path):
    """Give the environment in which our ssh is found, and by a mark in which all that runs in it is."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "ssh").write_text(SSH)
    (tmp_path / "programs" / "ssh").chmod(0o755)
    (tmp_path / "programs" / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (tmp_path / "programs" / "sudo").chmod(0o755)
    (tmp_path / "fleet.yml").write_text(FLEET)
    path = os.pathsep.join([str(tmp_path / "programs"), os.environ["PATH"]])
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return {**os.environ, **state, "PATH": path, "FOLDER": str(tmp_path), MARK: uuid.uuid4().hex}


def alive(environment):
    """Return the processes that have the mark, with their commands."""
    mark, found = f"{MARK}={environment[MARK]}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:  # it has ended
            continue
    return found


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)


def assert_nothing_is_left(environment):
    try:
        wait_for(lambda: not alive(environment), 20)
    finally:
        left = alive(environment)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left


@contextmanager
def deploying(environment, hangs_at):
    """Run a deploy until it hangs."""
    inventory = str(Path(environment["FOLDER"]) / "fleet.yml")
    command = [str(PROGRAM), "-i", inventory, "--json", "deploy"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment | {"HANGS_AT": hangs_at}, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            wait_for(lambda: (Path(environment["FOLDER"]) / hangs_at).exists() or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()


def runs(environment):
    inventory = str(Path(environment["FOLDER"]) / "fleet.yml")
    command = [str(PROGRAM), "-i", inventory, "--json", "runs", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [run["state"] for run in json.loads(done.stdout)["runs"]]


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "lock"),
        (signal.SIGTERM, "plan"),
        (signal.SIGTERM, "play"),
        (signal.SIGHUP, "plan"),
        (signal.SIGHUP, "play"),
        (signal.SIGINT, "plan"),
    ],
)
def test_a_signal_ends_it_as_ctrl_c_does(environment, number, moment):
    with deploying(environment, moment) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=40)
    assert (process.returncode, "Interrupted." in err, "Traceback" in err) == (130, True, False), err
    assert_nothing_is_left(environment)
    assert runs(environment) == (["interrupted"] if moment == "play" else [])


@pytest.mark.parametrize("moment", ["lock", "plan", "play"])
def test_nothing_outlives_it_when_it_is_killed(environment, moment):
    with deploying(environment, moment) as process:
        assert len(alive(environment)) > 1
        process.kill()
        process.communicate(timeout=40)
    assert_nothing_is_left(environment)


def test_a_hangup_that_nohup_has_ignored_stays_ignored():
    code = "import signal; from celium_ops.cli import main; main.app = lambda **_: print(repr(signal.getsignal(1)));"
    code += "main.main()"
    for ignore, handler in (('trap "" HUP; exec "$0" -c "$1"', "SIG_IGN"), ('exec "$0" -c "$1"', "_interrupt")):
        command = ["sh", "-c", ignore, sys.executable, code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert handler in done.stdout


def test_hosts_that_hang_fail_with_their_task_and_the_lock_is_freed(environment):
    environment["ANSIBLE_TASK_TIMEOUT"] = "3"
    with deploying(environment, "play") as process:
        out, err = process.communicate(timeout=60)
    hosts = {host["name"]: host for host in json.loads(out)["hosts"]}
    assert (process.returncode, len(hosts)) == (1, 2), err
    for host in hosts.values():
        assert (host["result"], host["changed"]) == ("failed", 0)
        assert "Gathering Facts: the task did not end in 3 s" in host["error"]
        assert "the host hangs" in host["error"]
    assert_nothing_is_left(environment)
    assert runs(environment) == ["failed"]
    assert (Path(environment["FOLDER"]) / "held").read_text() == ""


def test_a_host_that_hangs_where_ansible_has_no_limit_fails_too(environment, monkeypatch, tmp_path):
    for name, value in (environment | {"HANGS_AT": "play", "ANSIBLE_TASK_TIMEOUT": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(silence, "MARGIN", 4.0)
    inventory = tmp_path / "hanging.yml"
    hangs = "{{ lookup('ansible.builtin.pipe', 'exec sleep 1000') }}"
    inventory.write_text(f'executors: {{hosts: {{in-ansible: {{ansible_user: "{hangs}"}}, in-ssh: }}}}\n')
    before = set(alive(environment))
    recap = run_playbook(Playbook("site", inventory, independent=True), lambda _host: None)
    assert {name: host.result for name, host in recap.hosts.items()} == {"in-ansible": "failed", "in-ssh": "failed"}
    assert recap.hosts["in-ssh"].error == "Gathering Facts: the task did not end in 2 s"
    assert "Gathering Facts: the task did not end in" in recap.hosts["in-ansible"].error
    wait_for(lambda: set(alive(environment)) <= before | {os.getpid()}, 20)


COPY = """
- hosts: all
  gather_facts: false
  tasks:
    - copy: {content: x, dest: /nowhere}
"""
HANGS_LATER = """#!/bin/sh
for last; do :; done
case "$last" in
*'echo ~'*|*mkdir*) exec sh -c "$last" ;;
esac
touch "$FOLDER/hangs"; exec sleep 1000
"""
SOON = """#!/bin/sh
shift 2
exec /usr/bin/timeout 1 "$@"
"""


def test_what_ansible_removes_after_a_task_that_hangs_does_not_keep_it(environment, tmp_path):
    (tmp_path / "programs" / "ssh").write_text(HANGS_LATER)
    (tmp_path / "programs" / "timeout").write_text(SOON)
    (tmp_path / "programs" / "timeout").chmod(0o755)
    (tmp_path / "play.yml").write_text(COPY)
    ours = {name: value for name, value in settings().items() if name != "PATH"}
    wanted = environment | ours | {"ANSIBLE_TASK_TIMEOUT": "2", "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote")}
    command = ["ansible-playbook", "-i", "gpu-1,", str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=wanted, capture_output=True, text=True, check=False, timeout=60)
    assert (tmp_path / "hangs").exists()
    assert "Timed out after 2 second(s)" in done.stdout + done.stderr
    assert_nothing_is_left(environment)
