"""Rules between engine arguments, and between them and the environment. Pure.

Each rule is a small function from `Settings` to what it finds. They are vLLM's own refusals, which otherwise come only
when the engine starts; where an argument is not given, vLLM's default counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heavylift.catalog.arguments import EngineSchema
from heavylift.catalog.models import ModelFacts
from heavylift.errors import Problem

__all__ = ["RULES", "Findings", "Rule", "Settings", "found"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The converted arguments of an engine by their long names, its environment, and what is known of its model."""

    values: Mapping[str, Any]
    variables: Mapping[str, str]
    schema: EngineSchema
    facts: ModelFacts | None = None

    def get(self, name: str) -> Any:
        """Return what was given, else vLLM's default; None where this version has no such argument."""
        argument = self.schema.arguments.get(name)
        return self.values.get(name, None if argument is None else argument.default)

    def count(self, name: str) -> int:
        """Like `get`, for sizes: 1 where nothing is set."""
        value = self.get(name)
        return value if isinstance(value, int) else 1

    def nested(self, name: str, key: str) -> Any:
        """Return one key of a JSON argument as it was given."""
        value = self.values.get(name)
        return value.get(key) if isinstance(value, Mapping) else None


Findings = Iterator[Problem]
Rule = Callable[[Settings], Findings]


def found(name: str, message: str, severity: Severity = "error") -> Problem:
    """Return a finding about one argument."""
    return Problem(f"engine/arguments/{name}", message, severity)


def batched_tokens_hold_every_sequence(s: Settings) -> Findings:
    """Refuse a batch with less than a token for each running sequence."""
    tokens, sequences = s.values.get("max-num-batched-tokens"), s.values.get("max-num-seqs")
    if tokens is not None and sequences is not None and tokens < sequences:
        yield found(
            "max-num-batched-tokens", f"{tokens} is below `max-num-seqs` ({sequences}); raise it to at least that"
        )


def active_within_sequences(s: Settings) -> Findings:
    """Refuse more active sequences than are admitted."""
    active, sequences = s.values.get("max-num-active-seqs"), s.values.get("max-num-seqs")
    if active is not None and sequences is not None and active > sequences:
        yield found("max-num-active-seqs", f"{active} is above `max-num-seqs` ({sequences}); lower it")


def whole_prompts_fit_a_batch(s: Settings) -> Findings:
    """Refuse a batch that a whole prompt does not fit into, when prompts may not be cut."""
    tokens, length = s.values.get("max-num-batched-tokens"), s.values.get("max-model-len")
    if s.get("enable-chunked-prefill") is False and tokens and length and tokens < length:
        yield found(
            "max-num-batched-tokens",
            f"{tokens} is below `max-model-len` ({length}) while `enable-chunked-prefill` is false; remove that",
        )


def long_prefill_within_context(s: Settings) -> Findings:
    """Refuse a threshold that no prompt can reach."""
    threshold, length = s.values.get("long-prefill-token-threshold"), s.values.get("max-model-len")
    if threshold is not None and length is not None and 0 < length < threshold:
        yield found("long-prefill-token-threshold", f"{threshold} is above `max-model-len` ({length}); lower it")


def expert_balancing_needs_experts(s: Settings) -> Findings:
    """Refuse EPLB without experts to move: it needs expert parallelism over more than one rank."""
    if not s.get("enable-eplb"):
        if s.nested("eplb-config", "num_redundant_experts"):
            yield found("eplb-config", "redundant experts need `enable-eplb: true`; add it, or remove them")
        return
    if not s.get("enable-expert-parallel"):
        yield found("enable-eplb", "needs `enable-expert-parallel: true`; add it, or remove the line")
    sizes = ("tensor-parallel-size", "prefill-context-parallel-size", "data-parallel-size")
    if all(s.count(name) == 1 for name in sizes):
        yield found("enable-eplb", "needs `tensor-parallel-size` or `data-parallel-size` above 1; remove the line")


def elastic_experts(s: Settings) -> Findings:
    """Refuse elastic expert parallelism without EPLB, on which it builds, or beside what it cannot grow."""
    if not s.get("enable-elastic-ep"):
        return
    if not s.get("enable-eplb"):
        yield found("enable-elastic-ep", "needs `enable-eplb: true`; add it, or remove the line")
    if s.count("pipeline-parallel-size") > 1:
        yield found("enable-elastic-ep", "does not work with `pipeline-parallel-size` above 1; remove one")
    if s.get("data-parallel-hybrid-lb"):
        yield found("enable-elastic-ep", "does not work with `data-parallel-hybrid-lb`; remove one")


