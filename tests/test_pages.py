"""Pages hold everything they show, and nothing that others wrote runs in them or leaves them."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image

from img2prompt.jobs.blocks import Card, Column, Item, browse, grid, table, thumbnail
from img2prompt.jobs.figures import bins, curve, histogram
from img2prompt.jobs.pages import Section, columns, facts, page, prompt, visible

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></textarea></svg><script>alert(1)</script>",
    "{0} {{x}} %s {a.__class__}",
    "\x1b[31mred\x1b[0m \x9b1m \x07",
    "invoice \u202egnp.exe\u202c \u2066x\u2069",
    "nul \x00 and half \ud83d an emoji \ufeff",
    "line\nline\r\ttab & amp &amp; <!-- -->",
    "javascript:alert(1)",
    "قطة على السطح 猫 👩‍👩‍👧",
]
VOID = {"meta", "img", "input", "br", "link", "base", "hr"}


class Reader(HTMLParser):
    """Elements and text as a browser would see them; fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"{tag} closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def full_page(text: str) -> str:
    """Every helper with the text in every place that takes one."""
    picture = thumbnail(Image.new("RGB", (8, 4), "red"), text, caption=text)
    rows = [(text, text, 3, 3), ("other", text, 5, 5)]
    heads = [Column(text), Column(text, "prompt"), Column(text, "number"), Column(text, "bar")]
    body = Markup("").join(
        [
            prompt(text),
            prompt(text * 100),
            facts({text: text, "list": [text, text], "mapping": {text: text}, "none": None}),
            table(heads, rows, caption=text),
            columns(grid([Card([picture, picture], text, text)], large=True)),
            browse([Item(prompt(text), {"size": 2.0})], {text: ("size", True)}, label=text),
            histogram(bins({1: 2, 3: 4}), caption=text, unit=text, mark=(2, text)),
            curve([(0.8, 0.5), (0.9, 0.7)], caption=text, names=(text, text), chosen=0.9),
        ]
    )
    return page(text, [Section(text, body, text)], kicker=text, lead=text, headline={text: text})


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    html = full_page(text)
    html.encode("utf-8")  # no half characters
    reader, plain = read(html), read(full_page("plain"))
    assert [tag for tag, _ in reader.elements] == [tag for tag, _ in plain.elements]
    for (tag, found), (_, wanted) in zip(reader.elements, plain.elements, strict=True):
        assert found.keys() == wanted.keys(), tag
    if text.isprintable() and len(text) < 60:
        assert text in "".join(reader.text)


