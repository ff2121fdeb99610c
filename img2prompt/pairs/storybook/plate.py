"""The plain picture of a scene with what a style has to know of it: which pixels belong to which object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from img2prompt.pairs.storybook.painting import FloatArray, to_array


@dataclass(frozen=True, slots=True)
class Plate:
    """What a style works on."""

    picture: FloatArray  # (3,px,px) in 0-1
    mask: FloatArray  # (px,px), how much of a pixel objects cover, 0-1
    objects: npt.NDArray[np.uint8]  # (px,px), 0 the background, then 1.. in drawing order
    seed: int

    @property
    def px(self) -> int:
        """The side in pixels."""
        side: int = self.picture.shape[-1]
        return side

    def outlines(self, width: float) -> FloatArray:
        """The contours of all objects as soft lines about `width` of the side wide, (px,px) in 0-1."""
        ids = self.objects
        soft = to_array(Image.fromarray(borders(ids)).filter(ImageFilter.BoxBlur(width * 0.6 * self.px)))
        lines: FloatArray = np.clip(soft * (max(1.0, width * self.px) * 1.4), 0, 1)
        return lines


def borders(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """255 where a pixel's label differs from its right or lower neighbour's."""
    change = np.zeros(ids.shape, dtype=np.bool_)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=change[:, :-1])
    change[:-1] |= ids[1:] != ids[:-1]
    return change.view(np.uint8) * np.uint8(255)
