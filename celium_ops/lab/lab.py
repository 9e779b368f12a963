"""The lab as a whole: bring it up, look at it, take it down."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError, GuardError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import cache_dir
from celium_ops.chain.snapshot import Snapshot
from celium_ops.lab import docker, hosts, inventory, layout, machine, memory, network, packages, registry, rootfs, ssh
from celium_ops.lab.chain import container as chain
from celium_ops.lab.chain import metadata
from celium_ops.lab.chain.container import ChainStatus
from celium_ops.lab.chain.state import State
from celium_ops.lab.chain.worlds import default_world
from celium_ops.lab.layout import DEBIAN, GROUPS, UBUNTU, Files, Host, Lab
from celium_ops.lab.memory import Memory
from celium_ops.lab.process import failure, in_parallel
from celium_ops.lab.registry import Pushed
from celium_ops.lab.rootfs import Report
from celium_ops.lab.wallet import PINNED, ensure_wallet, wallet_name


@dataclass(frozen=True)
class HostStatus:
    """How a host of the lab is."""

    name: str
    group: str
    address: str
    container: str
    suite: str | None
    state: str
    """The container's state; ``absent`` when it is gone."""
    system: str | None
    """What systemd says; None when the container does not run."""
    ssh: bool
    started_at: str | None

    @property
    def ok(self) -> bool:
        """Tell whether Ansible can work with it."""
        return self.ssh and self.system in {"running", "degraded"}


@dataclass(frozen=True)
class LabStatus:
    """How a lab is."""

    lab: str
    subnet: str
    inventory: Path | None
    registry: str
    registry_ok: bool
    packages: str
    packages_ok: bool
    chain: ChainStatus
    images: dict[str, Pushed]
    hosts: list[HostStatus]

    @property
    def ok(self) -> bool:
        """Tell whether there is a lab and all of it works."""
        served = self.registry_ok and self.packages_ok and self.chain.ok
        return bool(self.hosts) and self.inventory is not None and served and all(h.ok for h in self.hosts)


def up(name: str, requested: Mapping[str, int], report: Report) -> Path:
    """Bring a lab up, or add to it what is missing, and return its inventory.

    Args:
        name: the lab's name.
        requested: how many hosts a group is to have; a group that is not named keeps what it has. Hosts are only
            added here.
        report: told what is being done.

    Raises:
        CeliumError: the machine cannot carry a lab, or a part of it did not come up.
    """
    layout.check_counts(requested)
    files = layout.files(name)
    with _exclusive(name):
        machine.ensure_engine(report)
        _make_private(files.folder)
        known = memory.load(files.memory)
        containers = _containers(name)
        known.counts = wanted(known.counts, requested, containers)
        lab = _find(name, known) or Lab(name, network.choose_subnet(name))
        known.subnet = str(lab.subnet)
        fleet = lab.hosts(known.counts)
        facts = _facts(lab, files, fleet, known)
        _inventory_text(facts, known)  # a broken one is said before anything is touched
        memory.save(files.memory, known)
        if any(host.container not in containers for host in fleet):
            machine.check_disk()
        starting = sum(_state(containers.get(host.container)) != "running" for host in fleet)
        if starting:
            machine.ensure_inotify(starting + _systemds(), report)
        network.ensure(lab, containers, fleet)
        jobs: list[Callable[[], object]] = [
            partial(_ensure_hosts, facts, known, containers, report),
            partial(_ensure_images, facts, known, containers, report),
            partial(metadata.ensure, report),  # long before the chain needs it
        ]
        in_parallel(jobs)
        _write_inventory(_facts(lab, files, fleet, known), known)
    return files.inventory


def wanted(known: Mapping[str, int], requested: Mapping[str, int], containers: Iterable[str]) -> dict[str, int]:
    """Return how many hosts each group is to have: what was asked for now or before, and never less than there are.

    Args:
        known: the counts asked for before; empty for a new lab, which has the defaults.
        requested: the counts asked for now.
        containers: the names of the containers there are.
    """
    counts = {}
    for group in GROUPS.values():
        numbers = (re.search(rf"-{group.role}-(\d+)$", name) for name in containers)
        there = max((int(number[1]) for number in numbers if number), default=0)
        counts[group.name] = max(requested.get(group.name, known.get(group.name, group.default)), there)
    return counts


