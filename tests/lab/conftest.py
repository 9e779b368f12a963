"""A real lab for the tests of this folder. It never skips: a machine that cannot carry a lab fails the tests."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, wait_for

from celium_ops.base.paths import cache_dir
from celium_ops.lab import machine

_PROGRAM = Path(sys.executable).with_name("celium-ops")
_PATIENCE = 540


class LabUnderTest:
    """A lab with a state folder of its own; images come from the cache that all labs share."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.env = {**os.environ, "CELIUM_LAB": name, "XDG_STATE_HOME": str(state), "NO_COLOR": "1"}
        self.env.pop("CELIUM_OPS_INVENTORY", None)
        self.ansible = {**self.env, "ANSIBLE_PIPELINING": "True"}
        """The environment for plain Ansible, at the pace of ours; without, it asks three times as often."""
        self.folder = state / "celium-ops" / "lab" / name
        self.inventory = self.folder / "inventory.yml"
        self.lock = cache_dir() / "lab" / f"{name}.lock"

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``celium-ops`` without a terminal."""
        return subprocess.run(
            [str(_PROGRAM), *arguments],
            cwd=cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start ``celium-ops`` and do not wait for it."""
        return subprocess.Popen(
            [str(_PROGRAM), *arguments],
            env=self.env | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ok(self, *arguments: str) -> str:
        """Run ``celium-ops``, which has to succeed, and return its stdout."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return what ``lab status --json`` says."""
        answer: dict[str, Any] = json.loads(self.run("lab", "status", "--json").stdout)
        return answer

    def docker_name(self, host: str) -> str:
        """Return the name of a host's container."""
        return f"celium-lab-{self.name}-{host}"

    @contextmanager
    def paused(self, host: str) -> Iterator[None]:
        """Let a host stand still for a while: whoever asks it gets no answer, and no refusal."""
        self.pause(host)
        try:
            yield
        finally:
            self.unpause(host)

    def pause(self, host: str) -> None:
        """Let a host stand still; freezing processes that fork meanwhile can fail, then once more."""
        wait_for(lambda: subprocess.run(["docker", "pause", self.docker_name(host)], check=False).returncode == 0)

    def unpause(self, host: str) -> None:
        """Let a host go on."""
        subprocess.run(["docker", "unpause", self.docker_name(host)], check=True, capture_output=True)

    def on(self, host: str, script: str) -> str:
        """Run a shell script as root on a host, by a way that is not ours, and return what it prints."""
        return self.pipe(host, script, b"").decode().strip()

    def pipe(self, host: str, script: str, stdin: bytes) -> bytes:
        """Run a shell script as root on a host with something to read, and return its bytes as they are."""
        command = ["docker", "exec", "-i", self.docker_name(host), "sh", "-c", script]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, f"{host}: {done.stderr.decode()}"
        return done.stdout


MakeLab = Callable[[str], AbstractContextManager[LabUnderTest]]


@contextmanager
def running_lab(name: str, state: Path, *counts: str) -> Iterator[LabUnderTest]:
    """Bring a lab up for the tests, and take it down whatever happens."""
    lab = LabUnderTest(name, state)
    with alone(name):
        try:
            lab.ok("lab", "down", "--yes")  # what a killed test run left
            with alone("images"):
                lab.ok("lab", "up", *counts)
            yield lab
        finally:
            lab.run("lab", "down", "--yes")


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one test run at a time use the lab of this name on this machine, or what labs share."""
    folder = cache_dir() / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PATIENCE
    with (folder / f"{name}.session").open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, f"another test run keeps {name}"
                time.sleep(1)
        yield


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """Start a Docker engine where none runs: every test here needs one."""
    with alone("engine"):
        machine.ensure_engine(print)


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> MakeLab:
    """Give what makes a lab of another name, for tests that break theirs: one miner, one validator, two executors."""
    counts = ("--miners", "1", "--validators", "1", "--executors", "2")

    def make(name: str) -> AbstractContextManager[LabUnderTest]:
        return running_lab(name, tmp_path_factory.mktemp("state"), *counts)

    return make


@pytest.fixture(scope="session")
def lab(make_lab: MakeLab) -> Iterator[LabUnderTest]:
    """Give the lab ``tests``, or one of another name beside it: one miner, one validator, two executors."""
    name = os.environ.get("CELIUM_TEST_LAB", "tests")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    with make_lab(name if worker == "gw0" else f"{name}-{worker}") as found:
        yield found


@pytest.fixture(scope="session")
def fleet(lab: LabUnderTest) -> Fleet:
    """Give the fleet of the lab ``tests``."""
    return Fleet(lab)


@pytest.fixture(scope="module")
def deployed(fleet: Fleet) -> Fleet:
    """Give the same fleet, deployed: by the tests that ran before, or else now."""
    if fleet.run_json("plan")["rc"]:
        answer = fleet.deploy()
        assert answer["ok"], [(host["name"], host["error"]) for host in answer["hosts"] if host["result"] != "ok"]
    return fleet