@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_stays_text(text: str) -> None:
    reader = read(page("t", [Section("s", prompt(text))]))
    assert [tag for tag, _ in reader.elements].count("script") == 1
    shown = visible(text).replace("\r", "")
    assert shown in "".join(reader.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_unseen_characters_are_shown_by_their_codes() -> None:
    assert visible("\x1b[31m \u202egnp") == "␛[31m ⟨U+202E⟩gnp"
    assert visible("\ud83d \x00 \x7f \x9b") == "⟨U+D83D⟩ ␀ ␡ ⟨U+009B⟩"
    assert visible("👩‍👩‍👧 \t\n ünï می‌خواهم") == "👩‍👩‍👧 \t\n ünï می‌خواهم"  # joiners make emoji and Persian words


def test_nothing_is_loaded_and_only_its_own_script_runs() -> None:
    html = full_page("https://example.com/x.png")
    reader = read(html)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            if name in ("src", "href", "action", "srcset"):
                assert tag != "script" and (value or "").startswith("data:image/webp;base64,")
    policy = next(a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for kind in ("script", "style"):
        part = html.split(f"<{kind}>")[1].split(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_the_page_says_its_language_width_and_pictures() -> None:
    reader = read(full_page("x"))
    assert ("html", {"lang": "en"}) in reader.elements
    assert any(a.get("name") == "viewport" for _, a in reader.elements)
    assert all(a.get("alt") for tag, a in reader.elements if tag == "img")
    assert all(a.get("aria-label") for tag, a in reader.elements if tag == "svg" and a.get("aria-hidden") != "true")
    assert all(a.get("scope") == "col" for tag, a in reader.elements if tag == "th")


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_light_and_dark() -> None:
    style = full_page("x").split("<style>")[1]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in style.split("}")[:2])
    dark = {
        **light,
        **dict(re.findall(r"--(\w+): (#\w{6})", style.split("prefers-color-scheme: dark")[1].split("}")[0])),
    }
    assert light["ground"] != dark["ground"]
    for theme in (light, dark):
        for ink in ("ink", "soft", "accent", "mark"):
            assert contrast(theme[ink], theme["ground"]) >= 4.5, ink
        assert contrast(theme["ink"], theme["faint"]) >= 4.5  # marked words
        assert contrast(theme["fill"], theme["ground"]) >= 3  # bars


def test_a_long_prompt_opens_on_demand_and_loses_nothing() -> None:
    text = "word " * 500
    reader = read(str(prompt(text)))
    assert [tag for tag, _ in reader.elements] == ["div", "details", "summary"]
    assert "".join(t for t in reader.text if not t.startswith("…")) == text
    assert [tag for tag, _ in read(str(prompt("short"))).elements] == ["p"]


def test_a_table_sorts_by_values_and_its_bars_are_shares() -> None:
    html = str(table([Column("n", "number"), Column("", "bar")], [(1200, 50), (7, 200)], caption="c"))
    assert 'data-value="1200">1,200<' in html
    assert re.findall(r'class="fill" width="([\d.]+)"', html) == ["25.00", "100.00"]
    assert "sortable" not in str(table([Column("n")], [("one",)], caption="c"))


def test_a_thumbnail_keeps_its_shape_and_the_picture() -> None:
    image = Image.new("RGB", (1000, 500), (10, 200, 30))
    picture = thumbnail(image, "green", most_px=100)
    assert image.size == (1000, 500) and (picture.width_px, picture.height_px) == (100, 50)
    small = Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("RGB")
    assert small.size == (100, 50)
    assert all(abs(a - b) < 8 for a, b in zip(small.getpixel((50, 25)), (10, 200, 30), strict=True))


@given(st.dictionaries(st.integers(0, 5000), st.integers(1, 1000), min_size=1, max_size=60))
def test_bins_lose_nothing(counts: dict[int, int]) -> None:
    found = bins(counts)
    assert sum(found.counts) == sum(counts.values())
    assert 1 <= len(found.counts) <= 40
    for i, count in enumerate(found.counts[:-1]):
        start = found.first + i * found.width
        assert count == sum(n for number, n in counts.items() if start <= number < start + found.width)
    assert found.open_end == (max(counts) >= found.first + found.width * len(found.counts))


def test_a_thin_tail_does_not_flatten_the_histogram() -> None:
    found = bins({**dict.fromkeys(range(1, 21), 1000), 90_000: 1})
    assert found.open_end and found.width == 1 and len(found.counts) == 20 and found.counts[-1] == 1001
    assert found.names("{:.0f}".format)[-1] == "20 or more"


def test_figures_lie_inside_their_frames() -> None:
    for html in (
        histogram(bins({n: n * n for n in range(1, 100)}), caption="c", unit="u", mark=(78, "m")),
        curve([(t / 100, t / 100) for t in range(70, 99, 2)], caption="c", names=("a", "b"), chosen=0.9),
        curve([(0.9, 1.0)], caption="one point", names=("a", "b")),
        histogram(bins({5: 1}), caption="one bar", unit="u"),
    ):
        for width, height, body in re.findall(r'viewBox="0 0 (\d+) (\d+)"[^>]*>(.*?)</svg>', html, re.DOTALL):
            xs = [float(v) for v in re.findall(r'\b(?:c?x|x1|x2)="(-?[\d.]+)"', body)]
            ys = [float(v) for v in re.findall(r'\b(?:c?y|y1|y2)="(-?[\d.]+)"', body)]
            assert min(xs) >= 0 and max(xs) <= float(width) and min(ys) >= 0 and max(ys) <= float(height)
