# SPDX-License-Identifier: MIT
"""Which networks of containers hide others that a host has a route to. Pure.

It has two users: the filters of our roles, and the command line, which sends its source along with preflight's survey.
Nothing but Python 3.8 and its standard library is needed. Routes are as ``ip -json -4 route`` prints them.
"""

from __future__ import annotations

import ipaddress
import re

DOCKERS = re.compile(r"docker\d+|docker_gwbridge|br-[0-9a-f]{12}")
"""The names that Docker gives to bridges."""
WIDEST = 8
"""Bits of the largest private network. A VPN cuts the default route into halves, which are no network of anybody."""


def foreign(routes, bridges=(), dockers=DOCKERS):
    """Yield the networks to which a host has routes, with their routes: without the default, and without Docker's."""
    for route in routes or ():
        device = route.get("dev", "")
        try:
            network = ipaddress.IPv4Network(route.get("dst", ""), strict=False)
        except ValueError:  # default
            continue
        if network.prefixlen >= WIDEST and not dockers.fullmatch(device) and device not in bridges:
            yield network, route


def hidden(subnet, routes, bridges=(), dockers=DOCKERS):
    """Return what containers in a subnet would hide, as text; null when it is nothing.

    Part of a routed network is enough: its addresses no longer lead where they led.
    """
    wanted = ipaddress.IPv4Network(subnet, strict=False)
    for network, route in foreign(routes, bridges, dockers):
        if wanted.overlaps(network):
            return f"{network} ({route['dev']})" if "dev" in route else str(network)
    return None
