"""
``watchword doctor``: looks at everything that ``serve`` would run with, and says what to do.

It changes nothing that lasts: no schema is upgraded, no message is sent, no face is asked about.
"""

import asyncio
import os
import shutil
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import msgspec

from watchword.auth.egress import Egress, EgressError
from watchword.auth.keys import IssuerKeys
from watchword.auth.settings import IntrospectionTable, IssuerTable, SecretFileError, read_secrets
from watchword.config import ConfigError
from watchword.domain.instant import Instant, after
from watchword.engine.ports import SystemClock
from watchword.engine.principal import AuthenticatorUnavailableError
from watchword.serving.keys import ForeignKeysError, UnusableKeysError, check_ring, read_keyring
from watchword.serving.refusals import of_the_file, refusals
from watchword.serving.settings import Deployment, UnusableDeploymentError, load
from watchword.serving.stores import open_store, pending_steps
from watchword.store.base import StoreUnavailableError
from watchword.store.codec import decode_event
from watchword.store.sqlite import migrations

CONNECT_SECONDS = 3.0
FREE_BYTES_MIN = 200 * 1024 * 1024
FLUSH_SECONDS_MAX = 0.25
# No machine that runs this lives before it was written: 2026-01-01T00:00:00Z.
_WRITTEN = Instant(1_767_225_600_000)
_AHEAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one look found.

    Attributes:
        check: What was looked at.
        found: What there is.
        advice: What to do about it; None where all is well.
    """

    check: str
    found: str
    advice: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return self.advice is None


def run_doctor(config: Path, *, as_json: bool = False) -> bool:
    """Look at everything, print what was found, and tell whether all is well."""
    findings = asyncio.run(examine(config))
    well = all(finding.ok for finding in findings)
    if as_json:
        checks = [
            {"check": each.check, "ok": each.ok, "found": each.found, "advice": each.advice}
            for each in findings
        ]
        print(msgspec.json.encode({"ok": well, "checks": checks}).decode())  # noqa: T201 - it was asked for.
        return well
    for each in findings:
        print(f"{'ok   ' if each.ok else 'WRONG'} {each.check}: {each.found}")  # noqa: T201 - as above.
        if each.advice is not None:
            print(f"      {each.advice}")  # noqa: T201 - as above.
    return well


async def examine(config: Path) -> list[Finding]:
    """Look at everything."""
    try:
        deployment, mistakes = load(config)
    except ConfigError as error:
        return [Finding("configuration", str(config), mistake) for mistake in error.mistakes]
    mistakes = [*mistakes, *of_the_file(config, deployment), *refusals(deployment)]
    findings = [Finding("configuration", str(config), mistake) for mistake in mistakes]
    if not mistakes:
        findings.append(Finding("configuration", f"{config} can be served"))
    if deployment.app is not None:
        targets = filter(None, (deployment.app.target, deployment.app.describe))
        modules = dict.fromkeys(target.partition(":")[0] for target in targets)
        findings += (_application(module, deployment.folder) for module in modules)
    findings += _keys(deployment)
    findings += await _store(deployment)
    async with Egress() as egress:
        for issuer in deployment.issuers:
            findings.append(await _issuer(issuer, egress))
        if deployment.introspection is not None:
            findings.append(await _introspection(deployment.introspection, deployment.folder, egress))
    if deployment.delivery is not None:
        findings.append(await _reachable("delivery", deployment.delivery.webhook))
    else:
        findings.append(Finding("delivery", "there is none, so that no codes are offered"))
    if deployment.face is not None and deployment.face.url is not None:
        findings.append(await _reachable("faces", deployment.face.url))
    findings += _page(deployment, mistakes)
    findings.append(_clock(deployment))
    return findings


def _page(deployment: Deployment, mistakes: list[str]) -> Iterator[Finding]:
    """Say where the approval page is, and who may open it; what was refused is not called well."""
    page, told = deployment.page, "in a frame, and told how it ended: "
    if not any(mistake.startswith(("page:", "page.")) for mistake in mistakes):
        if page.origin is None:
            yield Finding("page", "page.origin is not set, so that no code is bound to where it may be typed")
        else:
            yield Finding("page", f"codes are for {page.origin}")
        if page.openers:
            yield Finding("openers", f"{told}{', '.join(page.openers)}")
        else:
            yield Finding("openers", _NOBODY)
    if any(mistake.startswith("applications") for mistake in mistakes):
        return
    for application in deployment.applications:
        if application.openers is not None:
            openers = ", ".join(application.openers)
            yield Finding(f"openers of {application.id}", f"{told}{openers}" if openers else _NOBODY)


_NOBODY = "there are none: the page opens as a window of its own, and tells nobody"


def _application(module: str, folder: Path) -> Finding:
    """Look for the module, without running it: that is for the process that serves it."""
    top = module.partition(".")[0]
    if PathFinder.find_spec(top, [str(folder), *sys.path]) is None:
        advice = f"install it where this command is, or put it into {folder}"
        return Finding("application", f"there is no module {top}", advice)
    return Finding("application", f"{module} is there; what is in it is looked at by `watchword serve`")


def _keys(deployment: Deployment) -> Iterator[Finding]:
    try:
        read_keyring(deployment.key_file)
    except UnusableKeysError as error:
        yield Finding("keys", str(deployment.key_file), f"{error}: put it back")
    else:
        yield Finding("keys", f"{deployment.key_file} can be used")


# --- the store ----------------------------------------------------------------------------------


async def _store(deployment: Deployment) -> list[Finding]:
    file = deployment.store_file
    if file is None:
        return await _server(deployment)
    findings = list(_disk(file.parent))
    if not file.exists():
        return [*findings, Finding("store", f"{file} is not there yet; the first start makes it")]
    try:
        behind = _steps_behind(file)
    except sqlite3.Error as error:
        advice = "restore it from a backup, or name another file in store.path"
        return [*findings, Finding("store", f"{file}: {error}", advice)]
    if behind:
        return [*findings, Finding("store", f"{file}: the next start upgrades its schema, {behind} steps")]
    return [*findings, *await _opens(deployment, str(file))]


async def _server(deployment: Deployment) -> list[Finding]:
    shown = deployment.store_shown
    try:
        steps = await pending_steps(deployment)
    except (UnusableDeploymentError, SecretFileError) as error:
        return [Finding("store", shown, str(error))]
    if steps:
        return [Finding("store", f"{shown}: the next start upgrades its schema, {len(steps)} steps")]
    return await _opens(deployment, shown)


async def _opens(deployment: Deployment, shown: str) -> list[Finding]:
    """Open the store as a start would, but for its schema, and look whether it was made with our keys."""
    try:
        store = await open_store(deployment, migrate=False)
    except (UnusableDeploymentError, SecretFileError) as error:
        return [Finding("store", shown, str(error))]
    findings: list[Finding] = []
    try:
        await store.ping()
        findings.append(Finding("store", f"{shown} opens and can be written, its schema is the newest"))
        await check_ring(store, read_keyring(deployment.key_file))
        findings.append(Finding("keys and store", "what is stored opens with these keys"))
    except StoreUnavailableError as error:
        findings.append(Finding("store", shown, str(error)))
    except (ForeignKeysError, UnusableKeysError) as error:
        findings.append(Finding("keys and store", str(deployment.key_file), str(error)))
    finally:
        await store.close()
    return findings


def _steps_behind(file: Path) -> int:
    with closing(_reading(file)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return max(0, len(migrations()) - version)


def _disk(folder: Path) -> Iterator[Finding]:
    try:
        seconds = _seconds_of_a_flush(folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        advice = f"make {folder} a directory that this user may write to"
        yield Finding("disk", f"{folder}: {error.strerror or error}", advice)
        return
    shown = f"{folder}: a flush takes {seconds * 1000:.1f} ms"
    slow = "use a faster disk: a step-up waits for four flushes"
    yield Finding("disk", shown, slow if seconds > FLUSH_SECONDS_MAX else None)
    space = f"{folder}: {free // 1024**2} MiB free"
    yield Finding(
        "space", space, "make room: a full disk lets nobody through" if free < FREE_BYTES_MIN else None
    )


def _seconds_of_a_flush(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"watchword")
        began = perf_counter()
        file.flush()
        os.fsync(file.fileno())
        return perf_counter() - began


# --- others -------------------------------------------------------------------------------------


async def _issuer(table: IssuerTable, egress: Egress) -> Finding:
    check = f"issuer {table.issuer}"
    url = table.jwks_url or f"{table.issuer.removesuffix('/')}/.well-known/openid-configuration"
    try:
        await egress.get(url)
    except EgressError as error:
        advice = "is the issuer up, and the way to it open? Until then its users get 503"
        return Finding(check, f"{_shown(url)}: {error}", advice)
    keys = IssuerKeys(table.issuer, egress, SystemClock(), url=table.jwks_url)
    found: set[str] = set()
    try:
        for algorithm in table.algorithms:
            found |= {each.kid or "without an id" for each in await keys.fitting(None, algorithm)}
    except AuthenticatorUnavailableError:
        advice = "issuer must be as the discovery document has it; else name the key set in jwks_url"
        return Finding(check, f"{_shown(url)} answers, but its keys cannot be had", advice)
    if not found:
        advice = f"no key fits algorithms = {list(table.algorithms)}: list those that the issuer signs with"
        return Finding(check, "its keys are others", advice)
    return Finding(check, f"{len(found)} keys")


async def _introspection(table: IntrospectionTable, folder: Path, egress: Egress) -> Finding:
    check = f"introspection {_shown(table.url)}"
    try:
        secret = read_secrets(folder / table.client_secret_file)[0]
        await egress.post(table.url, {"token": "of-the-doctor"}, user=table.client_id, password=secret)
    except SecretFileError as error:
        return Finding(check, "not asked", str(error))
    except EgressError as error:
        advice = "are url, client_id and the secret those that the issuer knows?"
        return Finding(check, str(error), advice)
    return Finding(check, "answers")


async def _reachable(check: str, url: str) -> Finding:
    """Connect, and say nothing: a message that nobody asked for would cost money."""
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if context is not None else 80)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
            writer.close()
    except TimeoutError:
        return Finding(check, f"{_shown(url)}: no connection within {CONNECT_SECONDS:g} s", _WAY)
    except OSError as error:
        return Finding(check, f"{_shown(url)}: {error.strerror or error}", _WAY)
    return Finding(check, f"{_shown(url)} can be connected to")


def _shown(url: str) -> str:
    """Return a URL for people to see: some have a key in their query."""
    return url.partition("?")[0]


_WAY = "is it up, and the way to it open?"


def _clock(deployment: Deployment) -> Finding:
    now = SystemClock().now()
    advice = "set this machine's clock, and let NTP keep it: what expires goes by it"
    if now < _WRITTEN:
        return Finding("clock", "years behind", advice)
    last = None if deployment.store_file is None else _last_event(deployment.store_file)
    if last is None:
        return Finding("clock", "there is no earlier moment to compare it with")
    if last > after(now, _AHEAD_SECONDS):
        return Finding("clock", f"{(last - now) // 1000} s behind the last event of the store", advice)
    return Finding("clock", "after the last event of the store")


def _last_event(file: Path) -> Instant | None:
    try:
        with closing(_reading(file)) as connection:
            found = connection.execute("SELECT body FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return None if found is None else decode_event(found[0]).at
    except (sqlite3.Error, StoreUnavailableError):
        return None  # What is wrong with the store is said of the store.


def _reading(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
