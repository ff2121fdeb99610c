"""Words that the general drift check knows the sense of: numbers, colours, places, synonyms. One row a sense."""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NUMBERS = """
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
COUNTS: dict[str, int] = {
    **{word: number for number, word in enumerate(_NUMBERS.split(), 1)},
    "thirty": 30,
    "fifty": 50,
    "hundred": 100,
    "single": 1,
    "lone": 1,
    "solitary": 1,
    "sole": 1,
    "both": 2,
}
GROUPS: dict[str, int] = {  # nouns that count what follows "of"
    "pair": 2,
    "couple": 2,
    "duo": 2,
    "trio": 3,
    "threesome": 3,
    "quartet": 4,
    "foursome": 4,
    "quintet": 5,
    "sextet": 6,
    "dozen": 12,
}
VAGUE = _set("several many some few multiple numerous various countless dozens hundreds lots plenty")

COLOURS: dict[
    str, tuple[str, ...]
] = {  # colour -> the same in other words, and shades of it; a shade states its colour
    "red": ("crimson", "scarlet", "ruby", "maroon", "burgundy", "vermilion", "cherry-red", "reddish", "carmine"),
    "orange": ("tangerine", "amber", "apricot", "orangish", "pumpkin-orange"),
    "yellow": ("lemon", "canary", "mustard", "yellowish", "golden-yellow", "saffron"),
    "green": ("emerald", "olive", "lime", "jade", "mint", "greenish", "viridian", "forest-green"),
    "blue": ("azure", "navy", "cobalt", "sapphire", "cerulean", "indigo", "bluish", "turquoise", "cyan", "teal"),
    "purple": ("violet", "lavender", "lilac", "mauve", "plum", "purplish", "amethyst", "magenta"),
    "violet": ("purple", "lavender", "lilac"),
    "pink": ("rose", "fuchsia", "salmon", "magenta", "pinkish", "blush"),
    "brown": ("chestnut", "chocolate", "tan", "hazel", "mahogany", "sepia", "umber", "auburn", "brownish", "bronze"),
    "black": ("ebony", "jet-black", "onyx", "obsidian", "blackish", "inky", "pitch-black"),
    "white": ("ivory", "snow-white", "snowy", "alabaster", "pearl", "milky", "whitish", "off-white"),
    "gray": ("grey", "silver", "silvery", "slate", "charcoal", "ash-gray", "ashen", "greyish", "grayish"),
    "gold": ("golden", "gilded"),
    "golden": ("gold", "gilded"),
    "silver": ("silvery",),
    "beige": ("cream", "sandy", "tan", "ecru"),
    "turquoise": ("teal", "aquamarine"),
    "teal": ("turquoise",),
    "cyan": ("aqua",),
    "maroon": ("burgundy",),
    "colorful": ("colourful", "multicolored", "multicoloured", "rainbow", "rainbow-colored", "multi-colored"),
}
_SPELLINGS = {"grey": "gray", "colourful": "colorful", "multicolored": "colorful", "multicoloured": "colorful"}
SHADES: dict[str, frozenset[str]] = {colour: frozenset((colour, *words)) for colour, words in COLOURS.items()}
# Words that are colours wherever they stand before a noun. Shades that are things as well ("olive", "plum", "mint",
# "charcoal") state a colour when they are looked for, and are not looked for by themselves.
PLAIN = _set(
    "red orange yellow green blue purple violet pink brown black white gray golden silver beige turquoise teal cyan"
    " maroon crimson scarlet magenta colorful"
)


def colour_of(word: str) -> str | None:
    """The plain colour that a word names by itself, in its first spelling; None: none."""
    word = _SPELLINGS.get(word, word)
    return word if word in PLAIN else None


# Phrase -> (relation, its two sides are told the other way round). Longest phrases first where they are looked for.
RELATIONS: dict[str, tuple[str, bool]] = {
    "to the left of": ("left of", False),
    "on the left of": ("left of", False),
    "on the left side of": ("left of", False),
    "to the left side of": ("left of", False),
    "left of": ("left of", False),
    "to the right of": ("left of", True),
    "on the right of": ("left of", True),
    "on the right side of": ("left of", True),
    "to the right side of": ("left of", True),
    "right of": ("left of", True),
    "above": ("above", False),
    "over": ("above", False),
    "overhead": ("above", False),
    "below": ("above", True),
    "under": ("under", False),
    "beneath": ("under", False),
    "underneath": ("under", False),
    "behind": ("behind", False),
    "in back of": ("behind", False),
    "in front of": ("behind", True),
    "on top of": ("on", False),
    "atop": ("on", False),
    "upon": ("on", False),
    "onto": ("on", False),
    "on": ("on", False),
    "inside of": ("inside", False),
    "inside": ("inside", False),
    "within": ("inside", False),
    "into": ("inside", False),
    "in": ("inside", False),
    "next to": ("beside", False),
    "beside": ("beside", False),
    "alongside": ("beside", False),
    "adjacent to": ("beside", False),
    "close to": ("beside", False),
    "near": ("beside", False),
    "by": ("beside", False),
    "outside of": ("outside", False),
    "outside": ("outside", False),
}
# These are often implied by a rewording ("a table holds a cup"): such a fact counts as lost only where the two things
# are put in another relation.
WEAK = frozenset({"on", "inside", "beside", "outside"})
SIDES: dict[str, str] = {  # phrases of place in the picture
    f"{start} {side}{end}": side
    for start in ("on the", "to the", "at the", "on its", "in the", "on the far", "to the far")
    for side in ("left", "right")
    for end in ("", " side", " half", " hand side")
}

SIDE_WORDS = _set("left right top front back side middle center centre")

NEGATIONS = _set("no without lacking sans minus never not none neither nor excluding")
NEGATING_PHRASES = ("free of", "devoid of", "empty of", "absence of", "instead of", "rather than", "bare of")

# Nouns that say how something is shown or counted, not what: their loss loses nothing.
FRAMES = _set(
    """
