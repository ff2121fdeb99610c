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


PRECISIONS = ("auto", "float32", "bfloat16")


def dtype_of(precision: str, device: str) -> torch.dtype:
    """The type of weights for one of PRECISIONS; "auto" takes the fastest.

    Raises:
        ConfigError: no such precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}: {', '.join(PRECISIONS)} are possible")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return dtypes[precision] if precision in dtypes else fast_dtype(device)


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor multiplies it, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)
    return torch.bfloat16 if has else torch.float32
