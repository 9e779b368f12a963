"""Running programs for the lab: errors that name the program, and no orphans after ctrl-c."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from celium_ops.base.errors import CeliumError

Result = TypeVar("Result")

_children: dict[int, bool] = {}
_guard = threading.Lock()
_stopping = 0
"""How many pools are being stopped; while any is, no program starts."""


class StoppedError(CeliumError):
    """A program was ended because another job failed: never the reason, only a consequence."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
    root: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return its output.

    Args:
        argv: the program and its arguments; no shell is involved.
        stdin: what the program reads.
        check: raise when the program fails.
        timeout: seconds after which the program is stopped; it then counts as failed with return code 124.
        root: run it as root, through ``sudo -n`` where we are not.

    Raises:
        CeliumError: the program is missing, or it failed and ``check`` is set.
    """
    command = [*(["sudo", "-n"] if root and os.geteuid() else []), *argv]
    child = _start(command, root, piped=stdin is not None)
    try:
        out, err = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        _stop(child.pid, root)
        out, err = child.communicate()
        child.returncode = 124
    except BaseException:
        with _undisturbed():
            _stop(child.pid, root)
            child.communicate()
        raise
    finally:
        with _guard:
            _children.pop(child.pid, None)
    if _stopping and child.returncode:
        raise StoppedError(f"{argv[0]} was stopped")
    done = subprocess.CompletedProcess(command, child.returncode, out, err)
    if check and done.returncode:
        raise failure(done)
    return done


def _start(command: Sequence[str], root: bool, piped: bool) -> subprocess.Popen[bytes]:
    with _guard:
        if _stopping:
            raise StoppedError(f"{command[0]} was not started")
        try:
            # A process group of its own: ctrl-c reaches us alone, and we stop the child with all it started.
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except FileNotFoundError as error:
            raise CeliumError(f"the program {command[0]} is not installed") from error
        _children[child.pid] = root
        return child


def failure(done: subprocess.CompletedProcess[bytes], what: str | None = None) -> CeliumError:
    """Return the error that says which program failed, and the end of what it said."""
    said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()
    tail = " | ".join(line.strip() for line in said[-4:]) or "it said nothing"
    name = " ".join(part for part in done.args[:5] if not part.startswith("-"))
    why = "took too long" if done.returncode == 124 else f"failed (exit {done.returncode})"
    return CeliumError(f"{what or name} {why}: {tail}")


def in_parallel(jobs: Sequence[Callable[[], Result]], workers: int = 8) -> list[Result]:
    """Run the jobs in threads and return their results in order.

    The first error stops the programs of the other jobs and is raised; so does ctrl-c. Jobs may call this again.
    """
    if not jobs:
        return []
    pool = ThreadPoolExecutor(min(workers, len(jobs)))
    futures = [pool.submit(job) for job in jobs]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    except BaseException:
        with _undisturbed():
            _abandon(pool)
        raise
    if any(future.done() and future.exception() for future in futures):
        _abandon(pool)
        errors = [future.exception() for future in futures if not future.cancelled()]
        raise min((error for error in errors if error), key=lambda error: isinstance(error, StoppedError))
    pool.shutdown()
    return [future.result() for future in futures]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Finish stopping programs, which takes seconds, whatever the second ctrl-c says."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _abandon(pool: ThreadPoolExecutor) -> None:
    """End a pool early, and with it every program that runs now."""
    global _stopping
    pool.shutdown(wait=False, cancel_futures=True)
    with _guard:
        _stopping += 1
        groups = list(_children.items())
    try:
        for group, root in groups:
            _signal(group, signal.SIGTERM, root)
        for group, root in groups:
            _stop(group, root)
        pool.shutdown(wait=True)
    finally:
        with _guard:
            _stopping -= 1


def _stop(group: int, root: bool, patience: float = 3) -> None:
    """End a process group: asked first, killed when it does not listen."""
    _signal(group, signal.SIGTERM, root)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        # Its leader may be gone (sudo ends at once) while what it started still works.
        if not _members(group):
            return
        time.sleep(0.05)
    _signal(group, signal.SIGKILL, root)


def _members(group: int) -> list[int]:
    """Return the processes of a group that live; one that ended and was not waited for does not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # After the name, which may hold anything: state, parent, process group.
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state != "Z":
                    found.append(int(entry.name))
    return found


def _signal(group: int, number: signal.Signals, root: bool) -> None:
    if root and os.geteuid():
        # We may signal sudo itself, but not what it runs: only root reaches the whole group.
        subprocess.run(["sudo", "-n", "kill", f"-{number.value}", "--", f"-{group}"], check=False, capture_output=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
