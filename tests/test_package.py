"""What is installed: every file of the package that is no code must be named, or only editable installs have it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from img2prompt.errors import first_lines

ROOT = Path(__file__).parents[1]


def test_every_data_file_is_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    package = ROOT / "img2prompt"
    patterns = project["tool"]["setuptools"]["package-data"]["img2prompt"]
    named = {path for pattern in patterns for path in package.glob(pattern)}
    there = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert len(there) > 20
    assert not {str(path.relative_to(package)) for path in there - named}


def test_an_error_of_a_library_is_told_in_one_bounded_line() -> None:
    error = ValueError("  first\n\n  second \nthird")
    assert first_lines(error) == "first second" and first_lines(error, 1) == "first"
    assert first_lines(KeyError()) == "KeyError" and len(first_lines(OSError("x" * 999))) == 240
