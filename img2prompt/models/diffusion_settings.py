"""What can be asked of a diffusion pipeline; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "sliced", "xformers")
OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """What settles a picture beside model, prompt and seed; None: the preset's value, else the pipeline's own."""

    width_px: int | None = None
    height_px: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None  # a name of SCHEDULERS
    negative_prompt: str | None = None
    safety_checker: bool = True  # False: leave it out where the pipeline has one


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the work is done; changes a picture by rounding at most."""

    device: str = "auto"
    dtype: str = "auto"  # one of DTYPES; "auto": bfloat16 or float16 on CUDA, else float32
    batch_size: int = 4  # pictures at once, before memory runs out
    attention: str = "sdpa"  # one of ATTENTIONS
    offload: str = "none"  # one of OFFLOADS: weights wait in the main memory, a model or a layer at a time
    vae_slicing: bool = False
    vae_tiling: bool = False
    compile: bool = False  # the denoiser, by torch.compile
    allow_pickle: bool = False  # read weights that are not safetensors
