"""
The verbs of a one-time token: functions of records, facts and the time.

The whole table of state and verb, where ``-`` refuses:

=========  =======  ========  =========  ==========  =======  ========  =======  =======  =======
state      trigger  verify    open_page  close_page  spend    reserve   confirm  release  revoke
=========  =======  ========  =========  ==========  =======  ========  =======  =======  =======
Pending    Pending  Pending,  Pending    Pending     -        -         -        -        Revoked
                    Cleared
Cleared    -        -         Cleared    Cleared     Spent    Reserved  -        -        Revoked
Reserved   -        -         -          -           -        -         Spent    Cleared  Revoked
Spent      -        -         -          -           -        -         -        -        -
Revoked    -        -         -          -           -        -         -        -        -
(expired)  -        -         -          -           -        -         Spent    -        -
=========  =======  ========  =========  ==========  =======  ========  =======  =======  =======

``issue`` makes a Pending token. ``spend`` is the one step that lets a request through; with
``spend = "on-success"`` it is ``reserve``, then ``confirm`` or ``release``. A lease that has run
out is a handler that crashed: it can be confirmed, never released, so a crash leaves it spent.
``undelivered`` takes back what ``trigger`` did, when nobody could deliver the code.
A ``spend`` that does not fit the binding refuses, and says so: where the token is bound to its
request the caller revokes it (RTS art. 5(1)(d)).
"""

from dataclasses import replace

from watchword.domain.action import Action, Bind, Spend
from watchword.domain.binding import Binding
from watchword.domain.challenge import Challenge, all_passed, pass_by
from watchword.domain.decision import Change, Event, EventName, Reason, Refusal, WrongAnswer
from watchword.domain.destination import Destination
from watchword.domain.instant import NEVER, Instant, after, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.policy import Required
from watchword.domain.token import (
    Cleared,
    LiveCode,
    OneTimeToken,
    Pending,
    Reserved,
    Revoked,
    Sends,
    Spent,
    State,
    TokenId,
    refused_as,
)
from watchword.domain.user import OpenToken, UserId, UserSecurity, disable

_CREDENTIALS_CHANGED = "credentials-changed"

# --- issue ------------------------------------------------------------------------------------


def issue(
    token_id: TokenId,
    *,
    action: Action,
    required: Required | Refusal,
    binding: Binding,
    user: UserSecurity,
    oldest: tuple[OneTimeToken, ...] = (),
    presented: Reason | None = None,
    owner: UserId | None = None,
    application: str | None = None,
    details: bytes = b"",
    limits: Limits,
    now: Instant,
) -> Change | Refusal:
    """
    Issue a token for *action* to *user*.

    Args:
        required: What ``policy.required`` asks for, or why nothing would do; a lock comes before.
        oldest: The tokens that ``user.still_open`` names, needed once there are as many as are
            allowed: those that are really open and too many are revoked, the oldest first.
        presented: Why the token that came with the request was refused; for the audit.
        owner: Whose that token is, where it is another user's; for the audit.
        application: The application whose user calls.
        details: What is approved, sealed.
    """
    if user.attempts.is_locked(now):
        return Refusal(Reason.LOCKED, retry_after=seconds_until(user.attempts.locked_until, now))
    if isinstance(required, Refusal):
        return required
    challenges, factors = required
    token = OneTimeToken(
        id=token_id,
        user_id=user.id,
        action=action.name,
        risk=action.risk,
        bind=action.bind,
        spend_mode=action.spend,
        binding=binding,
        challenges=challenges,
        factors=factors,
        issued_at=now,
        expires_at=after(now, limits.token_seconds),
        state=Pending(),
        application=application,
        details=details,
    )
    entries = user.still_open(now)
    revoked: tuple[OneTimeToken, ...] = ()
    if len(entries) >= limits.tokens_live:
        truly_open = [other for other in oldest if other.is_open(limits=limits, now=now)]
        surplus = max(0, len(truly_open) + 1 - limits.tokens_live)
        revoked = tuple(_revoked(other, why="too-many", now=now) for other in truly_open[:surplus])
        kept = {other.id for other in truly_open[surplus:]}
        entries = tuple(entry for entry in entries if entry.id in kept)
    noted: dict[str, str | int] = {"action": action.name, "risk": action.risk.value}
    if presented is not None:
        noted["presented"] = presented.value
    if owner is not None:
        noted["owner"] = owner
    return Change(
        token=token,
        user=replace(
            user,
            version=user.version + 1,
            session_until=user.session(limits=limits, now=now),
            open_tokens=(*entries, OpenToken(token_id, token.expires_at)),
        ),
        revoked=revoked,
        events=(
            _event(token, EventName.TOKEN_ISSUED, now, noted),
            *(_event(other, EventName.TOKEN_REVOKED, now, {"why": "too-many"}) for other in revoked),
        ),
    )


