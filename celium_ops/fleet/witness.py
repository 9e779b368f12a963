"""Who watches a process that reads an inventory: all that it looked at, or why that does not explain its answer.

What can be compared later is written down: files, folders, paths, variables of the environment. What cannot is a reason
not to keep the answer: programs, sockets, secrets of a vault, code of the operator's, and whatever in a template is
not known to give the same for the same. It is a list of what is allowed, so that something new is not trusted.
"""

from __future__ import annotations

import functools
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from celium_ops.fleet.cache import installation, look, read

_BEYOND = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "pty.", "socket.", "sqlite3.", "subprocess.")
"""Audit events of what goes beyond this machine's files. Ansible's own imports raise some, so they count afterwards."""

_ALLOWED = {
    "inventory": "advanced_host_list auto host_list ini script toml yaml",  # a script that runs is an event of its own
    "vars": "host_group_vars",
    "cache": "memory",
    "lookup": "",
    "filter": """
        abs attr b64decode b64encode basename batch bool capitalize center checksum combinations combine comment
        commonpath count d default dict2items dictsort difference dirname e escape extract filesizeformat first flatten
        float forceescape format from_json from_yaml from_yaml_all groupby hash human_readable human_to_bytes indent int
        intersect items items2dict join last length list log lower mandatory map max md5 min normpath path_join
        permutations pow product quote regex_escape regex_findall regex_replace regex_search reject rejectattr
        rekey_on_member replace reverse root round select selectattr sha1 slice sort split splitext string subelements
        sum symmetric_difference ternary title to_json to_nice_json to_nice_yaml to_uuid to_yaml trim truncate
        type_debug union unique upper urldecode urlencode urlsplit wordcount zip zip_longest""",
    "test": """
        != < <= == > >= abs all any boolean contains defined divisibleby eq equalto even falsy false float ge gt
        greaterthan in integer is_abs isnan issubset issuperset iterable le lessthan lower lt mapping match nan ne none
        number odd regex sameas search sequence string subset superset true truthy undefined upper uri url urn version
        version_compare""",
}
"""Ansible's own plugins that answer the same to the same, but for what is watched, by their kind."""

_PURE = (str, bytes, int, float, Mapping, Sequence, AbstractSet)
"""What a template may call a method of. A date would know what time it is."""


class Witness:
    """All that this process looks at from now on, and why its answer cannot be kept, if it cannot."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._installed = tuple(installation())
        self._seen: dict[tuple[str, str], Any] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._reason: str | None = None
        self._imported = False
        self._busy = False

    def watch(self) -> None:
        """Start to watch. It has no end: a process has one witness."""
        for name in ("stat", "lstat", "readlink"):
            before(os, name, functools.partial(self._note, name))
        before(os, "access", lambda path, mode, **named: self._note("access", path, before=f"{mode}:", **named))
        before(os._Environ, "__getitem__", lambda _, name: self._note("variable", name))
        before(os._Environ, "__iter__", lambda _: self.refuse("all of the environment is read"))
        # A path with a ~ asks for the accounts of this machine.
        before(pwd, "getpwnam", functools.partial(self._note, "getpwnam"))
        before(pwd, "getpwuid", lambda number: self._note("getpwuid", str(number)))
        sys.addaudithook(self._audit)

    def watch_templates(self, environment: type, loaders: Sequence[Any]) -> None:
        """Watch, once Ansible is imported, what values call.

        Args:
            environment: the class of the environment that templates live in.
            loaders: what gives Ansible its plugins.
        """
        self._imported = True
        before(environment, "call", self._called)
        for loader in loaders:
            before(loader, "get_with_context", functools.partial(self._loaded, loader.type))

    def refuse(self, reason: str) -> None:
        """Say why the answer cannot be kept; the first reason is as good as any."""
        self._reason = self._reason or reason

    def report(self) -> dict[str, Any]:
        """Return ``cacheable``, the ``reason`` why not, and what was ``seen``: lists of kind, name and what it was.

        What changed while it was read is no base for anything, so all of it is looked at again.
        """
        self._busy = True
        for (kind, name), was in self._seen.items():
            if look(kind, name, self._environment) != was or (kind == "file" and self._stamps[name] != _stamp(name)):
                self.refuse(f"it changed while it was read: {name}")
        seen = [] if self._reason else [[kind, name, was] for (kind, name), was in self._seen.items()]
        return {"cacheable": self._reason is None, "reason": self._reason, "seen": seen}

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & os.O_ACCMODE != os.O_WRONLY:
                self._note("file", path)
        elif event in ("os.listdir", "os.scandir"):
            self._note("folder", arguments[0] or ".")
        elif event == "os.mkdir":
            for kind in ("stat", "lstat"):  # it is there from now on, by our own doing
                self._seen.pop((kind, os.fsdecode(arguments[0])), None)
        elif self._imported and event.startswith(_BEYOND) and not self._busy:
            self.refuse(f"it goes beyond files: {event}")

    def _note(self, kind: str, path: Any, *_: Any, before: str = "", dir_fd: int | None = None, **__: Any) -> None:
        """Write down what something is, before it is looked at for the first time."""
        if self._busy:
            return
        if dir_fd is not None or (kind == "folder" and isinstance(path, int)):
            self.refuse("a folder is read that has no name")
        if isinstance(path, int):  # the file was opened by its name
            return
        path = os.fsdecode(path)
        name = before + path
        if (kind, name) in self._seen or (kind != "variable" and path.startswith(self._installed)):
            return
        # Looking raises the same events again.
        self._busy = True
        try:
            if kind == "file":
                self._examine(name)
            self._seen[kind, name] = look(kind, name, self._environment)
        finally:
            self._busy = False

    def _examine(self, name: str) -> None:
        self._stamps[name] = _stamp(name)
        try:
            content = read(name)
        except OSError:
            return
        if content is None and name != os.devnull:
            self.refuse(f"it is no regular file: {name}")
        elif content is not None and b"$ANSIBLE_VAULT" in content:
            self.refuse(f"there are secrets of a vault in {name}")
        elif name.endswith((".py", ".pyc")):
            self.refuse(f"it is code that nobody knows: {name}")

    def _loaded(self, kind: str, name: str, *_: Any, **__: Any) -> None:
        if name.removeprefix("ansible.builtin.") not in _ALLOWED[kind].split():
            self.refuse(f"the {kind} plugin {name} may answer something else each time")

    def _called(self, _environment: Any, _context: Any, callee: Any, *_: Any, **__: Any) -> None:
        # Types are range, dict and what Jinja has for loops. A function is a lookup, or the time of day.
        if not isinstance(callee, type) and not isinstance(getattr(callee, "__self__", None), _PURE):
            self.refuse(f"a template calls {getattr(callee, '__name__', callee)}")


def _stamp(name: str) -> tuple[int, int]:
    """Return what changes with every write to a file, even one that was taken back meanwhile."""
    try:
        found = Path(name).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_ctime_ns


def before(owner: Any, name: str, watcher: Callable[..., None]) -> None:
    """Let a function be told of, with its arguments, before it is called."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def told(*args: Any, **named: Any) -> Any:
        watcher(*args, **named)
        return function(*args, **named)

    setattr(owner, name, told)
