"""What a round trip starts from: pictures with or without their true prompt, seeds, and whose prompt is the floor."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.pairs.orders import seed_of

if TYPE_CHECKING:
    from img2prompt.jobs.targets import Target
    from img2prompt.pairs.images import Source

SEED_BITS = 32  # of a seed: short enough for the name of a file
_ID_CHARS = 40
# For the floor of a single picture; in words that the storybook world knows too.
STOCK_PROMPTS = (
    "two red cars in a city street at night, pixel art",
    "a yellow duck on a lake in the fog, watercolour",
    "three green trees beside a house in a meadow at sunset, oil painting",
    "a blue umbrella on a beach in the rain, pencil sketch",
    "a white rabbit in a snowy forest, stained glass",
    "an orange fish and a purple star in space, neon sign",
)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that takes part.

    Attributes:
        id: its folder below images/.
        name: for people: a path, a URL, or the id in its data set.
        read: gives what `open_image` takes.
        truth: its true prompt, where it is known beforehand.
    """

    id: str
    name: str
    read: Callable[[], Source]
    truth: str | None = None


def items_of_targets(targets: Sequence[Target]) -> list[Item]:
    """The pictures that were named one by one, from place 1."""
    return [_item(place, t.name, lambda t=t: t.source) for place, t in enumerate(targets, 1)]  # type: ignore[misc]


def items_of_pairs(source: str, style: str, count: int | None, after: int = 0) -> list[Item]:
    """Pictures of a data set with their true prompts.

    Args:
        source: as for `open_pairs`.
        style: a column of this name holds the true prompts where there is one, otherwise `prompt` does.
        count: the first so many; None: all.
        after: pictures that come before them.

    Raises:
        DataError: the source cannot be read as pairs.
    """
    from img2prompt.jobs.judging import examples_of, sources_of
    from img2prompt.pairs.sources import open_pairs

    data = open_pairs(source)
    examples = examples_of(data, style, count)
    return [
        _item(after + place, e.name, lambda e=e: next(sources_of(data, [e])), e.prompts[0])  # type: ignore[misc]
        for place, e in enumerate(examples, 1)
    ]


def _item(place: int, name: str, read: Callable[[], Source], truth: str | None = None) -> Item:
    stem = re.sub(r"[^\w-]+", "-", Path(name.split("?")[0]).stem, flags=re.ASCII).strip("-")
    return Item(f"{place:04d}-{stem[:_ID_CHARS]}".rstrip("-"), name, read, truth)


def pictures_of(items: Sequence[Item]) -> dict[str, Any]:
    """Plain data that tells these pictures from others."""
    words = "\n".join(f"{item.id} {item.name} {item.truth}" for item in items)
    return {"count": len(items), "names": hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:16]}


def seeds_for(place: str, count: int, seed: int) -> list[int]:
    """The seeds of one picture, all different: every kind of its prompts starts from the same ones.

    Args:
        place: of the picture in the run: its id.
        count: how many.
        seed: of the run.
    """
    found: list[int] = []
    number = 0
    while len(found) < count:
        value = seed_of(place, number, seed) % 2**SEED_BITS
        if value not in found:
            found.append(value)
        number += 1
    return found


def floors_of(prompts: Sequence[str], seed: int) -> list[tuple[str, int | None]]:
    """For each picture the prompt of another one, and whose; None: a stock prompt.

    All are moved on by the same number of places; one that meets its own words moves further.
    """
    rng = random.Random(f"floor {seed}")
    count = len(prompts)
    shift = rng.randrange(1, count) if count > 1 else 0
    stock = rng.sample(STOCK_PROMPTS, len(STOCK_PROMPTS))
    floors: list[tuple[str, int | None]] = []
    for place, own in enumerate(prompts):
        others = ((place + shift + step) % count for step in range(count))
        other = next((o for o in others if o != place and prompts[o] != own), None)
        text = prompts[other] if other is not None else next(words for words in stock if words != own)
        floors.append((text, other))
    return floors
