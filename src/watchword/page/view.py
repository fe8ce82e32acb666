"""
What one screen of the approval page shows: all of it decided, none of it drawn.

``screens`` makes a view, templates draw it. Every text in it is in the customer's language and is
escaped where it is drawn; texts of others (a payee, an action's title) are cleaned before.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from watchword.domain.instant import Instant
from watchword.domain.method import Method


class Screen(StrEnum):
    """Which template draws it, ``<name>.html``."""

    BARE = "bare"
    """Nothing was asked: a window that was opened and awaits its form."""
    CHOOSE = "choose"
    """Ways to pass the challenge; nothing is sent before one is picked."""
    CODE = "code"
    PIN = "pin"
    DONE = "done"
    LOCKED = "locked"
    OVER = "over"
    """Expired, unknown, used, opened elsewhere: nothing more can be done here."""
    UNABLE = "unable"
    """The challenge has no method that a page could carry out."""
    CANCELLED = "cancelled"
    WINDOW = "window"
    """It may not be seen where it is framed; it goes on in a window of its own."""
    TROUBLE = "trouble"
    """Our fault or the world's; the same may succeed in a moment."""


class Outcome(StrEnum):
    """What the page that opened this one is told, word for word (protocol section 9.2)."""

    SUCCESS = "tw-approve-api-action-success"
    FAILED = "tw-approve-api-action-failed"
    CLOSED = "tw-approve-api-action-closed"


class Progress(StrEnum):
    """How far a step is."""

    DONE = "done"
    CURRENT = "current"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Step:
    """One challenge on the progress line: ``Your PIN``, ``A code``."""

    label: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Detail:
    """
    One thing that is being approved.

    Attributes:
        value: As it is shown; cut in the middle where it is very long.
        full: All of it, where *value* is cut.
        odd: It holds characters that can make it look like another text; the person is told.
        strong: An amount or a payee.
    """

    label: str
    value: str
    full: str = ""
    odd: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """
    One way to pass the challenge.

    Attributes:
        label: ``Text message (SMS)``.
        hint: Where it would go, masked: ``••• 8888``; empty for a PIN.
        failed: It was just tried and could not be delivered.
    """

    method: Method
    label: str
    hint: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """
    One screen.

    Attributes:
        heading: The ``h1``, and the beginning of the document's title.
        text: Paragraphs under it.
        error: What went wrong with the last answer, and what to do next; empty where nothing did.
        notice: What the person should know and did not do wrong.
        page: The page's own token, for the hidden field ``page``; empty where no form can follow.
        action: What is being approved, in words; empty where that is not known or not to be said.
        asked_by: The application that asks.
        stranger: The host of an opener that is not on the list, to warn of it.
        ways: What can be picked now (CHOOSE), or instead (CODE, PIN).
        method: What is being answered (CODE, PIN).
        destination: Where the code went, masked.
        resend_seconds: Until another code may be sent; None where no more can be.
        attempts_left: None where nothing was wrong so far.
        ends_at: When the lock ends (LOCKED), or when the token does (others); None where unknown.
        ends_in_seconds: How long that is from now.
        outcome: What to tell the opener as soon as this is shown.
        on_close: What to tell the opener when the person presses the button that ends it.
        openers: The origins that may be told, exactly; ``*`` as port stands for any.
        must_be_seen: In a frame the form is sent only while the page is really in view.
    """

    screen: Screen
    heading: str
    text: tuple[str, ...] = ()
    error: str = ""
    notice: str = ""
    page: str = field(default="", repr=False)
    action: str = ""
    asked_by: str = ""
    details: tuple[Detail, ...] = ()
    stranger: str = ""
    steps: tuple[Step, ...] = ()
    ways: tuple[Way, ...] = ()
    method: Method | None = None
    destination: str = ""
    resend_seconds: int | None = None
    attempts_left: int | None = None
    ends_at: Instant | None = None
    ends_in_seconds: int = 0
    outcome: Outcome | None = None
    on_close: Outcome | None = None
    openers: tuple[str, ...] = ()
    must_be_seen: bool = False
