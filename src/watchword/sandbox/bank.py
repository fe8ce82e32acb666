"""
The demo bank: an ordinary Starlette application that knows nothing of one-time tokens.

Its handlers are plain. What they need is put before them, outermost first:

1. ``Customers`` finds out who calls, and keeps everybody to his own profiles. It stands before
   the guard: whoever asks for what is not his hears 403, and is never asked for a code.
2. The guard lets protected requests through once they are approved. What the customer is shown of a
   payment it asks of ``describe``.

Names and amounts are made up, and the same on every day.
"""

import csv
import io
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from watchword import problems, wire
from watchword.asgi import ASGIApp, Receive, Scope, Send, bearer
from watchword.domain.action import Action
from watchword.domain.details import ACCOUNT, AMOUNT, CURRENCY, PAYEE, REFERENCE, Details
from watchword.engine.principal import Authenticator, Principal
from watchword.problems import Problem
from watchword.sandbox.answers import refuse
from watchword.server.endpoint import method_not_allowed, not_found, owns, profile_not_allowed

Handler = Callable[[Request], Awaitable[Response]]

OUTAGE = 90000503
"""A transfer whose processor is always down: paying it answers 503, to try ``spend = "on-success"``."""

OPENED, CLOSED = "2026-01-01T00:00:00.000Z", "2026-01-31T23:59:59.999Z"
BALANCES = (("EUR", 1281.05), ("GBP", 310.86))
RATES = {"EUR": 1.0, "GBP": 0.8433, "USD": 1.0935, "SGD": 1.4721}

_CURRENCY = re.compile(r"[A-Z]{3}")
_PROFILE = re.compile(r"/[^/]+/profiles/([^/]+)")
_TRANSFER_PAYMENT = re.compile(r"/v3/profiles/[0-9]+/transfers/[0-9]+/payments")


