"""
The page for people: who is there, what was sent, which tokens are live, and what to try.

It works without JavaScript, loads nothing from elsewhere, and escapes all that it shows: names,
texts and paths come from whoever calls the sandbox.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from watchword.domain.binding import Binding
from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone, Pin, PublicKey
from watchword.domain.instant import Instant, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserSecurity
from watchword.methods.phone import obfuscated
from watchword.sandbox.clock import iso
from watchword.sandbox.outbox import KEPT, Sent
from watchword.sandbox.people import DEMO, DEMO_APPLICATION
from watchword.sandbox.tokens import state_of
from watchword.sandbox.world import World

SHOWN = 50
"""How many rows of each table are shown; the newest are, and the demo people always."""

_HERE = files("watchword.sandbox")
_TEMPLATE = Template(_HERE.joinpath("page.html").read_text(encoding="utf-8"))
_STYLE = _HERE.joinpath("page.css").read_text(encoding="utf-8")
_SCRIPT = _HERE.joinpath("page.js").read_text(encoding="utf-8")
_EXAMPLES = _HERE.joinpath("examples.sh").read_text(encoding="utf-8")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_NOTHING = '<span class="soft">—</span>'
_FALLBACK_HOST = "127.0.0.1:8000"


def source(text: str) -> str:
    """Name an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {source(_STYLE)}",
        f"script-src {source(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may do: run its own script and style, and ask this server for itself."""


def origin_of(host: str) -> str:
    """Return the origin that a ``Host`` header names; that of the README if there is anything odd in it."""
    return f"http://{host if _HOST.fullmatch(host) else _FALLBACK_HOST}"


async def page(world: World, *, host: str) -> str:
    """
    Write the page.

    Args:
        host: The ``Host`` header, for the commands to try; anything odd in it is not used.
    """
    now = world.engine.clock.now()
    profiles = world.people.profiles()
    users = [
        (await world.engine.store.user(user_id) or UserSecurity(id=user_id), profiles[user_id])
        for user_id in [*list(profiles)[: len(DEMO)], *list(profiles)[len(DEMO) :][-SHOWN:]]
    ]
    tokens = await _live_tokens(world, [user for user, _ in users], now)
    return _TEMPLATE.substitute(
        style=_STYLE,
        script=_SCRIPT,
        now=escape(iso(now)),
        people=_people(world, users, now) + _left_out(len(profiles) - len(users)),
        outbox=_outbox(world.outbox.latest(SHOWN)),
        tokens=_tokens(world, tokens, now),
        executions=_executions(world.executions()),
        examples=_examples(origin_of(host)),
    )


async def _live_tokens(world: World, users: Iterable[UserSecurity], now: Instant) -> list[OneTimeToken]:
    """Find the tokens that are open, newest first."""
    limits = world.engine.limits
    found = [
        await world.engine.store.token(TokenId(entry.id)) for user in users for entry in user.still_open(now)
    ]
    live = [token for token in found if token is not None and token.is_open(limits=limits, now=now)]
    return sorted(live, key=lambda token: token.issued_at, reverse=True)[:SHOWN]


# --- tables: every cell is HTML already -------------------------------------------------------


def _people(world: World, users: Sequence[tuple[UserSecurity, tuple[int, ...]]], now: Instant) -> str:
    demo = {new.user_id: new.token for new in DEMO}
    rows = [
        (
            f"<code>{escape(demo[user.id])}</code>"
            if user.id in demo
            else '<span class="soft">the one you gave</span>',
            str(user.id),
            escape(", ".join(map(str, profiles))),
            _list(_enrolled(world, user)) or _NOTHING,
            _list(_condition(user, world.engine.limits, now)) or _NOTHING,
        )
        for user, profiles in users
    ]
    rows.append(
        (
            f"<code>{DEMO_APPLICATION}</code>",
            '<span class="soft">client credentials</span>',
            _NOTHING,
            _NOTHING,
            _NOTHING,
        )
    )
    return _table("People", ("Bearer token", "User", "Profiles", "Enrolled", "State"), rows)


