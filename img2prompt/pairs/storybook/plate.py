"""The plain picture of a scene with what a style has to know of it: which pixels belong to which object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from img2prompt.pairs.storybook.painting import FloatArray, blurred, to_array


@dataclass(frozen=True, slots=True)
class Plate:
    """What a style works on."""

    picture: FloatArray  # (px,px,3) in 0-1
    mask: FloatArray  # (px,px), how much of a pixel objects cover, 0-1
    objects: npt.NDArray[np.uint8]  # (px,px), 0 the background, then 1.. in drawing order
    seed: int

    @property
    def px(self) -> int:
        """The side in pixels."""
        return self.picture.shape[0]

    def outlines(self, width: float) -> FloatArray:
        """The contours of all objects as soft lines about `width` of the side wide, (px,px) in 0-1."""
        ids = self.objects
        change = np.zeros(ids.shape, dtype=np.uint8)
        change[:, :-1] |= np.where(ids[:, 1:] != ids[:, :-1], np.uint8(255), np.uint8(0))
        change[:-1] |= np.where(ids[1:] != ids[:-1], np.uint8(255), np.uint8(0))
        soft = to_array(blurred(Image.fromarray(change), width * 0.45))
        return np.clip(soft * max(1.0, width * self.px) * 1.5, 0, 1)
