"""How one host is talked to outside a playbook."""
