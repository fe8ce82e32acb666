"""
What a server for production refuses to start with, each with what to write instead.

A setting can be well written and still be a danger. The sandbox lets a tester do all of this; whoever
guards money may do none of it, and hears of everything at once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from watchword.auth.settings import SecretFileError, client_secret, gateway_secrets, read_secrets
from watchword.domain.action import Action, Risk
from watchword.domain.challenge import HIGH_RISK_FACTORS, completable
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.method import Method
from watchword.page.assets import Assets
from watchword.page.brand import DEFAULT, LOGO_MAX, logo_fault
from watchword.page.render import Renderer, UnusableTemplatesError
from watchword.serving import callers
from watchword.serving.keys import (
    UnusableKeysError,
    changeable,
    file_fault,
    owner_fault,
    read_jose_keys,
    read_keyring,
    weak_key,
)
from watchword.serving.settings import Deployment, webhook_secrets
from watchword.serving.stores import server_faults

TEST_TOKENS = ("demo-ada", "demo-grace", "demo-signer", "demo-application")
"""The sandbox's people: whoever read the documentation holds these."""

README_TOKEN = "carol"
"""The one of the README's first steps: good for a trial, alone."""

TEST_MODULES = ("watchword.sandbox", "watchword.testing")
TEST_FILE = "sandbox.db"
"""What lies in a data directory of the sandbox, beside its store."""

SESSION_SECONDS_MAX = 300  # RTS art. 4(3)(d): five minutes without activity.
TOKEN_SECONDS_MAX = 900
RESEND_SECONDS_MIN = 30
_TEST_DIGESTS = {sha256(token.encode()).hexdigest(): token for token in TEST_TOKENS}
_README_DIGEST = sha256(README_TOKEN.encode()).hexdigest()
_COUNTED = {
    "disable_pin_after": 10,
    "disable_possession_after": 100,
    "disable_face_after": 50,
}


def _is_a_trial(deployment: Deployment) -> bool:
    """Tell whether nobody can call but the README's user, from this machine."""
    others = deployment.issuers or deployment.introspection or deployment.gateway or deployment.tokens[1:]
    return not others and not deployment.server.behind_tls_proxy


def refusals(deployment: Deployment, *, with_app: bool = False) -> Iterator[str]:
    """
    Name everything that a server may not start with.

    Args:
        with_app: An application to protect is there, whatever ``[app]`` says.
    """
    yield from _of_callers(deployment)
    yield from _of_the_address(deployment)
    yield from _of_limits(deployment)
    yield from _of_actions(deployment, with_app=with_app)
    yield from _of_test_doors(deployment)
    yield from of_key_files(deployment)
    yield from of_secrets(deployment)
    yield from of_the_store(deployment)
    yield from of_the_page(deployment)


def of_the_file(config: Path, deployment: Deployment) -> Iterator[str]:
    """
    Say that others could change the configuration: they would say who may sign in, and what runs.

    They may read it, unless it holds a password of the store.
    """
    wrong = changeable(config)
    if wrong is not None:
        yield wrong
    elif file_fault(config) is not None:
        for server in deployment.store.servers:
            if server.has_password:
                yield (
                    f"store.{server.name}: holds a password, and others may read this file; write the"
                    f" password into a file of its own, named in store.{server.password_name}, or run:"
                    f" chmod 600 {config}"
                )


def _of_callers(deployment: Deployment) -> Iterator[str]:
    sources = (deployment.issuers, deployment.introspection, deployment.tokens, deployment.gateway)
    names = {"issuers", "introspection", "tokens", "gateway"}
    if not any(sources) and not names & deployment.broken:
        yield (
            "nobody can tell who calls: add [[issuers]] for signed access tokens, [introspection] for opaque"
            " ones, [gateway] for a gateway that authenticates, or [[tokens]] for programs"
        )
    listed = {each.id for each in deployment.applications}
    suffices = deployment.personal_tokens.signature_suffices or "personal_tokens" in deployment.broken
    for number, token in enumerate(deployment.tokens, start=1):
        if token.kind == "personal" and not suffices:
            yield (
                f"tokens[{number}].kind: one signature of a personal token's program clears any risk; write"
                ' [personal_tokens] signature_suffices = true if that is wanted, else kind = "user"'
            )
        unknown = token.application is not None and token.application not in listed
        if unknown and "applications" not in deployment.broken:
            yield f"tokens[{number}].application: is none of [[applications]]; add it there, or leave it out"
    yield from callers.faults(deployment)


