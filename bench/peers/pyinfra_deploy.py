"""A peer of `celium-ops deploy`: what of our roles pyinfra's operations can say, on hosts that have it all already.

It compares less than we do: no variables of environments, no keys of daemon.json, no containers.
"""

from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt, files, systemd

role = host.data.role
stack = f"/opt/celium/{role}"
here = Path(host.data.copies) / host.name

apt.packages(name="Docker", packages=["docker.io"], update=False)
systemd.service(name="Docker runs", service="docker.service", running=True, enabled=True)
files.directory(name="Stacks", path="/opt/celium", mode="755", user="root", group="root")
files.directory(name="Stack", path=stack, mode="700", user="root", group="root")
for name in (".env", "db.env", "compose.yml"):
    files.put(name=name, src=str(here / name), dest=f"{stack}/{name}", mode="600", user="root", group="root")
files.put(name="daemon.json", src=str(here / "daemon.json"), dest="/etc/docker/daemon.json")
if role == "executor":
    files.put(name="Modules", src=str(here / "celium.conf"), dest="/etc/modules-load.d/celium.conf")
