"""What is looked at on a host before it is trusted, and what is wrong with it. Pure.

A host's facts are what ``remote/on_host/survey.py`` prints, and beside that ``drift_s`` (seconds that its clock is
ahead of ours), ``tried_from`` (the host from which its ports were tried, null for here), ``services`` (which ports of
its own were reached), ``ways`` (which of the tried renting ports were reached, as programs of the host have them and as
containers do), ``sysbox`` (what came of the validators' own commands, null where sysbox is not wanted) and ``rates``
(Mbit/s between here and it). What could not be read is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celium_ops.base.checks import Check, Status
from celium_ops.fleet.contract import validators_image
from celium_ops.fleet.model import Host
from celium_ops.fleet.remedies import (
    GPUS_LOST_REMEDY,
    NO_CHAIN,
    NO_CHAIN_REMEDY,
    NO_EVM,
    NO_EVM_REMEDY,
    NOT_REGISTERED,
    NOT_REGISTERED_REMEDY,
    UNHEALTHY_REMEDY,
)

Facts = Mapping[str, Any]
Checks = Iterator[Check]

SUPPORTED = {"ubuntu": ("22.04", "24.04"), "debian": ("12", "13")}
KERNEL = (5, 19)
"""Upstream's executor wants it (README of 2026-09); 6 is better."""
ENGINE = (25,)
MEMORY_MIB = {"miner": 2_048, "executor": 8_192, "validator": 4_096}
CORES = {"validator": 4}
"""What upstream asks for (README of the validator, 2025-08); of miners and executors it names no number."""
FREE_GB = {"miner": 10, "executor": 20, "validator": 20}
DISK_FOR_VRAM = 1.5
"""Disk for each byte of the cards' memory: what renters bring is about as large as what they load."""
FREE_FOR_TENANTS_GB = 5
"""Upstream's own reserve (pull request 1148, 2026-07): below it a host goes inactive in the middle of a rental."""
QUOTAS = {"prjquota", "pquota"}
"""How a kernel says that XFS holds projects to their limits; ``pqnoenforce`` is that it only counts."""
OWN_LIMITS = ("btrfs", "zfs")
"""Storage drivers of Docker that limit a container by themselves; overlay2 needs XFS with project quotas."""
OWN_DISK = "a new host gets an empty disk of its own by nvidia_docker_disk: docs/disk.md"
DRIFT_WARN_S, DRIFT_FAIL_S = 2.0, 10.0
"""Upstream refuses signatures that are 10 s off."""
CDI_TOOLKIT = (1, 18)
"""From here on the toolkit hands cards over in a way that a reload of systemd does not undo."""
CDI_ENGINE = (29, 2)
"""From here on Docker prefers CDI, which sysbox cannot do."""
OLD_WATCHTOWER_ENGINE = (29,)
SAFE_TOOLKIT = (1, 17, 8)
"""Escapes of 2025: CVE-2025-23266 and -23267, NVIDIA's bulletin of 2025-07."""
SAFE_RUNC = {(1, 2): (1, 2, 8), (1, 3): (1, 3, 3)}
"""Escapes of 2025: CVE-2025-31133, -52565 and -52881, runc's advisories of 2025-11. Newer branches never had them."""
DATABASES = {5432: "Postgres", 6379: "Redis"}
DOWN_MBIT_S = {"2025-12": (50, None), "2026-09": (100, "VERIFYX_FAILED_NETWORK_SPEED_TOO_SLOW")}
"""What validators want an executor to get from the internet, and their reason code, by the edition of their rules.

From upstream's VerifyX check: in 2025-12 it is noted and refuses nobody, in 2026-09 a moving average has to reach it.
There is no least rate for what an executor gives, and in 2025-08 none at all.
"""
_WANTED = "nvidia_docker_driver_version"
_LOCAL = ("127.0.0.1", "::1")
_OPEN_ENGINE = (2375, 2376)


