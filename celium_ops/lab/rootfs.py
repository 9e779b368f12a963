"""Root file systems made with debootstrap and imported as Docker images, each named by a hash of its inputs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from celium_ops.base.errors import CeliumError
from celium_ops.base.files import write_atomic
from celium_ops.base.paths import cache_dir
from celium_ops.lab import docker, machine
from celium_ops.lab.process import failure, run

Report = Callable[[str], None]

REPOSITORY = "celium-lab"
_UBUNTU_KEYRING_DEB = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
_UBUNTU_KEYRING_DEB_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
_UBUNTU_KEYRING_SHA256 = "80a36b0a6de2f69f49d2df75ef473ccde121e9e190b9ea01d20a4f63778d5c31"
_KEYRINGS = Path("/usr/share/keyrings")
_SCRIPTS = Path("/usr/share/debootstrap/scripts")


@dataclass(frozen=True)
class Source:
    """Where a distribution's packages come from."""

    distribution: str
    mirror: str
    security: str
    components: tuple[str, ...]
    scripts: tuple[str, ...]
    """debootstrap scripts that serve when it knows no script of the suite's own name, best first."""

    def apt_sources(self, suite: str) -> str:
        """Return the deb822 file that has the suite, its updates and its security fixes."""
        components = " ".join(self.components)
        signed = f"Signed-By: {_KEYRINGS}/{self.distribution}-archive-keyring.gpg"
        places = ((self.mirror, f"{suite} {suite}-updates"), (self.security, f"{suite}-security"))
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\n{signed}\n" for uri, suites in places
        )


_DEBIAN = Source(
    distribution="debian",
    mirror="http://deb.debian.org/debian",
    security="http://deb.debian.org/debian-security",
    components=("main",),
    scripts=("sid", "bookworm"),
)


def source_of(suite: str, architecture: str = "amd64") -> Source:
    """Return where the packages of a suite come from; Ubuntu keeps other architectures on another host."""
    if suite not in {"jammy", "noble"}:
        return _DEBIAN
    ports = "http://ports.ubuntu.com/ubuntu-ports"
    return Source(
        distribution="ubuntu",
        mirror="http://archive.ubuntu.com/ubuntu" if architecture == "amd64" else ports,
        security="http://security.ubuntu.com/ubuntu" if architecture == "amd64" else ports,
        components=("main", "universe"),
        scripts=("jammy", "focal", "gutsy"),
    )


def archive_answers(suite: str) -> bool:
    """Tell whether the archive that holds a suite can be reached from here."""
    url = f"{source_of(suite, machine.architecture()).mirror}/dists/{suite}/Release"
    for _ in range(2):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- a constant http address
                return int(answer.status) == 200
        except OSError:
            continue
    return False


def image_tag(
    name: str, suite: str, packages: Sequence[str], *, files: Mapping[str, str] | None = None, finish: str = ""
) -> str:
    """Return the tag an image has, from the inputs of ``ensure_rootfs_image``."""
    architecture = machine.architecture()
    sources = source_of(suite, architecture).apt_sources(suite)
    inputs = [_BUILD, _INSTALL, suite, architecture, sorted(set(packages)), sources, dict(files or {}), finish]
    return f"{REPOSITORY}/{name}:{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]}"


