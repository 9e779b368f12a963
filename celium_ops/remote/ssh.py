"""Ask many hosts at once through OpenSSH, one round trip each, host keys checked."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PARALLEL = 32
CONNECT_TIMEOUT = 8


@dataclass(frozen=True)
class Target:
    """How one host is reached; the fields are OpenSSH's own."""

    address: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class Answer:
    """What one host said: its output, or why there is none."""

    output: str | None
    error: str | None = None


def ssh_command(target: Target, command: list[str]) -> list[str]:
    """Return the arguments that run ``command`` on a host; pure.

    It runs as root, as the roles do; sudo, where the user is not root, goes with the same round trip. Host keys are
    checked as the inventory and the user's OpenSSH configuration say, strictly unless they say otherwise: a question
    nobody can answer is a refusal.
    """
    arguments = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}"]
    arguments += ["-o", "StrictHostKeyChecking=yes"] if "StrictHostKeyChecking" not in target.arguments else []
    arguments += ["-p", str(target.port)] if target.port else []
    arguments += ["-l", target.user] if target.user else []
    arguments += ["-i", target.key_file] if target.key_file else []
    arguments += shlex.split(target.arguments)
    words = shlex.join(command)
    as_root = f'[ "$(id -u)" = 0 ] && exec {words} || exec sudo -n {words}'
    return [*arguments, "--", target.address, as_root]


def ask(
    targets: Mapping[str, Target], commands: Mapping[str, list[str]], stdin: str, deadline: float
) -> dict[str, Answer]:
    """Run each host's command with ``stdin`` and return the answers by host; a host gets ``deadline`` seconds."""

    async def ask_all() -> dict[str, Answer]:
        limit = asyncio.Semaphore(MAX_PARALLEL)

        async def one(name: str) -> Answer:
            async with limit:
                return await _ask(ssh_command(targets[name], commands[name]), stdin.encode(), deadline)

        answers = await asyncio.gather(*(one(name) for name in targets))
        return dict(zip(targets, answers, strict=True))

    return asyncio.run(ask_all())


async def _ask(arguments: list[str], stdin: bytes, deadline: float) -> Answer:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), deadline)
    except TimeoutError:
        process.kill()
        await process.wait()
        return Answer(None, f"no answer in {deadline:g} s")
    if process.returncode:
        lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
        return Answer(None, lines[-1] if lines else f"ended with {process.returncode} and said nothing")
    return Answer(out.decode(errors="replace"))
