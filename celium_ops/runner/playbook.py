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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import collections_path
from celium_ops.base.processes import bound, children, kill_descendants
from celium_ops.runner.recap import Event, HostRecap, Recap
from celium_ops.runner.silence import Overdue, Silence

MAX_FORKS = 25
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 15.0
"""Seconds Ansible gets to end after ctrl-c."""
TASK_LIMIT = 300
"""Seconds a task may take that says nothing else (``timeout``); our playbooks have the same, for Ansible alone."""
_PROGRAMS = Path(__file__).parent / "programs"
OnHost = Callable[[HostRecap], None]


@dataclass(frozen=True)
class Playbook:
    """What to run: a playbook of the collection ``celium.ops`` on the hosts named, all of the inventory's if none.

    Hosts that are ``independent`` do not wait for each other: of those, one without a task has done all of them.
    """

    name: str
    inventory: Path
    hosts: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    variables: dict[str, Any] | None = None
    independent: bool = False


def run_playbook(playbook: Playbook, on_host: OnHost) -> Recap:
    """Run a playbook and return what each host did; ``on_host`` hears of every step.

    It ends however hosts behave: a task has a limit, and where Ansible does not keep it, Ansible is ended when all
    other hosts are done.

    Raises:
        CeliumError: Ansible ended before it reached any host.
        KeyboardInterrupt: ctrl-c; Ansible was asked to end, and has ended, when it is raised.
    """
    from ansible_runner.interface import init_runner

    recap, silence = Recap(), Silence(task_limit())

    def handle(event: Event) -> bool:
        silence.feed(event)
        host = recap.feed(event)
        if host:
            on_host(host)
        # False: no event files. They would hold the results of all tasks, and cost a file each.
        return False

    with _private_folder() as folder, _interruptible(silence) as interruption:
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
        runner.config.command[:] = bound(runner.config.command, ending="TERM")
        if not interruption.wanted:
            runner.run()
        if interruption.wanted:
            raise KeyboardInterrupt
        if interruption.overdue is not None:
            _give_up(recap, interruption.overdue, playbook.independent)
            for name in interruption.overdue:
                on_host(recap.hosts[name])
            return recap
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
        "ANSIBLE_SSH_EXECUTABLE": str(_PROGRAMS / "ssh"),
        "ANSIBLE_SFTP_EXECUTABLE": str(_PROGRAMS / "sftp"),
    }
    settings = {name: value for name, value in settings.items() if name not in os.environ}
    settings["ANSIBLE_TASK_TIMEOUT"] = str(task_limit())
    # Nobody sees a question of Ansible's, which would wait for ever: without a password it fails and says so.
    settings |= dict.fromkeys(("ANSIBLE_ASK_PASS", "ANSIBLE_BECOME_ASK_PASS", "ANSIBLE_ASK_VAULT_PASS"), "False")
    settings["ANSIBLE_COLLECTIONS_PATH"] = collections_path()
    # Ansible is installed beside us, and perhaps not on the PATH of whoever called us by our full name.
    settings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return settings


def task_limit() -> int:
    """Return the seconds that a task may take that says nothing else; 0, which is none for Ansible, does not count."""
    wanted = os.environ.get("ANSIBLE_TASK_TIMEOUT", "").strip()
    return int(wanted) if wanted.isdecimal() and int(wanted) else TASK_LIMIT


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


def _give_up(recap: Recap, overdue: Mapping[str, Overdue], independent: bool) -> None:
    """Note what became of the hosts of a run that was ended since some of them were silent."""
    for name, one in overdue.items():
        host = recap.hosts[name]
        host.result, host.error = "failed", f"{one.task}: the task did not end in {one.seconds:.0f} s"
    if independent and overdue:
        for host in recap.hosts.values():
            if host.result is None and host.error is None:
                host.result = "ok"
    recap.give_up(f"was not finished: {', '.join(overdue) or 'Ansible'} did not answer, so Ansible was ended")


@dataclass
class _Interruption:
    """Ansible is asked to end, so that it ends its workers too, and killed only if it does not.

    That is so after ctrl-c (``wanted``), and when only hosts remain whose tasks are ``overdue``.
    """

    silence: Silence
    wanted: bool = False
    overdue: Mapping[str, Overdue] | None = None
    began: float | None = None

    def note(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal; a second one does not wait any longer."""
        if self.wanted:
            self.began = -math.inf
        elif self.began is None:
            self._ask()
        self.wanted = True

    def must_kill(self) -> bool:
        """Answer runner, which asks all the time; it then kills Ansible's process group."""
        if self.began is None and (overdue := self.silence.overdue()) is not None:
            self.overdue = overdue
            self._ask()
        if self.began is None or time.monotonic() - self.began <= GRACE:
            return False
        for child in children(os.getpid()):
            with suppress(ProcessLookupError):
                if os.getsid(child) != os.getsid(0):  # Ansible has one of its own, and so has each of its workers
                    kill_descendants(child)
        return True

    def _ask(self) -> None:
        self.began = time.monotonic()
        for child in children(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGINT)


@contextmanager
def _interruptible(silence: Silence) -> Iterator[_Interruption]:
    """Take the signals while a run lasts, and give them back; runner's own handlers are never restored (its 1075)."""
    interruption = _Interruption(silence)
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
