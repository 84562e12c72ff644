"""Checkpoints: what they consist of, whether they are whole, and how they get onto hosts."""

from heavylift.weights.manifest import Checkpoint, Manifest, examine, promise
from heavylift.weights.remote import remembered
from heavylift.weights.select import Wish

__all__ = ["Checkpoint", "Manifest", "Wish", "examine", "promise", "remembered"]
