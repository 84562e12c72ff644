"""What is read from this machine's apt configuration."""

from __future__ import annotations

from pathlib import Path

from heavylift.lab.apt import Archive, archives, debian_archives, os_release, parse_lines, parse_stanzas

STANZAS = """\
# the main archive
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""
BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}


def test_one_line_entries() -> None:
    """Options in brackets, comments, source entries and disabled lines are told apart."""
    text = (
        "# deb http://off.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian/ bookworm main contrib # note\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://flat.example/repo ./\n"
        "deb\n"
    )
    assert parse_lines(text) == [
        Archive("http://a.example/debian", "bookworm", ("main", "contrib")),
        Archive("http://flat.example/repo", "./", ()),
    ]


def test_stanzas() -> None:
    """Each address and suite of an enabled binary stanza is one archive, with its continued lines."""
    assert parse_stanzas(STANZAS) == [
        Archive("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Archive("http://mirror.example/debian", "bookworm-updates", ("main", "contrib")),
    ]


def test_files_are_read_in_apts_order(tmp_path: Path) -> None:
    """sources.list comes first, then the folder by name; other endings and other schemes are left out."""
    (tmp_path / "sources.list").write_text("deb http://first.example/debian bookworm main\n")
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "b.sources").write_text("Types: deb\nURIs: https://third.example/x\nSuites: y\nComponents: z\n")
    (folder / "a.list").write_text("deb http://second.example/x y z\ndeb file:/media/disk bookworm main\n")
    (folder / "c.list.save").write_text("deb http://never.example/x y z\n")
    assert [archive.uri for archive in archives(tmp_path)] == [
        "http://first.example/debian",
        "http://second.example/x",
        "https://third.example/x",
    ]


def test_bookworm_machine_hands_on_updates_and_security() -> None:
    """The main archive leads, other vendors' archives are not taken."""
    found = [
        Archive("https://vendor.example/apt", "nodistro", ("main",)),
        Archive("http://m.example/debian", "bookworm", ("main", "contrib")),
        Archive("http://m.example/debian", "bookworm-updates", ("main",)),
        Archive("http://m.example/security", "bookworm-security", ("main",)),
        Archive("http://m.example/debian", "bookworm-backports", ("main",)),
    ]
    assert [archive.line for archive in debian_archives(found, BOOKWORM)] == [
        "deb http://m.example/debian bookworm main",
        "deb http://m.example/debian bookworm-updates main",
        "deb http://m.example/security bookworm-security main",
    ]


def test_newer_debian_serves_bookworm_from_its_own_mirror() -> None:
    """A Debian 13 machine's mirror carries bookworm too."""
    found = [Archive("http://m.example/debian", "trixie", ("main",))]
    release = {"ID": "debian", "VERSION_CODENAME": "trixie"}
    assert debian_archives(found, release) == (Archive("http://m.example/debian", "bookworm", ("main",)),)


def test_ubuntu_mirror_is_not_taken_for_debian() -> None:
    """Elsewhere debootstrap's own default mirror serves."""
    found = [Archive("http://m.example/ubuntu", "noble", ("main",))]
    assert debian_archives(found, {"ID": "ubuntu", "VERSION_CODENAME": "noble"}) == ()


def test_os_release(tmp_path: Path) -> None:
    """Quotes are dropped; a machine without the file says nothing."""
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert os_release(tmp_path / "os-release") == BOOKWORM
    assert os_release(tmp_path / "absent") == {}
