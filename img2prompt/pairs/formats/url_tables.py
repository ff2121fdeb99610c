"""Tables of URLs (SBU, CC3M, CC12M, LAION): their pictures are fetched by img2dataset before they are pairs.

img2dataset stays a program of its own: it pins libraries that this package needs in other versions.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from img2prompt.errors import DataError, MissingExtra, OutputError
from img2prompt.pairs.atomic import fresh_file
from img2prompt.pairs.formats.columnar import schema_of, url_column
from img2prompt.pairs.formats.columns import COLUMN_NAMES, is_url, match_columns, peek
from img2prompt.pairs.formats.json_stream import json_items
from img2prompt.pairs.formats.tables import READERS, first_line, is_headless
from img2prompt.pairs.formats.texts import is_text, open_text, read_lines
from img2prompt.pairs.skips import Skips

logger = logging.getLogger(__name__)

INSTALL = "pipx install img2dataset"
_STDERR = 2  # the descriptor: in a notebook sys.stderr has none
_CAPTIONS = ("_urls", "_captions")  # how the two files of SBU end, a line a picture
_KEPT = ("NSFW", "similarity", "LICENSE", "punsafe", "pwatermark", "AESTHETIC_SCORE")  # of LAION


@dataclass(frozen=True, slots=True)
class UrlTable:
    """Where URLs and captions stand.

    Attributes:
        path: the table, or a folder of parquet files.
        form: "parquet", "json", "csv", "tsv", or, without a header that img2dataset could read, "headless" or "lines".
        url: name of the column of URLs.
        caption: name of the column of captions.
        kept: further columns that img2dataset is to keep.
    """

    path: Path
    form: str
    url: str
    caption: str
    kept: tuple[str, ...] = ()


def url_table(path: Path) -> UrlTable | None:
    """The table of URLs that a file or folder is, or None."""
    lines = _pair_of_lines(path)
    if lines is not None:
        return UrlTable(lines, "lines", "url", "caption")
    if path.suffix in (".tsv", ".csv") and is_headless(path):
        return UrlTable(path, "headless", "url", "caption")
    if path.suffix == ".json" and _is_sbu(path):
        return UrlTable(path, "json", "image_urls", "captions")
    parquet = path if path.suffix == ".parquet" else next(iter(sorted(path.glob("[!.]*.parquet"))), None)
    if parquet is not None:
        schema = schema_of(parquet)
        url, names = url_column(schema), {name.lower(): name for name in schema.names}
        caption = next((names[name] for name in COLUMN_NAMES["prompt"] if name in names), None)
        if url is not None and caption is not None:
            return UrlTable(path, "parquet", url, caption, tuple(name for name in _KEPT if name in schema.names))
    return None


def shell_line(table: UrlTable, folder: Path | str, image_px: int = 512) -> str:
    """The line that a shell needs to fetch the pictures of a table into a folder."""
    listed, before = str(table.path), ""
    if table.form in ("headless", "lines"):
        listed = f"{table.path.stem}.with_header.tsv"
        names = "\\t".join(_names_of_columns(table))
        tool = (
            ["cat", str(table.path)]
            if table.form == "headless"
            else ["paste", str(table.path), str(_other(table.path))]
        )
        before = f"(printf '{names}\\n'; {shlex.join(tool)}) > {shlex.quote(listed)} && "
    kind = "tsv" if before else table.form
    return before + shlex.join(_arguments(table, listed, kind, folder, image_px))


def advice(path: Path, columns: Mapping[str, str]) -> str:
    """One line for a table with a header whose pictures are URLs: they can be fetched as they are needed, or before."""
    found, _ = peek(READERS[path.suffix.lower()](path, Skips())) if path.suffix.lower() in READERS else ([], None)
    slow = f"{path}: its pictures are URLs, fetched one by one as they are needed"
    if not found or path.suffix.lower() not in (".csv", ".tsv"):
        return slow
    names = match_columns(found, columns, path)
    table = UrlTable(path, path.suffix.lower().removeprefix("."), names["image"], names["prompt"])
    return f"{slow}; for many, fetch them before ({INSTALL}): {shell_line(table, f'{path.stem}_pictures')}"


def refusal(table: UrlTable, source: object) -> str:
    """One line: what a table of URLs is, and what to do with it."""
    folder = f"{table.path.stem}_pictures"
    return (
        f"{source}: holds URLs, not pictures; fetch them with `img2prompt pairs format ... --download FOLDER`, or"
        f" ({INSTALL}): {shell_line(table, folder)} ; then give {folder}"
    )


def download(source: str | Path, folder: str | Path, *, image_px: int = 512) -> Path:
    """Fetches the pictures of a table of URLs with img2dataset, whose progress is shown on stderr.

    Run again it goes on where it was; finished shards stay.

    Args:
        source: what `url_table` knows.
        folder: gets img2dataset's shards, for `open_pairs`.
        image_px: the shorter side of the pictures; smaller ones stay as they are.

    Raises:
        DataError: no table of URLs.
        MissingExtra: the program img2dataset is not there.
        OutputError: it failed, or the folder cannot be written.
    """
    path, out = Path(source), Path(folder)
    table = url_table(path)
    if table is None:
        raise DataError(f"{path}: no table of URLs; its pairs can be read as they are")
    program = shutil.which("img2dataset")
    if program is None:
        raise MissingExtra(f"img2dataset is not installed; install it with: {INSTALL}")
    try:
        listed, kind = str(table.path), table.form
        if kind in ("headless", "lines"):
            out.mkdir(parents=True, exist_ok=True)
            listed, kind = str(_write_list(table, out / "urls.parquet")), "parquet"
            table = UrlTable(table.path, kind, "url", "caption")
        command = [program, *_arguments(table, listed, kind, out, image_px)[1:], "--incremental_mode", "incremental"]
        code = subprocess.run(command, stdout=_STDERR, check=False).returncode
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror or error}; run it again to go on") from error
    if code != 0:
        raise OutputError(f"{out}: img2dataset stopped with exit code {code}; run it again to go on")
    return out


def _arguments(table: UrlTable, listed: str, kind: str, folder: Path | str, image_px: int) -> list[str]:
    kept = ["--save_additional_columns", "[" + ",".join(f'"{name}"' for name in table.kept) + "]"] if table.kept else []
    return [
        *("img2dataset", "--url_list", listed, "--input_format", kind),
        *("--url_col", table.url, "--caption_col", table.caption, *kept),
        *("--output_format", "webdataset", "--output_folder", str(folder)),
        *("--image_size", str(image_px), "--resize_mode", "keep_ratio", "--resize_only_if_bigger", "True"),
        *("--processes_count", "4", "--thread_count", "64"),
    ]


def _names_of_columns(table: UrlTable) -> tuple[str, str]:
    """The header that a table without one needs."""
    if table.form == "lines" or is_url(first_line(table.path).split("\t")[0]):
        return "url", "caption"
    return "caption", "url"


def _write_list(table: UrlTable, path: Path) -> Path:
    """URLs and captions as a parquet file, which knows no quotes to misread."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("url", pa.string()), ("caption", pa.string())])
    with fresh_file(path) as fresh, pq.ParquetWriter(fresh, schema) as writer:
        batch: list[dict[str, str]] = []
        for url, caption in _listed(table):
            batch.append({"url": url, "caption": caption})
            if len(batch) == 10_000:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
    return path


