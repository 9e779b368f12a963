"""NVML through a library that is not NVIDIA's: this test compiles one that pretends to have eight cards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from celium_ops.gpu import nvml
from celium_ops.gpu.identity import Views, cross_check

READ = "import json, pynvml; from celium_ops.gpu import nvml; pynvml.nvmlInit(); print(json.dumps(nvml.read(pynvml)))"


@pytest.fixture(scope="module")
def pretended(tmp_path_factory):
    """Return what is read through a library that pretends to be NVML."""
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml_fake.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "folder": str(folder)}


def test_what_a_driver_lacks_is_unsupported_and_what_cannot_be_is_an_error(pretended):
    card = pretended["cards"][3]
    assert (pretended["count"], pretended["driver"], card["uuid"]) == (8, "580.95.05", "GPU-3")
    assert (card["name"], card["memory_mib"], card["held_mib"]) == ("NVIDIA H200", 143771, 0)
    assert {"serial", "pci", "ecc", "mig", "cores", "remapped_rows"} <= set(card["unsupported"]), "no such function"
    assert card["errors"] == {"temperature_c": f"{2**32 - 1} cannot be", "power_w": "GPU is lost"}
    assert set(nvml.READINGS) == card.keys() - {"index", "unsupported", "errors"}
    assert all(card[name] is None for name in [*card["unsupported"], *card["errors"]])


def test_the_library_that_answers_is_named(pretended):
    assert pretended["library"]["path"] == f"{pretended['folder']}/libnvidia-ml.so.1"
    assert len(pretended["library"]["sha256"]) == 64


def test_a_pretended_driver_is_exposed_by_everyone_else(pretended):
    checks = cross_check(Views(pretended, kernel=None, bus=[], torch=[]))
    failed = {check.id for check in checks if check.status == "fail"}
    assert {"gpu.count.bus", "gpu.count.torch", "gpu.torch"} <= failed
    one = [{"uuid": "GPU-0", "name": "NVIDIA GeForce RTX 4090", "sm": 128, "memory_mib": 24000, "capability": "8.9"}]
    kernel = [{"uuid": "GPU-0", "name": "NVIDIA GeForce RTX 4090", "address": "0000:01:00.0"}]
    checks = cross_check(Views(pretended, kernel=kernel, bus=[], torch=one))
    failed = {check.id for check in checks if check.status == "fail" and check.card == "GPU-0"}
    assert failed == {"gpu.kernel.name", "gpu.torch.name", "gpu.torch.memory", "gpu.sm"}
    assert all(check.remedy for check in checks if check.status == "fail")
