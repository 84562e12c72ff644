"""pyinfra deploys: `pyinfra inventories/lab.py deploy.all` does what `heavylift apply` does, reading deployment.yaml.

One noun a module. Each looks at the host once, decides with `heavylift.apply.decide`, and yields what is missing;
nothing here renders, plans or reads the network. Only this folder and `inventories/` import pyinfra.
"""

from __future__ import annotations

from deploy import engine, host, release, service, weights
from deploy.lock import take

__all__ = ["all", "stage"]


def all() -> None:  # noqa: A001  `deploy.all` is the name that the design gives it
    """Bring a host, its engine, weights and release into place; start and gate where nothing serves."""
    stage()
    service.activate()
    service.start()
    service.gate()


def stage() -> None:
    """Everything but what a serving engine would notice."""
    take()
    host.prepare()
    engine.install()
    weights.place()
    release.stage()
