"""The health check of an executor with GPUs, run as a program: what it says of NVML, beside an API that is well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jinja2
import pytest
import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import computed_variables

TEMPLATES = collection_dir() / "templates"
GOLDEN = Path(__file__).with_name("executor_simulated_compose.txt")
NVML = """
int nvmlInit_v2(void) {{ return {init}; }}
int nvmlDeviceGetCount_v2(unsigned *n) {{ *n = {count}; return 0; }}
const char *nvmlErrorString(int code) {{ return code == 999 ? "Unknown Error" : "Driver/library version mismatch"; }}
"""


def rendered(**values: str) -> str:
    """Render the compose file as Ansible does."""
    common = computed_variables("common")
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)  # noqa: S701 -- YAML
    environment.filters["to_json"] = json.dumps
    template = environment.from_string((TEMPLATES / "executor.compose.yml.j2").read_text())
    known = {
        "executor_db_image": "db@sha256:0",
        "executor_image": "executor@sha256:0",
        "executor_external_port": 8001,
        "executor_internal_port": 8001,
        "executor_ssh_port": 2200,
        "celium_dialect": "celium",
        "_common_templates": str(TEMPLATES),
        "_common_stack_digests": {".env": "1", "db.env": "2"},
        "_common_stack_health": common["_common_stack_health"],
        "_common_stack_lives": common["_common_stack_lives"],
        "_common_stack_probe": (TEMPLATES / "executor.health.py").read_text().rstrip().replace("$", "$$"),
        "lookup": lambda _kind, name: Path(name).read_text().rstrip(),
    }
    return template.render(known | values)


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """Give the port of an API that refuses a signature of zeros, as an executor's does."""

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(server.server_port)
        server.shutdown()


def health(port: str, library: Path) -> subprocess.CompletedProcess[str]:
    """Run the check of the compose file as Docker does, with a library in the place of NVML."""
    services = yaml.safe_load(rendered(executor_gpu_proof="required"))["services"]
    _, _, option, program, _ = services["executor"]["healthcheck"]["test"]
    command = [sys.executable, option, program.replace("$$", "$"), port]
    env = os.environ | {"LD_LIBRARY_PATH": str(library)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


def library(folder: Path, source: str) -> Path:
    """Compile what stands in for NVML."""
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run(command, input=source, text=True, check=True)
    return folder


BROKEN = [
    (NVML.format(init=999, count=2), "NVML: Unknown Error"),
    (NVML.format(init=18, count=2), "NVML: Driver/library version mismatch"),
    (NVML.format(init=0, count=0), "NVML: it counts no GPU"),
]


@pytest.mark.parametrize(("source", "said"), BROKEN)
def test_a_container_that_lost_its_gpus_is_unhealthy_and_says_so(api, tmp_path, source, said):
    done = health(api, library(tmp_path, source))
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_a_container_without_the_driver_s_library_is_unhealthy_and_says_so(api, tmp_path):
    done = health(api, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("NVML: libnvidia-ml.so.1: cannot open shared object file")


def test_a_container_that_has_its_gpus_is_healthy(api, tmp_path):
    fake = Path(__file__).with_name("nvml_fake.c").read_text()
    strings = '\nconst char *nvmlErrorString(int code) { return ""; }\n'
    for source in (NVML.format(init=0, count=2), fake + strings):
        done = health(api, library(tmp_path, source))
        assert (done.returncode, done.stderr) == (0, ""), done


def test_the_gpus_are_not_asked_where_the_api_does_not_answer(tmp_path):
    done = health("9", library(tmp_path, NVML.format(init=999, count=2)))
    assert done.returncode == 1
    assert "NVML" not in done.stderr


def test_a_host_with_simulated_gpus_keeps_its_compose_file_to_the_byte():
    # Another byte would make the containers of every rehearsal again at an upgrade.
    assert rendered(executor_gpu_proof="simulated") == GOLDEN.read_text()
