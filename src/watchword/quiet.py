"""Calls that leave us, in the log: without their query, where some endpoints have a key."""

import logging


class _WithoutQuery(logging.Filter):
    """Rewrites what the HTTP library tells at level INFO of each call."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                each if isinstance(each, str | int) else str(each).partition("?")[0] for each in record.args
            )
        return True


_FILTER = _WithoutQuery()


def hide_queries() -> None:
    """See to it that no query of a URL is logged by the HTTP library, in this whole process."""
    logging.getLogger("httpx2").addFilter(_FILTER)  # Once, however often it is added.