def bank(
    authenticator: Authenticator, *, guard: Middleware, counted: Callable[[Handler], Handler]
) -> Starlette:
    """
    Make the bank.

    Args:
        authenticator: Tells who holds an access token.
        guard: What protects some of the routes; which ones is its own affair.
        counted: Counts how often a handler really ran. A bank of your own has no use for it.
    """
    statements = "/v1/profiles/{profileId:number}/balance-statements/{accountId:number}"
    borderless = "/v3/profiles/{profileId:number}/borderless-accounts/{accountId:number}"
    transfers = "/v3/profiles/{profileId:number}/transfers/{transferId:number}"
    batches = "/v3/profiles/{profileId:number}/batch-payments/{batchGroupId}"
    app = Starlette(
        routes=[
            Route("/v1/profiles", profiles_v1),
            Route("/v2/profiles", profiles_v2),
            Route("/v1/me", me),
            Route("/v1/borderless-accounts", borderless_accounts),
            Route("/v4/profiles/{profileId:number}/balances", balances),
            Route("/v1/transfers/{transferId:number}", transfer),
            Route("/v1/rates", rates),
            Route(f"{statements}/statement.json", counted(statement)),
            Route(f"{statements}/statement.csv", counted(statement_csv)),
            Route(f"{borderless}/statement.json", counted(statement)),
            Route(f"{transfers}/payments", counted(pay), methods=["POST"]),
            Route(f"{batches}/payments", counted(pay_batch), methods=["POST"]),
        ],
        middleware=[Middleware(Customers, authenticator=authenticator), guard],
        exception_handlers={
            HTTPException: _nothing_there,
            NotServedError: _not_served,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False  # A redirected payment is repeated by some clients as a GET.
    return app


class _Number(Convertor[int]):
    regex = "[0-9]{1,18}"  # Converting thousands of digits is itself an attack.

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())


# --- who calls --------------------------------------------------------------------------------


class Customers:
    """Middleware that finds out who calls, and answers a call on somebody else's profile."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        """Stand before *app*."""
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or refuse it."""
        if scope["type"] == "http":
            caller = await self._caller(scope)
            scope.setdefault("state", {})["caller"] = caller
            profile = _PROFILE.match(scope["path"])
            if caller is not None and profile is not None and not owns(caller, profile[1]):
                await profile_not_allowed()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Principal | None:
        presented = [value for name, value in scope["headers"] if name == b"authorization"]
        token = bearer(presented[0]) if presented else None
        return None if token is None else await self._authenticator.authenticate(token)


class NotServedError(Exception):
    """The bank does not serve this request; carries the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


def customer(request: Request) -> Principal:
    """
    Return the user who calls.

    Raises:
        NotServedError: Nobody does, or an application that is no customer.
    """
    caller: Principal | None = request.state.caller
    if caller is None:
        raise NotServedError(problems.unauthenticated())
    if caller.user_id is None:
        raise NotServedError(problems.user_needed())
    return caller


async def _not_served(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NotServedError)
    return refuse(error.problem)


async def _nothing_there(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allow = (error.headers or {}).get("Allow")
    if allow is None:
        return refuse(not_found())
    return refuse(method_not_allowed(", ".join(sorted(allow.split(", ")))))


async def _failed(_request: Request, _error: Exception) -> Response:
    return refuse(problems.problem(500, wire.Code.INTERNAL_ERROR, "Something went wrong at the bank."))


# --- open to every customer -------------------------------------------------------------------


async def profiles_v1(request: Request) -> Response:
    """List the caller's profiles."""
    caller = customer(request)
    first, last = name_of(caller)
    details = {
        "firstName": first,
        "lastName": last,
        "dateOfBirth": "1985-12-10",
        "avatar": None,
        "primaryAddress": 111,
    }
    return JSONResponse(
        [{"id": profile, "type": "personal", "details": details} for profile in sorted(caller.profile_ids)]
    )


async def profiles_v2(request: Request) -> Response:
    """List the caller's profiles, in the newer shape."""
    caller = customer(request)
    first, last = name_of(caller)
    return JSONResponse(
        [
            {
                "type": "PERSONAL",
                "id": profile,
                "publicId": str(uuid5(NAMESPACE_URL, f"profile/{profile}")),
                "userId": caller.user_id,
                "firstName": first,
                "lastName": last,
                "fullName": f"{first} {last}",
                "dateOfBirth": "1985-12-10",
                "createdAt": OPENED,
                "updatedAt": OPENED,
                "currentState": "VISIBLE",
            }
            for profile in sorted(caller.profile_ids)
        ]
    )


async def me(request: Request) -> Response:
    """Show the caller to himself."""
    caller = customer(request)
    first, last = name_of(caller)
    return JSONResponse(
        {
            "id": caller.user_id,
            "name": f"{first} {last}",
            "email": f"{first}.{last}@example.com".lower(),
            "active": True,
            "details": {"firstName": first, "lastName": last, "dateOfBirth": "1985-12-10"},
        }
    )


async def borderless_accounts(request: Request) -> Response:
    """List the accounts of one profile."""
    caller = customer(request)
    profile = request.query_params.get("profileId", "")
    if not profile:
        raise NotServedError(problems.malformed("Say whose accounts: ?profileId=", path="profileId"))
    if not owns(caller, profile):
        raise NotServedError(profile_not_allowed())
    accounts = [
        {
            "balanceType": "AVAILABLE",
            "currency": currency,
            "amount": money(amount, currency),
            "reservedAmount": money(0.0, currency),
        }
        for currency, amount in BALANCES
    ]
    return JSONResponse(
        [
            {
                "id": 64,
                "profileId": int(profile),
                "recipientId": 13828530,
                "creationTime": OPENED,
                "modificationTime": OPENED,
                "active": True,
                "eligible": True,
                "balances": accounts,
            }
        ]
    )


async def balances(request: Request) -> Response:
    """List the balances of one profile: ``?types=STANDARD``; it has none of other types."""
    customer(request)
    types = request.query_params.get("types", "STANDARD").split(",")
    listed = BALANCES if "STANDARD" in types else ()
    return JSONResponse(
        [
            {
                "id": 200001 + number,
                "currency": currency,
                "type": "STANDARD",
                "name": None,
                "icon": None,
                "investmentState": "NOT_INVESTED",
                "amount": money(amount, currency),
                "reservedAmount": money(0.0, currency),
                "cashAmount": money(amount, currency),
                "totalWorth": money(amount, currency),
                "creationTime": OPENED,
                "modificationTime": OPENED,
                "visible": True,
            }
            for number, (currency, amount) in enumerate(listed)
        ]
    )


async def transfer(request: Request) -> Response:
    """Show a transfer; whatever its number, it is one of the caller's."""
    caller = customer(request)
    transfer_id: int = request.path_params["transferId"]
    return JSONResponse(
        {
            "id": transfer_id,
            "user": caller.user_id,
            "targetAccount": TO_A_FRIEND.recipient,
            "sourceAccount": None,
            "quote": None,
            "quoteUuid": str(uuid5(NAMESPACE_URL, f"quote/{transfer_id}")),
            "status": "incoming_payment_waiting",
            "reference": TO_A_FRIEND.reference,
            "rate": rate("EUR", TO_A_FRIEND.currency),
            "created": "2026-01-15 09:30:00",
            "business": None,
            "details": {"reference": TO_A_FRIEND.reference},
            "hasActiveIssues": False,
            "sourceCurrency": "EUR",
            "sourceValue": 0.0,
            "targetCurrency": TO_A_FRIEND.currency,
            "targetValue": TO_A_FRIEND.amount,
            "customerTransactionId": str(uuid5(NAMESPACE_URL, f"transfer/{transfer_id}")),
        }
    )


async def rates(request: Request) -> Response:
    """List exchange rates: ``?source=EUR&target=GBP``, or one side of it, or all."""
    customer(request)
    source, target = request.query_params.get("source"), request.query_params.get("target")
    return JSONResponse(
        [
            {"rate": rate(one, other), "source": one, "target": other, "time": "2026-01-31T00:00:00+0000"}
            for one in RATES
            for other in RATES
            if one != other and source in {None, one} and target in {None, other}
        ]
    )


# --- protected: by the guard, whose affair it is ----------------------------------------------


async def statement(request: Request) -> Response:
    """Show an account's transactions, oldest first."""
    caller, currency = customer(request), asked_currency(request)
    first, last = name_of(caller)
    return JSONResponse(
        {
            "accountHolder": {"type": "PERSONAL", "firstName": first, "lastName": last},
            "issuer": {"name": "The Demo Bank", "city": "Nowhere", "country": "Sandbox"},
            "bankDetails": None,
            "transactions": [
                {
                    "type": "DEBIT" if amount < 0 else "CREDIT",
                    "date": date,
                    "amount": money(amount, currency),
                    "totalFees": money(0.0, currency),
                    "details": {"type": kind, "description": description},
                    "exchangeDetails": None,
                    "runningBalance": money(running, currency),
                    "referenceNumber": reference,
                }
                for date, kind, description, amount, running, reference in TRANSACTIONS
            ],
            "endOfStatementBalance": money(TRANSACTIONS[-1][4], currency),
            "query": {
                "intervalStart": request.query_params.get("intervalStart", OPENED),
                "intervalEnd": request.query_params.get("intervalEnd", CLOSED),
                "currency": currency,
                "accountId": request.path_params["accountId"],
            },
        }
    )


async def statement_csv(request: Request) -> Response:
    """Show an account's transactions as a table."""
    customer(request)
    currency = asked_currency(request)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["Reference", "Date", "Amount", "Currency", "Description", "Running Balance"])
    for date, _, description, amount, running, reference in TRANSACTIONS:
        table.writerow([reference, date, f"{amount:.2f}", currency, description, f"{running:.2f}"])
    return Response(text.getvalue(), media_type="text/csv")


