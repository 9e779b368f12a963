"""Keys that a YAML or JSON text gives twice in one mapping. Parsers keep the last value and silently drop the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_MOST_NAMES = 5
"""Names of lost entries that are listed."""


def duplicate_keys(text: str) -> list[dict[str, Any]]:
    """Return the keys that stand twice in one mapping of a text, in the order of the text.

    Each has the ``key``, the path of its mapping (``where``), ``first`` and ``again`` as [line, column], and ``lost``:
    the names below the dropped value that the last value lacks. Merge keys (``<<``) may stand several times. A text
    that is no YAML has none: its reader says what is wrong with it.
    """
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    found: list[dict[str, Any]] = []
    pending: list[tuple[yaml.Node, str]] = [(root, "")] if root else []
    seen: set[int] = set()  # an alias is the node of its anchor again
    while pending:
        node, where = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            found.extend(_in_mapping(node, where))
            for key, value in reversed(node.value):  # what is appended last is looked at first
                name = key.value if isinstance(key, yaml.ScalarNode) else "?"
                pending.append((value, f"{where}.{name}" if where else str(name)))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{where}[{number}]") for number, item in reversed([*enumerate(node.value)]))
    return sorted(found, key=lambda one: one["again"])


def _in_mapping(node: yaml.MappingNode, where: str) -> Iterator[dict[str, Any]]:
    last: dict[tuple[str, str], tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        before = last.get((key.tag, key.value))
        last[key.tag, key.value] = key, value
        if before:
            yield {
                "key": key.value,
                "where": where,
                "first": _position(before[0]),
                "again": _position(key),
                "lost": _lost(before[1], value),
            }


def _position(node: yaml.Node) -> list[int]:
    return [node.start_mark.line + 1, node.start_mark.column + 1]


def _lost(dropped: yaml.Node, kept: yaml.Node) -> list[str]:
    names = [name for name in _names(dropped) if name not in set(_names(kept))]
    return names if len(names) <= _MOST_NAMES else [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]


def _names(node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return list(dict.fromkeys(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)))
