"""The hub as seen from the operator's machine: lists, content, addresses, credentials, waits, and what is remembered."""

# ruff: noqa: E501  messages in full

from __future__ import annotations

import hashlib
import json
import socket
from collections import Counter

import pytest

from heavylift.errors import WeightsError
from heavylift.weights.hub import ENDPOINT, Hub, UnreachableError, find_token
from heavylift.weights.remote import look_up, remembered
from heavylift.weights.select import RemoteFile, Wish
from tests.weights.checkpoints import shard
from tests.weights.hub_server import COMMIT, REPO, HubServer, git_id, serve

INDEX = "model.safetensors.index.json"
TOKEN = "hf_" + "secret"
A, B = shard({"x": b"\1" * 100}), shard({"y": b"\2" * 50})
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "a.safetensors": A,
    "b.safetensors": B,
    "config.json": b'{"model_type": "tiny"}',
    INDEX: json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode(),
    "onnx/model.onnx": b"another format",
    "tokenizer.json": b"{}",
}
PLAIN = (".gitattributes", "config.json", INDEX)
WISH = Wish(REPO, COMMIT)
GATED = "accept its licence at {url}/org/tiny"


@pytest.fixture
def server():
    """Run a hub with a small repository."""
    with serve(HubServer(dict(FILES), plain=PLAIN, xet=("a.safetensors",))) as running:
        yield running


def ask(server, token=None):
    """Return the hub's client, what it reported, and how long it waited."""
    lines, waits = [], []
    return Hub(server.url, token, report=lines.append, pause=waits.append), lines, waits


def refusal(action, *arguments):
    """Return why an action is refused."""
    with pytest.raises(WeightsError) as refused:
        action(*arguments)
    return str(refused.value)


def test_the_list_has_sizes_and_digests(server):
    """sha256 of what is stored apart, Xet or not; git's own name of plain files; no folders."""
    hub, lines, waits = ask(server)
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    assert sorted(rows) == sorted(FILES)
    for path in ("a.safetensors", "b.safetensors", "tokenizer.json"):
        assert rows[path] == RemoteFile(path, len(FILES[path]), hashlib.sha256(FILES[path]).hexdigest(), None)
    assert rows["config.json"] == RemoteFile("config.json", 22, None, git_id(FILES["config.json"]))
    assert (lines, waits) == ([], [])


def test_a_long_list_comes_in_pages(server):
    """`Link` leads from one to the next."""
    server.page = 3
    assert [file.path for file in ask(server)[0].tree(REPO, COMMIT)] == sorted(FILES)
    assert len(server.asked("hub")) == 3


def test_a_branch_is_the_commit_that_it_means_today(server):
    """A commit is itself; what nobody knows is refused."""
    hub = ask(server)[0]
    assert [hub.commit(REPO, "main"), hub.commit(REPO, COMMIT)] == [COMMIT, COMMIT]
    assert refusal(hub.commit, REPO, "v9/x") == (
        f"model/revision: {REPO} has no v9/x\n\nhint: copy the commit from the repository's history"
    )
    assert server.asked("hub")[-1].path == f"/api/models/{REPO}/revision/v9%2Fx"


def test_small_files_are_read_and_proven(server):
    """By git's name of the content, or by sha256; a wrong byte is fetched again, and refused the second time."""
    hub = ask(server)[0]
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    assert hub.read(REPO, COMMIT, rows["config.json"]) == FILES["config.json"]
    assert hub.read(REPO, COMMIT, rows["tokenizer.json"]) == b"{}"
    server.flipped = Counter({"config.json": 1})
    assert hub.read(REPO, COMMIT, rows["config.json"]) == FILES["config.json"]
    server.flipped = Counter({"config.json": 2})
    wrong = f"config.json: not the content of {git_id(FILES['config.json'])[:12]}… that the hub lists, fetched twice"
    assert refusal(hub.read, REPO, COMMIT, rows["config.json"]) == f"{wrong}; try another origin"


def test_an_address_is_where_the_hub_sends_us_for_a_file(server):
    """Signed, at the store, for Xet files too; nothing is fetched to know it, and the store never sees the token."""
    server.token = TOKEN
    hub = ask(server, TOKEN)[0]
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    assert hub.address(REPO, COMMIT, rows["a.safetensors"]) == f"{server.store}/a.safetensors?Signature=0"
    assert hub.read(REPO, COMMIT, rows["tokenizer.json"]) == b"{}"  # from the store as well
    assert [seen.method for seen in server.asked("hub")] == ["GET", "HEAD", "GET"]
    assert {seen.authorization for seen in server.asked("hub")} == {f"Bearer {TOKEN}"}
    assert [(seen.path, seen.authorization) for seen in server.asked("store")] == [
        ("/tokenizer.json?Signature=0", None)
    ]


