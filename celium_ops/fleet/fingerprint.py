"""What a host's roles are given: every value, file and role that can reach a task, as keyed digests.

Two hosts' worth of the same inputs give the same digests under the same key, and the key says nothing about the values:
so a host may keep them. They change when anything changes that a task or template could see.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from celium_ops import __version__
from celium_ops.base.paths import collection_dir
from celium_ops.fleet.model import Host

Inputs = dict[str, bytes]
"""The content of each input by its name: a key of the inventory, or what else it is in parentheses."""

_PATHS = frozenset({"celium_secrets_dir", "miner_wallet_source", "validator_wallet_source"})
"""Folders of the controller, of which only what lies in them matters: another controller has them elsewhere."""
_ASSIGNED = frozenset({"executor_validator", "executor_weight"})
"""What only the assignment and the registry of the miner hear of: the plan holds that against the registry's rows."""
_PROVER = "gpu_proof_"
"""What the image of the GPU proof is: a deploy does not bring it, so it must not vouch for it either."""
_FOLDERS = ("playbooks", "plugins", "roles", "templates")


def inputs(hosts: Iterable[Host]) -> dict[str, Inputs]:
    """Return everything that the roles of each host are given."""
    roles = _roles()
    return {host.name: _inputs(host) | {"(roles)": roles} for host in hosts}


def _inputs(host: Host) -> Inputs:
    seen = host.values | host.given
    left_out = _PATHS | _registry_only(host)
    asked = (key for key in seen.keys() - left_out if not key.startswith(_PROVER))
    values = {key: _canonical(seen[key]) for key in asked if seen[key] is not None}
    own = {"(role)": host.role.encode(), "(name)": host.name.encode(), "(celium-ops)": __version__.encode()}
    return values | dict(_files(host)) | own


def _registry_only(host: Host) -> frozenset[str]:
    """Return what no role does anything with on the host: in dialect celium the price is in its environment."""
    return _ASSIGNED | ({"executor_price"} if host.lium else set())


def seal(given: Inputs, run: str) -> dict[str, Any]:
    """Return the inputs of a run as a host may keep them: their digests under a new key."""
    key = secrets.token_hex(16)
    return {"run": run, "key": key, "digests": _digests(given, key)}


def _digests(given: Inputs, key: str) -> dict[str, str]:
    return {name: hmac.new(key.encode(), content, hashlib.sha256).hexdigest() for name, content in given.items()}


def changed(given: Inputs, sealed: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs that are not those of a seal, sorted."""
    before, now = sealed["digests"], _digests(given, sealed["key"])
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


def _files(host: Host) -> Iterator[tuple[str, bytes]]:
    """Yield what the roles read on this machine: what they copy of a wallet, passwords, keys of repositories."""
    if source := host.values.get(f"{host.role}_wallet_source"):
        wallet = Path(source).expanduser() / str(host.values.get(f"{host.role}_wallet_name"))
        hotkey = f"hotkeys/{host.values.get(f'{host.role}_wallet_hotkey')}"
        for name in (hotkey, "coldkeypub.txt"):
            yield f"(wallet: {name})", _content(wallet / name)
    folder = Path(host.values["celium_secrets_dir"]).expanduser() / host.name
    for file in sorted(folder.glob("*")):
        yield f"(password: {file.name})", _content(file)
    for key in ("nvidia_docker_key", "nvidia_docker_toolkit_key", "nvidia_docker_driver_key"):
        if "://" not in (name := str(host.values.get(key) or "://")):
            yield f"(file: {key})", _content(Path(name).expanduser())


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b"(not there)"


def _roles() -> bytes:
    """Return a digest of all that Ansible may play."""
    found, top = hashlib.sha256(), collection_dir()
    for file in sorted(path for folder in _FOLDERS for path in (top / folder).rglob("*")):
        name = file.relative_to(top)
        if file.suffix != ".md" and not {"molecule", "__pycache__"} & {*name.parts} and file.is_file():
            found.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest().encode()
