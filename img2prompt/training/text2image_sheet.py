"""Sample pictures of a text-to-image model in training, on one sheet."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from img2prompt.models.diffusion_mending import mend, usual_call
from img2prompt.models.quiet import quietly
from img2prompt.models.text2image_making import TextToImage
from img2prompt.pairs.atomic import fresh_file

COLUMNS = 8


@dataclass(frozen=True)
class Sheet:
    """The sample pictures of a validation.

    Attributes:
        pictures: how many; 0 for none.
        steps: of the sampler.
        guidance_scale: of the prompt; 1 for none.
    """

    pictures: int = 24
    steps: int = 20
    guidance_scale: float = 3.0


def write_sheet(model: TextToImage, prompts: Sequence[str], sheet: Sheet, path: Path) -> None:
    """Draws a picture for each prompt, from the same noise each time, and writes them as one PNG.

    Args:
        model: the parts of the pipeline; it is left as it is.
        prompts: one a picture.
        sheet: how they are sampled.
        path: the PNG; its prompts go into the text file of the same name.
    """
    side, rows = model.image_px, -(-len(prompts) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * side, rows * side), "white")
    for i, picture in enumerate(_pictures(model, prompts, sheet)):
        whole.paste(picture, (i % COLUMNS * side, i // COLUMNS * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    with fresh_file(path) as fresh:
        whole.save(fresh, "PNG")
    path.with_name("prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")


@torch.inference_mode()
def _pictures(model: TextToImage, prompts: Sequence[str], sheet: Sheet) -> list[Image.Image]:
    with tempfile.TemporaryDirectory() as scratch, quietly("diffusers"):
        pipeline = model.pipeline(Path(scratch))
        pipeline.set_progress_bar_config(disable=True)
        hook = mend(pipeline)
        try:
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(len(prompts))]
            made: list[Image.Image] = pipeline(
                prompt=list(prompts),
                generator=generators,
                num_inference_steps=sheet.steps,
                guidance_scale=sheet.guidance_scale,
                **usual_call(pipeline),
            ).images
        finally:
            if hook is not None:
                hook.remove()
    return made
