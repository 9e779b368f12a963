"""The hosts of a lab: containers that boot systemd, with an identity of their own."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.lab import docker, machine, rootfs, ssh
from celium_ops.lab.layout import UBUNTU, USER, Files, Host
from celium_ops.lab.rootfs import Report

BOOT_SECONDS = 120
GONE = ("absent", "dead", "removing")
"""States of a container that only a new one follows."""
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "ca-certificates", "curl", "gpg"),
    *("iproute2", "iptables", "kmod", "procps", "python3", "python3-apt"),
)
_KEEPERS = {UBUNTU: ("chrony",)}
"""What keeps the clock: Ubuntu's machines come with something, Debian's minimal ones do not."""
_FILES = {
    "/etc/default/locale": "LANG=C.UTF-8\n",
    # Debian's chrony does not start where it may not set the clock; here it may not, and does not try (see _FINISH).
    "/etc/systemd/system/chrony.service.d/celium-lab.conf": "[Unit]\nConditionCapability=\n",
    f"/etc/sudoers.d/90-{USER}": f"{USER} ALL=(ALL) NOPASSWD:ALL\n",
    "/etc/ssh/sshd_config.d/10-celium-lab.conf": "\n".join(
        (
            "# A lab host: one user, by key only.",
            "PermitRootLogin no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            f"AllowUsers {USER}",
            "",
        )
    ),
}
# Debian and Ubuntu already have a group "operator". The timers would hold apt's lock at a time nobody chose, or write
# files at midnight that no deploy brought; sshd-keygen would add host keys that the controller has not seen. The clock
# is this machine's: with -x chrony never sets it, for which hosts lack the capability, too. An installation keeps the
# file that it finds.
_FINISH = f"""
echo 'DAEMON_OPTS="-F 1 -x"' > /etc/default/chrony
useradd --create-home --shell /bin/bash --gid operator {USER}
usermod --password '*' {USER}
install -d -m 700 -o {USER} -g operator /home/{USER}/.ssh
chmod 440 /etc/sudoers.d/90-{USER}
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \\
  motd-news.timer e2scrub_reap.service sshd-keygen.service systemd-pstore.service getty@tty1.service \\
  console-getty.service systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service
