"""The pure parts of our Ansible plugins; what they do on a host is tested in the lab."""

import json

import pytest
from ansible_collections.celium.ops.plugins.filter.env_value import env_value
from ansible_collections.celium.ops.plugins.filter.readable_key import readable_key
from ansible_collections.celium.ops.plugins.module_utils import managed
from ansible_collections.celium.ops.plugins.module_utils import registry_plan as plan
from ansible_collections.celium.ops.plugins.module_utils import registry_transaction as transaction
from ansible_collections.celium.ops.plugins.module_utils.upstream_cli import collateral, command, explanation
from ansible_collections.celium.ops.plugins.modules.json_merge import merge
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.fleet.model import LIUM_VALIDATOR

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


KEY = {"secretSeed": "0x00", "ss58Address": "5F", "publicKey": None, "é": "ü ✓"}
# (the content of a key file, whether upstream's programs need another in its place)
KEY_FILES = [
    ({**KEY, "cryptoType": 1}, True),
    ({"cryptoType": 1.0, **KEY}, True),
    ({"cryptoType": True, **KEY}, True),
    ({"cryptoType": [], **KEY}, True),
    ({"cryptoType": "1", **KEY}, False),
    ({"cryptoType": None, **KEY}, False),
    (KEY, False),
    ([1], False),
    (b"$NACL\x00\xff\xfe", False),
    (b"$ANSIBLE_VAULT;1.1;AES256\n6162", False),
    (b"", False),
    (b"[" * 100_000, False),
]


@pytest.mark.parametrize(("content", "changed"), KEY_FILES)
def test_a_key_is_written_so_that_upstream_reads_it_and_only_then(tmp_path, content, changed):
    file = tmp_path / "default"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    before = file.read_bytes()
    written = readable_key(str(file))
    assert file.read_bytes() == before, "the operator's file is left as it is"
    assert (written is not None) is changed
    if changed:
        assert json.loads(written) == KEY
        assert list(json.loads(written)) == list(KEY)
        file.write_text(written)
        assert readable_key(str(file)) is None
    assert readable_key(str(tmp_path / "missing")) is None


VALUE = st.booleans() | st.integers() | st.text(max_size=3)
OBJECTS = st.recursive(
    st.dictionaries(st.text("ab", min_size=1, max_size=2), VALUE, max_size=3),
    lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=2), VALUE | inner, max_size=3),
    max_leaves=4,
)


@given(OBJECTS, OBJECTS, OBJECTS)
def test_what_merging_would_change_is_drift_and_nothing_else(tmp_path_factory, old, values, later):
    file = tmp_path_factory.getbasetemp() / "merged.json"
    entry = {"kind": "keys", "name": str(file), "values": values}
    eyes = managed.Eyes("salt")

    def seen(content):
        file.write_text(json.dumps(content))
        return eyes.see(entry)

    recorded = seen(merge(old, values))
    for content in (later, merge(later, values)):
        same = json.dumps(merge(content, values), sort_keys=True) == json.dumps(content, sort_keys=True)
        assert (seen(content) == recorded) is same, content


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


A = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
B = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
GPU = {
    "name": "gpu-1",
    "address": "192.0.2.9",
    "port": 8001,
    "validator": A,
    "price": None,
    "expected": None,
    "rented": [],
}
PLACE = (GPU["address"], GPU["port"])
ROW = {"uuid": "u", "address": GPU["address"], "port": GPU["port"], "validator": A, "price": None}

# What the inventory says, the miner's default validator, the row, the dialect, and what is done.
PLANS = [
    ({}, None, None, "celium", ["add"]),
    ({}, None, {"validator": B}, "celium", ["switch"]),
    ({}, None, {}, "celium", []),
    ({"price": 1.5}, None, {}, "celium", []),
    ({}, B, {}, "celium", []),
    ({"validator": None}, None, None, "celium", []),
    ({"validator": None}, None, {"validator": B}, "celium", []),
    ({"price": 1.5}, None, None, "lium", ["add"]),
    ({"price": 1.5}, None, {}, "lium", ["price"]),
    ({"price": 1.5}, None, {"price": "NaN"}, "lium", ["price"]),
    ({"price": 1.5}, None, {"price": 1.5}, "lium", []),
    ({}, None, {"price": 1.5}, "lium", []),
    ({}, None, {"validator": B}, "lium", []),
    ({"price": 0.0}, B, {"price": 1.5}, "lium", ["switch", "price"]),
]


@pytest.mark.parametrize(("change", "default_validator", "row", "dialect", "actions"), PLANS)
def test_the_registry_is_brought_in_step(change, default_validator, row, dialect, actions):
    executor = plan.of_dialect({**GPU, **change}, dialect, default_validator)
    assert plan.planned(executor, None if row is None else {**ROW, **row}, dialect) == actions


# What an assignment wants and expects, the miner's default validator, and what of it is done in dialect lium.
ASSIGNED = [
    ({"validator": A, "expected": B}, None, ["switch"]),
    ({"validator": A}, None, []),
    ({"validator": B, "expected": "5other"}, None, []),
    ({"validator": A, "expected": B}, B, []),
]


