"""The host keys of hosts: which are known, which are shown, and how a new one is recorded. All of it by OpenSSH."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.base.processes import bound
from celium_ops.remote.openssh import Options
from celium_ops.remote.ssh import ssh_options, why

DEADLINE = 20.0
"""Seconds a host gets to show its key."""


@dataclass(frozen=True)
class HostKey:
    """A host's public key, as OpenSSH writes it: the type, and the key in base64."""

    type: str
    text: str

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint that ssh-keygen -l shows."""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def to_json(self) -> dict[str, str]:
        """Return the key as programs get it: type and fingerprint."""
        return {"type": self.type, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class KnownKeys:
    """What the known_hosts files say about one host; a revoked key is refused whatever else they say."""

    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()


def known_keys(options: Options) -> KnownKeys:
    """Return the keys that OpenSSH knows for a connection, from the user's files and the machine's."""
    keys: list[HostKey] = []
    revoked: list[HostKey] = []
    for file in [*options.files("userknownhostsfile"), *options.files("globalknownhostsfile")]:
        for line in _lines(file, options.host_key_name):
            marker, *fields = line.split() if line.startswith("@") else ("", *line.split())
            if len(fields) >= 3 and marker != "@cert-authority":
                (revoked if marker == "@revoked" else keys).append(HostKey(*fields[1:3]))
    return KnownKeys(tuple(keys), tuple(revoked))


def _lines(file: Path, name: str) -> list[str]:
    """Return the lines of a known_hosts file about a host; ssh-keygen knows about hashes and patterns."""
    if not file.is_file():
        return []
    command = ["ssh-keygen", "-F", name, "-f", str(file)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]


def known_hosts_file(options: Options) -> Path:
    """Return the file in which a new key of a host belongs: the first that OpenSSH would ask.

    Raises:
        CeliumError: the connection's options let OpenSSH forget host keys.
    """
    files = options.files("userknownhostsfile")
    if not files or files[0] == Path("/dev/null"):
        raise CeliumError(
            "the connection's options keep no host keys (UserKnownHostsFile)",
            remedy="let UserKnownHostsFile in ansible_ssh_common_args name a file",
            code="ssh-option",
        )
    return files[0]


@dataclass(frozen=True)
class ShownKey:
    """The key a host proved to have, with the line that a known_hosts file holds it by."""

    key: HostKey
    line: str


def shown_key(options: Options, known: Iterable[HostKey]) -> ShownKey:
    """Connect as any of our connections does, through jump hosts too, and return the key that the host proves to have.

    No login is tried. A key of a type that is known is asked for first, as OpenSSH does.

    Raises:
        CeliumError: the host cannot be reached, or a jump host on the way is not trusted itself.
    """
    with tempfile.TemporaryDirectory(prefix="celium-ops-") as folder:
        file = Path(folder) / "known_hosts"
        settings = {
            "UserKnownHostsFile": f'"{file}"',
            "GlobalKnownHostsFile": "/dev/null",
            "KnownHostsCommand": "none",
            "StrictHostKeyChecking": "accept-new",
            "HostKeyAlgorithms": ",".join(_known_first(options.get("hostkeyalgorithms").split(","), known)),
            "HashKnownHosts": "no",
            "UpdateHostKeys": "no",
            "PreferredAuthentications": "none",
            "ControlPath": "none",
            "ConnectTimeout": f"{DEADLINE:.0f}",  # the jump hosts' time is in it
        }
        arguments = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        connection = options.connection
        command = ["ssh", "-T", *arguments, *ssh_options(connection), "--", connection.address, "true"]
        reason = f"no answer in {DEADLINE:g} s"
        try:
            # A session of its own: a jump host's question would find the terminal otherwise.
            done = subprocess.run(
                bound(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
                check=False,
                start_new_session=True,
            )
            reason = why(done.stderr.decode(errors="replace")) or f"ssh ended with {done.returncode} and said nothing"
        except subprocess.TimeoutExpired:
            pass
        lines = file.read_text().splitlines() if file.exists() else []
    if not lines:
        raise CeliumError(reason, code="unreachable")
    return ShownKey(HostKey(*lines[0].split()[1:3]), lines[0])


def _known_first(algorithms: list[str], known: Iterable[HostKey]) -> list[str]:
    types = {key.type for key in known}
    return sorted(algorithms, key=lambda name: key_type(name) not in types)


def key_type(algorithm: str) -> str:
    """Return the type of the keys that a host key algorithm works with; pure."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def record(file: Path, lines: Iterable[str], forget: Iterable[str]) -> None:
    """Add lines to a known_hosts file, all in one step, after removing what it says about the hosts of ``forget``.

    Raises:
        CeliumError: the file cannot be written.
    """
    try:
        # A link is kept: what it points to is replaced.
        file = file.resolve()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="celium-ops-") as folder:
            copy = Path(folder) / "known_hosts"
            if file.exists():
                shutil.copyfile(file, copy)
            else:
                copy.touch()
            for name in forget:
                subprocess.run(["ssh-keygen", "-R", name, "-f", str(copy)], capture_output=True, check=True)
            text = copy.read_text()
        text += "\n" if text and not text.endswith("\n") else ""
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        write_atomic(file, text + "".join(f"{line}\n" for line in lines), mode)
    except OSError as error:
        raise CeliumError(f"cannot write {file}: {error.strerror}", file=str(file), code="known-hosts") from error
