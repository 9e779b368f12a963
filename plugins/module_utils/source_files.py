# SPDX-License-Identifier: MIT
"""apt's source files: what stands in them, and how to take a repository out of them. Pure; sources.list(5)."""

from __future__ import annotations

import re
from itertools import zip_longest

_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s*)?([^\s\[]\S*)\s+\S+")
_URIS = re.compile(r"^URIs:.*(?:\n(?:[ \t].*|#.*))*", re.MULTILINE | re.IGNORECASE)


class Entry:
    """A line of a .list file or a stanza of a .sources file: its URIs, and what its Signed-By says."""

    def __init__(self, uris, signed_by):
        """Keep both."""
        self.uris = uris
        self.signed_by = signed_by

    @property
    def has_keyring(self):
        """Tell whether it has keys of its own; a fingerprint only picks one that is trusted for everything."""
        return self.signed_by.startswith("/") or "BEGIN PGP" in self.signed_by


def place(uri, architecture):
    """Return where a URI leads, the same for each way to write it: http or https, a slash at the end, ``$(ARCH)``."""
    host, slash, path = re.sub(r"^https?://", "", uri.replace("$(ARCH)", architecture)).partition("/")
    return (host.lower() + slash + path).rstrip("/")


def entries(text, deb822):
    """Return what a source file names and apt asks."""
    return [entry for entry in map(_stanza if deb822 else _line, _parts(text, deb822)[::2]) if entry]


def without(text, ours, deb822):
    """Return the text of a source file without the entries whose URIs are ``ours``.

    Of a stanza that names other places, too, only our URIs go. Comments stay, and what is switched off.
    """
    parts = _parts(text, deb822)
    kept = []
    for part, separator in zip_longest(parts[::2], parts[1::2], fillvalue=""):
        entry = (_stanza if deb822 else _line)(part)
        others = [uri for uri in entry.uris if not ours(uri)] if entry else []
        if entry is None or len(others) == len(entry.uris):
            kept += [part, separator]
        elif others:
            field = "URIs: " + " ".join(others)
            kept += [_URIS.sub(lambda _, field=field: field, part, count=1), separator]
    return "".join(kept)


def is_idle(text):
    """Tell whether a source file names nothing."""
    return all(line.strip() == "" or line.lstrip().startswith("#") for line in text.splitlines())


def _parts(text, deb822):
    """Split a file: every second part is what separates two entries."""
    return re.split(r"(\n(?:[ \t]*\n)+)" if deb822 else r"(\n)", text)


def _line(text):
    found = _LINE.match(text)
    if not found:
        return None
    options = dict(option.partition("=")[::2] for option in (found.group(1) or "").split())
    return Entry([found.group(2)], options.get("signed-by", ""))


def _stanza(text):
    fields, name = {}, None
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += "\n" + line.strip()
        elif line[:1] != "#":
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    uris = fields.get("uris", "").split()
    off = fields.get("enabled", "yes").lower() in ("no", "false", "without", "off", "disable", "0")
    return Entry(uris, fields.get("signed-by", "")) if uris and not off else None
