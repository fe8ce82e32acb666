"""
What the person is shown of a request: members of its JSON body, and what the application knows.

Both are taken from the server's side alone, at the first call and again at the retry: what changed in
between is another request (RTS art. 5(1)(d)).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from watchword import problems
from watchword.asgi import Scope
from watchword.domain.action import Action
from watchword.domain.details import AMOUNT, VALUE_MAX, Details, fault, is_blank
from watchword.problems import Problem

Describe = Callable[[Action, Scope, bytes], Awaitable[Details]]
"""Says what a request is about, from its action, its ASGI scope and its whole body."""

DESCRIBE_SECONDS = 10.0

_log = logging.getLogger("watchword.guard")


class UnshownError(Exception):
    """The body does not have what is to be shown; carries the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


class UndescribedError(Exception):
    """The application could not say what the request is about: nothing is decided."""


def of_body(action: Action, document: Any) -> Details:  # noqa: ANN401 - JSON.
    """
    Take what *action* shows out of a JSON document.

    Args:
        document: Its numbers are as they are written.

    Raises:
        UnshownError: Something is missing, or is nothing that could be read to a person.
    """
    return tuple((key, _text_at(pointer, document, key=key)) for key, pointer in action.show)


async def described(describe: Describe, action: Action, scope: Scope, body: bytes, shown: Details) -> Details:
    """
    Add to *shown* what the application says.

    Raises:
        UndescribedError: It failed, took too long, or said what cannot be shown. The log tells why.
    """
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            said = cast("tuple[tuple[Any, Any], ...]", await describe(action, scope, body))
        details = (*shown, *((key, value) for key, value in said))
        if not all(isinstance(text, str) for detail in details for text in detail):
            raise TypeError("keys and values of details are text")  # noqa: TRY301 - one way out for all.
        if (wrong := fault(details)) is not None:
            raise ValueError(wrong)  # noqa: TRY301 - as above.
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Something that it waited for was cancelled, and nobody cancels this request.
        raise _undescribed(action) from error
    except Exception as error:
        raise _undescribed(action) from error
    return details


def _undescribed(action: Action) -> UndescribedError:
    """Log what is being handled."""
    _log.exception("%s: it was not described, so that nothing was decided", action.name)
    return UndescribedError(action.name)


def _text_at(pointer: str, document: Any, *, key: str) -> str:  # noqa: ANN401 - JSON.
    found = document
    for escaped in pointer.split("/")[1:]:
        token = escaped.replace("~1", "/").replace("~0", "~")  # RFC 6901 section 4: in this order.
        if isinstance(found, dict):
            members = cast("dict[str, object]", found)
            if sum(name.casefold() == token.casefold() for name in members) > 1:
                # Some frameworks ignore case: the person would see one of the two, and the other run.
                raise UnshownError(problems.malformed("A member stands twice, but for case.", path=pointer))
            found = members.get(token)
        elif isinstance(found, list) and _is_index(token):
            items = cast("list[object]", found)
            found = items[int(token)] if int(token) < len(items) else None
        else:
            found = None
    if isinstance(found, bool) and key != AMOUNT:
        return "true" if found else "false"
    wanted = None
    if not isinstance(found, str):
        kinds = "A text or a number" if key == AMOUNT else "A text, a number or a boolean"
        wanted = f"{kinds} must stand there: the customer is shown it."
    elif len(found) > VALUE_MAX:
        wanted = f"The customer is shown it, so that it has {VALUE_MAX} characters at the most."
    elif is_blank(found):
        wanted = "The customer is shown it, so that it has a character that he can see."
    if wanted is not None:
        raise UnshownError(problems.malformed(wanted, path=pointer))
    return str(found)


def _is_index(token: str) -> bool:
    # The length first: to convert 5,000 digits is itself an attack; no body has a million items.
    return len(token) < 8 and token.isascii() and token.isdigit() and (token == "0" or token[0] != "0")  # noqa: PLR2004
