"""A host fetches for itself: every fault of origin, network, disk and process, and the operator's side of it."""

# ruff: noqa: E501  messages in full

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from heavylift.apply.fetch import Addresses, Job, fetch, fetch_all
from heavylift.errors import FleetError, HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.onhost import checkpoint, chunks, lane, verify
from heavylift.onhost import fetch as onhost
from heavylift.onhost.download import Terms, chunk_bytes, download
from heavylift.weights.hub import Hub
from heavylift.weights.remote import look_up
from heavylift.weights.select import Wish
from tests.weights.checkpoints import shard
from tests.weights.hub_server import COMMIT, REPO, HubServer, serve

INDEX = "model.safetensors.index.json"
TOKEN = "hf_" + "secret"
WISH = Wish(REPO, COMMIT)
A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
QUICK = {"lanes": 2, "stall_s": 5.0, "pause_s": 0.001, "tick_s": 0.01}
RUN = "import json, sys; from heavylift.onhost import fetch; fetch.run_main(json.loads(sys.argv[1]))"


def content(size, seed):
    """Return bytes that compress and repeat nowhere."""
    return random.Random(seed).randbytes(size)  # noqa: S311


def repository(size):
    """Return two shards of `size` bytes together, their index, configuration and tokenizer."""
    halves = {"x": content(size // 2, 1)}, {"y": content(size - size // 2, 2)}
    return {
        A: shard(halves[0]),
        B: shard(halves[1]),
        "config.json": b'{"model_type": "tiny"}',
        INDEX: json.dumps({"weight_map": {"x": A, "y": B}}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
    }


class Site:
    """A hub, what the operator knows of it, and a host whose program runs here, without systemd."""

    def __init__(self, server, folder, **terms):
        self.server, self.folder = server, folder
        self.hub = Hub(server.url, server.token, pause=lambda _: None)
        self.checkpoint = look_up(self.hub, WISH, folder / "manifests")
        self.directory = folder / "models" / "org--tiny" / COMMIT
        self.staging = self.directory.with_name(f"{COMMIT}.partial")
        self.home = folder / "run"
        self.terms = {**QUICK, **terms}
        self.process = None
        self.asked = []

    def job(self, **options):
        """Return the job, with this host's program behind its questions."""
        terms = {"terms": self.terms, "ask": self.ask, **options}
        return Job(self.checkpoint, str(self.directory), Addresses(self.hub, WISH), Path("none"), **terms)

    def order(self):
        """Return what the operator would send."""
        job = self.job()
        return json.loads(job.order(job.addresses.of(job.remote, {})))

    def run(self):
        """Be the host's unit here and now; return its exit status."""
        onhost.prepare(self.order(), self.home)
        try:
            onhost.run_main({"home": str(self.home)})
        except SystemExit as ended:
            return ended.code
        return 0

    def start(self):
        """Start the unit as a process of its own."""
        onhost.prepare(self.order(), self.home)
        words = [sys.executable, "-c", RUN, json.dumps({"home": str(self.home)})]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self.process

    def ask(self, _host, _known_hosts, command, query, *, input=None, **_limits):
        """Answer as the host program does; the unit runs to its end before the first look."""
        self.asked.append(command)
        if command == "weights":
            return {"status": checkpoint.state(self.directory, query["manifest"])["status"]}
        if command == "fetch":
            onhost.prepare(json.loads(input), self.home)
            with contextlib.suppress(SystemExit, RuntimeError):
                onhost.run_main({"home": str(self.home)})
            return {"state": "running", "bytes": 0, "memory": 1 << 50}
        return self.state()

    def state(self):
        """Return what the unit wrote last."""
        return json.loads((self.home / "state.json").read_text())

    def whole(self):
        """Whether the folder has its name and holds the very bytes, and nothing else."""
        wanted = {path: self.server.files[path] for path, _, _ in self.checkpoint.manifest.files}
        there = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        assert there.pop("manifest.json").decode() == self.checkpoint.manifest.text
        assert set(json.loads(there.pop("stamp.json"))["files"]) == set(wanted)
        return there == wanted and not self.staging.exists()


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch):
    """No unit is ever at work here."""
    monkeypatch.setattr(onhost, "_active", lambda _: False)


@pytest.fixture
def server():
    """Run a gated hub with a repository of 400 KB, some of it in Xet."""
    with serve(HubServer(repository(400_000), plain=("config.json", INDEX), xet=(A,), token=TOKEN)) as running:
        yield running


@pytest.fixture
def site(server, tmp_path):
    """Return the hub and a host."""
    return Site(server, tmp_path)


def stored(site):
    """Return how many bytes of the checkpoint come from the store."""
    return sum(size for path, size, _ in site.checkpoint.manifest.files if path not in site.server.plain)


def test_a_host_fetches_a_commit(site):
    """Every byte is there and hashed; the token went to the hub alone, the addresses not onto a disk that stays."""
    onhost.prepare(site.order(), site.home)
    assert (site.home / "order.json").stat().st_mode & 0o777 == 0o600
    assert site.home.stat().st_mode & 0o777 == 0o700
    assert TOKEN not in (site.home / "order.json").read_text()
    onhost.run_main({"home": str(site.home)})
    assert site.whole()
    assert checkpoint.state(site.directory, site.checkpoint.manifest.sha256)["status"] == "verified"
    assert {seen.authorization for seen in site.server.asked("store")} == {None}
    assert {seen.authorization for seen in site.server.asked("hub")} == {f"Bearer {TOKEN}"}
    assert not (site.home / "order.json").exists()
    state = site.state()
    total = site.checkpoint.manifest.size
    assert [state[key] for key in ("state", "bytes", "total", "moved")] == ["done", total, total, stored(site)]
    assert {path.stat().st_mode & 0o777 for path in site.directory.iterdir()} == {0o644}


def test_what_is_there_is_not_fetched_again(site):
    """A second fetch asks the host once and the hub not at all."""
    job = site.job()
    assert fetch(Host("h1", "h1", "h1"), job, print).unchanged is False
    site.server.requests.clear()
    site.asked.clear()
    again = fetch(Host("h1", "h1", "h1"), site.job(), print)
    assert (again.unchanged, again.moved) == (True, 0)
    assert (site.asked, site.server.requests) == (["weights"], [])


def test_a_flipped_byte_is_fetched_once_more(site):
    """It is found before the file gets its name, and only that file moves again."""
    site.server.flipped = Counter({A: 1})
    assert site.run() == 0
    assert site.whole()
    assert site.state()["moved"] == stored(site) + len(site.server.files[A])


def test_a_byte_that_stays_flipped_stops_the_fetch(site):
    """Nothing is published, the message says which file and what to do, and what was right is kept."""
    site.server.flipped = Counter({B: 1000})
    with pytest.raises(RuntimeError) as stopped:
        site.run()
    wanted = hashlib.sha256(site.server.files[B]).hexdigest()[:12]
    assert str(stopped.value).startswith(f"{B}: sha256 ")
    assert str(stopped.value).endswith(
        f"…, the hub says {wanted}…, fetched twice; not published; try another origin (HF_ENDPOINT)"
    )
    assert site.state()["state"] == "failed"
    assert not site.directory.exists()
    assert not (site.staging / B).exists()
    site.server.flipped.clear()
    site.server.requests.clear()
    assert site.run() == 0
    assert site.whole()


def test_a_short_answer_goes_on_where_it_ended(site):
    """No byte moves twice."""
    site.server.short = Counter({A: 3})
    assert site.run() == 0
    assert site.whole()
    assert site.state()["moved"] == stored(site) == site.server.sent


def test_a_silent_origin_is_asked_again(server, tmp_path):
    """The watchdog ends the silence, and the rest is fetched from where it was."""
    site = Site(server, tmp_path, stall_s=0.1)
    server.stalled = Counter({A: 2, B: 1})
    began = time.monotonic()
    assert site.run() == 0
    assert site.whole()
    assert site.state()["moved"] == stored(site)
    assert 0.1 <= time.monotonic() - began < 4


def test_a_silence_that_does_not_end(server, tmp_path):
    """After five tries without a byte the run ends with the file, the host and what to do."""
    site = Site(server, tmp_path, stall_s=0.02, lanes=1)
    server.hold_at = 0
    with pytest.raises(RuntimeError) as stopped:
        site.run()
    kept = "what is there is kept, run the same command again to continue"
    assert str(stopped.value) == f"{A}: 127.0.0.1: no bytes for 0.02 s, 6 times in a row; {kept}"


def test_a_trickle_counts_as_silence(server, tmp_path, monkeypatch):
    """Who sends too slowly to ever end is asked again for the rest."""
    monkeypatch.setattr(lane.time, "monotonic", iter(range(0, 10**9, 60)).__next__)  # a minute for each block
    monkeypatch.setattr(lane, "BLOCK", 10_000)
    site = Site(server, tmp_path, stall_s=60, lanes=1)
    assert site.run() == 0
    assert site.whole()
    ranges = [seen.range for seen in server.asked("store") if seen.path.startswith(f"/{A}")]
    assert {int(seen.rpartition("-")[2]) for seen in ranges} == {*range(16383, 200111, 16384), 200111}
    assert len(ranges) >= 2 * 13


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_origin_in_trouble_is_waited_for(site, status):
    """Twice, then fine."""
    site.server.failing = [status, status]
    assert site.run() == 0
    assert site.whole()


def test_an_origin_that_ignores_ranges(site):
    """Then a file comes from its beginning, by one lane, and is just as right."""
    site.server.without_ranges = True
    site.server.short = Counter({A: 1})
    assert site.run() == 0
    assert site.whole()


def test_an_origin_with_a_file_of_another_size(site):
    """The sizes are told; nothing is published."""
    site.server.files[A] += b"\0"
    job = site.job()
    addresses = {A: f"{site.server.store}/{A}?Signature=0", B: f"{site.server.store}/{B}?Signature=0"}
    addresses["tokenizer.json"] = f"{site.server.store}/tokenizer.json?Signature=0"
    onhost.prepare(json.loads(job.order(addresses)), site.home)
    size = len(site.server.files[A])
    with pytest.raises(RuntimeError, match=f"{A}: 127.0.0.1: has {size} bytes, {size - 1} are promised, 6 times"):
        onhost.run_main({"home": str(site.home)})
    assert not site.directory.exists()


def test_a_source_that_leads_elsewhere_is_followed_once(site):
    """A public mirror's own address works too: it is asked once for each file, not once for each chunk."""
    site.server.token = None
    mirror = {path: f"{site.server.url}/{REPO}/resolve/{COMMIT}/{path}" for path in (A, B, "tokenizer.json")}
    onhost.prepare(json.loads(site.job().order(mirror)), site.home)
    site.server.requests.clear()
    onhost.run_main({"home": str(site.home)})
    assert site.whole()
    assert len(site.server.asked("hub")) <= 3 * QUICK["lanes"]
    assert len(site.server.asked("store")) > 20


def test_a_source_may_have_a_part_of_a_file(site):
    """The seam for hosts that serve each other: each range comes from whoever has it."""
    order = site.order()
    entry = next(entry for entry in order["files"] if entry["path"] == A)
    size, chunk = entry["size"], chunk_bytes(stored(site), QUICK["lanes"])
    half = size // 2 // chunk * chunk
    url = entry["sources"][0]["url"]
    entry["sources"] = [
        {"url": f"{url}&first", "begin": 0, "end": half},
        {"url": f"{url}&last", "begin": half, "end": size},
    ]
    onhost.prepare(order, site.home)
    onhost.run_main({"home": str(site.home)})
    assert site.whole()
    begins = {"first": [], "last": []}
    for seen in site.server.asked("store"):
        if seen.path.startswith(f"/{A}"):
            begins[seen.path.rpartition("&")[2]].append(int(seen.range[6:].partition("-")[0]))
    assert max(begins["first"]) < half == min(begins["last"])


def test_a_source_that_fails_gives_way_to_the_next(site):
    """A dead mirror beside a live one costs a try, not the run."""
    order = site.order()
    for entry in order["files"]:
        dead = [{"url": "http://127.0.0.1:9/x", "begin": 0, "end": entry["size"]}]
        expired = [{"url": f"{site.server.store}/{entry['path']}?Signature=old", "begin": 0, "end": entry["size"]}]
        entry["sources"] = dead + expired + entry["sources"] if entry["sources"] else []
    onhost.prepare(order, site.home)
    onhost.run_main({"home": str(site.home)})
    assert site.whole()


@pytest.mark.parametrize("when", ["in the middle", "in the middle, and once more"])
def test_killed_at_half_it_moves_next_to_nothing_again(tmp_path, when):
    """Kill -9 costs the chunks in flight: at most 1 % of the bytes, each time."""
    with serve(HubServer(repository(16_000_000), plain=("config.json", INDEX))) as server:
        site = Site(server, tmp_path, lanes=4)
        total, held = stored(site), 0
        for share in (0.5, 0.75)[: 2 if "more" in when else 1]:
            server.hold_at = int(total * share)
            server.held.clear()
            server.go.clear()
            process = site.start()
            assert server.held.wait(20)
            process.send_signal(signal.SIGKILL)
            process.wait()
            server.go.set()
            held += 1
        server.hold_at = None
        assert site.run() == 0
        assert site.whole()
        assert total <= server.sent <= total * (1 + 0.01 * held)


def test_a_killed_fetch_is_seen_as_stopped(site, monkeypatch):
    """By its state while the host stays up, by its files after a reboot."""
    monkeypatch.setattr(onhost, "RUN", site.folder)
    site.home = site.folder / onhost.unit_name(str(site.directory))
    site.server.hold_at = stored(site) // 2
    process = site.start()
    assert site.server.held.wait(20)
    process.kill()
    process.wait()
    seen = onhost.state(str(site.directory))
    assert seen["state"] == "stopped"
    (site.home / "state.json").unlink()
    assert onhost.state(str(site.directory)) == {"state": "stopped", "bytes": onhost._there(site.staging)}
    assert onhost.state(str(site.folder / "elsewhere")) == {"state": "none"}


@pytest.mark.parametrize("damage", ["flip", "zero", "cut", "journal"])
def test_what_was_left_is_hashed_and_not_believed(site, damage):
    """A partial file that changed behind our back, as after a power loss, is found and fetched again."""
    site.server.expire_after = 8
    site.terms["lanes"] = 1
    assert site.run() == onhost.FRESH_ADDRESSES
    partial = site.staging / f"{A}.incomplete"
    journal = site.staging / chunks.NOTES / f"{A}.chunks"
    assert len(journal.read_bytes()) == 4 * (1 + 8)
    if damage == "journal":
        journal.write_bytes(journal.read_bytes() + b"\xff\xff\xff\xff\1")
    elif damage == "cut":
        os.truncate(partial, 100)
    else:
        with partial.open("r+b") as file:
            file.write(b"\0" * 2000 if damage == "zero" else b"\xff")
    assert site.run() == 0
    assert site.whole()


def test_files_that_have_their_name_are_not_hashed_again(site, monkeypatch):
    """A stamp that is still the same stands for the hash; without it, the file is hashed."""
    site.server.flipped = Counter({B: 1000})
    with pytest.raises(RuntimeError):
        site.run()
    assert (site.staging / A).is_file()
    hashed, real = [], checkpoint.digest
    monkeypatch.setattr(checkpoint, "digest", lambda path: hashed.append(path.name) or real(path))
    site.server.flipped.clear()
    os.utime(site.staging / "config.json", (1, 1))
    assert site.run() == 0
    assert A not in hashed
    assert "config.json" in hashed


def test_addresses_that_expire_are_signed_again(site):
    """The unit ends with its own status; fresh addresses come, and nothing moves twice."""
    site.server.expire_after = 10
    assert site.run() == onhost.FRESH_ADDRESSES == 4
    state = site.state()
    assert state["state"] == "addresses"
    assert set(state["refused"].values()) == {"127.0.0.1: 403 <Error>Request has expired</Error>"}
    assert 0 < state["bytes"] < site.checkpoint.manifest.size
    assert site.run() == 0
    assert site.whole()
    assert site.server.sent == stored(site)


def test_the_operator_brings_fresh_addresses(site):
    """As often as they expire, as long as each round brings something."""
    site.server.expire_after = 10
    assert fetch(Host("h1", "h1", "h1"), site.job(), print).unchanged is False
    assert site.whole()
    assert site.asked == ["weights", "fetch", "fetch-state", "fetch", "fetch-state"]


def test_addresses_that_are_never_served(site):
    """After three rounds for nothing it is an error, with what the store said and no address in it."""
    site.server.refuses = True
    with pytest.raises(HeavyliftError) as refused:
        fetch(Host("h1", "h1", "h1"), site.job(), print)
    said = "127.0.0.1: 403 <Error>Request has expired</Error>"
    assert refused.value.message == (
        f"h1: {A}: refused right after its address was signed ({said}); may the token read this repository?"
    )


def test_hosts_share_addresses(site):
    """However many hosts fetch, the hub is asked once for each file, and all get the same manifest."""
    sites = {name: Site(site.server, site.folder / name) for name in ("h1", "h2", "h3")}
    addresses = Addresses(site.hub, WISH)
    site.server.requests.clear()

    def one(name):
        there = sites[name]
        job = Job(site.checkpoint, str(there.directory), addresses, Path("none"), terms=QUICK, ask=there.ask)
        fetch(Host(name, name, name), job, print)

    threads = [threading.Thread(target=one, args=(name,)) for name in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(there.whole() for there in sites.values())
    assert len(site.server.asked("hub", "HEAD")) == 3


def test_one_host_fails_and_the_others_go_on(site):
    """A host's failure is its own result."""

    def answer(host, *rest, **more):
        if host.name == "h2":
            raise FleetError("h2: no answer")
        return site.ask(host, *rest, **more)

    found = fetch_all([Host(name, name, name) for name in ("h1", "h2")], site.job(ask=answer), print)
    assert found["h1"].unchanged is False
    assert str(found["h2"]) == "h2: no answer"


def test_too_little_space_is_said_before_the_first_byte(site, monkeypatch):
    """What comes, and a tenth of it and of the model's other commits, must be free."""
    other = site.directory.with_name("0" * 40)
    other.mkdir(parents=True)
    (other / "old.safetensors").write_bytes(b"\1" * 1_000_000)
    size = site.checkpoint.manifest.size
    kept = chunks.allocated(other / "old.safetensors")

    class Usage:
        free = 100_000

    monkeypatch.setattr(onhost.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(RuntimeError) as short:
        onhost.prepare(site.order(), site.home)
    missing = size + 0.1 * (size + kept)
    assert str(short.value) == (
        f"{site.directory.parent}: 0.00 GB free, {missing / 1e9:.2f} GB needed ({size / 1e9:.2f} GB to come, 10 % of all "
        "commits of the model to spare); free some, or choose another paths.models"
    )
    Usage.free = int(missing) + 1
    onhost.prepare(site.order(), site.home)


def small_disk(folder, size):
    """Mount a small tmpfs, or skip."""
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False).returncode
    ):
        pytest.skip("mounting a tmpfs needs root")
    return folder


def entries(site):
    """Return what `download` is given."""
    return [entry for entry in site.order()["files"] if entry["sources"]]


@pytest.mark.parametrize("reserved", [True, False])
def test_a_full_disk_is_one_line_and_loses_nothing(site, tmp_path, monkeypatch, reserved):
    """With space reserved it shows at once, without (some file systems cannot) in the middle; room made, it goes on."""
    disk = small_disk(tmp_path / "disk", "300k")
    try:
        if not reserved:
            monkeypatch.setattr(chunks.Part, "reserve", lambda _: None)
        with pytest.raises(RuntimeError) as full:
            download(disk, entries(site), Terms(**QUICK), lambda _: None, lambda *_: None)
        assert "no space left on the disk, 0.00 GB are still to come; free some and run the same command again" in str(
            full.value
        )
        before = site.server.sent
        assert (before == 0) is reserved
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        rest = [entry for entry in entries(site) if not (disk / entry["path"]).exists()]
        outcome = download(disk, rest, Terms(**QUICK), lambda _: None, lambda *_: None)
        assert {path.name for path in disk.iterdir()} - {chunks.NOTES} == {A, B, "tokenizer.json"}
        assert outcome.moved + before <= stored(site) + 3 * 16384
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_changed_file_is_the_only_one_that_moves(site):
    """`verify --deep` takes its stamp away, and the next fetch links what is right and brings what is not."""
    assert site.run() == 0
    query = {"directory": str(site.directory), "manifest": site.checkpoint.manifest.sha256}
    before = (site.directory / A).stat()
    with (site.directory / A).open("r+b") as file:
        file.seek(1000)
        file.write(bytes([site.server.files[A][1000] ^ 1]))
    os.utime(site.directory / A, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verify.main(query)["status"] == "verified"  # stamps cannot see it
    found = verify.main({**query, "deep": True})
    assert (found["status"], found["files"]) == ("changed", [A])
    site.server.sent = 0
    assert site.run() == 0
    assert site.whole()
    assert site.server.sent == len(site.server.files[A])
    again = verify.main({**query, "deep": True})
    assert (again["status"], again["bytes"]) == ("verified", site.checkpoint.manifest.size)


def test_verify_tells_what_is_missing_or_stray(site):
    """Both without reading anything, and with all of it read."""
    assert site.run() == 0
    query = {"directory": str(site.directory), "manifest": site.checkpoint.manifest.sha256}
    (site.directory / B).unlink()
    (site.directory / "stray.safetensors").write_bytes(b"")
    for deep in (False, True):
        found = verify.main({**query, "deep": deep})
        assert (found["status"], found["files"]) == ("changed", [B, "stray.safetensors"])
    assert verify.main({**query, "directory": str(site.folder / "none")})["status"] == "absent"


def test_status_shows_commit_state_and_progress(site):
    """What a table of hosts is made of."""
    query = {"directory": str(site.directory), "manifest": site.checkpoint.manifest.sha256}
    assert verify.status_main(query) == {"status": "absent", "files": [], "verified": None, "fetch": {"state": "none"}}
    assert site.run() == 0
    shown = verify.status_main(query)
    assert (shown["status"], shown["manifest"]) == ("verified", site.checkpoint.manifest.sha256)
    assert shown["verified"].endswith("Z")


def test_all_of_a_folder_is_hashed(site):
    """The digests are those of the files, whatever the order and the number of threads."""
    assert site.run() == 0
    names = [path for path, _, _ in site.checkpoint.manifest.files]
    assert verify.hash_all(site.directory, names) == {
        path: sha256 for path, _, sha256 in site.checkpoint.manifest.files
    }


def test_small_files_come_with_the_order(site):
    """A gated hub serves them only with the token, so the host never asks for them."""
    order = site.order()
    assert {path: base64.b64decode(text) for path, text in order["contents"].items()} == {
        path: site.server.files[path] for path in ("config.json", INDEX)
    }
    assert site.run() == 0
    assert {seen.path.partition("?")[0] for seen in site.server.asked("store")} == {f"/{A}", f"/{B}", "/tokenizer.json"}


def test_a_checkpoint_that_is_none_is_not_published(server, tmp_path):
    """Equal to the hub's, byte by byte, and yet nothing that an engine can load: uploads can be bad."""
    server.files[B] = b"version https://git-lfs.github.com/spec/v1\n"
    site = Site(server, tmp_path)
    with pytest.raises(
        RuntimeError, match=f"weights: equal to the hub's, but no whole checkpoint: {B}: is no safetensors"
    ):
        site.run()
    assert not site.directory.exists()


def test_two_fetches_into_one_folder(site, monkeypatch):
    """The same order joins the one at work; another is refused."""
    monkeypatch.setattr(onhost, "_active", lambda _: True)
    monkeypatch.setattr(onhost, "RUN", site.folder)
    order = site.order()
    home = site.folder / onhost.unit_name(str(site.directory))
    onhost.prepare(json.loads(json.dumps(order)), home)

    def begin(order):
        monkeypatch.setattr(onhost.sys, "stdin", io.StringIO(json.dumps(order)))
        return onhost.begin_main({})

    assert begin(order)["state"] == "running"
    with pytest.raises(RuntimeError) as refused:
        begin({**order, "manifest": "another"})
    assert str(refused.value) == f"{site.directory}: other files are being fetched into it; wait until that has ended"


def test_a_host_that_is_lost_sight_of(site, monkeypatch):
    """A few failed looks are nothing; many mean that the connection is gone, while the host goes on."""
    looks = []

    def answer(host, known_hosts, command, query, **more):
        if command == "fetch":
            return {"state": "running", "bytes": site.checkpoint.manifest.size // 2}
        if command == "weights":
            return {"status": "absent"}
        looks.append(command)
        raise FleetError("h1 (root@h1:22): no answer", hint="is the host up?")

    monkeypatch.setattr("heavylift.apply.fetch.LOOK_S", 0)
    with pytest.raises(FleetError) as lost:
        fetch(Host("h1", "h1", "h1"), site.job(ask=answer), print)
    assert lost.value.message == "h1 (root@h1:22): no answer; lost sight of it at 50%"
    assert lost.value.hint == "the host goes on by itself; run the same command to look in again"
    assert len(looks) == 6


def test_progress_and_warnings_are_lines(site):
    """Every tenth with rate and time left, notes once, and memory that the checkpoint does not fit into."""
    size, lines = site.checkpoint.manifest.size, []
    seen = [
        {"state": "running", "bytes": size * n // 100, "total": size, "rate": size / 100, "note": note}
        for n, note in ((4, ""), (12, "x: silent"), (19, "x: silent"), (55, ""))
    ]
    states = iter([*seen, {"state": "done", "moved": size, "bytes": size, "total": size}])

    def answer(host, known_hosts, command, query, **more):
        if command == "weights":
            return {"status": "absent"}
        return {"state": "running", "bytes": 0, "memory": size} if command == "fetch" else next(states)

    assert fetch(Host("h1", "h1", "h1"), site.job(ask=answer), lines.append).moved == size
    assert lines == [
        "h1: warning: 0 GB of memory for 0 GB of weights: they do not stay in the page cache, every start reads the disk",
        "h1: x: silent",
        "h1: 12% of 0.00 GB, 0 MB/s, 88 s left",
        "h1: 55% of 0.00 GB, 0 MB/s, 45 s left",
        "h1: 100% of 0.00 GB",
    ]


@pytest.mark.parametrize(
    ("total", "lanes", "expected"), [(689_000_000_000, 16, 32 << 20), (16_000_000_000, 16, 7_812_500), (1000, 8, 16384)]
)
def test_a_kill_costs_less_than_a_hundredth(total, lanes, expected):
    """Chunks are as large as that allows, and no larger than a request should be."""
    assert chunk_bytes(total, lanes) == expected
    assert expected * lanes <= max(total / 100, lanes * 16384)
