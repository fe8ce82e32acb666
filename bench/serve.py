"""
Serve one application as the measurements want it: ``python -m bench.serve bench.floor:create_app 8000``.

Both servers under measurement are started here, so that they run with the same options.
"""

import sys

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.server import Server


def main() -> None:
    """Serve until a signal comes."""
    application, port = sys.argv[1:]
    Server(
        application,
        factory=True,
        address="127.0.0.1",
        port=int(port),
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        runtime_mode=RuntimeModes.st,
        websockets=False,
        workers=1,
        log_access=False,
        log_enabled=False,
    ).serve()


if __name__ == "__main__":
    main()
