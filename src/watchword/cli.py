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
    _add_call(commands)
    chosen = parser.parse_args(arguments)
    status: int = chosen.run(chosen)
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
        help="TOML whose [[actions]], [session] and [limits] replace the sandbox's own",
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
