"""A miner that loses its chain, and one that gets it back: said by status and preflight, which ask its log."""

from __future__ import annotations

from fleet import broken, wait_for

STACK = "cd /opt/celium/miner"
UP = "docker compose up --detach --timeout 0 --wait miner"
LOST = "the miner cannot use the chain: its log says [Error] failed initializing subtensor"


def test_a_miner_that_cannot_use_the_chain_is_seen_until_it_can(deployed):
    change = "cp -p .env kept; echo BITTENSOR_CHAIN_ENDPOINT=ws://127.0.0.1:9 >> .env"
    with broken(deployed, "miner-1", f"{STACK}; {change}; {UP}", f"{STACK}; mv kept .env; {UP}"):
        wait_for(lambda: LOST in deployed.status()["by_name"]["miner-1"]["problems"])
        status = deployed.status()
        assert (status["rc"], status["by_name"]["miner-1"]["healthy"]) == (1, False), status
        assert "miner_chain_endpoint" in status["by_name"]["miner-1"]["remedy"]
        looked = deployed.run_json("preflight", "--limit", "miner-1")
        (check,) = [check for check in looked["hosts"][0]["checks"] if check["id"] == "miner.chain"]
        assert (looked["rc"], check["status"], check["message"]) == (1, "fail", LOST)
    wait_for(lambda: deployed.status()["ok"])
    looked = deployed.run_json("preflight", "--limit", "miner-1")
    assert {check["id"]: check["status"] for check in looked["hosts"][0]["checks"]}["miner.chain"] == "pass"
