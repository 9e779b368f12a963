"""What an operator does about things that more than one command finds."""

from __future__ import annotations

NO_EVM = (
    "celium_network is the address of a node and there is no miner_evm_rpc_url: upstream's miner of dialect lium "
    "cannot ask for collateral then, and removes no row"
)
NO_EVM_REMEDY = "celium_network: finney with miner_chain_endpoint for the node, or miner_evm_rpc_url"
NO_CHAIN = "the miner cannot use the chain: its log says"
NO_CHAIN_REMEDY = (
    "check celium_network, miner_chain_endpoint and celium_dialect (celium cannot read today's main chain), and that "
    "the chain's node answers the host; `celium-ops logs` shows what the miner says"
)
NOT_REGISTERED = "not registered on netuid"
NOT_REGISTERED_REMEDY = (
    "register it on the subnet (`btcli subnet register`), or correct miner_wallet_hotkey and celium_netuid"
)
GPUS_LOST_REMEDY = (
    "`celium-ops deploy` restarts it while no tenant has the host; `nvidia-smi` tells whether the host has them"
)
UNHEALTHY_REMEDY = "`celium-ops logs` shows what it says; `celium-ops deploy` starts it again"
REFUSED_REMEDY = (
    "`celium-ops assign apply` moves it to the validator that the miner accepts; or set miner_default_validator for "
    "the miner and deploy"
)
"""About a row whose validator its miner does not accept."""
