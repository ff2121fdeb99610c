"""The words `parse` understands: phrase -> what it means. Synonyms of users included."""

from __future__ import annotations

from typing import NamedTuple

from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS, SETTINGS, STYLES, WEATHERS


class Meaning(NamedTuple):
    """What a phrase says.

    `role` is one of: kind, count, article, size, colour, relation, setting, time, weather, style, join ("and"), comma,
    break (ends a noun phrase), negation, copula, pronoun, nothing. `plural` is for kinds only.
    """

    role: str
    value: str | int | None = None
    plural: bool = False


_KINDS: dict[str, tuple[str, ...]] = {  # singular synonyms; plurals are formed below
    "cat": ("kitten", "kitty"),
    "dog": ("puppy",),
    "rabbit": ("bunny", "hare"),
    "turtle": ("tortoise",),
    "fish": ("goldfish", "tropical fish"),
    "dinosaur": ("dino",),
    "pizza slice": ("pizza", "slice of pizza", "piece of pizza"),
    "hamburger": ("burger", "cheeseburger"),
    "donut": ("doughnut",),
    "cupcake": ("cup cake", "muffin"),
    "ice cream cone": ("ice cream", "icecream", "icecream cone"),
    "car": ("automobile",),
    "bicycle": ("bike",),
    "steam train": ("train", "locomotive", "steam locomotive", "steam engine"),
    "rocket": ("rocket ship",),
    "sailboat": ("sail boat", "sailing boat", "boat"),
    "palm tree": ("palm",),
    "house": ("home", "cottage"),
    "ferris wheel": ("big wheel",),
    "teddy bear": ("teddy", "plush bear"),
    "soccer ball": ("football", "soccerball"),
    "gift box": ("gift", "present", "giftbox"),
    "alarm clock": ("clock",),
    "top hat": ("hat",),
    "teapot": ("tea pot",),
}
_PLURALS: dict[str, tuple[str, ...]] = {
    "cactus": ("cactuses",),
    "octopus": ("octopi",),
    "pizza slice": ("slices of pizza", "pieces of pizza"),
}

_SETTINGS: dict[str, tuple[str, ...]] = {
    "beach": ("beaches", "seaside", "seashore"),
    "forest": ("forests", "woods", "woodland", "jungle"),
    "city": ("cities", "cityscape", "city street", "downtown", "town"),
    "desert": ("sand dunes",),
    "kitchen table": ("table", "tabletop", "kitchen", "kitchen counter"),
    "outer space": ("space", "cosmos", "galaxy"),
    "underwater": ("under water", "under the water", "under the sea", "undersea", "ocean floor", "sea floor", "seabed"),
    "snowy mountains": (
        "snowy mountain", "mountains", "mountain", "snow covered mountain", "snow covered mountains",
        "snow capped mountain", "snow capped mountains",
    ),
    "flower meadow": ("meadow of flowers", "meadow", "field of flowers", "flower field"),
    "lake": ("lakes", "lakeside"),
    "living room": ("livingroom", "lounge"),
    "moon": ("lunar surface", "lunar landscape"),
    "volcano": ("volcanoes", "volcanos", "volcanic landscape"),
    "farm": ("farms", "farmland", "farmyard"),
}  # fmt: skip
_STYLES: dict[str, tuple[str, ...]] = {
    "digital art": ("digital painting", "digital illustration", "digital drawing"),
    "watercolor": ("watercolour", "water color", "water colour", "watercolors", "watercolours", "aquarelle"),
    "oil painting": ("oil on canvas", "oil paint", "oil paints", "oil painted"),
    "pencil sketch": ("pencil drawing", "pencil", "sketch", "graphite drawing", "sketched"),
    "pixel art": ("pixelart", "pixelated", "8 bit", "16 bit", "pixel"),
    "stained glass": ("stained glass window",),
    "blueprint": ("blueprints", "blue print", "technical drawing"),
    "vintage photograph": (
        "photograph", "photo", "photos", "photography", "vintage photo", "vintage photography", "old photo",
        "old photograph", "sepia", "vintage picture",
    ),
    "comic book": ("comic", "comics", "comic strip", "comic books"),
    "low poly": ("lowpoly", "low polygon"),
    "paper cut-out": (
        "paper cutout", "papercut", "paper cut", "cut out", "cutout",
        "paper craft", "papercraft", "paper collage",
    ),
    "neon": ("neon lights", "neon sign"),
}  # fmt: skip
_TIMES: dict[str, tuple[str, ...]] = {
    "day": ("day", "daytime", "daylight"),
    "sunset": ("sunset", "dusk", "golden hour", "sundown"),
    "night": ("night", "nighttime", "nighttimes", "midnight"),
}
_WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": (),
    "rain": ("rainy", "raining", "rainfall"),
    "snow": ("snowing", "snowfall", "snowy"),
    "fog": ("foggy", "mist", "misty"),
}
_SIZES: dict[str, tuple[str, ...]] = {
    "tiny": ("tiny", "small", "little", "miniature", "mini", "micro"),
    "huge": ("huge", "giant", "big", "large", "enormous", "gigantic", "massive", "oversized"),
}
_COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "blue": ("navy",),
    "purple": ("violet",),
    "yellow": (),
}
_THREE_TO_ELEVEN = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_COUNTS: dict[int | None, tuple[str, ...]] = {
    1: ("1", "one", "single", "lone", "solitary"),
    2: ("2", "two", "pair of", "couple of", "couple", "pair"),
    **{i: (str(i), word) for i, word in enumerate(_THREE_TO_ELEVEN, 3)},
    12: ("12", "twelve", "dozen", "dozen of"),
    None: (
        "several", "many", "some", "few", "multiple", "various", "lots of", "group of", "bunch of", "herd of",
        "flock of", "school of", "row of", "pile of", "couple more", "dozens of",
    ),
}  # fmt: skip
_RELATIONS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of", "on the left side of", "at the left of", "left from"),
    "right of": (
        "right of",
        "to the right of",
        "on the right of",
        "on the right side of",
        "at the right of",
        "right from",
    ),
    "above": ("above", "over"),
    "below": ("below",),
    "behind": ("behind", "in back of", "at the back of"),
    "in front of": ("in front of",),
    "on": ("on", "on top of", "atop", "upon", "onto"),
    "under": ("under", "beneath", "underneath"),
}
_PLAIN: dict[str, tuple[str, ...]] = {
    "article": ("the", "this", "that", "these", "those", "its", "their", "his", "her", "my", "your", "our"),
    "join": ("and",),
    "break": (
        "with", "of", "in", "at", "by", "near", "from", "to", "beside", "between", "among", "next", "around",
        "across", "through", "into", "for", "while", "where", "which", "who", "has", "have", "having", "stands",
        "standing", "sits", "sitting", "or", "but", "plus", "showing", "shows", "featuring", ";", ":", "(",
        ")", "[", "]", "{", "}", "|", "/",
        "next to",
    ),
    "comma": (",",),
    "negation": ("no", "without"),
    "copula": ("is", "are", "painted", "colored", "coloured"),
    "pronoun": ("it", "them"),
    "nothing": (
        "on the left", "on the right", "on paper", "on canvas", "hot dog", "full moon", "half moon", "snow white",
        "present day", "on display", "on a background",
    ),
}  # fmt: skip


