"""
The HTTP library, imported here and nowhere else.

httpx2 is the maintained continuation of httpx, whose last release is of December 2024; the two have the
same `Auth` interface. Should that change, this line does.
"""

from __future__ import annotations

try:
    import httpx2 as httpx
except ImportError as error:  # pragma: no cover - the test environment has every extra
    message = "the client needs httpx2: pip install 'watchword[client]'"
    raise ImportError(message) from error

__all__ = ["httpx"]
