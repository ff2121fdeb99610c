"""img2prompt: from a picture to the prompt that makes it.

The public names are loaded on first use (PEP 562), so that importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from img2prompt._version import __version__

if TYPE_CHECKING:
    from img2prompt.errors import Img2PromptError
    from img2prompt.pairs.images import open_image
    from img2prompt.pairs.metadata import read_prompt
    from img2prompt.predictor import Predictor
    from img2prompt.results import Candidate, EmbeddedPrompt, Failed, Prediction

_HOMES = {
    "Candidate": "img2prompt.results",
    "EmbeddedPrompt": "img2prompt.results",
    "Failed": "img2prompt.results",
    "Img2PromptError": "img2prompt.errors",
    "Prediction": "img2prompt.results",
    "Predictor": "img2prompt.predictor",
    "open_image": "img2prompt.pairs.images",
    "read_prompt": "img2prompt.pairs.metadata",
}

__all__ = [
    "Candidate",
    "EmbeddedPrompt",
    "Failed",
    "Img2PromptError",
    "Prediction",
    "Predictor",
    "__version__",
    "open_image",
    "read_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
