"""
What one process knows, all of them know: two servers of two workers each, over one store.

Every test speaks to each of the four processes over a connection of its own.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, islice
from pathlib import Path
from signal import SIGKILL
from threading import Event, Thread
from time import monotonic, time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.system.fleet import PATIENCE_SECONDS, PIN, Fleet, workers_of
from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire, volley
from watchword.domain.decision import EventName
from watchword.store.sqlite import SqliteStore

RACERS = 32
ROUNDS = 20
PEOPLE = 3 * ROUNDS + 8
AUDIENCE = "https://api.bank.example"


class Issuer:
    """An issuer of access tokens, which publishes its key set and counts who asks for it."""

    def __init__(self) -> None:
        issuer = self
        self.asked = 0
        self.rotate()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": [issuer.key.as_dict(private=False)]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is in no key set any more."""
        self.key = ECKey.generate_key("P-256", auto_kid=True)

    def token(self, subject: str) -> str:
        """Issue an access token."""
        now = int(time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600}
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid}, claims, self.key)

    @property
    def table(self) -> str:
        """The ``[[issuers]]`` entry."""
        return f'[[issuers]]\nissuer = "{self.url}"\naudience = "{AUDIENCE}"\njwks_url = "{self.url}/keys"\n'


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[tuple[Fleet, list[Running]]]:
    """Run two servers of two workers, with everybody enrolled."""
    fleet = Fleet(folder, server="workers = 2", people=PEOPLE, **settings)  # type: ignore[arg-type]
    with ExitStack() as stack:
        servers = [stack.enter_context(fleet.start()) for _ in range(2)]
        fleet.enrol(servers[0].address, PEOPLE)
        yield fleet, servers


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[tuple[Fleet, list[Running]]]:
    folder = tmp_path_factory.mktemp("workers") / "fleet"
    with running(folder, session_seconds=300, tables=issuer.table) as made:
        yield made


@pytest.fixture(scope="module")
def wires(both: tuple[Fleet, list[Running]]) -> Iterator[list[Wire]]:
    """One connection to each of the four processes."""
    with ExitStack() as stack:
        yield [wire for server in both[1] for wire in stack.enter_context(workers_of(server, 2))]


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1, PEOPLE + 1))


@pytest.fixture
def everywhere(both: tuple[Fleet, list[Running]], wires: list[Wire], numbers: Iterator[int]) -> list[Person]:
    """Return one person, over a connection to each process."""
    return same_person(both[0], wires, numbers)


def same_person(fleet: Fleet, wires: Sequence[Wire], numbers: Iterator[int]) -> list[Person]:
    number = next(numbers)
    return [fleet.person(number, wire) for wire in wires]


def pay(person: Person, *, ott: str | None = None) -> Answer:
    return person.send(person.request("POST", "/payments/1", ott=ott))


def guess(person: Person, ott: str, pin: str) -> Answer:
    return person.send(person.about("POST", "pin/verify", ott, {"pin": pin}))


def cleared(person: Person) -> str:
    """Clear a payment, and return its OTT."""
    ott = pay(person).ott
    assert guess(person, ott, PIN).status == 200
    return ott


def test_what_one_process_does_the_next_goes_on_with(everywhere: list[Person]) -> None:
    first, second, third, fourth = everywhere
    ott = pay(first).ott
    assert guess(second, ott, "0000").code == "pin.incorrect"
    assert guess(third, ott, PIN).status == 200
    assert pay(fourth, ott=ott).status == 201
    for person in everywhere:
        again = person.send(person.request("POST", "/payments/2", ott=ott))
        assert (again.status, again.header("x-2fa-approval-result")) == (403, "REJECTED")


def test_a_session_that_one_process_opened_counts_in_all_and_ends_in_all(everywhere: list[Person]) -> None:
    assert pay(everywhere[3]).status == 403  # Each has seen him without a session.
    cleared(everywhere[0])
    for person in everywhere:
        passed = pay(person)
        assert (passed.status, passed.header("x-2fa-approval-result")) == (201, "APPROVED")
    # A change of credentials ends it; a PIN that he has already is not replaced by guessing at the call.
    person = everywhere[1]
    change = partial(person.request, "POST", "/v1/user/partner-device-fingerprints")
    answer = person.send(change(body={"deviceFingerprint": "3207da22-a0d3-4b6b-a591-6297e646fe32"}))
    assert answer.status in {200, 201, 204}, answer
    for each in everywhere:
        assert pay(each).status == 403


@pytest.mark.attack(46)
def test_five_guesses_spread_over_all_processes_lock_in_all(everywhere: list[Person]) -> None:
    ott = pay(everywhere[0]).ott
    for person in islice(cycle(everywhere), 5):
        assert guess(person, ott, "0000").code == "pin.incorrect"
    for person in everywhere:
        assert (guess(person, ott, PIN).status, pay(person).code) == (429, "sca.locked")
        assert (pay(person, ott=ott).status, pay(person, ott=ott).code) == (429, "sca.locked")


