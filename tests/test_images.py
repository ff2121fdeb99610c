"""The image door: every mode, format, source and failure, with real files and a real server."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFile

from img2prompt.errors import (
    ImageEmpty,
    ImageIsDirectory,
    ImageNotFound,
    ImageTooLarge,
    ImageTruncated,
    ImageUnreadable,
    NotAnImage,
)
from img2prompt.pairs.images import Limits, name_of, open_image, read_bytes
from img2prompt.pairs.pixels import to_rgb

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "ICO", "JPEG2000", "PPM")


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth colour picture whose four corners differ."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def worst_difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_its_picture(kind: str, tmp_path: Path) -> None:
    source = picture(64, 64)
    path = tmp_path / "picture.bin"  # the content decides, not the name
    path.write_bytes(encoded(source, kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {})))
    image = open_image(path)
    assert image.mode == "RGB" and type(image) is Image.Image and image.info == {}
    # GIF has 256 colours and AVIF and JPEG are lossy; exact formats are exact.
    limit = {"GIF": 40, "JPEG": 20, "WEBP": 24, "AVIF": 24, "JPEG2000": 6}.get(kind, 0)
    assert worst_difference(image, source) <= limit


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_once(orientation: int, kind: str) -> None:
    upright = picture()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that a camera applied
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    image = open_image(encoded(stored, kind, exif=exif, **options))
    assert worst_difference(image, upright) <= 30
    assert image.getexif().get(0x0112) is None


def test_a_damaged_exif_block_does_not_spoil_the_picture() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40)
    assert open_image(data).size == (60, 40)


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert list(open_image(encoded(image, "PNG")).get_flattened_data()) == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("alpha, expected", [(0, 255), (255, 100), (128, 177)])
def test_alpha_is_composited_on_white(mode: str, alpha: int, expected: int) -> None:
    image = Image.new(mode, (3, 3), (100, 100, 100, alpha) if mode == "RGBA" else (100, alpha))
    assert open_image(encoded(image, "PNG")).getpixel((1, 1)) == pytest.approx((expected,) * 3, abs=1)


def test_premultiplied_and_palette_alpha_go_through_the_same_rule() -> None:
    rgba = Image.new("RGBA", (2, 2), (100, 100, 100, 128))
    for image in (rgba.convert("RGBa"), Image.new("LA", (2, 2), (100, 128)).convert("La")):
        assert open_image(image).getpixel((0, 0)) == pytest.approx((177,) * 3, abs=2)


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        got = open_image(encoded(image, kind, transparency=0))
        assert list(got.get_flattened_data()) == [(255, 255, 255), (0, 0, 255)], kind
    got = open_image(encoded(image, "PNG", transparency=b"\x00\x80"))  # one alpha an entry
    assert got.getpixel((0, 0)) == (255, 255, 255) and got.getpixel((1, 0)) == pytest.approx((127, 127, 255), abs=1)


def test_a_transparent_colour_becomes_white() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    assert open_image(encoded(image, "PNG", transparency=(10, 20, 30))).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_jpeg_with_adobes_inversion_is_not_negative() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    assert open_image(data).getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=6)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "CMYK", "LAB", "PA"])
def test_other_colour_spaces_arrive_as_rgb(mode: str) -> None:
    if mode == "LAB":
        image = Image.new("LAB", (4, 4), (136, 208, 195))  # sRGB red: L 53.2, a 80.1, b 67.2
        got = [open_image(encoded(image, "TIFF")), open_image(image)]
    else:
        image = Image.new("RGB", (4, 4), (255, 0, 0))
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        got = [open_image(image)] + ([open_image(encoded(image, "TIFF"))] if mode in ("CMYK", "YCbCr") else [])
    for one in got:
        assert one.getpixel((1, 1)) == pytest.approx((255, 0, 0), abs=12)


def test_sixteen_bit_grey_uses_the_full_range() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF", "PPM"):
        data = encoded(Image.fromarray(values), kind)
        assert np.asarray(open_image(data))[0, :, 0].tolist() == [0, 1, 128, 255], kind


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 257.0, 65535.0]], np.float32), [0, 1, 255]),
        (np.array([[-2.0, 0.0, 2.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32), [0, 0, 255, 128]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[1e30, -1e30, 0]], np.float32), [255, 0, 128]),
        (np.array([[7.0, 7.0]], np.float32), [7, 7]),
        (np.array([[0, 1, 200]], np.int32), [0, 1, 200]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[-7, -7]], np.int32), [0, 0]),
    ],
)
def test_deep_grey_follows_the_stated_rule(values: np.ndarray, expected: list[int]) -> None:
    got = np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")))
    assert np.abs(got[0, :, 0].astype(int) - expected).max() <= (1 if values.min() < 0 else 0)


def tiff(values: np.ndarray, tags: dict[int, int]) -> bytes:
    """A little-endian, uncompressed, one-strip grey TIFF with the given tags, which Pillow cannot write."""
    raw = values.tobytes()
    rows = {256: values.shape[1], 257: values.shape[0], 259: 1, 262: 1, 273: 8, 277: 1, 278: values.shape[0]}
    rows |= {258: values.dtype.itemsize * 8, 279: len(raw)} | tags
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, rows[tag]) for tag in sorted(rows))
    return struct.pack("<4sI", b"II*\0", 8 + len(raw)) + raw + struct.pack("<H", len(rows)) + entries + bytes(4)


def test_tiff_with_white_at_zero_is_inverted() -> None:
    data = tiff(np.array([[0, 65535]], np.uint16), {262: 0})
    assert np.asarray(open_image(data))[0, :, 0].tolist() == [255, 0]


def test_unsigned_32_bit_tiff_does_not_wrap() -> None:
    data = tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32), {339: 1})
    assert np.asarray(open_image(data))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_several_frames_give_the_first(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=4)


def test_a_huge_compressed_text_does_not_hide_the_picture() -> None:
    body = b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = encoded(picture(), "PNG")
    assert worst_difference(open_image(data[:33] + chunk + data[33:]), picture()) == 0


# --- sources ---


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "a b \u00e4.png"
    data = encoded(picture(), "PNG")
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, picture()):
            assert worst_difference(open_image(source), picture()) == 0
        assert not file.closed
    assert read_bytes(path) == read_bytes(io.BytesIO(data)) == data


def test_a_pillow_image_is_neither_changed_nor_shared() -> None:
    image = picture()
    image.info["mark"] = 1
    open_image(image).paste((0, 0, 0), (0, 0, 60, 40))
    assert worst_difference(image, picture()) == 0 and image.info == {"mark": 1}


def test_a_lazy_pillow_image_that_is_broken_is_our_error() -> None:
    lazy = Image.open(io.BytesIO(encoded(noise(), "JPEG")[:900]))
    with pytest.raises(ImageTruncated):
        open_image(lazy)


def test_stdin_is_read_once(tmp_path: Path) -> None:
    code = (
        "from img2prompt.errors import ImageEmpty\n"
        "from img2prompt.pairs.images import open_image\n"
        "print(open_image('-').size)\n"
        "try: open_image('-')\n"
        "except ImageEmpty: print('ImageEmpty')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=encoded(picture(), "PNG"), capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().split("\n")[:2] == ["(60, 40)", "ImageEmpty"]


def test_names_show_no_secret_and_fit_on_one_line() -> None:
    assert name_of("https://me:pw@example.org/a.png?size=3&token=xyz") == "https://example.org/a.png?size=3&token=***"
    assert name_of("http://example.org/a@b.png") == "http://example.org/a@b.png"
    assert name_of(b"...") == "<bytes>" and name_of("-") == "<stdin>" and name_of(picture()) == "<image>"
    assert name_of(Path("a\n\x1b[31mb\udcff.png")) == "a\\n\\x1b[31mb\\udcff.png"
    assert name_of(io.BytesIO()) == "<file>"


def test_an_unsupported_type_is_a_programming_error() -> None:
    with pytest.raises(TypeError):
        open_image(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        read_bytes(picture())


# --- failures ---


def failure(source: object, **limits: float) -> Exception:
    with pytest.raises(Exception) as caught:
        open_image(source, Limits(**limits))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 400
    return caught.value


def test_each_bad_path_has_its_own_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    assert isinstance(failure(tmp_path / "absent.png"), ImageNotFound)
    assert isinstance(failure(tmp_path), ImageIsDirectory)
    assert isinstance(failure(empty), ImageEmpty)
    assert isinstance(failure(b""), ImageEmpty)
    assert isinstance(failure("a\0b"), ImageNotFound)
    assert isinstance(failure("x" * 300), ImageNotFound)
    assert isinstance(failure(empty / "below.png"), ImageNotFound)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert isinstance(failure(tmp_path / "loop"), ImageUnreadable)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(b"x")
    path.chmod(0)
    assert isinstance(failure(path), ImageUnreadable)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs POSIX devices")
def test_pipes_and_devices_do_not_hang(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    started = time.monotonic()
    for path in (fifo, "/dev/zero", "/dev/null"):
        assert isinstance(failure(path), ImageUnreadable)
    assert time.monotonic() - started < 2


def test_file_objects_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(), "PNG"))
    with path.open(encoding="utf-8") as text:
        assert isinstance(failure(text), ImageUnreadable)
    assert isinstance(failure(io.StringIO("text")), ImageUnreadable)
    closed = io.BytesIO(b"x")
    closed.close()
    assert isinstance(failure(closed), ImageUnreadable)


@pytest.mark.parametrize(
    "data, says",
    [
        (b"just some words, saved as picture.png", "text"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n%...", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "video"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"P5lain text that begins like a PPM", "text"),
        (b"P3\n1 1\n255\n1 2 3\n", "plain PPM"),
        (bytes(range(1, 200)), "unknown bytes"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "unknown bytes"),  # WMF: Pillow would ask the system to draw it
    ],
)
def test_what_is_no_image_is_named(data: bytes, says: str) -> None:
    error = failure(data)
    assert isinstance(error, NotAnImage) and says in str(error)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.98])
def test_a_cut_file_is_called_truncated(kind: str, share: float) -> None:
    data = encoded(noise(), kind, **({"tile_size": (64, 64)} if kind == "JPEG2000" else {}))
    error = failure(data[: int(len(data) * share)])
    assert isinstance(error, ImageTruncated), error


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_header_is_our_error(kind: str) -> None:
    data = encoded(noise(), kind)
    for length in (1, 2, 4, 8, 12, 16, 20, 24, 30, 40):
        assert isinstance(failure(data[:length]), ImageTruncated | NotAnImage)


def test_the_limit_of_bytes_holds_for_every_source(tmp_path: Path) -> None:
    data = encoded(noise(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        assert isinstance(failure(source, max_bytes=len(data) - 1), ImageTooLarge)
    assert open_image(path, Limits(max_bytes=len(data))).size == (64, 64)


def test_an_endless_stream_is_read_to_the_limit_only() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            self.taken += size
            return b"\0" * size

    stream = Endless()
    assert isinstance(failure(stream, max_bytes=5_000_000), ImageTooLarge)
    assert stream.taken == 5_000_001


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_of_pixels_is_checked_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(), kind)
    assert open_image(data, Limits(max_pixels=64 * 64)).size == (64, 64)

    def decoding(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    assert isinstance(failure(data, max_pixels=64 * 64 - 1), ImageTooLarge)


def test_the_limit_of_pixels_also_holds_for_open_images() -> None:
    assert isinstance(failure(picture(), max_pixels=60 * 40 - 1), ImageTooLarge)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def bombs() -> dict[str, bytes]:
    """Small files of 80 megapixels: over our limit and under Pillow's own, so that ours has to hold."""
    big = (10_000, 8_000)
    png = png_header(*big) + encoded(picture(), "PNG")[33:]
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22) + png
    gif = bytearray(encoded(picture(), "GIF"))
    at = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
    gif[at + 5 : at + 9] = struct.pack("<HH", *big)  # the frame, not the screen
    jpeg = bytearray(encoded(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", *big)
    webp = bytearray(
        encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", save_all=True, append_images=[picture(8, 8)])
    )
    webp[24:30] = struct.pack("<HBHB", big[0] - 1, 0, big[1] - 1, 0)
    bmp = bytearray(encoded(picture(), "BMP"))
    bmp[18:26] = struct.pack("<ii", *big)
    tile = tiff(np.zeros((4, 4), np.uint8), {322: 10_000, 323: 8_000, 324: 8, 325: 16, 259: 8})
    small = bytearray(jpeg)
    small[at : at + 4] = struct.pack(">HH", 7_900, 7_900)
    scans = bytes(small[:-2]) + bytes(small[small.rindex(b"\xff\xda") : -2]) * 60 + b"\xff\xd9"
    return {
        "png": png,
        "icon": icon,
        "gif": bytes(gif),
        "jpeg": bytes(jpeg),
        "webp": bytes(webp),
        "bmp": bytes(bmp),
        "ppm": b"P6 10000 8000 255\n" + bytes(99),
        "tiff tile": tile,
        "jpeg scans": scans,
    }


@pytest.mark.parametrize("name, data", bombs().items(), ids=bombs().keys())
def test_decompression_bombs_are_refused(name: str, data: bytes) -> None:
    assert isinstance(failure(data), ImageTooLarge), name


def test_a_higher_limit_lets_large_pictures_in_without_touching_pillows_own() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    code = (
        "import sys\nfrom PIL import Image\nfrom img2prompt.pairs.images import open_image\n"
        "Image.MAX_IMAGE_PIXELS = 1000\n"  # stands for a picture over Pillow's limit and under the caller's
        "print(open_image(sys.stdin.buffer).size, Image.MAX_IMAGE_PIXELS)"
    )
    data = encoded(picture(64, 64), "PNG")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], input=data, capture_output=True, timeout=120)
    assert done.stdout.split() == [b"(64,", b"64)", b"1000"], done.stderr.decode()
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def parts() -> dict[str, Callable[[], bytes]]:
    """Files of megabytes of tiny parts, which a decoder written in Python would walk for minutes."""
    png, jpeg, gif = (encoded(picture(64, 64), kind) for kind in ("PNG", "JPEG", "GIF"))
    screen = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    chunk = struct.pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd"))
    tags = b"".join(struct.pack("<HHII", 300 + index, 1, 1_000_000, 8) for index in range(60_000))
    exif = b"\xff\xe1" + struct.pack(">H", 60_008) + b"Exif\0\0" + b"a" * 60_000
    return {
        "png chunks": lambda: png[:33] + chunk * 200_000 + png[33:],
        "jpeg segments": lambda: jpeg[:2] + b"\xff\xe5\0\2" * 1_000_000 + jpeg[2:],
        "jpeg fill": lambda: jpeg[:2] + b"\xff" * 30_000_000 + jpeg[2:],
        "jpeg exif": lambda: jpeg[:2] + exif * 800 + jpeg[2:],
        "tiff tags": lambda: struct.pack("<4sIH", b"II*\0", 8, 60_000) + tags + bytes(2_000_000),
        "gif comments": lambda: gif[:screen] + b"\x21\xfe\x01a\0" * 1_000_000 + gif[screen:],
    }


@pytest.mark.parametrize("name", parts())
def test_many_small_parts_cost_seconds_at_most(name: str) -> None:
    data = parts()[name]()
    started = time.process_time()
    try:
        assert open_image(data).size == (64, 64)
    except NotAnImage as error:
        assert "too many" in str(error)
    assert time.process_time() - started < 4


def test_errors_survive_pickling() -> None:
    error = failure(b"")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ImageEmpty and str(copy) == str(error)


def test_conversion_of_a_loaded_image_needs_no_file() -> None:
    assert to_rgb(Image.new("F", (2, 2), 0.5)).getpixel((0, 0)) == (128, 128, 128)
