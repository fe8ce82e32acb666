"""The command line: ``watchword …``. Errors are one readable line; 2 for usage, 1 for failure."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TypeAlias


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _Parser(
        prog="watchword",
        description="Strong customer authentication for any API.",
        epilog="example: watchword sandbox --port 8123",
    )
    parser.add_argument("--version", action="version", version=f"watchword {version('watchword')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_sandbox(commands)
    _add_serve(commands)
    _add_init(commands)
    _add_doctor(commands)
    _add_keys(commands)
    _add_upkeep(commands)
    _add_call(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except KeyboardInterrupt:
        # Before a server takes the signal itself. As a shell tells it: 128 and SIGINT.
        return 130
    return status


def _add_sandbox(commands: "Commands") -> None:
    parser = commands.add_parser(
        "sandbox",
        help="the whole product on one machine, with a demo bank",
        description="Run the whole product on one machine, with a demo bank. Not for production.",
        epilog="example: watchword sandbox --port 8123 --data ./sandbox-data",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8000, help="port to listen on, 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="keep everything in DIR; without it nothing is kept"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML whose [[actions]], [session], [limits], [enrolment] and [page] replace the sandbox's own",
    )
    parser.set_defaults(run=_sandbox)


def _sandbox(chosen: argparse.Namespace) -> int:
    from watchword.config import ConfigError
    from watchword.sandbox.app import UnusableDataError, run_sandbox
    from watchword.server.run import CannotListenError

    try:
        run_sandbox(host=chosen.host, port=chosen.port, data=chosen.data, config=chosen.config)
    except (ConfigError, CannotListenError, UnusableDataError) as error:
        print(f"watchword sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _add_serve(commands: "Commands") -> None:
    parser = commands.add_parser(
        "serve",
        help="the server for production",
        description="Run the server for production. Refuses unsafe settings, naming each one.",
        epilog="example: watchword serve --config /etc/watchword/watchword.toml",
    )
    _add_config(parser)
    parser.set_defaults(run=_serve)


def _serve(chosen: argparse.Namespace) -> int:
    from watchword.config import ConfigError
    from watchword.server.run import CannotListenError
    from watchword.serving.serve import run_serve
    from watchword.serving.settings import UnusableDeploymentError

    try:
        run_serve(chosen.config)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"watchword serve: {error.source}: {mistake}", file=sys.stderr)
        return 1
    except (CannotListenError, UnusableDeploymentError) as error:
        print(f"watchword serve: {error}", file=sys.stderr)
        return 1
    return 0


def _add_init(commands: "Commands") -> None:
    parser = commands.add_parser(
        "init",
        help="write a commented watchword.toml and fresh keys",
        description="Write a commented watchword.toml and fresh keys, which their owner alone may read."
        " Nothing that is there is replaced.",
        epilog="example: watchword init /etc/watchword",
    )
    parser.add_argument(
        "dir", type=Path, nargs="?", default=Path(), metavar="DIR", help="where to (default: here)"
    )
    parser.add_argument("--json", action="store_true", help="say what was written as JSON")
    parser.set_defaults(run=_init)


def _init(chosen: argparse.Namespace) -> int:
    from watchword.serving.initial import AlreadyThereError, run_init

    try:
        run_init(chosen.dir, as_json=chosen.json)
    except AlreadyThereError as error:
        print(f"watchword init: {error}", file=sys.stderr)
        return 1
    return 0


def _add_doctor(commands: "Commands") -> None:
    parser = commands.add_parser(
        "doctor",
        help="check what serve would run with, and say what to do",
        description="Check configuration, keys, store, issuers, delivery and clock, and say what to do."
        " Exits with 1 when something is wrong.",
        epilog="example: watchword doctor --config /etc/watchword/watchword.toml",
    )
    _add_config(parser)
    parser.add_argument("--json", action="store_true", help="say what was found as JSON")
    parser.set_defaults(run=_doctor)


def _doctor(chosen: argparse.Namespace) -> int:
    from watchword.serving.doctor import run_doctor

    return 0 if run_doctor(chosen.config, as_json=chosen.json) else 1


def _add_keys(commands: "Commands") -> None:
    parser = commands.add_parser(
        "keys",
        help="put a new master key in the place of the old one, while servers serve",
        description="Put a new master key in the place of the old one, while servers serve.",
        epilog="example: watchword keys rotate --config /etc/watchword/watchword.toml --begin",
    )
    steps = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = steps.add_parser(
        "status",
        help="say where a rotation is, and what is next",
        description="Say where a rotation is, and what is next. Exits with 1 when something is to be done.",
        epilog="example: watchword keys status --config /etc/watchword/watchword.toml",
    )
    _add_config(status)
    status.set_defaults(run=_keys_status)
    rotate = steps.add_parser(
        "rotate",
        help="take the next step, if it is safe, and say what comes after it",
        description="Take the next step of a rotation, if it is safe, and say what has to happen after it.",
        epilog="example: watchword keys rotate --config /etc/watchword/watchword.toml --begin",
    )
    _add_config(rotate)
    rotate.add_argument("--begin", action="store_true", help="begin a rotation; without it one goes on")
    rotate.add_argument(
        "--reloaded",
        action="store_true",
        help="every server has read the key file as it is now; needed where none is seen on this machine",
    )
    rotate.add_argument(
        "--per-second",
        type=_count,
        default=200,
        metavar="N",
        help="seal no more users than this anew in a second (default: %(default)s)",
    )
    rotate.set_defaults(run=_keys_rotate)


def _keys_status(chosen: argparse.Namespace) -> int:
    from watchword.serving.rotation import run_status

    return _said("watchword keys status", lambda: run_status(chosen.config))


def _keys_rotate(chosen: argparse.Namespace) -> int:
    from watchword.serving.rotation import run_rotate

    def rotate() -> bool:
        run_rotate(chosen.config, begin=chosen.begin, reloaded=chosen.reloaded, per_second=chosen.per_second)
        return True

    return _said("watchword keys rotate", rotate)


def _add_upkeep(commands: "Commands") -> None:
    migrate = commands.add_parser(
        "migrate",
        help="bring the store to the schema of this version",
        description="Bring the store to the schema of this version; a start does the same.",
        epilog="example: watchword migrate --config /etc/watchword/watchword.toml --check",
    )
    _add_config(migrate)
    migrate.add_argument(
        "--check", action="store_true", help="only say what there is to do, and exit with 1 where there is"
    )
    migrate.set_defaults(run=_migrate)
    backup = commands.add_parser(
        "backup",
        help="copy the store while it is served",
        description="Copy the store while it is served. No token and no session is in the copy, nor a key.",
        epilog="example: watchword backup --config /etc/watchword/watchword.toml /backup/monday.db",
    )
    _add_config(backup)
    backup.add_argument("target", type=Path, metavar="TARGET", help="the file to make; must not be there")
    backup.set_defaults(run=_backup)
    restore = commands.add_parser(
        "restore",
        help="put a copy where the store was",
        description="Put a copy of the store where the store was; voids every token and ends every session.",
        epilog="example: watchword restore --config /etc/watchword/watchword.toml /backup/monday.db",
    )
    _add_config(restore)
    restore.add_argument("source", type=Path, metavar="SOURCE", help="the copy, which stays as it is")
    restore.set_defaults(run=_restore)


def _migrate(chosen: argparse.Namespace) -> int:
    import asyncio

    from watchword.serving.upkeep import run_migrate

    return _said("watchword migrate", lambda: asyncio.run(run_migrate(chosen.config, check=chosen.check)))


def _backup(chosen: argparse.Namespace) -> int:
    from watchword.serving.upkeep import run_backup

    return _said("watchword backup", lambda: run_backup(chosen.config, chosen.target))


def _restore(chosen: argparse.Namespace) -> int:
    from watchword.serving.upkeep import run_restore

    return _said("watchword restore", lambda: run_restore(chosen.config, chosen.source))


def _said(name: str, work: Callable[[], bool]) -> int:
    """Do something with an installation; what stops it is said, a line each."""
    from watchword.config import ConfigError
    from watchword.serving.upkeep import RefusedError

    try:
        return 0 if work() else 1
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"{name}: {error.source}: {mistake}", file=sys.stderr)
    except RefusedError as error:
        print(f"{name}: {error}", file=sys.stderr)
    return 1


def _add_config(parser: _Parser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="the watchword.toml to serve by"
    )


def _add_call(commands: "Commands") -> None:
    try:
        from watchword.client import call
    except ImportError:
        parser = commands.add_parser("call", help="needs the extra `client`, which is not installed")
        parser.add_argument("anything", nargs=argparse.REMAINDER)
        parser.set_defaults(run=_without_client)
    else:
        call.add_parser(commands)


def _without_client(_: argparse.Namespace) -> int:
    print("watchword call: install the extra it needs: pip install 'watchword[client]'", file=sys.stderr)
    return 1


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