def checks(host: Host, facts: Facts) -> list[Check]:
    """Return everything that was looked at on a host, in the order in which to read it."""
    found: list[Check] = []
    for part, look in _PARTS:
        if part in facts["errors"]:
            found.append(_unread(part, facts))
        elif facts.get(part) is not None:
            found += look(host, facts)
    if host.without_evm:
        found.append(Check("miner.collateral", "warn", NO_EVM, remedy=NO_EVM_REMEDY))
    return found


def _unread(part: str, facts: Facts) -> Check:
    error = facts["errors"][part]
    if part != "docker":
        return Check("docker.images" if part == "images" else f"host.{part}", "unknown", f"could not be read: {error}")
    installed = (facts.get("packages") or {"installed": {}})["installed"].keys() & {"docker-ce", "docker.io"}
    if installed:
        return Check("docker.engine", "fail", f"Docker does not answer: {error}", remedy="systemctl status docker")
    return Check("docker.engine", "warn", "there is no Docker yet", remedy="celium-ops deploy brings it")


def _is(id_: str, well: bool, message: str, remedy: str, bad: Status = "fail", code: str | None = None) -> Check:
    return Check(id_, "pass", message) if well else Check(id_, bad, message, remedy=remedy, code=code)


def _system(host: Host, facts: Facts) -> Checks:
    system = facts["system"]
    known = system["version"] in SUPPORTED.get(system["id"], ())
    name = f"{system['id']} {system['version']} on {system['arch']}"
    yield _is(
        "host.system",
        known and system["arch"] == "x86_64",
        name,
        "Ubuntu 22.04 or 24.04, or Debian 12 or 13, on x86_64",
    )
    cores, wanted = system["cpus"], CORES.get(host.role, 1)
    yield _is("host.cpu", cores >= wanted, f"{cores} cores", f"upstream asks for {wanted}", "warn")
    have, need = system["available_mib"], MEMORY_MIB[host.role]
    yield _is("host.memory", have >= need, f"{have} MiB are free", f"{need} MiB are needed", "warn")
    yield _is(
        "host.reboot",
        not system["reboot_required"],
        "it waits for a reboot" if system["reboot_required"] else "no reboot waits",
        "reboot it while nobody rents it",
        "warn",
    )
    if host.role == "executor":
        kernel = _numbers(system["kernel"])[:2]
        yield _is("host.kernel", kernel >= KERNEL, f"kernel {system['kernel']}", "5.19 or newer, 6 is better", "warn")
        for device in ("tun", "loop"):
            message = (
                f"the kernel has {device}" if system[device] else f"the kernel has no {device}, which rentals need"
            )
            remedy = "celium-ops deploy loads it; linux-modules-extra may bring it"
            yield _is(f"host.{device}", system[device], message, remedy)
        yield _is(
            "host.preload",
            not system["preload"],
            "/etc/ld.so.preload is not empty" if system["preload"] else "nothing is preloaded",
            "empty it: the validator's scrape refuses such a host",
            code="SCRAPE_FAILED",
        )


def _clock(_host: Host, facts: Facts) -> Checks:
    drift = abs(facts["drift_s"])
    status: Status = "fail" if drift >= DRIFT_FAIL_S else "warn" if drift >= DRIFT_WARN_S else "pass"
    synchronised, keeper = facts["clock"]["synchronised"], facts["clock"]["keeper"]
    cure = "chronyc makestep, or timedatectl timesync-status" if keeper else "celium-ops deploy brings chrony"
    remedy = None if status == "pass" else f"{cure}; upstream refuses signatures that are 10 s off"
    message = f"its clock is {drift:.1f} s off ours"
    yield Check("host.clock", status, message, f"{drift:.1f}", f"less than {DRIFT_FAIL_S:g}", remedy, unit="s")
    if synchronised is None:
        yield Check("host.time", "unknown", "nobody on it says whether its clock is kept right")
    elif synchronised or keeper is None:
        message = "its clock is kept right" if synchronised else "nothing keeps its clock right"
        yield _is("host.time", synchronised, message, "celium-ops deploy brings chrony", "warn")
    else:
        remedy = "is UDP port 123 open to the outside? chronyc sources, or timedatectl timesync-status"
        yield Check("host.time", "warn", f"{keeper} has no time from anybody", remedy=remedy)


