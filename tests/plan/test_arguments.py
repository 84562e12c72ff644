"""Engine arguments: what is refused, with which words, and what is rendered."""

from __future__ import annotations

import pytest

from heavylift.catalog.arguments import engine_schema
from heavylift.errors import SpecError
from heavylift.plan.arguments import argv, check

NEW = engine_schema("0.33.0")
OLD = engine_schema("0.32.0")


def problems(arguments, variables=None, schema=NEW):
    """Return the findings as lines."""
    return [f"{p.severity} {p.path}: {p.message}" for p in check(arguments, variables or {}, schema)]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("tensor-paralel-size", "vLLM 0.33.0 has no such argument; did you mean `tensor-parallel-size`?"),
        ("no-such-thing", "vLLM 0.33.0 has no such argument; remove the line"),
        ("tensor_parallel_size", "write it as `tensor-parallel-size`"),
        ("--tensor-parallel-size", "write it as `tensor-parallel-size`"),
        ("Tensor-Parallel-Size", "write it as `tensor-parallel-size`"),
        ("tp", "write it as `tensor-parallel-size`"),
        ("-tp", "write it as `tensor-parallel-size`"),
        ("-cc.mode", "write it as `compilation-config.mode`"),
        ("compilation_config.mode", "write it as `compilation-config.mode`"),
        ("device-memory-utilization", "write it as `gpu-memory-utilization`; not every version knows the other name"),
        ("-O3", "write it as `optimization-level: 3`"),
        ("O1", "write it as `optimization-level: 1`"),
        ("-O", "write it as `optimization-level: 2`"),
        ("tensor-par", "vLLM's abbreviations change with its versions; write `tensor-parallel-size`"),
        (
            "max-num-b",
            "vLLM's abbreviations change with its versions; write `max-num-batched-tokens`",
        ),
        (
            "max-num-queued",
            "vLLM's abbreviations change with its versions; write `max-num-queued-reqs` or `max-num-queued-tokens`",
        ),
        ("no-enable-prefix-caching", "write `enable-prefix-caching: false`; every version takes that"),
        ("disable-prefix-caching", "write `enable-prefix-caching: false`; every version takes that"),
        ("disable-log-requests", "write `enable-log-requests: false`; every version takes that"),
        ("enable-log-stats", "write `disable-log-stats: false`; every version takes that"),
        ("no-headless", "write `headless: false`; every version takes that"),
        ("swap-space", "removed from vLLM in 0.18.0; remove the line"),
        ("swap_space", "removed from vLLM in 0.18.0; remove the line"),
        ("worker-use-ray", "removed from vLLM in 0.8.5 or before; use `distributed-executor-backend`"),
        ("", "vLLM 0.33.0 has no such argument; remove the line"),
        (7, "vLLM 0.33.0 has no such argument; remove the line"),
    ],
)
def test_a_key_that_is_no_argument(key, message):
    """The message names what to write instead, if anything comes near."""
    value = 3 if "mode" in str(key) else 2 if "size" in str(key).lower() or "tp" in str(key) else 0.5
    assert problems({key: value}) == [f"error engine/arguments/{key}: {message}"]


