"""What near-duplicate removal is measured on: real prompts with planted paraphrases, synthetic clustered vectors."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TAGS = ("highly detailed", "8k", "trending on artstation", "sharp focus", "4k", "high quality", "cinematic lighting")
OPENINGS = ("a photo of ", "an image of ", "a picture of ", "a painting of ", "")


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file of JSON lines, gzip or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["prompt"] for line in file]


def planted(prompts: list[str], count: int, seed: int = 0) -> tuple[list[str], NDArray[np.int64]]:
    """Paraphrases of so many of the prompts, as people make them, and whose each is (P,)."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(prompts), count, replace=False))
    return [PARAPHRASES[i % len(PARAPHRASES)](prompts[place], rng) for i, place in enumerate(chosen)], chosen


def _turned(prompt: str, rng: np.random.Generator) -> str:
    """The parts between commas in another order; a prompt without commas gets a full stop."""
    parts = [part.strip() for part in prompt.split(",") if part.strip()]
    return f"{prompt}." if len(parts) < 3 else ", ".join([parts[0], *rng.permutation(parts[1:])])


def _tagged(prompt: str, rng: np.random.Generator) -> str:
    return ", ".join([prompt.rstrip(" .,"), *rng.choice(TAGS, 2, replace=False)])


def _opened(prompt: str, rng: np.random.Generator) -> str:
    return str(rng.choice(OPENINGS[:4])) + prompt


def _misspelt(prompt: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters in each other's places."""
    place = int(rng.integers(1, max(2, len(prompt) - 2)))
    return prompt[:place] + prompt[place : place + 2][::-1] + prompt[place + 2 :]


def _shouted(prompt: str, rng: np.random.Generator) -> str:
    return prompt.upper() + "!" * int(rng.integers(0, 3))


def _shortened(prompt: str, rng: np.random.Generator) -> str:
    """Without one of its words."""
    words = prompt.split()
    drop = int(rng.integers(0, len(words)))
    return prompt if len(words) < 4 else " ".join(words[:drop] + words[drop + 1 :])


PARAPHRASES = (_turned, _tagged, _opened, _misspelt, _shouted, _shortened)


def synthetic(count: int, seed: int = 0, dimensions: int = 384) -> NDArray[np.float32]:
    """Unit rows (N,D) as prompts' embeddings lie: topics of unequal size in few directions, families of near-copies.

    A row is a topic's centre, something of its own in directions of falling strength, and for about a sixth of the rows
    a small change of an earlier row, at cosines around 0.9.
    """
    rng = np.random.default_rng(seed)
    strength = (np.arange(dimensions) + 4.0) ** -0.5
    topics = rng.normal(size=(max(8, int(count**0.5)), dimensions)) * strength
    sizes = rng.pareto(1.5, len(topics)) + 0.2
    of_topic = rng.choice(len(topics), count, p=sizes / sizes.sum())
    emb = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 65536):
        part = slice(start, start + 65536)
        own = (rng.normal(size=(len(emb[part]), dimensions)) * strength).astype(np.float32)
        emb[part] = 0.8 * topics[of_topic[part]] + own
    copies = np.flatnonzero(rng.random(count) < 1 / 6)
    copies = copies[copies > 0]
    for some in np.array_split(copies, max(1, len(copies) // 65536)):
        origin = (rng.random(len(some)) * some).astype(np.int64)
        noise = rng.normal(size=(len(some), dimensions)) * strength
        lengths = np.linalg.norm(emb[origin], axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        emb[some] = emb[origin] + noise * lengths * rng.uniform(0.05, 0.7, (len(some), 1))
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    return emb