def _docker(host: Host, facts: Facts) -> Checks:
    docker = facts["docker"]
    version = docker["version"]
    yield Check("docker.engine", "pass", "Docker answers")
    yield _is(
        "docker.version", _numbers(version) >= ENGINE, f"Docker {version}", "Docker 25 or newer: celium-ops deploy"
    )
    free, need = docker["free_gb"], FREE_GB[host.role]
    message = f"{free:.0f} GB are free in {docker['root']}"
    yield _is("docker.disk", free >= need, message, f"{need} GB are needed: docker system df", "warn")
    if host.role != "executor":
        return
    yield _is(
        "docker.live_restore",
        docker["live_restore"],
        "containers outlive Docker" if docker["live_restore"] else "a restart of Docker ends the rentals",
        "set live-restore in /etc/docker/daemon.json",
        "warn",
    )
    yield _quotas(docker)
    yield _is(
        "docker.reserve",
        free >= FREE_FOR_TENANTS_GB,
        f"{free:.0f} GB are left",
        "free some: docker system df",
        code="UPLOAD_FAILED",
    )
    vram = _vram_gb(facts)
    if vram:
        wanted = DISK_FOR_VRAM * vram
        message = f"{docker['disk_gb']:.0f} GB of disk for {vram:.0f} GB of the cards' memory"
        well = docker["disk_gb"] >= wanted
        remedy = None if well else f"{wanted:.0f} GB would do; {OWN_DISK}"
        measured, required = f"{docker['disk_gb']:.0f}", f"{wanted:.0f}"
        yield Check("docker.disk.vram", "pass" if well else "warn", message, measured, required, remedy, unit="GB")


def _quotas(docker: Facts) -> Check:
    """Tell whether ``docker run --storage-opt size=`` holds: validators try it, and it is all that bounds a tenant."""
    place, filesystem, driver = docker["root"], docker["filesystem"], docker["driver"]
    counted = QUOTAS & set(docker["options"])
    if docker["containerd"]:
        why, remedy = "containerd keeps what Docker has, and limits none of it", f"storage-driver overlay2; {OWN_DISK}"
    elif driver in OWN_LIMITS or (driver == "overlay2" and filesystem == "xfs" and counted):
        return Check("docker.quotas", "pass", "disks of rentals can be limited")
    elif driver != "overlay2":
        why, remedy = f"Docker's storage driver {driver} limits nothing", f"storage-driver overlay2; {OWN_DISK}"
    elif filesystem != "xfs":
        why, remedy = f"{place} is on {filesystem}, and overlay2 can limit on XFS only", OWN_DISK
    else:
        why = f"{place} is XFS without project quotas"
        remedy = "write pquota into its line of /etc/fstab and, when nobody rents it, mount it anew: docs/disk.md"
    message = f"a tenant can fill the disk, on which all stops: {why}"
    return Check("docker.quotas", "warn", message, f"{driver}, {filesystem}", "overlay2, xfs with pquota", remedy)


def _vram_gb(facts: Facts) -> float:
    nvml = (facts.get("gpus") or {}).get("nvml")
    return sum(card["memory_mib"] or 0 for card in nvml["cards"]) * 2**20 / 1e9 if nvml else 0.0


def _images(host: Host, facts: Facts) -> Checks:
    """Tell whether the stack's images are on the host: a deploy pulls the others, when a registry may not answer."""
    names = [name for name in host.values if name.startswith(f"{host.role}_") and name.endswith("_image")]
    wanted = [str(host.values[name]) for name in sorted(names) if host.values[name]]
    there = {reference(name) for name in facts["images"]}
    missing = [image for image in wanted if reference(image) not in there]
    measured, required = str(len(wanted) - len(missing)), str(len(wanted))
    if missing:
        message = f"a deploy will pull {', '.join(missing)}"
        remedy = "docker pull on the host, where a deploy must not wait for the registry"
        yield Check("docker.images", "warn", message, measured, required, remedy, unit="images")
    elif wanted:
        yield Check("docker.images", "pass", "the images of its stack are there", measured, required, unit="images")


