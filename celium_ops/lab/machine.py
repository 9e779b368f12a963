"""The machine the lab lives on: its packages, its Docker engine, its disk, and how it reaches the world."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from celium_ops.base.errors import CeliumError
from celium_ops.base.paths import cache_dir
from celium_ops.lab import docker
from celium_ops.lab.process import run

Report = Callable[[str], None]

NEEDED_DISK_GB = 15
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES_PER_HOST = 12
"""Of inotify, with some to spare: counted are 7 of systemd, dbus and logind, and 3 of Docker (2026-11-23)."""
_OTHER_INSTANCES = 64
_PROGRAMS = {"docker": "docker.io", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
_ENGINE_SECONDS = 60
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Engine:
    """How a Docker engine is started where no init does it, and what it leaves behind when it is killed.

    Attributes:
        pid_file: its pid; an engine does not start while the file names a living process, whatever that is now.
        containerd_pid_file: the pid of the containerd it started, which outlives it.
        options: more options for ``dockerd``.
    """

    pid_file: Path = Path("/var/run/docker.pid")
    containerd_pid_file: Path = Path("/var/run/docker/containerd/containerd.pid")
    options: tuple[str, ...] = ()


def ensure_engine(report: Report) -> None:
    """Make sure that the machine has what the lab needs and a Docker engine that answers; start one if need be.

    Raises:
        CeliumError: something is missing and cannot be installed, or the engine does not start.
    """
    ensure_packages(_PROGRAMS, report)
    with contextlib.suppress(CeliumError):
        docker.prefix()
        return
    require_root("to use Docker")
    ensure_packages({"dockerd": "docker.io", "iptables": "iptables"}, report)
    report("starting the Docker engine")
    log = cache_dir() / "lab" / "dockerd.log"
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], root=True)
    else:
        spawn_engine(Engine(), log)
    deadline = time.monotonic() + _ENGINE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(CeliumError):
            docker.prefix()
            return
        time.sleep(0.5)
    raise CeliumError(
        f"the Docker engine does not answer {_ENGINE_SECONDS} s after its start",
        remedy=f"read {log}, or `journalctl -u docker` where systemd runs",
        code="no-docker",
    )


def wake_engine(report: Report) -> bool:
    """Make an engine that is installed answer, as what a stopped one keeps can be neither seen nor removed.

    Returns:
        whether there is one; where none is installed there is nothing of a lab's in it.

    Raises:
        CeliumError: it does not start.
    """
    with contextlib.suppress(CeliumError):
        docker.prefix()
        return True
    if not _is_there("dockerd"):
        return False
    ensure_engine(report)
    return True


def spawn_engine(engine: Engine, log: Path) -> None:
    """Start ``dockerd`` so that it outlives us and holds none of our files."""
    for pid_file, name in ((engine.pid_file, "dockerd"), (engine.containerd_pid_file, "containerd")):
        _clear_pid_file(pid_file, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    script = 'exec dockerd "$@" >>"$0" 2>&1 </dev/null'
    run(["setsid", "--fork", "sh", "-c", script, str(log), *engine.options], root=True)


def _clear_pid_file(pid_file: Path, name: str) -> None:
    """Remove the pid file of an engine that does not answer, after ending the process if it is still that program."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        if _program(pid) == name:
            run(["kill", f"-{number.value}", str(pid)], root=True, check=False)
        while _program(pid) == name and time.monotonic() < deadline:
            time.sleep(0.1)
    run(["rm", "-f", str(pid_file)], root=True)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def check_disk() -> None:
    """Make sure that there is room for images and hosts.

    Raises:
        CeliumError: the disk of Docker's data or of our cache is too full.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    root = Path(docker.text("info", "--format", "{{.DockerRootDir}}"))
    # Docker's folder is closed to ordinary users; its nearest visible parent is on the same disk or is all we can ask.
    while not os.access(root, os.X_OK):
        root = root.parent
    for place in (root, cache):
        free = shutil.disk_usage(place).free / 1e9
        if free < NEEDED_DISK_GB:
            raise CeliumError(
                f"{place} has {free:.1f} GB free, the lab needs {NEEDED_DISK_GB}",
                remedy="make room (`docker system df` shows what Docker holds), or set XDG_CACHE_HOME to a larger disk",
                code="disk-full",
            )


def ensure_inotify(hosts: int, report: Report) -> None:
    """Make sure that so many systemds can run at once: all of root's share one limit, and without it end silently.

    The limit is raised until the machine's next start, and only where it is too small.

    Raises:
        CeliumError: it may not be raised.
    """
    limit, needed = int(INOTIFY_INSTANCES.read_text()), _OTHER_INSTANCES + _INSTANCES_PER_HOST * hosts
    if limit >= needed:
        return
    require_root(f"to raise fs.inotify.max_user_instances from {limit} for {hosts} hosts")
    more = max(1024, needed)
    report(f"raising fs.inotify.max_user_instances from {limit} to {more} until the machine's next start")
    if run(["tee", str(INOTIFY_INSTANCES)], stdin=f"{more}\n".encode(), check=False, root=True).returncode:
        raise CeliumError(
            f"fs.inotify.max_user_instances is {limit}: too little for {hosts} hosts, and it cannot be raised here",
            remedy=f"`sysctl -w fs.inotify.max_user_instances={more}` where this machine's kernel is set",
        )


@functools.cache
def architecture() -> str:
    """Return the machine's architecture as Debian calls it, ``amd64`` for one."""
    return run(["dpkg", "--print-architecture"]).stdout.decode().strip()


