"""How the browser for these tests gets here, on machines that are made up."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/chromium"
BASH = shutil.which("bash")
NEEDED = ("bash", "cat", "chmod", "env", "grep")
CHROMIUM = "#!/bin/bash\necho 'Chromium 156.0.1'\n"
BROKEN = "#!/bin/bash\necho 'Command requires the chromium snap' >&2\nexit 1\n"
APT = """#!/bin/bash
echo "$DEBIAN_FRONTEND apt-get $*" >> "$LOG"
if [ "$1" = install ]; then printf '%s' "$MADE" > "$BIN/chromium"; chmod +x "$BIN/chromium"; fi
"""


class Machine:
    """A directory of commands that is all there is."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        self.log.touch()
        for name in NEEDED:
            found = shutil.which(name)
            assert found is not None
            (self.bin / name).symlink_to(found)

    def has(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def run(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        assert BASH is not None
        return subprocess.run(
            [BASH, SCRIPT],
            env={"PATH": str(self.bin), "BIN": str(self.bin), "LOG": str(self.log), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_used(machine: Machine, name: str) -> None:
    machine.has(name, CHROMIUM.replace("Chromium", "Google Chrome") if name == "google-chrome" else CHROMIUM)
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{machine.bin / name}\n", "")


def test_a_name_that_does_not_run_is_no_browser(machine: Machine) -> None:
    machine.has("chromium", BROKEN)
    machine.has("chromium-browser", CHROMIUM)
    assert machine.run().stdout == f"{machine.bin}/chromium-browser\n"


def test_root_gets_debians_chromium_and_nothing_that_is_only_recommended(machine: Machine) -> None:
    machine.has("id", "#!/bin/bash\necho 0\n")
    machine.has("apt-get", APT)
    done = machine.run(MADE=CHROMIUM)
    assert (done.returncode, done.stdout) == (0, f"{machine.bin}/chromium\n")
    update, install = machine.log.read_text().splitlines()
    assert update.endswith("apt-get update -qq")
    assert install == "noninteractive apt-get install -qq --no-install-recommends chromium fonts-dejavu-core"


def test_who_may_become_root_without_a_password_gets_it_too(machine: Machine) -> None:
    machine.has("id", "#!/bin/bash\necho 1000\n")
    machine.has("sudo", '#!/bin/bash\nshift\nexec "$@"\n')
    machine.has("true", "#!/bin/bash\n")
    machine.has("apt-get", APT)
    assert machine.run(MADE=CHROMIUM).stdout == f"{machine.bin}/chromium\n"


@pytest.mark.parametrize(
    ("commands", "environment", "says"),
    [
        ({}, {}, "none found; install Chromium, or name it: CHROMIUM=/path/to/chromium"),
        ({}, {"CHROMIUM": "/no/such/chromium"}, "CHROMIUM=/no/such/chromium does not run"),
        (
            {"apt-get": APT, "id": "#!/bin/bash\necho 1000\n"},
            {},
            "none found; run: sudo apt-get install chromium fonts-dejavu-core",
        ),
        (
            {"apt-get": "#!/bin/bash\nexit 100\n", "id": "#!/bin/bash\necho 0\n"},
            {},
            "apt-get could not install chromium fonts-dejavu-core; the reason stands above",
        ),
        (
            {"apt-get": APT, "id": "#!/bin/bash\necho 0\n"},
            {"MADE": BROKEN},
            "it was installed, and still does not run: chromium --version",
        ),
    ],
)
def test_without_one_it_says_in_a_line_what_to_do(
    machine: Machine, commands: dict[str, str], environment: dict[str, str], says: str
) -> None:
    for name, script in commands.items():
        machine.has(name, script)
    done = machine.run(**environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"chromium: {says}"
