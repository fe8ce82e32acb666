"""
Serve one application as the measurements want it: ``python -m bench.serve bench.floor:create_app 8000 1``.

Both servers under measurement are run by what runs the product, so that they have the same options.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

from watchword.asgi import ASGIApp
from watchword.server.run import IsDraining, run


def main() -> None:
    """Serve until a signal comes."""
    application, port, workers = sys.argv[1:]
    run(partial(_make, application), host="127.0.0.1", port=int(port), workers=int(workers))


def _make(application: str, _is_draining: IsDraining) -> ASGIApp:
    module, _, name = application.partition(":")
    create: Callable[[], ASGIApp] = getattr(import_module(module), name)
    return create()


if __name__ == "__main__":
    main()
