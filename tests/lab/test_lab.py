"""What only a real lab shows about `celium-ops lab`. It has a lab of its own: hosts are killed and added here.

The tests tell one story in order, and the last takes the lab down.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fleet import wait_for
from ruamel.yaml import YAML

from celium_ops.base.paths import cache_dir
from celium_ops.lab import machine
from celium_ops.lab.docker import answers
from celium_ops.lab.process import run

HOSTS = ["miner-1", "validator-1", "executor-1", "executor-2"]


@pytest.fixture(scope="module")
def own(make_lab):
    with make_lab("tests-own") as found:
        yield found


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def containers(lab):
    """Return when each of the lab's containers was made and started."""
    names = docker("ps", "-a", "--filter", f"label=org.celium-ops.lab={lab.name}", "--format", "{{.Names}}").split()
    found = json.loads(docker("inspect", *names)) if names else []
    return {one["Name"].lstrip("/"): (one["Id"], one["State"]["StartedAt"]) for one in found}


def keys(lab):
    return dict(line.split(" ", 1) for line in (lab.folder / "known_hosts").read_text().splitlines())


def images(lab):
    content = YAML(typ="safe").load(lab.inventory)["all"]
    by_dialect = [image for images in content["vars"]["lab_images"].values() for image in images.values()]
    groups = content["children"].values()
    return by_dialect + [
        value
        for group in groups
        for name, value in group["vars"].items()
        if name.endswith(("_db_image", "_redis_image"))
    ]


def test_the_last_line_is_the_inventory(own):
    for command in (("lab", "up"), ("lab", "inventory")):
        assert own.ok(*command).splitlines()[-1] == str(own.inventory)
    assert own.inventory.is_absolute()
    answer = json.loads(own.ok("lab", "up", "--json"))
    assert (answer["schema"], answer["inventory"]) == ("celium-ops/lab-up/1", str(own.inventory))


