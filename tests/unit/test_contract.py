"""The contracts, and what follows from them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.contract import load_contracts
from celium_ops.workflows.status import SERVICES

ROOT = Path(__file__).parents[2]


def test_generated_files_are_up_to_date():
    done = subprocess.run([sys.executable, "scripts/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", SERVICES)
def test_status_expects_the_services_of_the_compose_template(role):
    template = (collection_dir() / "templates" / f"{role}.compose.yml.j2").read_text()
    services = template.split("\nservices:\n")[1].split("\nvolumes:\n")[0]
    assert tuple(sorted(re.findall(r"^  (\w+):$", services, re.MULTILINE))) == SERVICES[role]


@pytest.mark.parametrize("role", ["executor", "miner", "validator"])
def test_what_cannot_be_escaped_is_restricted(role):
    variables = load_contracts()[role].variables
    assert variables[f"{role}_db_name"].type == "db_name", "the name in an address of a database is never decoded"
    if role != "executor":
        types = [variables[f"{role}_wallet_{part}"].type for part in ("dir", "name")]
        assert types == ["mount_path", "mount_name"], "a colon separates the parts of a volume"


@pytest.mark.parametrize("role", load_contracts())
def test_every_default_is_of_its_own_type(role):
    from celium_ops.fleet.values import check

    for name, variable in load_contracts()[role].variables.items():
        if variable.default is not None and "{{" not in str(variable.default):
            assert check(variable.type, variable.default) == variable.default, name


# Facts of upstream's templates and settings, 2025-08 and 2025-12. POSTGRES_PORT is for upstream's local compose only,
# HOST_WALLET_DIR becomes the mount itself, DEBUG* are for developers and stop the newer miner from starting.
UPSTREAM = {
    "miner": """BITTENSOR_WALLET_NAME BITTENSOR_WALLET_HOTKEY_NAME POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD
        SQLALCHEMY_DATABASE_URI BITTENSOR_NETUID BITTENSOR_NETWORK BITTENSOR_CHAIN_ENDPOINT SUBTENSOR_EVM_RPC_URL
        COLLATERAL_CONTRACT_ADDRESS EXTERNAL_IP_ADDRESS INTERNAL_PORT EXTERNAL_PORT RENTAL_REQUEST_HOOK MIN_ALPHA_STAKE
        MIN_TOTAL_STAKE MINER_PORTAL_URI MINER_PORTAL_API_URL DEFAULT_VALIDATOR_HOTKEY CENTRAL_MODE""",
    "executor": """INTERNAL_PORT EXTERNAL_PORT SSH_PORT SSH_PUBLIC_PORT RENTING_PORT_RANGE RENTING_PORT_MAPPINGS
        MINER_HOTKEY_SS58_ADDRESS DEFAULT_MINER_HOTKEY ALLOWED_HOTKEY_SS58_ADDRESS RENTING_PRICE DB_URI POSTGRES_DB
        POSTGRES_USER POSTGRES_PASSWORD""",
    "validator": """BITTENSOR_WALLET_NAME BITTENSOR_WALLET_HOTKEY_NAME POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD
        SQLALCHEMY_DATABASE_URI ASYNC_SQLALCHEMY_DATABASE_URI REDIS_HOST REDIS_PORT BITTENSOR_NETUID BITTENSOR_NETWORK
        BITTENSOR_CHAIN_ENDPOINT SUBTENSOR_EVM_RPC_URL COLLATERAL_CONTRACT_ADDRESS INTERNAL_PORT EXTERNAL_PORT
        COMPUTE_APP_URI COMPUTE_REST_API_URL TAO_PRICE_API_URL MINER_PORTAL_REST_API_URL SKIP_RENTAL_VERIFICATION
        USE_REST_API MACHINE_MAX_PRICE_RATE""",
}


@pytest.mark.parametrize("role", UPSTREAM)
def test_the_contract_names_every_variable_upstream_reads(role):
    contract = load_contracts()[role]
    named = set()
    for variable in [*contract.variables.values(), *contract.computed.values()]:
        named.update(variable.env.values() if isinstance(variable.env, dict) else [variable.env])
        named.add(variable.db_env)
    assert named - {None} == set(UPSTREAM[role].split())


def test_secrets_are_hidden_from_ansibles_output():
    for role, contract in load_contracts().items():
        specs = yaml.safe_load((collection_dir() / "roles" / role / "meta" / "argument_specs.yml").read_text())
        options = specs["argument_specs"]["main"]["options"]
        for name, variable in contract.variables.items():
            assert options[name].get("no_log", False) == variable.secret, name
