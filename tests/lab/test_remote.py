"""Talking to one host outside a playbook: exec, logs, host keys, and the lock that deploys share.

Each test leaves the fleet as it was; what it changes of an inventory, it changes in a copy.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from fleet import wait_for
from ruamel.yaml import YAML

from celium_ops.base.errors import CeliumError

HOST = "executor-1"

pytestmark = pytest.mark.usefixtures("deployed")


def ours(lab, *arguments, inventory=None, **environment):
    """Run celium-ops on an inventory, the lab's if none is named."""
    command = [str(Path(sys.executable).with_name("celium-ops")), "-i", str(inventory or lab.inventory), *arguments]
    done = subprocess.run(
        command,
        env=lab.env | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def json_of(lab, *arguments, **more):
    done = ours(lab, "--json", *arguments, **more)
    return {**json.loads(done.stdout), "rc": done.returncode}


def start(lab, *arguments, inventory=None, **environment):
    command = [str(Path(sys.executable).with_name("celium-ops")), "-i", str(inventory or lab.inventory), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=lab.env | environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )


def runs(lab, pattern, host=HOST):
    """Tell whether a process with this in its command line runs on a host."""
    # The brackets keep the pattern from finding itself.
    return lab.on(host, f"pgrep -f '[{pattern[0]}]{pattern[1:]}' || true") != ""


def copied(lab, folder, *arguments, **values):
    """Return a copy of the inventory with connection arguments and host variables of its own."""
    yaml = YAML()
    content = yaml.load(lab.inventory)
    shared = content["all"]["vars"]
    if arguments:
        shared["ansible_ssh_common_args"] = " ".join(arguments)
    for group in content["all"]["children"].values():
        for name, variables in group["hosts"].items():
            variables.update(values.get(name.replace("-", "_"), {}))
    folder.mkdir(exist_ok=True)
    yaml.dump(content, folder / "fleet.yml")
    return folder / "fleet.yml"


@pytest.fixture
def enrolled(lab, tmp_path):
    """Give a copy of the inventory with a known_hosts file of its own beside it, empty, and no other settings."""
    return copied(lab, tmp_path, "-o 'UserKnownHostsFile=\"{{ inventory_dir }}/known_hosts\"'")


def shown_fingerprint(lab, host=HOST):
    return lab.on(host, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]


# exec


def test_exec_runs_as_root_and_keeps_the_streams_apart(lab):
    done = ours(lab, "exec", HOST, "--", "sh", "-c", "id -un; hostname; echo trouble >&2")
    assert (done.stdout, done.stderr, done.returncode) == (f"root\n{HOST}\n", "trouble\n", 0)


def test_exec_says_how_the_command_ended(lab):
    done = ours(lab, "exec", HOST, "--", "sh", "-c", "exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("", f"{HOST}: sh ended with 7\n", 1)
    answer = json_of(lab, "exec", HOST, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    expected = {"schema": "celium-ops/exec/1", "ok": False, "host": HOST, "exit_code": 7, "stdout": "out\n"}
    assert {key: answer[key] for key in expected} == expected
    assert (answer["stderr"], answer["rc"]) == ("err\n", 1)
    assert "sh -c" in ours(lab, "exec", HOST, "--", "df -h | tail -1").stderr


def test_exec_knows_the_hosts(lab):
    answer = json_of(lab, "exec", "executer-1", "--", "true")
    assert (answer["rc"], answer["error"]["code"]) == (2, "no-such-host")
    assert f"did you mean {HOST}" in answer["error"]["message"]


def test_exec_carries_bytes_both_ways(lab, tmp_path):
    (tmp_path / "sent").write_bytes(os.urandom(3_000_000))
    command = [str(Path(sys.executable).with_name("celium-ops")), "-i", str(lab.inventory), "exec", HOST, "--", "cat"]
    with (tmp_path / "sent").open("rb") as sent, (tmp_path / "back").open("wb") as back:
        subprocess.run(command, env=lab.env, stdin=sent, stdout=back, check=True, timeout=60)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_exec_passes_output_on_as_it_comes_and_ends_the_command_when_it_ends(lab, ending, code):
    process = start(lab, "exec", HOST, "--", "sh", "-c", "echo begun; sleep 4711; echo over")
    assert process.stdout.readline() == "begun\n"
    assert runs(lab, "sleep 4711")
    process.send_signal(ending)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == code
    wait_for(lambda: not runs(lab, "sleep 4711"))


def test_exec_ends_when_nobody_reads_its_output(lab):
    process = start(lab, "exec", HOST, "--", "yes")
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    wait_for(lambda: not runs(lab, "yes$"))


def test_exec_on_a_terminal_gives_the_command_a_terminal(lab):
    ours_end, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("celium-ops")), "-i", str(lab.inventory), "exec", HOST, "--"]
    script = "tty; echo ready; exec sleep 4712"
    process = subprocess.Popen([*command, "sh", "-c", script], env=lab.env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"ready" not in said:
        said += os.read(ours_end, 4096)
    assert b"/dev/pts/" in said
    os.write(ours_end, b"\x03")
    assert process.wait(20) == 130
    os.close(ours_end)
    wait_for(lambda: not runs(lab, "sleep 4712"))


def test_exec_does_not_wait_for_a_dead_host(lab):
    with lab.paused(HOST):
        began = time.monotonic()
        answer = json_of(lab, "exec", HOST, "--", "true")
        assert time.monotonic() - began < 20
    assert (answer["rc"], answer["error"]["host"]) == (1, HOST)
    assert "cannot be reached: no SSH server answered in 8 s" in answer["error"]["message"]


def test_exec_notices_a_host_that_dies_meanwhile(lab, monkeypatch):
    from celium_ops.fleet.inventory import load_fleet
    from celium_ops.remote import session
    from celium_ops.remote.streams import Streams

    begun = threading.Event()

    class Sink:
        def write(self, _data):
            begun.set()

    def die():
        begun.wait(20)
        lab.pause(HOST)

    monkeypatch.setattr(session, "ALIVE_EVERY", 0.2)
    monkeypatch.setattr(session, "ALIVE_WITHIN", 2)
    death = threading.Thread(target=die)
    death.start()
    try:
        with pytest.raises(CeliumError, match="the connection was lost") as caught:
            session.run(load_fleet(lab.inventory).host(HOST), ["sh", "-c", "echo; sleep 60"], Streams(Sink(), Sink()))
    finally:
        death.join()
        lab.unpause(HOST)
    assert caught.value.host == HOST


# logs


def nonsense(text):
    """Return a shell line after which the database's log says ``text``, in the statement that it did not understand."""
    psql = f'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{text}"'
    return f"docker exec executor-db-1 sh -c '{psql}' 2>/dev/null"


def test_logs_show_a_service_and_hide_the_passwords(lab):
    password = lab.on(HOST, "sed -n s/^POSTGRES_PASSWORD=//p /opt/celium/executor/db.env")
    lab.on(HOST, nonsense(f"postgres:{password}@db") + " || true")
    for arguments in (("db",), ("db", "--since", "1h"), ()):
        done = ours(lab, "logs", HOST, *arguments)
        assert done.returncode == 0, done.stderr
        assert "STATEMENT:  postgres:***@db" in done.stdout
        assert password not in done.stdout + done.stderr
    assert ("db-1 " in done.stdout, "executor-1 " in done.stdout) == (True, True)
    lines = json_of(lab, "logs", HOST, "db", "--tail", "5")["lines"]
    assert {line["service"] for line in lines} == {"db"}
    assert any(line["text"].endswith("STATEMENT:  postgres:***@db") for line in lines)


def test_logs_follow_until_ctrl_c(lab):
    process = start(lab, "logs", HOST, "db", "--follow", "--tail", "0")
    talk = threading.Event()

    def keep_talking():
        # Following begins a moment after the program does, so one line might come too early.
        while not talk.wait(0.2):
            lab.on(HOST, nonsense("tick") + " || true")

    talker = threading.Thread(target=keep_talking)
    talker.start()
    try:
        assert "tick" in process.stdout.readline()
    finally:
        talk.set()
        talker.join()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    wait_for(lambda: not runs(lab, "compose.yml logs"))


def test_logs_of_what_is_not_there(lab, tmp_path):
    answer = json_of(lab, "logs", HOST, "exekutor")
    assert (answer["rc"], answer["error"]["code"]) == (2, "no-such-service")
    assert answer["error"]["remedy"].endswith("db, executor, monitor")
    elsewhere = copied(lab, tmp_path, executor_1={"celium_stack_dir": "/opt/nothing"})
    done = ours(lab, "logs", HOST, inventory=elsewhere)
    assert done.returncode == 1
    assert "/opt/nothing/executor/compose.yml: no such file" in done.stderr
    assert "celium-ops deploy" in done.stderr


# Host keys


@pytest.fixture
def fresh():
    """Give an environment without connections that Ansible kept open; a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield {"ANSIBLE_SSH_CONTROL_PATH_DIR": folder}


def test_a_fleet_is_trusted_once_and_then_left_alone(lab, enrolled, fresh, tmp_path):
    for command in (("status",), ("exec", HOST, "--", "true"), ("deploy", "--check", "--limit", HOST)):
        done = ours(lab, *command, inventory=enrolled, **fresh)
        assert done.returncode == 1
        assert "celium-ops hosts trust" in done.stdout + done.stderr, command
    refused = ours(lab, "hosts", "trust", inventory=enrolled)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert shown_fingerprint(lab) in refused.stderr
    known_hosts = enrolled.with_name("known_hosts")
    assert not known_hosts.exists()

    one = json_of(lab, "hosts", "trust", HOST, "--yes", inventory=enrolled)
    assert (one["rc"], one["ok"], one["schema"]) == (0, True, "celium-ops/hosts-trust/1")
    assert [(host["name"], host["state"], host["file"]) for host in one["hosts"]] == [
        (HOST, "trusted", str(known_hosts))
    ]
    assert one["hosts"][0]["key"] == {"type": "ssh-ed25519", "fingerprint": shown_fingerprint(lab)}
    everyone = json_of(lab, "hosts", "trust", "--yes", inventory=enrolled)
    assert {host["state"] for host in everyone["hosts"] if host["name"] != HOST} == {"trusted"}
    assert {host["state"] for host in everyone["hosts"] if host["name"] == HOST} == {"known"}

    before = known_hosts.stat()
    again = ours(lab, "hosts", "trust", inventory=enrolled)
    assert again.returncode == 0, "nothing to ask"
    assert (known_hosts.stat().st_mtime_ns, known_hosts.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert ours(lab, "status", inventory=enrolled).returncode == 0
    ping = ["ansible", "-i", str(enrolled), "all", "-m", "ansible.builtin.ping"]
    environment = lab.env | fresh
    done = subprocess.run(ping, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_key_is_named_and_replaced_only_when_asked(lab, enrolled, tmp_path):
    assert ours(lab, "hosts", "trust", "--yes", inventory=enrolled).returncode == 0
    known_hosts = enrolled.with_name("known_hosts")
    right = known_hosts.read_text()
    address = json_of(lab, "inventory", "show", HOST)["hosts"][0]["address"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    other = (tmp_path / "other.pub").read_text().split()[1]
    wrong = "".join(
        f"{address} ssh-ed25519 {other}\n" if line.split()[0] == address else line for line in right.splitlines(True)
    )
    known_hosts.write_text(wrong)

    changed = json_of(lab, "hosts", "trust", "--yes", inventory=enrolled)
    assert (changed["rc"], changed["ok"]) == (1, False)
    host = next(host for host in changed["hosts"] if host["name"] == HOST)
    listing = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "other")], capture_output=True, text=True, check=True)
    old, new = listing.stdout.split()[1], shown_fingerprint(lab)
    assert (host["state"], host["key"]["fingerprint"], host["known"][0]["fingerprint"]) == ("changed", new, old)
    assert known_hosts.read_text() == wrong
    people = ours(lab, "hosts", "trust", inventory=enrolled).stdout
    assert f"{HOST}: its host key has changed" in people
    assert (old in people, new in people) == (True, True)
    refused = ours(lab, "exec", HOST, "--", "true", inventory=enrolled)
    assert (refused.returncode, old in refused.stderr, new in refused.stderr) == (1, True, True)
    assert "has changed; celium-ops hosts trust" in ours(lab, "status", inventory=enrolled).stdout

    assert ours(lab, "hosts", "trust", "--replace", inventory=enrolled).returncode == 2, "it asks"
    replaced = json_of(lab, "hosts", "trust", "--replace", "--yes", inventory=enrolled)
    assert [host["state"] for host in replaced["hosts"] if host["name"] == HOST] == ["replaced"]
    assert sorted(known_hosts.read_text().splitlines()) == sorted(right.splitlines())
    assert ours(lab, "exec", HOST, "--", "true", inventory=enrolled).returncode == 0


PORT_OF_RENTERS = 40022
"""A port that the firewall of an executor lets in, where nothing listens; a deploy may have been here before."""


def test_a_host_behind_a_jump_host_is_trusted_and_reached(lab, tmp_path):
    show = json_of(lab, "inventory", "show")["hosts"]
    jump, target = (next(host["address"] for host in show if host["name"] == name) for name in ("miner-1", HOST))
    (tmp_path / "config").write_text(
        f"Host jump\n  HostName {jump}\n  User operator\n  IdentityFile {lab.folder}/id_ed25519\n"
        f"  UserKnownHostsFile {lab.folder}/known_hosts\n"
    )
    lab.on(HOST, f"mkdir -p /run/sshd && /usr/sbin/sshd -p {PORT_OF_RENTERS} -o PidFile=/run/second-sshd.pid")
    try:
        arguments = ("-F", str(tmp_path / "config"), "-o ProxyJump=jump", f"-o UserKnownHostsFile={tmp_path}/known")
        inventory = copied(lab, tmp_path / "fleet", *arguments, executor_1={"ansible_port": PORT_OF_RENTERS})
        assert ours(lab, "hosts", "trust", HOST, "--yes", inventory=inventory).returncode == 0
        assert (tmp_path / "known").read_text().startswith(f"[{target}]:{PORT_OF_RENTERS} ssh-ed25519 ")
        done = ours(lab, "exec", HOST, "--", "sh", "-c", "echo $0 $SUDO_USER", inventory=inventory)
        assert (done.returncode, done.stdout) == (0, "sh operator\n")
        (tmp_path / "config").write_text((tmp_path / "config").read_text().replace("/known_hosts", "/no_such_file"))
        for command in (("exec", HOST, "--", "true"), ("hosts", "trust", HOST)):
            done = ours(lab, *command, inventory=inventory)
            assert done.returncode == 1
            assert "the host key of a jump host is not known" in done.stdout + done.stderr
    finally:
        lab.on(HOST, "kill $(cat /run/second-sshd.pid)")


def test_what_fabric_cannot_honour_is_refused(lab, tmp_path):
    inventory = copied(lab, tmp_path, "-o BindAddress=127.0.0.1")
    done = ours(lab, "exec", HOST, "--", "true", inventory=inventory)
    assert (done.returncode, "option bindaddress 127.0.0.1 is not supported" in done.stderr) == (1, True)


def test_connections_that_openssh_shares_are_made_once(lab, tmp_path):
    log = "journalctl -q -o cat -t sshd | grep -c 'Accepted publickey for operator' || true"
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has 107 bytes
        shared = ("-o ControlMaster=auto", "-o ControlPersist=60", f"-o ControlPath={folder}/%C")
        inventory = copied(lab, tmp_path / "fleet", *shared, f"-o UserKnownHostsFile={lab.folder}/known_hosts")
        subprocess.run(["cp", "-a", str(lab.folder / "secrets"), str(tmp_path / "fleet")], check=True)
        before = int(lab.on(HOST, log))
        try:
            for command in (("status",), ("plan",), ("deploy", "--full", "--check", "--limit", HOST)):
                done = ours(lab, *command, inventory=inventory)
                assert done.returncode == 0, done.stdout + done.stderr
            assert int(lab.on(HOST, log)) - before == 1
        finally:
            for socket in Path(folder).iterdir():
                subprocess.run(
                    ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"], capture_output=True, check=True
                )


# The lock that deploys share


LOCK = "/run/celium-ops.lock"


@pytest.fixture
def elsewhere(lab, tmp_path):
    """Give what a second controller has: a copy of the inventory, with secrets, and a state folder of its own."""
    inventory = copied(lab, tmp_path / "fleet")
    subprocess.run(["cp", "-a", str(lab.folder / "secrets"), str(tmp_path / "fleet")], check=True)
    return {"inventory": inventory, "XDG_STATE_HOME": str(tmp_path / "state")}


def test_two_controllers_do_not_deploy_at_once_and_a_killed_one_frees_the_fleet(lab, elsewhere):
    first = start(lab, "deploy", "--full", "--limit", "miner-1")
    try:
        wait_for(lambda: f"process {first.pid}" in lab.on("miner-1", f"cat {LOCK} 2>/dev/null || true"))
        lab.on("miner-1", "systemctl restart docker")
        second = json_of(lab, "deploy", **elsewhere)
        assert (second["rc"], second["ok"], second["error"]["code"]) == (4, False, "locked")
        assert second["error"]["host"] == "miner-1"
        assert f"(process {first.pid}) since 20" in second["error"]["message"]
        assert first.poll() is None, "the first one was still at it"
    finally:
        first.kill()
        first.communicate()
    third = json_of(lab, "deploy", **elsewhere)
    assert (third["rc"], third["ok"]) == (0, True), third
    assert lab.on("miner-1", f"flock -n {LOCK} stat -c '%s %a %U' {LOCK}") == "0 600 root"
    assert not runs(lab, "celium-lock", "miner-1")


def test_a_deploy_that_is_interrupted_gives_the_lock_back(lab):
    first = start(lab, "deploy", "--full", "--limit", "miner-1")
    wait_for(lambda: f"process {first.pid}" in lab.on("miner-1", f"cat {LOCK}"))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert lab.on("miner-1", f"flock -n {LOCK} cat {LOCK}") == ""


def test_ansible_ends_with_a_deploy_that_is_killed(lab):
    deploy = start(lab, "deploy", "--full", "--limit", "miner-1")
    wait_for(lambda: [worker for playbook in children(deploy.pid) for worker in children(playbook)])
    (playbook,) = children(deploy.pid)
    with lab.paused("miner-1"):
        deploy.kill()
        deploy.communicate()
        wait_for(lambda: not running(playbook), 5)


def children(process):
    """Return the ids of the playbooks, or of their workers, that a process has started."""
    command = ["pgrep", "-P", str(process), "-f", "ansible-playbook"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def running(process):
    """Tell whether a process is there, and not only waits for somebody who asks how it ended."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def begins(process):
    """Return what a deploy says until it begins to work, and end it."""
    said = ""
    while "hosts: " not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return said


def test_a_check_does_not_wait_for_the_lock(lab):
    holder = subprocess.Popen(
        ["docker", "exec", "-i", lab.docker_name("miner-1"), "flock", LOCK, "sh", "-c", "echo held; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        begins(start(lab, "deploy", "--check"))
        refused = json_of(lab, "deploy")
        assert (refused["rc"], "another process" in refused["error"]["message"]) == (4, True)
    finally:
        holder.communicate(timeout=10)


def test_a_miner_that_cannot_be_reached_is_warned_about(lab, tmp_path):
    inventory = copied(lab, tmp_path, miner_1={"ansible_port": 1})
    assert "Warning: miner-1 cannot be locked" in begins(start(lab, "deploy", inventory=inventory))
