"""The lab's fleet as the tests of this folder work with it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ruamel.yaml import YAML

from celium_ops.base.paths import collections_path

Answer = dict[str, Any]

IMPATIENT = {
    "ANSIBLE_SSH_EXTRA_ARGS": "-o ServerAliveInterval=2 -o ServerAliveCountMax=3",
    "ANSIBLE_SSH_RETRIES": "1",
    "ANSIBLE_TIMEOUT": "5",
}
"""Our own settings, with a fifth of their patience."""


UPGRADE_FROM = "03750504de630b731cf503173cb85683291bc068"
"""The commit of 2026-11-30 whose fleets an upgrade has to take over as they are."""


class Fleet:
    """The hosts of a lab, through ``celium-ops`` and, to damage and inspect them, by a way that is not ours."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab

    @property
    def names(self) -> list[str]:
        """Return the hosts of the inventory as it is now."""
        return list(self._hosts)

    @property
    def _hosts(self) -> dict[str, dict[str, Any]]:
        groups = YAML(typ="safe").load(self.lab.inventory)["all"]["children"].values()
        return {name: variables for group in groups for name, variables in group["hosts"].items()}

    def run(self, *arguments: str) -> Any:
        """Run ``celium-ops`` on the lab's inventory."""
        return self.lab.run("-i", str(self.lab.inventory), *arguments)

    def run_json(self, *arguments: str) -> Answer:
        """Run ``celium-ops --json`` and return its document with its exit code and stderr."""
        done = self.run("--json", *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        return {**json.loads(done.stdout), "rc": done.returncode, "stderr": done.stderr}

    def deploy(self, *arguments: str) -> Answer:
        """Deploy; the answer has the hosts ``by_name`` too."""
        answer = self.run_json("deploy", *arguments)
        return {**answer, "by_name": {host["name"]: host for host in answer.get("hosts", [])}}

    def status(self) -> Answer:
        """Ask for the status; the answer has the hosts ``by_name`` too."""
        answer = self.run_json("status")
        return {**answer, "by_name": {host["name"]: host for host in answer.get("hosts", [])}}

    def play(self, name: str, *arguments: str) -> Answer:
        """Run a playbook with plain Ansible; return the result of the last task of each host."""
        env = {
            **self.lab.ansible,
            "ANSIBLE_COLLECTIONS_PATH": collections_path(),
            "ANSIBLE_TIMEOUT": "5",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        }
        command = ["ansible-playbook", "-i", str(self.lab.inventory), f"celium.ops.{name}", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        tasks = [task for one in json.loads(done.stdout)["plays"] for task in one["tasks"]]
        return {host: result for task in tasks for host, result in task["hosts"].items()}

    def address(self, host: str) -> str:
        """Return the address of a host."""
        return str(self._hosts[host]["ansible_host"])

    def started(self) -> dict[tuple[str, str], str]:
        """Return when each container of the fleet was started: what restarted shows."""
        return {
            (host["name"], container["service"]): container["started_at"]
            for host in self.status()["hosts"]
            for container in host["containers"]
        }

    def on(self, host: str, script: str) -> str:
        """Run a shell script as root on a host and return what it prints."""
        return str(self.lab.on(host, script))

    def reset(self, host: str) -> None:
        """Take our stacks off a host, volumes and all; Docker and the images stay."""
        self.on(
            host,
            "docker ps -aq --filter label=com.docker.compose.project | xargs -r docker rm -fv;"
            "docker volume ls -q | xargs -r docker volume rm; docker network prune -f; rm -rf /opt/celium",
        )

    def sql(self, statement: str) -> str:
        """Ask the database of the first miner."""
        psql = 'psql -qAtX -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "' + statement + '"'
        return self.on("miner-1", f"docker exec miner-db-1 sh -c '{psql}'")

    def set_variable(self, host: str, key: str, value: Any) -> None:
        """Give a host a variable in the inventory; None takes it away."""
        with self._edited_group(host) as hosts:
            if value is None:
                hosts[host].pop(key, None)
            else:
                hosts[host][key] = value

    def forget(self, host: str) -> None:
        """Take a host out of the inventory for good: the deploys of later tests are not about it."""
        with self._edited_group(host) as hosts:
            del hosts[host]

    @contextmanager
    def _edited_group(self, host: str) -> Iterator[Any]:
        yaml = YAML()
        content = yaml.load(self.lab.inventory)
        yield content["all"]["children"][f"{host.rpartition('-')[0]}s"]["hosts"]
        yaml.dump(content, self.lab.inventory)

    @contextmanager
    def variables(self, host: str, **values: Any) -> Iterator[None]:
        """Give a host variables for a while; whatever the inventory was, it is again."""
        before = self.lab.inventory.read_bytes()
        for key, value in values.items():
            self.set_variable(host, key, value)
        try:
            yield
        finally:
            self.lab.inventory.write_bytes(before)


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> None:
    """Wait until something is true: a restarted Docker asks containers after their 30 s again how they are."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


def assert_only(answer: Answer, host: str, *words: str) -> None:
    """Assert that one host failed, with these words in its error, that a remedy is given, and the others are done."""
    failed = answer["by_name"][host]
    assert (answer["rc"], answer["ok"], failed["result"]) == (1, False, "failed"), answer
    for word in words:
        assert word in failed["error"]
    assert failed["remedy"]
    assert f"{host}: " in answer["stderr"], "progress names it too"
    assert {other["result"] for other in answer["hosts"] if other["name"] != host} <= {"ok"}


@contextmanager
def broken(fleet: Fleet, host: str, script: str, repair: str) -> Iterator[None]:
    """Break something on a host for a while; what was broken in part is repaired, too."""
    try:
        fleet.on(host, script)
        yield
    finally:
        fleet.on(host, repair)
