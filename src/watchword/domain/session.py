"""
The low-risk session: the window in which low-risk actions need no challenge.

It is opened by whatever clears a token (``token.verify``), and ended by time or by a change of the
user's credentials (``enrolment.change``). High risk never looks at it.
"""

from watchword.domain.action import Action
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.instant import Instant
from watchword.domain.user import UserSecurity


def use(user: UserSecurity, *, action: Action, now: Instant) -> Change:
    """
    Let a low-risk action of a user in session through.

    Nobody passes while the store cannot record that he did, nor on a session that was ended since.
    """
    used = Event(name=EventName.SESSION_USED, at=now, user_id=user.id, details={"action": action.name})
    return Change(seen=user, events=(used,))
