"""The standard sets of prompts, in the formats of their sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.benchmarks import BENCHMARKS, read_benchmark
from img2prompt.pairs.skips import Skips

DATA = Path(__file__).parents[2] / "shared" / "data" / "prompts"
FACTS = {  # set -> prompts, a category and how many have it, what else is kept
    "drawbench": (200, "Colors", 25, set()),
    "parti": (1632, "Abstract", 51, {"challenge"}),
    "geneval": (553, "counting", 80, set()),
    "dpg": (1065, None, 1065, set()),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_real_set_is_read_whole_with_its_categories(name: str) -> None:
    if not DATA.is_dir():
        pytest.skip("the real sets lie in ../shared/data, which is not here")
    count, category, with_it, more = FACTS[name]
    skips = Skips()
    rows = read_benchmark(name, DATA, skips=skips)
    assert len(rows) == len({row.id for row in rows}) == len({row.prompt for row in rows}) == count and not skips
    assert sum(row.kept.get("category") == category for row in rows) == with_it
    assert set().union(*(row.kept for row in rows)) - {"category"} == more
    assert all(value == value.strip() for row in rows for value in row.kept.values())


def test_repeated_prompts_count_once_and_keep_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "dpg_bench.csv").write_text("item_id,text,category\n1,a cat,one\n1,a cat,two\n2,a dog,\n")
    rows = read_benchmark("dpg", tmp_path, skips=Skips())
    assert [(row.id, row.prompt, dict(row.kept)) for row in rows] == [
        ("dpg:1", "a cat", {"category": "one"}),
        ("dpg:3", "a dog", {}),
    ]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_missing_says_where_it_comes_from(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = BENCHMARKS[name].source.split(",")[0].split(" ")[0]
    for folder in (tmp_path, None):
        with pytest.raises(DataError) as error:
            read_benchmark(name, folder, skips=Skips())
        assert source in str(error.value) and "\n" not in str(error.value)


def test_a_set_is_read_from_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    row = BENCHMARKS["parti"]
    assert row.hub is not None
    repository, file = row.hub
    for kind in ("models", "datasets"):  # one of the same name is another repository
        folder = tmp_path / f"{kind}--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("c0ffee")
        path = folder / "snapshots" / "c0ffee" / file
        path.parent.mkdir(parents=True)
        path.write_text(f"Prompt\tCategory\na cat of {kind}\tAnimals\n")
    assert [one.prompt for one in read_benchmark("parti", None, skips=Skips())] == ["a cat of datasets"]


def test_wrong_names_and_tables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean drawbench"):
        read_benchmark("drawbensh", tmp_path, skips=Skips())
    with pytest.raises(DataError, match="no such folder"):
        read_benchmark("parti", tmp_path / "none", skips=Skips())
    (tmp_path / "drawbench.csv").write_text("Text,Category\na,b\n")
    with pytest.raises(DataError, match="no column 'prompt' or 'Prompts'; found: Text, Category"):
        read_benchmark("drawbench", tmp_path, skips=Skips())
