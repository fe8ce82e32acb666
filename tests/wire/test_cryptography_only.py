"""A client of a few dozen lines, with no code of ours: the wire is all that it knows."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from tests.system.processes import Running
from tests.system.wire import Person, Wire
from tests.wire.support import PIN

SCRIPT = Path(__file__).with_name("pin_by_jwe.py")


def test_the_script_needs_nothing_but_python_and_cryptography() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                imported |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                imported.add(module.partition(".")[0])
            case ast.ImportFrom():
                imported.add(".")
            case _:
                pass
    assert imported - sys.stdlib_module_names == {"cryptography"}


def test_it_enrols_a_pin_clears_a_challenge_and_reads_the_encrypted_answer(
    server: Running, wire: Wire
) -> None:
    person = Person.make(wire, phoneNumber=None)
    # Isolated: neither this directory nor what the environment names can be imported.
    command: list[str | Path] = [sys.executable, "-I", SCRIPT, server.origin, person.token]
    command += ["demo-application", str(person.profile), PIN]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env={})
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["accountHolder"]["type"] == "PERSONAL"
    assert wire.executions("BALANCE__GET_STATEMENT") == 1
