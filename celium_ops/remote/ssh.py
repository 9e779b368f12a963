"""Ask many hosts at once through OpenSSH, one round trip each, host keys checked."""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from celium_ops.base.processes import bound
from celium_ops.fleet.model import Connection

MAX_PARALLEL = 32
VANGUARD = 4
"""Where more hosts are asked than at a time, so many go ahead, as all together would keep the first answer waiting."""
HEAD_START = 0.5
"""Seconds after which the others follow, should none of them have answered."""
CONNECT_TIMEOUT = 8
KEY_EXCHANGE = "KexAlgorithms=^curve25519-sha256"
"""OpenSSH's own first choice costs seven times the CPU on our side of a connection; docs/hosts.md: how to keep it."""


@dataclass(frozen=True)
class Answer:
    """What one host said: its output, or why there is none; ``at`` is when, in seconds since 1970."""

    output: str | None
    error: str | None = None
    at: float = field(default_factory=time.time)


def ssh_command(connection: Connection, command: list[str], *settings: str) -> list[str]:
    """Return the arguments that run ``command`` on a host; pure.

    It runs as root, as the roles do; sudo, where the user is not root, goes with the same round trip. ``settings`` are
    options of OpenSSH (NAME=VALUE) that go before the inventory's.
    """
    own = [part for setting in settings for part in ("-o", setting)]
    return ["ssh", "-T", *own, *ssh_options(connection), "-o", KEY_EXCHANGE, "--", connection.address, as_root(command)]


def ssh_options(connection: Connection) -> list[str]:
    """Return the options of every connection of ours; pure.

    Host keys are checked as the inventory and the user's OpenSSH configuration say, strictly unless they say otherwise:
    a question nobody can answer is a refusal.
    """
    arguments = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}"]
    arguments += ["-o", "StrictHostKeyChecking=yes"] if "StrictHostKeyChecking" not in connection.arguments else []
    arguments += ["-p", str(connection.port)] if connection.port else []
    arguments += ["-l", connection.user] if connection.user else []
    arguments += ["-i", connection.key_file] if connection.key_file else []
    return [*arguments, *shlex.split(connection.arguments)]


def as_root(command: list[str]) -> str:
    """Return the line for the login shell of a host that becomes ``command``, run as root; pure."""
    words = shlex.join(command)
    return f'[ "$(id -u)" = 0 ] && exec {words} || exec sudo -n {words}'


def why(words: str, on_the_way: bool = False) -> str:
    """Return why ssh failed, in one line, from what it said, or from what Ansible quotes; pure, empty for no words.

    ``on_the_way``: they are the words of a jump host's ssh.
    """
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    refusal = next((number for number, line in enumerate(lines, 1) if "Host key verification failed" in line), None)
    if refusal and (on_the_way or refusal < len(lines)):  # ssh itself would have ended there
        return "the host key of a jump host is not known, or has changed; connect to it with ssh to see"
    unknown = re.search(r"No \S+ host key is known for (\S+)", words)
    changed = re.search(r"Host key for (\S+) has changed", words)
    if unknown:
        return f"the host key of {unknown[1]} is not known; celium-ops hosts trust shows and records it"
    if changed:
        return f"the host key of {changed[1]} has changed; celium-ops hosts trust shows the old and the new one"
    if refusal:
        return "its host key is not known, or has changed; celium-ops hosts trust tells which"
    return lines[-1] if lines else ""


def ask(
    connections: Mapping[str, Connection],
    commands: Mapping[str, list[str]],
    stdin: str | Mapping[str, str],
    deadline: float,
    on_answer: Callable[[str, Answer], None] = lambda _name, _answer: None,
    after: Future[None] | None = None,
) -> dict[str, Answer]:
    """Run each host's command with ``stdin``, one for all or each its own, and return the answers by host.

    A host gets ``deadline`` seconds; ``on_answer`` hears of each as it comes. With ``after`` connections are made, but
    nothing is sent and no time counts before it is done; what it raises ends them all.
    """
    if not connections:
        return {}

    async def ask_all() -> dict[str, Answer]:
        limit, answered = asyncio.Semaphore(MAX_PARALLEL), asyncio.Event()
        vanguard = list(connections)[:VANGUARD] if len(connections) > MAX_PARALLEL else connections
        go = asyncio.wrap_future(after) if after else None
        answers: dict[str, Answer] = {}

        async def one(name: str) -> None:
            async with limit:
                if go and go.done():
                    go.result()
                if not go and name not in vanguard and not answered.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(answered.wait(), HEAD_START)
                words = stdin if isinstance(stdin, str) else stdin[name]
                command = ssh_command(connections[name], commands[name])
                try:
                    answers[name] = await _ask(command, words.encode(), deadline, go)
                finally:
                    answered.set()
            on_answer(name, answers[name])

        # Nobody is cancelled for what another meets: a process that only just begins would be left behind.
        ends = await asyncio.gather(*map(one, connections), return_exceptions=True)
        if error := next(filter(None, ends), None):
            raise error
        return {name: answers[name] for name in connections}

    return asyncio.run(ask_all())


async def _ask(arguments: list[str], stdin: bytes, deadline: float, go: asyncio.Future[None] | None) -> Answer:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*bound(arguments), stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        if go:
            await go
        out, err = await asyncio.wait_for(process.communicate(stdin), deadline)
    except TimeoutError:
        return Answer(None, f"no answer in {deadline:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            with suppress(TimeoutError):  # the ssh of a jump host may need a moment longer
                await asyncio.wait_for(process.communicate(b""), 1)
    if process.returncode:
        return Answer(None, why(err.decode(errors="replace")) or f"ended with {process.returncode} and said nothing")
    return Answer(out.decode(errors="replace"))
