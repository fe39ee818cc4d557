"""Large files over HTTP: resumed after a drop, checked before they get their name.

`download` writes `TARGET.part` and, beside it, `TARGET.part.json` with what the server said of the
file. A later call goes on where the last one ended if the server still has the same file.
"""

import hashlib
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seedfold import __version__
from seedfold.data_pipeline.errors import InputError

CHUNK = 1 << 20
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and, where known, all of them."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the file must be: its size, its checksum, its first bytes; empty = not known."""

    size: int | None = None
    sha256: str | None = None
    magic: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Tries without a new byte before giving up, seconds of silence, seconds before a retry."""

    tries: int = 5
    silence: float = 30.0
    pause: float = 1.0


class _DroppedError(Exception):
    """The connection ended early; what came is kept and the rest is asked for again."""


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """A file on a server: what tells it from another one under the same address."""

    url: str
    total: int | None
    validator: str


def mirrored(url: str) -> str:
    """`url` at the host that SEEDFOLD_MIRROR names, if it is set.

    Raises:
        InputError: if the variable holds no address.
    """
    mirror = os.environ.get("SEEDFOLD_MIRROR", "").rstrip("/")
    if not mirror:
        return url
    if urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
        raise InputError(
            "SEEDFOLD_MIRROR", repr(mirror), expected="an address, e.g. https://mirror.example.org"
        )
    return mirror + urllib.parse.urlsplit(url).path


def download(
    url: str,
    target: Path,
    check: Check | None = None,
    progress: Progress = lambda done, total: None,
    patience: Patience | None = None,
) -> Path:
    """Fetches `url` into `target`, the whole file or nothing.

    Raises:
        InputError: if the server has no such file, sends another one than expected, stays silent
            or cannot be reached, or if the disk is full.
    """
    check, patience = check or Check(), patience or Patience()
    part = target.with_name(target.name + ".part")
    best, failures = part.stat().st_size if part.exists() else 0, 0
    while True:
        try:
            _fetch(url, part, check, progress, patience)
            break
        except (OSError, http.client.HTTPException, _DroppedError) as error:
            size = part.stat().st_size if part.exists() else 0
            failures = 0 if size > best else failures + 1
            best = max(best, size)
            if failures >= patience.tries or not (_temporary(error) and (best or _found(error))):
                raise InputError(url, _reason(error), todo=_advice(error, part)) from error
        time.sleep(patience.pause * 2 ** max(0, failures - 1))
    _check_whole(url, part, check)
    os.replace(part, target)
    _note(part).unlink(missing_ok=True)
    return target


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _fetch(url: str, part: Path, check: Check, progress: Progress, patience: Patience) -> None:
    """One connection: from the end of `part` to the end of the file."""
    remote = _remembered(url, part)
    offset = part.stat().st_size if remote and part.exists() else 0
    if remote and offset and offset == remote.total:
        return
    headers = {"User-Agent": f"seedfold/{__version__}", "Accept-Encoding": "identity"}
    if remote and offset:
        headers["Range"] = f"bytes={offset}-"
        if remote.validator:
            headers["If-Range"] = remote.validator
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=patience.silence)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise _DroppedError("the server has a shorter file than before") from error
        raise
    with response:
        offset, remote = _start(url, response, remote, offset)
        _check_start(url, response, remote, check)
        _save(part, remote, offset)
        _copy(response, part, offset, remote, check, progress)


def _start(url: str, response: Any, known: _Remote | None, offset: int) -> tuple[int, _Remote]:
    """Where the body begins in the file, and which file it is."""
    headers = response.headers
    validator = headers.get("ETag") or headers.get("Last-Modified") or ""
    if validator.startswith("W/"):
        validator = ""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
        same = found and known and int(found[1]) == offset and int(found[2]) == known.total
        if found and same:
            return offset, _Remote(url=url, total=int(found[2]), validator=validator)
        raise InputError(url, "the server answered for another part of the file than asked for")
    length = headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    return 0, _Remote(url=url, total=total, validator=validator)


def _check_start(url: str, response: Any, remote: _Remote, check: Check) -> None:
    """Refuses a wrong file before gigabytes of it have come."""
    kind = response.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise InputError(url, "a web page, no file", todo=_ELSEWHERE)
    if check.size and remote.total is not None and remote.total != check.size:
        raise InputError(
            url, f"{remote.total} bytes", expected=f"{check.size} bytes", todo=_ELSEWHERE
        )


def _copy(
    response: Any, part: Path, offset: int, remote: _Remote, check: Check, progress: Progress
) -> None:
    with part.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        while data := response.read1(CHUNK):
            if offset == 0 and not data.startswith(check.magic[: len(data)]):
                file.close()
                _forget(part)
                raise InputError(
                    remote.url, "a file of another kind, or a web page", todo=_ELSEWHERE
                )
            _write(file, data, part)
            offset += len(data)
            progress(offset, remote.total)
    if remote.total is not None and offset < remote.total:
        raise _DroppedError(f"the connection ended after {offset} of {remote.total} bytes")


def _write(file: Any, data: bytes, part: Path) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise InputError(
            str(part), f"cannot be written ({error.strerror})", todo="make room; the rest resumes"
        ) from error


def _save(part: Path, remote: _Remote, offset: int) -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if not offset:
            part.unlink(missing_ok=True)
        _note(part).write_text(json.dumps(asdict(remote)))
    except OSError as error:
        raise InputError(str(part), f"cannot be written ({error.strerror})") from error


def _remembered(url: str, part: Path) -> _Remote | None:
    """What `part` is a part of; None if that is another address or not known."""
    try:
        remote = _Remote(**json.loads(_note(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return remote if remote.url == url and remote.total is not None else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _check_whole(url: str, part: Path, check: Check) -> None:
    size = part.stat().st_size
    if check.size and size != check.size:
        _forget(part)
        raise InputError(url, f"{size} bytes", expected=f"{check.size} bytes", todo=_ELSEWHERE)
    if check.sha256 and (found := sha256_of(part)) != check.sha256:
        _forget(part)
        raise InputError(url, f"sha256 {found}", expected=f"{check.sha256}; the file was discarded")


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_ELSEWHERE = "it is not what the authors publish; check the network (a log-in page?) or the mirror"


def _temporary(error: Exception) -> bool:
    return not isinstance(error, urllib.error.HTTPError) or error.code in _TRY_AGAIN


def _found(error: Exception) -> bool:
    """Whether the name of the server could be looked up: without a network it cannot."""
    return not isinstance(getattr(error, "reason", None), socket.gaierror)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, TimeoutError):
        return "the server stays silent"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    return str(error) or type(error).__name__


def _advice(error: Exception, part: Path) -> str:
    if isinstance(error, urllib.error.HTTPError) and not _temporary(error):
        return "the file may have moved"
    kept = part.stat().st_size if part.exists() else 0
    return f"{kept / 1e6:.1f} MB are kept; call again to go on" if kept else "try again later"
