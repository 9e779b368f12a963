#!/bin/sh
# As upstream's: no `set -e`, so a migration that fails does not stop the start.
pdm run src/migrate.py
exec pdm run src/validator.py
