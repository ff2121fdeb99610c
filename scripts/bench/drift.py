"""How well the drift checks tell lost facts from faithful rewordings.

    python scripts/bench/drift.py --data ../shared/data/prompts --output scripts/bench/results/drift.json

Faithful pairs say how often a check cries wolf; the same pairs with one planted edit in the rich prompt say how many
losses it sees. The edits are made by plain search and replace here, not by the checks' own reading. Sources:

    hand        scripts/bench/drift_pairs.tsv: short prompts and rich ones, both written by hand and by one hand; the
                rules were mended on the seven that they first got wrong, so their false alarms are a lower bound
    storybook   short and long prompts of one scene, from the world's grammar; edits change the scene itself
    dpg         first sentence of a DPG-Bench prompt -> the whole prompt: dense text to lose a fact in; its words are
                repeated as they are, so false alarms say little there and in the next
    geneval     a GenEval prompt -> itself with a neutral tail; its own table of objects, counts, colours, positions is
                the truth, which also says how many of those facts the general check reads
    capsfusion  synthetic caption -> fused caption of the same picture; without truth: only how many are flagged

Precision is for as many faithful as drifted prompts. Runs on one core in about two minutes.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drift_pairs import FAITHFUL

from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.scene import Scene, sample_scene
from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS
from img2prompt.upsampling.drift import Check, open_check
from img2prompt.upsampling.facts import read

Pair = tuple[str, str]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen", "twelve"]
COLOUR_WORDS = ["red", "green", "blue", "yellow", "purple", "black", "white", "brown", "pink", "orange", "golden"]
OPPOSITES = [
    ("left of", "right of"),
    ("above", "below"),
    ("behind", "in front of"),
    ("under", "above"),
    ("on top of", "under"),
    ("over", "under"),
]
WIDER = {
    "dog": "animal", "dogs": "animals", "cat": "animal", "cats": "animals", "horse": "animal", "bird": "animal",
    "rabbit": "animal", "sheep": "animals", "car": "vehicle", "train": "vehicle", "bicycle": "vehicle",
    "boat": "thing",
    "apples": "fruits", "roses": "plants", "tree": "plant", "chair": "piece of furniture", "table": "surface",
    "sofa": "seat", "hat": "garment", "scarf": "garment", "book": "object", "vase": "container",
    "violin": "instrument",
    "parrot": "creature", "octopus": "creature", "panda": "creature", "giraffe": "creature", "fox": "creature",
}  # fmt: skip
NAMES = ["Albert", "Berlin", "Mozart", "Tokyo"]
TAIL = " The picture is sharp and softly lit, with a calm background and gentle shadows."


def swap(word: str, other: str, text: str) -> str:
    """Every occurrence of a word, whatever its case."""
    return re.sub(rf"\b{re.escape(word)}\b", other, text, flags=re.IGNORECASE)


def said_in_both(words: list[str], base: str, rich: str) -> str | None:
    """The first of the words that both texts say."""
    return next((w for w in words if all(re.search(rf"\b{w}\b", t, re.IGNORECASE) for t in (base, rich))), None)


def plant_object(base: str, rich: str, rng: random.Random) -> str | None:
    """Its last word, nearly always a noun, gives way to another thing."""
    last = re.findall(r"[A-Za-z]+", base)[-1]
    if last[0].isupper() or not re.search(rf"\b{last}\b", rich) or re.search(r"\b(no|without|not)\b", base):
        return None
    return swap(last, rng.choice(["anvil", "zeppelin", "trombone"]), rich)


def plant_wider(base: str, rich: str, rng: random.Random) -> str | None:
    word = said_in_both(sorted(WIDER), base, rich)
    return swap(word, WIDER[word], rich) if word else None


def plant_count(base: str, rich: str, rng: random.Random) -> str | None:
    word = said_in_both(NUMBERS, base, rich)
    return swap(word, rng.choice([n for n in NUMBERS[:9] if n != word]), rich) if word else None


def plant_colour(base: str, rich: str, rng: random.Random) -> str | None:
    word = said_in_both(COLOUR_WORDS, base, rich)
    return swap(word, rng.choice([c for c in COLOUR_WORDS if c not in (word, "golden")]), rich) if word else None


def plant_relation(base: str, rich: str, rng: random.Random) -> str | None:
    for one, other in (*OPPOSITES, *((b, a) for a, b in OPPOSITES[:3])):
        if said_in_both([one], base, rich):
            return swap(one, other, rich)
    return None


def plant_negation(base: str, rich: str, rng: random.Random) -> str | None:
    if not re.search(r"\b(no|without|not)\b", base):
        return None
    edited = re.sub(r"\bwithout( any)?\b", "with", rich)
    edited = re.sub(r"\bnot\b ?", "", re.sub(r"\bwith no\b|\bno\b", "with", edited))
    return edited if edited != rich else None


def plant_name(base: str, rich: str, rng: random.Random) -> str | None:
    unquoted = re.sub(r'"[^"]*"', "", base)
    names = [name for name in re.findall(r"(?<=\w )[A-Z][a-z]{2,}", unquoted) if name in rich]
    return swap(names[-1], rng.choice(NAMES), rich) if names else None


def plant_quote(base: str, rich: str, rng: random.Random) -> str | None:
    quote = re.search(r'"([^"]+)"', base)
    if quote is None or quote[1] not in rich:
        return None
    middle = len(quote[1]) // 2
    return rich.replace(quote[1], quote[1][:middle] + "x" + quote[1][middle + 1 :])


PLANTS: dict[str, Callable[[str, str, random.Random], str | None]] = {
    "object": plant_object,
    "wider word": plant_wider,
    "count": plant_count,
    "colour": plant_colour,
    "relation": plant_relation,
    "negation": plant_negation,
    "name": plant_name,
    "quote": plant_quote,
}


def planted(pairs: list[Pair], rng: random.Random) -> dict[str, list[Pair]]:
    """Each pair with each edit that fits it."""
    found: dict[str, list[Pair]] = {kind: [] for kind in PLANTS}
    for base, rich in pairs:
        for kind, plant in PLANTS.items():
            edited = plant(base, rich, rng)
            if edited is not None and edited != rich:
                found[kind].append((base, edited))
    return {kind: rows for kind, rows in found.items() if rows}


def storybook(count: int) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """Short prompts with long ones of the same scene, and of the scene with one change."""
    faithful: list[Pair] = []
    edits: dict[str, list[Pair]] = {kind: [] for kind in ("object", "count", "colour", "relation")}
    for seed in range(count):
        rng = random.Random(f"drift {seed}")
        scene = sample_scene(1_000_000 + seed)
        base = describe(scene, "short")
        faithful.append((base, describe(scene, "long")))
        for kind, other in changed(scene, rng):
            edits[kind].append((base, describe(other, "long")))
    return faithful, edits


def changed(scene: Scene, rng: random.Random) -> Iterator[tuple[str, Scene]]:
    """The scene with one fact changed, in each way that fits."""
    place = rng.randrange(len(scene.groups))
    group = scene.groups[place]

    def with_group(**fields: Any) -> Scene:
        groups = list(scene.groups)
        groups[place] = dataclasses.replace(group, **fields)
        return dataclasses.replace(scene, groups=tuple(groups))

    others = [k for k in KINDS if KINDS[k].tintable == KINDS[group.kind].tintable]
    others = [k for k in others if k not in {g.kind for g in scene.groups}]
    yield "object", with_group(kind=rng.choice(others))
    yield "count", with_group(count=rng.choice([n for n in range(1, 5) if n != group.count]))
    if group.colour:
        yield "colour", with_group(colour=rng.choice([c for c in COLOURS if c != group.colour]))
    if scene.relations:
        first = scene.relations[0]
        turned = dataclasses.replace(first, subject=first.other, other=first.subject)
        yield "relation", dataclasses.replace(scene, relations=(turned, *scene.relations[1:]))


def geneval(data: Path) -> tuple[list[Pair], dict[str, list[Pair]], dict[str, Any]]:
    """Prompts with their own truth: edits by it, and how much of it is read."""
    rows = [json.loads(line) for line in (data / "geneval_evaluation_metadata.jsonl").read_text().splitlines()]
    pairs = [(row["prompt"], row["prompt"][0].upper() + row["prompt"][1:] + "." + TAIL) for row in rows]
    right = {"object": [0, 0], "count": [0, 0], "colour": [0, 0], "position": [0, 0]}
    for row in rows:
        told = read(row["prompt"])
        words = {" ".join((*p.modifiers, p.head.key)): p for p in told.things}
        heads = {p.head.key: p for p in told.things}
        for thing in row["include"]:
            head = thing["class"].split()[-1]
            phrase = heads.get(head) or words.get(thing["class"])
            tally(right["object"], phrase is not None)
            if thing["count"] > 1:
                tally(right["count"], phrase is not None and phrase.count == thing["count"])
            if "color" in thing:
                tally(right["colour"], phrase is not None and thing["color"] in phrase.colours)
            if "position" in thing:
                tally(right["position"], any(r.words in thing["position"][0] for r in told.relations))
    read_share = {kind: {"right": a, "of": b, "share": round(a / b, 4)} for kind, (a, b) in right.items()}
    return pairs, planted(pairs, random.Random(0)), read_share


def tally(counts: list[int], right: bool) -> None:
    counts[0] += right
    counts[1] += 1


def score(check: Check, faithful: list[Pair], edits: dict[str, list[Pair]]) -> dict[str, Any]:
    """False alarms, recall by kind of edit, precision at equal numbers."""
    begun = time.perf_counter()
    flagged = [drift for drift in check(*zip(*faithful, strict=True)) if not drift.kept]
    wolf = len(flagged) / len(faithful)
    kinds, seen, all_ = {}, 0, 0
    for kind, rows in edits.items():
        found = sum(not drift.kept for drift in check(*zip(*rows, strict=True)))
        kinds[kind] = {"planted": len(rows), "found": found, "recall": round(found / len(rows), 4)}
        seen, all_ = seen + found, all_ + len(rows)
    recall = seen / all_
    return {
        "faithful": len(faithful),
        "false_alarms": len(flagged),
        "false_alarm_share": round(wolf, 4),
        "planted": all_,
        "recall": round(recall, 4),
        "precision_at_equal_numbers": round(recall / (recall + wolf), 4) if recall + wolf else None,
        "kinds": kinds,
        "ms_a_pair": round((time.perf_counter() - begun) * 1000 / (len(faithful) + all_), 3),
    }


def dpg(data: Path, count: int) -> list[Pair]:
    texts = [json.loads(line)["prompt"] for line in (data / "dpg_bench.jsonl").read_text().splitlines()]
    return [(re.split(r"(?<=[.!?])\s", text)[0], text) for text in texts[:: max(len(texts) // count, 1)]]


def capsfusion(data: Path, count: int, check: Check) -> dict[str, Any]:
    rows = json.loads((data / "capsfusion_example_data.json").read_text())[:count]
    drifts = check([row["laion_coco"] for row in rows], [row["capsfuion_official"] for row in rows])
    flagged = sum(not drift.kept for drift in drifts)
    return {"pairs": len(rows), "flagged": flagged, "share": round(flagged / len(rows), 4), "truth": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=500)
    options = parser.parse_args()
    general = open_check("general")
    edits = planted(FAITHFUL, random.Random(0))
    scenes, changed_scenes = storybook(options.scenes)
    objects, object_edits, read_share = geneval(options.data)
    dense = dpg(options.data, 350)
    result = {
        "general": {
            "hand": score(general, FAITHFUL, edits) | {"false_alarms_before_any_tuning": 7},
            "storybook": score(general, scenes, changed_scenes),
            "dpg": score(general, dense, planted(dense, random.Random(0))),
            "geneval": score(general, objects, object_edits) | {"facts_read": read_share},
            "capsfusion": capsfusion(options.data, 1000, general),
        },
        "storybook": {"storybook": score(open_check("storybook"), scenes, changed_scenes)},
        "auto": {"storybook": score(open_check("auto"), scenes, changed_scenes)},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    writer = csv.writer(sys.stdout, delimiter="\t")
    for check, sources in result.items():
        for source, row in sources.items():
            writer.writerow([check, source, *(row.get(k) for k in ("false_alarm_share", "recall", "flagged"))])
            for kind, found in row.get("kinds", {}).items():
                writer.writerow(["", "", kind, found["planted"], found["recall"]])


if __name__ == "__main__":
    main()
