"""What an operator decides about enrolment and about the applications that call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from watchword.domain.action import Action
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.engine.principal import Principal

STOP_SECONDS = 20.0
"""How long what is in flight may take when the server is told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSettings:
    """
    What one application may and must do.

    Attributes:
        jose_required: Its calls that carry a PIN or a device fingerprint must be JOSE; plain JSON is 415.
        manages_users: It may enrol and remove credentials of users, with its own access token.
    """

    jose_required: bool = False
    manages_users: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    Settings of the server that are no limits.

    Attributes:
        step_up: Which changes of credentials ask a user to confirm them.
        credential_change: The action that those changes are, as it is configured.
        trivial_pins: Whether 1111 and 1234 may be PINs.
        applications: By client id.
        others: For calls of no application that is named here.
    """

    step_up: StepUpFor = StepUpFor.TWO_FACTORS
    credential_change: Action = CREDENTIAL_CHANGE
    trivial_pins: bool = True
    applications: Mapping[str, ApplicationSettings] = field(default_factory=dict[str, ApplicationSettings])
    others: ApplicationSettings = ApplicationSettings()

    def of(self, principal: Principal) -> ApplicationSettings:
        """Return what holds for the application that a caller's access token was issued to."""
        if principal.application is None:
            return self.others
        return self.applications.get(principal.application, self.others)