@pytest.mark.attack(43)
def test_of_wrong_guesses_at_once_over_all_processes_five_are_compared(
    both: tuple[Fleet, list[Running]], numbers: Iterator[int]
) -> None:
    fleet, servers = both
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for server in islice(cycle(servers), RACERS)]
        for number in islice(numbers, 3):
            person = fleet.person(number, wires[0])
            ott = pay(person).ott
            answers = volley(
                wires,
                [person.about("POST", "pin/verify", ott, {"pin": f"{n:04}"}) for n in range(RACERS)],
            )
            compared = [answer for answer in answers if answer.status == 400]
            assert {answer.code for answer in compared} == {"pin.incorrect"}
            left = sorted(answer.json()["errors"][0]["arguments"][0] for answer in compared)
            assert left == [0, 1, 2, 3, 4]
            assert {answer.status for answer in answers} <= {400, 429, 503}
            assert guess(person, ott, PIN).status == 429


@pytest.mark.attack(25)
@pytest.mark.timeout(300)
def test_one_token_at_32_requests_over_two_servers_of_two_workers_lets_one_through(
    tmp_path: Path, numbers: Iterator[int]
) -> None:
    with running(tmp_path / "fleet") as (fleet, servers), ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for server in islice(cycle(servers), RACERS)]
        who = {wire.call("GET", "/who").body for wire in wires}
        assert len(who) == 4, "not every process takes part"
        for number in range(1, ROUNDS + 1):
            person = fleet.person(number, wires[0])
            ott = cleared(person)
            answers = volley(wires, [person.request("POST", "/payments/1", ott=ott)] * RACERS)
            assert [answer.status for answer in answers].count(201) == 1
            assert {answer.status for answer in answers} <= {201, 403, 503}
            assert fleet.ran()[ott] == 1


def test_open_tokens_are_counted_over_all_processes(everywhere: list[Person]) -> None:
    # Twenty at the most, whoever issued them.
    otts = [pay(person).ott for person in islice(cycle(everywhere), 21)]
    asked = everywhere[2].status
    assert asked(otts[0]).status == 404  # The oldest went as the last came.
    assert asked(otts[1]).status == 200


# --- who calls ------------------------------------------------------------------------------------


def as_(token: str, wire: Wire) -> Answer:
    """Call with an access token."""
    return wire.call("POST", "/payments/1", [("Authorization", f"Bearer {token}"), ("Content-Length", "0")])


def eventually(is_so: Callable[[], bool]) -> bool:
    end = monotonic() + PATIENCE_SECONDS
    while not is_so():
        if monotonic() > end:
            return False
        Event().wait(0.2)
    return True


async def test_a_subject_that_comes_to_all_processes_at_once_is_one_user(
    both: tuple[Fleet, list[Running]], issuer: Issuer
) -> None:
    fleet, servers = both
    store = SqliteStore.open(fleet.folder / "watchword.db")
    seen = max((number for number, _ in await store.events(limit=100_000)), default=0)
    for subject in ("somebody-new", "somebody-else"):
        token = issuer.token(subject)
        request = Person(None, token, 0, 0).request("POST", "/payments/1")  # type: ignore[arg-type]
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(each.address)) for each in islice(cycle(servers), 16)]
            assert {answer.code for answer in volley(wires, [request] * 16)} == {"sca.enrolment.required"}
    linked = [
        event.user_id
        for _, event in await store.events(after=seen, limit=100_000)
        if event.name is EventName.SUBJECT_LINKED
    ]
    await store.close()
    assert len(linked) == len(set(linked)) == 2


def test_a_key_that_an_issuer_rotates_is_seen_by_all_processes(wires: list[Wire], issuer: Issuer) -> None:
    old = issuer.token("rotated")
    for wire in wires:
        assert as_(old, wire).code == "sca.enrolment.required"
    issuer.rotate()
    new = issuer.token("rotated")
    for wire in wires:
        # Each process asks by itself, at most once in ten seconds.
        assert eventually(lambda wire=wire: as_(new, wire).status == 403)  # type: ignore[misc]
        assert as_(old, wire).status == 401  # What the issuer took back is nobody's, cached or not.


# --- a worker that dies ---------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:

    fleet = Fleet(tmp_path / "fleet", server="workers = 2")
    with fleet.start() as server:
        dies, stays = server.workers()
        with workers_of(server, 2) as wires:
            alive = next(wire for wire in wires if wire.call("GET", "/who").body == str(stays).encode())
            os.kill(dies, SIGKILL)
            assert alive.call("GET", "/who").status == 200
        assert eventually(lambda: dies not in server.workers() and len(server.workers()) == 2)
        with workers_of(server, 2) as wires:
            assert len(wires) == 2