def test_a_mirror_that_serves_files_itself(server):
    """Then the file's own address there is the one."""
    server.redirects = False
    hub = ask(server)[0]
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    assert hub.address(REPO, COMMIT, rows["b.safetensors"]) == f"{server.url}/{REPO}/resolve/{COMMIT}/b.safetensors"


def test_a_mirror_that_has_something_else(server):
    """Another commit or another size is told before a host fetches it."""
    hub = ask(server)[0]
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    server.sent_commit = "f" * 40
    assert refusal(hub.address, REPO, COMMIT, rows["a.safetensors"]) == (
        f"{hub.name}: sends a.safetensors of commit ffffffffffff…, wanted is {COMMIT[:12]}…; try another origin"
    )
    server.sent_commit = None
    server.files["a.safetensors"] = A + b"\0"
    assert refusal(hub.address, REPO, COMMIT, rows["a.safetensors"]) == (
        f"a.safetensors: {len(A) + 1} bytes at {hub.name}, its list says {len(A)}; try another origin"
    )


def test_a_gated_repository(server):
    """Without a token, with a wrong one, and where the list is open but its digests are hidden."""
    server.token = TOKEN
    way_in = GATED.format(url=server.url)
    assert (
        refusal(ask(server)[0].tree, REPO, COMMIT)
        == f"model/repo: {REPO} is gated or private (401); {way_in} and set HF_TOKEN"
    )
    hub = ask(server, "hf_other")[0]
    assert (
        refusal(hub.tree, REPO, COMMIT)
        == f"{hub.name}: refuses the token (401)\n\nhint: `hf auth login` again, or set HF_TOKEN anew"
    )
    server.listed = {"a.safetensors": {"lfs": {"oid": "*" * 64, "size": len(A), "pointerSize": 135}}}
    assert refusal(ask(server, TOKEN)[0].tree, REPO, COMMIT) == (
        f"model/repo: {REPO} is gated: the hub hides digests; {way_in} with the account of this token"
    )


def test_what_is_not_there(server):
    """A repository or a commit that the hub does not have."""
    hub = ask(server)[0]
    assert refusal(hub.tree, "org/none", COMMIT) == (
        f"model/repo: org/none is not at {hub.name} (404)\n\nhint: is its name right? a private one needs HF_TOKEN"
    )
    assert refusal(hub.tree, REPO, "f" * 40).startswith(f"model/revision: {REPO} has no ffff")


def test_a_file_that_cannot_be_proven(server):
    """Without a sha256 or git's name of it nothing is taken on trust; `xetHash` is none of them."""
    server.listed = {"a.safetensors": {"lfs": None}}
    assert refusal(ask(server)[0].tree, REPO, COMMIT).startswith(f"{REPO}: a.safetensors has no sha256 at 127.0.0.1:")


def test_too_many_calls_are_waited_out_as_the_hub_says(server):
    """Twice 429, then fine: `RateLimit` and a second, or `Retry-After`, or our own steps; each is said once."""
    server.limits = [{"RateLimit": '"resolvers";r=0;t=55'}, {"Retry-After": "7"}, {}]
    hub, lines, waits = ask(server)
    assert len(hub.tree(REPO, COMMIT)) == len(FILES)
    assert waits == [56, 7, 4]
    assert lines == [f"hub: 429, no calls left; waiting {wait} s ({n} of 5)" for n, wait in enumerate((56, 7, 4), 1)]


def test_too_many_calls_for_too_long(server):
    """After five waits it is for somebody to come back later."""
    server.limits = [{"Retry-After": "1"}] * 6
    hub, _, waits = ask(server)
    assert (
        refusal(hub.tree, REPO, COMMIT)
        == "hub: 429, no calls left, five times in a row; run the same command again later"
    )
    assert waits == [1] * 5


def test_a_hub_that_does_not_answer():
    """It is told apart from a refusal: hosts may have the files all the same."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnreachableError) as refused:
        Hub(f"http://127.0.0.1:{port}").tree(REPO, COMMIT)
    assert refused.value.message == f"127.0.0.1:{port}: cannot be reached ([Errno 111] Connection refused)"
    assert refused.value.hint == "check the connection, a proxy, or HF_ENDPOINT"


def test_a_page_that_is_no_hub(server, monkeypatch):
    """A proxy's login page is no list."""
    monkeypatch.setattr(server, "rows", list)
    monkeypatch.setattr(json, "dumps", lambda _: "<html>")
    hub = ask(server)[0]
    assert (
        refusal(hub.tree, REPO, COMMIT)
        == f"{hub.name}: sends no JSON\n\nhint: is HF_ENDPOINT a hub? a proxy's login page answers like this"
    )


