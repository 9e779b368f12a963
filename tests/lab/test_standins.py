"""The stand-in images against what upstream's programs did: rows of ``data/upstream.yml``, replayed in containers.

Each row is replayed on the stand-ins of its dialect, or of both. What needs no row is tested on those of celium, unless
it says otherwise.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import yaml
from evm import evm_endpoint
from websockets.sync.client import connect

from celium_ops.base.errors import CeliumError
from celium_ops.base.paths import cache_dir
from celium_ops.lab import neurons
from celium_ops.lab.layout import DIALECTS

MARK = "org.celium-ops.lab.test=standins"
NETWORK = "celium-lab-test-standins"
DATABASE_PASSWORD = "s3cret"
DATABASE = "compute-subnet-db"
CLI = "/root/app/src/cli.py"
PRICES = ("price_per_hour", "price_per_gpu")
ONCE = ["run", "--rm", "--label", MARK, "--network", "none"]
UPSTREAM: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "upstream.yml").read_text()
)


def rows_of(section: str, dialect: str) -> list[dict[str, Any]]:
    return [row for row in UPSTREAM[section] if row["dialect"] in (dialect, "both")]


def rows(section: str) -> pytest.MarkDecorator:
    """Return the parametrisation over a section's rows, each with a dialect in which it holds."""
    chosen = [(dialect, row) for dialect in DIALECTS for row in rows_of(section, dialect)]
    return pytest.mark.parametrize(("dialect", "row"), chosen, ids=[f"{name}-{row['name']}" for name, row in chosen])


# --- Containers -------------------------------------------------------------------------------------------------------


