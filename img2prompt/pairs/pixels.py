"""Any Pillow mode to upright 8-bit RGB; the rules for alpha, high bit depths and colour spaces are stated here."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageCms

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> the transposition that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ROWS_PX = 1 << 20  # pixels of a deep image that are scaled at once, so that temporaries stay small


def to_rgb(image: Image.Image) -> Image.Image:
    """A new upright RGB image of a loaded image of any mode.

    - EXIF orientation is applied; metadata is dropped, so that nobody applies it twice.
    - Alpha (also of palettes, and a transparent colour of PNG and GIF) is composited on white.
    - CMYK, YCbCr and HSV go through Pillow's conversions, LAB (D50) through littleCMS to sRGB. Colour profiles inside
      the file are not applied.
    - 16-bit grey: the full range of the type (12-bit TIFF: 0..4095) becomes 0..255.
    - 32-bit integer, signed 16-bit and float grey, which define no white: the smallest of the ranges 0..1 (float
      only), 0..255 and 0..65535 that holds every finite value is black to white; if none does, the least value
      becomes black and the greatest white. NaN and -inf are black, +inf is white.
    - Grey TIFFs whose zero is white are inverted.
    """
    orientation = _orientation(image)
    rgb = _flat_rgb(image)
    if rgb is image:
        rgb = image.copy()
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) when there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block may raise anything and does not spoil the picture
        return 1
    return value if isinstance(value, int) else 1


def _flat_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey(image).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, (255, 255, 255))
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # None only with inPlace=True
    return converted


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey of a deep image (modes I;16*, I, F)."""
    values = _values(image)  # (H,W)
    black, white = _range(image, values)
    out = np.empty(values.shape, dtype=np.uint8)  # (H,W)
    rows = max(1, _ROWS_PX // max(1, values.shape[1]))
    scale = 255.0 / (white - black) if white > black else 0.0
    for top in range(0, values.shape[0], rows):
        part = values[top : top + rows].astype(np.float64)
        part = np.nan_to_num(part, nan=black, posinf=white, neginf=black)
        out[top : top + rows] = np.clip((part - black) * scale + 0.5, 0, 255).astype(np.uint8)
    if _tag(image, 262) == 0:  # PhotometricInterpretation: WhiteIsZero
        np.subtract(255, out, out=out)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        out[values == transparent] = 255
    return Image.fromarray(out)


def _values(image: Image.Image) -> np.ndarray[Any, Any]:
    values = np.asarray(image)
    if image.mode == "I" and _tag(image, 339, default=2) == 1 and _tag(image, 258) == 32:
        return values.view(np.uint32)  # Pillow keeps unsigned TIFF samples in signed storage
    return values


def _range(image: Image.Image, values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The values that become black and white; the rule is in `to_rgb`."""
    if image.mode.startswith("I;16"):
        return 0.0, 4095.0 if _tag(image, 258) == 12 else 65535.0
    if image.format == "PPM" and image.mode == "I":
        return 0.0, 65535.0  # Pillow scales every PPM over 8 bits to this range
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size == 0:
        return 0.0, 1.0
    least, greatest = float(finite.min()), float(finite.max())
    for white in (1.0, 255.0, 65535.0)[0 if image.mode == "F" else 1 :]:
        if least >= 0.0 and greatest <= white:
            return 0.0, white
    return least, greatest


def _tag(image: Image.Image, tag: int, default: int | None = None) -> int | None:
    """The first value of a TIFF tag; `default` when the image is no TIFF or has no such tag."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    if isinstance(value, tuple):
        value = value[0] if value else default
    return value if isinstance(value, int) else default
