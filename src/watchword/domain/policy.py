"""
Policy: which challenges a user must pass for an action.

By default low risk asks for one challenge, primary the user's preferred method, alternatives
the rest; high risk for two challenges of two different factors. An action may list its own.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from watchword.domain.action import Action, Risk
from watchword.domain.challenge import HIGH_RISK_FACTORS, Challenge, completable
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import PERSONAL_METHODS, CredentialKind, Factor, Method
from watchword.domain.user import UserSecurity

Required = tuple[tuple[Challenge, ...], int]
"""The challenges to pass, and how many different factors the passed methods must cover."""

_SIGNATURE: Required = ((Challenge(Method.SIGNATURE),), 1)


def required(
    action: Action,
    user: UserSecurity,
    *,
    signs: bool = False,
    available: Sequence[Method] = PERSONAL_METHODS,
) -> Required | Refusal:
    """
    Say what *user* must pass for *action*.

    Args:
        user: With the credentials that count at the action's risk (``UserSecurity.counting``).
        available: What this server can verify at all: codes need somebody to carry them.
        signs: The caller holds a personal token, whose one proof is a signature, at any risk.
    """
    kinds = user.enrolled()
    if signs:
        if CredentialKind.PUBLIC_KEY in kinds:
            return _SIGNATURE
        return Refusal(Reason.NOT_ENROLLED, methods=(Method.SIGNATURE.value,))
    usable = [
        method
        for method in _preferred_first(user.preferred)
        if method in available and method.credential in kinds
    ]
    factors = HIGH_RISK_FACTORS if action.risk is Risk.HIGH else 1
    choices = _choices(action, usable)
    if not completable(choices, factors=factors):
        return Refusal(Reason.NOT_ENROLLED, methods=_missing(action, usable, factors, available))
    return tuple(Challenge(methods[0], tuple(methods[1:])) for methods in choices), factors


def _preferred_first(preferred: Method | None) -> list[Method]:
    # A preferred SIGNATURE comes to nothing: only a program passes that.
    return sorted(PERSONAL_METHODS, key=lambda method: method is not preferred)


def _choices(action: Action, usable: Sequence[Method]) -> list[list[Method]]:
    """Choose, for each challenge of *action*, from the *usable* methods."""
    if action.challenges is not None:
        return [[method for method in listed if method in usable] for listed in action.challenges]
    if action.risk is Risk.LOW:
        return [list(usable)]
    return _by_factor(usable)


def _by_factor(usable: Iterable[Method]) -> list[list[Method]]:
    """
    Two choices, of different factors whichever is made in each.

    The first holds the methods of the preferred factor; the second those of the next one,
    and a third factor's as its fallback.
    """
    groups: dict[Factor, list[Method]] = {}
    for method in usable:
        groups.setdefault(method.factor, []).append(method)
    first, *others = groups.values() or [[]]
    return [first, [method for group in others for method in group]]


def _missing(
    action: Action, usable: Sequence[Method], factors: int, available: Sequence[Method]
) -> tuple[str, ...]:
    """Name the methods of which one would do, were it enrolled as well; all that may, where none would."""
    asked = set(available if action.challenges is None else chain(*action.challenges))
    lacking = [method for method in PERSONAL_METHODS if method in asked and method not in usable]
    enough = [
        method for method in lacking if completable(_choices(action, [*usable, method]), factors=factors)
    ]
    return tuple(method.value for method in enough or lacking)


def fault(action: Action) -> str | None:
    """Say what is wrong with an action's own challenges; None where nothing is."""
    if action.challenges is None:
        return None
    if not action.challenges or not all(action.challenges):
        return "challenges must hold at least one method each"
    if any(Method.SIGNATURE in listed for listed in action.challenges):
        return "SIGNATURE cannot be listed: personal tokens are asked for it whatever the policy"
    if not completable(action.challenges, factors=1):
        return "its challenges can never all be passed: each needs a credential of its own"
    if action.risk is Risk.HIGH and not completable(action.challenges, factors=HIGH_RISK_FACTORS):
        return "it is of high risk, but its challenges can never ask for two different factors"
    return None
