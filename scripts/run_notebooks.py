"""Runs the notebooks from top to bottom and keeps their outputs; stops with the cell that fails.

    python scripts/run_notebooks.py                          every notebook, outputs written back
    python scripts/run_notebooks.py --check 03-predict       one of them, nothing written: does it run?

Each runs in a folder of its own that is removed afterwards, so that no path of this machine is in what they show.
Needs the extra `dev`: pip install -e '.[dev]'
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
MOST_BYTES = 300_000  # of a notebook with its outputs
TIMEOUT_S = 600  # of a cell


def run(path: Path) -> nbformat.NotebookNode:
    """Runs a notebook; its new state, with outputs.

    Raises:
        CellExecutionError: a cell fails; the message holds it and its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (FOLDER.parent, os.environ.get("PYTHONPATH", ""))))
        client = NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": folder}})
        client.execute(env={**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"})
    return tidied(notebook)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from run to run: times, process ids, the kernel's version."""
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main() -> int:
    """Command line; 1 when a notebook fails or became too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of notebooks, such as 03-predict (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in options.names] or sorted(FOLDER.glob("*.ipynb"))
    failed = False
    for path in paths:
        start = time.perf_counter()
        try:
            text = nbformat.writes(run(path)) + "\n"
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {len(text) / 1000:.0f} kB", file=sys.stderr)
        if len(text) > MOST_BYTES:
            print(f"{path.name}: over {MOST_BYTES:,} bytes; show fewer or smaller pictures", file=sys.stderr)
            failed = True
        elif not options.check:
            path.write_text(text, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