def _of_the_address(deployment: Deployment) -> Iterator[str]:
    server = deployment.server
    if not server.is_local and not server.behind_tls_proxy:
        yield (
            f"server.host: {server.host} would carry access tokens and PINs in the clear, for this server"
            " speaks plain HTTP; write 127.0.0.1 and end TLS in front, or behind_tls_proxy = true if whoever"
            " ends TLS is alone on that network"
        )


def _of_limits(deployment: Deployment) -> Iterator[str]:
    limits = deployment.limits
    if limits.session_seconds > SESSION_SECONDS_MAX:
        yield (
            f"session.seconds: must be {SESSION_SECONDS_MAX} at the most, not {limits.session_seconds}:"
            " five minutes (RTS art. 4(3)(d))"
        )
    if limits.token_seconds > TOKEN_SECONDS_MAX:
        yield (
            f"limits.token_seconds: must be {TOKEN_SECONDS_MAX} at the most, not {limits.token_seconds}:"
            " that is how long a request waits to be stolen"
        )
    if limits.resend_seconds < RESEND_SECONDS_MIN:
        yield (
            f"limits.resend_seconds: must be {RESEND_SECONDS_MIN} at the least, not {limits.resend_seconds}:"
            " each code costs money and wears its reader down"
        )
    for name, most in _COUNTED.items():
        if not getattr(limits, name):
            yield (
                f"limits.{name}: must be from 1 to {most}, not 0: without it, nothing ever stops a patient"
                " guesser (NIST SP 800-63B-4 section 3.2.2)"
            )


def _of_actions(deployment: Deployment, *, with_app: bool) -> Iterator[str]:
    actions = deployment.policy.actions or ()
    if (with_app or deployment.app is not None) and not any(action.routes for action in actions):
        yield (
            "actions: none has a match, so that nothing of the application is protected; add [[actions]] with"
            ' match = ["POST /what/moves/money"]'
        )
    seen: dict[str, str] = {}
    for action in actions:
        other = seen.setdefault(action.name.casefold(), action.name)
        if other != action.name:
            yield f"actions: {action.name}: reads like {other}; give one of them another name"
        if not _can_be_passed(action, deployment):
            yield (
                f"actions: {action.name}: nobody can pass its challenges here: add [delivery] for codes or"
                " [face] for faces, or list other methods"
            )
        if action.name == CREDENTIAL_CHANGE.name:
            yield from _of_credential_change(action, deployment)


def _of_credential_change(action: Action, deployment: Deployment) -> Iterator[str]:
    step_up = deployment.policy.enrolment.when(StepUpFor.TWO_FACTORS)
    if action.risk is Risk.LOW and step_up is not StepUpFor.NOTHING:
        yield (
            f'actions: {action.name}: must be of risk = "high": who passes one factor could replace the'
            ' other, and then has both; or write [enrolment] step_up = "nothing"'
        )
    if action.routes:
        yield (
            f"actions: {action.name}: means changes of credentials here, and has no match; give your own"
            " operation another name"
        )


def _can_be_passed(action: Action, deployment: Deployment) -> bool:
    if action.challenges is None:
        return True
    usable = {
        method
        for method in Method
        if (deployment.delivery is not None or "delivery" in deployment.broken or not method.is_code)
        and (deployment.face is not None or "face" in deployment.broken or method is not Method.FACE_MAP)
    }
    choices = [[method for method in listed if method in usable] for listed in action.challenges]
    return completable(choices, factors=HIGH_RISK_FACTORS if action.risk is Risk.HIGH else 1)


def _of_test_doors(deployment: Deployment) -> Iterator[str]:
    for number, token in enumerate(deployment.tokens, start=1):
        known = _TEST_DIGESTS.get(token.sha256.lower())
        if known is not None:
            yield (
                f"tokens[{number}].sha256: is that of {known}, which the sandbox's documentation tells"
                " everybody; make one with: openssl rand -hex 32"
            )
        if token.sha256.lower() == _README_DIGEST and not _is_a_trial(deployment):
            yield (
                f"tokens[{number}].sha256: is that of «{README_TOKEN}», which the README tells everybody;"
                " it is good for a first try alone, so take it out now that others can call too"
            )
    app = deployment.app
    for key, target in (("target", app and app.target), ("describe", app and app.describe)):
        module = (target or "").partition(":")[0]
        if any(module == test or module.startswith(f"{test}.") for test in TEST_MODULES):
            yield f"app.{key}: {module} is for tests, with codes that everybody knows; name your own"
    for name, file in (("store.path", deployment.store_file), ("keys.file", deployment.key_file)):
        if file is not None and (file.parent / TEST_FILE).exists():
            yield (
                f"{name}: {file.parent} is a data directory of the sandbox, whose people and PINs everybody"
                " knows; begin in a new one, with `watchword init`"
            )