def _listed(table: UrlTable) -> Iterator[tuple[str, str]]:
    if table.form == "lines":
        pairs: Iterable[tuple[str, str]] = zip_longest(
            read_lines(table.path), read_lines(_other(table.path)), fillvalue=""
        )
    else:
        first = _names_of_columns(table)[0]
        cells = (line.rstrip("\r\n").partition("\t")[::2] for line in read_lines(table.path))
        pairs = ((a, b) if first == "url" else (b, a) for a, b in cells)
    unusable = 0
    for url, caption in pairs:
        if is_url(url) and caption.strip() and is_text(url + caption):
            yield url.strip(), caption.strip()
        else:
            unusable += 1
    if unusable:
        logger.warning("%s: %d lines without a URL and a caption were left out", table.path, unusable)


def _pair_of_lines(path: Path) -> Path | None:
    """The file of URLs of SBU's two, when a path is it, its companion or their folder."""
    ending = f"{_CAPTIONS[0]}.txt"
    given = path.with_name(path.name.replace(*_CAPTIONS[::-1]))
    files = sorted(path.glob(f"[!.]*{ending}")) if path.is_dir() else [given]
    return next((f for f in files if f.name.endswith(ending) and f.is_file() and _other(f).is_file()), None)


def _other(urls: Path) -> Path:
    """The file of captions of a file of URLs."""
    return urls.with_name(urls.name.replace(*_CAPTIONS))


def _is_sbu(path: Path) -> bool:
    """Whether a .json file is SBU's: an object with parallel arrays of URLs and captions."""
    with open_text(path) as file:
        if file.read(1 << 12).lstrip()[:1] != "{":
            return False
    key, item = next(json_items(path), (None, None))
    return key == "image_urls" and is_url(item)
