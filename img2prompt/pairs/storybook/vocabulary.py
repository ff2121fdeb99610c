"""The words of the storybook world: what can stand in a scene. One row a thing.

A kind is drawn from one emoji sprite. `tintable` kinds carry a colour of `COLOURS` in every picture whose style
keeps colours; the others always show their own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    emoji: str
    plural: str
    category: str  # animal | food | vehicle | plant | building | thing
    tintable: bool = False


KINDS: dict[str, Kind] = {
    # animals
    "cat": Kind("🐈", "cats", "animal"),
    "dog": Kind("🐕", "dogs", "animal"),
    "horse": Kind("🐎", "horses", "animal"),
    "elephant": Kind("🐘", "elephants", "animal"),
    "tiger": Kind("🐅", "tigers", "animal"),
    "giraffe": Kind("🦒", "giraffes", "animal"),
    "zebra": Kind("🦓", "zebras", "animal"),
    "rabbit": Kind("🐇", "rabbits", "animal"),
    "turtle": Kind("🐢", "turtles", "animal"),
    "penguin": Kind("🐧", "penguins", "animal"),
    "owl": Kind("🦉", "owls", "animal"),
    "parrot": Kind("🦜", "parrots", "animal"),
    "duck": Kind("🦆", "ducks", "animal"),
    "fish": Kind("🐠", "fish", "animal", tintable=True),
    "whale": Kind("🐳", "whales", "animal"),
    "octopus": Kind("🐙", "octopuses", "animal", tintable=True),
    "crab": Kind("🦀", "crabs", "animal"),
    "butterfly": Kind("🦋", "butterflies", "animal", tintable=True),
    "snail": Kind("🐌", "snails", "animal"),
    "fox": Kind("🦊", "foxes", "animal"),
    "panda": Kind("🐼", "pandas", "animal"),
    "flamingo": Kind("🦩", "flamingos", "animal"),
    "dinosaur": Kind("🦕", "dinosaurs", "animal", tintable=True),
    # food
    "pizza slice": Kind("🍕", "pizza slices", "food"),
    "hamburger": Kind("🍔", "hamburgers", "food"),
    "apple": Kind("🍎", "apples", "food", tintable=True),
    "banana": Kind("🍌", "bananas", "food"),
    "strawberry": Kind("🍓", "strawberries", "food"),
    "watermelon": Kind("🍉", "watermelons", "food"),
    "pineapple": Kind("🍍", "pineapples", "food"),
    "donut": Kind("🍩", "donuts", "food", tintable=True),
    "cupcake": Kind("🧁", "cupcakes", "food", tintable=True),
    "ice cream cone": Kind("🍦", "ice cream cones", "food"),
    # vehicles
    "car": Kind("🚗", "cars", "vehicle", tintable=True),
    "bus": Kind("🚌", "buses", "vehicle", tintable=True),
    "bicycle": Kind("🚲", "bicycles", "vehicle", tintable=True),
    "steam train": Kind("🚂", "steam trains", "vehicle"),
    "helicopter": Kind("🚁", "helicopters", "vehicle", tintable=True),
    "rocket": Kind("🚀", "rockets", "vehicle"),
    "sailboat": Kind("⛵", "sailboats", "vehicle", tintable=True),
    "tractor": Kind("🚜", "tractors", "vehicle", tintable=True),
    # plants
    "tree": Kind("🌳", "trees", "plant"),
    "palm tree": Kind("🌴", "palm trees", "plant"),
    "cactus": Kind("🌵", "cacti", "plant"),
    "sunflower": Kind("🌻", "sunflowers", "plant"),
    "tulip": Kind("🌷", "tulips", "plant", tintable=True),
    "mushroom": Kind("🍄", "mushrooms", "plant", tintable=True),
    # buildings
    "house": Kind("🏠", "houses", "building"),
    "castle": Kind("🏰", "castles", "building"),
    "church": Kind("⛪", "churches", "building"),
    "tent": Kind("⛺", "tents", "building", tintable=True),
    "ferris wheel": Kind("🎡", "ferris wheels", "building"),
    # toys and things
    "teddy bear": Kind("🧸", "teddy bears", "thing", tintable=True),
    "balloon": Kind("🎈", "balloons", "thing", tintable=True),
    "kite": Kind("🪁", "kites", "thing", tintable=True),
    "soccer ball": Kind("⚽", "soccer balls", "thing"),
    "umbrella": Kind("☂️", "umbrellas", "thing", tintable=True),
    "guitar": Kind("🎸", "guitars", "thing", tintable=True),
    "robot": Kind("🤖", "robots", "thing"),
    "drum": Kind("🥁", "drums", "thing", tintable=True),
    "book": Kind("📕", "books", "thing", tintable=True),
    "gift box": Kind("🎁", "gift boxes", "thing", tintable=True),
    "crown": Kind("👑", "crowns", "thing"),
    "alarm clock": Kind("⏰", "alarm clocks", "thing", tintable=True),
    "top hat": Kind("🎩", "top hats", "thing"),
    "teapot": Kind("🫖", "teapots", "thing", tintable=True),
}

COLOURS: dict[str, tuple[int, int, int]] = {  # name -> a typical sRGB value
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 40),
    "green": (60, 170, 60),
    "blue": (50, 100, 225),
    "purple": (140, 60, 190),
    "pink": (250, 140, 190),
}

SIZES: tuple[str, ...] = ("tiny", "huge")  # None: the kind's usual size

RELATIONS: dict[str, str] = {  # relation -> the same fact told from the other side
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "behind": "in front of",
    "in front of": "behind",
    "on": "under",
    "under": "on",
}
SAMPLED_RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "behind", "on")

SETTINGS: tuple[str, ...] = (
    "beach",
    "forest",
    "city",
    "desert",
    "kitchen table",
    "outer space",
    "underwater",
    "snowy mountains",
    "flower meadow",
    "lake",
    "living room",
    "moon",
    "volcano",
    "farm",
)
SKYLESS_SETTINGS: frozenset[str] = frozenset({"kitchen table", "outer space", "underwater", "living room", "moon"})

TIMES: tuple[str, ...] = ("day", "sunset", "night")  # "day" goes without saying
WEATHERS: tuple[str, ...] = ("clear", "rain", "snow", "fog")  # "clear" goes without saying

STYLES: tuple[str, ...] = (
    "digital art",  # the plain rendering
    "watercolor",
    "oil painting",
    "pencil sketch",
    "pixel art",
    "stained glass",
    "blueprint",
    "vintage photograph",
    "comic book",
    "low poly",
    "paper cut-out",
    "neon",
)
COLOURLESS_STYLES: frozenset[str] = frozenset({"pencil sketch", "blueprint", "vintage photograph"})