async def pay(request: Request) -> Response:
    """Pay for a transfer from the balance."""
    customer(request)
    if request.path_params["transferId"] == OUTAGE:
        return refuse(problems.problem(503, wire.Code.SERVICE_UNAVAILABLE, "The payment processor is down."))
    return JSONResponse({"type": "BALANCE", "status": "COMPLETED", "errorCode": None}, 201)


async def pay_batch(request: Request) -> Response:
    """Pay for a group of transfers from the balance."""
    customer(request)
    return JSONResponse({"type": "BALANCE", "status": "COMPLETED", "errorCode": None}, 201)


async def describe(_action: Action, scope: Scope, _body: bytes) -> Details:
    """Say what a payment is about: its body names no amount and no payee, the bank's books do."""
    if not _TRANSFER_PAYMENT.fullmatch(scope["path"]):
        return ()
    return (
        (AMOUNT, f"{TO_A_FRIEND.amount:.2f}"),
        (CURRENCY, TO_A_FRIEND.currency),
        (PAYEE, TO_A_FRIEND.payee),
        (ACCOUNT, TO_A_FRIEND.account),
        (REFERENCE, TO_A_FRIEND.reference),
    )


# --- the bank's books -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payment:
    """What a transfer pays, and to whom."""

    recipient: int
    payee: str
    account: str
    amount: float
    currency: str
    reference: str


TO_A_FRIEND = Payment(8692237, "Charles Babbage", "GB29 •••• 6819", 150.0, "GBP", "to my friend")
"""Every transfer of this bank."""

NAMES = {6146956: ("Ada", "Lovelace"), 6146957: ("Grace", "Hopper"), 6146958: ("Sam", "Signer")}

# Date, kind, description, amount, running balance, reference.
TRANSACTIONS = (
    (
        "2026-01-05T08:00:00.000Z",
        "DEPOSIT",
        "Received money from Difference Engines",
        1300.0,
        1300.0,
        "TRANSFER-9001",
    ),
    (
        "2026-01-12T12:30:15.250Z",
        "CARD",
        "Card transaction at Analytical Coffee",
        -7.76,
        1292.24,
        "CARD-249281",
    ),
    ("2026-01-28T17:45:00.000Z", "TRANSFER", "Sent money to a friend", -11.19, 1281.05, "TRANSFER-9002"),
)


def name_of(caller: Principal) -> tuple[str, str]:
    """Return a customer's first and last name."""
    return NAMES.get(caller.user_id or 0, ("Customer", str(caller.user_id)))


def money(value: float, currency: str) -> dict[str, float | str]:
    """Write an amount as the public API does: a number with a decimal point."""
    return {"value": value, "currency": currency}


def rate(source: str, target: str) -> float:
    """Return what one *source* is in *target*."""
    return round(RATES[target] / RATES[source], 6)


def asked_currency(request: Request) -> str:
    """
    Return the currency that a statement is asked in; euros by default.

    Raises:
        NotServedError: It is none.
    """
    currency = request.query_params.get("currency", "EUR")
    if not _CURRENCY.fullmatch(currency):
        raise NotServedError(problems.malformed("A currency is three capital letters.", path="currency"))
    return currency
