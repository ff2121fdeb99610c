# ruff: noqa: E501 (a pair stands on two lines, however long its texts are)
"""Short prompts with rich ones that keep every fact, written by hand for scripts/bench/drift.py.

They were written before the rules of the general check were run on any of them. No line comes from a benchmark.
"""

from __future__ import annotations

FAITHFUL: list[tuple[str, str]] = [
    (
        "a red bicycle leaning against a stone wall",
        "A vintage red bicycle with a worn leather saddle leans against a mossy stone wall in the warm light of late"
        " afternoon, ivy creeping down from above.",
    ),
    (
        "two cats on a sofa",
        "Two fluffy tabby cats lie curled together on a deep velvet sofa, their paws touching, while soft morning light"
        " falls through lace curtains.",
    ),
    (
        "three green apples in a bowl",
        "A rustic ceramic bowl holds three shiny green apples on a kitchen counter, each with a tiny brown stem and drops"
        " of water on its skin.",
    ),
    (
        "a dog left of a cat",
        "In a sunny meadow a shaggy dog sits to the left of a slender cat; both look straight into the camera.",
    ),
    (
        "a yellow vase above a blue book",
        "On a tall shelf a glossy yellow vase stands above a thick blue book with a cracked spine, in soft studio light.",
    ),
    (
        "a street without cars",
        "A wide cobbled street at dawn without any cars, lined by shuttered bakeries and wrought-iron lamps, the pavement"
        " still wet from the night's rain.",
    ),
    (
        'a sign that says "No Parking"',
        'A weathered metal sign that says "No Parking" in bold letters hangs on a brick wall, rust bleeding from its four'
        " screws.",
    ),
    (
        "a portrait of Frida Kahlo with a parrot",
        "A vivid portrait of Frida Kahlo with flowers woven into her dark hair, a bright parrot perched on her shoulder,"
        " lush leaves filling the background.",
    ),
    (
        "an old man feeding pigeons in the park",
        "An old man with a white beard sits on a wooden bench in the park feeding pigeons, crumbs scattered around his"
        " worn shoes under golden autumn trees.",
    ),
    (
        "a black car and a white car",
        "A sleek black car is parked beside an equally polished white car on a rooftop at night, city lights glittering"
        " on their hoods.",
    ),
    (
        "a pair of penguins on the ice",
        "A pair of penguins waddles across cracked blue ice under a pale polar sun, their small shadows stretching behind"
        " them.",
    ),
    (
        "a wooden bridge over a river",
        "A narrow wooden bridge arches over a quiet river whose surface mirrors the pines on both banks, mist drifting"
        " between the planks.",
    ),
    (
        "a robot cooking pancakes",
        "A friendly chrome robot cooks a stack of golden pancakes at a gas stove, steam curling around its glowing eyes"
        " in a tidy kitchen.",
    ),
    (
        "a castle on a hill at night",
        "High on a grassy hill stands a medieval castle at night, torches flickering in its windows beneath a sky full of"
        " stars.",
    ),
    (
        "five balloons in the sky",
        "Five colorful balloons drift through a cloudless summer sky, their strings dangling loosely in the breeze.",
    ),
    (
        "a teapot under a table",
        "A dented copper teapot lies under a heavy oak table, half hidden by the fringe of the tablecloth.",
    ),
    (
        "a lighthouse behind a sailing boat",
        "A small sailing boat with patched canvas glides over choppy waves; behind it a striped lighthouse rises from"
        " the rocks.",
    ),
    (
        "a child with a purple umbrella",
        "A small child in rubber boots jumps into a puddle while holding a large purple umbrella, drops frozen in mid-air.",
    ),
    (
        "an astronaut riding a horse",
        "An astronaut in a bulky space suit rides a galloping horse across a dusty plain, the visor reflecting a setting"
        " sun.",
    ),
    (
        "a plate of pasta, no meat",
        "A wide plate of fresh pasta with basil, cherry tomatoes and shaved parmesan, with no meat at all, seen from"
        " above on a linen cloth.",
    ),
    (
        "a cup of coffee on a newspaper",
        "A steaming cup of coffee rests on a folded newspaper beside a pair of reading glasses, in the slanting light of"
        " a café window.",
    ),
    (
        "a golden crown",
        "A heavy golden crown set with rubies and pearls lies on a cushion of dark velvet, lit by a single candle.",
    ),
    (
        "a white rabbit in a black hat",
        "A white rabbit with soft fur peeks out from inside a tall black hat on a magician's table, silver stars"
        " sparkling around it.",
    ),
    (
        "the Eiffel Tower in the snow",
        "The Eiffel Tower rises through thick falling snow, its iron lattice dusted white, while a few walkers with"
        " umbrellas cross the quiet square.",
    ),
    (
        "a dozen roses in a glass vase",
        "A dozen roses with velvety petals fill a tall glass vase on a windowsill, dew still clinging to their leaves.",
    ),
    (
        "a surfer riding a huge wave",
        "A lone surfer crouches low while riding a huge turquoise wave, white spray exploding along its curling crest.",
    ),
    (
        "a kitchen with a red refrigerator",
        "A cozy retro kitchen with checkered tiles and a rounded red refrigerator humming in the corner, copper pans"
        " hanging from the ceiling.",
    ),
    (
        "a snowman wearing a green scarf",
        "A plump snowman with coal eyes and a carrot nose stands in a silent garden wearing a knitted green scarf.",
    ),
    (
        "four candles on a cake",
        "Four slender candles burn on a chocolate cake with dripping glaze, their small flames casting a warm glow over"
        " the table.",
    ),
    (
        "a mountain reflected in a lake",
        "A snow-capped mountain is perfectly reflected in a still alpine lake at sunrise, pine trees framing the shore.",
    ),
    (
        "a brown horse behind a white fence",
        "A brown horse with a long flowing mane grazes behind a freshly painted white fence, dandelions dotting the"
        " grass.",
    ),
    (
        "a girl reading a book under a tree",
        "A girl in a linen dress sits under a spreading oak tree, absorbed in reading an old book, dappled sunlight on"
        " the pages.",
    ),
    (
        "an oil painting of a fishing village",
        "An oil painting of a sleepy fishing village, thick brush strokes shaping the stacked houses, nets drying along"
        " the harbor.",
    ),
    (
        "two dogs and a ball",
        "Two playful dogs chase a bouncing ball across a sandy beach, their ears flying and paws kicking up spray.",
    ),
    (
        "a clock on the wall showing midnight",
        "An ornate clock hangs on the papered wall showing midnight, its brass pendulum caught in the glow of a dying"
        " fire.",
    ),
    (
        "a pink flamingo standing in water",
        "A pink flamingo is standing on one leg in shallow water, ripples spreading around it in the orange light of"
        " dusk.",
    ),
    (
        "a train crossing a desert",
        "A long silver train is crossing an endless desert of rippled dunes, its dust plume hanging in the shimmering"
        " heat.",
    ),
    (
        'a neon sign reading "OPEN 24 HOURS"',
        'A buzzing neon sign reading "OPEN 24 HOURS" glows in a rain-streaked diner window, its colors smeared across the'
        " wet asphalt.",
    ),
    (
        "a bowl of soup next to a loaf of bread",
        "A steaming bowl of tomato soup stands next to a crusty loaf of bread on a scratched wooden board, a spoon lying"
        " between crumbs.",
    ),
    (
        "a fox sleeping in the forest",
        "A small fox is sleeping on a bed of moss deep in the forest, its tail wrapped around its nose as fireflies"
        " drift past.",
    ),
    (
        "a backpack without straps",
        "A faded canvas backpack without straps lies on a workbench, its buckles removed and its seams fraying.",
    ),
    (
        "an empty classroom, no people",
        "An empty classroom with rows of wooden desks and a dusty blackboard, no people in sight, late sunlight slanting"
        " over the floor.",
    ),
    (
        "a blue parrot to the right of a cage",
        "A brilliant blue parrot perches to the right of an open brass cage, its feathers ruffled by the breeze from a"
        " balcony door.",
    ),
    (
        "several sheep in front of a barn",
        "Several woolly sheep graze in front of a weathered red barn, long shadows stretching over the pasture.",
    ),
    (
        "a knight fighting a dragon",
        "A knight in dented armor raises his sword while fighting a fire-breathing dragon on a crumbling rampart, embers"
        " swirling through the smoke.",
    ),
    (
        "a motorcycle parked outside a cafe",
        "A classic chrome motorcycle is parked outside a small cafe with striped awnings, its headlight catching the"
        " last sun.",
    ),
    (
        "a woman with red hair",
        "A woman with long curly red hair looks over her shoulder, freckles across her nose, against a dark studio"
        " backdrop.",
    ),
    (
        "a purple octopus playing the drums",
        "A cheerful purple octopus is playing the drums on the ocean floor, each tentacle gripping a wooden stick while"
        " bubbles rise.",
    ),
    (
        "a city skyline at sunset",
        "A city skyline of glass towers glows at sunset, the windows burning orange and the river below turning to"
        " copper.",
    ),
    (
        "a gray cat with green eyes",
        "A sleek gray cat with piercing green eyes sits on a stack of old books, whiskers catching the lamplight.",
    ),
    (
        "six eggs in a carton",
        "An open cardboard carton holds six speckled eggs, one of them with a small feather stuck to its shell.",
    ),
    (
        "a table with two chairs",
        "A round café table with two slender iron chairs stands on a terrace above the sea, a checkered cloth fluttering"
        " in the wind.",
    ),
    (
        "a bird on top of a hippo",
        "A tiny bird sits on top of a hippo that is wading through a muddy river, tall reeds swaying in the background.",
    ),
    (
        "a violin and a bow on a chair",
        "A polished violin and its bow rest on an old chair in an empty concert hall, dust floating in a beam of light.",
    ),
    (
        "Napoleon eating ice cream in Venice",
        "Napoleon in his bicorne hat is eating ice cream beside a canal in Venice, gondolas passing under a marble"
        " bridge.",
    ),
    (
        "a man holding a lantern",
        "A bearded man in a long coat holds a glowing lantern up into the fog, its light catching the mist on his"
        " sleeves.",
    ),
    (
        "a pixel art spaceship",
        "A pixel art spaceship with glowing thrusters crosses a starfield of tiny squares, in a limited palette of blues"
        " and violets.",
    ),
    (
        "a couple dancing in the rain",
        "A young couple is dancing in the rain on an empty square, their coats soaked and the streetlights shimmering in"
        " the puddles.",
    ),
    (
        "an orange tabby kitten inside a cardboard box",
        "An orange tabby kitten with round eyes crouches inside an open cardboard box, bits of packing paper scattered"
        " around it.",
    ),
    (
        "a lamp between two armchairs",
        "A brass floor lamp glows between two leather armchairs in a quiet library, shelves of old books rising into"
        " shadow.",
    ),
    (
        "a giraffe eating leaves from a tree",
        "A tall giraffe stretches its neck to eat fresh leaves from a flat-topped tree on the golden savanna.",
    ),
    (
        "a smartphone on a wooden desk",
        "A modern smartphone with a dark screen lies on a wooden desk beside a fountain pen and a small potted fern.",
    ),
    (
        "a chess board with white and black pieces",
        "A marble chess board with finely carved white and black pieces, caught in the middle of a game under a warm"
        " reading light.",
    ),
    (
        "a bakery window full of croissants",
        "A bakery window full of buttery croissants stacked on wire trays, condensation on the glass and the street"
        " still dark outside.",
    ),
    (
        "a helicopter over a burning forest",
        "A rescue helicopter hovers over a burning forest, its bucket releasing a silver curtain of water through columns"
        " of smoke.",
    ),
    (
        "a panda doing yoga, watercolor",
        "A watercolor of a round panda doing yoga on a bamboo mat, loose washes of gray and jade bleeding into the"
        " textured paper.",
    ),
    (
        "a watch with a cracked glass and a leather strap",
        "Close-up of an old watch with a cracked glass and a scuffed leather strap, its hands stopped, lying on a map.",
    ),
    (
        "a boy in a yellow raincoat beside a red mailbox",
        "A boy in a shiny yellow raincoat stands beside a dented red mailbox on a country lane, clutching a letter as"
        " clouds gather.",
    ),
    (
        "the Statue of Liberty made of ice",
        "The Statue of Liberty made of clear blue ice, meltwater trickling down the folds of the robe, under a bright"
        " winter sky.",
    ),
    (
        "a bench that is not occupied, in the fog",
        "A single iron bench that is not occupied stands in the fog beside a path, bare branches fading into the white.",
    ),
]
