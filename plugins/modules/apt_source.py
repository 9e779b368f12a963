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
  - Other entries of the same repository, whatever the suite, are taken out of all source files, as two keyrings for one
    repository stop every C(apt update). Other entries of these files stay.
  - The same key in C(/etc/apt/trusted.gpg.d), where it is good for every repository, is removed unless another source
    needs it, or may. Keyrings elsewhere stay; they trust nothing by themselves.
  - What is changed or removed is kept beside, under a name that ends in V(~) and that apt passes over without a word.
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
  legacy:
    description: Where its publisher had the repository before, as patterns of URIs; their entries are removed as well.
    type: list
    elements: str
    default: []
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
  description: The files that changed, those that held another source of the repository or its key included.
  returned: success
  type: list
  elements: str
backup_files:
  description: Copies of those of them that were there before.
  returned: when not in check mode
  type: list
  elements: str
"""

import binascii
import os
import re
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celium.ops.plugins.module_utils.openpgp import (
    HEADER,
    armoured,
    keys_in,
    keys_of,
    names_of,
    unarmoured,
)
from ansible_collections.celium.ops.plugins.module_utils.source_files import entries, is_idle, place, without

SOURCES = Path("/etc/apt/sources.list")
PARTS = Path("/etc/apt/sources.list.d")
TRUSTED = Path("/etc/apt/trusted.gpg.d")
"""Keys in here are good for every source that names none."""
LISTS = Path("/var/lib/apt/lists")
LARGEST_KEY = 2**20
"""Bytes; Docker's key has 4 kB, a distribution's keyring some 100."""
KEY_WITHIN = 120
"""Seconds a key may take: apt's own limits are for each read, so a server that trickles would keep us for ever."""
APT_WITHIN = 300
"""Seconds any other run of apt's may take."""
SIGNED = ("_InRelease", "_Release.gpg")

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

    def run(self, program, *arguments, seconds=APT_WITHIN, wrapper=()):
        """Return why apt failed; None when it did not."""
        limit = ["timeout", "--kill-after=5", str(seconds)]
        command = [*wrapper, *limit, program, "-c", str(self.folder / "apt.conf"), *arguments]
        code, out, err = self.module.run_command(command, environ_update={"LC_ALL": "C"})
        if not code:
            return None
        if code in (124, 137):
            return f"{Path(program).name} did not end in {seconds} s"
        lines = [line[2:].strip(" .") for line in err.splitlines() if line.startswith("E:")]
        said = [line for line in lines if not line.startswith(("Some index files failed", "Download Failed"))]
        why = "; ".join(dict.fromkeys(said)) or (err or out).strip() or f"exit {code}"
        return why.replace(str(self.folder / "sources.list"), str(SOURCES))

    def fetch_key(self, url):
        """Return the text behind a URL, fetched the way apt fetches packages."""
        path = self.folder / "incoming" / "key"
        helper, largest = "/usr/lib/apt/apt-helper", f"--fsize={LARGEST_KEY}"
        why = self.run(helper, "download-file", url, str(path), seconds=KEY_WITHIN, wrapper=["prlimit", largest])
        # What was cut off at the limit may have another name: apt renames a file when it is whole.
        if any(file.stat().st_size >= LARGEST_KEY for file in path.parent.iterdir()):
            raise UnusableError(f"what {url} gives is not a signing key: it has 1 MiB or more")
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


def is_needed(path, key, sources, architecture, lists):
    """Tell whether a source needs the key from its file among those that are trusted for everything, or may.

    ``sources`` are the contents of all source files, by path. What signs a repository that names no keys of its own is
    in apt's lists; while it was never fetched, nobody knows.
    """
    texts = {file: content.decode(errors="surrogateescape") for file, content in sources.items() if content is not None}
    if any(str(path) in text for text in texts.values()):
        return True
    for file, text in texts.items():
        for entry in entries(text, file.suffix == ".sources"):
            if not entry.has_keyring and any(may_be_signed(uri, key, architecture, lists) for uri in entry.uris):
                return True
    return False


