"""Where celium-ops keeps its files, by the XDG base directory rules, and where its Ansible collection lies."""

from __future__ import annotations

import os
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