def test_nothing_but_http_is_followed(server, monkeypatch):
    """A hub cannot make us read a file of this machine."""
    server.store = "file:///etc"
    hub = ask(server)[0]
    rows = {file.path: file for file in hub.tree(REPO, COMMIT)}
    assert refusal(hub.read, REPO, COMMIT, rows["tokenizer.json"]) == (
        f"{hub.name}: leads to file: for {REPO}; nothing but http is followed"
    )
    assert refusal(Hub, "ftp://x") == "HF_ENDPOINT: should begin with https://, got 'ftp://x'"


def test_where_the_token_comes_from(tmp_path):
    """`HF_TOKEN`, else the file of `hf auth login`, wherever the environment puts it."""
    (tmp_path / "token").write_text("hf_file\n")
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface/token").write_text("hf_cache\n")
    home = {"HF_HOME": str(tmp_path)}
    assert find_token({"HF_TOKEN": " hf_a\n", **home}) == "hf_a"
    assert find_token(home) == "hf_file"
    assert find_token({"HF_TOKEN_PATH": str(tmp_path / "token")}) == "hf_file"
    assert find_token({"XDG_CACHE_HOME": str(tmp_path)}) == "hf_cache"
    assert find_token({"HF_HOME": str(tmp_path / "none")}) is None
    assert refusal(find_token, {"HF_TOKEN": "hf_a\r\nX-Evil: 1"}).startswith("HF_TOKEN: holds blanks")


def test_the_hub_of_the_environment(server, tmp_path):
    """`HF_ENDPOINT` names a mirror; without it, it is the hub itself."""
    hub = Hub.from_environment({"HF_ENDPOINT": f"{server.url}/", "HF_HOME": str(tmp_path)})
    assert hub.commit(REPO, "main") == COMMIT
    assert Hub.from_environment({"HF_HOME": str(tmp_path)}).endpoint == ENDPOINT


def test_a_commit_becomes_a_checkpoint(server, tmp_path):
    """Its whole manifest is known here: sha256 of large files from the hub, of small ones from their content."""
    assert remembered(WISH, tmp_path) is None
    found = look_up(ask(server)[0], WISH, tmp_path)
    wanted = ["a.safetensors", "b.safetensors", "config.json", INDEX, "tokenizer.json"]
    assert found.manifest.files == tuple(
        (path, len(FILES[path]), hashlib.sha256(FILES[path]).hexdigest()) for path in wanted
    )
    assert found.config == {"model_type": "tiny"}
    assert sorted(path.name for path in found.directory.iterdir()) == ["config.json", INDEX]
    assert server.asked("store") == []


def test_a_commit_is_looked_up_once(server, tmp_path):
    """What is remembered needs no network and is equal; other patterns ask only for what is not here."""
    first = look_up(ask(server)[0], WISH, tmp_path)
    server.requests.clear()
    assert look_up(ask(server)[0], WISH, tmp_path) == first == remembered(WISH, tmp_path)
    other = Wish(REPO, COMMIT, allow=("*.json", "*.safetensors", ".git*"))
    assert remembered(other, tmp_path) is None
    assert len(look_up(ask(server)[0], other, tmp_path).manifest.files) == 6
    assert [seen.path.rpartition("/")[2] for seen in server.requests] == [".gitattributes"]


@pytest.mark.parametrize("damage", ["tree.json", f"files/{INDEX}", "files/config.json"])
def test_what_is_remembered_is_proven_each_time(server, tmp_path, damage):
    """A damaged cache is only worth time."""
    first = look_up(ask(server)[0], WISH, tmp_path)
    path = tmp_path / "org--tiny" / COMMIT / damage
    path.write_bytes(path.read_bytes()[:-5])
    assert remembered(WISH, tmp_path) is None
    assert look_up(ask(server)[0], WISH, tmp_path) == first


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (INDEX, b"{", f"{REPO}: {INDEX} is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (INDEX, b"{}", f"{REPO}: {INDEX} has no weight_map; choose another commit"),
        ("config.json", b"[]", f"{REPO}: config.json should hold a mapping"),
    ],
)  # fmt: skip
def test_a_commit_whose_own_files_are_damaged(server, tmp_path, path, content, expected):
    """What the hub has is what its author sent."""
    server.files[path] = content
    assert refusal(look_up, ask(server)[0], WISH, tmp_path) == expected
