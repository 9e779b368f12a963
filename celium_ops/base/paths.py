"""Where celium-ops keeps its files, by the XDG base directory rules, and where its Ansible collection lies."""

from __future__ import annotations

import configparser
import os
import sysconfig
from contextlib import suppress
from pathlib import Path

from celium_ops.base.errors import CeliumError


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG rules say that a relative path is to be ignored.
    root = Path(value) if Path(value).is_absolute() else Path.home() / fallback
    return root / "celium-ops"


def state_dir() -> Path:
    """Return the folder for state that outlives a run (``$XDG_STATE_HOME/celium-ops``); it may not exist yet."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """Return the folder for what can be made again (``$XDG_CACHE_HOME/celium-ops``); it may not exist yet."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def collection_dir() -> Path:
    """Return the root of the collection ``celium.ops``: playbooks, roles, templates, plugins.

    In a checkout the repository is the collection; an installed wheel carries it under ``ansible_collections``.

    Raises:
        CeliumError: neither holds it, so the installation is broken.
    """
    top = Path(__file__).resolve().parents[2]
    for candidate in (top, top / "ansible_collections" / "celium" / "ops"):
        if (candidate / "playbooks" / "site.yml").is_file():
            return candidate
    raise CeliumError(
        f"the collection celium.ops is missing beside {top}",
        remedy="install celium-ops again: pip install --force-reinstall celium-ops",
        code="broken-installation",
    )


def collections_path() -> str:
    """Return ``ANSIBLE_COLLECTIONS_PATH`` for Ansible as we run it: our own collection first, then the operator's.

    Ansible prefers the user's collections to those beside itself, and an old copy of ours there would play old roles.
    """
    own = collection_dir()
    # A checkout is linked there by `make`; an installed wheel lies there.
    first = own.parents[2] if own.parent.name == "celium" else Path(sysconfig.get_path("purelib"))
    others = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or _configured_collections()
    return f"{first}:{others or '~/.ansible/collections:/usr/share/ansible/collections'}"


def _configured_collections() -> str | None:
    """Return the collections of the configuration file that Ansible would read here, if it names any."""
    named = os.environ.get("ANSIBLE_CONFIG")
    places = [*([Path(named)] if named else []), Path("ansible.cfg"), Path.home() / ".ansible.cfg"]
    for file in [*places, Path("/etc/ansible/ansible.cfg")]:
        if file.is_file():
            config = configparser.ConfigParser(interpolation=None, strict=False)
            with suppress(configparser.Error):  # Ansible says itself what is wrong with it
                config.read(file)
            paths = config.get("defaults", "collections_path", fallback="").split(":")
            return ":".join(str(file.parent / Path(path).expanduser()) for path in paths if path) or None
    return None
