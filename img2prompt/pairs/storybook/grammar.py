"""From the groups and relations of a scene to phrases: articles, plurals, and who stands where."""

from __future__ import annotations

from collections.abc import Mapping

from img2prompt.pairs.storybook.scene import Group, Scene
from img2prompt.pairs.storybook.vocabulary import KINDS, RELATIONS

NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four")
BRIEF_RELATIONS: dict[str, str] = {name: name for name in RELATIONS}
FULL_RELATIONS: dict[str, str] = BRIEF_RELATIONS | {"left of": "to the left of", "right of": "to the right of"}


def noun(group: Group) -> str:
    """The kind of the group, in the plural where it holds several."""
    return group.kind if group.count == 1 else KINDS[group.kind].plural


def described(group: Group) -> str:
    """Size, colour and noun, as in "tiny red cars"."""
    return " ".join(word for word in (group.size, group.colour, noun(group)) if word)


def indefinite(group: Group) -> str:
    """The group at its first mention, as in "a tiny red car" or "two cars"."""
    phrase = described(group)
    if group.count > 1:
        return f"{NUMBERS[group.count]} {phrase}"
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def objects_phrase(scene: Scene, relation_words: Mapping[str, str] = BRIEF_RELATIONS, joint: str = ", with ") -> str:
    """All groups and all relations in one phrase.

    Args:
        scene: the scene told about.
        relation_words: how each relation is said.
        joint: what stands before a group that joins the first two, as in "a cat behind a dog, with two trees left
            of the dog".
    """
    told: set[int] = set()
    phrase = ""
    for relation in scene.relations:
        subject, name, other = relation.subject, relation.name, relation.other
        if subject in told and other not in told:  # the new group leads, so that its relation follows it
            subject, name, other = other, RELATIONS[name], subject
        # A clause of two known or two new groups is a fresh start; one new group joins what stands.
        glue = "" if not phrase else joint if (subject in told) != (other in told) else ", and "
        phrase += f"{glue}{_mention(scene, subject, told)} {relation_words[name]} {_mention(scene, other, told)}"
    rest = [indefinite(group) for i, group in enumerate(scene.groups) if i not in told]
    if phrase:
        return "".join([phrase, *(f", and {other}" for other in rest)])
    return rest[0] if len(rest) == 1 else f"{', '.join(rest[:-1])} and {rest[-1]}"


def _mention(scene: Scene, index: int, told: set[int]) -> str:
    """The group's phrase: "a cat" when it is new (and then noted as told), "the cat" after that."""
    if index in told:
        return f"the {noun(scene.groups[index])}"
    told.add(index)
    return indefinite(scene.groups[index])
