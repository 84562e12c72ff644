"""What a deployment file may say: every section, its defaults, and what is derived from it."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import pytest
from pydantic import ValidationError

from heavylift.catalog import default_engine_version
from heavylift.errors import Problem
from heavylift.spec import load, locate, read

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EVERYTHING = f"""\
name: deepseek-v3
model: {{repo: deepseek-ai/DeepSeek-V3, revision: {COMMIT}, trust_remote_code: true}}
engine: {{version: 0.33.0, runtime: systemd, arguments: {{max-model-len: 32768}}, variables: {{A: 1, B: x}}, devices: [0, 1]}}
hosts:
  from: owned
  per_replica: 1
  list: [{{name: g, address: h, private_address: 10.0.0.1, port: 23, user: me, jump: j, host_key: ssh-ed25519 A}}]
workload: {{input: 2000, output: 500, cached: 0.3, concurrency: 64}}
limits: {{request_s: 600, start_s: 60, ttft_ms: 2000, tpot_ms: 50}}
access: {{bind: loopback, port: 9000, key: HEAVYLIFT_API_KEY, allow: [10.0.0.0/8]}}
paths: {{models: /data/models, cache: /data/cache}}
sampling: {{temperature: 0, top_p: 0.95, top_k: 20, min_p: 0, repetition_penalty: 1, max_new_tokens: 9}}
budget: {{hour: 100, million_tokens: 2.5}}
prices: {{file: prices.csv}}
monitoring: {{labels: {{team: search}}}}
"""


def spec(tmp_path, text):
    """Load this text."""
    path = tmp_path / "d.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_every_section_and_every_key_is_read(tmp_path):
    """What stands in the file comes back key by key, under the file's own names."""
    found = spec(tmp_path, EVERYTHING).model_dump(by_alias=True, mode="json")
    assert found == {
        "name": "deepseek-v3",
        "model": {
            "repo": "deepseek-ai/DeepSeek-V3",
            "revision": COMMIT,
            "allow_patterns": [],
            "ignore_patterns": [],
            "path": None,
            "place": "operator",
            "name": None,
            "trust_remote_code": True,
        },
        "engine": {
            "version": "0.33.0",
            "runtime": "systemd",
            "image": None,
            "path": None,
            "arguments": {"max-model-len": 32768},
            "variables": {"A": "1", "B": "x"},
            "devices": [0, 1],
        },
        "hosts": {
            "from": "owned",
            "per_replica": 1,
            "list": [
                {
                    "name": "g",
                    "address": "h",
                    "private_address": "10.0.0.1",
                    "port": 23,
                    "user": "me",
                    "jump": "j",
                    "host_key": "ssh-ed25519 A",
                }
            ],
        },
        "workload": {"input": 2000, "output": 500, "cached": 0.3, "concurrency": 64, "rate": None, "profile": None},
        "limits": {"request_s": 600, "start_s": 60, "ttft_ms": 2000, "tpot_ms": 50},
        "access": {"bind": "loopback", "port": 9000, "key": "HEAVYLIFT_API_KEY", "allow": ["10.0.0.0/8"]},
        "paths": {"models": "/data/models", "cache": "/data/cache"},
        "sampling": {
            "temperature": 0,
            "top_p": 0.95,
            "top_k": 20,
            "min_p": 0,
            "repetition_penalty": 1,
            "max_new_tokens": 9,
        },
        "budget": {"hour": 100, "million_tokens": 2.5},
        "prices": {"file": "prices.csv"},
        "monitoring": {"labels": {"team": "search"}},
    }


def test_what_is_left_out_has_its_default(tmp_path):
    """The shortest file, and an empty section, which is the same as none."""
    short = spec(tmp_path, "name: a\nmodel: {path: m}\nhosts: {from: lab}\n")
    empty = spec(tmp_path, "name: a\nmodel: {path: m}\nhosts: {from: lab}\nengine:\nlimits:\naccess: {}\nsampling:\n")
    assert short == empty
    assert (short.engine.version, short.engine.runtime, short.engine.devices) == (
        default_engine_version(),
        "systemd",
        "all",
    )
    assert (short.hosts.count, short.hosts.per_replica) == (2, 1)
    assert (short.access.bind, short.access.port, short.access.key) == ("private", 8000, None)
    assert (short.limits.request_s, short.limits.start_s) == (600, None)
    assert (short.paths.models, short.paths.cache) == ("/srv/models", "/var/cache/heavylift")
    assert (short.model.place, short.model.trust_remote_code, short.engine.arguments) == ("operator", False, {})