def test_names_of_other_versions():
    """What came later, what went earlier, and what is spelled otherwise in the older version."""
    assert problems({"watchdog-config.dump_dir": "/srv"}, schema=OLD) == [
        (
            "error engine/arguments/watchdog-config.dump_dir: "
            "vLLM 0.32.0 does not know it yet, 0.33.0 does; remove the line"
        )
    ]
    assert problems({"max-num-partial-prefills": 2}) == [
        (
            "error engine/arguments/max-num-partial-prefills: removed from vLLM in 0.27.0; "
            "nothing replaces it one to one, see `prefill-schedule-interval`"
        )
    ]
    assert problems({"max-num-partial-prefills": 2}, schema=engine_schema("0.26.0")) == []
    assert problems({"enable-mamba-fine-grained-prefix-cache": True}, schema=engine_schema("0.26.0")) == [
        (
            "error engine/arguments/enable-mamba-fine-grained-prefix-cache: "
            "vLLM 0.26.0 does not know it yet, and 0.31.0 dropped it again; remove the line"
        )
    ]
    for schema in (OLD, NEW):
        assert problems({"disable-prefix-caching": True}, schema=schema) == [
            (
                "error engine/arguments/disable-prefix-caching: "
                "write `enable-prefix-caching: false`; every version takes that"
            )
        ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("enable-expert-parallel", 1, "should be true or false, got 1"),
        ("enable-expert-parallel", "true", "should be true or false, got the text 'true'; remove the quotes"),
        ("headless", "off", "should be true or false, got 'off'"),
        ("max-num-seqs", None, "has no value; write one, or remove the line"),
        ("max-num-seqs", True, "should be a whole number, got true"),
        ("max-num-seqs", 1.5, "should be a whole number, got 1.5"),
        ("max-num-seqs", "1k", "should be a whole number, got '1k'"),
        ("max-num-seqs", [1, 2], "should be a whole number, got a list"),
        ("max-model-len", "32kb", "should be a whole number like 32768, 32k (32000) or 32K (32768), got '32kb'"),
        ("max-model-len", "25.6K", "'25.6K': K takes no decimals; did you mean 25.6k?"),
        ("gpu-memory-utilization", "92%", "should be a number, got '92%'"),
        ("gpu-memory-utilization", float("nan"), "should be a number, got nan"),
        ("quantization", True, "should be text, got true; if you mean the word, put it in quotes"),
        ("quantization", {"a": 1}, "should be text, got a mapping"),
        ("dtype", "bf16", "should be one of auto, bfloat16, float, float16, float32, half, got 'bf16'"),
        (
            "performance-mode",
            "throughputs",
            "should be one of balanced, interactivity, throughput, got 'throughputs'; did you mean `throughput`?",
        ),
        ("cudagraph-capture-sizes", [], "is an empty list; write values, or remove the line"),
        ("cudagraph-capture-sizes", [1, "x"], "should be a whole number, got 'x'"),
        ("allowed-media-domains", ["-x"], "cannot pass '-x' in a list: vLLM's parser takes it for an option"),
        ("speculative-config", "mtp", "is not JSON (Expecting value at character 1); write a mapping"),
        ("speculative-config", 3, "should be a mapping, got 3"),
        (
            "hf-overrides",
            {"a": float("inf")},
            "holds a value that JSON has no form for (a date, not a number?); put it in quotes",
        ),
        ("kv-transfer-config", {"kv_roll": "kv_both"}, "`kv_roll` is unknown to vLLM 0.33.0; did you mean `kv_role`?"),
        (
            "kv-transfer-config",
            {"kv_role": "producer"},
            "`kv_role` should be kv_both or kv_consumer or kv_producer, got 'producer'",
        ),
        ("kv-transfer-config", {"kv_port": "many"}, "`kv_port` should be a whole number, got 'many'"),
        ("kv-transfer-config", {"kv_port": True}, "`kv_port` should be a whole number, got true"),
        (
            "compilation-config",
            {"pass_config": {"fuse_allreduce": 1}},
            "`pass_config.fuse_allreduce` is unknown to vLLM 0.33.0; did you mean `fuse_allreduce_rms`?",
        ),
        ("compilation-config", [1], "should be a mapping, got a list"),
        (
            "attention-config.use_fp4_indexer_cache",
            True,
            "`use_fp4_indexer_cache` is unknown to vLLM 0.33.0; use `indexer_kv_dtype`",
        ),
        ("tensor-parallel-size.x", 1, "`tensor-parallel-size` takes one value and has no keys"),
        ("compilation-config.custom_ops+", "all", "write `custom_ops` with a list"),
        ("compilation-config..mode", 1, "`.mode` has an empty part"),
    ],
)
def test_a_value_that_does_not_fit(key, value, message):
    """The message says what the value should be, and what it is."""
    assert problems({key: value}) == [f"error engine/arguments/{key}: {message}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"max-num-seqs": 1, "max_num_seqs": 2},
            "max-num-seqs: is given 2 times (max-num-seqs, max_num_seqs); write it once",
        ),
        (
            {"compilation-config": {"mode": 3}, "compilation-config.backend": "eager"},
            (
                "compilation-config: `compilation-config` is given as a mapping and by key; "
                "vLLM would drop one, write one mapping"
            ),
        ),
        (
            {"compilation-config.pass_config": 1, "compilation-config.pass_config.fuse_allreduce_rms": True},
            "compilation-config.pass_config: `pass_config` has a value already, and cannot have keys too",
        ),
        (
            {"compilation-config.pass_config.a": True, "compilation-config.pass_config": {}},
            "compilation-config.pass_config.a: `pass_config` is given twice",
        ),
    ],
)
def test_an_argument_given_twice(arguments, message):
    """Where vLLM silently takes the last one, heavylift asks for one."""
    assert f"error engine/arguments/{message}" in problems(arguments)


