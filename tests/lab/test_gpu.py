"""GPUs prove themselves, on hosts that have none: the real command, ssh, Docker and torch, with simulated cards.

Liars run where the prover runs: their image takes its place on a host, as an operator's host might do it.
"""

from __future__ import annotations

import io
import json
import sysconfig
import tarfile
from pathlib import Path

import jsonschema
import pytest
from fleet import broken

ROOT = Path(__file__).parents[2]
INSTALLED = "celium-ops/gpu-proof:installed"
DOCKERFILE = f"""\
FROM {INSTALLED}
COPY numpy /opt/liars/numpy
COPY numpy.libs /opt/liars/numpy.libs
COPY tests /opt/liars/tests
ENV PYTHONPATH=/opt/gpu-proof:/opt/liars OPENBLAS_NUM_THREADS=1
"""


@pytest.fixture(scope="module")
def fleet(deployed):
    return deployed


def proven(fleet, *arguments):
    """Prove; the answer has the hosts ``by_name`` too."""
    answer = fleet.run_json("gpu", "prove", *arguments)
    jsonschema.validate({key: value for key, value in answer.items() if key not in ("rc", "stderr")}, SCHEMA)
    return {**answer, "by_name": {host["name"]: host for host in answer.get("hosts", [])}}


SCHEMA = json.loads((ROOT / "docs" / "gpu-prove.schema.json").read_text())


def codes(host):
    return {reason["code"] for reason in host["reasons"]}


def test_all_executors_prove_themselves_and_nothing_simulated_is_accepted(fleet):
    answer = proven(fleet)
    assert (answer["rc"], answer["ok"], answer["mode"]) == (0, True, "simulated"), answer
    hosts = answer["by_name"]
    assert set(hosts) == {name for name in fleet.names if name.startswith("executor-")}
    for host in hosts.values():
        assert (host["verdict"], host["assurance"], host["reasons"]) == ("unknown", "none", [])
        assert [check["status"] for card in host["gpus"] for check in card["checks"]] == ["pass"] * 11, host
        assert host["not_proven"]
        assert host["seconds"] < 60
    uuids = [card["uuid"] for host in hosts.values() for card in host["gpus"]]
    assert len(set(uuids)) == 2 * len(hosts), "every card of the fleet has a UUID of its own"
    again = proven(fleet, "--limit", "executor-1")["by_name"]["executor-1"]
    assert [card["uuid"] for card in again["gpus"]] == [card["uuid"] for card in hosts["executor-1"]["gpus"]]


def test_the_last_proof_of_a_host_is_explained(fleet):
    shown = fleet.run("gpu", "show", "executor-1").stdout
    assert "proof.memory" in shown
    assert "a processor computed" in shown
    assert "a changed image" in shown, "what no proof can show"
    report = fleet.run_json("gpu", "show", "executor-1")["host"]
    assert report["name"] == "executor-1"
    missing = fleet.run_json("gpu", "show", "miner-1")
    assert (missing["rc"], missing["error"]["code"]) == (2, "no-proof")


def test_a_rented_host_is_left_alone(fleet):
    image = fleet.on("executor-1", "docker inspect -f '{{.Config.Image}}' executor-monitor-1")
    rent = f"docker run -d --name pod_rented --entrypoint sleep {image} 600"
    with broken(fleet, "executor-1", rent, "docker rm -f pod_rented"):
        answer = proven(fleet, "--limit", "executor-1")
    assert (answer["rc"], answer["by_name"]["executor-1"]["verdict"]) == (0, "skipped")
    assert codes(answer["by_name"]["executor-1"]) == {"rented"}


def test_a_host_without_the_prover_gets_it(fleet):
    fleet.on("executor-1", f"docker rmi {INSTALLED}")
    answer = proven(fleet, "--limit", "executor-1")
    assert (answer["rc"], answer["by_name"]["executor-1"]["reasons"]) == (0, [])
    assert "installing" in answer["stderr"]
    with fleet.variables("executor-1", gpu_proof_image="no.such.registry/prover@sha256:" + "0" * 64):
        fleet.on("executor-1", f"docker rmi {INSTALLED}")
        answer = proven(fleet, "--limit", "executor-1")
        assert answer["rc"] == 1
        assert "the prover could not be installed" in answer["by_name"]["executor-1"]["reasons"][0]["message"]
    assert proven(fleet, "--limit", "executor-1")["rc"] == 0


def test_what_is_left_of_a_proof_is_nothing(fleet):
    assert fleet.on("executor-1", f"docker ps -aq --filter ancestor={INSTALLED}") == ""