@pytest.mark.parametrize(("change", "default_validator", "actions"), ASSIGNED)
def test_an_assignment_moves_a_row_of_lium_to_the_one_validator_that_the_miner_accepts(
    change, default_validator, actions
):
    executor = plan.of_dialect({**GPU, **change}, "lium", default_validator)
    assert plan.planned(executor, {**ROW, "validator": B}, "lium") == actions


def test_a_row_is_refused_whose_validator_the_miner_of_lium_does_not_accept():
    assert plan.LIUM_VALIDATOR == LIUM_VALIDATOR, "the module runs on hosts and has its own"
    rest = {**GPU, "actions": [], "error": None}
    other = {**ROW, "validator": B}
    assert plan.refused(rest, other, "lium", None)
    assert plan.refused({**rest, "actions": ["switch"], "error": "rented"}, other, "lium", None)
    assert not plan.refused({**rest, "actions": ["switch"]}, other, "lium", None), "a check: it is going to be"
    assert not plan.refused(rest, other, "lium", B)
    assert not plan.refused(rest, other, "celium", None)
    assert not plan.refused(rest, ROW, "lium", None)
    assert not plan.refused(rest, None, "lium", None)


def test_a_tenant_keeps_the_validator_of_the_row():
    rented = {**GPU, "rented": ["pod_1"]}
    assert plan.planned(rented, ROW, "celium") == []
    assert plan.planned(rented, None, "celium") == ["add"]
    assert plan.planned({**rented, "validator": None}, {**ROW, "validator": B}, "celium") == []
    with pytest.raises(ValueError, match=r"it is rented \(pod_1\), so it keeps its validator"):
        plan.planned(rented, {**ROW, "validator": B}, "celium")


def test_a_price_that_is_missing_is_named():
    with pytest.raises(ValueError, match="executor_price"):
        plan.planned(GPU, None, "lium")


WRONG = [
    ({"port": 0}, "gpu-1: 0 is no port"),
    ({"port": 65536}, "65536 is no port"),
    ({"address": ""}, "'' is no address"),
    ({"address": "-h"}, "'-h' is no address"),
    ({"address": "192.0.2.9 "}, "no address"),
    ({"address": "a\nb"}, "no address"),
    ({"validator": A[:-1] + "q"}, "its checksum is wrong"),
    ({"validator": A[:-1]}, "no hotkey"),
    ({"validator": "x'; drop table executor; --"}, "no hotkey"),
    ({"validator": "1" + A}, "no hotkey"),
    ({"price": -0.1}, "-0.1 is no price"),
    ({"price": float("nan")}, "nan is no price"),
]


@pytest.mark.parametrize(("change", "flaw"), WRONG)
def test_what_upstream_would_store_all_the_same_is_refused(change, flaw):
    (found,) = plan.flaws([{**GPU, **change}], [])
    assert flaw in found


def test_good_executors_have_no_flaws_and_nobody_is_named_twice():
    assert plan.flaws([GPU, {**GPU, "address": "gpu.example.org", "validator": None, "price": 0.0}], []) == []
    assert plan.flaws([GPU, {**GPU, "address": "2001:db8::1", "validator": B}], []) == []
    assert plan.flaws([GPU, GPU], []) == ["192.0.2.9:8001 is named twice"]
    assert plan.flaws([GPU], [ROW]) == ["192.0.2.9:8001 is named twice"]


# What the plan saw, what it wants, what is there now, and whether that is a surprise.
EXPECTATIONS = [
    (None, A, B, False),
    (B, A, B, False),
    (B, A, A, False),  # an interrupted run goes on
    (B, A, "5other", True),
    (B, A, None, True),
    (B, B, "5other", True),
    ("unregistered", A, None, False),
    ("unregistered", A, A, False),
    ("unregistered", A, B, True),
    (B, None, "5other", False),  # nothing is to be done with it
    (B, None, None, True),
]


@pytest.mark.parametrize(("expected", "wanted", "now", "surprise"), EXPECTATIONS)
def test_a_plan_holds_while_the_registry_is_what_it_saw_or_what_it_wants(expected, wanted, now, surprise):
    rows = {PLACE: {**ROW, "validator": now}} if now else {}
    assert bool(plan.surprises([{**GPU, "expected": expected, "validator": wanted}], rows)) == surprise


JSON_TEXT = st.text()


@given(JSON_TEXT, JSON_TEXT)
def test_no_value_gets_out_of_its_line_of_data(address, validator):
    changes = [{"uuid": "u", "validator": validator, "price": None}]
    seen = [{**ROW, "address": address}]
    lines, others = (transaction.script(*asked).split("\n") for asked in ((changes, seen), ([], [])))
    (data,) = [line for line, other in zip(lines, others, strict=True) if line != other]
    assert json.loads(data) == {"changes": changes, "seen": seen}
    assert data.isascii()
    assert not {"\x01", "\x02", "\r"} & set(data)


