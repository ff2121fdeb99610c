"""Pictures to sentence embeddings with a trained regressor, in batches, with or without test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

from img2prompt.errors import ConfigError
from img2prompt.models.tower_base import Tower

if TYPE_CHECKING:
    from PIL.Image import Image

_ZOOM = 7 / 8  # of each side


def _plain(image: Image) -> Image:
    return image


def _flip(image: Image) -> Image:
    from PIL.Image import Transpose

    return image.transpose(Transpose.FLIP_LEFT_RIGHT)


def _zoom(image: Image) -> Image:
    side = max(1, round(min(image.size) * _ZOOM))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


# One row a way to look at a picture; with several the mean of the unit embeddings counts.
VIEWS: dict[str, Callable[[Image], Image]] = {"plain": _plain, "flip": _flip, "zoom": _zoom}


class _Model(Protocol):
    """What is needed of a `Regressor`; a protocol, since that module imports this one."""

    tower: Tower

    def features(self, images: Tensor) -> Tensor: ...
    def embed(self, features: Tensor) -> Tensor: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def eval(self) -> object: ...


class EmbeddingRegressor:
    """A regressor that takes pictures; the protocol `results.Regressor`.

    Pictures are resized (bicubic) to the tower's size by their shortest side, cut to the central square and
    normalised with the tower's own mean and std.
    """

    def __init__(self, model: _Model, batch_size: int = 16, views: Sequence[str] = ("plain",)) -> None:
        """Puts the model in evaluation mode.

        Args:
            model: on the device that will be used.
            batch_size: pictures that are looked at together.
            views: names from `VIEWS`; more than one is test-time augmentation.

        Raises:
            ConfigError: a view is unknown, there is none, or the batch size is less than 1.
        """
        unknown = [view for view in views if view not in VIEWS]
        if unknown or not views:
            raise ConfigError(f"views {', '.join(unknown) or 'are empty'}; choose from {', '.join(VIEWS)}")
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size}: must be at least 1")
        model.eval()
        self.model, self.batch_size, self.views = model, batch_size, tuple(views)
        settings = PreprocessCfg(size=model.tower.image_px, mean=model.tower.mean, std=model.tower.std)
        self._transform: Callable[[Image], Tensor] = image_transform_v2(settings, is_train=False)

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Rows (B,D) of unit length; a picture's row does not depend on those beside it (to 1e-5)."""
        return self._rows(images)[0]

    def features_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """What the head sees (B,W), the mean over the views."""
        return self._rows(images)[1]

    def both_many(self, images: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`embed_many` and `features_many` for one pass of the tower."""
        return self._rows(images)

    @torch.inference_mode()
    def _rows(self, images: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        device = next(self.model.parameters()).device
        first = torch.zeros(0, self.model.tower.width, device=device)
        embedded, features = [self.model.embed(first.to(next(self.model.parameters()).dtype))], [first]
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            seen = [self.model.features(self._pixels(batch, view).to(device)) for view in self.views]
            rows = torch.stack([self.model.embed(view) for view in seen]).mean(dim=0)
            embedded.append(torch.nn.functional.normalize(rows, dim=-1))
            features.append(torch.stack(seen).float().mean(dim=0))
        return torch.cat(embedded).cpu().numpy(), torch.cat(features).cpu().numpy()

    def _pixels(self, images: Sequence[Image], view: str) -> Tensor:
        return torch.stack([self._transform(VIEWS[view](image)) for image in images])  # (B,3,H,W)