def status(name: str) -> LabStatus:
    """Return how a lab is; all its hosts are asked at once."""
    files = layout.files(name)
    known = memory.load(files.memory)
    containers = _containers(name)
    lab = _find(name, known) or Lab(name, layout.subnets(name)[0])
    fleet = lab.hosts(wanted(known.counts, {}, containers)) if known.counts or containers else []
    found = in_parallel([partial(_host_status, host, containers.get(host.container), files) for host in fleet])
    # Its own address is asked, as the hosts do, not the loopback port.
    running = _state(containers.get(lab.registry_container)) == "running"
    return LabStatus(
        lab=name,
        subnet=str(lab.subnet),
        inventory=files.inventory if files.inventory.exists() else None,
        registry=lab.registry,
        registry_ok=running and registry.answers(lab.registry),
        packages=lab.packages,
        packages_ok=_state(containers.get(lab.packages_container)) == "running" and packages.answers(lab),
        chain=_chain_status(lab, files, containers),
        images=known.pushed,
        hosts=found,
    )


def change_chain(name: str, to: Callable[[State, datetime], State]) -> ChainStatus:
    """Make the lab's simulated chain another one, and return how it is then.

    Raises:
        CeliumError: the lab is not up, or the chain does not become what it should.
    """
    with _exclusive(name):
        return chain.change(_up(name), layout.files(name), to)


def chain_status(name: str) -> ChainStatus:
    """Return how the lab's simulated chain is.

    Raises:
        CeliumError: the lab is not up.
    """
    return _chain_status(_up(name), layout.files(name), _containers(name))


def _chain_status(lab: Lab, files: Files, containers: Mapping[str, Any]) -> ChainStatus:
    running = _state(containers.get(lab.chain_container)) == "running"
    return chain.status(lab, files, running=running)


def _up(name: str) -> Lab:
    """Return a lab that was brought up."""
    find_inventory(name)
    return _find(name, memory.load(layout.files(name).memory)) or Lab(name, layout.subnets(name)[0])


def find_inventory(lab: str) -> Path:
    """Return the inventory of a lab that was brought up.

    Raises:
        CeliumError: there is none.
    """
    path = layout.files(lab).inventory
    if not path.exists():
        raise CeliumError(f"the lab {lab} is not up", remedy="run `celium-ops lab up`", code="no-lab")
    return path


def parts(lab: str, report: Report) -> list[str]:
    """Return what ``down`` would remove, for people."""
    kinds = ("container", "network", "volume") if machine.wake_engine(report) else ()
    things = [f"{kind} {name}" for kind in kinds for name in docker.names(kind, lab)]
    folder = layout.files(lab).folder
    return things + ([f"folder {folder}"] if folder.exists() else [])


def down(lab: str, images: bool, report: Report) -> None:
    """Remove a lab: containers, network, volumes and files; nothing without the lab's label is touched.

    Args:
        lab: the lab's name.
        images: also remove the images and caches that all labs share.
        report: told what is being done.
    """
    with _exclusive(lab):
        engine = machine.wake_engine(report)
        if engine:
            _remove_containers(lab, report)
        shutil.rmtree(layout.files(lab).folder, ignore_errors=True)
        if images and engine:
            rootfs.remove_images(report)
            docker.docker("volume", "rm", registry.STORE, check=False)  # another lab's registry may keep it
        if images:
            rootfs.remove_caches()


def _remove_containers(lab: str, report: Report) -> None:
    for kind, options in (("container", ["--force", "--volumes"]), ("network", []), ("volume", [])):
        if found := docker.names(kind, lab):
            report(f"removing {len(found)} {kind}{'s' if len(found) > 1 else ''}")
            if kind == "container":
                docker.thaw(*found)
            done = docker.docker(kind, "rm", *options, *found, check=False)
            if kind == "network" and done.returncode and not docker.inspect(kind, *found)[0]["Containers"]:
                # Docker 20.10 miscounts when many containers end at once. A new lab of this name uses the network.
                report(f"the Docker engine keeps the empty network {found[0]} until it is started again")
            elif done.returncode:
                raise failure(done)


def _find(name: str, known: Memory) -> Lab | None:
    """Return a lab that has addresses already: those of its network, or those its inventory was written with."""
    subnet = network.find_subnet(name) or (IPv4Network(known.subnet) if known.subnet else None)
    return Lab(name, subnet) if subnet else None


def _facts(lab: Lab, files: Files, fleet: list[Host], known: Memory) -> inventory.Facts:
    holders = [host.name for host in fleet if host.group != "executors"]
    _make_private(files.wallets)
    return inventory.Facts(
        lab=lab,
        files=files,
        hosts=fleet,
        hotkeys={name: ensure_wallet(files.wallets, wallet_name(name)) for name in holders},
        validator=ensure_wallet(files.wallets, wallet_name(PINNED)),
        packages_key=packages.ensure_repositories(files.packages),
        images={name: pushed.digest for name, pushed in known.pushed.items()},
    )


def _inventory_text(facts: inventory.Facts, known: Memory) -> tuple[str | None, str]:
    """Return the inventory as it is and as it should be."""
    path = facts.files.inventory
    before = path.read_text() if path.exists() else None
    return before, inventory.updated(before, facts, known.listed, known.written, str(path))