# --- open: the approval page ------------------------------------------------------------------


def open_page(token: OneTimeToken, handle: bytes, *, limits: Limits, now: Instant) -> Change | Refusal:
    """
    Open the approval page for a token; the page that was open before is dead from now on.

    Args:
        handle: The digest of what the new page proves itself by.
    """
    over = refused_as(token, limits=limits, now=now)
    if over is not None:
        return Refusal(over)
    return Change(
        token=_advance(token, token.state, page=handle),
        events=(_event(token, EventName.PAGE_OPENED, now, {"action": token.action}),),
    )


def close_page(token: OneTimeToken, *, limits: Limits, now: Instant) -> Change | Refusal:
    """Close the approval page of a token, as its customer asked; the token stays as good as it was."""
    over = refused_as(token, limits=limits, now=now)
    if over is not None:
        return Refusal(over)
    return Change(
        token=_advance(token, token.state, page=b""),
        events=(_event(token, EventName.PAGE_CLOSED, now, {"action": token.action}),),
    )


# --- trigger ----------------------------------------------------------------------------------


def _not_open_to(
    token: OneTimeToken, method: Method, *, user: UserSecurity, limits: Limits, now: Instant
) -> Refusal | None:
    """Say why no challenge of *token* may be worked on by *method* now; None where one may."""
    over = refused_as(token, limits=limits, now=now)
    if over is not None:
        return Refusal(over)
    if user.attempts.is_locked(now):
        return Refusal(Reason.LOCKED, retry_after=seconds_until(user.attempts.locked_until, now))
    # A credential can be disabled while tokens are open that were issued on it.
    if (
        not user.has(method.credential)
        or method.factor in user.attempts.exhausted(limits)
        or not any(method in offer for offer in token.open_methods())
    ):
        return Refusal(Reason.NOT_OFFERED)
    return None


def can_trigger(
    token: OneTimeToken, method: Method, *, user: UserSecurity, limits: Limits, now: Instant
) -> Refusal | None:
    """Say why no code may be sent over *method* now; None where one may."""
    refusal = _not_open_to(token, method, user=user, limits=limits, now=now)
    if refusal is not None:
        return refusal
    if sum(sends.count for sends in token.sends) >= limits.sends_per_token:
        return Refusal(Reason.SENDS_EXHAUSTED, retry_after=seconds_until(token.expires_at, now))
    for sends in token.sends:
        again = after(sends.last_at, limits.resend_seconds)
        if sends.method is method and now < again:
            return Refusal(Reason.RESENT_TOO_SOON, retry_after=seconds_until(again, now))
    return None


def trigger(
    token: OneTimeToken,
    code: LiveCode,
    *,
    user: UserSecurity,
    destination: Destination,
    limits: Limits,
    now: Instant,
) -> Change | Refusal:
    """
    Take *code* as the token's one live code, and count the send.

    The code itself is in nobody's record: it is sent from memory once this is committed.
    """
    refusal = can_trigger(token, code.method, user=user, limits=limits, now=now)
    if refusal is not None:
        return refusal
    counted = destination.send(limits=limits, now=now)
    if isinstance(counted, Refusal):
        return counted
    before = next((sends for sends in token.sends if sends.method is code.method), None)
    sends = Sends(code.method, 1 if before is None else before.count + 1, now)
    return Change(
        token=_advance(
            token,
            Pending(code=code),
            sends=(*(other for other in token.sends if other is not before), sends),
        ),
        destination=counted,
        seen=user,
        events=(_event(token, EventName.CODE_SENT, now, {"method": code.method.value}),),
    )