def may_be_signed(uri, key, architecture, lists):
    """Tell whether the key signs a repository, as far as apt's lists know; a signature names the key that made it."""
    # As apt makes names of URIs (URItoFileName).
    quoted = re.sub(r'[\\|{}\[\]<>"^~_=!@#$%&*]', lambda one: f"%{ord(one.group()):02x}", place(uri, architecture))
    name = quoted.replace("/", "_") + "_"
    releases = [one for one in lists.glob("*Release*") if one.name.startswith(name) and one.name.endswith(SIGNED)]
    signatures = [unarmoured(one.read_text(errors="replace"), "SIGNATURE") for one in releases]
    known = bool(signatures) and all(signatures)
    return not known or any(name in signature for signature in signatures for name in names_of(key))


def superfluous(key, sources, architecture, trusted=TRUSTED, lists=LISTS):
    """Return the files of keys that are trusted for everything, hold this key alone, and are needed by no source."""
    found = []
    for path in sorted(file for form in ("*.gpg", "*.asc") for file in trusted.glob(form)):
        try:
            content = path.read_bytes()
            keys = keys_in(content.decode()) if path.suffix == ".asc" else keys_of(content)
            ours = keys.keys() == keys_of(key).keys()
            if ours and not is_needed(path, key, sources, architecture, lists):
                found.append(path)
        except (ValueError, IndexError):
            continue  # of another kind, so not ours to judge
    return found


def planned(module, aside):
    """Return the files that differ, with their new content, in the order in which they take their places."""
    params = module.params
    given = params["key"].lstrip().startswith(HEADER)
    text = params["key"] if given else aside.fetch_key(params["key"])
    wanted = re.sub(r"\s", "", params["fingerprint"]).upper()
    key = checked_key(text, "the controller" if given else params["key"], wanted)
    ring = key if params["keyring"].endswith(".gpg") else armoured(key)
    aside.try_repository(params, ring)
    architecture = module.run_command(["dpkg", "--print-architecture"], check_rc=True)[1].strip()
    sources = planned_sources(params, architecture, {path: read(path) or b"" for path in source_files()})
    aside.try_sources(sources)
    # The keyring first: a source without its key would stop every update. The key that was good for all goes last.
    files = {Path(params["keyring"]): ring, **sources, **dict.fromkeys(superfluous(key, sources, architecture))}
    return {path: content for path, content in files.items() if (read(path) or b"") != (content or b"")}


def source_files():
    """Return apt's source files."""
    return sorted(path for path in {SOURCES, *PARTS.glob("*.list"), *PARTS.glob("*.sources")} if path.is_file())


def planned_sources(params, architecture, present):
    """Return the contents that the source files are to have, by path, null for one that goes; ours is the last."""
    patterns = [place(pattern, architecture) for pattern in (params["uri"], *params["legacy"])]

    def ours(uri):
        return any(fnmatchcase(place(uri, architecture), pattern) for pattern in patterns)

    own = PARTS / f"{params['name']}.sources"
    found = {}
    for path, content in present.items():
        before = content.decode(errors="surrogateescape")
        after = without(before, ours, path.suffix == ".sources")
        gone = is_idle(after) and (path == own or (after != before and path != SOURCES))
        found[path] = None if gone else after.encode(errors="surrogateescape")
    # Somebody else's stanzas in a file of this name stay there.
    others = found.pop(own, None)
    found[own] = source(params, params["keyring"]).encode() + (b"\n" + others.lstrip(b"\n") if others else b"")
    return found


def put(module, path, content):
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
    """Return what Ansible shows of a file's change; of a key no more than that it goes."""
    if path.parent == TRUSTED:
        before = b"a key that was trusted for every repository\n"
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
            "legacy": {"type": "list", "elements": "str", "default": []},
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
    result = {"changed": bool(files), "files": [str(path) for path in files], "diff": diff}
    if not module.check_mode:
        result["backup_files"] = [module.backup_local(str(path)) for path in files if path.exists()]
        for path, content in files.items():
            put(module, path, content)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
