"""The lab's hosts, as `heavylift lab up` wrote them: `pyinfra inventories/lab.py deploy.all`."""

from deploy.connection import hosts as _hosts

hosts = _hosts("lab")
