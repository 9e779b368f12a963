"""Programs for hosts bring along what they import."""

from __future__ import annotations

import ast

import pytest

from celium_ops.base.paths import collection_dir
from celium_ops.remote import probe, survey, trial
from celium_ops.remote.program import shared

OURS = {file.stem for file in (collection_dir() / "plugins" / "module_utils").glob("*.py")}


def imported(source):
    """Return the modules of ours that a program imports, in functions too."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    return OURS & (named | {node.module for node in nodes if isinstance(node, ast.ImportFrom)})


@pytest.mark.parametrize(
    ("title", "along"),
    [
        ("look", (*probe.MODULES, *probe.LOG_MODULES)),
        ("survey", survey.MODULES),
        ("trial", trial.MODULES),
    ],
)
def test_what_a_program_imports_comes_along_and_before_it(title, along):
    main = (collection_dir() / "celium_ops" / "remote" / "on_host" / f"{title}.py").read_text()
    assert imported(main), "it imports something of ours"
    assert imported(main) <= {*along}
    for place, name in enumerate(along):
        assert imported(shared(name)) <= {*along[:place]}, name