@pytest.mark.parametrize(
    ("key", "use"),
    [
        ("host", "set by heavylift; use `access.bind`"),
        ("port", "set by heavylift; use `access.port`"),
        ("uds", "replicas are reached over TCP; use `access.bind`"),
        ("api-key", "a secret has no place on a command line; name its environment variable in `access.key`"),
        ("api_key", "a secret has no place on a command line; name its environment variable in `access.key`"),
        ("hf-token", "a secret has no place on a command line, and the engine runs offline; remove the line"),
        ("model", "set by heavylift; use `model.repo` or `model.path`"),
        ("model-tag", "set by heavylift; use `model.repo` or `model.path`"),
        ("served-model-name", "set by heavylift; use `model.name`"),
        ("revision", "set by heavylift; use `model.revision`"),
        ("trust-remote-code", "set by heavylift; use `model.trust_remote_code`, which native models do not need"),
        ("no-trust-remote-code", "set by heavylift; use `model.trust_remote_code`, which native models do not need"),
        ("override-generation-config", "set by heavylift; use `sampling`"),
        ("override-generation-config.temperature", "set by heavylift; use `sampling`"),
        ("shutdown-timeout", "set by heavylift from the longest request; use `limits.request_s`"),
        ("download-dir", "weights are placed and verified before the engine starts; use `paths.models`"),
        ("config", "arguments are checked one by one; write them here instead of in a file"),
        ("device-ids", "set by heavylift; use `engine.devices`"),
        (
            "ssl-keyfile",
            "TLS belongs in front of the engine, which listens on loopback or a private address only; remove the line",
        ),
    ],
)
def test_arguments_that_heavylift_sets(key, use):
    """The message names the key of the deployment that decides."""
    assert problems({key: "x"}) == [f"error engine/arguments/{key}: {use}"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VLLM_LOGGING_LEVE", "DEBUG", "vLLM 0.33.0 does not read it; did you mean `VLLM_LOGGING_LEVEL`?"),
        ("VLLM_WHATEVER_ELSE_QQ", "1", "vLLM 0.33.0 does not read it; remove the line"),
        ("VLLM_USE_V1", "1", "removed from vLLM in 0.11.1; there is only V1, remove the line"),
        ("VLLM_ATTENTION_BACKEND", "X", "removed from vLLM in 0.15.0; use the argument `attention-backend`"),
        ("VLLM_TEST_FORCE_FP8_MARLIN", "1", "removed from vLLM in 0.29.0; remove the line"),
        ("VLLM_API_KEY", "k", "a secret has no place here; name its environment variable in `access.key`"),
        ("HF_TOKEN", "k", "a secret has no place here, and the engine runs offline; remove the line"),
        ("S3_SECRET_ACCESS_KEY", "k", "a secret has no place here, and the engine runs offline; remove the line"),
        ("VLLM_SERVER_DEV_MODE", "1", "opens routes that reset caches and put the engine to sleep; remove the line"),
        ("CUDA_VISIBLE_DEVICES", "0", "set by heavylift; use `engine.devices`"),
    ],
)
def test_a_variable_that_does_nothing_or_harm(name, value, message):
    """An unknown name is an error here; vLLM itself only logs it."""
    assert problems({}, {name: value}) == [f"error engine/variables/{name}: {message}"]


