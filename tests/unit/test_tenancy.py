"""Which containers are a tenant's and which are ours, over Docker's list as it is and as it should never be."""

from __future__ import annotations

import pytest
from ansible_collections.celium.ops.plugins.module_utils import probe, tenancy
from hypothesis import given
from hypothesis import strategies as st

RENTED, ENDED, UNCLEAR, FREE = "rented", "ended", "unclear", None
STATES = [
    *((state, RENTED) for state in ("created", "running", "paused", "restarting", "removing")),
    *((state, ENDED) for state in ("exited", "dead")),
    *((state, UNCLEAR) for state in ("stopping", "", None, 5)),
]


def listed(name, state="running", **labels):
    marks = {f"com.docker.compose.{key}": value for key, value in labels.items() if key != "ours"}
    return {"Names": [f"/{name}"], "State": state, "Labels": {**marks, **labels.get("ours", {})}}


@pytest.mark.parametrize(("state", "kind"), STATES)
@pytest.mark.parametrize("prefix", ["container_", "pod_"])
def test_a_rental_is_rented_until_it_has_ended(prefix, state, kind):
    found = tenancy.tenancy([listed(f"{prefix}1", state)])
    assert [name for name, some in found.items() if some] == [kind]
    assert found[kind] == [f"{prefix}1"]
    assert bool(tenancy.why(found)) is (kind != ENDED)


@pytest.mark.parametrize("name", ["filler_1", "executor-executor-1", "podman", "container", "my_container_1", "xpod_1"])
@pytest.mark.parametrize(("state", "_kind"), STATES)
def test_everything_else_is_free_in_every_state(name, state, _kind):
    assert not any(tenancy.tenancy([listed(name, state)]).values())


@pytest.mark.parametrize("names", [None, [], "pod_1", [None]])
def test_a_container_without_a_readable_name_may_be_a_rental_unless_it_has_ended(names):
    assert tenancy.tenancy([{"Names": names, "State": "running"}])["unclear"]
    assert not tenancy.tenancy([{"Names": names, "State": "dead"}])["unclear"]


def test_a_rental_is_known_by_any_of_its_names():
    assert tenancy.tenancy([{"Names": ["/web/alias", "/pod_1"], "State": "running"}])["rented"] == ["pod_1"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_ENTRIES = st.lists(_JSON | st.fixed_dictionaries({"Names": _JSON, "State": _JSON, "Labels": _JSON}), max_size=4)


@given(_ENTRIES)
def test_a_list_of_anything_is_answered(entries):
    found = tenancy.tenancy(entries)
    assert all(isinstance(name, str) for some in found.values() for name in some)
    tenancy.claimed(entries, "executor")
    tenancy.of_stack(entries, "executor")


OURS = {"org.celium-ops.environment": "0a"}


@pytest.mark.parametrize(
    ("entry", "own"),
    [
        (listed("executor-executor-1", project="executor", service="executor", ours=OURS), ("executor", "executor")),
        (listed("executor-db-12", project="executor", service="db", ours=OURS), ("executor", "db")),
        (listed("executor-db-run-0a1b", project="executor", service="db", ours=OURS), ("executor", "db")),
        (listed("validator-redis-1", project="validator", service="redis"), ("validator", "redis")),
        (listed("executor-executor-1", project="executor", service="executor"), None),
        (listed("executor-executor-1", ours=OURS), None),
        (listed("executor-db-1", project="executor", service="executor", ours=OURS), None),
        (listed("miner-db-1", project="executor", service="db", ours=OURS), None),
        (listed("pod_1", project="executor", service="executor", ours=OURS), None),
        (listed("container_executor-db-1", project="executor", service="db", ours=OURS), None),
        (listed("grafana-db-1", project="grafana", service="db", ours=OURS), None),
        ({"Names": ["/executor-db-1"], "Labels": None}, None),
    ],
)
def test_ours_is_what_has_our_name_project_and_label(entry, own):
    assert tenancy.own(entry) == own
    assert tenancy.of_stack([entry], own[0] if own else "executor") == ([entry] if own else [])


def test_a_tenant_who_labels_his_image_as_our_stack_is_found():
    theirs = listed("pod_1", "exited", project="executor", service="executor", ours=OURS)
    ours = listed("executor-executor-1", project="executor", service="executor", ours=OURS)
    assert tenancy.claimed([theirs, ours, listed("pod_2")], "executor") == ["pod_1"]
    assert tenancy.claimed([theirs], "miner") == []
    assert tenancy.claimed([theirs, listed("pod_2")], None) == []


@pytest.fixture
def engine(monkeypatch):
    """Let Docker answer with a list, or be as far as asked for."""

    def answers(containers, there=True):
        monkeypatch.setattr(probe, "installed", lambda: there)
        monkeypatch.setattr(probe, "docker", lambda _path: containers)

    return answers


def test_what_docker_cannot_say_is_no_answer(engine):
    engine([listed("pod_1"), listed("pod_0", "exited")])
    assert probe.rentals() == ["pod_1"]
    engine([listed("pod_1", "stopping")])
    with pytest.raises(ValueError, match=r"cannot be told whether it is rented \(pod_1\)"):
        probe.rentals()
    engine({"message": "something else"})
    with pytest.raises(ValueError, match="is no list"):
        probe.rentals()


def test_a_host_without_docker_has_no_tenants(engine):
    engine([listed("pod_1")], there=False)
    assert probe.rentals() == []