"""

# --privileged fails where the machine lacks a capability, so those that systemd and Docker need are named.
_CAPABILITIES = (
    *("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "NET_RAW", "SYSLOG", "DAC_READ_SEARCH"),
    *("SYS_NICE", "IPC_LOCK", "AUDIT_CONTROL", "AUDIT_READ"),
)


@dataclass(frozen=True)
class Identity:
    """What makes a host itself and lets us in."""

    host_key: ssh.KeyPair
    machine_id: str
    authorized_key: str


def has_image(suite: str) -> bool:
    """Tell whether the image of a suite is already here."""
    tag = rootfs.image_tag(f"host-{suite}", suite, _packages(suite), files=_FILES, finish=_FINISH)
    return docker.image_id(tag) is not None


def ensure_image(suite: str, report: Report) -> str:
    """Return the image that hosts of a suite start from, made when it is missing."""
    return rootfs.ensure_rootfs_image(f"host-{suite}", suite, _packages(suite), report, files=_FILES, finish=_FINISH)


def _packages(suite: str) -> tuple[str, ...]:
    return (*_PACKAGES, *_KEEPERS.get(suite, ()))


_DEVICES = ("/dev/net/tun", "/dev/loop-control")
"""What rentals need of a host's kernel, where this machine's has it."""


def create_arguments(host: Host, image: str) -> list[str]:
    """Return the ``docker`` arguments that create the container of a host."""
    capabilities = [f"--cap-add={name}" for name in _CAPABILITIES]
    # systempaths: without it Docker inside cannot disable IPv6 on a veth, and no nested container starts.
    unconfined = [f"--security-opt={name}=unconfined" for name in ("seccomp", "apparmor", "systempaths")]
    mark = docker.labels(host.lab.name)[0].removeprefix("--label=")
    volumes = [
        f"--mount=type=volume,source={name},target={target},volume-label={mark}"
        for name, target in host.volumes.items()
    ]
    return [
        *("create", "--name", host.container, "--hostname", host.name),
        *("--network", host.lab.network, "--ip", host.address),
        *docker.labels(host.lab.name, {f"{docker.LABEL}.host": host.name, f"{docker.LABEL}.suite": image_suite(image)}),
        *capabilities,
        *unconfined,
        *(f"--device={device}" for device in _DEVICES if Path(device).exists()),
        *("--device-cgroup-rule", "a *:* rwm", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"),
        *("--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "--env", "container=docker"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"),  # noqa: S108 -- a path inside the host
        *("--stop-signal", "SIGRTMIN+3"),
        *volumes,
        *(image, "/sbin/init"),
    ]


def image_suite(image: str) -> str:
    """Return the suite of a host image from its tag."""
    return image.partition("/host-")[2].partition(":")[0]


def identity_archive(
    identity: Identity, apt_settings: str, certificates: Mapping[str, str], uid: int, gid: int
) -> bytes:
    """Return the tar file that is unpacked over ``/`` of a host before it boots."""
    entries = [
        (_HOST_KEY, identity.host_key.private, 0o600, 0, 0),
        (f"{_HOST_KEY}.pub", identity.host_key.public, 0o644, 0, 0),
        ("/etc/machine-id", f"{identity.machine_id}\n", 0o444, 0, 0),
        (f"/home/{USER}/.ssh/authorized_keys", f"{identity.authorized_key}\n", 0o600, uid, gid),
        ("/etc/apt/apt.conf.d/99celium-lab-machine", apt_settings, 0o644, 0, 0),
        *((f"/usr/local/share/ca-certificates/{name}", text, 0o644, 0, 0) for name, text in certificates.items()),
    ]
    return _tar(entries)


def _tar(entries: list[tuple[str, str, int, int, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content, mode, uid, gid in entries:
            data = content.encode()
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = len(data), mode, uid, gid, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def ensure(host: Host, container: dict[str, Any] | None, image: str | None, files: Files, authorized: str) -> bool:
    """Bring a host up: created, with its identity, booted, and open to the lab's key.

    Args:
        host: the host.
        container: what the engine knows about its container; None when there is none.
        image: what a new container is made from; needed when its state is one of ``GONE``.
        files: the lab's files; the host key is recorded in its known hosts.
        authorized: the lab's public ssh key.

    Returns:
        Whether anything had to be done.

    Raises:
        CeliumError: it did not boot or does not let us in.
    """
    state = container["State"]["Status"] if container else "absent"
    if state == "running" and host.address in ssh.known_keys(files) and ssh.answers(files, host.address) is None:
        return False
    if state == "paused":
        docker.docker("unpause", host.container)
    if state in GONE and image:
        _create(host, image)
    _ensure_identity(host, files, authorized)
    docker.docker("start", host.container)
    _wait(host, files)
    return True


def _create(host: Host, image: str) -> None:
    docker.docker("rm", "--force", host.container, check=False)
    # Volumes without their container are the rest of another host of this name.
    left = set(docker.names("volume", host.lab.name)) & set(host.volumes)
    if left:
        docker.docker("volume", "rm", *sorted(left))
    docker.docker(*create_arguments(host, image))


def _ensure_identity(host: Host, files: Files, authorized: str) -> None:
    """Give a host its keys and machine-id once, and let the lab's key in; safe to repeat after an interruption."""
    public = _read(host, f"{_HOST_KEY}.pub")
    if public is None or _read(host, "/etc/machine-id") is None:
        identity = Identity(ssh.new_key(host.name), uuid.uuid4().hex, authorized)
        account = next(line for line in (_read(host, "/etc/passwd") or "").splitlines() if line.startswith(f"{USER}:"))
        uid, gid = (int(part) for part in account.split(":")[2:4])
        certificates = machine.own_certificates(_read(host, _BUNDLE) or "")
        # The machine's proxy, if it has one, does not reach the lab's network.
        direct = f'Acquire::http::Proxy::{host.lab.packages_ip} "DIRECT";\n'
        archive = identity_archive(identity, machine.apt_settings() + direct, certificates, uid, gid)
        docker.docker("cp", "-", f"{host.container}:/", stdin=archive)
        public = identity.host_key.public
    elif authorized not in (_read(host, f"/home/{USER}/.ssh/authorized_keys") or ""):
        account = next(line for line in (_read(host, "/etc/passwd") or "").splitlines() if line.startswith(f"{USER}:"))
        uid, gid = (int(part) for part in account.split(":")[2:4])
        entry = (f"/home/{USER}/.ssh/authorized_keys", f"{authorized}\n", 0o600, uid, gid)
        docker.docker("cp", "-", f"{host.container}:/", stdin=_tar([entry]))
    ssh.remember_key(files, host.address, public)


def _read(host: Host, path: str) -> str | None:
    """Return a file of a host, running or not; None when it is not there."""
    done = docker.docker("cp", f"{host.container}:{path}", "-", check=False)
    if done.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        stream = archive.extractfile(archive.getmembers()[0])
        return stream.read().decode() if stream else None


def _wait(host: Host, files: Files) -> None:
    """Wait until systemd has booted and sshd lets us in."""
    deadline = time.monotonic() + BOOT_SECONDS
    said: str | None = "systemd has not answered"
    remedy = f"`docker logs {host.container}` may say why; when it is removed `celium-ops lab up` makes it anew"
    while time.monotonic() < deadline:
        state = system_state(host)
        if state in {"running", "degraded"}:
            said = ssh.answers(files, host.address)
            if said is None:
                _trust_certificates(host)
                return
        else:
            said = f"systemd says: {state}"
            if ended := _ended(host):
                raise CeliumError(f"ended while it booted: {ended}", host=host.name, remedy=remedy)
        time.sleep(0.3)
    raise CeliumError(f"did not come up within {BOOT_SECONDS} s: {said}", host=host.name, remedy=remedy)


def _ended(host: Host) -> str | None:
    """Return how a host's container ended; None while it runs."""
    found = docker.inspect("container", host.container)
    if not found:
        return "somebody removed its container"
    state = found[0]["State"]
    return None if state["Running"] else f"exit {state['ExitCode']}"


def system_state(host: Host) -> str:
    """Return what systemd says about the whole system: ``running``, ``degraded``, ``starting``, or what went wrong."""
    done = docker.docker("exec", host.container, "systemctl", "is-system-running", check=False, timeout=20)
    return (done.stdout or done.stderr).decode(errors="replace").strip()


def _trust_certificates(host: Host) -> None:
    """Let the host trust the certificates that were placed in it, if it does not yet."""
    script = (
        "cd /usr/local/share/ca-certificates && for name in celium-lab-*.crt; do "
        '[ -e "$name" ] && [ ! -e "/etc/ssl/certs/${name%.crt}.pem" ] && exec update-ca-certificates; done; true'
    )
    docker.docker("exec", host.container, "sh", "-c", script)
