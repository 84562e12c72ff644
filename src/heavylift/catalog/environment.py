"""Engine environments: which exact packages make up a vLLM of one version for one kind of device."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heavylift.errors import CatalogError

__all__ = ["Device", "EngineEnvironment", "engine_environment", "installer"]

Device = Literal["cpu", "cuda"]
_DATA = Path(__file__).parent / "environments"
_TORCH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
# Changes whenever the installation lays an environment out in another way, so that old ones are not taken for new.
_LAYOUT = "1"


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """One locked environment: `name` is its folder on hosts, equal requirements give an equal name.

    `torch` holds the lock's rows for torch and its CUDA libraries, `rest` all others; both with hashes.
    """

    version: str
    device: Device
    torch: str
    rest: str

    @property
    def name(self) -> str:
        """`<version>-<digest>`: the folder below `/opt/heavylift/engines/`."""
        content = f"{_LAYOUT}\n{self.version}\n{self.device}\n{self.torch}\n{self.rest}"
        return f"{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def torch_version(self) -> str:
        """The exact torch version of the lock."""
        found = re.search(r"^torch==([\w.]+)", self.torch, re.MULTILINE)
        assert found is not None
        return found[1]


def engine_environment(version: str, device: Device) -> EngineEnvironment:
    """Return the locked environment; raise `CatalogError` naming those that are shipped."""
    path = _DATA / f"vllm-{version}-{device}.txt"
    if not path.is_file():
        shipped = sorted(p.stem.split("-")[1] for p in _DATA.glob(f"vllm-*-{device}.txt"))
        raise CatalogError(
            f"no locked environment of vLLM {version} for {device}; shipped: {', '.join(shipped)}",
            hint=f"choose one of these as engine.version, or lock yours with scripts/engine-lock {version} {device}",
        )
    rows = re.split(r"\n(?=[a-z0-9])", path.read_text(encoding="utf-8").strip())
    rows = [row for row in rows if not row.startswith("#")]
    torch = [row for row in rows if _TORCH.match(row)]
    return EngineEnvironment(
        version, device, "\n".join(torch) + "\n", "\n".join(r for r in rows if r not in torch) + "\n"
    )


def installer() -> str:
    """Return the hashed requirement of uv, which installs environments on hosts."""
    return (_DATA / "uv.txt").read_text(encoding="utf-8")
