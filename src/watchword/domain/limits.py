"""Every limit of the domain, with its default; docs/reference/configuration.md tells their bounds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What bounds a token, a code, guessing and sending.

    Attributes:
        token_seconds: How long a token lives, from its issue.
        spend_within_seconds: How long a token stays good after its last challenge was passed;
            None for as long as it lives.
        tokens_live: How many tokens of one user may be open at once; the oldest goes first.
        lease_seconds: How long a handler may hold a token reserved (``spend = "on-success"``).
        session_seconds: How long low-risk actions pass after a cleared token; 0 for never.
        code_seconds: How long a code lives.
        code_tries: How many wrong tries kill a code.
        resend_seconds: The least time between two codes over one channel for one token.
        sends_per_token: How many codes one token may send, over all channels.
        sends_per_number: How many codes one phone number may receive in a day.
        failures: How many failures of one factor, or of the user, lock the user (RTS art. 4(3)(b)).
        lock_seconds: How long a lock lasts.
        disable_pin_after: Failures of knowledge without a success, over all locks, that disable
            the PIN until a new one is enrolled (NIST SP 800-63B-4 section 3.2.10); 0 for never.
        disable_possession_after: The same for possession (section 3.2.2); 0 for never.
        disable_face_after: The same for faces (section 3.2.3: fifty without presentation attack
            detection); 0 for never.
        pin_digits: How many digits a PIN has.
        device_fingerprints: How many device fingerprints a user may have.
        public_keys: How many public keys a user may have.
        keys_per_application: How many keys an application may have uploaded that did not run out.
        high_risk_after_seconds: How long a new credential counts for low risk only.
    """

    token_seconds: int = 900
    spend_within_seconds: int | None = 300
    tokens_live: int = 20
    lease_seconds: int = 60
    session_seconds: int = 300
    code_seconds: int = 300
    code_tries: int = 5
    resend_seconds: int = 30
    sends_per_token: int = 5
    sends_per_number: int = 10
    failures: int = 5
    lock_seconds: int = 900
    disable_pin_after: int = 10
    disable_possession_after: int = 100
    disable_face_after: int = 50
    pin_digits: int = 4
    device_fingerprints: int = 3
    public_keys: int = 5
    keys_per_application: int = 20
    high_risk_after_seconds: int = 0


DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """
    How long is kept what is over.

    Attributes:
        tokens_days: A token, from its expiry.
        audit_days: An event; 0 for ever.
    """

    tokens_days: int = 1
    audit_days: int = 0


KEEP = Retention()

CLOCKS_APART_SECONDS = 300
"""How far the clocks of servers may be apart; what is from later than that is not believed."""
