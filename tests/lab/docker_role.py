"""The role nvidia_docker alone, on a host that no fleet needs."""

HOST = "executor-4"
PLAY = f"""
- hosts: {HOST}
  become: true
  gather_facts: true
  gather_subset: [min]
  roles: [celium.ops.nvidia_docker]
"""
