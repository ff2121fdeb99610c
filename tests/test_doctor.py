"""`img2prompt doctor`: a table, whatever is missing."""

from __future__ import annotations

import sys

import pytest

import img2prompt
from img2prompt import extras
from img2prompt.cli import main
from img2prompt.presets import PRESETS


def test_doctor_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("img2prompt", "python", "torch", "open_clip_torch", "faiss", "cpu bf16", "missing extras", *PRESETS):
        assert f"\n  {word}" in out or f"\n{word}" in f"\n{out}", word
    assert img2prompt.__version__ in out and "Traceback" not in out


def test_a_missing_extra_comes_with_its_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.EXTRAS, "imaginary", ("no_such_module",))
    assert main(["doctor"]) == 0
    assert "pip install 'img2prompt[imaginary]'  (brings no_such_module)" in capsys.readouterr().out


def test_doctor_survives_a_broken_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # the import machinery raises for it
    assert main(["doctor"]) == 0
    assert "does not import" in capsys.readouterr().out
