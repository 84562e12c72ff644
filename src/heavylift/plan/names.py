"""Which argument of vLLM a key of `engine.arguments` means, and what to say when it means none. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from heavylift.catalog.arguments import EngineSchema, history, ordered, replacements
from heavylift.plan.values import nearest

__all__ = ["OWNED", "resolve", "unread"]

_TLS = "TLS belongs in front of the engine, which listens on loopback or a private address only; remove the line"

# Arguments that heavylift derives from other keys of the deployment, and the key to use.
OWNED: Mapping[str, str] = {
    "api-key": "a secret has no place on a command line; name its environment variable in `access.key`",
    "config": "arguments are checked one by one; write them here instead of in a file",
    "device-ids": "set by heavylift; use `engine.devices`",
    "download-dir": "weights are placed and verified before the engine starts; use `paths.models`",
    "enable-ssl-refresh": _TLS,
    "hf-token": "a secret has no place on a command line, and the engine runs offline; remove the line",
    "host": "set by heavylift; use `access.bind`",
    "model": "set by heavylift; use `model.repo` or `model.path`",
    "model-tag": "set by heavylift; use `model.repo` or `model.path`",
    "override-generation-config": "set by heavylift; use `sampling`",
    "port": "set by heavylift; use `access.port`",
    "revision": "set by heavylift; use `model.revision`",
    "served-model-name": "set by heavylift; use `model.name`",
    "shutdown-timeout": "set by heavylift from the longest request; use `limits.request_s`",
    "ssl-ca-certs": _TLS,
    "ssl-cert-reqs": _TLS,
    "ssl-certfile": _TLS,
    "ssl-ciphers": _TLS,
    "ssl-keyfile": _TLS,
    "trust-remote-code": "set by heavylift; use `model.trust_remote_code`, which native models do not need",
    "uds": "replicas are reached over TCP; use `access.bind`",
}


def resolve(root: str, rest: str, schema: EngineSchema) -> tuple[str | None, str | None]:
    """Return the long name that a key means, and what is wrong with how it is written; `rest` is its nested part."""
    name = root.lstrip("-").replace("_", "-").lower()
    tail = f".{rest}" if rest else ""
    if name in OWNED or name.removeprefix("no-") in OWNED:
        return None, OWNED[name if name in OWNED else name.removeprefix("no-")]
    if root in schema.arguments:
        return root, None
    if name in schema.arguments:
        return name, f"write it as `{name}{tail}`"
    if re.fullmatch(r"-?O[0-3]?", root):
        return None, f"write it as `optimization-level: {root[-1] if root[-1].isdigit() else 2}`"
    if not root.startswith("--") and (short := schema.spellings.get(f"-{root.lstrip('-')}")) is not None:
        return short, f"write it as `{short}{tail}`"
    if (negated := _negated(name, schema)) is not None:
        return None, f"write `{negated}: false`; every version takes that"
    if (alias := schema.spellings.get(f"--{name}")) is not None:
        return alias, f"write it as `{alias}{tail}`; not every version knows the other name"
    return None, _absent(name, schema)


def unread(name: str, schema: EngineSchema) -> str:
    """Say why an environment variable `VLLM_*` does nothing, and what to use instead."""
    if (gone := replacements("variables").get(name)) is not None:
        return f"{_gone(gone, schema)}; {gone.get('use', 'remove the line')}"
    if (later := _later(history(name, variable=True), schema)) is not None:
        return later
    near = nearest(name, schema.variables)
    return f"vLLM {schema.version} does not read it; " + (f"did you mean `{near}`?" if near else "remove the line")


def _negated(name: str, schema: EngineSchema) -> str | None:
    """Return the argument that `no-x`, `disable-x` or `enable-x` switches off, in this version or another."""
    spelled = schema.spellings.get(f"--{name}")
    if spelled is not None:
        return spelled if f"--{name}" in schema.arguments[spelled].off else None
    candidates = {"no-": "", "disable-": "enable-", "enable-": "disable-"}
    for prefix, other in candidates.items():
        argument = schema.arguments.get(other + name.removeprefix(prefix)) if name.startswith(prefix) else None
        if argument is not None and argument.kind in ("bool", "switch"):
            return argument.name
    return None


def _absent(name: str, schema: EngineSchema) -> str:
    if (gone := replacements("arguments").get(name)) is not None:
        return f"{_gone(gone, schema)}; {gone.get('use', 'remove the line')}"
    if (later := _later(history(name), schema)) is not None:
        return later
    full = sorted(long for long in schema.arguments if long.startswith(name) and name)
    if full:
        return f"vLLM's abbreviations change with its versions; write {' or '.join(f'`{long}`' for long in full[:4])}"
    near = nearest(name, frozenset(schema.arguments.keys() - OWNED.keys()))
    hint = f"did you mean `{near}`?" if near else "remove the line"
    return f"vLLM {schema.version} has no such argument; {hint}"


def _gone(gone: Mapping[str, str], schema: EngineSchema) -> str:
    """Say which version dropped a name, or that this one is too old to have it."""
    if "by" in gone:
        return f"removed from vLLM in {gone['by']} or before"
    if ordered(gone["dropped"]) > ordered(schema.source):
        return f"vLLM {schema.version} does not know it yet, and {gone['dropped']} dropped it again"
    return f"removed from vLLM in {gone['dropped']}"


def _later(known: tuple[str, ...], schema: EngineSchema) -> str | None:
    """Say which shipped version knows a name that this one lacks."""
    if not known:
        return None
    if ordered(known[0]) > ordered(schema.source):
        return f"vLLM {schema.version} does not know it yet, {known[0]} does; remove the line"
    return f"removed from vLLM after {known[-1]}; remove the line"