def _named(_host: Host, facts: Facts) -> Checks:
    """Whether the name by which validators run the executor's image stands for that image."""
    seen = facts["named"]
    if seen["wanted"] is None:  # docker.images says so
        return
    name, message = validators_image(), "the name by which validators run the executor's image stands for it"
    if seen["validators"] is None:
        message = f"there is no {name}, which validators run here: each of their checks has to pull it first"
    elif seen["validators"] != seen["wanted"]:
        message = f"{name}, which validators run here, is another image than the executor's"
    remedy = "celium-ops deploy gives the executor's image that name"
    yield _is("docker.images.name", seen["validators"] == seen["wanted"], message, remedy, "warn")


def _sysbox(_host: Host, facts: Facts) -> Checks:
    """What came of the commands by which validators try sysbox and disks of limited size."""
    seen = facts["sysbox"]
    for name, id_, what, remedy in (
        ("sysbox", "gpu.sysbox.run", "a container with sysbox gets the cards", "celium-ops deploy; docker info lists "
         "the runtime sysbox-runc where it is installed, and CDI must be off"),
        ("storage", "docker.quotas.run", "the disk of a container with sysbox can be limited", OWN_DISK),
    ):  # fmt: skip
        if seen["skipped"]:
            yield Check(id_, "skipped", f"the validators' command was not tried: {seen['skipped']}")
        elif seen["error"]:
            yield Check(id_, "unknown", f"the validators' command could not be tried: {seen['error']}")
        elif name in seen["runs"]:
            error = seen["runs"][name]["error"]
            message = f"the validators' command fails: {error}" if error else f"{what}, as validators try it"
            yield _is(id_, not error, message, remedy)


def reference(image: str) -> str:
    """Return the name by which Docker knows an image: shortest repository, and digest or else tag; pure."""
    name, _, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    repository = f"{folder}{slash}{base}"
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        repository = repository.removeprefix(prefix)
    return f"{repository}@{digest}" if digest else f"{repository}:{tag or 'latest'}"


def _configuration(host: Host, facts: Facts) -> Checks:
    daemon, runtime = facts["configuration"]["daemon"], facts["configuration"]["runtime"]
    yield from _file("docker.configuration", "/etc/docker/daemon.json", daemon)
    if daemon["kind"] in ("file", "missing"):
        yield from _daemon(daemon)
    if host.role != "executor" or host.values["executor_gpu_proof"] == "simulated":
        return
    yield from _file("gpu.runtime", "/etc/nvidia-container-runtime/config.toml", runtime, needed=True)
    if runtime["kind"] == "file":
        message = "no-cgroups is true, so containers get no card" if runtime["no_cgroups"] else "no-cgroups is false"
        yield _is("gpu.runtime.cgroups", not runtime["no_cgroups"], message, "celium-ops deploy sets it to false")
    yield from _reload(facts)


def _daemon(daemon: Facts) -> Checks:
    hosts = [address for address in daemon.get("hosts") or () if str(address).startswith("tcp://")]
    yield _is(
        "security.engine",
        not hosts,
        f"Docker listens on {hosts[0]}" if hosts else "Docker listens on its socket only",
        "take hosts out of daemon.json: whoever reaches that port is root",
    )
    limited = daemon.get("log-driver") == "local" or "max-size" in (daemon.get("log-opts") or {})
    message = "logs of containers are limited" if limited else "logs of containers grow until the disk is full"
    yield _is("docker.logs", limited, message, "set log-opts max-size in daemon.json", "warn")


