"""``watchword init``: what a new installation begins with."""

import os
from importlib.resources import files
from pathlib import Path

import msgspec

from watchword.jose.keys import ServerKeys
from watchword.serving.in_use import allow_to_be_seen
from watchword.serving.keys import new_key_file, write_private

CONFIG, KEYS, JOSE = "watchword.toml", "keys.json", "jose.pem"


class AlreadyThereError(Exception):
    """Something is there already, or nothing can be written; says what."""


def run_init(folder: Path, *, as_json: bool = False) -> None:
    """
    Write a commented configuration and fresh keys, and say what to do next.

    Raises:
        AlreadyThereError: One of the files is there; nothing was written. Or the place cannot be used.
    """
    there = [str(folder / name) for name in (CONFIG, KEYS, JOSE) if os.path.lexists(folder / name)]
    if there:
        raise AlreadyThereError(
            f"{', '.join(there)}: there already, and left as it is: keys that are replaced open nothing any"
            " more; choose another directory, and move here what you need"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / KEYS, new_key_file())
        allow_to_be_seen(folder / KEYS)
        write_private(folder / JOSE, ServerKeys.generate().to_pem())
        write_private(folder / CONFIG, template().encode())
    except OSError as error:
        raise AlreadyThereError(f"{error.filename or folder}: {error.strerror or error}") from error
    _say([folder / name for name in (CONFIG, KEYS, JOSE)], _next(folder / CONFIG), as_json=as_json)


def template() -> str:
    """Return the configuration that a new installation begins with."""
    return files("watchword.serving").joinpath("template.toml").read_text(encoding="utf-8")


def _next(config: Path) -> list[str]:
    return [
        f"fill in {config}: who calls ([[issuers]], [introspection], [gateway] or [[tokens]])",
        f"fill in {config}: what to protect ([[actions]], [app]), and who carries codes ([delivery])",
        f"keep {KEYS} and {JOSE} in your secret store too: without them what is enrolled is lost",
        f"watchword doctor --config {config}",
        f"watchword serve --config {config}",
    ]


def _say(written: list[Path], steps: list[str], *, as_json: bool) -> None:
    if as_json:
        said = {"written": [str(path) for path in written], "next": steps}
        print(msgspec.json.encode(said).decode())  # noqa: T201 - it was asked for.
        return
    lines = [*(f"wrote {path}" for path in written), "", "Next:"]
    lines += [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    print("\n".join(lines))  # noqa: T201 - it talks to the person who started it.
