"""How many of a scene's facts a predicted prompt gets right. Counts first, ratios last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from img2prompt.pairs.storybook.parse import Facts, parse


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `of`; shares of several prompts add up."""

    right: int = 0
    of: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.right + other.right, self.of + other.of)

    @property
    def ratio(self) -> float:
        """In 0-1; nan when there was nothing to get right."""
        return self.right / self.of if self.of else math.nan


@dataclass(frozen=True, slots=True)
class FactScore:
    """What one predicted prompt got right.

    Count, colour, size and relations are asked only of objects that were found, so that a missed object is counted
    once: in the recall.
    """

    precision: Share = Share()  # predicted kinds that are in the picture
    recall: Share = Share()  # kinds in the picture that were predicted
    count: Share = Share()  # of found objects whose number is known
    colour: Share = Share()  # of found objects that have a colour: it and no other is said of that kind
    size: Share = Share()  # of found objects that have a size
    relation: Share = Share()  # of relations whose two objects were found; "on" is not "above"
    setting: Share = Share()
    style: Share = Share()
    time: Share = Share()
    weather: Share = Share()

    def __add__(self, other: FactScore) -> FactScore:
        return FactScore(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(FactScore)))


def score_one(predicted: Facts, truth: Facts) -> FactScore:
    """Compares what a predicted prompt says with what is so."""
    found = [(said, thing) for thing in truth.objects if (said := predicted.of(thing.kind))]
    kinds = {thing.kind for _, thing in found}
    relations = [relation for relation in truth.relations if {relation[0], relation[2]} <= kinds]
    return FactScore(
        precision=Share(len(found), len(predicted.objects)),
        recall=Share(len(found), len(truth.objects)),
        count=_share(said.count == thing.count for said, thing in found if thing.count is not None),
        colour=_share(said.colours == thing.colours for said, thing in found if thing.colours),
        size=_share(said.size == thing.size for said, thing in found if thing.size is not None),
        relation=_share(relation in predicted.relations for relation in relations),
        setting=_share([predicted.setting == truth.setting] if truth.setting else []),
        style=_share([predicted.style == truth.style] if truth.style else []),
        time=_share([predicted.time == truth.time]),
        weather=_share([predicted.weather == truth.weather]),
    )


def summarise(scores: Iterable[FactScore]) -> dict[str, float]:
    """Scores of many prompts as ratios in 0-1, each over all prompts together; nan where nothing was asked.

    Returns:
        object_precision, object_recall and object_f1 (micro-averages over kinds), then the accuracies count_accuracy,
        colour_binding, size_accuracy, relation_accuracy, setting_accuracy, style_accuracy, time_accuracy and
        weather_accuracy; and prompts, the number of scores.
    """
    total, prompts = FactScore(), 0
    for score in scores:
        total, prompts = total + score, prompts + 1
    named = total.precision.of + total.recall.of
    return {
        "object_precision": total.precision.ratio,
        "object_recall": total.recall.ratio,
        "object_f1": 2 * total.recall.right / named if named else math.nan,
        "count_accuracy": total.count.ratio,
        "colour_binding": total.colour.ratio,
        "size_accuracy": total.size.ratio,
        "relation_accuracy": total.relation.ratio,
        "setting_accuracy": total.setting.ratio,
        "style_accuracy": total.style.ratio,
        "time_accuracy": total.time.ratio,
        "weather_accuracy": total.weather.ratio,
        "prompts": float(prompts),
    }


def _share(answers: Iterable[bool]) -> Share:
    right = list(answers)
    return Share(sum(right), len(right))


def score_prompts(prompts: Iterable[str], truths: Iterable[Facts]) -> dict[str, float]:
    """The summary of predicted prompts against the facts of their scenes, one for one, without the count of prompts."""
    summary = summarise([score_one(parse(text), truth) for text, truth in zip(prompts, truths, strict=True)])
    return {name: value for name, value in summary.items() if name != "prompts"}