def _plural(noun: str) -> str:
    """The regular plural of a synonym."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _lexicon() -> dict[tuple[str, ...], Meaning]:
    phrases: dict[str, Meaning] = {
        "a": Meaning("article", 1),
        "an": Meaning("article", 1),
        "another": Meaning("article", 1),
    }
    for kind, row in KINDS.items():
        for singular in (kind, *_KINDS.get(kind, ())):
            phrases[_plural(singular)] = Meaning("kind", kind, plural=True)
        for plural in (row.plural, *_PLURALS.get(kind, ())):
            phrases[plural] = Meaning("kind", kind, plural=True)
        for singular in (kind, *_KINDS.get(kind, ())):  # last, so that "fish" counts as one when nothing says otherwise
            phrases[singular] = Meaning("kind", kind)
    for role, names, synonyms in (
        ("setting", SETTINGS, _SETTINGS),
        ("style", STYLES, _STYLES),
        ("colour", tuple(COLOURS), _COLOURS),
        ("weather", WEATHERS, _WEATHERS),
        ("time", (), _TIMES),
        ("size", (), _SIZES),
        ("relation", (), _RELATIONS),
    ):
        for name in names or synonyms:
            phrases |= {phrase: Meaning(role, name) for phrase in (*([name] if names else []), *synonyms.get(name, ()))}
    colours = {phrase: meaning for phrase, meaning in phrases.items() if meaning.role == "colour"}
    phrases |= {f"{phrase} {word}": colours[phrase] for phrase in colours for word in ("colored", "coloured")}
    phrases |= {phrase: Meaning("count", count) for count, words in _COUNTS.items() for phrase in words}
    phrases |= {phrase: Meaning(role) for role, words in _PLAIN.items() for phrase in words}
    # Hyphens are spaces to the reader: "cut-out", "low-poly", "ice-cream".
    return {tuple(phrase.replace("-", " ").split()): meaning for phrase, meaning in phrases.items()}


LEXICON: dict[tuple[str, ...], Meaning] = _lexicon()
LONGEST: dict[str, int] = {}  # first word -> words in the longest phrase it opens
for _phrase in LEXICON:
    LONGEST[_phrase[0]] = max(len(_phrase), LONGEST.get(_phrase[0], 0))
