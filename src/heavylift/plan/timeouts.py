"""Every time limit of a replica, from one number: the longest request that users may send. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heavylift.spec import Deployment

__all__ = ["Timeouts", "timeouts"]

# Assumed until a host has been measured: the slowest disk a checkpoint is served from, and the longest warm-up
# (torch.compile, DeepGEMM, CUDA graphs: 8 to 37 minutes have been reported; a CPU engine needs half a minute alone).
DISK_BYTES_PER_S = 200e6
WARM_UP_GPU_S = 2400
WARM_UP_CPU_S = 600
UNKNOWN_BYTES = 800e9


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each longer than the one before: `drain_s` < `shutdown_s` < `container_s` < `stop_s`."""

    start_s: int
    drain_s: int
    shutdown_s: int
    container_s: int
    stop_s: int


def timeouts(deployment: Deployment, size: int | None) -> Timeouts:
    """Derive all limits; `size` is the checkpoint's bytes, None where nobody knows them yet."""
    request = deployment.limits.request_s
    return Timeouts(
        start_s=deployment.limits.start_s or _start_s(deployment.on_cpu, size),
        drain_s=request,
        shutdown_s=request + 5,
        container_s=request + 15,
        stop_s=request + 30,
    )


def _start_s(on_cpu: bool, size: int | None) -> int:
    warm_up = WARM_UP_CPU_S if on_cpu else WARM_UP_GPU_S
    return warm_up + math.ceil((UNKNOWN_BYTES if size is None else size) / DISK_BYTES_PER_S)
