"""The lab's ssh: one key that opens its hosts, and their host keys, known before the first connection."""

from __future__ import annotations

import shlex
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from celium_ops.base.files import write_atomic
from celium_ops.lab.layout import USER, Files
from celium_ops.lab.process import run

_writing = threading.Lock()


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key in OpenSSH's text formats."""

    private: str
    public: str


def new_key(comment: str) -> KeyPair:
    """Return a new key without a passphrase."""
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as folder:
        path = Path(folder) / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
        return KeyPair(path.read_text(), path.with_suffix(".pub").read_text())


def ensure_key(files: Files, comment: str) -> str:
    """Return the public half of the lab's key, made when it is missing."""
    public = files.key.with_suffix(".pub")
    if not (files.key.exists() and public.exists()):
        pair = new_key(comment)
        write_atomic(public, pair.public)
        write_atomic(files.key, pair.private, 0o600)
    return public.read_text().strip()


def known_keys(files: Files) -> dict[str, str]:
    """Return the host key by address."""
    if not files.known_hosts.exists():
        return {}
    lines = (line.split(maxsplit=1) for line in files.known_hosts.read_text().splitlines() if line.strip())
    return {address: key.strip() for address, key in lines}


def remember_key(files: Files, address: str, public: str) -> None:
    """Record the host key of an address, in place of one that was there."""
    key = " ".join(public.split()[:2])
    with _writing:
        known = known_keys(files)
        if known.get(address) != key:
            known[address] = key
            write_atomic(files.known_hosts, "".join(f"{name} {known[name]}\n" for name in sorted(known)))


def options(files: Files) -> list[str]:
    """Return the ssh options for the lab: its own host keys only, checked strictly.

    curve25519 goes first: the default key exchange costs seven times as much time per connection.
    """
    # ssh takes a space for the end of a file name, unless there are quotes.
    path = f'"{files.known_hosts}"' if " " in str(files.known_hosts) else str(files.known_hosts)
    settings = (f"UserKnownHostsFile={path}", "StrictHostKeyChecking=yes", "KexAlgorithms=^curve25519-sha256")
    return [part for setting in settings for part in ("-o", setting)]


def options_text(files: Files) -> str:
    """Return the options as the one string that ``ansible_ssh_common_args`` is."""
    return shlex.join(options(files))


def answers(files: Files, address: str) -> str | None:
    """Log in and become root, the way Ansible will; return None when that works, else what ssh said."""
    batch = ["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"]
    target = ["-i", str(files.key), *options(files), f"{USER}@{address}", "sudo -n true"]
    done = run(["ssh", *batch, *target], check=False, timeout=15)
    return done.stderr.decode(errors="replace").strip() or "no answer" if done.returncode else None
