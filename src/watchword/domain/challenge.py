"""
Challenges: AND over challenges, OR over the methods of each.

A challenge has a primary method and alternatives, and is passed by one of them. Which methods
are *open* depends on what was passed before: one credential passes one challenge only, and at
high risk the passed methods must in the end cover two different factors. A method that would
make that impossible is not offered, so a token can never become ready on one kind of proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watchword.domain.method import Method

HIGH_RISK_FACTORS = 2
"""Strong customer authentication is two elements of different categories (PSD2 art. 4(30))."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One thing the user must pass."""

    primary: Method
    alternatives: tuple[Method, ...] = ()
    passed_by: Method | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        """The primary method, then its alternatives."""
        return (self.primary, *self.alternatives)


def open_methods(challenges: Sequence[Challenge], *, factors: int) -> list[tuple[Method, ...]]:
    """
    Return, for each challenge, the methods that would pass it now.

    Args:
        challenges: The challenges of one token.
        factors: How many different factors the passed methods must cover in the end.

    Returns:
        One tuple for each challenge, in order; empty for one that is passed.
    """
    if len(challenges) == 1 and challenges[0].passed_by is None and factors <= 1:
        return [challenges[0].methods]  # The common case needs no search.
    passed = [challenge.passed_by for challenge in challenges if challenge.passed_by is not None]
    unpassed = [index for index, challenge in enumerate(challenges) if challenge.passed_by is None]
    offers: list[tuple[Method, ...]] = [() for _ in challenges]
    for index in unpassed:
        others = [challenges[other].methods for other in unpassed if other != index]
        offers[index] = tuple(
            method for method in challenges[index].methods if _completable([*passed, method], others, factors)
        )
    return offers


def completable(choices: Sequence[Sequence[Method]], *, factors: int) -> bool:
    """Tell whether one method from each of *choices* can be passed, each with a credential of its own."""
    return _completable([], choices, factors)


def _completable(passed: list[Method], choices: Sequence[Sequence[Method]], factors: int) -> bool:
    if len({method.credential for method in passed}) < len(passed):
        return False
    if not choices:
        return len({method.factor for method in passed}) >= factors
    return any(_completable([*passed, method], choices[1:], factors) for method in choices[0])


def pass_by(
    challenges: tuple[Challenge, ...], method: Method, *, factors: int
) -> tuple[Challenge, ...] | None:
    """
    Mark the first challenge that is open to *method* as passed by it.

    Returns:
        The challenges afterwards; None where no challenge is open to *method*.
    """
    for index, methods in enumerate(open_methods(challenges, factors=factors)):
        if method in methods:
            passed = replace(challenges[index], passed_by=method)
            return (*challenges[:index], passed, *challenges[index + 1 :])
    return None


def all_passed(challenges: Sequence[Challenge]) -> bool:
    """Tell whether nothing is left to pass."""
    return all(challenge.passed_by is not None for challenge in challenges)
