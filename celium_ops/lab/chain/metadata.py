"""The runtime's metadata: the real one, from a recording that the SDK's source package on the package index carries.

The recording was made by the SDK's authors against a local chain of runtime version 461. It holds the metadata, which
is all that a codec needs to know, and answers of that chain, which our own encoding is tested against. It is fetched
once into the cache and must be the very file that is pinned here; nothing of it is in this repository.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import cache_dir
from celium_ops.lab.process import run

SDK_VERSION = "11.3.0"
SPEC_VERSION = 461
_PACKAGE_SHA256 = "8ce05029a712866048c6cf3e3d5df1592ac896175f5b4227f63044b7e7b7edb3"
_RECORDING = "tests/fixtures/golden.json"
_RECORDING_SHA256 = "a74c2f7fd7d9c40ba8111170bf74dddfad57a040d181b3532acb2a9ce2ef2f11"
_MAGIC = b"meta\x0f"

# Clients keep metadata by the first block's hash and the runtime's version: it is never that of a real chain, and
# another recording makes another chain.
GENESIS = "0x" + hashlib.blake2b(f"celium-ops lab {_RECORDING_SHA256}".encode(), digest_size=32).hexdigest()
"""The hash of the simulated chain's first block."""

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Recording:
    """A runtime's metadata (version 15 of its format, as bytes), and everything else that was recorded with it."""

    metadata: bytes
    spec_version: int
    transaction_version: int
    vectors: dict[str, Any]


def ensure(report: Callable[[str], None]) -> Path:
    """Return the recording's file in the cache, fetched when it is missing or not what was pinned.

    Raises:
        CeliumError: it cannot be fetched, or is not the file that was pinned.
    """
    with _ONE_AT_A_TIME:
        return _ensure(cache_dir() / "lab" / "chain" / f"recording-{_RECORDING_SHA256[:12]}.json", report)


def _ensure(path: Path, report: Callable[[str], None]) -> Path:
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == _RECORDING_SHA256:
        return path
    report("downloading the metadata of the chain's runtime")
    content = _fetch()
    found = hashlib.sha256(content).hexdigest()
    if found != _RECORDING_SHA256:
        raise CeliumError(
            f"the chain recording in bittensor {SDK_VERSION} is not the file that was pinned: "
            f"sha256 {found}, expected {_RECORDING_SHA256}",
            remedy="do not use this package index",
            code="wrong-checksum",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    return path


def load(path: Path) -> Recording:
    """Read a recording.

    Raises:
        CeliumError: it is of another runtime than the one this code was written for.
    """
    vectors = json.loads(path.read_bytes())
    network = vectors["network"]
    # An answer of the node: Option<Vec<u8>>, whose length takes four bytes at this size.
    metadata = bytes.fromhex(vectors["metadata"]["v15_hex"].removeprefix("0x"))[5:]
    if network["spec_version"] != SPEC_VERSION or not metadata.startswith(_MAGIC):
        raise CeliumError(
            f"{path} is of runtime {network['spec_version']}, the simulated chain is made for {SPEC_VERSION}",
            remedy=f"delete {path}: `celium-ops lab up` fetches the right one",
            code="wrong-runtime",
        )
    return Recording(metadata, SPEC_VERSION, network["transaction_version"], vectors)


def _fetch() -> bytes:
    """Return the recording out of the source package, which pip fetches from wherever this machine gets packages."""
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"bittensor=={SDK_VERSION} --hash=sha256:{_PACKAGE_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
        options = ["--no-binary=bittensor", "--require-hashes", f"--requirement={wanted}", f"--dest={folder}"]
        done = run([*pip, *options], check=False)
        if done.returncode:
            said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            raise CeliumError(
                f"the source package of bittensor {SDK_VERSION} cannot be fetched: {' | '.join(said[-3:])}",
                remedy="check that pip reaches the Python package index",
                code="no-metadata",
            )
        with tarfile.open(Path(folder) / f"bittensor-{SDK_VERSION}.tar.gz") as archive:
            member = archive.extractfile(f"bittensor-{SDK_VERSION}/{_RECORDING}")
            return member.read() if member else b""
