"""Keys that a text gives twice; what Ansible reads of it is tested with inventories."""

import pytest

from celium_ops.fleet.duplicate_keys import duplicate_keys

BOMB = "a: &a [1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)

# (the text, and for each key that is given twice: key, where, first, again, lost)
TEXTS = [
    ("a: 1\nb: 2\n", []),
    ("a: 1\na: 2\na: 3\n", [("a", "", [1, 1], [2, 1], []), ("a", "", [2, 1], [3, 1], [])]),
    ("a: {x: 1, y: 2}\na: {y: 3}\n", [("a", "", [1, 1], [2, 1], ["x"])]),
    ("- {a: {b: 1, b: 2}}\n", [("b", "[0].a", [1, 8], [1, 14], [])]),
    ('1: a\n"1": b\n', []),
    ("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: {<<: *a, <<: {y: 1}, x: 3}\n", []),
    ("a: &a {x: 1, x: 2}\nb: *a\nc: *a\n", [("x", "a", [1, 8], [1, 14], [])]),
    ("a: &a\n  b: *a\n  b: 1\n", [("b", "a", [2, 3], [3, 3], ["b"])]),
    (f"a: {{{', '.join('bcdefgh')}}}\na:\n", [("a", "", [1, 1], [2, 1], [*"bcdef", "2 more"])]),
    ("? {x: 1}\n: 1\n? {x: 1}\n: 2\n", []),
    ('{"a": 1, "a": 2}', [("a", "", [1, 2], [1, 10], [])]),
    ("x: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\nx: !unsafe y\n", [("x", "", [1, 1], [4, 1], [])]),
    (BOMB, []),
    ("a: [\n", []),
    ("a: \udcff\n", []),
    ("", []),
    ("[" * 10_000, []),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_what_is_given_twice_is_found_with_its_places(text, expected):
    found = [(one["key"], one["where"], one["first"], one["again"], one["lost"]) for one in duplicate_keys(text)]
    assert found == expected
