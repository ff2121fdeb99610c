"""What a rewritten prompt of the storybook world lost of its base, and which objects it made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from img2prompt.pairs.storybook.parse import Facts, ObjectFacts, parse


def lost_facts(base: str, rewritten: str) -> list[str]:
    """Every fact that the base prompt states and the rewritten one does not, in words; empty when all were kept.

    What the base leaves open (no size, no time of day, "several") may be filled in.
    """
    truth, said = parse(base), parse(rewritten)
    return [fact for thing in truth.objects for fact in _lost_of(thing, said)] + list(_lost_around(truth, said))


def made_up(base: str, rewritten: str) -> list[str]:
    """Kinds of object that only the rewritten prompt names."""
    truth = parse(base)
    return [thing.kind for thing in parse(rewritten).objects if truth.of(thing.kind) is None]


def kept_share(bases: Sequence[str], rewritten: Sequence[str]) -> float:
    """The share of rewritten prompts, 0..1, that keep every fact of their base and make up no object."""
    pairs = list(zip(bases, rewritten, strict=True))
    if not pairs:
        raise ValueError("no prompts")
    return sum(not lost_facts(*pair) and not made_up(*pair) for pair in pairs) / len(pairs)


def _lost_of(thing: ObjectFacts, said: Facts) -> Iterator[str]:
    found = said.of(thing.kind)
    if found is None:
        yield thing.kind
        return
    if thing.count is not None and found.count != thing.count:
        yield f"{thing.count} {thing.kind}"
    if thing.colours and found.colours != thing.colours:
        yield f"{' and '.join(sorted(thing.colours))} {thing.kind}"
    if thing.size is not None and found.size != thing.size:
        yield f"{thing.size} {thing.kind}"


def _lost_around(truth: Facts, said: Facts) -> Iterator[str]:
    yield from (" ".join(relation) for relation in sorted(truth.relations - said.relations))
    if truth.setting is not None and said.setting != truth.setting:
        yield f"setting {truth.setting}"
    if truth.style is not None and said.style != truth.style:
        yield f"style {truth.style}"
    if truth.time != "day" and said.time != truth.time:
        yield f"time {truth.time}"
    if truth.weather != "clear" and said.weather != truth.weather:
        yield f"weather {truth.weather}"
