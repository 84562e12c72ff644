"""The machines that deployment.yaml lists: `pyinfra inventories/owned.py deploy.all`."""

from deploy.connection import hosts as _hosts

hosts = _hosts("owned")
