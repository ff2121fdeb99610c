"""The plain loop of published notebooks for "image to prompt", which regressor.py measures ours against."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

LR = 1e-4


class PlainImages(Dataset[tuple[Tensor, Any]]):
    """Pictures as the notebooks read them, each with its prompt or its target."""

    def __init__(self, pairs: list[tuple[Path, Any]], image_px: int, *, train: bool) -> None:
        self.pairs = pairs
        steps: list[Any] = [transforms.Resize((image_px, image_px)), transforms.ToTensor()]
        steps[1:1] = [transforms.RandomHorizontalFlip()] if train else []
        normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.transform = transforms.Compose([*steps, normalise])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        path, target = self.pairs[row]
        return self.transform(Image.open(path).convert("RGB")), target


class EncodingCollator:
    """Encodes the prompts of each batch, in the loader's worker."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def __call__(self, batch: list[tuple[Tensor, str]]) -> tuple[Tensor, Tensor]:
        images, texts = zip(*batch, strict=True)
        return torch.stack(images), torch.as_tensor(self.encoder.encode(list(texts), show_progress_bar=False))


def plain_model(options: argparse.Namespace) -> nn.Module:
    """The tower with a linear head, as timm makes it."""
    model: nn.Module = timm.create_model(options.tower, num_classes=384, img_size=options.image_px)
    return model


class Plain:
    """The notebooks' training loop.

    Args:
        options: of the command line.
        pairs: path and prompt, or path and target.
        encoder: for prompts; None with targets.
    """

    def __init__(self, options: argparse.Namespace, pairs: list[tuple[Path, Any]], encoder: Any = None) -> None:
        torch.manual_seed(0)
        self.model = plain_model(options)
        collate = None if encoder is None else EncodingCollator(encoder)
        images = PlainImages(pairs, options.image_px, train=True)
        size = options.batch_size
        self.loader = DataLoader(images, size, shuffle=True, num_workers=2, drop_last=True, collate_fn=collate)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)
        self.loss = nn.CosineEmbeddingLoss()

    def epoch(self) -> None:
        """One pass over the pictures."""
        self.model.train()
        for images, targets in self.loader:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(images), targets, torch.ones(len(images)))
            loss.backward()
            self.optimizer.step()
            loss.item()
