"""How a playbook is run: ansible-runner, events turned into progress and results per host."""