def _write_inventory(facts: inventory.Facts, known: Memory) -> None:
    before, after = _inventory_text(facts, known)
    if after != before:
        write_atomic(facts.files.inventory, after, 0o600)
    known.listed = sorted({*known.listed, *(host.name for host in facts.hosts)})
    known.written |= inventory.image_values(facts)
    memory.save(facts.files.memory, known)


def _ensure_hosts(facts: inventory.Facts, known: Memory, containers: Mapping[str, Any], report: Report) -> None:
    """Bring all hosts up, and write the inventory as soon as they are: images may take longer."""
    authorized = ssh.ensure_key(facts.files, f"celium-lab-{facts.lab.name}")
    gone = [host for host in facts.hosts if _state(containers.get(host.container)) in hosts.GONE]
    images = _host_images({host.suite for host in gone}, report)

    def ensure(host: Host) -> None:
        container = containers.get(host.container)
        if hosts.ensure(host, container, images.get(host.suite), facts.files, authorized):
            report(f"{host.name}: ready at {host.address}")

    in_parallel([partial(ensure, host) for host in facts.hosts])
    _write_inventory(facts, known)


def _host_images(suites: set[str], report: Report) -> dict[str, str]:
    """Return the image by suite; Debian's stands in for Ubuntu's where Ubuntu's archive cannot be reached."""
    use = {suite: suite for suite in suites}
    if UBUNTU in use and not hosts.has_image(UBUNTU) and not rootfs.archive_answers(UBUNTU):
        report("Ubuntu's archive does not answer: all new hosts run Debian 13")
        use[UBUNTU] = DEBIAN
    names = sorted(set(use.values()))
    made = dict(zip(names, in_parallel([partial(hosts.ensure_image, name, report) for name in names]), strict=True))
    return {suite: made[name] for suite, name in use.items()}


def _ensure_images(facts: inventory.Facts, known: Memory, containers: Mapping[str, Any], report: Report) -> None:
    """Bring up what the lab serves: packages, the chain, and the neuron images in the registry."""
    from celium_ops.lab import neurons

    lab, files = facts.lab, facts.files
    base = neurons.ensure_base(report)
    packages.ensure_server(lab, containers.get(lab.packages_container), files.packages, base, report)
    image = neurons.build_chain_image(base, cache_dir() / "lab", report)
    chain.ensure(lab, containers.get(lab.chain_container), files, image, _world(facts), report)
    images = neurons.build_images(base, cache_dir() / "lab", report)
    address = registry.ensure(lab, containers.get(lab.registry_container), base, report)
    known.pushed = registry.push(address, images, known.pushed, report)


def _world(facts: inventory.Facts) -> Snapshot:
    """Return the subnet of the lab's own chain: its miners and validators are registered, with axons as deployed."""
    from celium_ops.fleet.contract import load_contracts

    port = load_contracts()["miner"].variables["miner_external_port"].default
    hosts_of = {group: [host for host in facts.hosts if host.group == group] for group in GROUPS}
    validators = [facts.validator, *(facts.hotkeys[host.name] for host in hosts_of["validators"])]
    return default_world(
        {facts.hotkeys[host.name]: f"{host.address}:{port}" for host in hosts_of["miners"]},
        list(dict.fromkeys(validators)),
    )


def _systemds() -> int:
    """Return how many containers here run a systemd, whoever they belong to."""
    return docker.text("ps", "--format", "{{.Command}}").count("/sbin/init")


def _containers(lab: str) -> dict[str, Any]:
    found = docker.inspect("container", *docker.names("container", lab))
    return {container["Name"].lstrip("/"): container for container in found}


def _state(container: Mapping[str, Any] | None) -> str:
    return str(container["State"]["Status"]) if container else "absent"


def _host_status(host: Host, container: Mapping[str, Any] | None, files: Files) -> HostStatus:
    runs = _state(container) == "running"
    labels = container["Config"]["Labels"] if container else {}
    return HostStatus(
        name=host.name,
        group=host.group,
        address=host.address,
        container=host.container,
        suite=labels.get(f"{docker.LABEL}.suite"),
        state=_state(container),
        system=hosts.system_state(host) if runs else None,
        ssh=runs and ssh.answers(files, host.address) is None,
        started_at=container["State"]["StartedAt"] if container and runs else None,
    )


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


@contextmanager
def _exclusive(lab: str) -> Iterator[None]:
    """Let one command at a time change a lab. The lock lies in the cache: two state folders may name the same lab."""
    folder = cache_dir() / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{lab}.lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise GuardError(
                f"another command (process {stream.read().strip() or 'unknown'}) is changing the lab {lab}",
                remedy="wait until it has ended",
                code="locked",
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
