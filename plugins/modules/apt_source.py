#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module celium.ops.apt_source."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: apt_source
short_description: Add a signed apt repository, whole or not at all
version_added: 0.1.0
description:
  - Checks the signing key against its fingerprint and the repository against the key, beside apt's own configuration.
    Only then the keyring and the source take their places; whatever fails before leaves the host as it was.
  - Other sources of the same repository are removed, as two keyrings for one repository stop every C(apt update).
  - The key is trusted for this repository only. Neither gpg nor python3-debian is needed on the host.
  - Package lists are not fetched.
author: The celium-ops authors
options:
  name:
    description: The source becomes C(/etc/apt/sources.list.d/NAME.sources).
    type: str
    required: true
  uri:
    description: Where the repository is; V($(ARCH\)) stands for the architecture.
    type: str
    required: true
  suite:
    description: The suite; V(/) for a repository without suites.
    type: str
    required: true
  components:
    description: The components; none for a repository without suites.
    type: list
    elements: str
    default: []
  key:
    description: The signing key, as ASCII-armoured text or as the URL that the host fetches it from.
    type: str
    required: true
  fingerprint:
    description: The fingerprint that the key must have. Other keys that come with it are not used.
    type: str
    required: true
  keyring:
    description: The file that keeps the key; binary if it ends in V(.gpg), else ASCII-armoured.
    type: path
    required: true
attributes:
  check_mode: {support: full, details: the key and the repository are checked as well}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Docker's own packages
  celium.ops.apt_source:
    name: docker
    uri: https://download.docker.com/linux/debian
    suite: trixie
    components: [stable]
    key: https://download.docker.com/linux/debian/gpg
    fingerprint: 9DC858229FC7DD38854AE2D88D81803C0EBFCD88
    keyring: /etc/apt/keyrings/docker.asc
"""

RETURN = r"""
files:
  description: The files that changed, those that held another source of the repository included.
  returned: success
  type: list
  elements: str
"""

import base64
import binascii
import hashlib
import os
import re
import shutil
import tempfile
import textwrap
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

SOURCES = Path("/etc/apt/sources.list")
PARTS = Path("/etc/apt/sources.list.d")
HEADER = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
FOOTER = "-----END PGP PUBLIC KEY BLOCK-----"
PUBLIC_KEY = 6
"""The packet that begins a key (RFC 9580, 5.5.1.1); all up to the next one belongs to it."""

# Read after apt's own configuration, so the host's proxies and certificates hold. The hooks would take what is fetched
# here for an update of the host's package lists.
ASIDE = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "{folder}/sources.list.d";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
"""


class UnusableError(Exception):
    """The key or the repository cannot be used; the message is for the operator."""


def packets(data):
    """Yield ``(tag, body, whole packet)`` for each packet of an OpenPGP message (RFC 9580, 4.2)."""
    while data:
        if data[0] & 0xC0 == 0xC0:
            tag, first = data[0] & 0x3F, data[1]
            if first < 192:
                start, length = 2, first
            elif first < 224:
                start, length = 3, ((first - 192) << 8) + data[2] + 192
            elif first == 255:
                start, length = 6, int.from_bytes(data[2:6], "big")
            else:
                raise ValueError("a packet of unknown length")
        elif data[0] & 0xC0 == 0x80 and data[0] & 3 != 3:
            tag, start = (data[0] & 0x3C) >> 2, 1 + (1 << (data[0] & 3))
            length = int.from_bytes(data[1:start], "big")
        else:
            raise ValueError("no OpenPGP packet")
        if start + length > len(data):
            raise ValueError("it ends too early")
        yield tag, data[start : start + length], data[: start + length]
        data = data[start + length :]


def fingerprint_of(body):
    """Return the fingerprint of a public key of version 4 (RFC 9580, 5.5.4.2), which every apt of today knows."""
    if body[:1] != b"\x04":
        raise ValueError("a key of another version than 4")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324 - so defined


