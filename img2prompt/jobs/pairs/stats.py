"""`img2prompt pairs stats`: what a data set holds, as a table, JSON and a page with pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import MissingExtra, OutputError
from img2prompt.jobs.options import number

if TYPE_CHECKING:
    from img2prompt.pairs.skips import Skips

THRESHOLDS = tuple(t / 100 for t in range(70, 99, 2))
TOP = 12  # words and phrases in the table; JSON and page have more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-verb."""
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="data sets, tables, folders, as for `pairs format`")
    add("--html", type=Path, metavar="FILE", help="also write a page with pictures and figures")
    add("--json", action="store_true", help="one JSON object instead of the table")
    add("--text-only", action="store_true", help="prompts without pictures: tables without such a column, .txt too")
    add(
        *("--sample", "-n"),
        type=number(int, 1),
        default=20_000,
        metavar="N",
        help="prompts whose tokens are counted and whose near-duplicates are looked for (default: 20000)",
    )
    add("--no-embeddings", action="store_true", help="leave out near-duplicates, which need the sentence encoder")
    add("--sentence-model", metavar="MODEL", help="name or folder (default: all-MiniLM-L6-v2)")
    add("--device", default="auto", help="of the sentence encoder: auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--image-column", metavar="NAME", help="column of the images, where it is not found by itself")
    add("--prompt-column", metavar="NAME", help="column of the prompts, where it is not found by itself")
    add("--seed", type=number(int, 0), default=0, help="of the samples (default: 0)")


def stats(options: argparse.Namespace) -> int:
    """Counts, prints and draws; returns 0.

    Raises:
        DataError: a source cannot be read.
        OutputError: the page cannot be written.
    """
    from img2prompt.pairs.profile import Profile, Sampling
    from img2prompt.pairs.skips import Skips
    from img2prompt.progress import track

    skips = Skips()
    profile = Profile(Sampling(prompts=options.sample, seed=options.seed))
    for row in track(_rows(options, skips), unit="row"):
        profile.add(row)
    skips.merge(profile.skips)
    facts = {
        **profile.to_dict(),
        "near_duplicates": None if options.no_embeddings else _near_duplicates(options, profile.prompts.items),
        **skips.to_dict(),
        "seed": options.seed,
    }
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that cannot show a character gets its escape
        sys.stdout.reconfigure(errors="backslashreplace")
    print(json.dumps(facts, ensure_ascii=False) if options.json else "\n".join(table(facts)))
    for line in skips.lines():
        print(f"left out: {line}", file=sys.stderr)
    if options.html is not None:  # last, so that a page that cannot be written costs nothing else
        from img2prompt.jobs.pairs.stats_page import stats_page
        from img2prompt.pairs.atomic import write_atomically

        try:
            write_atomically(options.html, stats_page(facts, profile.examples).encode())
        except OSError as error:
            raise OutputError(f"{options.html}: {error.strerror or error}; choose another name") from error
        print(f"page: {options.html}", file=sys.stderr)
    return 0


def _rows(options: argparse.Namespace, skips: Skips) -> Iterator[Mapping[str, Any]]:
    given = {"image": options.image_column, "prompt": options.prompt_column}
    columns = {ours: theirs for ours, theirs in given.items() if theirs is not None}
    for source in options.sources:
        if options.text_only:
            from img2prompt.pairs.prompts import read_prompts

            for row in read_prompts(source, columns=columns, skips=skips):
                yield {"prompt": row.prompt, "source": row.source}
        else:
            from img2prompt.pairs.sources import stream_rows

            yield from stream_rows(source, columns, skips=skips)


def _near_duplicates(options: argparse.Namespace, prompts: Sequence[str]) -> dict[str, Any] | None:
    """Survivors of the sample over thresholds; None when there is no sentence encoder here."""
    from img2prompt.models.devices import usable
    from img2prompt.models.sentence import MINILM, SentenceEncoder
    from img2prompt.pairs.dedup import survivor_curve

    try:
        encoder = SentenceEncoder(options.sentence_model or MINILM, usable(options.device), cache="default")
    except MissingExtra as error:
        if options.sentence_model:
            raise
        print(f"without near-duplicates: {error}", file=sys.stderr)
        return None
    found = survivor_curve(encoder.encode_many(prompts), THRESHOLDS)
    return {
        "sample": len(prompts),
        "sentence_model": encoder.name,
        "curve": [[float(at), int(stay)] for at, stay in found.points()],
    }


def table(facts: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the readable table."""
    prompts, pictures = facts["prompts"], facts["pictures"]
    yield from _pairs(_head(facts))
    yield ""
    lengths = {"words": prompts["words"], "characters": prompts["characters"], "CLIP tokens": prompts["tokens"]}
    yield "a prompt has" + "".join(f"{name:>9}" for name in ("least", "5 %", "median", "95 %", "most"))
    for name, of in lengths.items():
        yield f"{name:<12}" + "".join(f"{of.get(at, 0):>9,}" for at in ("least", "5 %", "median", "95 %", "most"))
    if len(facts["sources"]) > 1:
        more = len(facts["sources"]) - TOP
        yield from ("", "sources", *_counted(facts["sources"].items(), TOP))
        if more > 0:
            yield f"{'':>9}  and {more:,} more"
    if pictures["formats"]:
        formats = [
            (f"{kind}, {of['mean_bytes'] / 1024:,.0f} KiB each", of["count"])
            for kind, of in pictures["formats"].items()
        ]
        yield from ("", f"pictures, of {pictures['sample']:,} looked at", *_counted(formats, TOP))
        yield from _counted(pictures["sizes"].items(), 5)
    for name in ("top_words", "top_phrases"):
        if facts[name]:
            yield from ("", f"most frequent {name.removeprefix('top_')}", *_counted(facts[name], TOP))
    if prompts["most_repeated"]:
        yield from ("", "most repeated prompts", *_counted(prompts["most_repeated"], 5))
    if facts["near_duplicates"]:
        near = facts["near_duplicates"]
        yield from ("", f"stay without near-duplicates, of {near['sample']:,}")
        for at, stay in near["curve"][::2]:
            yield f"  cosine below {at:.2f}  {stay:>9,}  {stay / max(near['sample'], 1):>6.1%}"


def _head(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    prompts, pictures, rows = facts["prompts"], facts["pictures"], max(facts["rows"], 1)
    yield "rows", f"{facts['rows']:,}"
    if pictures["distinct"]:
        yield "pictures", f"{pictures['distinct']:,} different{_some(pictures['urls'], 'only as URLs')}"
    yield "prompts", f"{prompts['distinct']:,} different, {prompts['distinct_folded']:,} but for case and white space"
    yield "repeated", f"{prompts['repeated_rows']:,} rows ({prompts['repeated_rows'] / rows:.1%}) hold a prompt again"
    tokens = prompts["tokens"]
    yield "over 77", f"{tokens['over_77_share']:.1%} of {tokens['sample']:,} prompts have more CLIP tokens than 77"
    if facts["skipped"]:
        yield "left out", ", ".join(f"{count:,} {kind}" for kind, count in facts["skipped"].items())


def _some(count: int, what: str) -> str:
    return f", {count:,} {what}" if count else ""


def _pairs(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    return (f"{name:<10}{value}" for name, value in rows)


def _counted(pairs: Any, most: int) -> Iterator[str]:
    """Lines of counts and what was counted."""
    from img2prompt.pairs.embedded.values import clean

    for text, count in list(pairs)[:most]:
        line = " ".join(clean(str(text)).split())
        yield f"{count:>9,}  {line if len(line) <= 100 else line[:99] + '…'}"
