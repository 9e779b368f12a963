"""Programs for hosts that need no file there: what they import beside the standard library comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from celium_ops.base.paths import collection_dir

_LOADER = """\
import sys, types
sources = {sources!r}
for name, source in sources.items():
    sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])
exec(compile({main!r}, {title!r}, "exec"), {{"__name__": "__main__", "ASKED": globals().get("ASKED")}})
"""


def program(title: str, sources: Mapping[str, str]) -> str:
    """Return a program for the stdin of ``python3``: one of ``on_host``, and the modules it imports, in their order."""
    main = resources.files("celium_ops.remote.on_host").joinpath(f"{title}.py").read_text()
    return _LOADER.format(sources=dict(sources), main=main, title=title)


def asking(program: str, asked: Mapping[str, Any]) -> str:
    """Return a program that finds ``asked`` as its global ASKED; unlike arguments nobody else on the host sees it."""
    return f"ASKED = {dict(asked)!r}\n{program}"


def shared(name: str) -> str:
    """Return the source of a module that our Ansible modules import, too."""
    return (collection_dir() / "plugins" / "module_utils" / f"{name}.py").read_text()
