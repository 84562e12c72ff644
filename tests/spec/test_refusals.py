"""What `deployment.yaml` may not say, and the exact lines that it gets as an answer."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import pytest

from heavylift.errors import SpecError
from heavylift.spec import load

BASE = "name: a\nmodel: {path: m}\nhosts: {from: lab}\n"
OWNED = "name: a\nmodel: {path: m}\nhosts:\n  from: owned\n  list:\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lines(tmp_path, text, name="d.yaml"):
    """Return the error's lines for a file with this text, the folder cut off."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as refused:
        load(path)
    return [line.replace(f"{tmp_path}/", "") for line in refused.value.problems]


TOP = "name, model, engine, hosts, workload, limits, access, paths, sampling, budget, prices, monitoring"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE + "namee: 1\n", "4: namee: unknown key; did you mean `name`?"),
        (BASE + "zzz: 1\n", f"4: zzz: unknown key; known are {TOP}"),
        ("name: a\nmodel: {path: m, pat: x}\nhosts: {from: lab}\n", "2: model/pat: unknown key; did you mean `path`?"),
        (BASE + "engine:\n  argument: {}\n", "5: engine/argument: unknown key; did you mean `arguments`?"),
        (BASE + "workload:\n  in: 1\n", "5: workload/in: unknown key; did you mean `input`?"),
        (BASE + "limits:\n  requests: 1\n", "5: limits/requests: unknown key; did you mean `request_s`?"),
        (BASE + "access:\n  prot: 1\n", "5: access/prot: unknown key; did you mean `port`?"),
        (BASE + "paths:\n  x: 1\n", "5: paths/x: unknown key; known are models, cache"),
        (BASE + "sampling:\n  temp: 1\n", "5: sampling/temp: unknown key; did you mean `temperature`?"),
        (BASE + "budget:\n  hours: 1\n", "5: budget/hours: unknown key; did you mean `hour`?"),
        (BASE + "prices:\n  x: 1\n", "5: prices/x: unknown key; known are file"),
        (BASE + "monitoring:\n  label: {}\n", "5: monitoring/label: unknown key; did you mean `labels`?"),
        (
            OWNED + "    - name: g\n      address: h\n      usr: root\n",
            "8: hosts/list/0/usr: unknown key; did you mean `user`?",
        ),
        (
            "name: a\nmodel: {path: m}\nhosts: {from: lab, x: 1}\n",
            "3: hosts/x: unknown key; known are per_replica, from, count",
        ),
        (
            "name: a\nmodel: {path: m}\nhosts: {from: lab, list: []}\n",
            "3: hosts/list: belongs to `from: owned`, not to `from: lab`",
        ),
        (
            "name: a\nmodel: {path: m}\nhosts: {from: lab, region: x}\n",
            "3: hosts/region: belongs to `from: stack`, not to `from: lab`",
        ),
        (
            OWNED + "    - {name: g, address: h}\n  count: 2\n",
            "7: hosts/count: belongs to `from: lab`, not to `from: owned`",
        ),
        ("name: a\nmodel: {path: m}\nhosts: {count: 2}\n", "3: hosts: `from` is required: owned, lab or stack"),
        (
            "name: a\nmodel: {path: m}\nhosts: {from: cloud}\n",
            "3: hosts: `from` should be owned, lab or stack, got 'cloud'",
        ),
    ],
)
def test_a_key_that_is_not_known(tmp_path, text, expected):
    """The nearest known key is named, or all of them; a key of another `from` is told from a typing error."""
    assert lines(tmp_path, text) == [f"d.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: should be a mapping with `name`, `model` and `hosts`"),
        ("# nothing\n", ":1: should be a mapping with `name`, `model` and `hosts`"),
        ("- name: a\n", ":1: should be a mapping with `name`, `model` and `hosts`"),
        ("words\n", ":1: should be a mapping with `name`, `model` and `hosts`"),
        (BASE + "name: b\n", ":4: name: stands twice, first in line 1; keep one"),
        (
            BASE + "engine:\n  arguments:\n    seed: 1\n    seed: 2\n",
            ":7: engine/arguments/seed: stands twice, first in line 6; keep one",
        ),
        ("name: a\n\tmodel: x\n", ":2: a tab; YAML indents with spaces"),
        ("name: [\n", ":2: not YAML: did not find expected node content (column 1)"),
        ("name: a\nmodel: {path: 'm\n", ":3: not YAML: found unexpected end of stream (column 1)"),
        (BASE + "---\nname: b\n", ":4: not YAML: but found another document (column 1)"),
        (BASE + "engine: *e\n", ":4: not YAML: found undefined alias (column 9)"),
        (b"name: \xff\n", ": not UTF-8 (byte 6)"),
        (
            b"name: a\x00\n",
            ': not YAML: unacceptable character #x0000: control characters are not allowed in "<unicode string>", position 7',
        ),
        ("#" * (2 << 20), ": more than 1 MiB; no deployment file is that long"),
        (BASE + "engine: &e {arguments: {a: *e}}\n", ":4: an alias that contains itself"),
        (BASE + "engine: {arguments: {a: " + "[" * 200 + "]" * 200 + "}}\n", ":4: nested more than 100 levels deep"),
        (
            BASE + "engine: {arguments: {a: " + "[" * 5000 + "\n",
            ":4: not YAML: exceeded maximum nesting depth (column 1022)",
        ),
        (
            BASE + "prices: !!python/object:os.x {}\n",
            ":4: prices: has the tag `!!python/object:os.x`; write a plain value",
        ),
    ],
)
def test_a_file_that_is_no_deployment(tmp_path, text, expected):
    """Syntax, encoding, size and shape: one line, with the line's number where there is one."""
    assert lines(tmp_path, text)[0] == f"d.yaml{expected}"


