"""What somebody could guess, or knows already: tokens out of documentations, secrets nobody drew."""

from hashlib import sha256

DIFFERENT_MIN = 8
"""How many different characters or bytes a secret has at least; 32 random hexadecimal digits have 14."""

# Whoever tries out what somebody left in begins with these, bare and behind or before one another.
_WORDS = (
    *("ada", "alice", "bob", "dave", "eve", "grace", "jane", "john", "mallory", "trent"),
    *("", "access", "access-token", "admin", "administrator", "api", "apikey", "api-key", "bearer"),
    *("changeit", "changeme", "change-me", "default", "demo", "demo-token", "demo-user", "dev"),
    *("dummy", "example", "foo", "foobar", "hello", "hunter2", "key", "letmein", "my-secret"),
    *("my-token", "mysecret", "mytoken", "none", "null", "pass", "passw0rd", "password", "qwerty"),
    *("root", "s3cr3t", "s3cret", "sandbox", "secret", "secret-token", "static", "static-token"),
    *("string", "super-secret", "supersecret", "test", "test-token", "testing", "testtoken", "token"),
    *("undefined", "user", "watchword", "welcome", "your-token", "0", "1", "12", "123", "1234"),
    *("12345", "123456", "1234567", "12345678", "123456789", "1234567890", "0000", "000000", "111111"),
    *("666666", "abc", "abc123", "abcdef", "deadbeef"),
)
_ENDS = ("", "!", "0", "1", "12", "123", "1234", "-1", "_1")


def _spellings(word: str) -> set[str]:
    cases = {word, word.upper(), word.capitalize(), word.replace("-", "_"), word.replace("-", " ")}
    # With a line's end: `echo` writes one, and then the digest is that of no token that could be sent.
    return {case + end + line for case in cases for end in _ENDS for line in ("", "\n")}


_DIGESTS = frozenset(sha256(each.encode()).hexdigest() for word in _WORDS for each in _spellings(word))


def is_well_known(digest: str) -> bool:
    """Tell whether a SHA-256, in hexadecimal digits, is that of nothing or of what everybody tries."""
    return digest.lower() in _DIGESTS


def is_guessable(secret: str | bytes) -> bool:
    """Tell whether a secret has so few different characters or bytes that nobody drew it at random."""
    return len(set(secret)) < DIFFERENT_MIN