def undelivered(token: OneTimeToken, code: LiveCode, *, now: Instant) -> Change | Refusal:
    """
    Take back *code*, which nobody could deliver; a newer one stays.

    The cooldown goes with it, so that the user may try again at once; the send stays counted.
    """
    if (
        not isinstance(token.state, Pending)
        or token.state.code is None
        or token.state.code.digest != code.digest
    ):
        return Refusal(Reason.NOT_TRIGGERED)
    sends = tuple(
        replace(entry, last_at=NEVER) if entry.method is code.method else entry for entry in token.sends
    )
    return Change(
        token=_advance(token, Pending(), sends=sends),
        events=(_event(token, EventName.CODE_UNDELIVERED, now, {"method": code.method.value}),),
    )


# --- verify -----------------------------------------------------------------------------------


def can_verify(
    token: OneTimeToken, method: Method, *, user: UserSecurity, limits: Limits, now: Instant
) -> Refusal | None:
    """Say why no answer by *method* is looked at now; None where one is. Asked before any compare."""
    refusal = _not_open_to(token, method, user=user, limits=limits, now=now)
    if refusal is not None or not method.is_code:
        return refusal
    code = token.state.code if isinstance(token.state, Pending) else None
    if code is None or code.method is not method:
        sent = any(sends.method is method for sends in token.sends)
        return Refusal(Reason.CODE_EXPIRED if sent else Reason.NOT_TRIGGERED)
    if now >= code.expires_at or code.wrong >= limits.code_tries:
        return Refusal(Reason.CODE_EXPIRED)
    return None


def verify(
    token: OneTimeToken,
    method: Method,
    *,
    right: bool,
    user: UserSecurity,
    limits: Limits,
    now: Instant,
) -> Change | Refusal:
    """
    Count one answer by *method*, right or wrong; what it exhausts, ``disable_exhausted`` disables next.

    The user's record is written whatever the answer, so that of answers given at once each one
    meets the counts that the one before it left.

    Returns:
        A ``WrongAnswer`` with the attempts left; a ``Change`` that passed a challenge and maybe
        cleared the token, which opens the low-risk session; or a ``Refusal``.
    """
    refusal = can_verify(token, method, user=user, limits=limits, now=now)
    if refusal is not None:
        return refusal
    if not right:
        return _failed(token, method, user=user, limits=limits, now=now)
    challenges = pass_by(token.challenges, method, factors=token.factors)
    # can_verify found the token pending, and a challenge open to this method.
    assert challenges is not None
    assert isinstance(token.state, Pending)
    attempts = user.attempts.succeeded(method.factor)
    passed = _event(token, EventName.CHALLENGE_PASSED, now, {"method": method.value})
    if not all_passed(challenges):
        return Change(
            # A code is used up by its success; one still on its way survives another method's.
            token=_advance(
                token, Pending(None if method.is_code else token.state.code), challenges=challenges
            ),
            user=replace(user, version=user.version + 1, attempts=attempts),
            events=(passed,),
        )
    session_until = user.session(limits=limits, now=now)
    if limits.session_seconds:  # Else a clock that goes back would open one.
        session_until = max(session_until, after(now, limits.session_seconds))
    return Change(
        token=_advance(token, Cleared(now), challenges=challenges),
        user=replace(user, version=user.version + 1, attempts=attempts, session_until=session_until),
        events=(passed, _event(token, EventName.TOKEN_CLEARED, now, {"action": token.action})),
    )


def _failed(
    token: OneTimeToken,
    method: Method,
    *,
    user: UserSecurity,
    limits: Limits,
    now: Instant,
) -> WrongAnswer:
    factor = method.factor
    attempts = user.attempts.failed(factor, limits=limits, now=now)
    left = max(0, user.attempts.left(factor, limits) - 1)
    events = [_event(token, EventName.CHALLENGE_FAILED, now, {"method": method.value, "left": left})]
    if attempts.is_locked(now):
        events.append(
            _event(
                token, EventName.USER_LOCKED, now, {"seconds": limits.lock_seconds, "factor": factor.value}
            )
        )
    state = token.state
    assert isinstance(state, Pending)
    if method.is_code and state.code is not None:
        wrong = state.code.wrong + 1
        left = min(left, limits.code_tries - wrong)
        state = Pending(code=replace(state.code, wrong=wrong))
    return WrongAnswer(
        token=_advance(token, state),
        user=replace(user, version=user.version + 1, attempts=attempts),
        events=tuple(events),
        attempts_left=left,
    )


