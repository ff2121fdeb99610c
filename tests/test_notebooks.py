"""The notebooks: each runs from top to bottom, and what is kept of it can be read by others."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from img2prompt.errors import MissingExtra

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["01-data-format-train-val", "02-train-and-submit", "03-predict", "04-round-trip"]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "scripts" / "run_notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_can_be_read(path: Path, runner: ModuleType) -> None:
    """With outputs, in order, small, without errors, and without a path or a name of the machine that made them."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs), "no picture to look at"
    assert path.stat().st_size < runner.MOST_BYTES
    texts = json.dumps(
        [{k: v for k, v in o.get("data", {}).items() if "image/" not in k} | {"t": o.get("text")} for o in outputs]
    )
    assert not re.search(r"/(?:home|root|tmp|work|Users|usr|opt)/|[A-Z]:\\\\|site-packages|notebook-\w{8}", texts)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path: Path, runner: ModuleType) -> None:
    from img2prompt.models.sentence import find_model

    try:
        find_model()
    except MissingExtra as error:
        pytest.skip(str(error))
    kept = path.read_bytes()
    made = runner.run(path)
    assert sum(len(cell.get("outputs", [])) for cell in made.cells) > 0
    assert path.read_bytes() == kept


def test_a_cell_that_fails_stops_the_run(
    tmp_path: Path, runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [nbformat.v4.new_code_cell("1 / 0"), nbformat.v4.new_code_cell("print('never')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "bad.ipynb")
    before = (tmp_path / "bad.ipynb").read_bytes()
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", "bad"])
    assert runner.main() == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "bad.ipynb").read_bytes() == before
