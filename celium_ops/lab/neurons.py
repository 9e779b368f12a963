"""The stand-in neuron images: what upstream publishes on Docker Hub, imitated at its interfaces and labelled so.

All images are thin layers over one Debian 12 system, so a host pulls that once. A tag holds a hash of everything that
goes in: the same inputs give the same tag, and nothing is built twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import celium_ops.gpu
from celium_ops.base.errors import CeliumError
from celium_ops.lab import docker, machine, rootfs
from celium_ops.lab.layout import ANY_DIALECT, DIALECTS
from celium_ops.lab.process import run

Report = Callable[[str], None]

BASE_PACKAGES: tuple[str, ...] = (
    "ca-certificates",
    "docker-registry",
    "iproute2",
    "openssh-server",
    "postgresql",
    "procps",
    "python3",
    "python3-pip",
    "redis-server",
)
"""Debian bookworm packages of the system that every image stands on."""

# Every host pulls all of it. Postgres runs without its just-in-time compiler, whose LLVM is a third of the whole, and
# without Debian's own cluster: the data belongs into a volume.
_SLIM = """
rm -rf /usr/lib/postgresql/*/lib/llvmjit* /usr/lib/*/libLLVM-* /usr/lib/llvm-* /usr/lib/*/libz3.so*
rm -rf /usr/lib/postgresql/*/lib/bitcode /var/lib/postgresql/* /etc/postgresql/*
rm -rf /usr/share/doc /usr/share/man /usr/share/i18n /usr/share/locale/*
mkdir -p /usr/share/man/man1
"""

LABEL_DIALECT = "org.celium-ops.dialect"
LABEL_STAND_IN = f"{docker.LABEL}=stand-in"
_LABEL_INSTALL_STAGE = f"{docker.LABEL}=install-stage"
ROLES = ("miner", "executor", "validator")
"""The neurons. One code serves all dialects; which one an image has is baked in last, as CELIUM_LAB_DIALECT."""

_CONTEXTS = Path(__file__).parent / "images"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
_SHOWN_LINES = 8
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class _Image:
    """One image to make: the build context ``name`` over the local image ``base``.

    ``cache`` is where the Python packages go that the context's ``requirements`` name; ``beside`` are files from
    elsewhere, by their place in the context.
    """

    name: str
    base: str
    dialect: str = "any"
    cache: Path | None = None
    folder: Path | None = None
    beside: tuple[tuple[str, Path], ...] = ()
    requirements_file: str = "requirements.txt"

    @property
    def context(self) -> Path:
        return self.folder or _CONTEXTS / self.name

    @property
    def requirements(self) -> Path:
        return self.context / self.requirements_file

    @property
    def wheels(self) -> Path | None:
        """Where the packages of the requirements are."""
        if self.cache is None:
            return None
        return self.cache / "wheels" / hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The local tag. A base's tag is a hash of its own inputs, so it stands for the base's content."""
        digest = hashlib.sha256(f"{self.base}\0{self.dialect}".encode())
        own = [(str(path.relative_to(self.context)), path) for path in _files(self.context)]
        for place, path in [*own, *self.beside]:
            mode = "x" if os.access(path, os.X_OK) else "-"
            content = path.read_bytes()
            digest.update(f"\0{place}\0{mode}{len(content)}\0".encode() + content)
        return f"{rootfs.REPOSITORY}/{self.name}:{self.dialect}-{digest.hexdigest()[:12]}"


def ensure_base(report: Report) -> str:
    """Return the local tag of the Debian system that all images stand on, made when it is missing."""
    return rootfs.ensure_rootfs_image("neuron-base", "bookworm", BASE_PACKAGES, report, finish=_SLIM)


def build_images(base_image: str, cache: Path, report: Report) -> dict[str, str]:
    """Make the stand-in images that are missing, the neurons' in every dialect.

    Args:
        base_image: the local image with the packages ``BASE_PACKAGES`` on Debian bookworm.
        cache: folder for the downloaded Python packages; made when missing.
        report: told one line per step.

    Returns:
        The local tag by the name, with a tag, under which hosts pull the image.

    Raises:
        CeliumError: the base image is missing, or a download or a build failed.
    """
    base = _id(base_image)
    postgres, redis = _Image("postgres", base), _Image("redis", base)
    neuron = _Image("neuron", base, cache=cache)
    programs = [_Image(role, neuron.tag, dialect) for role in ROLES for dialect in DIALECTS]
    prover = _prover(base, cache)
    gpus = _Image("gpus", prover.tag)
    _build_missing((postgres, redis, neuron, *programs, prover, gpus), report)
    return {
        f"library/postgres:{ANY_DIALECT}": postgres.tag,
        f"daturaai/redis:{ANY_DIALECT}": redis.tag,
        f"celium-ops/gpu-proof:{ANY_DIALECT}": gpus.tag,
        **{f"daturaai/compute-subnet-{image.name}:{DIALECTS[image.dialect]}": image.tag for image in programs},
    }


def build_chain_image(base_image: str, cache: Path, report: Report) -> str:
    """Return the local tag of the image that the simulated chain runs in, made when it is missing.

    The arguments and errors are those of ``build_images``.
    """
    image = _Image("chain", _id(base_image), cache=cache)
    _build_missing((image,), report)
    return image.tag


def _prover(base: str, cache: Path) -> _Image:
    """Return the image that proves GPUs, as an operator builds it, for hosts without any."""
    package = Path(celium_ops.gpu.__file__).parent
    own = [package / name for name in ("__init__.py", "arithmetic.py", "golden.json", "nvml.py", "views.py")]
    files = [package.parent / "__init__.py", *own, *_files(package / "prover")]
    beside = tuple((f"celium_ops/{file.relative_to(package.parent)}", file) for file in files)
    return _Image("gpu-proof", base, "cpu", cache, package / "image", beside, "requirements-cpu.txt")


def _id(base_image: str) -> str:
    base = docker.image_id(base_image)
    if base is None:
        raise CeliumError(f"there is no local image {base_image}", remedy="run `celium-ops lab up`, which makes it")
    return base


def _build_missing(images: tuple[_Image, ...], report: Report) -> None:
    present = _present(image.tag for image in images)
    for image in images:
        if image.tag not in present:
            _build(image, report)


def _present(tags: Iterator[str]) -> set[str]:
    wanted = list(tags)
    return {tag for image in docker.inspect("image", *wanted) for tag in image["RepoTags"]}


def _files(folder: Path) -> list[Path]:
    """Return the files of a build context; what Python leaves behind when the programs are run is none."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _build(image: _Image, report: Report) -> None:
    """Run the build in a copy of its context that has the wheels beside it."""
    if image.wheels:
        _download(image.wheels, image.requirements, report)
    report(f"building the stand-in image {image.tag}")
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as folder:
        context = Path(folder) / image.name
        shutil.copytree(image.context, context, ignore=shutil.ignore_patterns("__pycache__"))
        for place, path in image.beside:
            (context / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, context / place)
        if image.wheels:
            shutil.copytree(image.wheels, context / "wheels")
        _compile(context, report)
        *become, client = docker.prefix()
        # The classic builder is everywhere an engine is; buildx is a package of its own.
        build = [*become, "env", "DOCKER_BUILDKIT=0", client, "build", "--quiet", "--network=none", "--force-rm"]
        labels = [f"--label={LABEL_STAND_IN}", f"--label={LABEL_DIALECT}={image.dialect}"]
        values = [f"--build-arg=BASE={image.base}", f"--build-arg=DIALECT={image.dialect}", "--build-arg=KIND=cpu"]
        done = run([*build, *labels, *values, f"--tag={image.tag}", str(context)], check=False)
    if done.returncode:
        raise _explained(done, f"building {image.tag}", "free disk space, or run `celium-ops lab up -v` and read on")
    if image.wheels:
        _remove_install_stage()


def _compile(context: Path, report: Report) -> None:
    """Compile what is written in C, a library that pretends to be NVML."""
    source = context / "nvml.c"
    if source.exists():
        machine.ensure_packages({"cc": "gcc", "/usr/include/stdio.h": "libc6-dev"}, report)
        run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(context / "libnvidia-ml.so.1"), str(source)])


def _remove_install_stage() -> None:
    """Remove the stage that unpacked the wheels: without buildx it stays behind as an image without a name."""
    left = docker.text("image", "ls", "--quiet", "--filter=dangling=true", f"--filter=label={_LABEL_INSTALL_STAGE}")
    if left:
        docker.docker("image", "rm", *left.split(), check=False)


def _download(target: Path, requirements: Path, report: Report) -> None:
    """Fill ``target`` with the wheels of the requirements; it appears whole or not at all."""
    if target.is_dir():
        return
    report(f"downloading the Python packages of the image {requirements.parent.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    which = ["--no-deps", "--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as folder:
        partial = Path(folder) / target.name
        download = [*pip, "download", *which, *platforms, f"--dest={partial}", f"--requirement={requirements}"]
        done = run(download, check=False)
        if done.returncode:
            # torch's builds without CUDA are in no other index.
            done = run([*download, f"--extra-index-url={_TORCH_INDEX}"], check=False)
        if done.returncode:
            raise _explained(done, "downloading Python packages", "check that pip reaches the Python package index")
        try:
            partial.rename(target)
        except OSError:
            # Another process was faster, with the same files.
            if not target.is_dir():
                raise


def _explained(done: subprocess.CompletedProcess[bytes], what: str, remedy: str) -> CeliumError:
    """Return the error that holds the end of what a step said."""
    said = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
    tail = " | ".join([line.strip() for line in said if line.strip()][-_SHOWN_LINES:])
    return CeliumError(f"{what} failed (exit {done.returncode}): {tail or 'it said nothing'}", remedy=remedy)