def test_what_the_transaction_writes():
    executors = [
        {**GPU, "price": 1.5, "actions": ["switch"]},
        {**GPU, "price": 1.5, "actions": ["price"]},
    ]
    changes = plan.changes(executors, {PLACE: ROW})
    assert [tuple(change.values()) for change in changes] == [("u", A, None), ("u", None, 1.5)]
    assert "price_per_gpu =" in transaction.script(changes, [ROW])
    assert "price_per_gpu =" not in transaction.script(changes[:1], [ROW]), "in dialect celium there is no such column"


COMMANDS = [
    ("add", "celium", ["add-executor"], ["--validator", A], ""),
    ("add", "lium", ["add-executor"], ["--price", "1.5"], ""),
    ("remove", "celium", ["remove-executor"], [], "y\n"),
    ("remove", "lium", ["remove-executor"], [], "y\n1\n"),
    ("collateral", "celium", ["get-executor-collateral"], [], ""),
    ("collateral", "lium", ["get-executor-collateral"], [], "1\n"),
]


@pytest.mark.parametrize(("action", "dialect", "name", "options", "stdin"), COMMANDS)
def test_every_option_and_answer_is_given_since_a_missing_one_becomes_a_prompt(action, dialect, name, options, stdin):
    arguments, answers = command(action, {**GPU, "price": 1.5}, dialect)
    assert arguments[6:] == ["/root/app/src/cli.py", *name, "--address", "192.0.2.9", "--port", "8001", *options]
    assert answers == stdin


COLLATERAL = [
    ("INFO:root:Executor u-1 collateral: 1.500000 TAO from collateral contract\n", 1.5),
    ("INFO:root:Executor u-1 collateral: 0.000000 TAO from collateral contract\n", 0.0),
    ("INFO:root:Executor u-2 collateral: 0.000000 TAO from collateral contract\n", None),
    ("ERROR:root:Failed to get executor collateral: Cannot connect to host\n", None),
    ("", None),
]


@pytest.mark.parametrize(("said", "amount"), COLLATERAL)
def test_collateral_is_known_only_when_upstream_says_so(said, amount):
    assert collateral(said, "u-1") == amount


def outcome(rows, dialect="celium", error=None, **change):
    executor = plan.of_dialect({**GPU, "error": error, **change}, dialect, None)
    return plan.read_back(executor, plan.by_endpoint(rows), dialect)


def test_only_the_database_says_whether_a_change_worked():
    assert outcome([ROW], error="something on stderr") is None
    assert outcome([], error="upstream said: Added") == "it is not in the registry; upstream said: Added"
    assert f"still registered for {B}" in outcome([{**ROW, "validator": B}])
    assert outcome([{**ROW, "validator": B}], error="the registry changed") == "the registry changed"
    assert outcome([{**ROW, "price": 1.5}], "lium", price=1.5, error="something") is None
    assert f"still registered for {A} at 0.5 USD" in outcome([{**ROW, "price": 0.5}], "lium", price=1.5)


SAID = [
    ("INFO:x:fine\nERROR:root:first\nmore of it\nERROR:__main__:second\n", "first; second"),
    ("INFO:x:fine\n\nAborted!\n", "Aborted!"),
    ("", ""),
    ("INFO:x:Testing executor connectivity\nERROR:x:Failed to send SSH key - y\n", "Failed to send SSH key - y"),
    ("INFO:x:Testing executor connectivity\nINFO:x:Connectivity test passed\nERROR:x:full\n", "full"),
]


@pytest.mark.parametrize(("said", "why"), SAID)
def test_the_errors_of_upstreams_command_line_explain_a_failure(said, why):
    assert explanation(said) == why


def test_a_login_that_upstream_is_silent_about_is_named():
    assert "SSH port" in explanation("INFO:x:Testing executor connectivity\nERROR:x:Failed to add executor\n")


def test_the_difference_shows_what_a_miner_keeps():
    before = {PLACE: {**ROW, "validator": B}}
    switched = plan.difference(before, [plan.of_dialect({**GPU, "price": 1.5}, "celium", None)], [])
    assert switched == {"before": f"192.0.2.9:8001 for {B}\n", "after": f"192.0.2.9:8001 for {A}\n"}
    free = plan.difference(before, [plan.of_dialect({**GPU, "price": 0.0}, "lium", None)], [])
    assert free["after"] == f"192.0.2.9:8001 for {B} at 0.0 USD per GPU and hour\n"
    added = plan.difference({}, [plan.of_dialect({**GPU, "price": 1.5}, "lium", None)], [])
    assert added == {"before": "", "after": "192.0.2.9:8001 for the default validator at 1.5 USD per GPU and hour\n"}
    assert plan.difference(before, [], [ROW]) == {"before": f"192.0.2.9:8001 for {B}\n", "after": ""}


def test_many_that_failed_for_one_reason_are_one_line():
    failed = [{**ROW, "name": f"gpu-{number}", "error": "dead"} for number in range(8)]
    failed.append({**ROW, "name": None, "error": "held"})
    assert plan.by_reason(failed) == "gpu-0, gpu-1, gpu-2, gpu-3, gpu-4, and 3 more: dead; 192.0.2.9:8001: held"