def _networks(_host: Host, facts: Facts) -> Checks:
    """Tell whether containers have addresses of a network that the host has a route to, or may get them.

    Docker itself passes over what has a route when it makes a network, but not over what comes later, nor over what
    its file says, nor over the rest of a network of which the host has a part. Upstream's file (bip 172.24.0.1/16,
    pool 172.31.0.0/16) lies in what AWS gives to hosts.
    """
    seen = facts["networks"]
    hiding = next((one for one in seen["networks"] if one["hides"]), None)
    pool = next((one for one in seen["pools"] if one["hides"]), None)
    remedy = "give nvidia_docker_address_pools that do not hold it, and celium-ops deploy"
    id_ = "docker.address_pools"
    if hiding:
        message = f"Docker's network {hiding['name']} ({hiding['subnet']}) hides {hiding['hides']}"
        remedy += "; then make that network anew while nobody rents the host"
        yield Check(id_, "fail", message, hiding["subnet"], remedy=remedy)
    elif pool:
        message = f"containers may get addresses in {pool['base']}, which would hide {pool['hides']}"
        yield Check(id_, "warn", message, pool["base"], remedy=remedy)
    else:
        yield Check(id_, "pass", "no network of containers hides one of the host's")


def _file(id_: str, path: str, seen: Facts, needed: bool = False) -> Checks:
    """A bind mount of a file that is not there makes a folder in its place."""
    said = {"directory": "is a folder", "invalid": f"is no JSON: {seen.get('error')}", "missing": "is not there"}
    well = seen["kind"] == "file" or (seen["kind"] == "missing" and not needed)
    message = f"{path} {said.get(seen['kind'], 'is well')}"
    remedy = "repair it, or remove it, and celium-ops deploy"
    if needed:
        remedy = "reinstall nvidia-container-toolkit-base"
    elif seen["kind"] == "directory":
        remedy = "celium-ops deploy puts a file in the place of an empty folder"
    yield _is(id_, well, message, remedy)


def _reload(facts: Facts) -> Checks:
    """Containers that lose their cards when systemd reloads: upstream's problem number one."""
    if facts.get("docker") is None or facts.get("packages") is None:
        return
    driver, toolkit = facts["docker"]["cgroup_driver"], facts["packages"]["versions"].get("toolkit", "0")
    keeps = driver == "cgroupfs" or _numbers(toolkit) >= CDI_TOOLKIT
    message = f"cgroup driver {driver}, toolkit {toolkit}"
    if not keeps:
        message += ": containers lose their cards when systemd reloads (Failed to initialize NVML: Unknown Error)"
    remedy = "set exec-opts native.cgroupdriver=cgroupfs in daemon.json, or use a toolkit of 1.18 or newer"
    yield _is("gpu.reload", keeps, message, remedy)
    sysbox = "sysbox-runc" in facts["docker"]["runtimes"]
    cdi = (facts["configuration"]["daemon"].get("features") or {}).get("cdi", True) or facts["configuration"]["cdi"]
    broken = sysbox and bool(cdi) and _numbers(facts["docker"]["version"]) >= CDI_ENGINE
    message = (
        "Docker prefers CDI, with which sysbox gets no card" if broken else "sysbox and CDI are not in each other's way"
    )
    remedy = "nvidia_docker_sysbox: true, and celium-ops deploy switches CDI off"
    yield _is("gpu.sysbox.cdi", not broken, message, remedy)


def _packages(_host: Host, facts: Facts) -> Checks:
    packages = facts["packages"]
    loose = sorted(name for name, seen in packages["installed"].items() if not seen["held"])
    if packages["unattended"] and loose:
        message = f"unattended upgrades may change {', '.join(loose[:4])} in the night"
        yield Check("host.upgrades", "warn", message, remedy="celium-ops deploy holds them, or apt-mark hold")
    else:
        yield Check("host.upgrades", "pass", "nothing changes Docker or the driver unasked")
    if toolkit := packages["versions"].get("toolkit"):
        safe = _numbers(toolkit) >= SAFE_TOOLKIT
        yield _is(
            "security.toolkit",
            safe,
            f"NVIDIA container toolkit {toolkit}",
            "1.17.8 or newer: known escapes (CVE-2025-23266)",
        )
    if runc := packages["versions"].get("runc"):
        yield _runc(runc)


