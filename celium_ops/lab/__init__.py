"""The rehearsal fleet: hosts, registry, stand-in images on one Linux machine."""
