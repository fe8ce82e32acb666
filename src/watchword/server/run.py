"""Running an application on Granian: some workers, one port, a line when it answers, and a good end."""

import ctypes
import gc
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from multiprocessing.sharedctypes import RawValue
from typing import Any, cast

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels
from granian.server import MPServer
from granian.server.mp import WorkerProcess

from watchword.asgi import ASGIApp, ASGIMessage, Receive, Scope, Send
from watchword.server.settings import STOP_SECONDS

READY_SECONDS = 60.0
_BACKLOG = 1024
_CLOSING_SECONDS = 1.0
"""What a worker may take beyond that, to let go of its store."""

_AGAIN_SECONDS = 1.0
"""A Ctrl-C often comes twice, by the terminal and by whoever started us: that is one."""

_LOOK_SECONDS = 0.02
"""How often it is looked whether new workers serve."""

_PR_SET_PDEATHSIG = 1
_TO_STDERR = {"formatter": "generic", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"}

IsDraining = Callable[[], bool]
"""Tells a worker whether the server will stop soon, so that nobody should be sent to it any more."""


class CannotListenError(Exception):
    """The address is not to be had; says why."""


def run(
    make: Callable[[IsDraining], ASGIApp],
    *,
    host: str,
    port: int,
    workers: int = 1,
    drain_seconds: float = 0.0,
    stop_seconds: float = STOP_SECONDS,
) -> None:
    """
    Serve the application until SIGINT or SIGTERM, then finish what is in flight.

    Prints ``Ready: <url>`` once every worker answers. At SIGHUP it makes the application anew, in processes
    that take over once all of them have started; where one does not, those before go on. A second
    signal, or one in flight that takes too long, ends everything at once, with exit status 1.

    Args:
        make: Makes the application, which speaks ASGI's lifespan, in each process that serves it; must
            be picklable.
        port: 0 for any that is free.
        workers: How many processes serve.
        drain_seconds: How long it goes on serving, and says that it is draining, before it stops.
        stop_seconds: How long what is in flight may take then.

    Raises:
        CannotListenError: The address is in use, or not one of this machine's; the name is nobody's.
    """
    address = _address(host)
    port = _free(address, port)
    server = _Server(
        target="watchword",
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        # One of many that dies is replaced; a service manager sees to the only one.
        respawn_failed_workers=workers > 1,
        # Connections of each worker; what cannot be taken at once waits in the backlog.
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.st,
        # HTTP/1 only: it is what every client and proxy here speaks, and one parser to trust.
        http=HTTPModes.http1,
        websockets=False,
        # For workers that a reload replaces; the end of all of them has a limit of its own.
        workers_kill_timeout=math.ceil(stop_seconds + 2 * _CLOSING_SECONDS),
        log_level=LogLevels.warning,
        # On stderr, so that stdout holds the one line that a script waits for.
        log_dictconfig={"handlers": dict.fromkeys(("console", "access"), _TO_STDERR)},
    )
    server.drain_seconds, server.stop_seconds = drain_seconds, stop_seconds
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    threading.Thread(target=server.announce, args=(where,), daemon=True).start()
    server.serve(target_loader=partial(_load, make, os.getpid(), server.draining), wrap_loader=False)


class _Server(MPServer):
    """Granian, told to stop or to reload in a way that cannot lock itself, nor wait for ever."""

    drain_seconds: float = 0.0
    stop_seconds: float = STOP_SECONDS

    def __init__(self, target: str, **settings: Any) -> None:  # noqa: ANN401 - Granian's.
        granian: Any = super()
        granian.__init__(target, **settings)
        # In memory that the workers share.
        self.draining = RawValue(ctypes.c_bool, False)  # noqa: FBT003 - its first value.
        self.main_loop_interrupt = _Wake()
        self._told_at: float | None = None
        self._sockets: list[Any] = []

    # --- sockets ------------------------------------------------------------------------------

    def _init_shared_socket(self) -> None:
        """
        Hold one listening socket for each worker, which outlives it.

        The kernel shares connections out among the sockets. One that a worker opened itself would take
        what still waits in its queue to the grave, when a reload replaces that worker.
        """
        granian: Any = super()
        granian._init_shared_socket()  # noqa: SLF001 - of our own base.
        spec: Any = self._ssp
        if spec is not None and multiprocessing.get_start_method() == "fork":
            self._sockets = [spec.build() for _ in range(self.workers)]
            self._ssp = None

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Callable[..., ASGIApp]) -> WorkerProcess:  # type: ignore[override]  # noqa: ANN401 - Granian's.
        granian: Any = super()
        serves = RawValue(ctypes.c_bool, False)  # noqa: FBT003 - its first value.
        load = partial(callback_loader, serves)
        if self._sockets:
            self._shd = self._sockets[idx]
            others = [each.get_fd() for each in self._sockets if each is not self._shd]
            load = partial(_without, others, load)
        worker: Any = granian._spawn_worker(idx, target, load)  # noqa: SLF001 - of our own base.
        worker.serves = serves
        return cast("WorkerProcess", worker)

    def _drop_shared_socket(self) -> None:
        granian: Any = super()
        granian._drop_shared_socket()  # noqa: SLF001 - of our own base.
        for each in self._sockets:
            os.close(each.get_fd())

    def announce(self, where: str) -> None:
        """
        Say that it is ready, once every worker is. For a thread.

        It must not import anything, as a request of its own would: a worker that is forked meanwhile
        inherits the lock of that module, and waits for ever where it imports the same.
        """
        late = time.monotonic() + READY_SECONDS
        # A worker that has started listens a moment later.
        while not (self._are_ready(self.wrks) and _listens(self.bind_addr, self.bind_port)):
            if time.monotonic() > late:
                _say(f"not all workers have started after {READY_SECONDS:g} s")
                late = math.inf
            time.sleep(_LOOK_SECONDS)
        print(f"Ready: {where}", flush=True)  # noqa: T201 - it is what was asked for.

    def _are_ready(self, workers: Sequence[Any]) -> bool:
        return len(workers) == self.workers and all(each.serves.value for each in workers)

    # --- signals ------------------------------------------------------------------------------

    def signal_handler_interrupt(self, *_: object) -> None:
        """
        Stop; told a second time, at once.

        An event is set under a lock, which the interrupted main thread may hold: in a wait for this
        event, or in this handler, where a second signal follows the first. Another thread can wait.
        """
        if self.pid not in {None, os.getpid()}:
            os._exit(0)  # A worker that does not serve yet still has its parent's handlers.
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
            threading.Thread(target=self._stop, daemon=True).start()
        elif now - self._told_at >= _AGAIN_SECONDS:
            threading.Thread(target=self._end, args=("told to stop a second time",), daemon=True).start()

    def signal_handler_reload(self, *_: object) -> None:
        """Reload; told again meanwhile, once more after it. In another thread for the same reason."""
        threading.Thread(target=self._tell_to_reload, daemon=True).start()

    def _tell_to_reload(self) -> None:
        self.reload_signal = True
        self.main_loop_interrupt.set()

    def _reload(self, spawn_target: Any, target_loader: Callable[[], ASGIApp]) -> None:  # noqa: ANN401 - Granian's.
        """
        Have new workers take over once every one of them serves; if one does not, the old ones go on.

        One comes first, so that what keeps all of them from serving is told once.
        """
        self.reload_signal = False
        new: list[Any] = []
        for indices in ([0], range(1, self.workers)):
            for idx in indices:
                worker: Any = self._spawn_worker(idx, spawn_target, target_loader)
                worker.interrupt_by_parent = True  # Its end is no reason to end the server, as yet.
                worker.start()
                new.append(worker)
            if not self._all_serve(new):
                for each in new:
                    if not each.serves.value:
                        each.kill()
                self._let_go_of(new)
                if self._told_at is None:
                    _say("not reloaded, the server goes on as it was")
                return
        old, self.wrks = self.wrks, new
        self._let_go_of(old)
        # Who ended until here was an old one.
        granian: Any = self
        granian.interrupt_children.clear()
        granian.respawned_wrks.clear()
        for idx, worker in enumerate(new):
            worker.interrupt_by_parent = False
            if not worker.is_alive():
                granian.interrupt_children.append(idx)
                self.main_loop_interrupt.set()

    def _all_serve(self, workers: Sequence[Any]) -> bool:
        """Wait for workers to have started; tell whether all have, and nobody wants us to stop."""
        end = time.monotonic() + READY_SECONDS
        while not all(each.serves.value for each in workers):
            if self._told_at is not None or not all(each.is_alive() for each in workers):
                return False
            if time.monotonic() > end:
                _say(f"a new worker has not started after {READY_SECONDS:g} s")
                return False
            time.sleep(_LOOK_SECONDS)
        return self._told_at is None

    def _let_go_of(self, workers: list[Any]) -> None:
        """Have workers finish what they have in flight, and end."""
        granian: Any = self
        kept, self.wrks = self.wrks, workers
        granian._stop_workers()  # noqa: SLF001 - of our own base.
        self.wrks = kept

    def _respawn_workers(
        self,
        workers: Sequence[int],
        spawn_target: Any,  # noqa: ANN401 - Granian's.
        target_loader: Callable[[], ASGIApp],
        delay: float = 0,
    ) -> None:
        """Replace those that died, unless all shall stop by now."""
        if not self.interrupt_signal:
            granian: Any = super()
            granian._respawn_workers(workers, spawn_target, target_loader, delay)  # noqa: SLF001 - of our own base.

    def _stop(self) -> None:
        self.draining.value = True
        time.sleep(self.drain_seconds)
        self.interrupt_signal = True
        end = time.monotonic() + self.stop_seconds + _CLOSING_SECONDS
        while time.monotonic() < end:
            # Again and again, since the replacement of a worker that died clears it.
            self.main_loop_interrupt.set()
            time.sleep(0.2)
        self._end(f"what was in flight did not end within {self.stop_seconds:g} s")

    def _end(self, why: str) -> None:
        _say(f"ended at once: {why}")
        for each in multiprocessing.active_children():
            each.kill()
        os._exit(1)


