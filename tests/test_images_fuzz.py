"""Mutated real files: nothing but our own errors comes out of the image door, and memory stays bounded."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from img2prompt.errors import Img2PromptError
from img2prompt.pairs.images import Limits, open_image

LIMITS = Limits(max_pixels=1_000_000, max_bytes=1_000_000)


@functools.cache
def samples() -> tuple[bytes, ...]:
    """Small real files: every format, and the variants that take other paths through its decoder."""
    values = np.random.default_rng(3).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    rgba = Image.fromarray(values)
    rgb, grey, deep = rgba.convert("RGB"), rgba.convert("L"), Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    several = {"save_all": True, "append_images": [rgb.rotate(90), rgb]}
    rows: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "PNG", {"exif": exif}),
        (rgba, "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 3}),
        (deep, "PNG", {}),
        (rgb, "PNG", several),
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "MPO", several),
        (rgba, "WEBP", {"exif": exif}),
        (rgb, "WEBP", {"lossless": True}),
        (rgb, "WEBP", several),
        (rgb, "AVIF", {"exif": exif}),
        (rgb, "GIF", several),
        (grey, "GIF", {"interlace": 0, "comment": b"words"}),
        (rgb, "BMP", {}),
        (rgb.quantize(16), "BMP", {}),
        (rgb, "TIFF", {"exif": exif}),
        (rgba, "TIFF", {"compression": "tiff_lzw"}),
        (grey, "TIFF", {"compression": "tiff_deflate"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (grey.convert("1"), "TIFF", {"compression": "group4"}),
        (grey.convert("F"), "TIFF", {}),
        (Image.new("LAB", (9, 9), (90, 90, 90)), "TIFF", {}),
        (rgba, "ICO", {"sizes": [(16, 16), (20, 20)]}),
        (rgba, "ICO", {"sizes": [(16, 16)], "bitmap_format": "bmp"}),
        (rgb, "JPEG2000", {}),
        (rgba, "JPEG2000", {"irreversible": True, "tile_size": (16, 16)}),
        (rgb, "PPM", {}),
        (deep, "PPM", {}),
        (grey.convert("F"), "PPM", {}),
    ]
    return tuple(encoded(*row) for row in rows)


def encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """One to six random damages, biased to the header, where they matter most."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 7))):
        if not out:
            break
        reach = min(len(out), 120) if random.random() < 0.6 else len(out)
        at, count = int(random.integers(reach)), int(random.integers(1, 9))
        match int(random.integers(7)):
            case 0:
                out[at] ^= 1 << int(random.integers(8))
            case 1:
                out[at : at + count] = random.bytes(count)
            case 2:
                out[at : at + 4] = ((0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF, 1)[count % 6]).to_bytes(4, "big")
            case 3:
                del out[at : len(out) if random.random() < 0.3 else at + count * 8]
            case 4:
                other = samples()[int(random.integers(len(samples())))]
                start = int(random.integers(len(other)))
                out[at : at + count] = other[start : start + count * 30]
            case 5:
                out[at:at] = out[max(0, at - count * 20) : at]
            case _:
                out[at:at] = bytes(count * 4)
    return bytes(out)


def survives(data: bytes) -> bool:
    """True when the door gave a picture, False when it gave one of our errors; anything else propagates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about damaged tags
        try:
            image = open_image(data, LIMITS)
        except Img2PromptError as error:
            assert "\n" not in str(error) and str(error).isprintable()
            return False
    assert image.mode == "RGB" and 0 < image.width * image.height <= LIMITS.max_pixels
    return True


def test_the_samples_are_pictures() -> None:
    assert all(survives(data) for data in samples())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(which=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_a_picture_or_our_error(which: int, seed: int) -> None:
    data = samples()[which % len(samples())]
    survives(mutate(data, np.random.default_rng(seed)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(which=st.integers(0, 30), tail=st.binary(max_size=300), keep=st.integers(2, 40))
def test_any_bytes_after_a_real_beginning(which: int, tail: bytes, keep: int) -> None:
    survives(samples()[which % len(samples())][:keep] + tail)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_at_all(data: bytes) -> None:
    survives(data)


def test_every_cut_of_every_sample() -> None:
    for data in samples():
        for length in {*range(0, min(len(data), 48)), *range(48, len(data), max(1, len(data) // 8))}:
            survives(data[:length])


MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_images_fuzz as fuzz
for data in fuzz.samples():
    fuzz.survives(data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (1 << 30), pages + (1 << 30)))
random = np.random.default_rng(11)
for round in range(int(sys.argv[2])):
    for data in fuzz.samples():
        fuzz.survives(fuzz.mutate(data, random))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
def test_memory_stays_bounded() -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(here), "6"],
        capture_output=True,
        text=True,
        cwd=here.parent,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 120  # MiB; a megapixel needs about 16, whatever a mutated header claims
