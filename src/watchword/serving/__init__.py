"""
Serving: the product put together for production, from one ``watchword.toml``.

``protect`` is for those who serve their application themselves; ``watchword serve`` does the same.
"""

from watchword.serving.app import protect

__all__ = ["protect"]
