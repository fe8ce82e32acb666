"""The module for openers, without a browser: its size, and its types."""

import gzip
import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from tests.page.installed import MODULES, NODE

STATIC = files("watchword.page").joinpath("static")
CONSUMER = """
import { ApprovalError, approve, stepUpFetch, type Flow, type Reason } from "./watchword.js";

const flow: Flow = "popup";
const controller = new AbortController();
const call: typeof fetch = stepUpFetch({
  flow,
  page: new URL("https://sca.example/approve-api-action/"),
  lang: "de",
  signal: controller.signal,
  onEnd: (error) => console.log(error?.message),
});
const response: Response = await call("/payments/7", { method: "POST", body: new FormData() });
console.log(response.status);
try {
  await approve("e1a5ff5c-7a4f-4a59-9a57-1a4cf9e0a6f3", { title: "Approve", closeLabel: "Close" });
} catch (error) {
  if (error instanceof ApprovalError) {
    const reason: Reason = error.reason;
    console.log(reason);
  }
}
// @ts-expect-error There is no such flow.
stepUpFetch({ flow: "modal" });
// @ts-expect-error A token is text.
void approve(7);
"""
AGREEMENT = """
import * as module from "./made/watchword.js";
import type * as declared from "./watchword.js";

export const one: typeof declared = module;
type Both<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
type D = typeof declared;
type M = typeof module;
export const fetching: Both<Parameters<D["stepUpFetch"]>, Parameters<M["stepUpFetch"]>> = true;
export const approving: Both<Parameters<D["approve"]>, Parameters<M["approve"]>> = true;
export const names: Both<keyof D, keyof M> = true;
"""
OPTIONS = {
    "target": "ES2022",
    "module": "ES2022",
    "moduleResolution": "bundler",
    "lib": ["ES2023", "DOM", "DOM.Iterable"],
    "types": [],
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "exactOptionalPropertyTypes": False,
    "noImplicitOverride": True,
    "noImplicitReturns": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "allowJs": True,
    "checkJs": True,
}


def test_the_module_is_less_than_6_kb_on_its_way() -> None:
    assert len(gzip.compress(STATIC.joinpath("watchword.js").read_bytes(), mtime=0)) < 6000


def test_the_module_needs_nothing_else() -> None:
    text = STATIC.joinpath("watchword.js").read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if not line.strip().startswith(("*", "/*"))]
    assert not [line for line in code if line.startswith("import ") or "import(" in line]


@pytest.fixture
def project(node_modules: None, tmp_path: Path) -> Path:
    for name in ("watchword.js", "watchword.d.ts"):
        (tmp_path / name).write_bytes(STATIC.joinpath(name).read_bytes())
    return tmp_path


def test_the_module_is_typed_strictly_and_its_declarations_agree(project: Path) -> None:
    made = project / "made"
    made.mkdir()
    # Beside no declarations, so that TypeScript looks at the module itself.
    alone = project / "alone"
    alone.mkdir()
    shutil.copy(project / "watchword.js", alone)
    shutil.copy(project / "watchword.d.ts", project / "types.d.ts")
    text = (alone / "watchword.js").read_text(encoding="utf-8").replace("./watchword.d.ts", "../types")
    (alone / "watchword.js").write_text(text, encoding="utf-8")
    _compile(alone, "watchword.js", {"declaration": True, "emitDeclarationOnly": True, "outDir": str(made)})
    (project / "agreement.ts").write_text(AGREEMENT, encoding="utf-8")
    _compile(project, "agreement.ts", {"noEmit": True, "checkJs": False})


def test_a_shop_in_typescript_compiles_against_it(project: Path) -> None:
    (project / "consumer.ts").write_text(CONSUMER, encoding="utf-8")
    _compile(project, "consumer.ts", {"noEmit": True, "checkJs": False})


def test_the_compiler_finds_what_is_wrong(project: Path) -> None:
    (project / "consumer.ts").write_text(CONSUMER.replace('"popup"', '"modal"'), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"consumer\.ts"):
        _compile(project, "consumer.ts", {"noEmit": True, "checkJs": False})


def _compile(folder: Path, name: str, options: dict[str, object]) -> None:
    settings = {"compilerOptions": {**OPTIONS, **options}, "files": [name]}
    (folder / "tsconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [NODE, MODULES / "typescript/bin/tsc", "-p", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
