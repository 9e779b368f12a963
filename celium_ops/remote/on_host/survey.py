"""What preflight wants to know of a host, in one go. It only reads, and leaves nothing.

It is fed to ``python3`` on the host, with the standard library and what the controller sends along: ``probe`` and
``networks``, which our Ansible plugins use, and for hosts with GPUs NVML's bindings and two files of the prover. It
prints one JSON object.
What cannot be read is null, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import miner_log
import probe
import tenancy
from networks import hidden
from probe import docker as docker_says
from probe import listed

Facts = dict[str, Any]

_QUICK = 8
_DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
_DAEMON = Path("/etc/docker/daemon.json")
_MOUNTS = Path("/proc/mounts")
_RUNTIME = Path("/etc/nvidia-container-runtime/config.toml")
_NVML = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/libnvidia-ml.so.1")
_MODULE = Path("/sys/module/nvidia/version")
_DAEMON_KEYS = ("features", "hosts", "log-driver", "log-opts")
_LISTENING = "0A"
_PACKAGE_FORM = "${binary:Package}\t${Version}\t${db:Status-Want}\t${db:Status-Status}\n"


def _said(*command: str) -> str:
    """Return what a program prints; nothing where it is not there or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_QUICK, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def system(_asked: Facts) -> Facts:
    """Return what machine it is, and what its kernel offers."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    memory = dict(line.partition(":")[::2] for line in Path("/proc/meminfo").read_text().splitlines())
    preload = Path("/etc/ld.so.preload")
    return {
        "id": release.get("ID", "").strip('"'),
        "version": release.get("VERSION_ID", "").strip('"'),
        "kernel": os.uname().release,
        "arch": os.uname().machine,
        "cpus": os.cpu_count(),
        "available_mib": int(memory["MemAvailable"].split()[0]) // 1024,
        "reboot_required": Path("/var/run/reboot-required").exists(),
        "preload": preload.exists() and bool(preload.read_text().strip()),
        "tun": Path("/dev/net/tun").exists(),
        "loop": Path("/dev/loop-control").exists(),
    }


def docker(_asked: Facts) -> Facts:
    """Return what the engine is like, and the disk that it has."""
    info = docker_says("/info")
    # Docker 29 on a new host keeps images and containers with containerd.
    apart = any("io.containerd.snapshotter" in str(value) for value in info.get("DriverStatus") or ())
    root = "/var/lib/containerd" if apart else info["DockerRootDir"]
    mounts = (line.split()[1:4] for line in _MOUNTS.read_text().splitlines())
    # Of several on one folder the last is seen.
    _, filesystem, options = sorted((mount for mount in mounts if _below(root, mount[0])), key=lambda one: len(one[0]))[
        -1
    ]
    usage = shutil.disk_usage(root)
    return {
        "version": info["ServerVersion"],
        "cgroup_driver": info["CgroupDriver"],
        "runtimes": sorted(info.get("Runtimes") or {}),
        "live_restore": info["LiveRestoreEnabled"],
        "root": root,
        "filesystem": filesystem,
        "driver": info["Driver"],
        "containerd": apart,
        "options": options.split(","),
        "disk_gb": usage.total / 1e9,
        "free_gb": usage.free / 1e9,
    }


def _below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(folder.rstrip("/") + "/")


def containers(_asked: Facts) -> list[Facts]:
    """Return all containers, with what they publish and whether they hold the engine's socket."""
    return [
        {
            "name": (tenancy.names(entry) or [""])[0],
            "image": entry["Image"],
            "state": entry["State"],
            "project": (tenancy.own(entry) or (None,))[0],
            "socket": any(mount.get("Source") in _DOCKER_SOCKETS for mount in entry.get("Mounts", ())),
            "published": [
                {"address": port["IP"], "port": port["PublicPort"], "private": port["PrivatePort"]}
                for port in entry.get("Ports", ())
                if port.get("PublicPort") and port.get("Type") == "tcp"
            ],
        }
        for entry in listed()
    ]


def tenants(_asked: Facts) -> dict[str, list[str]]:
    """Return which containers tenants have, had, or may have."""
    return dict(tenancy.tenancy(listed()))