def test_a_file_that_cannot_be_read(tmp_path):
    """What is missing, or a folder, says so and hints at what was probably meant."""
    with pytest.raises(SpecError) as missing:
        load(tmp_path / "none.yaml")
    assert str(missing.value) == f"{tmp_path}/none.yaml: no such file\n\nhint: `heavylift init` writes one"
    with pytest.raises(SpecError) as folder:
        load(tmp_path)
    assert str(folder.value) == f"{tmp_path}: is a directory\n\nhint: did you mean {tmp_path}/deployment.yaml?"


def test_aliases_that_explode_end_at_once(tmp_path):
    """Nine lines that stand for 10^9 values are refused without being followed."""
    rows = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    rows += [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    expected = "d.yaml:6: more than 100000 values, counting aliases as often as they are used"
    assert lines(tmp_path, "\n".join(rows)) == [expected]
    merges = ["a: &a {x: 1}"]
    merges += [
        f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert lines(tmp_path, "\n".join(merges))[0].endswith(expected[8:])


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "access: {bind: on}",
            "access/bind: `on` is true or false to some readers of YAML only; write true or false, or quote it",
        ),
        (
            "model2: yes",
            "model2: `yes` is true or false to some readers of YAML only; write true or false, or quote it",
        ),
        (
            "access: {port: 010000}",
            "access/port: `010000` is a number that readers of YAML take differently; write it plainly, or quote it",
        ),
        (
            "access: {port: 8_000}",
            "access/port: `8_000` is a number that readers of YAML take differently; write it plainly, or quote it",
        ),
        (
            "limits: {ttft_ms: 1:30}",
            "limits/ttft_ms: `1:30` is a number that readers of YAML take differently; write it plainly, or quote it",
        ),
        (
            "limits: {request_s: 1e3}",
            "limits/request_s: `1e3` is a number to some readers of YAML only; write 1000.0, or quote it",
        ),
        ("engine: {arguments: {seed: 2026-11-26}}", "engine/arguments/seed: `2026-11-26` is a date to YAML; quote it"),
        ("engine: {arguments: {seed: 2026-99-99}}", "engine/arguments/seed: `2026-99-99` is a date to YAML; quote it"),
        (
            "engine: {arguments: {x: [{y: 2026-11-26 10:00:00}]}}",
            "engine/arguments/x/0/y: `2026-11-26 10:00:00` is a date to YAML; quote it",
        ),
        ("engine: {arguments: {x: !!binary aGk=}}", "engine/arguments/x: has the tag `!!binary`; write a plain value"),
        ("engine: {arguments: !!set {x}}", "engine/arguments: has the tag `!!set`; write a plain value"),
        (
            "engine: {arguments: {x: !!int y}}",
            "engine/arguments/x: `y` is a number that readers of YAML take differently; write it plainly, or quote it",
        ),
        ("engine: {arguments: {1: x}}", "engine/arguments/1: is no word as a key; quote it"),
        ("on: 1", "on: is no word as a key; quote it"),
        ("? [a]\n: 1", "?: is no word as a key; quote it"),
        ("sampling: {temperature: .inf}", "sampling/temperature: should be a finite number, got inf"),
        ("workload: {rate: .nan}", "workload/rate: should be a finite number, got nan"),
    ],
)
def test_what_readers_of_yaml_take_differently(tmp_path, section, expected):
    """A value that YAML 1.1 and 1.2 read differently is never guessed at; nothing is said twice about it."""
    found = lines(tmp_path, f"{BASE}{section}\n")
    assert f"d.yaml:4: {expected}" in found
    assert len([line for line in found if expected.partition(":")[0] in line]) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: 7\nmodel: {path: m}\nhosts: {from: lab}\n", "1: name: should be a string, got 7; quote it"),
        (
            "name: A_b\nmodel: {path: m}\nhosts: {from: lab}\n",
            "1: name: should be up to 40 lower-case letters, digits and dashes, beginning with a letter, got 'A_b'",
        ),
        (
            f"name: {'a' * 41}\nmodel: {{path: m}}\nhosts: {{from: lab}}\n",
            f"1: name: should be up to 40 lower-case letters, digits and dashes, beginning with a letter, got '{'a' * 41}'",
        ),
        ("name: a\nmodel: m\nhosts: {from: lab}\n", "2: model: should be a mapping, got 'm'"),
        ("name: a\nmodel:\nhosts: {from: lab}\n", "2: model: should be a mapping, got nothing"),
        ("name: a\nmodel: {}\nhosts: {from: lab}\n", "2: model: should have either `repo` and `revision`, or `path`"),
        (
            "name: a\nmodel: {path: m, repo: a/b}\nhosts: {from: lab}\n",
            "2: model: should have either `repo` and `revision`, or `path`",
        ),
        (
            "name: a\nmodel: {repo: a/b}\nhosts: {from: lab}\n",
            "2: model: `repo` needs `revision`: the commit of 40 hexadecimal digits that is served",
        ),
        (
            "name: a\nmodel: {repo: a/b, revision: main}\nhosts: {from: lab}\n",
            "2: model/revision: should be a commit of 40 hexadecimal digits, got 'main'; a branch moves, pin its commit",
        ),
        (
            f"name: a\nmodel: {{repo: b, revision: {COMMIT}}}\nhosts: {{from: lab}}\n",
            "2: model/repo: should be ORG/NAME, got 'b'",
        ),
        (
            f"name: a\nmodel: {{path: m, revision: {COMMIT}}}\nhosts: {{from: lab}}\n",
            "2: model: `revision` belongs to `repo`; a directory is pinned by its manifest",
        ),
        (
            "name: a\nmodel: {path: m, place: host}\nhosts: {from: lab}\n",
            "2: model: should be an absolute path of letters, digits, '.', '_' and '-', got 'm'",
        ),
        (
            "name: a\nmodel: {path: /home/me/m, place: host}\nhosts: {from: lab}\n",
            "2: model: /home/me/m is hidden from the engine, as all of /home, /root and /tmp is; choose another place",
        ),
        (
            f"name: a\nmodel: {{repo: a/b, revision: {COMMIT}, place: host}}\nhosts: {{from: lab}}\n",
            "2: model: `place: host` needs `path`: the directory on the hosts",
        ),
        (
            "name: a\nmodel: {path: m, place: hub}\nhosts: {from: lab}\n",
            "2: model/place: should be `operator` or `host`, got 'hub'",
        ),
        ("name: a\nmodel: {path: ''}\nhosts: {from: lab}\n", "2: model/path: should not be empty"),
        (
            'name: a\nmodel: {path: m, name: "x\\ny"}\nhosts: {from: lab}\n',
            "2: model/name: should be printable and not begin with a dash, got 'x\\ny'",
        ),
        (
            "name: a\nmodel: {path: m, trust_remote_code: 1}\nhosts: {from: lab}\n",
            "2: model/trust_remote_code: should be true or false, got 1",
        ),
        ("name: a\nmodel: {path: m}\nhosts:\n", "3: hosts: should be a mapping, got nothing"),
        ("name: a\nmodel: {path: m}\nhosts: [h]\n", "3: hosts: should be a mapping, got a list"),
        ("name: a\nmodel: {path: m}\nhosts: {from: lab, count: 65}\n", "3: hosts/count: should be at most 64, got 65"),
        ("name: a\nmodel: {path: m}\nhosts: {from: owned}\n", "3: hosts/list: is required"),
        ("name: a\nmodel: {path: m}\nhosts: {from: owned, list: []}\n", "3: hosts/list: should not be empty"),
        (OWNED + "    - h\n", "6: hosts/list/0: should be a mapping, got 'h'"),
        (
            OWNED + "    - {name: H_1, address: h}\n",
            "6: hosts/list/0/name: should be lower-case letters, digits and dashes, got 'H_1'",
        ),
        (
            OWNED + "    - {name: g, address: -oProxyCommand=x}\n",
            "6: hosts/list/0/address: is no name or address: '-oProxyCommand=x'",
        ),
        (OWNED + "    - {name: g, address: h, jump: a b}\n", "6: hosts/list/0/jump: is no name or address: 'a b'"),
        (OWNED + "    - {name: g, address: h, port: '22'}\n", "6: hosts/list/0/port: should be an integer, got '22'"),
        (
            OWNED + "    - {name: g, address: h}\n    - {name: g, address: i}\n",
            "5: hosts/list: names 'g' more than once",
        ),
        (BASE + "engine: 3\n", "4: engine: should be a mapping, got 3"),
        (BASE + "engine: {version: 0.33}\n", "4: engine/version: should be a string, got 0.33; quote it"),
        (
            BASE + "engine: {version: latest}\n",
            "4: engine/version: should be an exact version like 0.33.0, got 'latest'",
        ),
        (BASE + "engine: {runtime: podman}\n", "4: engine/runtime: should be `systemd` or `docker`, got 'podman'"),
        (
            BASE + "engine: {runtime: docker, image: vllm/vllm-openai:latest}\n",
            "4: engine: `runtime: docker` needs `image: REPO@sha256:DIGEST` (a tag moves, a digest does not)",
        ),
        (BASE + "engine: {image: x}\n", "4: engine: `image` belongs to `runtime: docker`"),
        (
            BASE + "engine: {path: '/opt/my vllm'}\n",
            "4: engine/path: should be an absolute path of letters, digits, '.', '_' and '-', got '/opt/my vllm'",
        ),
        (BASE + "engine: {arguments: [--seed]}\n", "4: engine/arguments: should be a mapping, got a list"),
        (
            BASE + "engine: {variables: {A: true}}\n",
            "4: engine/variables/A: should be a string or a number, got true; write 1 or 0",
        ),
        (BASE + "engine: {variables: {A: [1]}}\n", "4: engine/variables/A: should be a string, got a list"),
        (
            BASE + "engine:\n  variables:\n    B C: x\n",
            "6: engine/variables/B C: is not a name of an environment variable",
        ),
        (
            BASE + 'engine: {variables: {A: "x\\ny"}}\n',
            "4: engine/variables/A: holds a line break or a control character",
        ),
        (
            BASE + "engine: {devices: gpu}\n",
            "4: engine/devices: should be `all`, `cpu` or GPU numbers like [0, 1], got 'gpu'",
        ),
        (
            BASE + "engine: {devices: [0, 0]}\n",
            "4: engine/devices: should be `all`, `cpu` or different GPU numbers like [0, 1], got [0, 0]",
        ),
        (BASE + "engine: {devices: [0]}\n", "1: lab hosts have no GPU: leave `engine.devices` out, or write `cpu`"),
        (
            BASE + "workload: {rate: 1.0, concurrency: 2}\n",
            "4: workload: should have one of `concurrency`, `rate`, `profile`",
        ),
        (BASE + "workload: {cached: 30}\n", "4: workload/cached: should be at most 1.0, got 30"),
        (BASE + "limits: {request_s: 0}\n", "4: limits/request_s: should be at least 1, got 0"),
        (BASE + "limits: {request_s: 1.5}\n", "4: limits/request_s: should be an integer, got 1.5"),
        (BASE + "access: {bind: public}\n", "4: access/bind: should be `private` or `loopback`, got 'public'"),
        (
            BASE + "access: {key: sk-abc-123}\n",
            "4: access/key: should be the name of an environment variable, never the key itself",
        ),
        (BASE + "access: {allow: [10.0.0.0/8, ten]}\n", "4: access/allow/1: 'ten' is no network like 10.0.0.0/8"),
        (
            BASE + "paths: {models: models}\n",
            "4: paths/models: should be an absolute path of letters, digits, '.', '_' and '-', got 'models'",
        ),
        (
            BASE + "paths: {cache: /var/../etc}\n",
            "4: paths/cache: should be an absolute path of letters, digits, '.', '_' and '-', got '/var/../etc'",
        ),
        (
            BASE + "paths: {cache: /tmp/c}\n",
            "4: paths/cache: /tmp/c is hidden from the engine, as all of /home, /root and /tmp is; choose another place",
        ),
        (BASE + "sampling: {top_p: 0.0}\n", "4: sampling/top_p: should be above 0.0, got 0.0"),
        (BASE + "budget: {hour: cheap}\n", "4: budget/hour: should be a number, got 'cheap'"),
        (BASE + "prices: {file: [a]}\n", "4: prices/file: should be a string, got a list"),
        (BASE + "monitoring: {labels: {a-b: x}}\n", "4: monitoring/labels/a-b: is no free label name"),
        (BASE + "monitoring: {labels: {host: x}}\n", "4: monitoring/labels/host: is no free label name"),
        (BASE + "monitoring: {labels: {n: 2}}\n", "4: monitoring/labels/n: should be a string, got 2; quote it"),
    ],
)
def test_a_value_that_cannot_be(tmp_path, text, expected):
    """Each value's rule, with what was given and what is allowed; a secret is never quoted."""
    assert lines(tmp_path, text) == [f"d.yaml:{expected}"]


def test_all_errors_come_at_once_in_the_order_of_lines(tmp_path):
    """One run tells everything that is wrong, duplicates included."""
    text = (
        "name: A\nname: B\nmodel:\n  repo: a/b\n  revision: main\nengine:\n  versions: 1\n"
        "hosts:\n  from: owned\n  list:\n    - {name: g, address: h, port: 0}\n    - {name: G}\nlimits: {request_s: on}\n"
    )
    assert lines(tmp_path, text) == [
        "d.yaml:2: name: stands twice, first in line 1; keep one",
        "d.yaml:5: model/revision: should be a commit of 40 hexadecimal digits, got 'main'; a branch moves, pin its commit",
        "d.yaml:7: engine/versions: unknown key; did you mean `version`?",
        "d.yaml:11: hosts/list/0/port: should be at least 1, got 0",
        "d.yaml:12: hosts/list/1/name: should be lower-case letters, digits and dashes, got 'G'",
        "d.yaml:12: hosts/list/1/address: is required",
        "d.yaml:13: limits/request_s: `on` is true or false to some readers of YAML only; write true or false, or quote it",
    ]
