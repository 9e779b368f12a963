"""The lab's package repositories: stand-ins for Docker's and NVIDIA's, really signed, served to the hosts over HTTP.

Docker's packages bring Ubuntu's engine, so what is installed runs; Debian's refuses to stand beside packages of these
names, as it would beside the real ones. NVIDIA's have the files of the real ones and no GPU behind them, its driver the
name of a library and no module. Sysbox's, which comes from no repository, hands containers to runc. The key is made for
one lab and lives in its folder.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.lab import docker, machine
from celium_ops.lab.layout import UBUNTU, Lab
from celium_ops.lab.process import run
from celium_ops.lab.rootfs import Report

_TREES = Path(__file__).parent / "debs"
_LABEL_CONTENT = f"{docker.LABEL}.content"
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """One version of a stand-in package; ``debs/NAME`` holds its files, if it has any, ``links`` are further ones."""

    name: str
    version: str
    depends: str
    links: tuple[tuple[str, str], ...] = ()

    @property
    def file(self) -> str:
        """Return the file's name, which has no epoch."""
        return f"{self.name}_{self.version.rpartition(':')[2]}_all.deb"

    def control(self) -> str:
        """Return the fields of ``DEBIAN/control``."""
        return (
            f"Package: {self.name}\nVersion: {self.version}\nArchitecture: all\nSection: admin\nPriority: optional\n"
            f"Maintainer: The celium-ops authors <nobody@celium-ops.invalid>\nDepends: {self.depends}\n"
            f"Description: stand-in of the celium-ops lab, not the vendor's package\n"
        )


def _docker(version: str) -> list[Package]:
    return [
        Package("docker-ce", version, "docker.io, docker-ce-cli, containerd.io"),
        Package("docker-ce-cli", version, "docker.io"),
    ]


def _toolkit(version: str) -> list[Package]:
    return [
        Package(
            "nvidia-container-toolkit",
            version,
            f"nvidia-container-toolkit-base (= {version}), libnvidia-container-tools (= {version})",
        ),
        Package("nvidia-container-toolkit-base", version, "libc6"),
        Package("libnvidia-container-tools", version, f"libnvidia-container1 (= {version})"),
        Package("libnvidia-container1", version, "libc6"),
    ]


def _driver(version: str) -> list[Package]:
    """Return a driver of a branch before 590 as NVIDIA's repository for Ubuntu has it."""
    branch, full = version.partition(".")[0], f"{version}-0ubuntu1"
    # NVIDIA's packages ask for a version or newer where it should be the same one: this is one that the pin is for.
    compute = f"libnvidia-gpucomp-{branch} (>= {full})"
    library = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
    return [
        Package(f"libnvidia-compute-{branch}", full, compute, ((f"{library}.1", f"libnvidia-ml.so.{version}"),)),
        Package(f"libnvidia-gpucomp-{branch}", full, "libc6"),
        Package(f"nvidia-compute-utils-{branch}", full, "libc6"),
        Package(f"nvidia-utils-{branch}", full, f"libnvidia-compute-{branch} (= {full})"),
        Package(f"nvidia-dkms-{branch}-open", full, "libc6"),
        Package(f"nvidia-fabricmanager-{branch}", full, "libc6"),
    ]


DOCKER = [
    *_docker("5:29.1.3-1~celium.lab"),
    *_docker("5:28.5.2-1~celium.lab"),
    Package("containerd.io", "2.2.0-1~celium.lab", "containerd"),
    Package("docker-compose-plugin", "2.40.3-1~celium.lab", "docker-compose-v2"),
]
TOOLKIT = [*_toolkit("1.18.1-1"), *_toolkit("1.17.8-1")]
DRIVERS = [*_driver("580.95.05"), *_driver("580.82.09")]
DRIVERS_OF = "cuda/repos/ubuntu2404/x86_64"
SYSBOX = Package("sysbox-ce", "0.6.6-0", "jq")


def ensure_repositories(folder: Path) -> str:
    """Make the signed repositories in ``folder`` when they are missing, and return the fingerprint of their key.

    Raises:
        CeliumError: gpg or dpkg-deb failed.
    """
    digest = _inputs()
    if _text(folder / "inputs") != digest:
        machine.ensure_packages({"gpg": "gpg", "gpg-agent": "gpg-agent", "dpkg-deb": "dpkg"})
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="celium-lab-") as work:
            site = Path(work) / "site"
            _write_repositories(site, Path(work))
            _sign(site, folder)
            shutil.rmtree(folder / "site", ignore_errors=True)
            shutil.copytree(site, folder / "site")
        write_atomic(folder / "inputs", digest, 0o600)
    return _text(folder / "fingerprint")


def ensure_server(lab: Lab, container: dict[str, Any] | None, folder: Path, image: str, report: Report) -> None:
    """Bring up the container that serves the repositories.

    Args:
        lab: the lab.
        container: what the engine knows about it; None when there is none.
        folder: where ``ensure_repositories`` made them.
        image: a local image with Python.
        report: told what is done.

    Raises:
        CeliumError: it does not answer.
    """
    name, content = lab.packages_container, _text(folder / "inputs")
    state = container["State"]["Status"] if container else "absent"
    if container and (state in {"dead", "removing"} or container["Config"]["Labels"].get(_LABEL_CONTENT) != content):
        docker.docker("rm", "--force", name)
        state = "absent"
    if state == "absent":
        report("packages: creating")
        docker.docker(*create_arguments(lab, image, content))
    if state == "paused":
        docker.docker("unpause", name)
    elif state != "running":
        docker.docker("cp", "-", f"{name}:/", stdin=_archive(folder / "site"))
        docker.docker("start", name)
    _wait(lab)