def context_parallel_divides(s: Settings) -> Findings:
    """Refuse a decode context parallel size that does not fit the ranks whose work it shares."""
    tensor, prefill = s.count("tensor-parallel-size"), s.count("prefill-context-parallel-size")
    decode = s.count("decode-context-parallel-size")
    path = "decode-context-parallel-size"
    if prefill == 1 and tensor % max(decode, 1):
        yield found(path, f"{decode} does not divide `tensor-parallel-size` ({tensor}); choose a divisor")
    if prefill > 1 and decode not in (1, prefill, tensor * prefill):
        allowed = ", ".join(str(size) for size in sorted({1, prefill, tensor * prefill}))
        yield found(path, f"{decode} does not fit `prefill-context-parallel-size` ({prefill}); choose one of {allowed}")


def local_ranks_within_all(s: Settings) -> Findings:
    """Refuse more data parallel ranks on a node than there are in all."""
    local, ranks = s.values.get("data-parallel-size-local"), s.count("data-parallel-size")
    if local is not None and local > ranks:
        yield found("data-parallel-size-local", f"{local} is above `data-parallel-size` ({ranks}); lower it")


def rank_within_ranks(s: Settings) -> Findings:
    """Refuse a rank outside the ranks, which count from 0."""
    ranks = s.count("data-parallel-size")
    for name in ("data-parallel-rank", "data-parallel-start-rank"):
        rank = s.values.get(name)
        if rank is not None and not 0 <= rank < max(ranks, 1):
            yield found(name, f"{rank} is outside 0 to {ranks - 1}, the ranks of `data-parallel-size` ({ranks})")


def nodes_share_the_world(s: Settings) -> Findings:
    """Refuse nodes that cannot hold equally many ranks, are misnumbered, or talk over Ray."""
    nodes, rank = s.count("nnodes"), s.values.get("node-rank", 0)
    if nodes <= 1:
        if rank:
            yield found("node-rank", f"{rank} is outside 0 to 0; set `nnodes` to the number of nodes")
        return
    backend, executor = s.get("data-parallel-backend"), s.get("distributed-executor-backend")
    if backend != "mp":
        yield found("data-parallel-backend", f"{backend} does not work with `nnodes` above 1; use mp")
    if executor not in (None, "mp", "uni", "external_launcher"):
        yield found("distributed-executor-backend", f"{executor} does not work with `nnodes` above 1; use mp")
    sizes = ("data-parallel-size", "pipeline-parallel-size", "tensor-parallel-size", "prefill-context-parallel-size")
    world = 1
    for name in sizes:
        world *= s.count(name)
    if world % nodes:
        yield found("nnodes", f"{nodes} does not divide the {world} ranks of all parallel sizes; change one")
    if not 0 <= rank < nodes:
        yield found("node-rank", f"{rank} is outside 0 to {nodes - 1}, the nodes of `nnodes` ({nodes})")


def one_balancing_mode(s: Settings) -> Findings:
    """Refuse a second load balancing mode: by the engine, by node, or from outside."""
    hybrid, several = s.get("data-parallel-hybrid-lb"), s.get("data-parallel-multi-port-external-lb")
    if not hybrid and not several:
        hybrid = s.values.get("data-parallel-start-rank") is not None and not s.get("headless")
    modes = {
        "data-parallel-multi-port-external-lb": several,
        "data-parallel-external-lb": _external(s),
        "data-parallel-hybrid-lb": hybrid,
    }
    chosen = [name for name, on in modes.items() if on]
    if len(chosen) > 1:
        yield found(chosen[1], f"is a second balancing mode beside `{chosen[0]}` (a rank implies one); keep one")


def hybrid_balancing(s: Settings) -> Findings:
    """Refuse an endpoint for each node when nodes do not say how many ranks they have, or serve nobody."""
    if not s.get("data-parallel-hybrid-lb"):
        return
    if s.values.get("data-parallel-size-local") is None:
        yield found("data-parallel-hybrid-lb", "needs `data-parallel-size-local`, the ranks on this node; add it")
    if s.get("headless"):
        yield found("data-parallel-hybrid-lb", "does not work with `headless`: each node serves; remove `headless`")


