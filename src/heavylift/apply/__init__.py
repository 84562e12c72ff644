"""Release + inventory → hosts: what each host needs, and the pyinfra run that brings it there."""

from heavylift.apply.decide import Changes, decide, diff
from heavylift.apply.target import Target

__all__ = ["Changes", "Target", "decide", "diff"]