def keys_in(text):
    """Return the keys of an ASCII-armoured text, each as bytes, by fingerprint.

    Raises:
        ValueError: it holds something else.
    """
    lines = "".join(f"{line.strip()}\n" for line in text.splitlines())
    blocks = re.findall(rf"^{HEADER}\n(?:\S+: .*\n)*\n((?:[A-Za-z0-9+/]+={{0,2}}\n)+)(?:=.*\n)?{FOOTER}$", lines, re.M)
    keys, current = {}, None
    for tag, body, whole in packets(b"".join(base64.b64decode(block) for block in blocks)):
        if tag == PUBLIC_KEY:
            current = fingerprint_of(body)
        if current is None:
            raise ValueError("a part of a key without its beginning")
        keys[current] = keys.get(current, b"") + whole
    if not keys:
        raise ValueError("there is no ASCII-armoured key in it")
    return keys


def checked_key(text, origin, wanted):
    """Return the key with the wanted fingerprint; a forged part of it would not pass apt's own checks."""
    if not re.fullmatch("[0-9A-F]{40}", wanted):
        raise UnusableError(f"{wanted!r} is no fingerprint of a key: that has 40 hexadecimal digits")
    try:
        keys = keys_in(text)
    except (ValueError, IndexError, binascii.Error) as error:
        raise UnusableError(f"what {origin} gives is not a signing key: {error}") from error
    if wanted not in keys:
        raise UnusableError(
            f"the signing key from {origin} has the fingerprint {' and '.join(keys)}, not {wanted}; "
            "ask its owner which one is right before you change anything"
        )
    return keys[wanted]


def armoured(key):
    """Return a key as text (RFC 9580, 6); gpg of Debian 12 wants the checksum."""
    checksum = 0xB704CE
    for byte in key:
        checksum ^= byte << 16
        for _ in range(8):
            checksum = checksum << 1 ^ (0x1864CFB if checksum & 0x800000 else 0)
    lines = textwrap.wrap(base64.b64encode(key).decode(), 64)
    check = "=" + base64.b64encode(checksum.to_bytes(3, "big")).decode()
    return "\n".join([HEADER, "", *lines, check, FOOTER, ""]).encode()


def source(params, keyring):
    """Return the text of the source that trusts the keyring."""
    fields = {
        "Types": "deb",
        "URIs": params["uri"],
        "Suites": params["suite"],
        "Components": " ".join(params["components"]),
        "Signed-By": str(keyring),
    }
    return "# Written by celium-ops.\n" + "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def without(text, uri, suite, deb822):
    """Return the text of another source file without our repository.

    A stanza that names more places than ours stays; should it contradict ours, apt says so before anything changes.
    """
    parts = re.split(r"(\n(?:[ \t]*\n)+)" if deb822 else r"(\n)", text)
    where = place_of_stanza if deb822 else place_of_line
    ours = (uri.rstrip("/"), suite)
    if all(where(part) != ours for part in parts):
        return text
    # Every second part is what separates two entries; it goes with the one before it.
    kept = [part for number, part in enumerate(parts) if where(parts[number - number % 2]) != ours]
    return "".join(kept)


def is_idle(text):
    """Tell whether a source file names nothing."""
    return all(line.strip() == "" or line.lstrip().startswith("#") for line in text.splitlines())


def place_of_stanza(stanza):
    """Return the ``(URI, suite)`` of a stanza of a .sources file."""
    found = (re.search(rf"^{name}:(.*)$", stanza, re.M | re.I) for name in ("URIs", "Suites"))
    uri, suite = (match.group(1).strip() if match else "" for match in found)
    return uri.rstrip("/"), suite


