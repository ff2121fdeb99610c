"""Keeps libraries from writing to the terminal what an error or a line of ours says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def quietly(*further: str) -> Iterator[None]:
    """Without the progress bars and reports of transformers, whose facts end in an error or a count of ours.

    Args:
        further: libraries that speak through a module of the same kind, e.g. "diffusers".
    """
    libraries = [import_module(f"{name}.utils.logging") for name in ("transformers", *further)]
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