def _left_out(users: int) -> str:
    return f'<p class="soft">And {users} more, whose tokens are not listed below either.</p>' if users else ""


def _enrolled(world: World, user: UserSecurity) -> Iterator[str]:
    for credential in user.credentials:
        name = _credential(world, user, credential)
        yield f"{name}, disabled" if credential.disabled else name


def _credential(world: World, user: UserSecurity, credential: Credential) -> str:
    match credential:
        case Pin():
            return "PIN"
        case Phone():
            number = world.engine.methods.phone[Method.SMS].number(user.id, credential)
            return f"phone <code>{escape(obfuscated(number))}</code>"
        case DeviceFingerprint():
            return "device fingerprint"
        case FaceMap():
            return "face map"
        case PublicKey():
            return "public key"


def _condition(user: UserSecurity, limits: Limits, now: Instant) -> Iterator[str]:
    if user.attempts.is_locked(now):
        yield f"locked for {seconds_until(user.attempts.locked_until, now)}&nbsp;s"
    if until := user.session(limits=limits, now=now):
        yield f"in session for {seconds_until(until, now)}&nbsp;s"


def _outbox(newest: Sequence[Sent]) -> str:
    if not newest:
        return '<p class="soft">Nothing yet. What a trigger sends lands here.</p>'
    rows = [
        (
            f"<time>{escape(iso(sent.at))}</time>",
            escape(sent.message.channel),
            str(sent.message.user_id),
            f"<code>{escape(sent.message.to)}</code>",
            escape(sent.message.text),
        )
        for sent in newest
    ]
    table = _table("Outbox", ("Sent", "Channel", "User", "To", "Text"), rows)
    kept = f"The newest {SHOWN}. The last {KEPT} of all users together are kept, in memory only."
    return f'{table}<p class="soft">{kept}</p>'


def _tokens(world: World, tokens: Sequence[OneTimeToken], now: Instant) -> str:
    if not tokens:
        return '<p class="soft">None. A protected call that is refused brings one.</p>'
    limits = world.engine.limits
    rows = [
        (
            _ott(world.entropy.ott(token.id), token.binding),
            str(token.user_id),
            escape(token.action),
            _list(_challenges(token)),
            escape(state_of(token, limits=limits, now=now)),
            f"{seconds_until(token.good_until(limits), now)}&nbsp;s",
        )
        for token in tokens
    ]
    return _table("Tokens", ("OTT", "User", "Action", "Challenges", "State", "Left"), rows)


def _ott(ott: str | None, issued_for: Binding) -> str:
    shown = '<span class="soft">no longer remembered</span>' if ott is None else f"<code>{escape(ott)}</code>"
    request = escape(f"{issued_for.method} {issued_for.path}")
    return f'{shown}<p class="soft">for <code>{request}</code></p>'


def _challenges(token: OneTimeToken) -> Iterator[str]:
    for challenge in token.challenges:
        if challenge.passed_by is not None:
            yield f'<span class="passed">✓ passed by {escape(challenge.passed_by)}</span>'
        else:
            yield escape(" or ".join(challenge.methods))


def _executions(counts: Mapping[str, int]) -> str:
    rows = [(f"<code>{escape(action)}</code>", str(count)) for action, count in sorted(counts.items())]
    return _table("Executions", ("Action", "Runs"), rows)


def _table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    # Wide tables scroll by themselves; whoever has no mouse must be able to focus what scrolls.
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _list(entries: Iterable[str]) -> str:
    items = "".join(f"<li>{entry}</li>" for entry in entries)
    return f"<ul>{items}</ul>" if items else ""


# --- what to try ------------------------------------------------------------------------------


def _examples(origin: str) -> str:
    parts = [f"<p>In a shell:</p>{_code(f'BANK={origin}')}"]
    for example in _EXAMPLES.strip().split("\n\n"):
        title, commands = example.split("\n", maxsplit=1)
        parts.append(f"<h3>{escape(title.removeprefix('# '))}</h3>{_code(commands)}")
    return "".join(parts)


def _code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'
