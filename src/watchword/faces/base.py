"""
The contract of every matcher of faces.

A face map is what a client sends: an export of a scanner, or a photograph, as the matcher takes
it. A template is what is kept of it to compare with later; whoever keeps it seals it, and only the
matcher that made it can read it.
"""

from typing import Protocol


class FaceUnusableError(Exception):
    """
    The face map holds no usable face, or no living one.

    At enrolment nothing is enrolled. At a match it is a wrong answer like any other: the engine
    treats it as False, and counts it. Carries no data, since whatever it said would be of a face.
    """


class FaceUnavailableError(Exception):
    """The matcher cannot answer; nothing is known of the face, so no failure counts. Answered with 503."""


class FaceMatcher(Protocol):
    """Compares faces."""

    @property
    def public_key(self) -> str | None:
        """The PEM key that clients encrypt face maps to; None where the matcher takes them plain."""
        ...

    async def enrol(self, reference: str, face_map: bytes) -> bytes:
        """
        Take a face.

        Args:
            reference: Names this enrolment wherever the matcher keeps something of it: a random
                identifier, new for each enrolment, which says nothing of the user.
            face_map: As the client sent it, decoded from Base64.

        Returns:
            The template to keep, sealed.

        Raises:
            FaceUnusableError: There is no usable face in it, or no living one.
            FaceUnavailableError: The matcher cannot answer; it may have kept the face all the same.
        """
        ...

    async def match(self, template: bytes, face_map: bytes) -> bool:
        """
        Tell whether *face_map* shows the face of *template*.

        Raises:
            FaceUnusableError: There is no usable face in it, or no living one: the engine treats
                it as False.
            FaceUnavailableError: The matcher cannot answer, or *template* is not one of its own.
        """
        ...

    async def forget(self, template: bytes) -> None:
        """
        Delete what the matcher itself keeps of *template*; where that is nothing, all is well.

        Raises:
            FaceUnavailableError: It cannot be told to, or *template* is not one of its own.
        """
        ...
