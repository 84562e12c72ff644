"""A model hub, asked from the operator's machine: which commit, which files, and where a host may fetch them.

The token is sent to the hub itself and to nobody else. A host gets addresses instead: the hub answers a request for a
large file by sending the asker on to its store, with an address that is signed for a while and needs no token.
Three kinds of question in plain HTTP need no client library, and what waits or is refused is said in our own words.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit

from heavylift.errors import WeightsError
from heavylift.onhost.lane import REDIRECTS, wait_s
from heavylift.weights.select import RemoteFile

__all__ = ["ENDPOINT", "Hub", "UnreachableError", "find_token"]

ENDPOINT = "https://huggingface.co"
TRIES = 5
TIMEOUT_S = 20.0
LARGEST_READ = 64 << 20  # of one file that is read here; git refuses larger ones than 10 MB on the hub
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


class UnreachableError(WeightsError):
    """The hub does not answer at all; hosts may have the files all the same."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Message
    body: bytes
    url: str


class _Stay(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to us: where they lead decides whether the token may go along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Follow nothing."""


class Hub:
    """One hub or mirror. `report` is told about waits; `pause` waits."""

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        token: str | None = None,
        *,
        report: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.name = urlsplit(self.endpoint).netloc
        self._token, self._report, self._pause = token, report, pause
        self._opener = urllib.request.build_opener(_Stay)
        if urlsplit(self.endpoint).scheme not in {"http", "https"}:
            raise WeightsError(f"HF_ENDPOINT: should begin with https://, got {endpoint!r}")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, *, report: Callable[[str], None] = lambda _: None
    ) -> Hub:
        """Return the hub of `HF_ENDPOINT` with the token of `HF_TOKEN`, or of the file that `hf auth login` writes."""
        return cls(environment.get("HF_ENDPOINT") or ENDPOINT, find_token(environment), report=report)

    def commit(self, repo: str, revision: str) -> str:
        """Return the commit that a branch, tag or commit means today."""
        answer = self._get(f"/api/models/{repo}/revision/{quote(revision, safe='')}", repo, revision)
        found = str(_json(answer).get("sha", ""))
        if not _SHA1.fullmatch(found):
            raise WeightsError(f"{self.name}: tells no commit for {repo} at {revision!r}")
        return found

    def tree(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """List all files of a commit, by path."""
        url: str | None = f"/api/models/{repo}/tree/{commit}?recursive=true"
        rows: list[Any] = []
        while url:
            answer = self._get(url, repo, commit)
            rows += _json(answer)
            url = _next_page(answer)
        files = [self._file(row, repo) for row in rows if row.get("type") == "file"]
        return tuple(sorted(files, key=lambda file: file.path))

    def read(self, repo: str, commit: str, file: RemoteFile) -> bytes:
        """Return a small file's content, proven by its digest; a wrong one is fetched once more."""
        if file.size > LARGEST_READ:
            raise WeightsError(f"{repo}: {file.path} has {file.size} bytes; a file of that kind is not read here")
        for _ in range(2):
            answer = self._get(self._resolve(repo, commit, file.path), repo, commit, away=True)
            if file.is_content(answer.body):
                return answer.body
        wanted = file.sha256 or file.git or ""
        raise WeightsError(
            f"{file.path}: not the content of {wanted[:12]}… that the hub lists, fetched twice; try another origin"
        )

    def address(self, repo: str, commit: str, file: RemoteFile) -> str:
        """Return where anybody may fetch a file for a while; raise where the hub has another file than it listed."""
        url = self._resolve(repo, commit, file.path)
        answer = self._get(url, repo, commit, method="HEAD")
        headers = answer.headers
        there = headers.get("X-Repo-Commit") or commit
        if there != commit:
            raise WeightsError(
                f"{self.name}: sends {file.path} of commit {there[:12]}…, wanted is {commit[:12]}…; try another origin"
            )
        size = headers.get("X-Linked-Size") or (None if answer.status in REDIRECTS else headers.get("Content-Length"))
        if size is not None and int(size) != file.size:
            raise WeightsError(
                f"{file.path}: {size} bytes at {self.name}, its list says {file.size}; try another origin"
            )
        return urljoin(answer.url, headers["Location"]) if answer.status in REDIRECTS else answer.url

    def _resolve(self, repo: str, commit: str, path: str) -> str:
        return f"/{repo}/resolve/{commit}/{quote(path)}"

    def _file(self, row: dict[str, Any], repo: str) -> RemoteFile:
        stored = row.get("lfs") or {}
        sha256, git = stored.get("oid"), row.get("oid")
        if stored and not _SHA256.fullmatch(str(sha256)):  # shown as asterisks to those who may not read it
            raise WeightsError(f"model/repo: {repo} is gated: the hub hides digests; {self._way_in(repo)}")
        if not stored and (row.get("xetHash") or not _SHA1.fullmatch(str(git))):
            raise WeightsError(f"{repo}: {row.get('path')} has no sha256 at {self.name}, so it cannot be proven whole")
        return RemoteFile(str(row["path"]), int(row["size"]), sha256, None if stored else git)

    def _get(self, url: str, repo: str, revision: str, *, method: str = "GET", away: bool = False) -> _Answer:
        """Ask, and follow redirects that stay with the hub; those that lead `away` from it only without the token."""
        url = urljoin(f"{self.endpoint}/", url.removeprefix("/"))
        for _ in range(6):
            if urlsplit(url).scheme not in {"http", "https"}:
                raise WeightsError(
                    f"{self.name}: leads to {urlsplit(url).scheme}: for {repo}; nothing but http is followed"
                )
            answer = self._patiently(method, url)
            if answer.status not in REDIRECTS:
                if answer.status != 200:
                    raise self._refusal(answer, repo, revision)
                return answer
            target = urljoin(url, answer.headers.get("Location") or "")
            if not self._is_own(target) and not away:
                return answer
            url = target
        raise WeightsError(f"{self.name}: sends from one address to the next for {repo}")

    def _patiently(self, method: str, url: str) -> _Answer:
        for attempt in range(TRIES + 1):
            usual = min(2.0**attempt, 8.0)
            try:
                answer = self._once(method, url)
            except OSError as error:
                reason = getattr(error, "reason", None) or error
                if attempt == TRIES or isinstance(reason, ConnectionRefusedError):
                    hint = "check the connection, a proxy, or HF_ENDPOINT"
                    raise UnreachableError(f"{urlsplit(url).netloc}: cannot be reached ({reason})", hint=hint) from None
                said, pause = str(reason), usual
            else:
                if answer.status not in {408, 429, 500, 502, 503, 504} or attempt == TRIES:
                    return answer
                left = "429, no calls left" if answer.status == 429 else str(answer.status)
                said, pause = left, wait_s(answer.headers) or usual
            self._report(f"hub: {said}; waiting {pause:g} s ({attempt + 1} of {TRIES})")
            self._pause(pause)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, method: str, url: str) -> _Answer:
        headers = {"Accept-Encoding": "identity", "User-Agent": "heavylift"}
        if self._token and self._is_own(url):
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310  http or https: checked above
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return _Answer(response.status, response.headers, response.read(LARGEST_READ + 1), url)
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, error.headers, b"" if error.code in REDIRECTS else error.read(500), url)

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

    def _refusal(self, answer: _Answer, repo: str, revision: str) -> WeightsError:
        code, status = answer.headers.get("X-Error-Code") or "", answer.status
        said = answer.headers.get("X-Error-Message") or ""
        if status == 429:
            return WeightsError("hub: 429, no calls left, five times in a row; run the same command again later")
        if code == "RevisionNotFound":
            return WeightsError(
                f"model/revision: {repo} has no {revision}", hint="copy the commit from the repository's history"
            )
        if status == 401 and self._token and "Invalid" in said:
            return WeightsError(
                f"{self.name}: refuses the token (401)", hint="`hf auth login` again, or set HF_TOKEN anew"
            )
        if code == "GatedRepo" or status in {401, 403}:
            return WeightsError(f"model/repo: {repo} is gated or private ({status}); {self._way_in(repo)}")
        if status == 404:
            return WeightsError(
                f"model/repo: {repo} is not at {self.name} (404)",
                hint="is its name right? a private one needs HF_TOKEN",
            )
        return WeightsError(f"{self.name}: answers {status} for {repo} {said}".rstrip())

    def _way_in(self, repo: str) -> str:
        licence = f"accept its licence at {self.endpoint}/{repo}"
        return f"{licence} with the account of this token" if self._token else f"{licence} and set HF_TOKEN"


def find_token(environment: Mapping[str, str]) -> str | None:
    """Return the hub's token: from `HF_TOKEN`, else from the file that `hf auth login` writes; None without one."""
    value = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN")
    if not value:
        cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        home = environment.get("HF_HOME") or f"{cache}/huggingface"
        try:
            value = Path(environment.get("HF_TOKEN_PATH") or f"{home}/token").expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
    token = value.strip()
    if any(ord(character) < 33 or ord(character) > 126 for character in token):
        raise WeightsError("HF_TOKEN: holds blanks or letters that no token has; copy it again")
    return token or None


def _json(answer: _Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        where = urlsplit(answer.url).netloc
        raise WeightsError(
            f"{where}: sends no JSON", hint="is HF_ENDPOINT a hub? a proxy's login page answers like this"
        ) from None


def _next_page(answer: _Answer) -> str | None:
    found = re.search(r'<([^>]+)>\s*;\s*rel="next"', answer.headers.get("Link") or "")
    return urljoin(answer.url, found[1]) if found else None