def _runc(version: str) -> Check:
    numbers = _numbers(version)[:3]
    branch = numbers[:2]
    if branch > max(SAFE_RUNC) or (branch in SAFE_RUNC and numbers >= SAFE_RUNC[branch]):
        return Check("security.runc", "pass", f"runc {version}")
    remedy = "1.2.8, 1.3.3 or newer: known escapes (CVE-2025-31133)"
    if "+" in version or "ubuntu" in version:
        return Check(
            "security.runc", "unknown", f"runc {version} of the distribution may have its fixes", remedy=remedy
        )
    return Check("security.runc", "fail", f"runc {version} has known escapes", remedy=remedy)


def _containers(host: Host, facts: Facts) -> Checks:
    containers = facts["containers"]
    published = [
        (container["name"], port, DATABASES[port["private"]])
        for container in containers
        for port in container["published"]
        if port["private"] in DATABASES and port["address"] not in _LOCAL
    ]
    message = "no database can be reached from outside"
    if published:
        name, port, what = published[0]
        message = f"{what} of {name} is open to everybody on port {port['port']}"
    yield _is(
        "security.database", not published, message, "celium-ops deploy, and take upstream's own stack off the host"
    )
    ours = {"executor", "monitor"} if host.role == "executor" else set()
    holders = [
        one["name"]
        for one in containers
        if one["state"] == "running"
        and one["socket"]
        and not (one["project"] == host.role and _service(one["name"]) in ours)
    ]
    message = (
        f"{', '.join(holders)} can do as root whatever Docker can" if holders else "nobody else has Docker's socket"
    )
    yield _is("security.socket", not holders, message, "docker rm -f what you did not put there", "warn")
    if facts.get("docker") is not None:
        yield from _watchtower(containers, facts["docker"]["version"])


def _tenants(host: Host, facts: Facts) -> Checks:
    if host.role == "executor":
        ended = facts["tenants"]["ended"]
        message = f"{', '.join(ended)} does not run" if ended else "no rental left anything"
        remedy = "ask upstream whether somebody rents it: what is in it goes with it"
        yield _is("gpu.leftovers", not ended, message, remedy, "warn", "ORPHANED_RENTAL_CONTAINER")


def _stack(host: Host, facts: Facts) -> Checks:
    """Whether the containers of its stack pass their health checks, and a miner can use the chain.

    Docker keeps the health of a container that was stopped; that it does not run shows by its port.
    """
    own = [one for one in facts["stack"]["containers"] if one["name"].startswith(f"{host.role}-")]
    own = [one for one in own if one["state"] == "running"]
    for one in own:
        if one["health"] not in ("healthy", "none", "starting"):
            said = f" ({one['complaint']})" if one["complaint"] else ""
            remedy = GPUS_LOST_REMEDY if one["complaint"] else UNHEALTHY_REMEDY
            yield Check("docker.stack", "fail", f"{one['name']} is {one['health']}{said}", remedy=remedy)
    if own and all(one["health"] in ("healthy", "none") for one in own):
        yield Check("docker.stack", "pass", "the containers of its stack are healthy")
    if host.role == "miner" and own:
        if trouble := facts["stack"]["chain"]:
            remedy = NOT_REGISTERED_REMEDY if NOT_REGISTERED in trouble else NO_CHAIN_REMEDY
            yield Check("miner.chain", "fail", f"{NO_CHAIN} {trouble}", remedy=remedy)
        else:
            yield Check("miner.chain", "pass", "its log has nothing against its chain")


def _service(name: str) -> str:
    return name.split("-")[1] if name.count("-") > 1 else name


def _watchtower(containers: list[Facts], engine: str) -> Checks:
    old = [one["name"] for one in containers if "containrrr/watchtower" in one["image"]]
    if old:
        blind = _numbers(engine) >= OLD_WATCHTOWER_ENGINE
        message = f"{old[0]} changes containers that this inventory manages"
        message += ", or would: it cannot talk to this Docker any more" if blind else ""
        yield Check(
            "docker.watchtower", "warn", message, remedy=f"docker rm -f {old[0]}; celium-ops deploy updates instead"
        )