def docker(
    *arguments: str, stdin: str = "", check: bool = True, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert not check or done.returncode == 0, f"docker {shlex.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until the condition holds and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def options(env: Mapping[str, str]) -> list[str]:
    return [f"--env={name}={value}" for name, value in env.items()]


# Runs the commands it is told, one JSON line each. A `docker exec` per command would take longer than most commands.
# A Python program may be run in a fork of it: the program's own modules are imported anew, its libraries are there.
AGENT = """
import json, os, runpy, signal, subprocess, sys, tempfile, traceback

def run_program(command, stdin, env):
    files = [tempfile.TemporaryFile() for _ in range(3)]
    files[0].write(stdin.encode())
    files[0].seek(0)
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        [file.seek(0) for file in files]
        return code, *(file.read().decode() for file in files[1:])
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path[0] = command, os.path.dirname(command[0])
    signal.alarm(20)
    code = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def run_command(command, stdin, env):
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

for line in sys.stdin:
    job = json.loads(line)
    env = {name: value for name, value in {**os.environ, **job["env"]}.items() if value is not None}
    if job["fork"]:
        import click, coincurve, Crypto.Hash.keccak, fastapi, psycopg2, pydantic_settings, sqlalchemy, sr25519, uvicorn
    answer = (run_program if job["fork"] else run_command)(job["command"], job["stdin"], env)
    print(json.dumps(answer), flush=True)
"""


class Container:
    """One running container and how it is talked to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._agent: subprocess.Popen[str] | None = None

    @cached_property
    def address(self) -> str:
        wanted = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", wanted, self.name).stdout.strip()

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.name).stdout)
        return found

    @property
    def logs(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def run(
        self, *command: str, stdin: str = "", env: Mapping[str, str | None] | None = None, fork: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as `docker exec` would; an environment value of None takes the variable away.

        With ``fork`` the command is a Python program with its arguments, and starts ten times as fast.
        """
        if self._agent is None:
            exec_agent = ["docker", "exec", "--interactive", self.name, "python3", "-c", AGENT]
            self._agent = subprocess.Popen(exec_agent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._agent.stdin
        assert self._agent.stdout
        job = {"command": command, "stdin": stdin, "env": dict(env or {}), "fork": fork}
        self._agent.stdin.write(json.dumps(job) + "\n")
        self._agent.stdin.flush()
        answer = self._agent.stdout.readline()
        assert answer, f"{self.name} is gone: {self.logs}"
        return subprocess.CompletedProcess(command, *json.loads(answer))

    def spawn(self, *command: str, env: Mapping[str, str], log: str = "/dev/null") -> None:
        """Start a command inside and leave it running."""
        self.run("sh", "-c", f'"$@" >{log} 2>&1 </dev/null &', "sh", *command, env=env)

    def forget_agent(self) -> None:
        """End the agent's client; the container may be gone already."""
        if self._agent:
            self._agent.kill()
            self._agent.communicate()

    def exit_code(self, seconds: float = 20) -> int:
        wait_for(f"{self.name} ends", lambda: not self.state["Running"], seconds)
        return int(self.state["ExitCode"])


class Engine:
    """Starts containers on the tests' own network; all of them carry the tests' label."""

    def __init__(self) -> None:
        self.started: list[Container] = []

    def start(
        self, image: str, *extra: str, env: Mapping[str, str] | None = None, command: Sequence[str] = ()
    ) -> Container:
        name = f"{NETWORK}-{len(self.started) + 1}"
        label = ["--label", MARK, "--network", NETWORK]
        docker("run", "--detach", "--name", name, *label, *extra, *options(env or {}), image, *command)
        self.started.append(Container(name))
        return self.started[-1]


def remove_everything() -> None:
    """Remove what carries our label, left by whichever run."""
    for kind, remove in (("container", ["rm", "--force", "--volumes"]), ("volume", ["rm"]), ("network", ["rm"])):
        everything = ["--all"] if kind == "container" else []
        found = docker(kind, "ls", "--quiet", *everything, "--filter", f"label={MARK}").stdout.split()
        if found:
            docker(kind, *remove, *found)


@pytest.fixture(scope="session")
def base_image() -> str:
    return neurons.ensure_base(print)


@pytest.fixture(scope="session")
def images(base_image: str) -> dict[str, str]:
    return neurons.build_images(base_image, cache_dir() / "lab", print)


@pytest.fixture(scope="session")
def postgres_image(images: dict[str, str]) -> str:
    return images["library/postgres:lab"]


def neuron_image(images: dict[str, str], role: str, dialect: str) -> str:
    return images[f"daturaai/compute-subnet-{role}:{DIALECTS[dialect]}"]


@pytest.fixture(scope="session")
def executor_image(images: dict[str, str]) -> str:
    return neuron_image(images, "executor", "celium")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    remove_everything()
    found = Engine()
    try:
        docker("network", "create", "--label", MARK, NETWORK)
        yield found
    finally:
        for container in found.started:
            container.forget_agent()
        remove_everything()


@dataclass
class Database:
    """The stand-in for Postgres that every other container of the tests uses."""

    container: Container

    def sql(self, statement: str, database: str = DATABASE) -> list[list[str]]:
        command = ["psql", "-U", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1", "-F", "\t", database]
        done = self.container.run(*command, stdin=statement)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def uri(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres:{DATABASE_PASSWORD}@{self.container.address}:5432/{database}"

    def create(self, name: str) -> str:
        """Make an empty database of its own for a test and return its URI."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.uri(name)


def is_ready(container: Container) -> bool:
    return container.run("pg_isready", "-q").returncode == 0


@pytest.fixture(scope="session")
def database(engine: Engine, postgres_image: str) -> Database:
    env = {"POSTGRES_DB": DATABASE, "POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": DATABASE_PASSWORD}
    container = engine.start(postgres_image, env=env)
    wait_for("Postgres answers", lambda: is_ready(container))
    return Database(container)


@pytest.fixture(scope="session")
def keys(executor_image: str) -> dict[str, Any]:
    """Two sr25519 key pairs, and the texts of the executor's rows signed by both: {"address", "seed", "signatures"}."""
    texts = {row["body"]["data_to_sign"] for row in UPSTREAM["executor"] if row.get("sign")} | {"k"}
    script = """
import json, sys, sr25519, standin
texts, answer = json.load(sys.stdin), {}
for name, seed in (("miner", 1), ("other", 2)):
    pair = sr25519.pair_from_seed(bytes([seed]) * 32)
    signatures = {text: "0x" + sr25519.sign(pair, text.encode()).hex() for text in texts}
    address = standin.ss58_encode(pair[0])
    answer[name] = {"address": address, "seed": "0x" + bytes([seed]).hex() * 32, "signatures": signatures}
print(json.dumps(answer))
"""
    done = docker(*ONCE, "--interactive", executor_image, "python3", "-c", script, stdin=json.dumps(sorted(texts)))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def wallets(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Any]) -> Path:
    """A wallet folder that holds one hotkey, twice, and nothing else."""
    folder = tmp_path_factory.mktemp("wallets")
    (folder / "default" / "hotkeys").mkdir(parents=True)
    hotkey = {"ss58Address": keys["miner"]["address"], "secretSeed": keys["miner"]["seed"]}
    (folder / "default" / "hotkeys" / "default").write_text(json.dumps(hotkey))
    # As bittensor-wallet from 4.1 writes it, which upstream's older one cannot read.
    (folder / "default" / "hotkeys" / "today").write_text(json.dumps(hotkey | {"cryptoType": 1}))
    return folder


class StandIns:
    """A miner and an executor of one dialect, each with its own database; started when first asked for."""

    def __init__(
        self,
        dialect: str,
        engine: Engine,
        database: Database,
        images: dict[str, str],
        keys: dict[str, Any],
        wallets: Path,
    ) -> None:
        self.dialect = dialect
        self.engine = engine
        self.database = database
        self.images = {role: neuron_image(images, role, dialect) for role in ("miner", "executor")}
        self.hotkey = keys["miner"]["address"]
        self.wallets = wallets

    def start_miner(self, *command: str, **env: str) -> Container:
        defaults = {
            "BITTENSOR_WALLET_NAME": "default",
            "BITTENSOR_WALLET_HOTKEY_NAME": "default",
            "EXTERNAL_IP_ADDRESS": "198.51.100.10",
            "SQLALCHEMY_DATABASE_URI": self.database.uri(f"miner-{self.dialect}"),
        }
        mount = f"--volume={self.wallets}:/root/.bittensor/wallets:ro"
        return self.engine.start(self.images["miner"], mount, env={**defaults, **env}, command=command)

    @cached_property
    def miner(self) -> Container:
        self.database.create(f"miner-{self.dialect}")
        container = self.start_miner()
        wait_for("the miner's API", lambda: status(container, 8000) == 404)
        return container

    @cached_property
    def executor(self) -> Container:
        uri = self.database.create(f"executor-{self.dialect}")
        env = {"MINER_HOTKEY_SS58_ADDRESS": self.hotkey, "DB_URI": uri}
        container = self.engine.start(self.images["executor"], env=env)
        wait_for("the executor's API", lambda: status(container, 8001))
        return container

    @cached_property
    def reachable_executor(self) -> str:
        """The executor's address; on port 8022 is a second API, which names the container's own SSH port."""
        env = {"INTERNAL_PORT": "8022", "SSH_PORT": "22"}
        self.executor.spawn("pdm", "run", "src/executor.py", env=env)
        wait_for("its second API", lambda: status(self.executor, 8022))
        return self.executor.address

    @cached_property
    def variants(self) -> dict[str, int]:
        """The executor's program once per row of settings, each on a port of its own: row name → port."""
        found = rows_of("executor_settings", self.dialect)
        ports = {row["name"]: 9000 + number for number, row in enumerate(found)}
        envs = [{**row["env"], "INTERNAL_PORT": str(ports[row["name"]])} for row in found]
        self.executor.spawn(
            "python3", "-c", FORKS, json.dumps(envs).replace('"MINER"', json.dumps(self.hotkey)), env={}
        )
        return ports


@pytest.fixture(scope="session")
def standins(
    engine: Engine, database: Database, images: dict[str, str], keys: dict[str, Any], wallets: Path
) -> dict[str, StandIns]:
    return {dialect: StandIns(dialect, engine, database, images, keys, wallets) for dialect in DIALECTS}


@pytest.fixture(scope="session")
def start_miner(standins: dict[str, StandIns]) -> Callable[..., Container]:
    return standins["celium"].start_miner


@pytest.fixture(scope="session")
def miner(standins: dict[str, StandIns]) -> Container:
    return standins["celium"].miner


@pytest.fixture(scope="session")
def executor(standins: dict[str, StandIns]) -> Container:
    return standins["celium"].executor


# --- Requests ---------------------------------------------------------------------------------------------------------


def ask(
    container: Container, port: int, request: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Send one request to the container's own address; a mapping as body is sent as JSON."""
    method, path = request.split()
    connection = http.client.HTTPConnection(container.address, port, timeout=10)
    content = json.dumps(body) if isinstance(body, dict) else body
    sent = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
    with contextlib.closing(connection):
        connection.request(method, path, content, {**sent, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def status(container: Container, port: int) -> int | None:
    """Return the answer's code to GET /, None while nobody listens."""
    assert container.state["Running"], container.logs
    try:
        return ask(container, port, "GET /")[0]
    except OSError:
        return None


def signed(body: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    return {**body, "signature": key["signatures"][body["data_to_sign"]]}


def in_order(text: str, parts: Sequence[str]) -> bool:
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True


# --- The images -------------------------------------------------------------------------------------------------------


def test_images_say_that_they_are_stand_ins(images: dict[str, str]) -> None:
    for repository, tag in images.items():
        config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", tag).stdout)
        assert config["Labels"]["org.celium-ops.lab"] == "stand-in"
        wanted = {**{tag: dialect for dialect, tag in DIALECTS.items()}, "lab": "any"}[repository.partition(":")[2]]
        assert config["Labels"]["org.celium-ops.dialect"] == wanted
    assert set(images) == {
        "library/postgres:lab",
        "daturaai/redis:lab",
        "celium-ops/gpu-proof:lab",
        "daturaai/compute-subnet-miner:2025-08",
        "daturaai/compute-subnet-miner:2025-12",
        "daturaai/compute-subnet-executor:2025-08",
        "daturaai/compute-subnet-executor:2025-12",
        "daturaai/compute-subnet-validator:2025-08",
        "daturaai/compute-subnet-validator:2025-12",
    }


def test_images_share_the_base_and_are_thin(base_image: str, images: dict[str, str]) -> None:
    base, *others = json.loads(docker("image", "inspect", base_image, *images.values()).stdout)
    for image in others:
        assert image["RootFS"]["Layers"][0] == base["RootFS"]["Layers"][0]
        carries_torch = any(tag.partition("/")[2].startswith("gpus:") for tag in image["RepoTags"])
        assert image["Size"] - base["Size"] < (640e6 if carries_torch else 120e6)


def test_dialects_share_every_layer(images: dict[str, str]) -> None:
    for role in ("miner", "executor"):
        tags = [neuron_image(images, role, dialect) for dialect in DIALECTS]
        celium, lium = json.loads(docker("image", "inspect", *tags).stdout)
        assert celium["RootFS"] == lium["RootFS"]
        assert celium["Id"] != lium["Id"]


def test_second_build_does_nothing(base_image: str, images: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []
    began = time.monotonic()
    assert neurons.build_images(base_image, tmp_path, said.append) == images
    assert time.monotonic() - began < 1
    assert said == []


def test_tag_depends_on_everything_that_goes_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(neurons, "_CONTEXTS", tmp_path)
    (tmp_path / "miner" / "src").mkdir(parents=True)
    (tmp_path / "miner" / "__pycache__").mkdir()
    program = tmp_path / "miner" / "src" / "a.py"
    seen = set()

    def tag(base: str = "base", dialect: str = "celium") -> str:
        seen.add(found := neurons._Image("miner", base, dialect).tag)
        return found

    program.write_text("1")
    first = tag()
    (tmp_path / "miner" / "__pycache__" / "a.pyc").write_text("x")
    assert tag() == first
    program.write_text("2")
    tag()
    program.chmod(0o755)
    tag()
    program.rename(program.with_name("b.py"))
    tag()
    tag(base="other")
    tag(dialect="lium")
    assert len(seen) == 6


def test_a_missing_base_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CeliumError, match="no local image celium-lab/nobody:1") as caught:
        neurons.build_images("celium-lab/nobody:1", tmp_path, print)
    assert caught.value.remedy


def test_failed_build_shows_the_end_of_its_output(
    monkeypatch: pytest.MonkeyPatch, base_image: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(neurons, "_CONTEXTS", tmp_path)
    (tmp_path / "miner").mkdir()
    (tmp_path / "miner" / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nRUN echo first && echo went wrong here && exit 7\n"
    )
    with pytest.raises(CeliumError, match=r"went wrong here.*returned a non-zero code: 7") as caught:
        neurons._build(neurons._Image("miner", base_image, "celium"), print)
    assert caught.value.remedy


def test_failed_download_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("celium-ops-no-such-package==1\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(CeliumError, match="celium-ops-no-such-package") as caught:
        neurons._download(tmp_path / "cache" / "wheels", requirements, print)
    assert caught.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


# --- Postgres ---------------------------------------------------------------------------------------------------------


def test_postgres_refuses_to_start_without_a_password(engine: Engine, postgres_image: str) -> None:
    container = engine.start(postgres_image)
    assert container.exit_code() == 1
    assert "superuser password is not specified" in container.logs


def test_postgres_trusts_the_socket_and_asks_the_network(database: Database) -> None:
    assert database.sql("SELECT current_user, current_database()") == [["postgres", DATABASE]]
    query = ["psql", "-h", database.container.address, "-U", "postgres", "-qAt", "-c", "SELECT 1", DATABASE]
    right = database.container.run(*query, env={"PGPASSWORD": DATABASE_PASSWORD})
    assert (right.returncode, right.stdout) == (0, "1\n"), right.stderr
    wrong = database.container.run(*query, env={"PGPASSWORD": "wrong"})
    assert wrong.returncode == 2
    assert "password authentication failed" in wrong.stderr
    stored = database.sql("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'postgres'")
    assert stored == [["t"]]


def test_postgres_keeps_its_volume_ends_cleanly_and_redoes_an_interrupted_start(
    engine: Engine, postgres_image: str
) -> None:
    docker("volume", "create", "--label", MARK, f"{NETWORK}-data")
    volume = f"--volume={NETWORK}-data:/var/lib/postgresql/data"
    # What an interrupted start leaves: its mark, and files that are half there.
    half = "mkdir -p .celium-lab-incoming/cluster base/1; echo x | tee .celium-lab-incoming/PG_VERSION pg_hba.conf"
    docker(*ONCE, volume, "--workdir=/var/lib/postgresql/data", postgres_image, "sh", "-c", half)

    first = engine.start(postgres_image, volume, env={"POSTGRES_PASSWORD": "one", "POSTGRES_USER": "someone"})
    wait_for("Postgres answers", lambda: is_ready(first))
    query = ["psql", "-U", "someone", "-qAt", "-c"]
    # The database's name defaults to the user's.
    assert first.run(*query, "CREATE TABLE kept AS SELECT 42", "someone").returncode == 0
    docker("kill", "--signal=TERM", first.name)
    assert first.exit_code() == 0
    assert "shut down" in first.logs

    second = engine.start(postgres_image, volume)
    wait_for("Postgres answers", lambda: is_ready(second))
    assert second.run(*query, "TABLE kept", "someone").stdout == "42\n"
    docker("stop", "--time=10", second.name)
    assert second.exit_code() == 0


def test_postgres_survives_a_kill_in_the_middle_of_its_first_start(engine: Engine, postgres_image: str) -> None:
    env = {"POSTGRES_PASSWORD": "one", "POSTGRES_DB": "wanted"}
    container = engine.start(postgres_image, env=env)
    # Running: initdb is at work, or even done. Either way the next start must end well.
    wait_for("the first start", lambda: "performing post-bootstrap" in container.logs)
    docker("kill", container.name)
    docker("start", container.name)
    wait_for("Postgres answers", lambda: is_ready(container))
    assert container.run("psql", "-U", "postgres", "-qAt", "-c", "SELECT 1", "wanted").stdout == "1\n"


def test_postgres_leaves_foreign_files_alone(engine: Engine, postgres_image: str) -> None:
    docker("volume", "create", "--label", MARK, f"{NETWORK}-foreign")
    volume = f"--volume={NETWORK}-foreign:/var/lib/postgresql/data"
    inside = [*ONCE, volume, "--workdir=/var/lib/postgresql/data", postgres_image]
    docker(*inside, "sh", "-c", "echo precious > mine")
    container = engine.start(postgres_image, volume, env={"POSTGRES_PASSWORD": "one"})
    assert container.exit_code() == 1
    assert "holds no database cluster" in container.logs
    assert docker(*inside, "cat", "mine").stdout == "precious\n"


def test_postgres_reads_its_password_from_a_file(engine: Engine, postgres_image: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from-a-file")
    env = {"POSTGRES_PASSWORD_FILE": "/run/password"}
    container = engine.start(postgres_image, f"--volume={tmp_path}/password:/run/password:ro", env=env)
    wait_for("Postgres answers", lambda: is_ready(container))
    uri = f"postgresql://postgres:from-a-file@{container.address}/postgres"
    assert container.run("psql", "-qAt", "-c", "SELECT 1", uri).stdout == "1\n"


# --- The miner's command line -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the table executor; the price is None where there is no such column."""

    uuid: str
    address: str
    port: int
    validator: str
    price_per_gpu: float | str | None = None
    price_per_hour: float | None = None

    def values(self, count: int) -> list[Any]:
        """Return the first values, in the order of the data file."""
        return [self.address, self.port, self.validator, self.price_per_gpu][:count]


def executors(
    database: Database, before: Sequence[Sequence[Any]] | None = None, dialect: str = "celium"
) -> dict[tuple[str, int], Row]:
    """Return the rows by address and port; ``before`` replaces all of them first."""
    statements = []
    if before is not None:
        statements = ["TRUNCATE executor"]
        for row in before:
            names = ("address", "port", "validator", "price_per_gpu")[: len(row)]
            values = ", ".join("NULL" if value is None else f"'{value}'" for value in row)
            columns = f"uuid, {', '.join(names)}"
            insert = f"INSERT INTO executor ({columns}) VALUES (gen_random_uuid(), {values})"  # noqa: S608 -- our own rows
            statements.append(insert)
    statements.append("SELECT to_jsonb(executor) FROM executor ORDER BY address, port")
    found = [Row(**json.loads(row)) for (row,) in database.sql(";".join(statements), f"miner-{dialect}")]
    return {(row.address, row.port): row for row in found}


def call_cli(miner: Container, row: Mapping[str, Any], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [CLI, *row["command"]]
    if row.get("stdin") == "closed":
        return miner.run("sh", "-c", f"{shlex.join(['pdm', 'run', *command])} <&-")
    return miner.run(*command, stdin=row.get("stdin", ""), env={**row.get("env", {}), **env}, fork=True)


def with_address(row: Mapping[str, Any], standins: StandIns) -> dict[str, Any]:
    """Return a row with the address of an executor that is there; its SSH lets in whom its API lets in."""
    text = json.dumps(row)
    if "EXECUTOR" in text:
        set_keys(standins.executor, "old\n")
        text = text.replace("EXECUTOR", standins.reachable_executor)
    found: dict[str, Any] = json.loads(text)
    return found


def gateway() -> str:
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", NETWORK).stdout.strip()


@contextlib.contextmanager
def collateral_of(tao: int | None) -> Iterator[dict[str, str]]:
    """Give the environment that leads to an endpoint where everybody has this amount; with none, to no endpoint."""
    if tao is None:
        yield {}
        return
    with evm_endpoint(gateway(), tao) as endpoint:
        yield {"SUBTENSOR_EVM_RPC_URL": endpoint.url}


class Service(BaseHTTPRequestHandler):
    """Answers every request with 200 and ``answer``, as no executor does."""

    answer: Any = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def with_service(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give a row with the address of the service that it wants, which answers meanwhile."""
    if "service" not in row:
        yield row
        return
    with HTTPServer((gateway(), 0), type("Answers", (Service,), {"answer": row["service"]})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = json.dumps(row).replace("SERVICE_PORT", str(server.server_port)).replace("SERVICE", gateway())
        yield json.loads(text)
        server.shutdown()


@rows("cli")
def test_cli(dialect: str, row: dict[str, Any], standins: dict[str, StandIns], database: Database) -> None:
    miner = standins[dialect].miner
    needs_executor = "EXECUTOR" in json.dumps(row)
    row = with_address(row, standins[dialect])
    before = executors(database, row.get("before", []), dialect)
    with collateral_of(row.get("rpc")) as env, with_service(row) as asked:
        done = call_cli(miner, asked, env)
    shown = f"rc {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
    assert done.returncode == row["exit"], shown
    assert in_order(done.stdout, row.get("stdout", [])), shown
    assert in_order(done.stderr, row.get("stderr", [])), shown
    for text in row.get("absent", []):
        assert text not in done.stdout + done.stderr, shown
    if row.get("silent"):
        assert done.stdout + done.stderr == ""

    after = executors(database, dialect=dialect)
    expected = row.get("after", row.get("before", []))
    assert [found.values(len(expected[0])) for found in after.values()] == expected, shown
    for place in before.keys() & after.keys():
        assert after[place].uuid == before[place].uuid, f"the uuid of {place} changed"
    if needs_executor:
        assert standins[dialect].executor.run("cat", AUTHORIZED_KEYS).stdout == "old\n", "no key is left behind"


def test_cli_logs_on_stderr_with_level_and_logger(miner: Container, database: Database) -> None:
    row = executors(database, [["10.0.0.1", 8001, "v"]])["10.0.0.1", 8001]
    done = miner.run("pdm", "run", CLI, "show-executors")
    assert (done.stdout, done.stderr) == ("", f"INFO:root:{row.uuid} 10.0.0.1:8001 -> v\n")


def test_cli_remove_then_add_makes_a_new_uuid(miner: Container, database: Database) -> None:
    place = ("10.0.0.1", 8001)
    old = executors(database, [[*place, "v"]])[place].uuid
    where = ["--address", "10.0.0.1", "--port", "8001"]
    assert miner.run("pdm", "run", CLI, "remove-executor", *where, stdin="y\n").returncode == 0
    assert miner.run("pdm", "run", CLI, "add-executor", *where, "--validator", "v").returncode == 0
    assert executors(database)[place].uuid != old


def test_cli_shows_an_updated_row_last(miner: Container, database: Database) -> None:
    executors(database, [["10.0.0.1", 8001, "old"], ["10.0.0.2", 8001, "v"]])
    where = ["--address", "10.0.0.1", "--port", "8001", "--validator", "new"]
    miner.run("pdm", "run", CLI, "switch-validator", *where, stdin="y\n")
    assert in_order(miner.run("pdm", "run", CLI, "show-executors").stderr, ["10.0.0.2:8001", "10.0.0.1:8001 -> new"])


def test_cli_asks_a_stub_for_collateral_and_never_a_public_address(miner: Container, database: Database) -> None:
    executors(database, [["10.0.0.1", 8001, "v"]])
    command = ["pdm", "run", CLI, "get-executor-collateral", "--address", "10.0.0.1", "--port", "8001"]
    with evm_endpoint(gateway(), 1) as endpoint:
        done = miner.run(*command, env={"SUBTENSOR_EVM_RPC_URL": endpoint.url})
    assert done.returncode == 0
    assert "1.000000 TAO" in done.stderr
    assert [question["method"] for question in endpoint.asked] == ["eth_call"]

    began = time.monotonic()
    done = miner.run(*command, env={"SUBTENSOR_EVM_RPC_URL": "http://8.8.8.8:9944"})
    assert "Cannot connect to host 8.8.8.8:9944" in done.stderr
    assert time.monotonic() - began < 5


def test_cli_of_lium_gives_up_on_an_executor_that_never_answers(standins: dict[str, StandIns]) -> None:
    miner = standins["lium"].miner
    script = "import sys; sys.path.insert(0, 'src'); import lium"
    assert miner.run("python3", "-c", f"{script}; print(lium.TIMEOUT_SECONDS)").stdout == "10\n"
    # Listens, so that it is connected to, and says nothing.
    script += (
        "; import socket; s = socket.create_server(('127.0.0.1', 8099)); lium.TIMEOUT_SECONDS = 0.5; import settings"
    )
    done = miner.run("python3", "-c", f"{script}; print(lium._lets_us_in(settings.load(), '127.0.0.1', 8099, None))")
    assert done.stdout == "False\n", done.stderr
    assert "Failed to send SSH key" in done.stderr


# --- The miner --------------------------------------------------------------------------------------------------------


@rows("miner")
def test_miner_api(dialect: str, row: dict[str, Any], standins: dict[str, StandIns]) -> None:
    code, text = ask(standins[dialect].miner, 8000, row["request"])
    assert code == row["status"], text
    if "json" in row:
        assert json.loads(text) == row["json"]
    if "title" in row:
        answer = json.loads(text)
        assert answer["info"]["title"] == row["title"]
        assert answer["paths"]
        others = set(answer["paths"]) - set(row.get("paths", []))
        assert len(answer["paths"]) - len(others) == len(row.get("paths", []))
        assert all(path.startswith("/debug/") for path in others)


def test_miner_websocket_closes_on_a_message_it_cannot_parse(miner: Container) -> None:
    with connect(f"ws://{miner.address}:8000/websocket/anything") as connection:
        connection.send("no request")
        with pytest.raises(websockets.exceptions.ConnectionClosedOK) as caught:
            connection.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1000


def test_miner_stays_up_without_a_chain_and_says_so(miner: Container) -> None:
    assert "not the real neuron" in miner.logs
    markers = ["failed initializing subtensor", "Announcing miner error", "Miner sync failed"]
    assert in_order(miner.logs, markers)
    assert miner.state["Running"]


@pytest.mark.parametrize(
    ("dialect", "revision", "more"),
    [
        ("celium", "eb0b92cbc38e", []),
        ("lium", "33be5b1944a8", [["executor", name, "float8", "", "YES", ""] for name in PRICES]),
    ],
)
def test_miner_database_is_upstreams(
    dialect: str, revision: str, more: list[list[str]], standins: dict[str, StandIns], database: Database
) -> None:
    assert standins[dialect].miner
    columns = database.sql(
        "SELECT table_name, column_name, udt_name, character_maximum_length, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
        f"miner-{dialect}",
    )
    assert columns == [
        ["alembic_version", "version_num", "varchar", "32", "NO", ""],
        ["executor", "uuid", "uuid", "", "NO", ""],
        ["executor", "address", "varchar", "", "NO", ""],
        ["executor", "port", "int4", "", "NO", ""],
        ["executor", "validator", "varchar", "", "NO", ""],
        *more,
        ["validator", "uuid", "uuid", "", "NO", ""],
        ["validator", "validator_hotkey", "varchar", "", "NO", ""],
        ["validator", "active", "bool", "", "NO", ""],
    ]
    constraints = database.sql(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace ORDER BY conname",
        f"miner-{dialect}",
    )
    assert constraints == [
        ["alembic_version_pkc", "PRIMARY KEY (version_num)"],
        ["executor_pkey", "PRIMARY KEY (uuid)"],
        ["unique_contraint_address_port", "UNIQUE (address, port)"],
        ["validator_pkey", "PRIMARY KEY (uuid)"],
        ["validator_validator_hotkey_key", "UNIQUE (validator_hotkey)"],
    ]
    assert database.sql("SELECT version_num FROM alembic_version", f"miner-{dialect}") == [[revision]]


def test_miner_of_lium_takes_a_database_of_celium_over(standins: dict[str, StandIns], database: Database) -> None:
    celium, lium = standins["celium"].miner, standins["lium"].miner
    uri = {"SQLALCHEMY_DATABASE_URI": database.create("miner-moved")}
    assert celium.run("pdm", "run", "src/migrate.py", env=uri).returncode == 0
    before = executors(database, [["10.0.0.1", 8001, "v"]], "moved")
    assert lium.run("pdm", "run", "src/migrate.py", env=uri).returncode == 0
    assert executors(database, dialect="moved") == before
    shown = lium.run("pdm", "run", CLI, "show-executors", env=uri)
    assert "10.0.0.1:8001 -> validator: v, price_per_gpu (USD/gpu/h): None" in shown.stderr
    # There is no way back, and yet the older program works on.
    assert celium.run("pdm", "run", "src/migrate.py", env=uri).returncode == 255
    add = ["add-executor", "--address", "10.0.0.1", "--port", "8002", "--validator", "v"]
    assert "successfully" in celium.run("pdm", "run", CLI, *add, env=uri).stderr
    assert executors(database, dialect="moved")["10.0.0.1", 8002].values(4) == ["10.0.0.1", 8002, "v", None]


def test_miner_of_lium_moves_executors_of_the_first_validator_at_every_start(
    standins: dict[str, StandIns], database: Database
) -> None:
    before = executors(database, [["10.0.0.1", 8001, "5E1nK3myeWNWrmffVaH76f2mCFCbe9VcHGwgkfdcD7k3E8D1"]], "lium")
    container = standins["lium"].start_miner()
    wait_for("the miner's API", lambda: status(container, 8000) == 404)
    assert "Migration completed. Updated 1 miners" in container.logs
    after = executors(database, dialect="lium")
    assert [row.validator for row in after.values()] == ["5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"]
    assert [row.uuid for row in after.values()] == [row.uuid for row in before.values()]


def test_miner_migration_can_be_repeated(miner: Container, database: Database) -> None:
    before = executors(database, [["10.0.0.1", 8001, "v"]])
    done = miner.run("pdm", "run", "src/migrate.py")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr
    assert executors(database) == before


def test_miner_starts_though_its_migration_failed(start_miner: Callable[..., Container], database: Database) -> None:
    uri = database.create("newer")
    database.sql(
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
        "INSERT INTO alembic_version VALUES ('ffffffffffff')",
        "newer",
    )
    container = start_miner(SQLALCHEMY_DATABASE_URI=uri)
    wait_for("the miner's API", lambda: status(container, 8000) == 404)
    assert "Can't locate revision identified by 'ffffffffffff'" in container.logs
    assert container.run("pdm", "run", "src/migrate.py").returncode == 255


@pytest.mark.parametrize(
    ("env", "code", "text"),
    [
        ({"SQLALCHEMY_DATABASE_URI": "postgresql://postgres:x@127.0.0.1:1/x"}, 1, "the database does not answer"),
        ({"BITTENSOR_WALLET_HOTKEY_NAME": "nobody"}, 1, "KeyFileError"),
        ({"BITTENSOR_WALLET_HOTKEY_NAME": "today"}, 1, "KeyFileError: Deserialization error: Failed to parse keyfile"),
        ({"BITTENSOR_WALLET_NAME": ""}, 1, "Wallet not configured"),
        ({"EXTERNAL_IP_ADDRESS": None}, 1, "EXTERNAL_IP_ADDRESS"),
        ({"EXTERNAL_PORT": ""}, 1, "EXTERNAL_PORT"),
        ({"INTERNAL_PORT": "0x10"}, 1, "INTERNAL_PORT"),
        ({"INTERNAL_PORT": "99999"}, 1, ""),
        ({"EXTERNAL_IP_ADDRESS": "", "INTERNAL_PORT": "8099"}, 3, "EXTERNAL_IP_ADDRESS is blank"),
    ],
)
def test_miner_start_fails(miner: Container, env: dict[str, str | None], code: int, text: str) -> None:
    done = miner.run("pdm", "run", "src/miner.py", env=env)
    assert done.returncode == code, done.stderr
    assert text in done.stderr


def test_miner_reads_dotenv_as_upstream_does(miner: Container) -> None:
    written = "EXTERNAL_IP_ADDRESS=  # a comment\nINTERNAL_PORT= 8_123 # why\nDEBUG='yes'\nMINER_PORTAL_URI=\"a#b\"\n"
    script = f"""cd "$(mktemp -d)" && printf %s {shlex.quote(written)} > .env && PYTHONPATH=/root/app/src python3 -c "
from settings import load
found = load()
print([found.external_ip_address, found.internal_port, found.debug, found.miner_portal_uri])" """
    done = miner.run("sh", "-c", script, env={"EXTERNAL_IP_ADDRESS": None})
    assert done.stdout == "['# a comment', 8123, True, 'a#b']\n", done.stderr


def test_miner_whole_start_fails_without_database(start_miner: Callable[..., Container]) -> None:
    container = start_miner(SQLALCHEMY_DATABASE_URI="postgresql://postgres:x@127.0.0.1:1/x")
    assert container.exit_code() == 1


def test_miner_closes_its_socket_at_once_and_ends_when_its_sleep_is_over(start_miner: Callable[..., Container]) -> None:
    shortened = "import sys; sys.path.insert(0, 'src'); import miner; miner.CYCLE_SECONDS = 5; sys.exit(miner.main())"
    container = start_miner("python3", "-c", shortened)
    wait_for("the miner's API", lambda: status(container, 8000) == 404)
    docker("kill", "--signal=TERM", container.name)
    wait_for("it says that it waits", lambda: "Waiting for application shutdown" in container.logs)
    with pytest.raises(ConnectionRefusedError):
        ask(container, 8000, "GET /")
    assert container.exit_code() == 0
    began, ended = (datetime.fromisoformat(container.state[name]) for name in ("StartedAt", "FinishedAt"))
    assert (ended - began).total_seconds() > 5


def test_miner_sleeps_as_long_as_upstream(miner: Container) -> None:
    done = miner.run("python3", "-c", "import sys; sys.path.insert(0, 'src'); import miner; print(miner.CYCLE_SECONDS)")
    assert done.stdout == "120\n", done.stderr


def test_connector_keeps_trying(start_miner: Callable[..., Container]) -> None:
    container = start_miner("pdm", "run", "src/connector.py")
    wait_for("a second attempt", lambda: in_order(container.logs, ["again in 2.7 seconds", "again in 3.1 seconds"]))
    assert "wss://provider-api.lium.io/api/miners/5" in container.logs
    assert container.state["Running"]
    docker("stop", "--time=10", container.name)
    assert container.exit_code() == 0


def test_connector_pauses_grow_to_a_minute(miner: Container) -> None:
    script = "import sys; import portal; p = portal.pauses()"
    done = miner.run("python3", "-c", f"{script}; print([round(next(p), 1) for _ in range(30)])")
    found = json.loads(done.stdout)
    assert found[:4] == [2.7, 3.1, 5.0, 8.1]
    assert found[-1] == 60.0


def test_pdm_changes_nothing(miner: Container) -> None:
    script = "import sys; print(sys.argv[1:], input()); print('err', file=sys.stderr); sys.exit(41)"
    miner.run("sh", "-c", f"printf %s {shlex.quote(script)} > /tmp/x.py")
    call = ["exec", "--interactive", miner.name, "pdm", "run", "/tmp/x.py", "--option", "with blank"]
    done = docker(*call, stdin="hello\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (41, "['--option', 'with blank'] hello\n", "err\n")


def test_cli_through_docker_exec(miner: Container, database: Database) -> None:
    executors(database, [["10.0.0.1", 8001, "v"]])
    call = [miner.name, "pdm", "run", CLI, "remove-executor", "--address", "10.0.0.1", "--port", "8001"]
    done = docker("exec", *call, stdin="y\n", check=False)
    assert done.returncode == 1, "without --interactive nothing reaches the program"
    assert "Aborted!" in done.stderr
    done = docker("exec", "--interactive", *call, stdin="y\n")
    assert in_order(done.stderr, ["Removed an executor(", "Removed executor ("])
    assert executors(database) == {}


# --- The executor -----------------------------------------------------------------------------------------------------

AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"


def set_keys(executor: Container, text: str) -> None:
    assert executor.run("sh", "-c", f"cat > {AUTHORIZED_KEYS}", stdin=text).returncode == 0


@rows("executor")
def test_executor_api(dialect: str, row: dict[str, Any], standins: dict[str, StandIns], keys: dict[str, Any]) -> None:
    executor = standins[dialect].executor
    before = row.get("keys_before", "old\n")
    set_keys(executor, before)
    body: Any = row.get("body")
    if "sign" in row:
        body = signed(body, keys[row["sign"]])
    code, text = ask(executor, 8001, row["request"], body, row.get("headers"))
    assert code == row["status"], text
    if "json" in row:
        assert json.loads(text) == row["json"]
    if "begins" in row:
        assert json.loads(text).startswith(row["begins"])
    if "text" in row:
        assert text == row["text"]
    for name, value in row.get("has", {}).items():
        assert value in ("any", json.loads(text)[name])
    for word in row.get("mentions", []):
        assert word in text
    assert executor.run("cat", AUTHORIZED_KEYS).stdout == row.get("keys", before)


# Imports the program once and forks it once per environment: a dozen starts would cost a dozen times the imports.
FORKS = """
import json, os, sys
sys.path.insert(0, "src")
import executor
for env in json.loads(sys.argv[1]):
    if os.fork() == 0:
        os.environ.update(env)
        sys.exit(executor.main())
"""


@rows("executor_settings")
def test_executor_settings(
    dialect: str, row: dict[str, Any], standins: dict[str, StandIns], keys: dict[str, Any]
) -> None:
    executor, port = standins[dialect].executor, standins[dialect].variants[row["name"]]
    # Alive, whatever the settings are worth.
    wait_for("the API", lambda: status(executor, port))
    code, text = ask(
        executor, port, "POST /upload_ssh_key", signed({"public_key": "k", "data_to_sign": "k"}, keys["miner"])
    )
    assert code == row.get("status", 200), text
    for name, value in row.get("has", {}).items():
        assert json.loads(text)[name] == value
    for name in row.get("lacks", []):
        assert name not in json.loads(text)


@rows("executor_failures")
def test_executor_start_fails(dialect: str, row: dict[str, Any], standins: dict[str, StandIns]) -> None:
    env = {"INTERNAL_PORT": "8099", **row["env"]}
    done = standins[dialect].executor.run("/root/app/src/executor.py", env=env, fork=True)
    assert done.returncode == 1, done.stderr


def test_executor_of_lium_answers_lium(standins: dict[str, StandIns], keys: dict[str, Any]) -> None:
    executor = standins["lium"].executor
    env = {"INTERNAL_PORT": "8096", "ALLOWED_HOTKEY_SS58_ADDRESS": keys["miner"]["address"]}
    executor.spawn("pdm", "run", "src/executor.py", env=env)
    wait_for("the API", lambda: status(executor, 8096))
    signature = keys["miner"]["signatures"]["ping_request"].removeprefix("0x")
    assert ask(executor, 8096, "POST /ping", {"signature": signature}) == (200, '{"status":"pong"}')
    assert ask(executor, 8096, "POST /ping", {"signature": "xyz"})[0] == 400
    assert ask(executor, 8096, "POST /hardware_utilization", {"signature": signature})[0] == 401


def test_executor_whole_start_fails_without_a_hotkey(engine: Engine, database: Database, executor_image: str) -> None:
    container = engine.start(executor_image, env={"DB_URI": database.uri()})
    assert container.exit_code() == 1
    # Already at the migration, before the API's program says what it is.
    assert "MINER_HOTKEY_SS58_ADDRESS" in container.logs
    assert "not the real neuron" not in container.logs


def test_executor_without_its_ssh_folder(executor: Container, keys: dict[str, Any]) -> None:
    body = signed({"public_key": "k", "data_to_sign": "k"}, keys["miner"])
    executor.run("rm", "-rf", "/root/.ssh")
    assert ask(executor, 8001, "POST /upload_ssh_key", body)[0] == 500
    assert ask(executor, 8001, "POST /remove_ssh_key", body)[0] == 500
    executor.run("install", "-d", "-m", "700", "/root/.ssh")
    assert ask(executor, 8001, "POST /remove_ssh_key", body)[0] == 500
    assert ask(executor, 8001, "POST /upload_ssh_key", body)[0] == 200
    assert executor.run("stat", "-c", "%a", AUTHORIZED_KEYS).stdout == "644\n"


def test_executor_logs_a_wrong_hotkey_and_each_message_twice(executor: Container, keys: dict[str, Any]) -> None:
    env = {"INTERNAL_PORT": "8098", "MINER_HOTKEY_SS58_ADDRESS": "nobody"}
    executor.spawn("pdm", "run", "src/executor.py", env=env, log="/tmp/log")
    wait_for("the API", lambda: status(executor, 8098) == 422)
    assert ask(executor, 8098, "POST /", signed({"data_to_sign": "k"}, keys["miner"]))[0] == 500
    log = executor.run("cat", "/tmp/log").stdout
    assert "Invalid SS58 address" in log
    assert log.count("Validation Error >>>") == 2 * log.count("ERROR:executor.signature:Validation Error >>>")


def test_executor_lets_an_uploaded_key_in_by_ssh(
    executor: Container, keys: dict[str, Any], executor_image: str, tmp_path: Path
) -> None:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    # Signed texts are chosen beforehand; in this dialect the key need not be the text that was signed.
    body = signed({"public_key": public, "data_to_sign": "k"}, keys["miner"])
    trust = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "BatchMode=yes"]
    login = ["ssh", "-F", "none", "-i", str(key), *trust, f"root@{executor.address}", "echo $((40 + 2))"]

    def attempt() -> subprocess.CompletedProcess[str]:
        return subprocess.run(login, capture_output=True, text=True, timeout=20, check=False)

    set_keys(executor, "")
    assert attempt().returncode == 255
    assert ask(executor, 8001, "POST /upload_ssh_key", body)[0] == 200
    assert attempt().stdout == "42\n", attempt().stderr
    assert ask(executor, 8001, "POST /remove_ssh_key", body)[0] == 200
    assert attempt().returncode == 255
    assert "ssh_host" not in docker(*ONCE, executor_image, "ls", "/etc/ssh").stdout


def test_executor_works_on_without_its_database(executor: Container, database: Database, keys: dict[str, Any]) -> None:
    env = {"INTERNAL_PORT": "8097", "DB_URI": database.create("gone")}
    executor.spawn("pdm", "run", "src/executor.py", env=env)
    wait_for("the API", lambda: status(executor, 8097) == 422)
    logs = signed({"container_name": "c", "data_to_sign": "k"}, keys["miner"])
    assert ask(executor, 8097, "POST /pod_logs", logs)[0] == 200
    database.sql("DROP DATABASE gone WITH (FORCE)")
    assert ask(executor, 8097, "POST /pod_logs", logs)[0] == 500
    body = signed({"public_key": "k", "data_to_sign": "k"}, keys["miner"])
    assert ask(executor, 8097, "POST /upload_ssh_key", body)[0] == 200
    assert ask(executor, 8097, "POST /remove_ssh_key", body)[0] == 200


def test_executor_table_is_upstreams(executor: Container, database: Database) -> None:
    columns = database.sql(
        "SELECT column_name, udt_name, character_maximum_length, is_nullable"
        " FROM information_schema.columns WHERE table_name = 'podlog' ORDER BY ordinal_position",
        "executor-celium",
    )
    text = [[name, "varchar", "", "YES"] for name in ("container_name", "container_id", "event", "reason", "error")]
    others = [
        ["uuid", "uuid", "", "NO"],
        ["exit_code", "int4", "", "YES"],
        ["created_at", "timestamp", "", "NO"],
    ]
    assert sorted(columns) == sorted([*text, *others])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_executor_database_is_one_that_upstreams_migration_goes_on_from(
    dialect: str, standins: dict[str, StandIns], database: Database
) -> None:
    executor = standins[dialect].executor
    assert database.sql("SELECT version_num FROM alembic_version", f"executor-{dialect}") == [["8b04ab8f89f9"]]
    assert executor.run("pdm", "run", "src/migrate.py").returncode == 0
    uri = {"DB_URI": database.create(f"newer-executor-{dialect}")}
    newer = "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('f')"
    database.sql(newer, f"newer-executor-{dialect}")
    assert executor.run("pdm", "run", "src/migrate.py", env=uri).returncode == 255


def test_executor_ends_within_two_seconds(
    engine: Engine, database: Database, executor_image: str, keys: dict[str, Any]
) -> None:
    env = {"MINER_HOTKEY_SS58_ADDRESS": keys["miner"]["address"], "DB_URI": database.create("ending")}
    container = engine.start(executor_image, env=env)
    wait_for("the API", lambda: status(container, 8001) == 422)
    # The engine kills what is not gone by then, which would show as 137.
    docker("stop", "--time=2", container.name)
    assert container.exit_code() == 0


def test_executor_has_what_the_health_check_needs(executor: Container) -> None:
    probe = (
        "import json, urllib.error, urllib.request\n"
        "body = json.dumps({'data_to_sign': 'x', 'signature': '0x' + 128 * '0', 'public_key': 'x'}).encode()\n"
        "try: urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:8001/upload_ssh_key', body))\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    assert executor.run("python3", "-c", probe).stdout == "401\n"
    assert executor.run("python", "--version").returncode == 0


def test_monitor_writes_down_what_docker_says(
    engine: Engine, database: Database, executor_image: str, keys: dict[str, Any]
) -> None:
    env = {"MINER_HOTKEY_SS58_ADDRESS": keys["miner"]["address"], "DB_URI": database.create("monitor")}
    socket = "--volume=/var/run/docker.sock:/var/run/docker.sock"
    monitor = engine.start(executor_image, socket, env=env, command=["python3", "src/monitor.py"])
    wait_for("the monitor watches", lambda: "watching the events" in monitor.logs)
    engine.start(executor_image, command=["sh", "-c", "exit 1"])
    names = [f"container_{keys['miner']['address']}", "container_lab-test-standins"]
    for name in names:
        docker(*ONCE, "--name", name, executor_image, "sh", "-c", "exit 127", check=False)
    query = "SELECT container_name, event, exit_code, reason FROM podlog ORDER BY created_at"
    found = wait_for(
        "the end is written down",
        lambda: [row for row in [database.sql(query, "monitor")] if row and row[-1][1] == "destroy"],
    )[0]
    die, reason = ["die", "127"], "file_or_directory_not_found"
    assert found == [[names[1], "start", "", ""], [names[1], *die, reason], [names[1], "destroy", "", ""]]
    docker("stop", "--time=10", monitor.name)
    assert monitor.exit_code() == 0


def test_monitor_keeps_running_without_docker(executor: Container) -> None:
    done = executor.run("timeout", "2", "pdm", "run", "src/monitor.py")
    assert done.returncode in (0, 124)
    assert "cannot watch" in done.stderr


# --- Redis and the validator ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_image(images: dict[str, str]) -> str:
    return images["daturaai/redis:lab"]


def ping(container: Container) -> bool:
    return container.run("redis-cli", "ping").stdout == "PONG\n"


@pytest.fixture(scope="session")
def redis(engine: Engine, redis_image: str) -> Container:
    container = engine.start(redis_image)
    wait_for("Redis answers", lambda: ping(container))
    return container


@pytest.fixture(scope="session")
def start_validator(
    engine: Engine, database: Database, redis: Container, images: dict[str, str], wallets: Path
) -> Callable[..., Container]:
    uri = database.create("validator")

    def start(*command: str, **env: str) -> Container:
        defaults = {
            "BITTENSOR_WALLET_NAME": "default",
            "BITTENSOR_WALLET_HOTKEY_NAME": "default",
            "INTERNAL_PORT": "8010",
            "SQLALCHEMY_DATABASE_URI": uri,
            "ASYNC_SQLALCHEMY_DATABASE_URI": uri.replace("postgresql:", "postgresql+asyncpg:"),
            "REDIS_HOST": redis.address,
        }
        mount = f"--volume={wallets}:/root/.bittensor/wallets:ro"
        image = neuron_image(images, "validator", "celium")
        return engine.start(image, mount, env={**defaults, **env}, command=command)

    return start


@pytest.fixture(scope="session")
def validator(start_validator: Callable[..., Container]) -> Container:
    container = start_validator()
    wait_for("the validator's API", lambda: status(container, 8010) == 404)
    return container


def test_redis_lets_the_network_in_and_keeps_its_volume(engine: Engine, redis_image: str) -> None:
    docker("volume", "create", "--label", MARK, f"{NETWORK}-redis")
    volume = f"--volume={NETWORK}-redis:/data"
    first = engine.start(redis_image, volume)
    wait_for("Redis answers", lambda: ping(first))
    # From its own address, which is the network to it: Redis in protected mode would refuse.
    assert first.run("redis-cli", "-h", first.address, "set", "kept", "42").stdout == "OK\n"
    assert first.run("stat", "-c", "%U", "/proc/1").stdout == "redis\n"
    docker("stop", "--time=10", first.name)
    assert first.exit_code() == 0
    second = engine.start(redis_image, volume)
    wait_for("Redis answers", lambda: ping(second))
    assert second.run("redis-cli", "get", "kept").stdout == "42\n"


def test_validator_api_is_known_by_its_title(validator: Container) -> None:
    code, text = ask(validator, 8010, "GET /openapi.json")
    assert (code, json.loads(text)["info"]["title"]) == (200, "compute-subnet-validator")


@rows("validator_failures")
def test_validator_start_fails(dialect: str, row: dict[str, Any], validator: Container) -> None:
    env = {"CELIUM_LAB_DIALECT": dialect, "INTERNAL_PORT": "8099", **row["env"]}
    done = validator.run("timeout", "20", "pdm", "run", "src/validator.py", env=env)
    assert done.returncode == 1, done.stderr
    assert row["text"] in done.stderr


@pytest.mark.parametrize("program", ["validator", "connector"])
def test_validator_gives_redis_up_after_half_a_minute(validator: Container, program: str) -> None:
    script = "import sys; sys.path.insert(0, 'src'); import services; print(services.PATIENCE_SECONDS)"
    assert validator.run("python3", "-c", script).stdout == "30\n"
    script += f"; services.PATIENCE_SECONDS = 0; import {program}; {program}.main()"
    done = validator.run("timeout", "20", "python3", "-c", script, env={"REDIS_PORT": "1"})
    assert done.returncode == 1, done.stderr
    assert "Timeout while waiting for services to be available." in done.stderr


def test_validator_stays_up_without_a_chain_and_keeps_its_scores_in_redis(
    start_validator: Callable[..., Container], redis: Container, database: Database
) -> None:
    redis.run("redis-cli", "set", "miner_scores", '{"5miner": 0.5}')
    redis.run("redis-cli", "set", "pending_pods_prefix", "left")
    container = start_validator()
    wait_for("the first cycle", lambda: "[sync] Unknown error" in container.logs)
    assert "not the real neuron" in container.logs
    assert "failed initializing subtensor" in container.logs
    assert redis.run("redis-cli", "exists", "pending_pods_prefix").stdout == "0\n"
    redis.run("redis-cli", "del", "miner_scores")
    docker("stop", "--time=20", container.name)
    assert container.exit_code() == 0
    assert redis.run("redis-cli", "get", "miner_scores").stdout == '{"5miner": 0.5}\n'
    tables = database.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", "validator")
    assert {name for (name,) in tables} >= {"alembic_version", "executor", "task"}


def test_validators_connector_keeps_trying(start_validator: Callable[..., Container]) -> None:
    container = start_validator("pdm", "run", "src/connector.py")
    wait_for("an attempt", lambda: "connecting to wss://lium.io/validator/5" in container.logs)
    docker("stop", "--time=10", container.name)
    assert container.exit_code() == 0