def test_plain_ansible_reaches_every_host_from_any_folder(own, tmp_path):
    ansible = Path(sys.executable).with_name("ansible")
    command = [str(ansible), "-i", str(own.inventory), "all", "-o", "-m", "command", "-a", "id -un"]
    done = subprocess.run(command, cwd=tmp_path, env=own.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\(stdout\) root", done.stdout)) == len(HOSTS)


def test_the_inventory_is_correct_for_us_too(own):
    own.ok("inventory", "lint", "-i", str(own.inventory))


def test_status_says_that_all_is_well(own):
    status = own.status()
    assert status["ok"]
    assert status["schema"] == "celium-ops/lab-status/1"
    assert [host["name"] for host in status["hosts"]] == HOSTS
    assert {host["suite"] for host in status["hosts"]} >= {"trixie"}


def test_a_second_up_changes_nothing_and_is_fast(own):
    before, text, written = containers(own), own.inventory.read_bytes(), own.inventory.stat().st_mtime_ns
    started = time.monotonic()
    done = own.run("lab", "up")
    assert time.monotonic() - started < 10
    assert (done.returncode, done.stderr) == (0, "")
    assert containers(own) == before
    assert (own.inventory.read_bytes(), own.inventory.stat().st_mtime_ns) == (text, written)


def test_hosts_have_identities_of_their_own(own):
    machine_ids = {own.on(host, "cat /etc/machine-id") for host in HOSTS}
    assert len(machine_ids - {""}) == len(HOSTS)
    assert len(set(keys(own).values())) == len(HOSTS)
    for host in HOSTS:
        address = next(one["address"] for one in own.status()["hosts"] if one["name"] == host)
        public = own.on(host, "cat /etc/ssh/ssh_host_*_key.pub")
        assert public.split()[:2] == keys(own)[address].split(), "the only host key is the one we know"


def test_the_only_way_in_is_the_key_of_the_operator(own):
    settings = own.on("executor-2", "mkdir -p /run/sshd && sshd -T")
    assert {"permitrootlogin no", "passwordauthentication no"} <= set(settings.splitlines())
    passwords = own.on("executor-2", "cut -d: -f2 /etc/shadow").split()
    assert all(set(password) <= {"*", "!"} for password in passwords)


def test_no_timer_of_a_host_does_something_at_an_hour_that_nobody_chose(own):
    for host in HOSTS:
        timers = own.on(host, "systemctl show --property=Id --value --state=active '*.timer'").split()
        assert timers == ["systemd-tmpfiles-clean.timer"], f"{host}: it takes away what is ten days old, no more"


def test_hosts_can_install_packages_and_have_no_docker_yet(own):
    for host in ("executor-1", "executor-2"):
        assert own.on(host, "apt-get -qq update && apt-cache policy docker.io | grep Candidate:")
        assert own.on(host, "command -v docker || echo none") == "none"


def test_hosts_reach_the_images_that_the_inventory_names(own):
    assert len(images(own)) == 10
    assert len(set(images(own))) == 8, "all databases are one image"
    for image in images(own):
        registry, name, digest = re.fullmatch(r"([\d.]+:5000)/(.+)@(sha256:[0-9a-f]{64})", image).groups()
        accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://{registry}/v2/{name}/manifests/{digest}"
        assert own.on("executor-1", f"curl -s -o /dev/null -w '%{{http_code}}' -H '{accept}' {url}") == "200"


def test_files_are_private_and_there_is_no_coldkey(own):
    served = own.folder / "packages" / "site"  # the hosts fetch it, and nothing in it is secret
    for path in own.folder.rglob("*"):
        if path == served or served in path.parents:
            assert not path.name.startswith("secret")
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        public = path.name in {"id_ed25519.pub", "known_hosts"}
        assert mode == (0o700 if path.is_dir() else 0o644 if public else 0o600), path
        assert path.name != "coldkey"
    hotkey = json.loads((own.folder / "wallets/lab-miner-1/hotkeys/default").read_text())
    assert hotkey["ss58Address"] in own.inventory.read_text()


def chain(own, *arguments):
    """Run `lab chain` and return what it says of the chain."""
    return json.loads(own.ok("lab", "chain", *arguments, "--json"))["chain"]


def neurons(own):
    """Return the subnet as the SDK reads it from the lab's chain, in a process that keeps nothing."""
    program = """
import json, sys, tempfile, os
os.environ["HOME"] = os.environ["BITTENSOR_RUNTIME_CACHE_DIR"] = tempfile.mkdtemp()
from bittensor import Subtensor
client = Subtensor(sys.argv[1], fallback_endpoints=[], archive_endpoints=[])
graph = client.subnets.metagraph(51, commitments=False)
print(json.dumps([[one.hotkey, one.total_stake.rao, one.validator_permit, one.axon] for one in graph.neurons]))
"""
    address = YAML(typ="safe").load(own.inventory)["all"]["vars"]["celium_network"]
    assert address == own.status()["chain"]["address"]
    done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def hotkey(own, host):
    return json.loads((own.folder / f"wallets/lab-{host}/hotkeys/default").read_text())["ss58Address"]


def test_the_chain_has_the_miner_and_the_validator_of_the_lab(own):
    found = {row[0]: row[1:] for row in neurons(own)}
    assert len(found) == 64
    stake, permit, _ = found[hotkey(own, "validator-1")]
    assert permit
    assert stake == max(row[0] for row in found.values())
    address = next(host["address"] for host in own.status()["hosts"] if host["name"] == "miner-1")
    assert found[hotkey(own, "miner-1")][1:] == [False, f"{address}:8000"]
    said = json.loads(own.on("miner-1", f"curl -s {own.status()['chain']['address'].replace('ws', 'http')}/status"))
    assert (said["simulated"], said["neurons"]) == (True, 64), "the hosts reach it, and are told what it is"


def test_a_command_changes_the_chain_and_nothing_undoes_it(own):
    before = chain(own, "status")
    assert (before["ok"], before["simulated"], before["fault"]) == (True, True, None)
    assert chain(own, "fault", "half")["fault"] == "half"
    docker("rm", "-f", own.docker_name("chain"))
    assert not own.status()["ok"]
    own.ok("lab", "up")
    assert len(neurons(own)) == 32, "a fault is not lost with the container"
    assert chain(own, "fault", "clear")["fault"] is None

    world = json.loads((own.folder / "chain/state.json").read_text())["snapshot"]
    world["neurons"][7]["total_stake"] += 1
    (own.folder / "world.json").write_text(json.dumps(world))
    assert chain(own, "set", str(own.folder / "world.json"))["block"] > before["block"], "a chain never goes back"
    (own.folder / "world.json").unlink()
    own.ok("lab", "up")
    assert neurons(own)[7][1] == world["neurons"][7]["total_stake"]


def test_a_dead_chain_is_what_was_asked_for(own):
    dead = chain(own, "fault", "dead")
    assert (dead["ok"], dead["block"]) == (True, None)
    assert own.status()["ok"]
    assert own.run("lab", "chain", "fault", "nonsense").returncode == 2
    assert chain(own, "fault", "clear")["block"]


def test_an_added_executor_is_all_that_changes(own):
    edited = own.inventory.read_text().replace("    executors:\n", "    # my note\n    executors:\n", 1)
    edited = re.sub(r"( +)executor_miner: miner-1\n", r"\g<0>\1executor_price: 0.5  # by hand\n", edited, count=1)
    own.inventory.write_text(edited)
    before, known = containers(own), keys(own)
    own.ok("lab", "up", "--executors", "3")
    after = containers(own)
    assert set(after) - set(before) == {own.docker_name("executor-3")}
    assert {name: after[name] for name in before} == before
    assert {address: keys(own)[address] for address in known} == known
    added = own.inventory.read_text().removeprefix(edited)
    assert added.startswith("        executor-3:\n          ansible_host: ")
    assert own.status()["ok"]


def test_a_host_removed_by_hand_stays_out_of_the_inventory(own):
    text = own.inventory.read_text()
    own.inventory.write_text(text[: text.index("        executor-3:")])
    own.ok("lab", "up")
    assert "executor-3" not in own.inventory.read_text()
    own.inventory.write_text(text)


def test_killed_and_lost_hosts_come_back(own):
    known = keys(own)
    docker("kill", own.docker_name("executor-1"), own.docker_name("registry"))
    own.pause("miner-1")
    docker("rm", "-f", own.docker_name("executor-2"))
    broken = own.run("lab", "status", "--json")
    assert broken.returncode == 1
    assert not json.loads(broken.stdout)["ok"]
    own.ok("lab", "up")
    assert own.status()["ok"]
    changed = {address for address in known if keys(own)[address] != known[address]}
    assert len(changed) == 1, "only the lost host has a new key"


def test_a_host_that_ends_while_it_boots_is_said_at_once(own):
    name = own.docker_name("executor-1")
    docker("exec", name, "ln", "-sf", "/bin/false", "/usr/lib/systemd/systemd")
    docker("kill", name)
    done = own.run("lab", "up")
    docker("rm", "-f", name)
    assert (done.returncode, "executor-1: ended while it booted: exit 1" in done.stderr) == (1, True), done.stderr
    own.ok("lab", "up")


def test_a_lost_network_is_made_again(own):
    names = [own.docker_name(host) for host in (*HOSTS, "executor-3", "registry", "packages", "chain")]
    docker("kill", *names)
    docker("wait", *names)
    docker("network", "rm", f"celium-lab-{own.name}")
    own.ok("lab", "up")
    assert own.status()["ok"]


@pytest.mark.parametrize("after", [0.5, 1.0, 1.5, 2.5])
def test_an_interrupted_up_is_finished_by_the_next(own, after):
    docker("rm", "-f", own.docker_name("executor-1"), own.docker_name("executor-2"))
    program = own.start("lab", "up")
    time.sleep(after)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=60)
    assert program.returncode in {130, 0}, said
    assert "Traceback" not in said
    own.ok("lab", "up")
    assert own.status()["ok"]