def disable_exhausted(
    user: UserSecurity, *, open_tokens: tuple[OneTimeToken, ...] = (), limits: Limits, now: Instant
) -> Change:
    """
    Disable what a user has guessed at too often.

    A change of its own, after the one that counted the last of those guesses: nothing else, neither
    another token nor a store of credentials, can keep a guess from being counted.

    Args:
        open_tokens: The tokens that ``user.still_open`` names.
    """
    attempts, credentials = user.attempts, user.credentials
    events: list[Event] = []
    for factor in attempts.exhausted(limits):
        attempts = replace(attempts, streak=attempts.streak.with_(factor, 0))
        credentials = disable(credentials, {each.credential for each in Method if each.factor is factor})
        details = {"factor": factor.value}
        events.append(Event(name=EventName.CREDENTIAL_DISABLED, at=now, user_id=user.id, details=details))
    # As with any change of credentials: what was issued on them is void, the session ends.
    voided, revocations = revoked_with(open_tokens, why=_CREDENTIALS_CHANGED, now=now)
    return Change(
        user=replace(
            user,
            version=user.version + 1,
            attempts=attempts,
            credentials=credentials,
            session_until=NEVER,
            open_tokens=(),
        ),
        revoked=voided,
        events=(*events, *revocations),
    )


# --- spend, reserve, confirm, release ---------------------------------------------------------


def spend(
    token: OneTimeToken, *, action: Action, binding: Binding, limits: Limits, now: Instant
) -> Change | Refusal:
    """
    Let one request through: spend the token, or reserve it where the action says «on success».

    This is committed before the handler runs. ``OTHER_REQUEST`` is refused whatever is left to
    pass: where the token is bound to its request, the caller revokes it.
    """
    misfit = _misfit(token, action, binding, limits=limits, now=now)
    if misfit is not None:
        return misfit
    if not isinstance(token.state, Cleared):
        return Refusal(Reason.NOT_READY)
    if token.spend_mode is Spend.ON_SUCCESS:
        lease = after(now, limits.lease_seconds)
        return Change(
            token=_advance(token, Reserved(token.state.at, lease)),
            events=(_event(token, EventName.TOKEN_RESERVED, now, {"action": token.action}),),
        )
    return _spent(token, now)


def _misfit(
    token: OneTimeToken, action: Action, binding: Binding, *, limits: Limits, now: Instant
) -> Refusal | None:
    over = refused_as(token, limits=limits, now=now)
    if over is not None:
        return Refusal(over)
    if not _issued_for(token, action):
        return Refusal(Reason.OTHER_ACTION)
    if token.bind is Bind.REQUEST and token.binding.difference(binding) is not None:
        return Refusal(Reason.OTHER_REQUEST)
    return None


def can_sign(
    token: OneTimeToken,
    *,
    action: Action,
    binding: Binding,
    user: UserSecurity,
    limits: Limits,
    now: Instant,
) -> Refusal | None:
    """Say why no signature on a retry is looked at now; None where one is. Asked before any compare."""
    return _misfit(token, action, binding, limits=limits, now=now) or can_verify(
        token, Method.SIGNATURE, user=user, limits=limits, now=now
    )


def sign(
    token: OneTimeToken,
    *,
    right: bool,
    action: Action,
    binding: Binding,
    user: UserSecurity,
    limits: Limits,
    now: Instant,
) -> Change | Refusal:
    """
    Answer the SIGNATURE challenge on the retry itself: verify and spend, in one change.

    A wrong signature is counted as any wrong answer is, and the token stays as good as it was.
    """
    refusal = can_sign(token, action=action, binding=binding, user=user, limits=limits, now=now)
    if refusal is not None:
        return refusal
    answered = verify(token, Method.SIGNATURE, right=right, user=user, limits=limits, now=now)
    if isinstance(answered, Refusal | WrongAnswer) or answered.token is None:
        return answered
    spent = spend(answered.token, action=action, binding=binding, limits=limits, now=now)
    # Its one challenge is passed by now (policy), it fits, and it is not over.
    assert not isinstance(spent, Refusal)
    assert spent.token is not None
    return Change(
        token=replace(spent.token, version=token.version + 1),
        user=answered.user,
        events=(*answered.events, *spent.events),
    )