def ensure_rootfs_image(
    name: str,
    suite: str,
    packages: Sequence[str],
    report: Report,
    *,
    files: Mapping[str, str] | None = None,
    finish: str = "",
) -> str:
    """Return the tag of a local image with a minimal system of ``suite`` and ``packages``, made when it is missing.

    The same inputs give the same tag, so a second call costs one look at the engine. A build that was interrupted
    starts again, from the packages already fetched; a half-made system never becomes an image.

    Args:
        name: what the image is for; its tag is ``celium-lab/NAME:HASH``.
        suite: the Debian or Ubuntu suite, as ``noble``, ``trixie`` or ``bookworm``.
        packages: what is installed beside the minimal system, without recommended packages.
        report: told what is being done.
        files: texts to place before the packages are installed, by absolute path; modes come from ``finish``.
        finish: shell commands run inside at the end, with ``set -eu``.

    Raises:
        CeliumError: no root, no engine, no archive, or debootstrap failed.
    """
    tag = image_tag(name, suite, packages, files=files, finish=finish)
    if docker.image_id(tag):
        return tag
    source = source_of(suite, machine.architecture())
    work = _work_dir()
    stem = tag.removeprefix(f"{REPOSITORY}/").replace(":", "-")
    with _lock(work / f"{stem}.lock", report):
        if docker.image_id(tag):
            return tag
        archive = work / f"{stem}.tar"
        if not archive.exists():
            report(f"{name}: building a {source.distribution.capitalize()} {suite} system (about a minute)")
            overlay = {f"/etc/apt/sources.list.d/{source.distribution}.sources": source.apt_sources(suite)}
            _build(archive, source, suite, packages, {**overlay, **(files or {})}, finish)
        report(f"{name}: importing the image")
        # The engine may finish an import whose client was killed, so the name is given to what was imported in full.
        docker.docker("import", "--change", 'CMD ["/bin/bash"]', str(archive), f"{tag}-importing")
        docker.docker("tag", f"{tag}-importing", tag)
        docker.docker("image", "rm", f"{tag}-importing")
        run(["rm", "-f", str(archive)], root=True)
    return tag


def remove_images(report: Report) -> None:
    """Remove every image that labs are made of and no container needs."""
    named = docker.text("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={REPOSITORY}/*")
    unnamed = docker.text("image", "ls", "--quiet", "--filter", f"label={docker.LABEL}", "--filter", "dangling=true")
    report("removing images")
    # One at a time, those that stand on others first: an image in use stays, and keeps no other from going.
    for image in [*named.split(), *unnamed.split()]:
        docker.docker("image", "rm", image, check=False)


def remove_caches() -> None:
    """Remove what the images were made from."""
    caches = [str(path) for path in (cache_dir() / "lab").iterdir() if path.is_dir()]
    run(["rm", "-rf", "--one-file-system", *caches], root=True)