photo photograph image picture pic shot view scene snapshot frame foreground background close-up closeup depiction
left right top bottom side front back middle center centre edge corner kind type sort variety group pair couple number
set lot bunch way part detail display form duo trio quartet dozen row line cluster array collection piece use hand
style case order time place look object surface color colour subject composition arrangement distance total
"""
)

_SYNONYMS = """
car automobile; couch sofa settee; bike bicycle; motorbike motorcycle; tv television; phone telephone; cellphone
smartphone; airplane plane aeroplane jet; boat ship vessel; kid child youngster; boy lad; girl lass; man gentleman guy
male; woman lady female; person individual human figure; people crowd person folk; baby infant; dog puppy pup hound
canine; cat kitten kitty feline; rabbit bunny hare; donut doughnut; rock stone boulder; road street roadway; path
trail pathway walkway; forest woods woodland wood; sea ocean; beach shore seashore shoreline seaside; hill hillside;
mountain peak; house home cottage; store shop storefront; painting artwork canvas; drawing sketch; movie film; hat
cap; glasses spectacles eyeglasses; trousers pants; purse handbag; backpack rucksack; rug carpet; curtain drape; lamp
light; mug cup; fridge refrigerator; bookcase bookshelf; sneaker trainer; sunrise dawn; sunset dusk; night nighttime;
town village; garden yard; tap faucet; rubbish trash garbage; wave surf; soccer football; burger hamburger
cheeseburger; fries chip; cookie biscuit; sweater jumper; jewel gem gemstone; bug insect; pig hog; chick chicken;
kitchen kitchenette; photographer cameraman; sidewalk pavement; sign signboard; flat apartment; theater theatre
cinema; armor armour; pajamas pyjamas; desktop desk; turtle tortoise; ladybug ladybird; astronaut spaceman cosmonaut;
snow snowfall; rain rainfall shower; fog mist haze; fire flame blaze; soldier warrior; doctor physician; airport
airfield; text word lettering inscription; watercolor watercolour aquarelle; pencil graphite
"""
SYNONYMS: dict[str, frozenset[str]] = {}
for _line in _SYNONYMS.split(";"):
    for _word in _line.split():
        SYNONYMS[_word] = SYNONYMS.get(_word, frozenset()) | frozenset(_line.split())

_IRREGULAR = """
people:person men:man women:woman children:child shelves:shelf ties:tie toes:toe olives:olive curves:curve
canvases:canvas gases:gas lenses:lens pants:pants trousers:trousers clothes:clothes glasses:glasses
sunglasses:sunglasses woods:woods stairs:stair lens:lens pies:pie movies:movie dice:die caves:cave waves:wave
gloves:glove doves:dove stoves:stove sleeves:sleeve eaves:eave valves:valve graves:grave bees:bee selfies:selfie
cookies:cookie zombies:zombie hippies:hippie shoes:shoe hoes:hoe canoes:canoe horseshoes:horseshoe
"""
IRREGULAR: dict[str, str] = dict(pair.split(":") for pair in _IRREGULAR.split())  # plural -> singular
BOTH_NUMBERS = _set("fish sheep deer moose aircraft spacecraft series species bison shrimp salmon trout")
ING_NOUNS = _set(
    """
painting drawing building clothing ceiling string morning evening spring thing lightning pudding railing awning dressing
lettering wedding earring carving engraving stocking frosting icing flooring landing bedding
"""
)
