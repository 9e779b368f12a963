#!/bin/sh
# As upstream's: no `set -e`, so a migration that fails does not stop the start.
pdm run src/migrate.py
[ "$CELIUM_LAB_DIALECT" = celium ] || pdm run src/cli.py migrate-validator-hotkey
exec pdm run src/miner.py
