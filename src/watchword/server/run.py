"""Running an application on Granian: one worker, one port, a line when it answers."""

import ctypes
import gc
import http.client
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels
from granian.server import MPServer

from watchword.asgi import ASGIApp

READY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_TO_STDERR = {"formatter": "generic", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"}


class CannotListenError(Exception):
    """The address is not to be had; says why."""


def _always() -> bool:
    return True


def run(
    make: Callable[[], ASGIApp], *, host: str, port: int, may_reload: Callable[[], bool] = _always
) -> None:
    """
    Serve the application until SIGINT or SIGTERM, then finish what is in flight.

    Prints ``Ready: <url>`` once it answers. At SIGHUP it makes the application anew, in a process
    that takes over.

    Args:
        make: Makes the application, in the process that serves it; must be picklable.
        port: 0 for any that is free.
        may_reload: Asked at SIGHUP; what cannot be made anew must not end what is served.

    Raises:
        CannotListenError: The address is in use, or not one of this machine's.
    """
    port = _free(host, port)
    server = _Server(
        target="watchword",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=1,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.st,
        # HTTP/1 only: it is what every client and proxy here speaks, and one parser to trust.
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
        # On stderr, so that stdout holds the one line that a script waits for.
        log_dictconfig={"handlers": dict.fromkeys(("console", "access"), _TO_STDERR)},
    )
    server.may_reload = may_reload
    threading.Thread(target=_announce, args=(host, port), daemon=True).start()
    server.serve(target_loader=partial(_load, make, os.getpid()), wrap_loader=False)


class _Server(MPServer):
    """Granian, told to stop or to reload in a way that cannot lock itself."""

    may_reload: Callable[[], bool] = staticmethod(_always)

    def signal_handler_interrupt(self, *_: object) -> None:
        """
        Stop, once.

        An event is set under a lock, which the interrupted main thread may hold: in a wait for this
        event, or in this handler, where a second signal follows the first. Another thread can wait.
        """
        if not self.interrupt_signal:
            self.interrupt_signal = True
            threading.Thread(target=self.main_loop_interrupt.set, daemon=True).start()

    def signal_handler_reload(self, *_: object) -> None:
        """Reload, if that may be; asked in another thread for the same reason."""
        threading.Thread(target=self._reload_if_it_may_be, daemon=True).start()

    def _reload_if_it_may_be(self) -> None:
        if self.may_reload():
            self.reload_signal = True
            self.main_loop_interrupt.set()


def _load(make: Callable[[], ASGIApp], parent: int) -> ASGIApp:
    if sys.platform == "linux":
        # A Ctrl-C reaches a whole process group, sometimes twice. The parent alone shall hear it, and
        # stop the worker once: a worker that is told twice while it stops may never end.
        os.setpgid(0, 0)
        # A worker that outlived a killed parent would go on answering beside the next one.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    app = make()
    # What was made so far stays for good, and requests leave few cycles behind: the collector need
    # not look at the one, nor often for the other (10 % of the CPU of a step-up, measured).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return app


def _free(host: str, port: int) -> int:
    """Bind once without sharing: Granian shares its port, so that a second server would not notice."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _announce(host: str, port: int) -> None:
    for _ in range(int(READY_SECONDS / 0.05)):
        connection = http.client.HTTPConnection(host, port, timeout=1.0)
        try:
            connection.request("GET", "/openapi.json")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            threading.Event().wait(0.05)
        else:
            shown = f"[{host}]" if ":" in host else host
            print(f"Ready: http://{shown}:{port}", flush=True)  # noqa: T201 - it is what was asked for.
            return
        finally:
            connection.close()