_APT = threading.Lock()


def ensure_packages(things: Mapping[str, str], report: Report | None = None) -> None:
    """Install the packages whose program (or file, when it is a path) is missing.

    Args:
        things: the package by the program or absolute path that it brings.
        report: told what is installed.

    Raises:
        CeliumError: apt failed, or is not what this machine uses.
    """
    # Host images are made in parallel, and apt refuses a second `apt-get update` at the same time.
    with _APT:
        _install_missing(things, report)


def _install_missing(things: Mapping[str, str], report: Report | None) -> None:
    missing = sorted({package for thing, package in things.items() if not _is_there(thing)})
    if not missing:
        return
    if not _is_there("apt-get"):
        raise CeliumError(
            f"these packages are missing: {', '.join(missing)}",
            remedy="the lab installs them on Debian and Ubuntu; install them by hand here",
        )
    require_root(f"to install {', '.join(missing)}")
    if report:
        report(f"installing {', '.join(missing)}")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"], root=True)
    run([*apt, "install", "-y", "--no-install-recommends", *missing], root=True)


def require_root(why: str) -> None:
    """Make sure that programs can be run as root.

    Raises:
        CeliumError: we are neither root nor may use sudo without a password.
    """
    if os.geteuid() == 0:
        return
    allowed = shutil.which("sudo") and run(["sudo", "-n", "true"], check=False, timeout=20).returncode == 0
    if not allowed:
        raise CeliumError(
            f"root is needed {why}",
            remedy="run `sudo -v` first, or run `celium-ops lab up` as root",
            code="no-root",
        )


def _is_there(thing: str) -> bool:
    if thing.startswith("/"):
        return Path(thing).exists()
    # An ordinary user's PATH lacks sbin, where debootstrap and iptables live.
    return shutil.which(thing, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])) is not None


_REACH = re.compile(r'^(Acquire::(?:https?::Proxy\S*|Check-Valid-Until|Check-Date|Retries)) "(.*)";$')


@functools.cache
def apt_settings() -> str:
    """Return the machine's apt settings that decide whether an archive can be used: proxies and date checks.

    A system made here needs them as the machine does: behind the same proxy, under the same clock.
    A proxy on the loopback address is left out, as it would be another one inside a host.
    """
    lines = []
    for line in run(["apt-config", "dump"]).stdout.decode().splitlines():
        found = _REACH.match(line)
        if found and urlsplit(found[2]).hostname not in {"localhost", "127.0.0.1", "::1"}:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n?", re.DOTALL)


@functools.cache
def own_certificates(distribution_bundle: str) -> dict[str, str]:
    """Return the certificates this machine trusts beyond what distributions ship, by file name.

    They matter behind a proxy that opens TLS. The machine says so by ``$SSL_CERT_FILE`` or ``$PIP_CERT``.

    Args:
        distribution_bundle: the certificates that are trusted anyway, as PEM text.
    """
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    if not named or not Path(named).is_file():
        return {}
    known = set(_certificates(distribution_bundle))
    for path in Path("/usr/share/ca-certificates").rglob("*.crt"):
        known.update(_certificates(path.read_text(errors="replace")))
    own = [text for text in _certificates(Path(named).read_text(errors="replace")) if text not in known]
    return {f"celium-lab-{number}.crt": f"{text}\n" for number, text in enumerate(dict.fromkeys(own), start=1)}


def _certificates(bundle: str) -> list[str]:
    return [text.strip() for text in _PEM.findall(bundle.replace("\r\n", "\n"))]
