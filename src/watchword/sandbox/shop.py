"""
A small shop in the browser: one payment that has to be approved, through ``/watchword.js``.

It shows how little a page has to know of approvals, and lets a person try the approval page.
"""

from html import escape
from importlib.resources import files
from string import Template

from watchword.sandbox.bank import TO_A_FRIEND
from watchword.sandbox.page import source

MODULE = "/watchword.js"

_HERE = files("watchword.sandbox")
_STYLE = _HERE.joinpath("shop.css").read_text(encoding="utf-8")
_SCRIPT = _HERE.joinpath("shop.js").read_text(encoding="utf-8")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {source(_STYLE)}",
        f"script-src {source(_SCRIPT)} 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "img-src data:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the shop may do: run its own script and the module, call the bank, and open the approval page."""


def shop(*, origin: str) -> str:
    """
    Write the shop's page.

    Args:
        origin: Where the module is, for the lines that show how the page is made.
    """
    price = f"{TO_A_FRIEND.amount:.2f}\u00a0{TO_A_FRIEND.currency}"
    return Template(_HERE.joinpath("shop.html").read_text(encoding="utf-8")).substitute(
        style=_STYLE,
        script=_SCRIPT,
        payee=escape(TO_A_FRIEND.payee),
        price=escape(price),
        module=escape(f"{origin}{MODULE}"),
    )