def test_two_commands_at_once_do_not_mix(own):
    docker("rm", "-f", own.docker_name("executor-1"))
    first = own.start("lab", "up")
    wait_for(lambda: str(first.pid) in own.lock.read_text())
    second = own.run("lab", "up")
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert (second.returncode, f"process {first.pid}" in second.stderr) == (4, True)


def test_a_broken_inventory_is_an_error_with_its_line(own):
    text = own.inventory.read_text()
    own.inventory.write_text(text + "  broken: [\n")
    done = own.run("lab", "up", "--json")
    own.inventory.write_text(text)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert error["file"] == str(own.inventory)
    assert error["line"] > text.count("\n")


def test_the_kernels_limit_of_inotify_is_raised_for_more_hosts_than_it_allows(tmp_path, monkeypatch):
    limit, said = tmp_path / "max_user_instances", []
    limit.write_text("128\n")
    monkeypatch.setattr(machine, "INOTIFY_INSTANCES", limit)
    machine.ensure_inotify(5, said.append)
    assert (limit.read_text(), said) == ("128\n", []), "a small lab leaves the machine as it is"
    machine.ensure_inotify(12, said.append)
    assert (limit.read_text(), len(said)) == ("1024\n", 1)
    assert "from 128 to 1024" in said[0]


