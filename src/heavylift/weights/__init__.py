"""Checkpoints: what they consist of, whether they are whole, and how they get onto hosts."""

from heavylift.weights.manifest import Checkpoint, Manifest, examine, promise

__all__ = ["Checkpoint", "Manifest", "examine", "promise"]
