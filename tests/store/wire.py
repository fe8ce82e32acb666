"""A wire between two programs on this machine, which can be held up or cut."""

import socket
from contextlib import suppress
from threading import Event, Thread


class Wire:
    """
    Carries bytes between whoever connects to its port and another port.

    In threads, since what goes over it belongs to processes that no event loop of a test waits for.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._ends: list[socket.socket] = []
        self._open = Event()
        self._open.set()
        self._answers = Event()
        self._answers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def hold_up(self) -> None:
        """Carry nothing on, in either direction; connections stay."""
        self._open.clear()

    def hold_up_answers(self) -> None:
        """Carry only on what whoever connected says."""
        self._answers.clear()

    def cut(self) -> None:
        """End all connections, with what is held up; new ones work."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.set()
        self._answers.set()

    def remove(self) -> None:
        """Take the wire away."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            try:
                other = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                one.close()
                continue
            self._ends += [one, other]
            for source, sink, free in ((one, other, [self._open]), (other, one, [self._open, self._answers])):
                thread = Thread(target=self._carry, args=(source, sink, free), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, free: list[Event]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                for each in free:
                    each.wait()
                if source not in self._ends:
                    break  # It was cut meanwhile: what was held up is lost.
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
