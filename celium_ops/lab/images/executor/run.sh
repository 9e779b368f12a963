#!/bin/sh
# As upstream's: any step that fails ends the start.
set -eu
ssh-keygen -A
mkdir -p /run/sshd
/usr/sbin/sshd
pdm run src/migrate.py
exec pdm run src/executor.py