def stack(asked: Facts) -> Facts:
    """Return the state of our containers, and of a miner the message of its log that it cannot use the chain."""
    shown = ("name", "service", "state", "health", "complaint")
    own = [{key: one[key] for key in shown} for one in probe.containers({})]
    names = {one["name"] for one in own}
    logged = asked["role"] == "miner" and miner_log.CONTAINER in names
    return {"containers": own, "chain": miner_log.chain_trouble() if logged else None}


def images(_asked: Facts) -> list[str]:
    """Return the names by which the engine knows images, with their digests and with their tags."""
    return sorted(
        name
        for image in docker_says("/images/json")
        for name in (*(image.get("RepoDigests") or ()), *(image.get("RepoTags") or ()))
        if "<none>" not in name
    )


def named(asked: Facts) -> Facts | None:
    """Return which image the executor's is, and which one the validators' name for it stands for; null for none."""
    return {key: _image(name) for key, name in asked["named"].items()} if asked["named"] else None


def _image(name: str) -> str | None:
    try:
        return str(docker_says(f"/images/{name}/json")["Id"])
    except ValueError:  # there is no such image
        return None


def configuration(_asked: Facts) -> Facts:
    """Return what the engine's file and the NVIDIA runtime's are, and what matters of them."""
    cdi = [file for folder in ("/etc/cdi", "/var/run/cdi") for file in Path(folder).glob("*")]
    return {"daemon": _daemon(), "runtime": _runtime(), "cdi": sorted(map(str, cdi))}


def _daemon() -> Facts:
    if not _DAEMON.is_file():
        return {"kind": "directory" if _DAEMON.is_dir() else "missing"}
    try:
        content = json.loads(_DAEMON.read_text() or "{}")
    except ValueError as error:
        return {"kind": "invalid", "error": str(error)}
    return {"kind": "file", **{key: content[key] for key in _DAEMON_KEYS if key in content}}


def _runtime() -> Facts:
    if not _RUNTIME.is_file():
        return {"kind": "directory" if _RUNTIME.is_dir() else "missing"}
    said = re.search(r"^[^#\n]*no-cgroups\"?\s*=\s*(\w+)", _RUNTIME.read_text(), re.MULTILINE)
    return {"kind": "file", "no_cgroups": said is not None and said[1] == "true"}


def networks(_asked: Facts) -> Facts:
    """Return which of Docker's networks, and which pools in its file, hide something that the host has a route to."""
    routes = json.loads(_said("ip", "-json", "-4", "route", "show") or "null")
    if routes is None:
        raise OSError("ip route says nothing")
    # Others, as macvlan, lie in the host's own network on purpose.
    present = [one for one in docker_says("/networks") if one["Driver"] == "bridge"]
    bridges = [(one.get("Options") or {}).get("com.docker.network.bridge.name", "") for one in present]
    subnets = [
        (one["Name"], config["Subnet"])
        for one in present
        for config in one["IPAM"].get("Config") or ()
        if ":" not in config.get("Subnet", ":")
    ]
    file = _daemon_file()
    pools = [pool["base"] for pool in file.get("default-address-pools") or () if ":" not in pool["base"]]
    pools += [file["bip"]] if file.get("bip") else []
    seen = [{"name": name, "subnet": subnet, "hides": hidden(subnet, routes, bridges)} for name, subnet in subnets]
    asked_for = [{"base": base, "hides": hidden(base, routes, bridges)} for base in pools]
    return {"networks": seen, "pools": asked_for}