def test_a_stack_says_what_to_rent(tmp_path):
    """`from: stack` has keys of its own."""
    hosts = spec(
        tmp_path, "name: a\nmodel: {path: m}\nhosts: {from: stack, kind: p5en.48xlarge, region: r, count: 2}\n"
    ).hosts
    assert (hosts.source, hosts.kind, hosts.region, hosts.zone, hosts.market) == (
        "stack",
        "p5en.48xlarge",
        "r",
        None,
        "on-demand",
    )


def test_a_deployment_is_frozen(tmp_path):
    """Nothing changes after it was read, at no depth."""
    deployment = spec(tmp_path, EVERYTHING)
    for section, key in ((deployment, "name"), (deployment.engine, "version"), (deployment.hosts.list[0], "port")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, "x")


@pytest.mark.parametrize(
    ("model", "hosts", "served", "on_cpu"),
    [
        ("{path: m}", "{from: lab}", "a", True),
        ("{path: m, name: x/y}", "{from: stack, kind: k, region: r}", "x/y", False),
        (f"{{repo: o/n, revision: {COMMIT}}}", "{from: stack, kind: k, region: r}", "o/n", False),
    ],
)
def test_what_clients_ask_for_and_what_it_runs_on(tmp_path, model, hosts, served, on_cpu):
    """The served name falls back from name to repo to the deployment's; lab hosts have a CPU only."""
    deployment = spec(tmp_path, f"name: a\nmodel: {model}\nhosts: {hosts}\n")
    assert (deployment.served_name, deployment.on_cpu) == (served, on_cpu)


def test_words_that_only_look_like_something_else(tmp_path):
    """Quoted, they are words; sizes with a unit and versions need no quotes."""
    text = "name: 'on'\nmodel: {path: '2026-11-26'}\nhosts: {from: lab}\nengine: {version: 0.32.0, arguments: {max-model-len: 32k}}\n"
    deployment = spec(tmp_path, text)
    assert (deployment.name, deployment.model.path) == ("on", "2026-11-26")
    assert deployment.engine.arguments == {"max-model-len": "32k"}


def test_anchors_and_merge_keys_work(tmp_path):
    """A host's common keys can be written once; a problem stands where the alias is used."""
    text = (
        "name: a\nmodel: {path: m}\nhosts:\n  from: owned\n  list:\n"
        "    - &first {name: g1, address: a1, user: me, port: 23}\n    - {<<: *first, name: g2, address: a2}\n"
    )
    first, second = spec(tmp_path, text).hosts.list
    assert (first.name, second.name, second.address, second.user, second.port) == ("g1", "g2", "a2", "me", 23)
    (tmp_path / "d.yaml").write_text("name: a\nmodel: {path: &x m}\nhosts:\n  from: stack\n  kind: k\n  region: *x\n")
    _, source = read(tmp_path / "d.yaml")
    assert (source.line("hosts/region"), source.line("hosts/nothing/there"), source.line("none")) == (6, 3, 1)


def test_a_problem_found_later_has_its_line_too(tmp_path):
    """The plan's findings are shown like the sections' own, a hint behind them."""
    path = tmp_path / "d.yaml"
    path.write_text("name: a\nmodel: {path: m}\nhosts: {from: lab}\nengine:\n  arguments:\n    seed: 1\n")
    _, source = read(path)
    shown = locate(Problem("engine/arguments/seed", "is odd", hint="try 2"), source, "d.yaml")
    assert shown == "d.yaml:6: engine/arguments/seed: is odd (try 2)"


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tmp_path):
    """Files saved by other editors read the same."""
    text = "\ufeffname: a\r\nmodel: {path: m}\r\nhosts: {from: lab}\r\n"
    path = tmp_path / "d.yaml"
    path.write_bytes(text.encode())
    assert load(path).model.path == "m"