def test_variables_that_pass():
    """Known names of vLLM, and everything that is not vLLM's."""
    variables = {
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_SERVER_DEV_MODE": "0",
        "NCCL_SOCKET_IFNAME": "eth1",
        "GLOO_SOCKET_IFNAME": "eth1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert problems({}, variables) == []


def test_deprecated_arguments_warn():
    """With the announced removal and the replacement, where vLLM names them."""
    assert problems(
        {"log-config-file": "/srv/log.json", "dcp-kv-cache-interleave-size": 2, "mamba-cache-mode": "align"}
    ) == [
        (
            "warning engine/arguments/log-config-file: deprecated in vLLM 0.33.0, removal announced for 0.33.0; "
            "use `logging-config.pylogging_config_file`"
        ),
        (
            "warning engine/arguments/dcp-kv-cache-interleave-size: deprecated in vLLM 0.33.0; "
            "use `cp-kv-cache-interleave-size`"
        ),
        (
            "warning engine/arguments/mamba-cache-mode: deprecated in vLLM 0.33.0, removal announced for 0.33.0; "
            "remove the line"
        ),
    ]


def test_a_value_that_only_a_plugin_could_know_warns():
    """0.33 takes any text here, and finds out later."""
    assert problems({"tokenizer-mode": "deepseek_v23"}) == [
        (
            "warning engine/arguments/tokenizer-mode: vLLM 0.33.0 itself knows no 'deepseek_v23'; "
            "did you mean `deepseek_v32`?"
        )
    ]


def test_everything_is_found_at_once():
    """One run names every problem, also two about one key."""
    found = problems({"swap-space": 4, "max_num_seqs": "x", "dtype": "bf16"}, {"VLLM_USE_V1": "1"})
    assert [line.split(": ")[0] for line in found] == [
        "error engine/arguments/swap-space",
        "error engine/arguments/max_num_seqs",
        "error engine/arguments/max_num_seqs",
        "error engine/arguments/dtype",
        "error engine/variables/VLLM_USE_V1",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ()),
        ({"enable-expert-parallel": True}, ("--enable-expert-parallel",)),
        ({"enable-expert-parallel": False}, ("--no-enable-expert-parallel",)),
        ({"disable-custom-all-reduce": False}, ("--no-disable-custom-all-reduce",)),
        ({"headless": True}, ("--headless",)),
        ({"headless": False}, ()),
        ({"max-model-len": "32k"}, ("--max-model-len", "32000")),
        ({"max-model-len": "32K"}, ("--max-model-len", "32768")),
        ({"max-model-len": -1}, ("--max-model-len", "auto")),
        ({"max-model-len": "Auto"}, ("--max-model-len", "auto")),
        ({"max-num-seqs": "0256"}, ("--max-num-seqs", "256")),
        ({"gpu-memory-utilization": 0.85}, ("--gpu-memory-utilization", "0.85")),
        ({"gpu-memory-utilization": 1}, ("--gpu-memory-utilization", "1.0")),
        ({"tensor-parallel-size": -1}, ("--tensor-parallel-size=-1",)),
        ({"reasoning-parser": "-x.y"}, ("--reasoning-parser=-x.y",)),
        ({"moe-backend": "Deep-GEMM"}, ("--moe-backend", "deep_gemm")),
        ({"optimization-level": 3}, ("--optimization-level", "3")),
        ({"cudagraph-capture-sizes": [1, 2]}, ("--cudagraph-capture-sizes", "1", "2")),
        ({"cudagraph-capture-sizes": 1}, ("--cudagraph-capture-sizes", "1")),
        ({"middleware": ["a.b", "c.d"]}, ("--middleware", "a.b", "--middleware", "c.d")),
        ({"lora-modules": [{"path": "/p", "name": "n"}]}, ("--lora-modules", '{"name":"n","path":"/p"}')),
        ({"allowed-origins": ["*"]}, ("--allowed-origins", '["*"]')),
        (
            {"speculative-config": {"b": 1, "a": {"d": "é", "c": 2}}},
            ("--speculative-config", '{"a":{"c":2,"d":"é"},"b":1}'),
        ),
        ({"speculative-config": '{"b": 1, "a": 2}'}, ("--speculative-config", '{"a":2,"b":1}')),
        ({"compilation-config.mode": 3}, ("--compilation-config", '{"mode":3}')),
        (
            {"compilation-config.pass_config.fuse_allreduce_rms": False, "compilation-config.mode": 2},
            ("--compilation-config", '{"mode":2,"pass_config":{"fuse_allreduce_rms":false}}'),
        ),
        ({"generation-config": "None"}, ("--generation-config", "None")),
        ({"port": 8000, "host": "127.0.0.1"}, ("--host", "127.0.0.1", "--port", "8000")),
    ],
)
def test_rendered(arguments, words):
    """One form for each meaning."""
    assert argv(arguments, NEW) == words


def test_rendering_refuses_what_check_refuses():
    """Nothing that the engine would refuse is ever rendered."""
    with pytest.raises(SpecError) as caught:
        argv({"swap-space": 4, "dtype": "bf16"}, NEW)
    assert caught.value.problems == (
        "engine/arguments/swap-space: removed from vLLM in 0.18.0; remove the line",
        "engine/arguments/dtype: should be one of auto, bfloat16, float, float16, float32, half, got 'bf16'",
    )