def _daemon_file() -> Facts:
    """Return Docker's file; nothing where it cannot be read, which another part says."""
    try:
        content = json.loads(_DAEMON.read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def listeners(_asked: Facts) -> list[Facts]:
    """Return the TCP ports that somebody listens on, and which program that is."""
    owners = dict(_sockets())
    found = []
    for table in filter(Path.exists, map(Path, ("/proc/net/tcp", "/proc/net/tcp6"))):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                port = int(fields[1].rpartition(":")[2], 16)
                found.append({"port": port, "program": owners.get(f"socket:[{fields[9]}]")})
    return found


def _sockets() -> Iterator[tuple[str, str]]:
    """Yield each open socket with the name of a program that has it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            for link in (process / "fd").iterdir():
                target = str(link.readlink()) if hasattr(link, "readlink") else ""
                if target.startswith("socket:"):
                    yield target, name
        except OSError:  # it has just ended
            continue


def packages(asked: Facts) -> Facts:
    """Return the packages that GPUs and containers hang on, and what changes them unasked."""
    said = _said("dpkg-query", "-W", "-f", _PACKAGE_FORM, *asked["packages"])
    if "linux-modules-nvidia-" in said:
        said += _said("dpkg-query", "-W", "-f", _PACKAGE_FORM, *asked["kernel_packages"])
    rows = [line.split("\t") for line in said.splitlines()]
    programs = {"runc": ("runc", "--version"), "toolkit": ("nvidia-ctk", "--version")}
    versions = {name: re.search(r"version:? v?(\d[^\s]*)", _said(*command)) for name, command in programs.items()}
    return {
        "installed": {row[0]: {"version": row[1], "held": row[2] == "hold"} for row in rows if row[3] == "installed"},
        "versions": {name: found[1] for name, found in versions.items() if found},
        "unattended": '"1"' in _said("apt-config", "dump", "APT::Periodic::Unattended-Upgrade"),
    }


def keys(asked: Facts) -> list[Facts]:
    """Return the files of wallets and environments with their modes; never their contents."""
    folders = {Path(asked["wallets"]), Path("/root/.bittensor/wallets"), *Path("/home").glob("*/.bittensor/wallets")}
    wallets = [file for folder in folders for form in ("*/*", "*/hotkeys/*") for file in folder.glob(form)]
    return [
        {"path": str(file), "mode": stat.S_IMODE(file.stat().st_mode)}
        for file in sorted([*wallets, *Path(asked["stack"]).glob("*.env")])
        if file.is_file()
    ]


def gpus(asked: Facts) -> Facts | None:
    """Return NVML's view of the cards, the kernel's and the bus's; null where none are to be looked for."""
    if not asked["gpus"]:
        return None
    import pynvml  # they came with us

    from celium_ops.gpu import nvml, views

    said, error = None, None
    try:
        pynvml.nvmlInit()
        said = nvml.read(pynvml)
    except pynvml.NVMLError as wrong:
        error = str(wrong)
    shown = {"kernel": views.kernel_view(), "bus": views.bus_view(), "driver": _driver()}
    return {"nvml": said, "nvml_error": error, **shown}


def _driver() -> Facts:
    """Return the version of the driver's library, of the module that the kernel runs, and whether nouveau runs."""
    library = re.search(r"\.so\.(\d+\.[\d.]+)$", os.path.realpath(_NVML))
    return {
        "library": library[1] if library else None,
        "module": _MODULE.read_text().strip() if _MODULE.exists() else None,
        "nouveau": Path("/sys/module/nouveau").exists(),
    }


def clock(asked: Facts) -> Facts:
    """Return the time, and whether something keeps it right; null where nobody can tell."""
    said = _said("timedatectl", "show", "-p", "NTPSynchronized", "--value").strip()
    states = _said("systemctl", "is-active", *asked["keepers"]).split()
    active = [unit for unit, state in zip(asked["keepers"], states, strict=False) if state == "active"]
    keeper = active[0].rpartition(".")[0] if active else None
    return {"synchronised": said == "yes" if said else None, "keeper": keeper, "now": time.time()}


# The clock is read last, so that little lies between it and the answer.
PARTS = (
    system,
    docker,
    containers,
    tenants,
    stack,
    images,
    named,
    configuration,
    networks,
    listeners,
    packages,
    keys,
    gpus,
    clock,
)


def survey(asked: Facts) -> Facts:
    """Return what this host shows."""
    seen: Facts = {"errors": {}}
    for part in PARTS:
        try:
            seen[part.__name__] = part(asked)
        except Exception as error:  # what cannot be read shall not hide the rest
            seen[part.__name__] = None
            seen["errors"][part.__name__] = f"{type(error).__name__}: {error}"
    return seen


if __name__ == "__main__":
    json.dump(survey(json.loads(sys.argv[1])), sys.stdout)
