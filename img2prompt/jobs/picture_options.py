"""Options of the verbs that make pictures: what settles a picture, and how the work is done."""

from __future__ import annotations

import argparse

from img2prompt.jobs.options import number
from img2prompt.models.diffusion_schedulers import SCHEDULERS, row_of
from img2prompt.models.diffusion_settings import ATTENTIONS, DTYPES, OFFLOADS, PictureSettings, RunSettings

DERIVED = "derived"


def add_picture_options(parser: argparse.ArgumentParser, *, derived: bool = False) -> None:
    """What settles a picture beside model, prompt and seed.

    Args:
        parser: of the verb.
        derived: the verb can derive negative prompts from what its comparison finds.
    """
    add = parser.add_argument_group("the pictures (default: as the model's card says)").add_argument
    add("--size", type=_size, metavar="PX", help="side, or WIDTHxHEIGHT, e.g. 512 or 768x512")
    add("--steps", type=number(int, 1, 1000), metavar="N", help="of denoising")
    add("--guidance", type=number(float, 0, 100), metavar="G", help="guidance scale")
    add("--scheduler", type=_scheduler, metavar="NAME", help=", ".join(SCHEDULERS))
    more = "; derived: each prompt drawn again, without what most of its pictures show too many" if derived else ""
    add(
        "--negative-prompt",
        type=str if derived else given_negative,
        metavar="TEXT",
        help=f"what the pictures should not show; stock: faults of pictures; none (default){more}",
    )
    add("--no-safety-checker", action="store_true", help="leave it away where the model has one")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How the work is done; --batch-size and --device are the verb's."""
    usual = RunSettings()
    add = parser.add_argument_group("how pictures are made").add_argument
    add("--dtype", choices=DTYPES, default=usual.dtype, help="of the weights (default: 16 bits on CUDA, else 32)")
    add("--attention", choices=ATTENTIONS, default=usual.attention, help=f"(default: {usual.attention})")
    add(
        "--offload", choices=OFFLOADS, default=usual.offload, help="weights wait in main memory: slower, for small GPUs"
    )
    add("--vae-slicing", action="store_true", help="decode one picture at a time")
    add("--vae-tiling", action="store_true", help="decode large pictures in tiles")
    add("--compile", action="store_true", help="torch.compile: minutes at the start, faster afterwards")
    add("--allow-pickle", action="store_true", help="read weights that are no safetensors; they can hold code")


def picture_settings(options: argparse.Namespace) -> PictureSettings:
    """As the options say; negative prompts that are to be derived are not known yet."""
    width, height = options.size or (None, None)
    negative, word = options.negative_prompt, _word(options.negative_prompt)
    if word in ("none", DERIVED):
        negative = None
    elif word == "stock":
        from img2prompt.upsampling.negative import negative_for

        negative = negative_for("", "stock").text
    return PictureSettings(
        width_px=width,
        height_px=height,
        steps=options.steps,
        guidance_scale=options.guidance,
        scheduler=options.scheduler,
        negative_prompt=negative,
        safety_checker=not options.no_safety_checker,
    )


def wants_derived(options: argparse.Namespace) -> bool:
    """Whether negative prompts are to follow from what the comparison finds."""
    return _word(options.negative_prompt) == DERIVED


def run_settings(options: argparse.Namespace) -> RunSettings:
    """As the options say."""
    return RunSettings(
        device=options.device,
        dtype=options.dtype,
        batch_size=options.batch_size,
        attention=options.attention,
        offload=options.offload,
        vae_slicing=options.vae_slicing,
        vae_tiling=options.vae_tiling,
        compile=options.compile,
        allow_pickle=options.allow_pickle,
    )


def given_negative(text: str) -> str:
    """The type of a negative prompt where none can be derived."""
    if _word(text) == DERIVED:
        raise argparse.ArgumentTypeError(f"{text}: it follows from comparing pictures; only roundtrip derives it")
    return text


def _word(negative: str | None) -> str | None:
    return negative and negative.strip().lower()


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if not (1 <= len(sides) <= 2 and all(side.isdecimal() and 8 <= int(side) <= 8192 for side in sides)):
        raise argparse.ArgumentTypeError(f"{text}: a side, or WIDTHxHEIGHT, of 8 to 8192 pixels")
    return int(sides[0]), int(sides[-1])


def _scheduler(text: str) -> str:
    row_of(text)
    return text
