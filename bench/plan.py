"""What a deploy costs where nothing or little differs, beside pyinfra and plain Ansible on the same hosts.

Run it by ``.venv/bin/python bench/plan.py``; it needs a lab of ten hosts, and installs pyinfra into a folder of its own
(``bench/peers/.venv``). Medians of five rounds, and of two for plain Ansible, which takes minutes. Writes
``bench/results/plan.json``.
"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fleet_times import HERE, LAB, celium, report, timed, use_lab
from ruamel.yaml import YAML

from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host

PEER = "pyinfra==3.10.0"
ROUNDS = 5
EXECUTORS = 9
NAMES = 1000


def main() -> None:
    """Build the lab, deploy it, time everybody, keep the figures, take the lab down."""
    use_lab(ANSIBLE_FORKS="25")
    celium("lab", "down", "--yes")
    try:
        celium("lab", "up", "--miners", "1", "--executors", str(EXECUTORS), "--validators", "0")
        inventory = celium("lab", "inventory").splitlines()[-1]
        celium("deploy", "-i", inventory)
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(inventory, Path(folder))
            many = thousand(Path(inventory))
        report("plan", seconds, hosts=EXECUTORS + 1)
        keep({"ratios": ratios(seconds), "thousand_names": many})
    finally:
        celium("lab", "down", "--yes")


def measure(inventory: str, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each round, by what was done."""
    at = ("-i", inventory)
    pyinfra = peer(inventory, folder)
    timed(*pyinfra)  # the first round writes what it finds different
    must_be_idle(pyinfra)
    found = {
        "deploy, nothing to do": rounds(lambda: timed("celium-ops", "deploy", *at)),
        "deploy, nothing to do, shared connections": shared(Path(inventory), folder),
        "plan": rounds(lambda: timed("celium-ops", "plan", *at)),
        "preflight": rounds(lambda: timed("celium-ops", "preflight", *at)),
        "pyinfra, nothing to do": rounds(lambda: timed(*pyinfra)),
        "deploy, one drifted": rounds(lambda: drifted("celium-ops", "deploy", *at)),
        "that host alone": rounds(lambda: drifted("celium-ops", "deploy", "--full", "--limit", "executor-1", *at)),
        "plain Ansible": [timed("ansible-playbook", *at, "celium.ops.site") for _ in range(2)],
        "ansible all -m ping": rounds(lambda: timed("ansible", *at, "all", "-m", "ping")),
    }
    celium("deploy", *at)  # a playbook alone leaves no seal
    return found


def shared(inventory: Path, folder: Path) -> list[float]:
    """Return the seconds of rounds whose connections OpenSSH made before and kept, as the inventory asks it to."""
    yaml, file = YAML(typ="safe"), inventory.with_name("shared.yml")
    tree = yaml.load(inventory)
    tree["all"]["vars"]["ansible_ssh_extra_args"] = f"-o ControlMaster=auto -o ControlPersist=60 -S {folder}/%C"
    yaml.dump(tree, file)
    try:
        timed("celium-ops", "deploy", "-i", str(file))
        return rounds(lambda: timed("celium-ops", "deploy", "-i", str(file)))
    finally:
        file.unlink()


def thousand(inventory: Path) -> dict[str, dict[str, float]]:
    """Let the lab's hosts answer for a thousand names, and return what a plan costs with two key exchanges."""
    yaml = YAML(typ="safe")
    tree = yaml.load(inventory)
    executors = tree["all"]["children"]["executors"]["hosts"]
    # They are all the same few machines; only their names and what the world would call them differ.
    tree["all"]["children"]["executors"]["hosts"] = {
        f"gpu-{number}": {**values, "executor_address": f"10.0.{number // 250}.{number % 250 + 1}"}
        for number, values in zip(range(NAMES), itertools.cycle(executors.values()), strict=False)
    }
    of, file = dict[str, dict[str, float]](), inventory.with_name("thousand.yml")
    default = "-o KexAlgorithms=sntrup761x25519-sha512@openssh.com,curve25519-sha256"
    try:
        for name, more in (("curve25519", ""), ("OpenSSH's default", default)):
            usual = tree["all"]["vars"]
            tree["all"]["vars"] = usual | {"ansible_ssh_extra_args": more}
            yaml.dump(tree, file)
            tree["all"]["vars"] = usual
            cost("celium-ops", "plan", "-i", str(file))  # the inventory is resolved for the first time
            of[name] = cost("celium-ops", "plan", "-i", str(file))
    finally:
        file.unlink(missing_ok=True)
    return of


