"""Rules between arguments and the environment: each with a case that breaks it and one that keeps it.

The cases were also put to `create_engine_config` of vLLM 0.32.0 on a CPU host. It agrees, but for what the platform
decides (EPLB, NIXL, prefill context parallelism) and what only `vllm serve` itself checks (two modes, headless).
"""

from __future__ import annotations

import pytest

from heavylift.catalog.arguments import engine_schema
from heavylift.plan import advice, rules
from heavylift.plan.arguments import check

SCHEMA = engine_schema("0.33.0")
EP = {"enable-expert-parallel": True, "tensor-parallel-size": 8}
NIXL = {"kv-transfer-config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}
SEGMENTS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def found(arguments, variables=None):
    """Return the findings as lines, without the common start of their paths."""
    problems = check(arguments, variables or {}, SCHEMA)
    return [f"{p.severity} {p.path.removeprefix('engine/arguments/')}: {p.message}" for p in problems]


BROKEN = {
    "batched_tokens_hold_every_sequence": (
        {"max-num-batched-tokens": 128, "max-num-seqs": 256},
        ["error max-num-batched-tokens: 128 is below `max-num-seqs` (256); raise it to at least that"],
    ),
    "active_within_sequences": (
        {"max-num-active-seqs": 65, "max-num-seqs": 64},
        ["error max-num-active-seqs: 65 is above `max-num-seqs` (64); lower it"],
    ),
    "whole_prompts_fit_a_batch": (
        {"enable-chunked-prefill": False, "max-num-batched-tokens": 2048, "max-model-len": "4K"},
        [
            (
                "error max-num-batched-tokens: 2048 is below `max-model-len` (4096) "
                "while `enable-chunked-prefill` is false; "
                "remove that"
            )
        ],
    ),
    "long_prefill_within_context": (
        {"long-prefill-token-threshold": 5000, "max-model-len": 4096},
        ["error long-prefill-token-threshold: 5000 is above `max-model-len` (4096); lower it"],
    ),
    "expert_balancing_needs_experts": (
        {"enable-eplb": True, "tensor-parallel-size": 8},
        ["error enable-eplb: needs `enable-expert-parallel: true`; add it, or remove the line"],
    ),
    "elastic_experts": (
        {"enable-elastic-ep": True, "pipeline-parallel-size": 2},
        [
            "error enable-elastic-ep: needs `enable-eplb: true`; add it, or remove the line",
            "error enable-elastic-ep: does not work with `pipeline-parallel-size` above 1; remove one",
        ],
    ),
    "context_parallel_divides": (
        {"tensor-parallel-size": 8, "decode-context-parallel-size": 3},
        ["error decode-context-parallel-size: 3 does not divide `tensor-parallel-size` (8); choose a divisor"],
    ),
    "local_ranks_within_all": (
        {"data-parallel-size": 4, "data-parallel-size-local": 8},
        ["error data-parallel-size-local: 8 is above `data-parallel-size` (4); lower it"],
    ),
    "rank_within_ranks": (
        {"data-parallel-size": 2, "data-parallel-rank": 2},
        ["error data-parallel-rank: 2 is outside 0 to 1, the ranks of `data-parallel-size` (2)"],
    ),
    "nodes_share_the_world": (
        {"nnodes": 2, "tensor-parallel-size": 3, "node-rank": 2, "data-parallel-backend": "ray"},
        [
            "error data-parallel-backend: ray does not work with `nnodes` above 1; use mp",
            "error nnodes: 2 does not divide the 3 ranks of all parallel sizes; change one",
            "error node-rank: 2 is outside 0 to 1, the nodes of `nnodes` (2)",
        ],
    ),
    "one_balancing_mode": (
        {
            "data-parallel-size": 4,
            "data-parallel-hybrid-lb": True,
            "data-parallel-size-local": 1,
            "data-parallel-rank": 1,
        },
        [
            (
                "error data-parallel-hybrid-lb: is a second balancing mode beside `data-parallel-external-lb` "
                "(a rank implies one); keep one"
            )
        ],
    ),
    "hybrid_balancing": (
        {"data-parallel-size": 4, "data-parallel-hybrid-lb": True, "headless": True},
        [
            "error data-parallel-hybrid-lb: needs `data-parallel-size-local`, the ranks on this node; add it",
            "error data-parallel-hybrid-lb: does not work with `headless`: each node serves; remove `headless`",
        ],
    ),
    "external_balancing": (
        {"data-parallel-external-lb": True, "data-parallel-size-local": 2, "data-parallel-size": 4},
        [
            "error data-parallel-external-lb: needs `data-parallel-rank`; add it",
            "error data-parallel-size-local: has to be 1 where a rank has its own endpoint; remove the line",
        ],
    ),
    "headless_serves_nobody": (
        {"headless": True, "api-server-count": 4},
        ["error api-server-count: does not work with `headless`, which starts no API server; remove one"],
    ),
    "fault_tolerance_needs_external": (
        {"enable-fault-tolerance": True, "api-server-count": 2},
        [
            "error enable-fault-tolerance: needs `data-parallel-external-lb` or `data-parallel-rank`; add one",
            "error enable-fault-tolerance: needs `api-server-count: 1`; change it",
        ],
    ),
    "tool_choice_needs_parser": (
        {"enable-auto-tool-choice": True},
        ["error enable-auto-tool-choice: needs `tool-call-parser`; add the one of this model"],
    ),
    "log_outputs_needs_requests": (
        {"enable-log-outputs": True},
        ["error enable-log-outputs: needs `enable-log-requests: true`; add it, or remove the line"],
    ),
    "said_once": (
        {"attention-backend": "FLASHMLA", "attention-config.backend": "CUTLASS_MLA"},
        ["error attention-backend: is given in `attention-config.backend` too; keep one"],
    ),
    "numa_lists_need_binding": (
        {"numa-bind-nodes": [0, 1]},
        ["error numa-bind-nodes: needs `numa-bind: true`; add it"],
    ),
}
KEPT = {
    "batched_tokens_hold_every_sequence": [
        {"max-num-batched-tokens": 256, "max-num-seqs": 256},
        {"max-num-seqs": 4096},
    ],
    "active_within_sequences": [{"max-num-active-seqs": 64, "max-num-seqs": 64}],
    "whole_prompts_fit_a_batch": [
        {"enable-chunked-prefill": False, "max-num-batched-tokens": 4096, "max-model-len": "4K"},
        {"max-num-batched-tokens": 2048, "max-model-len": "4K"},
    ],
    "long_prefill_within_context": [
        {"long-prefill-token-threshold": 4096, "max-model-len": 4096},
        {"long-prefill-token-threshold": 5000, "max-model-len": "auto"},
    ],
    "expert_balancing_needs_experts": [
        {**EP, "enable-eplb": True, "eplb-config.num_redundant_experts": 32},
        {"eplb-config.num_redundant_experts": 0},
    ],
    "elastic_experts": [{**EP, "enable-eplb": True, "enable-elastic-ep": True}],
    "context_parallel_divides": [
        {"tensor-parallel-size": 8, "decode-context-parallel-size": 4},
        {"tensor-parallel-size": 2, "prefill-context-parallel-size": 3, "decode-context-parallel-size": 6},
    ],
    "local_ranks_within_all": [{"data-parallel-size": 8, "data-parallel-size-local": 8}],
    "rank_within_ranks": [{"data-parallel-size": 2, "data-parallel-rank": 1}],
    "nodes_share_the_world": [{"nnodes": 2, "tensor-parallel-size": 8, "pipeline-parallel-size": 2, "node-rank": 1}],
    "one_balancing_mode": [
        {"data-parallel-size": 16, "data-parallel-size-local": 8, "headless": True, "data-parallel-start-rank": 8},
        {
            "data-parallel-size": 16,
            "data-parallel-size-local": 8,
            "data-parallel-hybrid-lb": True,
            "data-parallel-start-rank": 8,
        },
    ],
    "hybrid_balancing": [{"data-parallel-size": 4, "data-parallel-hybrid-lb": True, "data-parallel-size-local": 2}],
    "external_balancing": [
        {"data-parallel-size": 4, "data-parallel-rank": 3},
        {"data-parallel-size": 4, "data-parallel-external-lb": True, "nnodes": 4},
    ],
    "headless_serves_nobody": [{"headless": True, "api-server-count": 0}, {"api-server-count": 4}],
    "fault_tolerance_needs_external": [
        {"enable-fault-tolerance": True, "data-parallel-size": 2, "data-parallel-rank": 1}
    ],
    "tool_choice_needs_parser": [{"enable-auto-tool-choice": True, "tool-call-parser": "deepseek_v31"}],
    "log_outputs_needs_requests": [{"enable-log-outputs": True, "enable-log-requests": True}],
    "said_once": [{"attention-backend": "FLASHMLA", "attention-config.use_non_causal": True}],
    "numa_lists_need_binding": [{"numa-bind-nodes": [0, 1], "numa-bind": True}],
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule(rule):
    """The finding names both sides and what to change."""
    arguments, lines = BROKEN[rule]
    assert found(arguments) == lines


@pytest.mark.parametrize("rule", KEPT)
def test_a_kept_rule(rule):
    """The arguments next to the border pass."""
    for arguments in KEPT[rule]:
        assert found(arguments) == []


def test_every_rule_is_tested():
    """A rule without both cases would rot."""
    apart = {"connector_and_allocator"}
    names = {rule.__name__ for rule in rules.RULES}
    assert BROKEN.keys() == KEPT.keys() == names - apart


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            {"enable-eplb": True, "enable-expert-parallel": True},
            ["error enable-eplb: needs `tensor-parallel-size` or `data-parallel-size` above 1; remove the line"],
        ),
        (
            {"eplb-config": {"num_redundant_experts": 32}},
            ["error eplb-config: redundant experts need `enable-eplb: true`; add it, or remove them"],
        ),
        (
            {"tensor-parallel-size": 2, "prefill-context-parallel-size": 3, "decode-context-parallel-size": 2},
            [
                (
                    "error decode-context-parallel-size: 2 does not fit `prefill-context-parallel-size` (3); "
                    "choose one of 1, 3, 6"
                )
            ],
        ),
        ({"node-rank": 1}, ["error node-rank: 1 is outside 0 to 0; set `nnodes` to the number of nodes"]),
        (
            {"nnodes": 2, "tensor-parallel-size": 2, "distributed-executor-backend": "ray"},
            ["error distributed-executor-backend: ray does not work with `nnodes` above 1; use mp"],
        ),
        (
            {"data-parallel-external-lb": True, "data-parallel-rank": 0},
            ["error data-parallel-external-lb: needs `data-parallel-size` above 1; remove the line"],
        ),
        (
            {"data-parallel-size": 4, "data-parallel-rank": 1, "data-parallel-start-rank": 1},
            [
                (
                    "error data-parallel-hybrid-lb: is a second balancing mode beside `data-parallel-external-lb` "
                    "(a rank implies one); keep one"
                )
            ],
        ),
    ],
)
def test_other_sides_of_a_rule(arguments, lines):
    """Rules with more than one way to break them."""
    assert found(arguments) == lines


def test_a_connector_and_the_allocator():
    """The variable matters only with a connector, and only without the allocator that undoes it."""
    assert found(NIXL, SEGMENTS) == [
        (
            "error kv-transfer-config: a KV connector does not work with "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; remove the variable"
        )
    ]
    assert found(NIXL) == []
    assert found({}, SEGMENTS) == []
    assert found(NIXL, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}) == []
    assert found({**NIXL, "enable-cumem-allocator": True}, SEGMENTS) == []
    assert found({**NIXL, "enable-sleep-mode": True}, SEGMENTS) == []


def test_rules_hold_for_every_shipped_version():
    """An argument that an older version lacks is no reason to fail."""
    for version in ("0.26.0", "0.32.0", "0.33.0"):
        settings = rules.Settings({}, {}, engine_schema(version))
        assert list(advice.advise(settings)) == []
