"""The command line: ``watchword …``. Errors are one readable line; 2 for usage, 1 for failure."""

import argparse
import sys
from collections.abc import Sequence
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
        help="TOML whose [[actions]], [session], [limits] and [enrolment] replace the sandbox's own",
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
    from watchword.serving.app import UnusableDeploymentError
    from watchword.serving.serve import run_serve

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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
