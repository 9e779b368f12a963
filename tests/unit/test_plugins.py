"""The pure parts of our Ansible plugins; what they do on a host is tested in the lab."""

import pytest
from ansible_collections.celium.ops.plugins.filter.env_value import env_value
from ansible_collections.celium.ops.plugins.modules.json_merge import merge
from ansible_collections.celium.ops.plugins.modules.miner_registry import command, planned, read_back
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@given(OBJECT, OBJECT)
def test_merging_sets_our_keys_and_keeps_the_others(old, new):
    merged = merge(old, new)
    assert {key: merged[key] for key in old.keys() - new.keys()} == {key: old[key] for key in old.keys() - new.keys()}
    assert merge(merged, new) == merged
    assert merge({}, new) == new


ENV = [
    (8001, "8001"),
    (True, "true"),
    ([[1, 2], [3, 4]], "'[[1,2],[3,4]]'"),
    ("40000-40100", "40000-40100"),
    ("has space # no comment", "'has space # no comment'"),
    ("pa$$word", "'pa$$word'"),
    ("it's $HOME", '"it\'s \\$HOME"'),
    ("back\\slash", '"back\\\\slash"'),
]


@pytest.mark.parametrize(("value", "written"), ENV)
def test_how_a_value_is_written(value, written):
    assert env_value(value) == written


@pytest.mark.parametrize("value", ["two\nlines", "nul\0"])
def test_what_no_env_file_can_carry_is_refused(value):
    with pytest.raises(ValueError, match="line break or NUL"):
        env_value(value)


GPU = {"name": "gpu-1", "address": "192.0.2.9", "port": 8001, "validator": "5new", "price": None}

PLANS = [
    ({}, None, "celium", "add-executor"),
    ({}, {"validator": "5old"}, "celium", "switch-validator"),
    ({}, {"validator": "5new"}, "celium", None),
    ({"price": 1.5}, None, "lium", "add-executor"),
    ({"validator": None}, {"validator": "5any"}, "lium", None),
]


@pytest.mark.parametrize(("change", "row", "dialect", "action"), PLANS)
def test_the_registry_is_brought_in_step(change, row, dialect, action):
    assert planned({**GPU, **change}, row, dialect) == action


IMPOSSIBLE = [({"validator": None}, None, "celium", "executor_validator"), ({}, None, "lium", "executor_price")]


@pytest.mark.parametrize(("change", "row", "dialect", "missing"), IMPOSSIBLE)
def test_what_is_missing_is_named(change, row, dialect, missing):
    with pytest.raises(ValueError, match=missing):
        planned({**GPU, **change}, row, dialect)


def test_every_option_is_given_since_a_missing_one_becomes_a_prompt():
    arguments, answers = command("add-executor", {**GPU, "price": 1.5}, "lium")
    assert arguments[6:] == [
        *("/root/app/src/cli.py", "add-executor", "--address", "192.0.2.9", "--port", "8001"),
        *("--validator", "5new", "--price", "1.5"),
    ]
    assert answers == ""
    assert command("switch-validator", GPU, "celium")[1] == "y\n"


def outcome(rows, **change):
    result = {**GPU, "action": "add-executor", "error": None, **change}
    read_back(result, {(row["address"], row["port"]): row for row in rows})
    return result["error"]


def test_only_the_database_says_whether_a_change_worked():
    assert outcome([{**GPU}], error="something on stderr") is None
    assert "not in the registry; upstream said: Added executor" in outcome([], error="Added executor")
    assert "still registered for 5old" in outcome([{**GPU, "validator": "5old"}], action="switch-validator")
