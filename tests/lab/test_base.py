"""The base image as files: its name, and what is deleted when."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import LabError
from heavylift.lab import base
from heavylift.lab.base import Base
from heavylift.lab.lab import Lab


def test_another_recipe_is_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is stable, and changes with the packages and with a local CA certificate."""
    monkeypatch.setattr(base, "LOCAL_CERTIFICATES", tmp_path)
    for variable in base.CERTIFICATE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    digests = [Base(tmp_path).digest, Base(tmp_path).digest]
    (tmp_path / "own.crt").write_text("certificate")
    digests.append(Base(tmp_path).digest)
    monkeypatch.setattr(base, "PACKAGES", ("systemd",))
    digests.append(Base(tmp_path).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_bundle_named_by_the_environment_is_carried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that are told of a bundle of their own need it inside a host; the system's own is there already."""
    monkeypatch.setattr(base, "LOCAL_CERTIFICATES", tmp_path / "none")
    monkeypatch.setenv("SSL_CERT_FILE", str(base.SYSTEM_BUNDLE))
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    (tmp_path / "bundle.pem").write_text("certificate")
    assert base.certificates() == ((tmp_path / "bundle.pem").resolve(),)


def test_purge_deletes_the_cache_unless_a_lab_stands_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages, images and engines go together, but never under a running lab."""
    cache = tmp_path / "cache"
    for folder in ("base/0123", "debs", "opt/engines"):
        (cache / folder).mkdir(parents=True)
    mounted = tmp_path / "mountinfo"
    mounted.write_text(f"1 2 0:1 / /x rw - overlay overlay rw,lowerdir={cache}/base/0123,upperdir=/u\n")
    monkeypatch.setattr(base, "MOUNTINFO", mounted)
    with pytest.raises(LabError, match="another lab still stands on the base image"):
        Base(cache).remove()
    assert (cache / "base" / "0123").is_dir()
    mounted.write_text("")
    Base(cache).remove()
    assert list(cache.iterdir()) == []


def test_a_failed_build_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of debootstrap, the log, and what to check; neither it nor one cut off earlier leaves a tree."""
    tool = tmp_path / "bin" / "debootstrap"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\necho I: Retrieving InRelease\nmkdir -p $5\necho 'E: Failed getting release file'\nexit 1\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    (tmp_path / "cache" / "base" / "cut-off.partial").mkdir(parents=True)
    lines: list[str] = []
    with pytest.raises(LabError) as caught:
        Base(tmp_path / "cache").build(lines.append)
    log = tmp_path / "cache" / "base.log"
    assert caught.value.message == f"base image: debootstrap ended with 1: E: Failed getting release file (log: {log})"
    assert caught.value.hint == "check that `apt-get update` works on this machine, then run the command again"
    assert lines == ["I: Retrieving InRelease", "E: Failed getting release file"]
    assert log.read_text() == "I: Retrieving InRelease\nE: Failed getting release file\n"
    assert list((tmp_path / "cache" / "base").iterdir()) == []


@pytest.mark.parametrize("name", ["cache", "", "Lab", "a/b", "..", "1st"])
def test_lab_names(name: str) -> None:
    """A name becomes a folder beside the cache, so it is held to plain words."""
    with pytest.raises(LabError, match="should be lower-case letters, digits and dashes, and not 'cache'"):
        Lab(name)


def test_host_counts(tmp_path: Path) -> None:
    """A subnet has room for so many."""
    for count in (0, 201):
        with pytest.raises(LabError, match=f"^{count} hosts: a lab has 1 to 200$"):
            Lab(root=tmp_path).up(count)