def cost(*command: str) -> dict[str, float]:
    """Run a command, whose exit does not matter, and return what it took on this side."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout  # noqa: S101  # it was asked for
        process.stdout.readline()
        first = time.perf_counter() - began
        process.stdout.read()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "first_host_after": round(first, 1),
        "seconds": round(seconds, 1),
        "cpu_ms_per_host": round(1000 * spent / NAMES, 1),
        "largest_process_mib": round(after.ru_maxrss / 1024),
    }


def rounds(once: Callable[[], float]) -> list[float]:
    """Return the seconds of some rounds."""
    return [once() for _ in range(ROUNDS)]


def drifted(*command: str) -> float:
    """Let one host drift, and return the seconds of what cures it."""
    on("executor-1", "chmod 755 /opt/celium/executor")
    return timed(*command)


def on(host: str, script: str) -> bytes:
    """Run a script on a host, by a way that is not ours."""
    command = ["docker", "exec", f"celium-lab-{LAB}-{host}", "sh", "-c", script]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def peer(inventory: str, folder: Path) -> tuple[str, ...]:
    """Return the command that lets pyinfra look at the same hosts; what its files shall hold is copied from them."""
    venv = HERE / "peers" / ".venv"
    if not (venv / "bin" / "pyinfra").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", PEER], check=True)
    hosts = [_peer_host(host, folder) for host in load_fleet(Path(inventory)).hosts.values()]
    (folder / "hosts.py").write_text(f"hosts = {hosts!r}\n")
    return (str(venv / "bin" / "pyinfra"), "-y", str(folder / "hosts.py"), str(HERE / "peers" / "pyinfra_deploy.py"))


def must_be_idle(command: tuple[str, ...]) -> None:
    """Make sure that pyinfra finds nothing to do, since that is what it is timed at."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    total = next(line.split() for line in done.stdout.splitlines() if "Grand total" in line)
    if total[3:5] != ["-", "-"]:  # those that did something, those that failed
        sys.exit(done.stdout)


def _peer_host(host: Host, folder: Path) -> tuple[str, dict[str, object]]:
    (folder / host.name).mkdir(parents=True)
    things = json.loads(on(host.name, "cat /var/lib/celium-ops/record.json"))["things"]
    for thing in things:
        if thing["kind"] in ("environment", "file", "keys"):
            copy = folder / host.name / thing["name"].replace("/", "+")
            copy.write_bytes(on(host.name, f"cat {thing['name']}"))
    connection = host.connection
    known = next(part.partition("=")[2] for part in connection.arguments.split() if "UserKnownHostsFile=" in part)
    things = [{key: thing[key] for key in ("kind", "name", "state")} for thing in things]
    data = {"things": things, "copies": str(folder), "_sudo": True, "ssh_hostname": connection.address}
    ssh = {"ssh_user": connection.user, "ssh_key": connection.key_file, "ssh_known_hosts_file": known}
    return host.name, data | ssh


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return how we stand beside the others."""
    of = {what: statistics.median(values) for what, values in seconds.items()}
    return {
        "deploy, nothing to do / pyinfra": round(of["deploy, nothing to do"] / of["pyinfra, nothing to do"], 3),
        "deploy, nothing to do, shared connections / pyinfra": round(
            of["deploy, nothing to do, shared connections"] / of["pyinfra, nothing to do"], 3
        ),
        "deploy, nothing to do / plain Ansible": round(of["deploy, nothing to do"] / of["plain Ansible"], 3),
        "one drifted of ten / that host alone": round(of["deploy, one drifted"] / of["that host alone"], 3),
    }


def keep(more: dict[str, object]) -> None:
    """Add to the results, and print what is added."""
    file = HERE / "results" / "plan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more, indent=2) + "\n")
    print(json.dumps(more, indent=2))


if __name__ == "__main__":
    main()