def create_arguments(lab: Lab, image: str, content: str) -> list[str]:
    """Return the ``docker`` arguments that create the server."""
    return [
        *("create", "--name", lab.packages_container, "--hostname", "packages"),
        *("--network", lab.network, "--ip", lab.packages_ip, "--stop-signal", "SIGINT"),
        *docker.labels(lab.name, {_LABEL_CONTENT: content}),
        *(image, "python3", "-m", "http.server", "80", "--directory", "/srv"),
    ]


def answers(lab: Lab) -> bool:
    """Tell whether the hosts get packages there."""
    # The machine's proxy, if it has one, is not for the lab's network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{lab.packages}/docker/linux/ubuntu/gpg", timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _wait(lab: Lab) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not answers(lab):
        if time.monotonic() > deadline:
            raise CeliumError(
                f"the package repositories did not answer within {_WAIT_SECONDS} s",
                remedy=f"look with `docker logs {lab.packages_container}`; "
                f"`docker rm -f {lab.packages_container}` and `celium-ops lab up` make it anew",
            )
        time.sleep(0.1)


def _inputs() -> str:
    """Return a hash of all that the repositories are made from."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in _TREES.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(_TREES)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _write_repositories(site: Path, work: Path) -> None:
    architecture = machine.architecture()
    root = site / "docker/linux/ubuntu"
    packages = _packages(DOCKER, root, f"dists/{UBUNTU}/pool/stable", work)
    about = f"Suite: {UBUNTU}\nCodename: {UBUNTU}\nComponents: stable\nArchitectures: {architecture}\n"
    _index(root / "dists" / UBUNTU, f"stable/binary-{architecture}/Packages", packages, about)
    root = site / "libnvidia-container/stable/deb" / architecture
    _index(root, "Packages", _packages(TOOLKIT, root, ".", work), f"Architectures: {architecture}\n")
    root = site / DRIVERS_OF
    _index(root, "Packages", _packages(DRIVERS, root, ".", work), f"Architectures: {architecture}\n")
    _packages([SYSBOX], site / "sysbox", ".", work)


def _packages(packages: list[Package], root: Path, pool: str, work: Path) -> str:
    """Build the packages below ``root/pool`` and return their index."""
    (root / pool).mkdir(parents=True)
    entries = []
    for package in packages:
        tree, deb = work / "trees" / package.file, root / pool / package.file
        _write_tree(package, tree)
        run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(deb)])
        shutil.rmtree(tree)
        content = deb.read_bytes()
        entries.append(
            f"{package.control()}Filename: {pool}/{package.file}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    return "\n".join(entries)


def _write_tree(package: Package, tree: Path) -> None:
    files = {str(path.relative_to(_TREES / package.name)): path.read_text() for path in _files(_TREES / package.name)}
    settings = "".join(f"/{name}\n" for name in files if name.startswith("etc/"))
    files |= {"DEBIAN/control": package.control()} | ({"DEBIAN/conffiles": settings} if settings else {})
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if name.startswith(("usr/bin/", "DEBIAN/p")) else 0o644)
    for name, target in package.links:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(target)
        (tree / name).with_name(target).write_text("stand-in of the celium-ops lab\n")
    for path in (tree, *tree.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _index(folder: Path, name: str, packages: str, about: str) -> None:
    """Write the index of packages and the file that is to be signed for it."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(packages)
    content = packages.encode()
    (folder / "Release").write_text(
        f"Origin: celium-ops lab\nLabel: stand-ins\n{about}Date: {format_datetime(datetime.now(UTC), usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
    )


def _sign(site: Path, folder: Path) -> None:
    """Sign every repository below ``site`` with the lab's key, which is kept in ``folder``, and lay the key beside."""
    secret = folder / "secret.asc"
    # gpg's agent listens in this folder, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--passphrase", "", "--armor"]
        if secret.exists():
            run([*gpg, "--import", str(secret)])
        else:
            run([*gpg, "--quick-generate-key", "celium-ops lab, a throw-away key", "ed25519", "sign", "never"])
        try:
            for release in site.rglob("Release"):
                run([*gpg, "--clearsign", "--output", str(release.with_name("InRelease")), str(release)])
            listing = run([*gpg, "--with-colons", "--list-keys"]).stdout.decode().splitlines()
            public = run([*gpg, "--export"]).stdout
            write_atomic(secret, run([*gpg, "--export-secret-keys"]).stdout, 0o600)
        finally:
            run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    write_atomic(folder / "fingerprint", next(line.split(":")[9] for line in listing if line.startswith("fpr:")), 0o600)
    for place in ("docker/linux/ubuntu/gpg", "libnvidia-container/gpgkey", f"{DRIVERS_OF}/3bf863cc.pub"):
        (site / place).write_bytes(public)


def _archive(site: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(site, arcname="srv")
    return buffer.getvalue()
