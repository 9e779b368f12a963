"""Run one playbook of the collection through ansible-runner."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import collections_path
from celium_ops.runner.recap import Event, HostRecap, Recap

MAX_FORKS = 25
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 15.0
"""Seconds Ansible gets to end after ctrl-c."""
OnHost = Callable[[HostRecap], None]


@dataclass(frozen=True)
class Playbook:
    """What to run: a playbook of the collection ``celium.ops`` on the hosts named, all of the inventory's if none."""

    name: str
    inventory: Path
    hosts: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    variables: dict[str, Any] | None = None


def run_playbook(playbook: Playbook, on_host: OnHost) -> Recap:
    """Run a playbook and return what each host did; ``on_host`` hears of every step.

    Raises:
        CeliumError: Ansible ended before it reached any host.
        KeyboardInterrupt: ctrl-c; Ansible was asked to end, and has ended, when it is raised.
    """
    from ansible_runner.interface import init_runner

    recap = Recap()

    def handle(event: Event) -> bool:
        host = recap.feed(event)
        if host:
            on_host(host)
        # False: no event files. They would hold the results of all tasks, and cost a file each.
        return False

    with _private_folder() as folder, _interruptible() as interruption:
        runner = init_runner(
            private_data_dir=str(folder),
            playbook=f"celium.ops.{playbook.name}",
            # Where the operator stands: relative paths and ansible.cfg mean what they mean to Ansible itself.
            project_dir=str(Path.cwd()),
            inventory=str(playbook.inventory.absolute()),
            cmdline=_arguments(playbook, folder),
            envvars=environment(),
            event_handler=handle,
            cancel_callback=interruption.must_kill,
            quiet=True,
            # Without this, runner leaves variables and passwords in files, and takes those of an earlier run.
            suppress_env_files=True,
        )
        # When we are killed it ends too: it ignores the loss of its terminal, and would wait for ever for its results.
        runner.config.command[:0] = ["setpriv", "--pdeathsig", "TERM"]
        runner.run()
        if interruption.began:
            raise KeyboardInterrupt
        if runner.rc and not recap.hosts:
            words = f"Ansible ended before it reached a host: {_last_words(recap, runner.stdout.read())}"
            raise CeliumError(words, remedy="celium-ops inventory lint may say more")
        if runner.rc and not recap.closed:
            recap.give_up(f"Ansible ended early (exit {runner.rc}): {_last_words(recap, runner.stdout.read())}")
    return recap


def environment() -> dict[str, str]:
    """Return the settings of Ansible that our runs have unless the operator's environment says otherwise."""
    settings = {
        "ANSIBLE_FORKS": str(MAX_FORKS),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_INJECT_FACT_VARS": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_SSH_RETRIES": "2",
        "ANSIBLE_TIMEOUT": "15",
        # A host that dies in the middle of a task is noticed after half a minute, not when TCP gives up.
        "ANSIBLE_SSH_EXTRA_ARGS": "-o ServerAliveInterval=10 -o ServerAliveCountMax=3",
    }
    settings = {name: value for name, value in settings.items() if name not in os.environ}
    # Nobody sees a question of Ansible's, which would wait for ever: without a password it fails and says so.
    settings |= dict.fromkeys(("ANSIBLE_ASK_PASS", "ANSIBLE_BECOME_ASK_PASS", "ANSIBLE_ASK_VAULT_PASS"), "False")
    settings["ANSIBLE_COLLECTIONS_PATH"] = collections_path()
    # Ansible is installed beside us, and perhaps not on the PATH of whoever called us by our full name.
    settings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return settings


def _arguments(playbook: Playbook, folder: Path) -> str:
    arguments = []
    if playbook.hosts:
        write_atomic(folder / "limit", "\n".join(playbook.hosts) + "\n", 0o600)
        arguments.append(f"--limit @{folder / 'limit'}")
    if playbook.variables:
        write_atomic(folder / "variables.yml", yaml.safe_dump(playbook.variables), 0o600)
        arguments.append(f"-e @{folder / 'variables.yml'}")
    arguments += ["--check"] if playbook.check else []
    arguments += ["--diff"] if playbook.diff else []
    return " ".join(arguments)


def _last_words(recap: Recap, output: str) -> str:
    lines = recap.messages or [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines
    return errors[-1] if errors else "it said nothing"


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for one run that only we can read (mkdtemp: 0700), and remove it whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="celium-ops-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Interruption:
    """Ctrl-c during a run: Ansible is asked to end, so that it ends its workers too, and killed only if it does not."""

    began: float | None = None

    def note(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal; a second one does not wait any longer."""
        if self.began is None:
            self.began = time.monotonic()
            for child in _children():
                os.kill(child, signal.SIGINT)
        else:
            self.began = -math.inf

    def must_kill(self) -> bool:
        """Answer runner, which asks all the time; it then kills Ansible's process group."""
        return self.began is not None and time.monotonic() - self.began > GRACE


def _children() -> Iterator[int]:
    """Yield our child processes (Linux); runner does not tell which one it started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(stat.parent.name)


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    """Take the signals while a run lasts, and give them back; runner's own handlers are never restored (its 1075)."""
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup stays nohup
    before = {number: signal.signal(number, interruption.note) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
