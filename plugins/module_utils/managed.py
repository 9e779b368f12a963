# SPDX-License-Identifier: MIT
"""What our roles manage on a host: recorded after an apply, and compared with what is there later.

The roles say what they manage, as entries like ``{"kind": "file", "name": "/etc/x"}``; what such a thing is like on the
host is its state, which is null when it is not there. A record holds both. Record and comparison use the same eyes, so
a host that compares equal is as the apply left it. It has two users, as ``probe`` has: the module ``record`` imports
it, and the command line sends its source along. Nothing but Python 3.8 and its standard library is needed.
"""

from __future__ import annotations

import fnmatch
import grp
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import re
import subprocess

try:
    from ansible_collections.celium.ops.plugins.module_utils import probe, tenancy
except ImportError:  # the command line sends them along under these names
    import probe
    import tenancy

RECORD = pathlib.Path("/var/lib/celium-ops/record.json")
SCHEMA = 1
LARGEST_TEXT = 65536
"""Bytes of a file that a record keeps, to show later what was changed in it."""
_MOUNTS, _FSTAB, _SYSCTLS = map(pathlib.Path, ("/proc/self/mounts", "/etc/fstab", "/proc/sys"))
_SCRIPTS = pathlib.Path("/etc/init.d")
_HASH = "com.docker.compose.config-hash"
_SHOWN = frozenset(
    {
        *("bip", "default-address-pools", "features.cdi", "insecure-registries", "live-restore", "log-driver"),
        *("log-opts.max-file", "log-opts.max-size", "storage-driver"),
    }
)
"""Keys of Docker's configuration that hold no secret; the value of another may."""
_VARIABLE = re.compile(rb"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_PACKAGE = re.compile(r"^(Package|Status|Version|Architecture): (.*)$", re.MULTILINE)


class Eyes:
    """Looks at the things of a host; what answers for many of them is asked once.

    ``salt`` keys the digests of secrets, so that a record gives nothing away that could be guessed and compared.
    ``entries`` are all that it will be shown.
    """

    def __init__(self, salt, entries=()):
        self.salt = salt.encode()
        self._units = list(dict.fromkeys(entry["name"] for entry in entries if entry["kind"] == "unit"))
        self._systemd = {}
        self._packages = None

    def see(self, entry):
        """Return the state of what an entry is about."""
        return getattr(self, "_" + entry["kind"])(entry)

    def keyed(self, content):
        """Return the digest of something secret."""
        return hmac.new(self.salt, content, hashlib.sha256).hexdigest()

    def _directory(self, entry):
        path = pathlib.Path(entry["name"])
        return _attributes(path) if path.is_dir() else None

    def _file(self, entry):
        path = pathlib.Path(entry["name"])
        if path.is_symlink():  # the roles put a file in its place
            return {"link": str(path.resolve())}
        if not path.is_file():
            return None
        content = path.read_bytes()
        if entry.get("secret"):
            return dict(_attributes(path), digest=self.keyed(content))
        state = dict(_attributes(path), digest=hashlib.sha256(content).hexdigest())
        if len(content) <= LARGEST_TEXT:
            state["text"] = content.decode(errors="replace")
        return state

    def _environment(self, entry):
        """An environment file: each variable for itself, none of their values."""
        state = self._file(dict(entry, secret=True))
        if state and "digest" in state:
            lines = pathlib.Path(entry["name"]).read_bytes().splitlines()
            pairs = (found.groups() for found in map(_VARIABLE.match, lines) if found)
            state["variables"] = {name.decode(): self.keyed(value) for name, value in pairs}
        return state

    def _present(self, entry):
        """Something of which it matters only whether it is there; one of several ``paths`` is enough."""
        return pathlib.Path(entry["name"]).exists() or None

    def _mount(self, entry):
        """A folder that is a ``disk`` of its own: whether it is that one, counts with ``quotas``, and its fstab."""
        there, after = ([words for words in _table(of) if words[1] == entry["name"]] for of in (_MOUNTS, _FSTAB))
        source, options = (there[-1][0], there[-1][3].split(",")) if there else ("nothing", [])
        return {
            "disk": entry["disk"] if os.path.realpath(source) == os.path.realpath(entry["disk"]) else source,
            "quotas": entry["quotas"] if entry["quotas"] in options else "off",
            "fstab": "there" if after else "missing",
            "line of fstab": [" ".join(words[:4]) for words in after],
        }

    def _sysctl(self, entry):
        """A setting of the kernel; where its name begins with a part and a dot, slashes stand for dots (sysctl.d)."""
        name = entry["name"]
        if re.match(r"[^/]*\.", name):
            name = name.translate(str.maketrans("./", "/."))
        value = _text(_SYSCTLS / name)
        return {"value": " ".join(value.split())} if value else None

    def _program(self, entry):
        """A program, the first of its ``paths`` that can be run: another build of it may do something else."""
        for path in map(pathlib.Path, entry["paths"]):
            if path.is_file() and os.access(path, os.X_OK):
                found = path.stat()
                return {"path": str(path), "digest": f"{found.st_size} {found.st_mtime_ns}"}
        return None

    def _keys(self, entry):
        """Keys of a JSON file: the ``values`` that are ours, and of ``defaults`` only whether there is a value."""
        try:
            content = json.loads(pathlib.Path(entry["name"]).read_text(encoding="utf-8"))
        except OSError:
            return None
        except ValueError:
            return "no JSON"
        ours = {".".join(path): self._shown(".".join(path), _at(content, path)) for path in _leaves(entry["values"])}
        filled = {".".join(path): _at(content, path) is not None for path in _leaves(entry.get("defaults", {}))}
        return {**filled, **ours}

    def _shown(self, key, value):
        if isinstance(value, dict):
            value = {}  # what somebody else adds to an empty object of ours is his
        return value if key in _SHOWN or value is None else "hidden " + self.keyed(json.dumps(value).encode())[:8]

    def _lines(self, entry):
        """The lines of a file that have something in them; the others are somebody else's."""
        try:
            text = pathlib.Path(entry["name"]).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return [line for line in text.splitlines() if entry["holding"] in line]

    def _address(self, entry):
        """The address of a hotkey, whatever else is in its file."""
        try:
            return json.loads(pathlib.Path(entry["name"]).read_text(encoding="utf-8"))["ss58Address"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _packages_(self):
        if self._packages is None:
            status = pathlib.Path("/var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
            fields = (dict(_PACKAGE.findall(part)) for part in status.split("\n\n"))
            known = ((one, one.get("Status", "").split()) for one in fields if one)
            self._packages = {}
            for one, status in known:
                if status[2:] == ["installed"]:
                    again = one["Package"] in self._packages  # of another architecture
                    name = one["Package"] + (":" + one["Architecture"] if again else "")
                    self._packages[name] = {"version": one["Version"], "held": status[0] == "hold"}
        return self._packages

    def _holds(self, entry):
        """The installed packages of some ``patterns``; further ones count where one of ``when`` is installed."""
        installed = self._packages_()
        patterns = list(entry["patterns"])
        if any(fnmatch.fnmatchcase(name, entry["when"]) for name in installed):
            patterns += entry["further"]
        return {
            name: state
            for name, state in installed.items()
            if any(fnmatch.fnmatchcase(name.split(":")[0], pattern) for pattern in patterns)
        }

    def _driver(self, entry):
        """The driver of the cards: the version of its library, and of the module that the kernel runs.

        Where they differ nothing gets at the cards, until the host boots.
        """
        library = re.search(r"\.so\.(\d+\.[\d.]+)$", os.path.realpath(entry["library"]))
        module = _text(entry["module"]).strip()
        if not module:
            said = re.search(r"^NVRM.* (\d+\.[\d.]+) ", _text(entry["said"]), re.MULTILINE)
            module = said.group(1) if said else None
        return {"version": library.group(1) if library else None, "module": module}

    def _unit(self, entry):
        """A unit of systemd; ``reads`` is a file that it reads when it starts, which is when ``since`` is written."""
        # Both ask what is true now; `show` may know of "enabled" what was true when systemd read the unit.
        enabled, active = (self._systemd_(verb)[entry["name"]] for verb in ("is-enabled", "is-active"))
        if not enabled:
            return None
        state = {"active": active, "enabled": enabled}
        if "reads" in entry:
            times = [_changed(entry[key]) for key in ("reads", "since")]
            state["configuration"] = "newer than what runs" if None not in times and times[0] > times[1] else "read"
        return state

    def _systemd_(self, verb):
        """Return what systemd says of each unit, by name; Debian 12's says nothing of one that is not there."""
        if verb not in self._systemd:
            together = not any(map(_is_script, self._units))
            said = _output("systemctl", verb, *self._units).splitlines() if together else []
            if len(said) != len(self._units):
                said = [_output("systemctl", verb, name).strip() for name in self._units]
            self._systemd[verb] = dict(zip(self._units, said))  # noqa: B905 - Python 3.8
        return self._systemd[verb]

    def _project(self, entry):
        """The containers of one of our stacks, by name.

        Single runs are left alone while they last.
        """
        try:
            found = probe.listed()
        except OSError:  # without an engine there is no container
            return None
        return {
            tenancy.names(one)[0]: _container(one, probe.docker("/containers/" + one["Id"] + "/json"))
            for one in tenancy.of_stack(found, entry["name"])
            if tenancy.labels(one).get(probe.ONCE) != "True" or one["State"] in tenancy.ENDED
        }

    def _image(self, entry):
        """The image that a name stands for on the host."""
        try:
            return {"image": probe.docker("/images/" + entry["name"] + "/json")["Id"]}
        except (OSError, ValueError):  # no engine, or no such image
            return None

    def _firewall(self, entry):
        """A table of nftables, as text."""
        return _output("nft", "list", "table", *entry["name"].split()) or None


def _table(path):
    """Return the words of each line of a table of mounts."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [words for words in map(str.split, lines) if len(words) > 3 and not words[0].startswith("#")]


def _attributes(path):
    found = path.stat()
    return {"mode": "%04o" % (found.st_mode & 0o7777), "owner": _owner(found.st_uid), "group": _group(found.st_gid)}


def _owner(number):
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number):
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _leaves(tree, path=()):
    """Yield the path of everything in nested objects that holds nothing further."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _at(tree, path):
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _text(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_script(unit):
    """Tell whether a unit is no more than an init script; systemctl says of those first whether they are enabled."""
    folders = (folder + "/systemd/system/" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"))
    return (_SCRIPTS / unit.rpartition(".")[0]).exists() and not any(os.path.lexists(one + unit) for one in folders)


def _changed(path):
    try:
        return pathlib.Path(path).stat().st_mtime_ns
    except OSError:
        return None


def _output(*command):
    """Return what a program prints; nothing when it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _container(listed, details):
    """Return what Compose would make a container anew for, or start it.

    The engine's list gives a container's image by its ID where the name that it was made with stands for another image
    by now, or for none, which Compose would pull. To ask about the image itself costs Docker 29 more than all the rest.
    """
    state, labels = details["State"], details["Config"]["Labels"]
    named = listed["Image"] == details["Config"]["Image"]
    return {
        "state": state["Status"],
        "health": probe.health(state),
        "image": details["Image"] if named else "another than its name stands for now",
        "configuration": labels.get(_HASH),
        "environment": labels.get(tenancy.ENVIRONMENT),
        "networks": sorted(details["NetworkSettings"]["Networks"]),
        "once": labels.get(probe.ONCE) == "True",
    }


def make(manages, run=None, waits=()):
    """Return a record of what is there now; it is not sealed: nobody has said for which inputs it holds.

    ``run`` names the run that brought it about. ``waits`` are the changes that the roles left for the end of a rental,
    as ``{"kind", "name", "why", "until"}``; what they name need not be as it is wanted yet.
    Raises ValueError when something else is not as the roles ``wants`` it: it was changed while they were played.
    """
    salt = os.urandom(16).hex()
    eyes = Eyes(salt, manages)
    things = [dict(entry, state=eyes.see(entry)) for entry in manages]
    waiting = {one["name"] for one in waits}
    wrong = [name for thing in things for name in _unwanted(thing, waiting)]
    if wrong:
        raise ValueError("changed while it was played: " + ", ".join(wrong))
    return {"schema": SCHEMA, "salt": salt, "run": run, "things": things, "waits": list(waits), "seal": None}


def _unwanted(thing, waiting):
    """Yield what is not as it has to be at the end of a play, but for what waits for the end of a rental."""
    state, wants = thing["state"], thing.get("wants", {})
    if thing["name"] in waiting:
        return
    if thing["kind"] == "project":
        for name, one in (state or {}).items():
            if (
                name not in waiting
                and not one["once"]
                and (one["state"] != "running" or one["health"] not in ("healthy", "none"))
            ):
                yield f"{name} is {one['state']}, {one['health']}"
    elif wants is None or wants is True:
        if state is not wants:
            yield thing["name"] + (" is gone" if wants else " is there")
    else:
        for key, value in wants.items():
            if not isinstance(state, dict) or state.get(key) != value:
                yield f"{thing['name']} ({key} is not {value})"


def write(record):
    """Put a record in its place, readable by root only."""
    import tempfile  # a look seldom needs it, and it is slow to load

    RECORD.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=str(RECORD.parent))  # 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(record, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, str(RECORD))


def read():
    """Return the record of this host; null when there is none that can be understood."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return record if record["schema"] == SCHEMA and isinstance(record["things"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def drift(record):
    """Return what is no longer as recorded, each with what it was and what it is."""
    eyes = Eyes(record["salt"], record["things"])
    found = []
    for thing in record["things"]:
        before, after = thing["state"], eyes.see(thing)
        if before != after:
            found += _differences(thing, before, after)
    return found


def _differences(thing, before, after):
    kind = {"holds": "package", "project": "container"}.get(thing["kind"])
    if kind:  # several things in one entry
        before, after = before or {}, after or {}
        names = sorted({*before, *after})
        pairs = [(name, before.get(name), after.get(name)) for name in names]
        return [_difference(kind, name, *pair) for name, *pair in pairs if pair[0] != pair[1]]
    name = (before or after)["path"] if thing["kind"] == "program" else thing["name"]
    return [_difference(_KINDS.get(thing["kind"], "file"), name, before, after)]


_KINDS = {kind: kind for kind in ("directory", "firewall", "image", "sysctl", "unit")}
_KINDS.update(driver="package", mount="directory")
"""What a plan calls those that are no files."""


def _difference(kind, name, before, after):
    """Return a difference: of objects only the fields that differ, of texts a diff, of secrets no more than where."""
    found = {"kind": kind, "name": name, "before": before, "after": after}
    if isinstance(before, dict) and isinstance(after, dict):
        fields = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
        found["fields"] = [key for key in fields if key not in ("text", "variables", "digest")]
        found["before"], found["after"] = ({key: side.get(key) for key in found["fields"]} for side in (before, after))
        if "variables" in fields:
            pairs = (
                (key, before["variables"].get(key), after["variables"].get(key))
                for key in sorted({*before["variables"], *after["variables"]})
            )
            found["variables"] = [key for key, old, new in pairs if old != new]
        if "digest" in fields:
            found["content"] = True
    texts = [side.get("text") if isinstance(side, dict) else side for side in (before, after)]
    if all(isinstance(text, str) for text in texts) and texts[0] != texts[1]:
        import difflib  # seldom needed, and slow to load

        found["diff"] = "\n".join(difflib.unified_diff(*(text.splitlines() for text in texts), name, name, lineterm=""))
        if kind == "firewall":
            found["before"] = found["after"] = None
    for side in ("before", "after"):
        if isinstance(found[side], dict):
            found[side] = {
                key: value for key, value in found[side].items() if key not in ("text", "digest", "variables")
            }
    return found


def check(seal=None):
    """Compare this host with its record.

    With a ``seal`` (the inputs that a run had, as keyed digests) a host that is as this run left it gets it: from then
    on its record holds for these inputs, until another apply. Null: no apply left a record here.
    """
    record = read()
    if record is None:
        return None
    waits = record.get("waits", [])
    found = [one for one in drift(record) if not _comes_and_goes(one, waits)]
    if seal is not None and not found and record["run"] == seal["run"]:
        record["seal"] = seal
        write(record)
    return {"seal": record["seal"], "drift": found, "waits": waits}


def _comes_and_goes(found, waits):
    """Return whether a difference is only how a container is that waits for a restart: it may crash and start over."""
    waiting = any(one.get("name") == found["name"] for one in waits)
    return waiting and found["kind"] == "container" and set(found.get("fields", ["?"])) <= {"state", "health"}