def _listeners(host: Host, facts: Facts) -> Checks:
    """Who has the ports that the stack of this host needs."""
    own = {
        port["port"] for one in facts["containers"] or () if one["project"] == host.role for port in one["published"]
    }
    taken = {one["port"]: one["program"] or "somebody" for one in facts["listeners"]}
    for port in service_ports(host):
        if port in own or port not in taken:
            yield Check("ports.free", "pass", f"port {port} is {'ours' if port in own else 'free'}", str(port))
        elif facts["containers"] is None and taken[port] == "docker-proxy":
            yield Check("ports.free", "unknown", f"port {port} is a container's, and nobody says whose", str(port))
        else:
            message = f"port {port} is taken by {taken[port]}"
            yield Check("ports.free", "fail", message, str(port), remedy=f"stop {taken[port]}, or choose another port")
    engine = [port for port in _OPEN_ENGINE if port in taken and taken[port] == "dockerd"]
    if engine:
        remedy = "take -H tcp:// off dockerd: whoever reaches that port is root"
        yield Check("security.engine.port", "fail", f"dockerd listens on port {engine[0]}", remedy=remedy)


def service_ports(host: Host) -> list[int]:
    """Return the ports on the host itself that others have to reach."""
    names = {"miner": ("external",), "executor": ("external", "ssh"), "validator": ()}[host.role]
    return [int(host.values[f"{host.role}_{name}_port"]) for name in names]


def _place(facts: Facts) -> str:
    return f"from {facts['tried_from'] or 'here'}"


def _services(_host: Host, facts: Facts) -> Checks:
    seen, place = facts["services"], _place(facts)
    if seen["error"]:
        yield Check("ports.service", "unknown", f"no port could be tried: {seen['error']}")
    for port in seen["listening"]:
        can = "can" if port in seen["reached"] else "cannot"
        remedy = "open it in every firewall on the way, the provider's too; is the container up? celium-ops status"
        yield _is("ports.service", port in seen["reached"], f"port {port} {can} be reached {place}", remedy)


def _ways(_host: Host, facts: Facts) -> Checks:
    """The ports for renters, as validators try them: to a program of the host, and to a container."""
    for way, what, remedy in (
        ("host", "programs of the host", "ufw allow, or an ACCEPT in the chain INPUT, for the renting range"),
        ("published", "containers", "let the renting range through the chain DOCKER-USER"),
    ):
        seen = facts["ways"].get(way)
        if seen is None:
            continue
        tried, missed = seen["listening"], sorted(set(seen["listening"]) - set(seen["reached"]))
        if seen["error"] or not tried:
            yield Check(f"ports.{way}", "unknown", f"no port could be tried: {seen['error'] or 'all are taken'}")
            continue
        message = f"{len(tried) - len(missed)} of {len(tried)} ports that were tried reach {what} {_place(facts)}"
        if missed:
            message += f"; not {', '.join(map(str, missed[:5]))}"
        yield _is(f"ports.{way}", not missed, message, remedy, code="PORT_VERIFY_FAILED")


def _rates(host: Host, facts: Facts) -> Checks:
    """How fast the way to here is; what validators measure is another way, to the internet."""
    rates = facts["rates"]
    if rates["skipped"]:
        yield Check("network.down", "skipped", rates["skipped"])
        return
    rules = host.values["celium_ruleset"] if host.role == "executor" else None
    limit, code = DOWN_MBIT_S.get(str(rules), (None, None))
    yield _rate("network.down", "from here to it", rates["down"], rates["error"], limit, code)
    yield _rate("network.up", "from it to here", rates["up"], rates["error"], None, None)


