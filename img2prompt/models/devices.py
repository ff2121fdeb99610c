"""Which device computes."""

from __future__ import annotations

import torch

from img2prompt.errors import ConfigError


def usable(device: str) -> str:
    """The device to run on; "auto" takes CUDA when there is one.

    Raises:
        ConfigError: this machine has no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {device!r}: not usable here ({reason}); try --device cpu") from error
    return device