def external_balancing(s: Settings) -> Findings:
    """Refuse a rank with its own endpoint that has no number, no peers, or company."""
    if not _external(s):
        return
    ranks, rank = s.count("data-parallel-size"), s.values.get("data-parallel-rank")
    if rank is None and not (ranks > 1 and s.count("nnodes") > 1):
        yield found("data-parallel-external-lb", "needs `data-parallel-rank`; add it")
    if s.get("data-parallel-external-lb") and ranks <= 1:
        yield found("data-parallel-external-lb", "needs `data-parallel-size` above 1; remove the line")
    if s.values.get("data-parallel-size-local") not in (None, 1):
        yield found("data-parallel-size-local", "has to be 1 where a rank has its own endpoint; remove the line")


def headless_serves_nobody(s: Settings) -> Findings:
    """Refuse API servers on a headless node."""
    if s.get("headless") and (s.values.get("api-server-count") or 0) > 0:
        yield found("api-server-count", "does not work with `headless`, which starts no API server; remove one")


def fault_tolerance_needs_external(s: Settings) -> Findings:
    """Refuse fault tolerance where ranks do not each have their own, single API server."""
    if not s.get("enable-fault-tolerance"):
        return
    if not _external(s):
        yield found("enable-fault-tolerance", "needs `data-parallel-external-lb` or `data-parallel-rank`; add one")
    if (s.values.get("api-server-count") or 1) > 1:
        yield found("enable-fault-tolerance", "needs `api-server-count: 1`; change it")


def tool_choice_needs_parser(s: Settings) -> Findings:
    """Refuse tool choice without the parser that finds tool calls in the answers of this model."""
    if s.get("enable-auto-tool-choice") and not s.get("tool-call-parser"):
        yield found("enable-auto-tool-choice", "needs `tool-call-parser`; add the one of this model")


def log_outputs_needs_requests(s: Settings) -> Findings:
    """Refuse to log answers without their requests."""
    if s.get("enable-log-outputs") and not s.get("enable-log-requests"):
        yield found("enable-log-outputs", "needs `enable-log-requests: true`; add it, or remove the line")


def connector_and_allocator(s: Settings) -> Findings:
    """Refuse an allocator setting that moves the memory which a KV connector pins."""
    allocator = s.variables.get("PYTORCH_CUDA_ALLOC_CONF", "")
    if not s.values.get("kv-transfer-config") or "expandable_segments:True" not in allocator:
        return
    if s.get("enable-cumem-allocator") or s.get("enable-sleep-mode"):
        return
    yield found(
        "kv-transfer-config",
        "a KV connector does not work with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; remove the variable",
    )


def said_once(s: Settings) -> Findings:
    """Refuse an argument that is also given as a key of a configuration."""
    pairs = {
        "attention-backend": ("attention-config", "backend"),
        "cudagraph-capture-sizes": ("compilation-config", "cudagraph_capture_sizes"),
        "max-cudagraph-capture-size": ("compilation-config", "max_cudagraph_capture_size"),
        "enable-flashinfer-autotune": ("kernel-config", "enable_flashinfer_autotune"),
    }
    for name, (config, key) in pairs.items():
        if s.values.get(name) is not None and s.nested(config, key) is not None:
            yield found(name, f"is given in `{config}.{key}` too; keep one")


def numa_lists_need_binding(s: Settings) -> Findings:
    """Refuse lists that say where to bind while binding is off."""
    for name in ("numa-bind-nodes", "numa-bind-cpus"):
        if s.values.get(name) and not s.get("numa-bind"):
            yield found(name, "needs `numa-bind: true`; add it")


def _external(s: Settings) -> bool:
    return bool(s.get("data-parallel-external-lb")) or s.values.get("data-parallel-rank") is not None


RULES: tuple[Rule, ...] = (
    batched_tokens_hold_every_sequence,
    active_within_sequences,
    whole_prompts_fit_a_batch,
    long_prefill_within_context,
    expert_balancing_needs_experts,
    elastic_experts,
    context_parallel_divides,
    local_ranks_within_all,
    rank_within_ranks,
    nodes_share_the_world,
    one_balancing_mode,
    hybrid_balancing,
    external_balancing,
    headless_serves_nobody,
    fault_tolerance_needs_external,
    tool_choice_needs_parser,
    log_outputs_needs_requests,
    connector_and_allocator,
    said_once,
    numa_lists_need_binding,
)