def of_key_files(deployment: Deployment) -> Iterator[str]:
    """Name what is wrong with the key files."""
    try:
        read_keyring(deployment.key_file)
        weak = weak_key(deployment.key_file)
        if weak is not None:
            yield f"keys.file: {weak}"
    except UnusableKeysError as error:
        yield f"keys.file: {error}; put it back; a new installation gets its own by `watchword init`"
    try:
        read_jose_keys(deployment.jose_file)
    except UnusableKeysError as error:
        yield f"keys.jose_file: {error}; put it back; a new installation gets its own by `watchword init`"
    for name, file in (("keys.file", deployment.key_file), ("keys.jose_file", deployment.jose_file)):
        wrong = file_fault(file)
        if wrong is not None:
            yield f"{name}: {wrong}"


def of_secrets(deployment: Deployment) -> Iterator[str]:
    """Name what is wrong with the other files that hold a secret."""
    folder = deployment.folder
    if deployment.introspection is not None and deployment.introspection.client_secret_file:
        file = folder / deployment.introspection.client_secret_file
        yield from _of_file("introspection.client_secret_file", file, lambda: client_secret(file))
    if deployment.gateway is not None and deployment.gateway.secret_file:
        gateway = folder / deployment.gateway.secret_file
        yield from _of_file("gateway.secret_file", gateway, lambda: gateway_secrets(gateway))
    if deployment.delivery is not None and deployment.delivery.secret_file:
        webhook = folder / deployment.delivery.secret_file
        yield from _of_file("delivery.secret_file", webhook, lambda: webhook_secrets(webhook))
    for server in deployment.store.servers:
        if server.password_file:
            password = folder / server.password_file
            yield from _of_file(f"store.{server.password_name}", password, partial(read_secrets, password))
    if deployment.face is not None:
        yield from deployment.face.faults(folder)
        if deployment.face.api_key_file is not None:
            wrong = file_fault(folder / deployment.face.api_key_file)
            if wrong is not None:
                yield f"face.api_key_file: {wrong}"


def of_the_store(deployment: Deployment) -> Iterator[str]:
    """Say that others can read the store, or change it: it has every approval, and what is enrolled."""
    file = deployment.store_file
    if file is None:
        yield from server_faults(deployment)
        return
    for each in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        wrong = file_fault(each)
        if wrong is not None:
            yield f"store.path: {wrong}"


def of_the_page(deployment: Deployment) -> Iterator[str]:
    """Name what is wrong with the approval page's files: whoever changes them reads every PIN."""
    logo = deployment.logo_file
    if logo is not None and deployment.page.logo:
        try:
            # One byte more than a logo has, so that a disk image is not read to its end.
            with logo.open("rb") as file:
                body = file.read(LOGO_MAX + 1)
        except OSError as error:
            yield f"page.logo: {logo}: {error.strerror or error}; put the picture there"
        else:
            wrong = logo_fault(logo.name, body) or changeable(logo)
            if wrong is not None:
                yield f"page.logo: {logo}: {wrong}"
    templates = deployment.templates_folder
    if templates is None or not deployment.page.templates:
        return
    if not templates.is_dir():
        yield f"page.templates: {templates}: is no directory; make it, or leave it out"
        return
    for each in (templates, *sorted(templates.rglob("*"))):
        wrong = changeable(each)
        if wrong is not None:
            yield f"page.templates: {each}: {wrong}"
    try:
        Renderer(DEFAULT, templates, Assets())
    except UnusableTemplatesError as error:
        yield from (f"page.templates: {mistake}" for mistake in error.mistakes)


def _of_file(name: str, file: Path, look: Callable[[], object]) -> Iterator[str]:
    try:
        look()
    except SecretFileError as error:
        yield f"{name}: {error}"
    wrong = owner_fault(file)
    if wrong is not None:
        yield f"{name}: {wrong}"