def _rate(id_: str, way: str, rate: float | None, error: str | None, limit: int | None, code: str | None) -> Check:
    if rate is None:
        return Check(id_, "unknown", f"could not be measured: {error or 'too little came through to tell'}")
    message = f"{rate:.0f} Mbit/s {way} over SSH, which is the ceiling; its way to the internet is another"
    if limit is None:
        return Check(id_, "unknown", f"{message}; no rule wants more", f"{rate:.0f}", unit="Mbit/s")
    status: Status = "pass" if rate >= limit else "warn"
    remedy = None if status == "pass" else "measure it against the internet too; the slower end may be this one"
    return Check(id_, status, message, f"{rate:.0f}", f"{limit}", remedy, None if remedy is None else code, "Mbit/s")


def _keys(_host: Host, facts: Facts) -> Checks:
    cold = [one["path"] for one in facts["keys"] if one["path"].rpartition("/")[2] == "coldkey"]
    message = f"{cold[0]} is on this host" if cold else "no coldkey is on it"
    yield _is(
        "security.coldkey",
        not cold,
        message,
        "shred -u it: a coldkey belongs on no server, and whoever had root may have it",
    )
    loose = [
        f"{one['path']} ({one['mode']:04o})"
        for one in facts["keys"]
        if one["mode"] & 0o077 and not one["path"].endswith("pub.txt")
    ]
    message = f"others can read {loose[0]}" if loose else "keys and environments are root's alone"
    yield _is("security.modes", not loose, message, "chmod 600; celium-ops deploy does it for what it manages")


def _gpus(host: Host, facts: Facts) -> Checks:
    gpus = facts["gpus"]
    if gpus["nvml"] is None:
        if host.values["executor_gpu_proof"] == "simulated":
            yield Check("gpu.driver", "skipped", "it has no cards, being a host of a rehearsal")
            return
        yield _no_driver(gpus["nvml_error"] or "no answer", gpus["driver"])
        return
    nvml = gpus["nvml"]
    yield Check("gpu.driver", "pass", f"driver {nvml['driver']}, {nvml['count']} cards", nvml["driver"])
    kernel = gpus["kernel"]
    if kernel is not None:
        same = sorted(card["uuid"] for card in kernel) == sorted(str(card["uuid"]) for card in nvml["cards"])
        message = "the kernel's driver has the same cards" if same else "the kernel's driver has other cards than NVML"
        yield _is("gpu.kernel", same, message, "something pretends to be NVML, or a card fell off the bus: dmesg")


def _no_driver(said: str, driver: Facts) -> Check:
    """Say why nothing gets at the cards: a reboot waits, or there is no driver."""
    library, module = driver["library"], driver["module"]
    remedy = f"set {_WANTED}, and celium-ops deploy installs that driver"
    if "version mismatch" in said.lower() or (library and module and library != module):
        said = f"the driver's library ({library}) and its module ({module}) differ, since something upgraded it: {said}"
        remedy = (
            "a reboot waits: set nvidia_docker_reboot and deploy while nobody rents it, which also holds the packages"
        )
    elif library and not module:
        nouveau = "; nouveau has the cards" if driver["nouveau"] else ""
        said = f"the module of the driver {library} is not loaded{nouveau}: {said}"
        remedy = (
            f"modprobe nvidia says why not; where {_WANTED} is set, celium-ops deploy loads it, or reboots if it may"
        )
    return Check("gpu.driver", "fail", said, remedy=remedy, code="SCRAPE_FAILED")


_PARTS: tuple[tuple[str, Callable[[Host, Facts], Checks]], ...] = (
    ("system", _system),
    ("clock", _clock),
    ("docker", _docker),
    ("images", _images),
    ("named", _named),
    ("configuration", _configuration),
    ("networks", _networks),
    ("packages", _packages),
    ("gpus", _gpus),
    ("containers", _containers),
    ("tenants", _tenants),
    ("stack", _stack),
    ("listeners", _listeners),
    ("services", _services),
    ("ways", _ways),
    ("sysbox", _sysbox),
    ("rates", _rates),
    ("keys", _keys),
)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-")[0].split("+")[0]))
