"""How the server stops."""

from watchword.server.run import _Server


def test_a_signal_that_meets_the_main_thread_in_the_middle_of_its_wait_does_not_lock_it() -> None:
    server = _Server("watchword")
    server.stop_seconds = 3600  # Its end would be that of the tests.
    # As the wait holds it, in this same thread.
    with server.main_loop_interrupt._cond:  # type: ignore[attr-defined]  # noqa: SLF001
        server.signal_handler_interrupt()
        server.signal_handler_interrupt()
    assert server.main_loop_interrupt.wait(10)
    assert server.interrupt_signal
