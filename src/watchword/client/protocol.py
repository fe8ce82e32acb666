"""
How a step-up is cleared, without any I/O.

`step_up` is a generator. It is given the answer to a protected request and yields what has to happen
next; whoever drives it sends back what came of it:

    yields              expects                 meaning
    `Call`              `Answer`                make this side call
    `Choice`            `str`                   ask which method the person wants
    `SecretQuestion`    `Reply`                 ask for the PIN, the code, the fingerprint, the face map
    `Repeat`            `Answer`                make the protected request again, with this one-time token

Every rule about the order of things lives here: sync and async drivers only carry. A phone challenge
is triggered only after the person picked it, the protected request is repeated at most once, and a
second refusal is an error rather than a second round.

Where there is a key to sign with, a challenge that `SIGNATURE` passes asks for nothing: the repeated
request carries the proof. Where there is nobody to ask, the signature is all there is, and the request
is repeated at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from watchword import wire
from watchword.client.encoding import ROUTES, SIGNATURE, STATUS_PATH, Route, encode_secret
from watchword.client.envelope import Envelope
from watchword.client.errors import (
    LockedError,
    NotApprovedError,
    RefusedError,
    ServerError,
    UnsupportedChallengeError,
)
from watchword.client.exchange import KINDS, Answer, Call, decode, error_of, refusal, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

# A server that never runs out of challenges must not keep a person busy for ever.
CHALLENGES_MAX: Final = 16

_OK: Final = 200
_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_SERVER_FAULT: Final = 500

# Published browser helpers take 400 as they take 403, and some gateways turn one into the other. Since
# both headers must be there as well, the wider reading cannot catch an ordinary error.
_STEP_UP_STATUSES: Final = frozenset({_BAD_REQUEST, _FORBIDDEN})
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_WRONG_SECRET: Final = frozenset(
    {
        wire.Code.PIN_INCORRECT,
        wire.Code.OTP_INCORRECT,
        wire.Code.DEVICE_FINGERPRINT_INCORRECT,
        wire.Code.FACEMAP_INCORRECT,
    }
)
# The secret was not compared, or there is nothing to compare it with. Both can be mended by the person.
_ASK_AGAIN: Final = frozenset(
    {
        wire.Code.OTP_EXPIRED,
        wire.Code.OTP_NOT_TRIGGERED,
        wire.Code.FACEMAP_UNUSABLE,
        wire.Code.REQUEST_MALFORMED,
    }
)
# No new message went out. An earlier code, or another method, may still do.
_NOT_SENT: Final = frozenset(
    {wire.Code.OTP_RESEND_TOO_SOON, wire.Code.OTP_SENDS_EXHAUSTED, wire.Code.OTP_DELIVERY_FAILED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The protected request is to be made again, once, with this one-time token and this signature of it."""

    token: str = field(repr=False)
    signature: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What is added to the request. Names are lower case."""
        headers = {wire.APPROVAL: self.token}
        if self.signature is not None:
            headers[wire.SIGNATURE] = self.signature
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a question is asked again."""

    reason: str
    message: str = ""
    attempts_left: int | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    Which of these methods does the person want?

    Attributes:
        action: The name of what is being approved, for example `TRANSFER__FUND`.
        methods: What would do, the server's preference first. Answer with one of them.
        remaining: How many challenges are left, this one included.
        problem: Set when the method picked before could not be used.
    """

    action: str
    methods: tuple[str, ...]
    remaining: int
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretQuestion:
    """
    What is the PIN, the code, the fingerprint or the face map?

    A face map is answered as bytes, or as a string that is base64 already.

    Attributes:
        action: The name of what is being approved.
        method: The method that was picked.
        alternatives: What would do as well. Answer `Instead.ANOTHER_METHOD` to pick among them.
        sent_to: For a phone challenge, the masked number. Answer `Instead.SEND_AGAIN` for a new code.
        problem: Set when the last answer, or the last wish for a new code, was refused.
    """

    action: str
    method: str
    alternatives: tuple[str, ...]
    sent_to: str | None = None
    problem: Problem | None = None


class Instead(Enum):
    """What a person may want instead of giving the secret."""

    SEND_AGAIN = "send again"
    ANOTHER_METHOD = "another method"


Question = Choice | SecretQuestion
Reply = str | bytes | Instead
Step = Call | Repeat | Choice | SecretQuestion
Result = Answer | Reply


def is_refusal(status: int, headers: Mapping[str, str]) -> bool:
    """
    Tell whether an answer to a protected request is ours to deal with.

    Headers alone decide: servers send any body, or none. A 403 without them is an ordinary answer.
    """
    return _BAD_REQUEST <= status < _SERVER_FAULT and headers.get(wire.APPROVAL_RESULT) == wire.REJECTED


def step_up(
    first: Answer,
    *,
    envelope: Envelope | None = None,
    sign: Callable[[str], str] | None = None,
    asks: bool = True,
) -> Generator[Step, Result, None]:
    """
    Clear what *first* asks for and have the protected request repeated.

    Ends when the last answer to the protected request is the one to hand to the application.

    Args:
        first: The answer to the protected request.
        envelope: How secrets travel; in the clear within TLS by default.
        sign: Signs a one-time token, where there is a key.
        asks: Whether there is anybody to ask. If not, *sign* must do.

    Raises:
        RefusedError: The server refused; see `errors` for its kinds.
        UnsupportedChallengeError: No method that this client knows would do.
        ServerError: The server failed or broke the protocol.
    """
    if not is_refusal(first.status, first.headers):
        return
    token = _token_of(first)
    signs = True
    if asks or sign is None:
        signs = yield from _clear_all(token, envelope or Envelope(), signs=sign is not None)
    signature = sign(token) if signs and sign is not None else None
    result = _answer((yield Repeat(token=token, signature=signature)))
    if is_refusal(result.status, result.headers):
        raise _second_refusal(result)


def _clear_all(token: str, envelope: Envelope, *, signs: bool) -> Generator[Step, Result, bool]:
    """Pass all challenges but those for a signature. Returns whether one is wanted."""
    status = yield from _call(Call(method="GET", path=STATUS_PATH, token=token))
    properties = _properties(status)
    action = properties.action_type or ""
    for _ in range(CHALLENGES_MAX):
        # Solved challenges vanish from some answers and stay as `passed` in others.
        offers = [_offer(c) for c in properties.challenges if c.required and not c.passed]
        for_us = [offer for offer in offers if not (signs and SIGNATURE in offer.methods)]
        if not for_us:
            return len(offers) > 0
        unusable = next((offer for offer in for_us if not offer.usable), None)
        if unusable is not None:  # said before the person is bothered with the first challenge
            raise UnsupportedChallengeError(unusable.methods)
        properties = yield from _clear(token, action, for_us[0].usable, len(for_us), envelope)
    raise ServerError("the server keeps asking for more challenges", status=_OK)


@dataclass(frozen=True, slots=True)
class _Offer:
    """The methods that pass one challenge, and those of them that this client can serve."""

    methods: tuple[str, ...]

    @property
    def usable(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method in ROUTES)


def _offer(challenge: wire.Challenge) -> _Offer:
    alternatives = (a if isinstance(a, str) else a.type for a in challenge.alternatives)
    return _Offer(tuple(dict.fromkeys((challenge.primary_challenge.type, *alternatives))))


def _clear(
    token: str, action: str, methods: tuple[str, ...], remaining: int, envelope: Envelope
) -> Generator[Step, Result, wire.OneTimeTokenProperties]:
    """Pass one challenge by whichever of *methods* the person picks, and return what is left."""
    sent_to: dict[str, str] = {}
    problem: Problem | None = None
    while True:
        method = yield from _choose(
            Choice(action=action, methods=methods, remaining=remaining, problem=problem)
        )
        route = ROUTES[method]
        problem = None
        if route.trigger_path is not None:
            problem = yield from _trigger(token, method, route.trigger_path, sent_to)
            if problem is not None and method not in sent_to:
                continue  # nothing ever went out this way: the person picks again, knowing why
        question = SecretQuestion(
            action=action,
            method=method,
            alternatives=tuple(other for other in methods if other != method),
            sent_to=sent_to.get(method),
            problem=problem,
        )
        properties = yield from _verify(token, question, route, sent_to, envelope)
        if properties is not None:
            return properties
        problem = None


def _choose(choice: Choice) -> Generator[Step, Result, str]:
    method = yield choice
    if not isinstance(method, str) or method not in choice.methods:
        raise ValueError(f"a resolver must choose one of {', '.join(choice.methods)}")
    return method


def _trigger(
    token: str, method: str, path: str, sent_to: dict[str, str]
) -> Generator[Step, Result, Problem | None]:
    """Have a code sent and note where to. Return why none went out, if that need not be the end."""
    answer = yield from _call(Call(method="POST", path=path, token=token))
    if answer.status == _OK:
        sent_to[method] = decode(answer, wire.TriggerAnswer).obfuscated_phone_no
        return None
    error = error_of(answer)
    if error.code in _NOT_SENT:
        return _problem(answer, error)
    raise refusal(answer, error)


def _verify(
    token: str, question: SecretQuestion, route: Route, sent_to: dict[str, str], envelope: Envelope
) -> Generator[Step, Result, wire.OneTimeTokenProperties | None]:
    """Ask until the secret is right and return what is left, or None if another method is wanted."""
    while True:
        reply = yield question
        if reply is Instead.ANOTHER_METHOD:
            return None
        if reply is Instead.SEND_AGAIN:
            if route.trigger_path is None:
                raise ValueError(f"nothing is sent for {question.method}, so it cannot be sent again")
            problem = yield from _trigger(token, question.method, route.trigger_path, sent_to)
            question = replace(question, sent_to=sent_to[question.method], problem=problem)
            continue
        if not isinstance(reply, (str, bytes)):
            raise TypeError("a resolver must answer with a string, with bytes or with `Instead`")
        body = encode_secret(route, reply)
        call = Call(method="POST", path=route.verify_path, token=token, body=body)
        answer = yield from _deliver(call, envelope) if route.sealable else _call(call)
        if answer.status == _OK:
            return _properties(answer)
        question = replace(question, problem=_mendable(answer))


def _mendable(answer: Answer) -> Problem:
    """Return why a verification failed, or raise if asking again cannot help."""
    error = error_of(answer)
    problem = _problem(answer, error)
    if error.code in _WRONG_SECRET:
        if problem.attempts_left == 0:
            raise refusal(answer, error, LockedError)
        return problem
    if error.code in _ASK_AGAIN:
        return problem
    raise refusal(answer, error)


def _call(call: Call) -> Generator[Step, Result, Answer]:
    return _answer((yield call))


def _deliver(call: Call, envelope: Envelope) -> Generator[Step, Result, Answer]:
    exchange = envelope.deliver(call)
    try:
        step = next(exchange)
        while True:
            step = exchange.send(_answer((yield step)))
    except StopIteration as done:
        answer: Answer = done.value
        return answer


def _answer(result: Result) -> Answer:
    assert isinstance(result, Answer), "a call wants its answer"
    return result


def _token_of(first: Answer) -> str:
    """Return the one-time token of a refusal, or raise what the refusal means when there is none."""
    token = first.headers.get(wire.APPROVAL, "")
    if not token or first.status not in _STEP_UP_STATUSES:
        raise refusal(first)
    if not _UUID.fullmatch(token):
        raise ServerError(f"{wire.APPROVAL} does not hold a one-time token", status=first.status)
    return token


def _properties(answer: Answer) -> wire.OneTimeTokenProperties:
    if answer.status != _OK:
        raise refusal(answer)
    return decode(answer, wire.OneTimeTokenAnswer).one_time_token_properties


def _second_refusal(answer: Answer) -> RefusedError | ServerError:
    error = error_of(answer)
    # A new one-time token means that the cleared one was not accepted; without it the code says why.
    asks_again = wire.APPROVAL in answer.headers and error.code not in KINDS
    return refusal(answer, error, NotApprovedError if asks_again else None)


def _problem(answer: Answer, error: wire.ErrorItem) -> Problem:
    left = error.arguments[0] if error.code in _WRONG_SECRET and error.arguments else None
    return Problem(
        reason=error.code,
        message=error.message,
        attempts_left=left if isinstance(left, int) else None,
        retry_after=retry_after(answer),
    )
