"""Pictures from prompts by any text-to-image pipeline of diffusers. With its siblings, the only importer of it.

The starting noise of a picture comes from its own generator on the CPU, so neither the batch nor the device nor what
was made before changes it. When memory runs out, the batch is halved and the work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2prompt.errors import ConfigError, ModelError, first_lines
from img2prompt.models.devices import usable
from img2prompt.models.diffusion_arguments import arguments_of, takes_negatives
from img2prompt.models.diffusion_encoders import EncoderRoom
from img2prompt.models.diffusion_joined import open_joined
from img2prompt.models.diffusion_loading import dtype_of, fingerprint
from img2prompt.models.diffusion_presets import locate
from img2prompt.models.diffusion_schedulers import sampler_of, set_scheduler
from img2prompt.models.diffusion_settings import PictureSettings, RunSettings
from img2prompt.models.quiet import quietly
from img2prompt.results import EmbeddedPrompt, Failed, Generated

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = ["DiffusionGenerator", "PictureSettings", "RunSettings"]

_log = logging.getLogger(__name__)

_BLACK = 2 / 255  # no sample of the picture is brighter


class DiffusionGenerator:
    """A pipeline that is on this machine; a `Generator`.

    Args:
        name: a preset of DIFFUSION_PRESETS, a folder, or a repository "OWNER/NAME" of the local cache.
        picture: what settles the pictures.
        run: how the work is done.

    Attributes:
        pipeline: of diffusers.
        device: where it computes.

    Raises:
        MissingExtra: diffusers is not installed.
        PresetError: the pipeline is not on this machine; nothing is downloaded.
        ModelError: it cannot be loaded, brings code, holds pickles, or makes no pictures from prompts.
        ConfigError: a setting that is unknown, or that the pipeline does not have.
    """

    def __init__(self, name: str, picture: PictureSettings | None = None, run: RunSettings | None = None) -> None:
        self._wanted, run = picture or PictureSettings(), run or RunSettings()
        self._located = locate(name)
        self.device = usable(run.device)
        self._joined = open_joined(
            self._located.folder,
            self._located.companion,
            run,
            self.device,
            safety_checker=self._wanted.safety_checker,
        )
        self.pipeline: DiffusionPipeline = self._joined.pipeline
        self._dtype = str(dtype_of(run.dtype, self.device)).removeprefix("torch.")
        self._batch_size = run.batch_size
        self._call = arguments_of(self._located, self.pipeline, self._wanted)
        self._sampler = self._set_scheduler()
        self._joined.follow()
        self._room = EncoderRoom(self.pipeline)

    @property
    def batch_size(self) -> int:
        """Pictures at once."""
        return self._batch_size

    @property
    def takes_negatives(self) -> bool:
        """Whether the pipeline has negative prompts, and guidance that heeds them."""
        return takes_negatives(self.pipeline, self._call)

    def settings(self) -> dict[str, Any]:
        """What settles a picture beside prompt and seed."""
        scheduler = getattr(self.pipeline, "scheduler", None)
        config = {} if scheduler is None else dict(scheduler.config)
        return {
            "model": self._located.name,
            "fingerprint": fingerprint(self._located.folder),
            **({} if self._located.companion is None else {"companion": fingerprint(self._located.companion)}),
            "pipeline": type(self.pipeline).__name__,
            "scheduler": type(scheduler).__name__,
            "scheduler_config": {
                key: value
                for key, value in sorted(config.items())
                if isinstance(value, bool | int | float | str) and not key.startswith("_")
            },
            **self._call,
            "negative_prompt": self._wanted.negative_prompt,
            "dtype": self._dtype,
            "safety_checker": getattr(self.pipeline, "safety_checker", None) is not None,
        }

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> list[Generated | Failed]:
        """One picture for each prompt, from its own seed.

        Args:
            prompts: B texts.
            seeds: B numbers of 0 to 2**63 - 1; equal ones start from equal noise.
            negatives: B texts of what each picture shall not show; None: as the settings say.

        Returns:
            In the order of the prompts. A picture fails when it is black (BlackPicture), holds numbers that are not
            finite (NotFinite), or the safety checker withheld it (Withheld).

        Raises:
            ModelError: one picture alone does not fit into memory, or the pipeline refuses the settings.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts, {len(seeds)} seeds")
        denied = [self._wanted.negative_prompt if text is None else text for text in negatives or [None] * len(prompts)]
        made: list[Generated | Failed] = []
        while len(made) < len(prompts):
            size = _alike(denied[len(made) : len(made) + self._batch_size])
            part = slice(len(made), len(made) + size)
            batch = self._try(list(prompts[part]), list(seeds[part]), denied[part])
            if batch is None:
                self._halve(size)
            else:
                made += batch
        return made

    def _try(
        self, prompts: list[str], seeds: list[int], negatives: list[str | None]
    ) -> list[Generated | Failed] | None:
        """The pictures of one batch, with negative prompts for all or for none; None: memory ran out."""
        # No surrogate has a token; the prompt is recorded as it was given.
        texts = [prompt.encode("utf-8", "replace").decode() for prompt in prompts]
        arguments: dict[str, Any] = {**self._call}
        if negatives[0] is not None:
            arguments["negative_prompt"] = negatives
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        try:
            with torch.no_grad(), quietly("diffusers"), np.errstate(invalid="ignore"):
                out = self._joined.draw(prompt=texts, generator=generators, output_type="np", **arguments)
        except ValueError as error:  # what pipelines say of sizes and numbers that they do not take
            raise ModelError(f"{self._located.name}: {first_lines(error, 1)}") from error
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            return None
        if not hasattr(out, "images"):
            raise ModelError(f"{self._located.name}: a {type(self.pipeline).__name__} gives no pictures")
        flagged = getattr(out, "nsfw_content_detected", None)
        checks: list[bool | None] = [None] * len(texts) if flagged is None else [bool(flag) for flag in flagged]
        rows = zip(zip(prompts, negatives, strict=True), texts, seeds, out.images, checks, strict=True)
        return [self._judged(*row) for row in rows]

    def _halve(self, size: int) -> None:
        """Takes half of the batch size at which memory ran out."""
        from accelerate.utils.memory import clear_device_cache

        if size <= 1:
            raise ModelError(
                f"{self._located.name}: out of memory with a single picture on {self.device}; ask for a smaller"
                " --size, or try --vae-tiling, --offload model or --dtype bfloat16"
            )
        self._batch_size = size // 2
        _log.warning("out of memory with %d pictures at once; going on with %d", size, self._batch_size)
        clear_device_cache(garbage_collection=True)

    def _judged(
        self,
        asked: tuple[str, str | None],
        text: str,
        seed: int,
        pixels: NDArray[np.float32],
        flagged: bool | None,
    ) -> Generated | Failed:
        """A picture (H,W,3) in 0..1 of a prompt and its negative one, or why it is none."""
        prompt, negative = asked
        if flagged:
            return Failed(prompt, "the safety checker withheld the picture", "Withheld")
        if not np.isfinite(pixels).all():
            return Failed(prompt, f"numbers that are not finite, computed in {self._dtype}; try --dtype", "NotFinite")
        if pixels.max() < _BLACK:
            return Failed(prompt, f"a black picture, computed in {self._dtype}; try --dtype", "BlackPicture")
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
        made = EmbeddedPrompt(
            prompt=prompt,
            negative_prompt=negative,
            model=self._located.name,
            seed=seed,
            steps=self._call.get("num_inference_steps"),
            guidance_scale=self._call.get("guidance_scale"),
            width_px=image.width,
            height_px=image.height,
        )
        return Generated(image, made, self._sampler, self._room.read_part(text), checked=flagged is False)

    def _set_scheduler(self) -> str | None:
        preset, scheduler = self._located.preset, getattr(self.pipeline, "scheduler", None)
        name = self._wanted.scheduler or (preset.scheduler if preset is not None else None)
        if name is not None:
            if scheduler is None:
                raise ConfigError(f"{self._located.name}: a {type(self.pipeline).__name__} has no scheduler to change")
            return set_scheduler(self.pipeline, name)
        return None if scheduler is None else sampler_of(scheduler)


def _alike(negatives: Sequence[str | None]) -> int:
    """How many of the first are all there, or all absent: a pipeline takes negative prompts for all or for none."""
    return len(list(takewhile(lambda text: (text is None) == (negatives[0] is None), negatives)))


def _is_out_of_memory(error: Exception) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(should_reduce_batch_size(error))