# Runs in a network namespace of its own: an engine without a bridge removes docker0, whoever that belongs to.
SPAWN = """
import sys
from pathlib import Path
from celium_ops.lab.machine import Engine, spawn_engine

folder = Path(sys.argv[1])
places = ["--data-root", "data", "--exec-root", "exec", "--pidfile", "docker.pid"]
places = [part if part.startswith("--") else str(folder / part) for part in places]
options = ["--host", f"unix://{folder}/docker.sock", "--iptables=false", "--ip6tables=false", "--bridge=none"]
engine = Engine(folder / "docker.pid", folder / "exec/containerd/containerd.pid", (*places, *options))
spawn_engine(engine, folder / "engine.log")
"""


@pytest.fixture
def short():
    """Give a folder with a short name: that of a socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="celium-engine-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_killed_engine_is_started_again(short):
    """An engine of its own is killed here: the machine's carries other people's containers."""
    pid_file = short / "docker.pid"
    become = ("sudo", "-n") if os.geteuid() else ()
    client = (*become, "docker", "--host", f"unix://{short}/docker.sock")

    def start():
        run(["unshare", "--net", sys.executable, "-c", SPAWN, str(short)], root=True)
        deadline = time.monotonic() + 60
        while not answers(client):
            assert time.monotonic() < deadline, (short / "engine.log").read_text()[-2000:]
            time.sleep(0.2)
        return int(pid_file.read_text())

    def end(pid, number):
        run(["kill", f"-{number.value}", str(pid)], root=True)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)

    pid = start()
    try:
        end(pid, signal.SIGKILL)
        assert pid_file.exists()
        pid = start()
        end(pid, signal.SIGKILL)
        # Another program may have the number by now: it is not ended, and does not keep the engine from starting.
        run(["tee", str(pid_file)], stdin=str(os.getpid()).encode(), root=True)
        pid = start()
    finally:
        end(pid, signal.SIGTERM)
        # The engine mounts its own folders on themselves.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{short}/")]):
            run(["umount", "--lazy", mount], root=True, check=False)


def test_down_asks_and_touches_only_its_own(own):
    refused = own.run("lab", "down")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert own.status()["ok"]
    image = docker("inspect", "--format", "{{.Image}}", own.docker_name("registry"))
    foreign = f"celium-lab-{own.name}-foreign"
    docker("run", "--detach", "--name", foreign, "--label=org.celium-ops.lab=other", image, "sleep", "600")
    try:
        removed = json.loads(own.ok("lab", "down", "--yes", "--json"))["removed"]
        assert f"container {own.docker_name('miner-1')}" in removed
        assert docker("inspect", "--format", "{{.State.Status}}", foreign) == "running"
    finally:
        docker("rm", "--force", foreign)
    assert containers(own) == {}
    for kind in ("network", "volume"):
        assert not docker(kind, "ls", "--quiet", "--filter", f"label=org.celium-ops.lab={own.name}")
    assert not own.folder.exists()
    assert cache_dir().exists()
    assert own.run("lab", "inventory").returncode == 1
    assert own.run("lab", "status").returncode == 1