class _Wake(threading.Event):
    """Has a thread look at what is to be done; set while it looks, it looks once more."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is something to look at."""
        try:
            return super().wait(timeout)
        finally:
            # Before anybody looks: set without anything to be done, it would never let anyone wait again.
            self.clear()


def _say(what: str) -> None:
    print(f"watchword: {what}", file=sys.stderr, flush=True)  # noqa: T201 - it is for a person.


def _without(others: Sequence[int], load: Callable[[], ASGIApp]) -> ASGIApp:
    """Let go of other workers' sockets: they must end with those."""
    for each in others:
        os.close(each)
    return load()


def _load(
    make: Callable[[IsDraining], ASGIApp], parent: int, draining: "ctypes.c_bool", serves: "ctypes.c_bool"
) -> ASGIApp:
    if sys.platform == "linux":
        # A Ctrl-C reaches a whole process group, sometimes twice. The parent alone shall hear it, and
        # stop the worker once: a worker that is told twice while it stops may never end.
        os.setpgid(0, 0)
        # A worker that outlived a killed parent would go on answering beside the next one.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    app = make(lambda: draining.value)
    # What was made so far stays for good, and requests leave few cycles behind: the collector need
    # not look at the one, nor often for the other (10 % of the CPU of a step-up, measured).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return _telling(app, serves)


def _telling(app: ASGIApp, serves: "ctypes.c_bool") -> ASGIApp:
    """Have the parent see when *app* has started."""

    def telling(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan":
            return app(scope, receive, send)

        async def seen(message: ASGIMessage) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                serves.value = True

        return app(scope, receive, seen)

    return telling


def _listens(host: str, port: int) -> bool:
    """Tell whether a connection is accepted; imports nothing, as ``socket.create_connection`` does."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            return probe.connect_ex((host, port)) == 0
        except OSError:
            return False


def _address(host: str) -> str:
    """Look a host's name up, since Granian takes addresses alone; of several an IPv4 one."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {host}: {error.strerror}") from error
    addresses = [str(where[0]) for *_, where in found]
    return next((each for each in addresses if ":" not in each), addresses[0])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _free(host: str, port: int) -> int:
    """Bind once without sharing: Granian shares its port, so that a second server would not notice."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])
