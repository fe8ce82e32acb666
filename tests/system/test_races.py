"""
Races over real sockets: one approval and one execution, five guesses and no more.

Every request of a volley waits for its last byte, and the last bytes leave together. Each race is
run against a sandbox that keeps nothing, against one on SQLite, and against two processes that
share one SQLite file, where nothing but the store can decide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.system.processes import Running
from tests.system.wire import CODE, Answer, Person, Wire, volley

ROUNDS = 50
ROUNDS_OF_TWO = 20  # Of two processes: each of their people is made before they start.
PIN_ROUNDS = 5  # Each comparison costs 20 ms of a core, which is what it is for.
PIN = "7391"
RACERS = 64
GUESSERS = 200
LOCK = timedelta(seconds=900)
LAST_SECOND_OF_LOCK = timedelta(seconds=899)


@dataclass(frozen=True)
class Field:
    """Where the races are run: connections, in turn to each process, and people who have not run yet."""

    wires: Sequence[Wire]
    people: Iterator[Person]
    rounds: int
    processes: int

    @property
    def wire(self) -> Wire:
        return self.wires[0]

    def volley(self, requests: Sequence[bytes]) -> list[Answer]:
        return volley(self.wires, requests)


def open_field(people: Iterator[Person], rounds: int, *servers: Running) -> Iterator[Field]:
    wires = [Wire(server.address) for server in islice(cycle(servers), GUESSERS)]
    try:
        yield Field(wires, people, rounds, len(servers))
    finally:
        for wire in wires:
            wire.close()


def people_of(wire: Wire) -> Iterator[Person]:
    """Make people, each when he is asked for."""
    while True:
        yield Person.make(wire, pin=PIN)


@pytest.fixture(scope="module", params=["memory", "sqlite", "two processes"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """Open the connections, to one process or in turn to two."""
    options: list[str | Path] = []
    if request.param != "memory":
        options = ["--data", tmp_path_factory.mktemp("sandbox") / "data"]
    with Running(*options) as server, Wire(server.address) as wire:
        if request.param != "two processes":
            yield from open_field(people_of(wire), ROUNDS, server)
            return
        # Who is made in one process is known to the other from its start, so all are made before it.
        people = [Person.make(wire, pin=PIN) for _ in range(4 * ROUNDS_OF_TWO)]
        with Running(*options) as second:
            yield from open_field(iter(people), ROUNDS_OF_TWO, server, second)


def locked(answer: Answer) -> int:
    """Assert that *answer* tells of a lock, and return the seconds that it says."""
    assert (answer.status, answer.code) == (429, "sca.locked"), answer
    assert answer.header("x-2fa-approval-result") == "REJECTED"
    assert answer.header("x-2fa-approval") is None
    seconds = int(answer.header("retry-after") or "")
    assert 1 <= seconds <= 900
    return seconds


def now(field: Field, until: datetime | None = None) -> datetime:
    """Move the clock of every process by as much as it takes to *until*; return what the first shows."""
    here = datetime.fromisoformat(field.wire.advance(0))
    if until is None or until <= here:
        return here
    shown = [wire.advance((until - here).total_seconds()) for wire in field.wires[: field.processes]]
    return datetime.fromisoformat(shown[0])


@pytest.mark.attack(24)
@pytest.mark.attack(25)
@pytest.mark.timeout(300)
def test_of_64_clients_that_race_one_ready_ott_one_is_let_through(field: Field) -> None:
    for person in islice(field.people, field.rounds):
        ott = person.ready_payment(PIN)
        answers = field.volley([person.pay_request(ott=ott)] * RACERS)
        won = [answer for answer in answers if answer.status == 201]
        assert len(won) == 1
        assert won[0].header("x-2fa-approval-result") == "APPROVED"
        others = {answer.ott for answer in answers if answer.status != 201}
        assert len(others) == RACERS - 1
        assert ott not in others
        assert field.wire.executions("TRANSFER__FUND", ott) == 1


@pytest.mark.attack(43)
@pytest.mark.timeout(300)
def test_of_200_wrong_codes_at_once_five_are_compared_and_the_lock_lasts_900_seconds(field: Field) -> None:
    for person in islice(field.people, field.rounds):
        ott = person.get(person.statement).ott
        person.trigger(ott)
        before = now(field)
        codes = [f"{111112 + guess}" for guess in range(GUESSERS)]
        answers = field.volley([person.about("POST", "sms/verify", ott, {"otpCode": code}) for code in codes])
        compared = [answer for answer in answers if answer.status == 400]
        assert {answer.code for answer in compared} == {"otp.incorrect"}
        left = sorted(answer.json()["errors"][0]["arguments"] for answer in compared)
        assert left == [[0], [1], [2], [3], [4]]
        for answer in answers:
            if answer.status != 400:
                locked(answer)

        took = now(field) - before  # And some time in between the lock began.
        after = now(field, before + LAST_SECOND_OF_LOCK)
        assert after < before + LOCK, "the machine is too slow to look into the last second"
        # The right code, but for the lock.
        assert locked(person.verify_code(ott)) <= 2 + took.total_seconds()
        locked(person.send(person.about("POST", "sms/trigger", ott)))
        locked(person.get(person.statement))
        now(field, after + LOCK)
        person.clear_code(ott)


@pytest.mark.attack(43)
@pytest.mark.attack(46)
def test_of_40_wrong_pins_at_once_five_are_compared(field: Field) -> None:
    for person in islice(field.people, PIN_ROUNDS):
        ott = person.pay().ott
        paths = ["pin/verify", f"/v2/profiles/{person.profile}/pin/verify"]
        answers = field.volley(
            [person.about("POST", paths[guess % 2], ott, {"pin": f"{1000 + guess}"}) for guess in range(40)]
        )
        compared = [answer for answer in answers if answer.code == "pin.incorrect"]
        assert len(compared) == 5
        for answer in answers[::2]:
            if answer.code != "pin.incorrect":
                locked(answer)
        for answer in answers[1::2]:
            assert answer.status == 400
            if answer.code != "pin.incorrect":
                assert answer.code == "pin.blocked"
                assert 1 <= int(answer.header("retry-after") or "") <= 900


@pytest.mark.attack(28)
def test_the_right_code_sent_16_times_at_once_passes_once(field: Field) -> None:
    for person in islice(field.people, field.rounds):
        ott = person.get(person.statement).ott
        person.trigger(ott)
        answers = field.volley([person.about("POST", "sms/verify", ott, {"otpCode": CODE})] * 16)
        assert [answer.status for answer in answers].count(200) == 1
        assert {answer.code for answer in answers if answer.status != 200} == {"challenge.not.offered"}
        again = person.verify_code(ott)
        assert (again.status, again.code) == (400, "challenge.not.offered")


# --- guesses that are spread out --------------------------------------------------------------


@pytest.mark.attack(46)
@pytest.mark.attack(47)
def test_guesses_over_channels_generations_and_spellings_meet_one_counter(field: Field) -> None:
    person = next(field.people)
    ott = person.pay().ott
    for channel in ("sms", "whatsapp", "voice"):
        person.trigger(ott, channel)
    wrong = [
        ("/v1/one-time-token/voice/verify", {"otpCode": "000000"}),
        ("/2026Q3/one-time-token/voice/verify", {"otpCode": "000001"}),
        (f"/v2/profiles/{person.profile}/pin/verify", {"pin": "0000"}),
        ("//2027Q1///one-time-token//voice/verify", {"otpCode": "000002"}),
        ("/v1/one-time-token/partner-device-fingerprint/verify", {"deviceFingerprint": "x"}),
        ("/v1/one-time-token/pin/verify", {"pin": "0001"}),
    ]
    elsewhere = [
        ("/v1/one-time-token/voice/verify/", {"otpCode": "000003"}),
        ("/V1/One-Time-Token/Voice/Verify", {"otpCode": "000003"}),
        ("/v1/one-time-token/voice/verify;a=b", {"otpCode": "000003"}),
        ("/v1/one-time-token/./voice/verify", {"otpCode": "000003"}),
        ("/v1/one-time-token/x/../voice/verify", {"otpCode": "000003"}),
    ]
    left = []
    for number, (path, body) in enumerate(wrong):
        for spelling, guess in elsewhere:
            answer = person.send(person.about("POST", spelling, ott, guess))
            assert (answer.status, answer.code) == (404, "not.found")
        pretended = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "True-Client-IP"), f"192.0.2.{number}")
        answer = person.send(
            person.request("POST", path, headers={"One-Time-Token": ott} | pretended, body=body)
        )
        assert answer.status == 400, answer
        if answer.code == "challenge.not.offered":  # Who has no fingerprint cannot fail by one.
            continue
        left += answer.json()["errors"][0]["arguments"]
    assert left == [4, 3, 2, 1, 0]
    locked(person.send(person.about("POST", "/2026Q3/one-time-token/sms/verify", ott, {"otpCode": CODE})))
    locked(person.verify_pin(ott, PIN))
    locked(person.pay())


@pytest.mark.attack(44)
def test_guesses_over_a_hundred_otts_meet_one_counter(field: Field) -> None:
    person = next(field.people)
    left: list[int] = []
    for guess in range(100):
        refused = person.get(person.statement)
        if refused.status == 429:
            locked(refused)
            continue
        ott = refused.ott
        person.trigger(ott)
        answer = person.verify_code(ott, f"{200000 + guess}")
        assert (answer.status, answer.code) == (400, "otp.incorrect")
        left += answer.json()["errors"][0]["arguments"]
    assert left == [4, 3, 2, 1, 0]


@pytest.mark.attack(44)
def test_one_guess_for_each_of_twenty_otts_at_once_meets_one_counter(field: Field) -> None:
    person = next(field.people)
    otts = [person.get(person.statement).ott for _ in range(20)]
    for ott in otts:
        person.trigger(ott)
    answers = field.volley(
        [person.about("POST", "sms/verify", ott, {"otpCode": f"{300000 + n}"}) for n, ott in enumerate(otts)]
    )
    assert [answer.status for answer in answers].count(400) == 5
    for answer in answers:
        if answer.status != 400:
            locked(answer)


@pytest.mark.attack(29)
def test_a_code_for_one_ott_or_channel_passes_no_other(field: Field) -> None:
    person = next(field.people)
    first, second = person.get(person.statement).ott, person.get(person.statement).ott
    person.trigger(first)
    answer = person.verify_code(second)
    assert (answer.status, answer.code) == (400, "otp.not.triggered")
    answer = person.verify_code(first, channel="whatsapp")
    assert (answer.status, answer.code) == (400, "otp.not.triggered")
    assert person.challenges(second) == [["PIN", "SMS", "WHATSAPP", "VOICE"]]
    assert person.verify_code(first).status == 200


@pytest.mark.attack(50)
def test_a_success_ends_the_count_of_its_own_factor_only(field: Field) -> None:
    person = next(field.people)
    ott = person.pay().ott
    person.trigger(ott)
    for guess in ("000000", "000001", "000002", "000003"):
        assert person.verify_code(ott, guess).code == "otp.incorrect"
    person.clear_pin(ott, PIN)
    answer = person.verify_code(ott, "000004")  # The fifth of its factor, with a PIN's success between.
    assert (answer.code, answer.json()["errors"][0]["arguments"]) == ("otp.incorrect", [0])
    locked(person.verify_code(ott))
