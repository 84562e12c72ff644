"""What this machine's own apt configuration says: which archives it uses, and where Debian comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["SUITE", "Archive", "archives", "debian_archives", "os_release", "parse_lines", "parse_stanzas"]

SUITE = "bookworm"
FOLDER = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
ON = {"yes", "true", "1", "on", "enable", "with"}  # how apt spells true


@dataclass(frozen=True, slots=True)
class Archive:
    """One binary archive: an address, one suite and its components."""

    uri: str
    suite: str
    components: tuple[str, ...]

    @property
    def line(self) -> str:
        """The entry for a sources.list."""
        return f"deb {self.uri} {self.suite} {' '.join(self.components)}".rstrip()


def archives(folder: Path = FOLDER) -> tuple[Archive, ...]:
    """List the machine's enabled binary archives in apt's own order of files."""
    found: list[Archive] = []
    for file in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        if file.suffix == ".list" and file.is_file():
            found += parse_lines(file.read_text(encoding="utf-8", errors="replace"))
        elif file.suffix == ".sources" and file.is_file():
            found += parse_stanzas(file.read_text(encoding="utf-8", errors="replace"))
    return tuple(archive for archive in found if urlsplit(archive.uri).scheme in {"http", "https"})


def parse_lines(text: str) -> list[Archive]:
    """Read the one-line format: `deb [options] uri suite component…`."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            end = next((index for index, word in enumerate(rest) if word.endswith("]")), len(rest) - 1)
            rest = rest[end + 1 :]
        if len(rest) >= 2:
            found.append(Archive(rest[0].rstrip("/"), rest[1], tuple(rest[2:])))
    return found


def parse_stanzas(text: str) -> list[Archive]:
    """Read the deb822 format: stanzas of `Types`, `URIs`, `Suites`, `Components`."""
    found = []
    for fields in _stanzas(text.splitlines()):
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() not in ON:
            continue
        found += [
            Archive(uri.rstrip("/"), suite, tuple(fields.get("components", "").split()))
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return found


def debian_archives(found: Iterable[Archive], release: dict[str, str]) -> tuple[Archive, ...]:
    """Choose the archives for a bookworm host: the machine's main one first, then its updates and security.

    A Debian machine of any release names a mirror that carries bookworm too. Elsewhere the answer is empty, and
    debootstrap's own default mirror serves.
    """
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        return ()
    with_main = [archive for archive in found if "main" in archive.components]
    main = next((archive for archive in with_main if archive.suite == codename), None)
    if main is None:
        return ()
    chosen = [Archive(main.uri, SUITE, ("main",))]
    for archive in with_main:
        head, _, tail = archive.suite.replace("/", "-").partition("-")
        if head == codename and tail in {"updates", "security"}:
            chosen.append(Archive(archive.uri, f"{SUITE}-{tail}", ("main",)))
    return tuple(dict.fromkeys(chosen))


def os_release(path: Path = OS_RELEASE) -> dict[str, str]:
    """Read os-release: which distribution this machine is."""
    if not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def _stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    key = ""
    for line in [*lines, ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, key = {}, ""
        elif line[0].isspace():
            fields[key] = f"{fields.get(key, '')} {line.strip()}"
        else:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            fields[key] = value.strip()