def place_of_line(line):
    """Return the ``(URI, suite)`` of a line of a .list file; None when it names no repository."""
    found = re.match(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
    return (found.group(1).rstrip("/"), found.group(2)) if found else None


class Aside:
    """apt with sources and lists of its own, so that it can try what is not in place yet."""

    def __init__(self, module, folder):
        """Make the folder; apt fetches as a user of its own, who must get into it."""
        self.module = module
        self.folder = folder
        folder.chmod(0o755)
        for name in ("incoming", "lists/partial", "cache/archives/partial", "sources.list.d"):
            (folder / name).mkdir(parents=True)
        shutil.chown(folder / "incoming", "_apt")
        (folder / "apt.conf").write_text(ASIDE.format(folder=folder))

    def run(self, program, *arguments):
        """Return why apt failed; None when it did not."""
        command = [program, "-c", str(self.folder / "apt.conf"), *arguments]
        code, out, err = self.module.run_command(command, environ_update={"LC_ALL": "C"})
        if not code:
            return None
        lines = [line[2:].strip(" .") for line in err.splitlines() if line.startswith("E:")]
        said = [line for line in lines if not line.startswith(("Some index files failed", "Download Failed"))]
        why = "; ".join(dict.fromkeys(said)) or (err or out).strip() or f"exit {code}"
        return why.replace(str(self.folder / "sources.list"), str(SOURCES))

    def fetch_key(self, url):
        """Return the text behind a URL, fetched the way apt fetches packages."""
        path = self.folder / "incoming" / "key"
        why = self.run("/usr/lib/apt/apt-helper", "download-file", url, str(path))
        if why:
            raise UnusableError(f"the signing key cannot be fetched from {url}: {why}")
        return path.read_text(errors="replace")

    def try_repository(self, params, ring):
        """Make sure that the repository is there and signed by the key."""
        keyring = self.folder / Path(params["keyring"]).name
        keyring.write_bytes(ring)
        (self.folder / "sources.list.d" / "only.sources").write_text(source(params, keyring))
        why = self.run("apt-get", "update")
        if why:
            raise UnusableError(f"the repository {params['uri']} {params['suite']} cannot be used: {why}")
        (self.folder / "sources.list.d" / "only.sources").unlink()

    def try_sources(self, files):
        """Make sure that apt will be able to read its source files; if it cannot now, they can only get better."""
        for path, content in files.items():
            if content is not None:
                (self.folder / path.relative_to(SOURCES.parent)).write_bytes(content)
        why = self.run("apt-get", "indextargets")
        if why and self.module.run_command(["apt-get", "indextargets"])[0] == 0:
            raise UnusableError(f"this repository does not go with the others of the host: {why}")


def read(path):
    """Return the content of a file; None when there is none."""
    return path.read_bytes() if path.exists() else None


def planned(module, aside):
    """Return the files that differ, with their new content, in the order in which they take their places."""
    params = module.params
    given = params["key"].lstrip().startswith(HEADER)
    text = params["key"] if given else aside.fetch_key(params["key"])
    wanted = re.sub(r"\s", "", params["fingerprint"]).upper()
    key = checked_key(text, "the controller" if given else params["key"], wanted)
    ring = key if params["keyring"].endswith(".gpg") else armoured(key)
    aside.try_repository(params, ring)
    own = PARTS / f"{params['name']}.sources"
    sources = {}
    for path in sorted({SOURCES, *PARTS.glob("*.list"), *PARTS.glob("*.sources")} - {own}):
        before = (read(path) or b"").decode(errors="surrogateescape")
        after = without(before, params["uri"], params["suite"], path.suffix == ".sources")
        goes = after != before and is_idle(after) and path != SOURCES
        sources[path] = None if goes else after.encode(errors="surrogateescape")
    sources[own] = source(params, params["keyring"]).encode()
    aside.try_sources(sources)
    # The keyring first: a source without its key would stop every update.
    files = {Path(params["keyring"]): ring, **sources}
    return {path: content for path, content in files.items() if (read(path) or b"") != (content or b"")}


def place(module, path, content):
    """Give a file its content atomically, or remove it."""
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    Path(temporary).chmod(0o644)
    module.atomic_move(temporary, str(path))


def difference(path, before, after):
    """Return what Ansible shows of a file's change."""
    texts = {"before": (before or b"").decode(errors="replace"), "after": (after or b"").decode(errors="replace")}
    return {"before_header": str(path), "after_header": str(path), **texts}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "uri": {"type": "str", "required": True},
            "suite": {"type": "str", "required": True},
            "components": {"type": "list", "elements": "str", "default": []},
            "key": {"type": "str", "required": True, "no_log": False},
            "fingerprint": {"type": "str", "required": True},
            "keyring": {"type": "path", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="celium-apt-") as folder:
        try:
            files = planned(module, Aside(module, Path(folder)))
        except (UnusableError, OSError) as error:
            module.fail_json(msg=f"{error}; nothing was changed")
    keyring = Path(module.params["keyring"])
    diff = [difference(path, read(path), content) for path, content in files.items() if path != keyring]
    if not module.check_mode:
        for path, content in files.items():
            place(module, path, content)
    module.exit_json(changed=bool(files), files=[str(path) for path in files], diff=diff)


if __name__ == "__main__":
    main()