def _work_dir() -> Path:
    path = cache_dir() / "lab" / "rootfs"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _lock(path: Path, report: Report) -> Iterator[None]:
    """Let one process at a time make an image; the second finds it made."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that makes {path.stem}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


# An archive may fail for a moment. What was fetched is in the cache, so that another try begins where the last ended.
_BOOTSTRAP = """
bootstrap() {
  rm -rf --one-file-system "$rootfs"
  mkdir -p "$rootfs"
  debootstrap "$@"
}
bootstrap "$@" || { sleep 5; bootstrap "$@"; } || { sleep 15; bootstrap "$@"; }
"""

# Runs as root in mount and process namespaces of its own, so whatever ends it leaves no mount and no process behind.
# The lock is for a build that outlived the command that started it: its folder is not taken from under it. The trap is
# there because the first process of a namespace ignores signals that it does not handle.
_BUILD = f"""
set -eu
trap 'exit 143' TERM
rootfs=$1 archive=$2 debs=$3 overlay=$4; shift 4
exec 9>"$archive.building"
flock 9
rm -f "$archive.partial"
mkdir -p "$debs"
{_BOOTSTRAP}
cp -R --no-preserve=ownership "$overlay/." "$rootfs/"
rm -f "$rootfs/etc/apt/sources.list"
mount -t proc proc "$rootfs/proc"
mount --bind "$debs" "$rootfs/var/cache/apt/archives"
chroot "$rootfs" /bin/sh -eu /celium-build
umount "$rootfs/var/cache/apt/archives" "$rootfs/proc"
rm -rf "$rootfs/celium-build" "$rootfs/usr/sbin/policy-rc.d" "$rootfs/etc/apt/apt.conf.d/99celium-build" \\
  "$rootfs"/var/cache/apt/*.bin "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/* \\
  "$rootfs"/etc/ssh/ssh_host_* "$rootfs/etc/machine-id" "$rootfs/var/lib/dbus/machine-id" \\
  "$rootfs"/var/log/*.log "$rootfs"/var/log/apt/* "$rootfs"/tmp/* "$rootfs/root/.bash_history"
# Lists that are gone must look old, or "fetch them when older than a day" would trust an empty folder.
touch -d @0 "$rootfs/var/lib/apt/lists"
: > "$rootfs/etc/resolv.conf"
echo celium-lab > "$rootfs/etc/hostname"
tar -C "$rootfs" -cf "$archive.partial" .
mv "$archive.partial" "$archive"
rm -rf --one-file-system "$rootfs" "$archive.building"
"""

_INSTALL = """
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
chmod 755 /usr/sbin/policy-rc.d
apt-get -qq update
apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install {packages}
{finish}
"""


def _build(
    archive: Path, source: Source, suite: str, packages: Sequence[str], files: Mapping[str, str], finish: str
) -> None:
    """Make ``archive``, a tar file of the finished system; it appears whole or not at all."""
    machine.ensure_packages({"debootstrap": "debootstrap", "unshare": "util-linux"})
    rootfs = archive.with_suffix(".partial")
    debs = _work_dir() / f"debs-{suite}"
    debs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as folder:
        Path(folder).chmod(0o755)
        _place(
            Path(folder),
            {
                # Nothing may start while packages are installed: there is no init in there.
                "/usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
                "/etc/apt/apt.conf.d/99celium-build": machine.apt_settings(),
                "/celium-build": _INSTALL.format(packages=" ".join(packages), finish=finish),
                **files,
            },
        )
        debootstrap = [
            "--variant=minbase",
            f"--components={','.join(source.components)}",
            f"--keyring={_keyring(source)}",
            f"--cache-dir={debs}",
            "--include=ca-certificates",
            suite,
            str(rootfs),
            source.mirror,
            str(_script(source, suite)),
        ]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        arguments = [str(rootfs), str(archive), str(debs), folder, *debootstrap]
        done = run([*namespaces, "sh", "-c", _BUILD, "celium-build", *arguments], root=True, check=False)
    if done.returncode:
        log = archive.with_suffix(".log")
        write_atomic(log, done.stdout + done.stderr)
        error = failure(done, f"building the {suite} system")
        error.remedy = f"read {log}; the archive {source.mirror} must be reachable"
        raise error


def _place(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o644)


def _script(source: Source, suite: str) -> Path:
    for name in (suite, *source.scripts):
        if (_SCRIPTS / name).exists():
            return _SCRIPTS / name
    raise CeliumError(
        f"the debootstrap of this machine has no script for {suite}", remedy="install a newer debootstrap"
    )


def _keyring(source: Source) -> Path:
    """Return the keyring that the archive's signature is checked with."""
    packaged = _KEYRINGS / f"{source.distribution}-archive-keyring.gpg"
    if packaged.exists():
        return packaged
    if source.distribution == "debian":
        machine.ensure_packages({str(packaged): "debian-archive-keyring"})
        return packaged
    return _ubuntu_keyring(source)


def _ubuntu_keyring(source: Source) -> Path:
    """Fetch Ubuntu's keyring, which Debian does not package; what comes must be the file we pinned."""
    keyring = _work_dir() / "ubuntu-archive-keyring.gpg"
    if keyring.exists() and _sha256(keyring) == _UBUNTU_KEYRING_SHA256:
        return keyring
    url = f"{source.mirror}/{_UBUNTU_KEYRING_DEB}"
    with tempfile.TemporaryDirectory(prefix="celium-lab-") as folder:
        deb = Path(folder) / "ubuntu-keyring.deb"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 -- a constant http address
                deb.write_bytes(answer.read())
        except OSError as error:
            raise CeliumError(
                f"Ubuntu's keyring cannot be fetched from {urlsplit(url).netloc}: {error}",
                remedy="check the machine's network and proxy settings",
            ) from error
        _must_be(deb, _UBUNTU_KEYRING_DEB_SHA256, url)
        run(["dpkg-deb", "--extract", str(deb), f"{folder}/tree"])
        extracted = Path(folder) / "tree/usr/share/keyrings/ubuntu-archive-keyring.gpg"
        _must_be(extracted, _UBUNTU_KEYRING_SHA256, url)
        shutil.copyfile(extracted, keyring)
    return keyring


def _must_be(path: Path, sha256: str, origin: str) -> None:
    if (found := _sha256(path)) != sha256:
        raise CeliumError(
            f"{path.name} from {origin} is not the file that was pinned: sha256 {found}, expected {sha256}",
            remedy="do not use this mirror",
            code="wrong-checksum",
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
