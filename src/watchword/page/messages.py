"""
What is written to a phone: the code, what it is for, and where it may be typed.

RTS art. 5 has the payer told amount and payee; whoever is tricked into approving something else reads
it here, away from the page that tricks him. The last line binds the code to the page's origin, so that
a phone fills it in there and nowhere else (the format of origin-bound one-time codes).
"""

from watchword.domain.details import Details, in_brief
from watchword.domain.method import Method
from watchword.domain.token import OneTimeToken
from watchword.engine.engine import Write, in_words
from watchword.page.language import Language


def writer(
    method: Method, *, title: str, details: Details, hosts: tuple[str, ...], language: Language
) -> Write:
    """
    Return what words a message.

    Args:
        title: What the operator calls the action.
        hosts: Where the code may be typed: the page's host, after that of whoever frames it.
    """

    def write(digits: str, token: OneTimeToken) -> str:
        what = ", ".join((title or in_words(token.action), *in_brief(details, language.money)))
        text = language.gettext("%(code)s is your code. It is for: %(what)s. Do not share it with anybody.")
        line = f"\n\n{_bound(digits, hosts)}" if method is Method.SMS and hosts else ""
        return text % {"code": digits, "what": what} + line

    return write


def _bound(digits: str, hosts: tuple[str, ...]) -> str:
    """Write ``@top.example #123456 @embedded.example``; one host alone where nothing frames the page."""
    top, *embedded = hosts
    return " ".join((f"@{top}", f"#{digits}", *(f"@{host}" for host in embedded)))
