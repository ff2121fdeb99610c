"""How styles are said. Tables only; the rules of `setting_phrases` hold here too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StyleWords:
    """How one style is said: `of` before the objects, `after` behind them, `look` as a sentence of its own."""

    of: tuple[str, ...]
    after: tuple[str, ...]
    look: tuple[str, ...]


STYLE_WORDS: dict[str, StyleWords] = {
    "digital art": StyleWords(
        ("digital art of",),
        ("digital art",),
        (
            "The shapes are clean and the colors are bright.",
            "Smooth shading and clean edges give a modern look.",
            "The colors are crisp and the edges are smooth.",
        ),
    ),
    "watercolor": StyleWords(
        ("watercolor painting of",),
        ("watercolor painting", "watercolor painting", "watercolor style"),
        (
            "Soft washes of paint bleed into the textured paper.",
            "Wet edges and pale washes show the grain of the paper.",
            "Thin paint flows in soft washes with uneven edges.",
        ),
    ),
    "oil painting": StyleWords(
        ("oil painting of",),
        ("oil painting", "oil painting", "oil painting style"),
        (
            "Thick brush strokes give a rich texture to the canvas.",
            "Visible brush strokes follow the form of every shape.",
            "The paint is thick and the brush strokes are bold.",
        ),
    ),
    "pencil sketch": StyleWords(
        ("pencil sketch of",),
        ("pencil sketch", "pencil sketch", "pencil drawing"),
        (
            "Fine gray lines and soft hatching shape the forms.",
            "Light shading and loose gray lines are drawn by hand.",
            "The lines are thin and the shading is soft and gray.",
        ),
    ),
    "pixel art": StyleWords(
        ("pixel art of",),
        ("pixel art", "pixel art", "pixel art style"),
        (
            "Square blocks and few colors recall an old video game.",
            "Every shape is built from coarse square blocks.",
            "The edges are blocky and the colors are flat.",
        ),
    ),
    "stained glass": StyleWords(
        ("stained glass window of",),
        ("stained glass", "stained glass window"),
        (
            "Thick dark lines divide every shape into glowing panes.",
            "Shining panes are held together by thick dark lines.",
            "Light glows through many panes with thick dark edges.",
        ),
    ),
    "blueprint": StyleWords(
        ("blueprint of",),
        ("blueprint", "blueprint", "blueprint drawing"),
        (
            "Thin white lines stand out against the deep blue sheet.",
            "White outlines on deep blue look like an exact plan.",
            "The outlines are white and the sheet is deep blue.",
        ),
    ),
    "vintage photograph": StyleWords(
        ("vintage photograph of",),
        ("vintage photograph", "vintage photograph", "vintage photo"),
        (
            "Faded brown tones and soft grain show its age.",
            "Brown tones and dark corners give an aged look.",
            "The tones are brown and faded with visible grain.",
        ),
    ),
    "comic book": StyleWords(
        ("comic book art of",),
        ("comic book art", "comic book style"),
        (
            "Bold black outlines and printed dots fill the panel.",
            "Thick ink lines go around flat and bright colors.",
            "The outlines are bold and the shading is made of dots.",
        ),
    ),
    "low poly": StyleWords(
        ("low poly art of",),
        ("low poly art", "low poly art", "low poly style"),
        (
            "Many flat triangles form the surface of every shape.",
            "Sharp triangles and flat shading build up the forms.",
            "The surfaces are split into many flat triangles.",
        ),
    ),
    "paper cut-out": StyleWords(
        ("paper cut-out of",),
        ("paper cut-out", "paper cut-out", "paper cut-out style"),
        (
            "Flat layers with crisp edges cast soft shadows.",
            "Flat layers with clean edges lie one over another.",
            "The layers are flat and each casts a soft shadow.",
        ),
    ),
    "neon": StyleWords(
        ("neon art of",),
        ("neon art", "neon art", "neon style"),
        (
            "Bright glowing outlines shine out of the darkness.",
            "Bright glowing lines stand out against the dark background.",
            "The outlines glow like electric tubes in the dark.",
        ),
    ),
}
MODIFIERS: tuple[str, ...] = ("highly detailed",)  # what prompts carry though no picture can show it; rare here
