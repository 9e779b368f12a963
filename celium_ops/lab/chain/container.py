"""The simulated chain as a part of the lab: a container on its network, commanded by a file in the lab's folder.

The node there watches the file. A command writes it and waits until the node says that it has become what the file
says; so the container may be lost and made anew, and the chain goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import celium_ops
from celium_ops.base.errors import CeliumError
from celium_ops.chain.snapshot import Snapshot
from celium_ops.lab import docker
from celium_ops.lab.chain import metadata, state
from celium_ops.lab.chain.faults import STATUS_PATH, Fault
from celium_ops.lab.chain.state import State
from celium_ops.lab.layout import Files, Lab
from celium_ops.lab.rootfs import Report

_CODE = (
    "*.py",
    "base/*.py",
    "chain/__init__.py",
    "chain/snapshot.py",
    "lab/__init__.py",
    "lab/process.py",
    "lab/chain/*.py",
)
_LABEL_CONTENT = f"{docker.LABEL}.content"
_FOLDER = "/srv"
_STATE_FOLDER = "/state"
_STATE = "state.json"
_RECORDING = "recording.json"
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class ChainStatus:
    """How the chain is.

    Attributes:
        address: where clients connect.
        ok: it does what it was told to, a fault included.
        block: its newest block; None, as what follows is, when it does not answer.
        block_time: when that was made, in ISO 8601.
        neurons: how many its snapshot has.
        fault: how it was told to misbehave.
    """

    address: str
    ok: bool
    block: int | None
    block_time: str | None
    neurons: int | None
    fault: Fault | None


def ensure(
    lab: Lab, container: dict[str, Any] | None, files: Files, image: str, world: Snapshot, report: Report
) -> None:
    """Bring the chain up.

    Args:
        lab: the lab.
        container: what the engine knows about it; None when there is none.
        files: the lab's files.
        image: a local image with what the node imports.
        world: what a new chain serves, and an old one that nobody has set by hand.
        report: told what is done.

    Raises:
        CeliumError: the runtime's metadata cannot be had, or the chain does not answer.
    """
    archive = _archive(metadata.ensure(report))
    content = hashlib.sha256(f"{image}\0{files.chain}\0".encode() + archive).hexdigest()
    current = _ensure_state(files.chain, world)
    name, status = lab.chain_container, container["State"]["Status"] if container else "absent"
    if container and (status in {"dead", "removing"} or container["Config"]["Labels"].get(_LABEL_CONTENT) != content):
        docker.docker("rm", "--force", name)
        status = "absent"
    if status == "absent":
        report("chain: creating, simulated")
        docker.docker(*create_arguments(lab, files, image, content))
        docker.docker("cp", "-", f"{name}:{_FOLDER}", stdin=archive)
    if status == "paused":
        docker.docker("unpause", name)
    elif status != "running":
        docker.docker("start", name)
    _wait(lab, current)


def create_arguments(lab: Lab, files: Files, image: str, content: str) -> list[str]:
    """Return the ``docker`` arguments that create the container."""
    node = ["python3", "-m", "celium_ops.lab.chain", f"--state={_STATE_FOLDER}/{_STATE}"]
    return [
        *("create", "--name", lab.chain_container, "--hostname", "chain"),
        *("--network", lab.network, "--ip", lab.chain_ip, "--stop-signal", "SIGINT"),
        *docker.labels(lab.name, {_LABEL_CONTENT: content}),
        f"--mount=type=bind,source={files.chain},target={_STATE_FOLDER},readonly",
        *(image, *node, f"--recording={_FOLDER}/{_RECORDING}", "--host=0.0.0.0", f"--port={urlsplit(lab.chain).port}"),
        f"--evm-port={urlsplit(lab.evm).port}",
    ]


def change(lab: Lab, files: Files, to: Callable[[State, datetime], State]) -> ChainStatus:
    """Make the chain another one, and return how it is then.

    Raises:
        CeliumError: there is no chain, or it does not become what it should.
    """
    file = files.chain / _STATE
    if not file.exists():
        raise CeliumError(f"the lab {lab.name} has no chain", remedy="run `celium-ops lab up`", code="no-lab")
    changed = to(state.load(file), datetime.now(UTC))
    state.save(changed, file)
    _wait(lab, changed)
    return status(lab, files, running=True)


def status(lab: Lab, files: Files, *, running: bool) -> ChainStatus:
    """Return how the chain is; ``running`` says whether its container is."""
    told = _asked(lab) if running else None
    fault = None
    with contextlib.suppress(CeliumError):
        fault = state.load(files.chain / _STATE).fault
    said = told or {}
    return ChainStatus(
        address=lab.chain,
        ok=running and (told is not None) != (fault is Fault.DEAD),
        block=said.get("block"),
        block_time=said.get("block_time"),
        neurons=said.get("neurons"),
        fault=fault,
    )


def _asked(lab: Lab) -> dict[str, Any] | None:
    """Return what the node says of itself; None when it does not answer."""
    # The machine's proxy, if it has one, is not for the lab's network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{urlsplit(lab.chain).netloc}{STATUS_PATH}", timeout=5) as answer:
            said: dict[str, Any] = json.load(answer)
            return said
    except (OSError, ValueError):
        return None


def _wait(lab: Lab, wanted: State) -> None:
    """Wait until the node is what the state says."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _is(lab, wanted):
        if time.monotonic() > deadline:
            raise CeliumError(
                f"the simulated chain at {lab.chain} did not answer within {_WAIT_SECONDS} s",
                remedy=f"`celium-ops lab up` starts it; look with `docker logs {lab.chain_container}`",
            )
        time.sleep(0.05)


def _is(lab: Lab, wanted: State) -> bool:
    said = _asked(lab)
    if wanted.fault is Fault.DEAD:
        return said is None
    return said is not None and said["state"] == state.digest(wanted)


def _ensure_state(folder: Path, world: Snapshot) -> State:
    """Return the state of the chain, written when it is missing or serves another world that nobody has chosen."""
    folder.mkdir(mode=0o700, exist_ok=True)
    file, now = folder / _STATE, datetime.now(UTC)
    if not file.exists():
        current = State.begun(world, now)
        state.save(current, file)
        return current
    current = state.load(file)
    if not current.set_by_hand and current.snapshot != world:
        current = current.with_snapshot(world, now, by_hand=False)
        state.save(current, file)
    return current


def _archive(recording: Path) -> bytes:
    """Return what goes into the container: the node's code and the runtime's metadata; the same bytes for the same."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, file in [*_code(), (_RECORDING, recording)]:
            entry = tarfile.TarInfo(name)
            content = file.read_bytes()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _code() -> Iterator[tuple[str, Path]]:
    top = Path(celium_ops.__file__).parent
    for pattern in _CODE:
        for file in sorted(top.glob(pattern)):
            yield f"celium_ops/{file.relative_to(top)}", file