def _issued_for(token: OneTimeToken, action: Action) -> bool:
    """Tell whether *token* is of *action* as it is now: one raised since asks for what was never proved."""
    if (token.action, token.risk, token.bind) != (action.name, action.risk, action.bind):
        return False
    if action.challenges is None or token.challenges[0].primary is Method.SIGNATURE:
        return True
    return len(token.challenges) == len(action.challenges) and all(
        set(challenge.methods) <= set(listed)
        for challenge, listed in zip(token.challenges, action.challenges, strict=True)
    )


def confirm(token: OneTimeToken, *, now: Instant) -> Change | Refusal:
    """Spend a reserved token: its handler succeeded."""
    if not isinstance(token.state, Reserved):
        return Refusal(Reason.NOT_RESERVED)
    return _spent(token, now)


def release(token: OneTimeToken, *, now: Instant) -> Change | Refusal:
    """Give a reserved token back: its handler failed, and said so within its lease."""
    if not isinstance(token.state, Reserved):
        return Refusal(Reason.NOT_RESERVED)
    if now >= token.state.lease_until or now >= token.expires_at:
        return Refusal(Reason.EXPIRED)
    return Change(
        token=_advance(token, Cleared(token.state.cleared_at)),
        events=(_event(token, EventName.TOKEN_RELEASED, now, {"action": token.action}),),
    )


def _spent(token: OneTimeToken, now: Instant) -> Change:
    return Change(
        token=_advance(token, Spent(now)),
        events=(_event(token, EventName.TOKEN_SPENT, now, {"action": token.action}),),
    )


# --- revoke -----------------------------------------------------------------------------------


def revoke(token: OneTimeToken, *, why: str, limits: Limits, now: Instant) -> Change | Refusal:
    """Void a token that is not spent."""
    over = refused_as(token, limits=limits, now=now)
    if over is Reason.RESERVED or token.is_early(now):
        over = None if now < token.expires_at else Reason.EXPIRED
    if over is not None:
        return Refusal(over)
    return Change(
        token=_revoked(token, why=why, now=now),
        events=(_event(token, EventName.TOKEN_REVOKED, now, {"why": why}),),
    )


def revoked_with(
    open_tokens: tuple[OneTimeToken, ...], *, why: str, now: Instant
) -> tuple[tuple[OneTimeToken, ...], tuple[Event, ...]]:
    """Void what of *open_tokens* is not over: with what they were issued on, for one."""
    voided = tuple(
        _revoked(token, why=why, now=now)
        for token in open_tokens
        if isinstance(token.state, Pending | Cleared | Reserved)
    )
    return voided, tuple(_event(token, EventName.TOKEN_REVOKED, now, {"why": why}) for token in voided)


# ----------------------------------------------------------------------------------------------


def _revoked(token: OneTimeToken, *, why: str, now: Instant) -> OneTimeToken:
    return _advance(token, Revoked(now, why))


def _advance(
    token: OneTimeToken,
    state: State,
    *,
    challenges: tuple[Challenge, ...] | None = None,
    sends: tuple[Sends, ...] | None = None,
    page: bytes | None = None,
) -> OneTimeToken:
    # Spelled out, because ``replace`` takes four times as long and this is the hot path.
    return OneTimeToken(
        id=token.id,
        user_id=token.user_id,
        action=token.action,
        risk=token.risk,
        bind=token.bind,
        spend_mode=token.spend_mode,
        binding=token.binding,
        challenges=token.challenges if challenges is None else challenges,
        factors=token.factors,
        issued_at=token.issued_at,
        expires_at=token.expires_at,
        state=state,
        sends=token.sends if sends is None else sends,
        application=token.application,
        details=token.details,
        page=token.page if page is None else page,
        version=token.version + 1,
    )


def _event(token: OneTimeToken, name: EventName, at: Instant, details: dict[str, str | int]) -> Event:
    return Event(name=name, at=at, user_id=token.user_id, token_id=token.id, details=details)
