"""
Serve one application as the measurements want it: ``python -m bench.serve bench.floor:create_app 8000``.

Both servers under measurement are run by what runs the product, so that they have the same options.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

from watchword.asgi import ASGIApp
from watchword.server.run import run


def main() -> None:
    """Serve until a signal comes."""
    application, port = sys.argv[1:]
    run(partial(_make, application), host="127.0.0.1", port=int(port))


def _make(application: str) -> ASGIApp:
    module, _, name = application.partition(":")
    create: Callable[[], ASGIApp] = getattr(import_module(module), name)
    return create()


if __name__ == "__main__":
    main()