@pytest.fixture(scope="module")
def liars(fleet):
    """Have the liars' image on both hosts; give what puts one of them in the place of the prover."""
    packages = Path(sysconfig.get_path("platlib"))
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w", format=tarfile.GNU_FORMAT) as tar:  # Docker knows it by its start
        for name in ("numpy", "numpy.libs"):
            tar.add(packages / name, name)
        tar.add(ROOT / "tests" / "provers", "tests/provers")
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(DOCKERFILE)
        tar.addfile(info, io.BytesIO(DOCKERFILE.encode()))
    hosts = ("executor-1", "executor-2")
    for host in hosts:
        fleet.lab.pipe(host, f"docker tag {INSTALLED} honest && docker build -q -t liars -", context.getvalue())

    def install(host, program):
        dockerfile = f'FROM liars\nENTRYPOINT ["python3", "-m", "tests.provers.{program}"]\n'
        fleet.lab.pipe(host, f"docker build -q -t {INSTALLED} -", dockerfile.encode())

    yield install
    for host in hosts:
        fleet.on(host, f"docker tag honest {INSTALLED} && docker rmi honest liars")


def test_only_what_proves_itself_is_registered(fleet, liars):
    # The second one, as the addresses of executors go.
    fleet.sql("delete from executor where address = (select address from executor order by address offset 1 limit 1)")
    liars("executor-2", "faulty")
    answer = fleet.deploy("--limit", "executor-2")
    host = answer["by_name"]["executor-2"]
    assert (answer["rc"], host["result"], host["registered"], host["proof"]) == (1, "failed", False, "reject"), answer
    assert "compute-errors" in host["error"]
    waiting = fleet.run_json("assign", "plan")["miners"][0]["waiting"]
    assert "did not prove themselves" in waiting["executor-2"]
    liars("executor-2", "honest")
    answer = fleet.deploy("--limit", "executor-2")
    host = answer["by_name"]["executor-2"]
    assert (answer["rc"], host["registered"], host["proof"]) == (0, True, "unknown"), answer
    assert fleet.deploy("--limit", "executor-2")["by_name"]["executor-2"]["proof"] is None, "it is registered"


def test_a_playbook_alone_makes_the_cards_test_themselves(fleet):
    mark = "/run/celium-gpu-self-test"
    fleet.on("executor-1", f"rm -f {mark}")
    fleet.play("gpu_proof", "--limit", "executor-1")
    assert fleet.on("executor-1", f"cat {mark}") == fleet.on(
        "executor-1", f"docker image inspect -f {{{{.Id}}}} {INSTALLED}"
    )


# What a host builds from has torch already; what would fetch it does as it is told.
BASE = f"""docker build -q -t base - <<'EOF'
FROM {INSTALLED}
USER root
RUN echo {{}} > /usr/local/sbin/pip && chmod +x /usr/local/sbin/pip
EOF"""


def test_an_image_whose_making_failed_is_made_when_it_can_be(fleet):
    play = ("gpu_proof", "--limit", "executor-1")
    look = f"docker image inspect -f {{{{.Id}}}} {INSTALLED}"
    fleet.on("executor-1", BASE.format("exit 1"))
    with fleet.variables("executor-1", gpu_proof_image="", gpu_proof_base_image="base"):
        before = fleet.on("executor-1", look)
        assert "returned a non-zero code: 1" in fleet.play(*play)["executor-1"]["stderr"]
        assert fleet.on("executor-1", look) == before
        fleet.on("executor-1", BASE.format("mkdir -p /packages/torch/bin"))
        fleet.play(*play)
        built = fleet.on("executor-1", look)
        assert built != before
        fleet.play(*play)
        assert fleet.on("executor-1", look) == built
    fleet.play(*play)
    assert fleet.on("executor-1", look) == before
    fleet.on("executor-1", "docker rmi base")


LIES = [
    ("precomputed", "wrong-product", "replayed", "other-layer"),
    ("hankel", "wrong-product", "one_card", "not-together"),
    ("streamed", "memory-not-held", "forged_timings", "forged-timing"),
    ("flipped_bit", "inexact", "float_noise", "inexact"),
    ("lazy", "wrong-product", "few_rows", "wrong-product"),
    ("faulty", "compute-errors", "early", "memory-not-held"),
]


@pytest.mark.parametrize(("one", "its_code", "other", "other_code"), LIES)
def test_liars_are_caught(fleet, liars, one, its_code, other, other_code):
    liars("executor-1", one)
    liars("executor-2", other)
    hosts = proven(fleet, "--limit", "executor-1,executor-2")["by_name"]
    assert its_code in codes(hosts["executor-1"]), (one, hosts["executor-1"]["reasons"])
    assert other_code in codes(hosts["executor-2"]), (other, hosts["executor-2"]["reasons"])
    assert {host["verdict"] for host in hosts.values()} == {"reject"}


def test_the_honest_one_passes_where_liars_were_caught(fleet, liars):
    liars("executor-1", "honest")
    liars("executor-2", "honest")
    hosts = proven(fleet, "--limit", "executor-1,executor-2")["by_name"]
    assert [host["reasons"] for host in hosts.values()] == [[], []]
