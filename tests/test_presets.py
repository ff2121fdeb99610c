"""Presets: the table, finding them without network, pulling, verifying."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import Hub, serving

from img2prompt import hub as hub_module
from img2prompt import presets
from img2prompt.cli import main
from img2prompt.errors import DownloadError, PresetError
from img2prompt.presets import PRESETS, best_available, cached, pull, resolve

NAME = "coca-b32"
WEIGHTS = bytes(range(256)) * 4_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no bundled models."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(presets, "BUNDLED", tmp_path / "bundled")
    return folder


def repository(**changes: object) -> Hub:
    files = {"open_clip_config.json": b'{"model_cfg": {}}', "open_clip_pytorch_model.bin": WEIGHTS, "README.md": b"x"}
    return replace(Hub(PRESETS[NAME].repository or "", files), **changes)


def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundled" / "captioner"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_row_is_complete(preset: presets.Preset) -> None:
    assert PRESETS[preset.name] is preset
    assert (preset.folder is None) != (preset.repository is None)
    assert preset.licence and preset.knows and preset.size_mb > 0
    if preset.repository is not None:
        from open_clip.pretrained import get_pretrained_cfg

        architecture, tag = (preset.open_clip or "").split("/")
        assert get_pretrained_cfg(architecture, tag)["hf_hub"].strip("/") == preset.repository


def test_pull_verifies_and_counts_as_cached(cache: Path) -> None:
    assert cached(PRESETS[NAME]) is None
    with serving(repository()) as server:
        located = pull(NAME, endpoint=server.endpoint)
        bodies = server.bodies
        pull(NAME, endpoint=server.endpoint)
        assert server.bodies == bodies == 2  # the second time everything is there; README is not fetched
        wrong = located.folder / "open_clip_pytorch_model.bin"
        wrong.write_bytes(b"damaged on the disk")
        with pytest.raises(DownloadError, match="SHA-256"):
            pull(NAME, endpoint=server.endpoint)
        pull(NAME, endpoint=server.endpoint)
    assert (located.folder / "open_clip_pytorch_model.bin").read_bytes() == WEIGHTS
    assert cached(PRESETS[NAME]) == located.folder / "open_clip_pytorch_model.bin"
    assert resolve(NAME) == located and located.source == "coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k"
    assert best_available() == located


def test_safe_weights_are_preferred(cache: Path) -> None:
    server = repository()
    server.files["open_clip_pytorch_model.safetensors"] = b"safe"
    with serving(server):
        assert (pull(NAME, endpoint=server.endpoint).folder / "open_clip_pytorch_model.safetensors").exists()
    assert server.bodies == 2


def test_wrong_bytes_are_refused_and_removed(cache: Path) -> None:
    wrong = b"\1" + WEIGHTS[1:]
    with serving(repository(served={"open_clip_pytorch_model.bin": wrong})) as server:
        with pytest.raises(DownloadError, match="SHA-256"):
            pull(NAME, endpoint=server.endpoint)
        assert cached(PRESETS[NAME]) is None
        assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 1000]
        server.served = {}
        pull(NAME, endpoint=server.endpoint)
    assert cached(PRESETS[NAME]) is not None


def test_a_known_checksum_counts_more_than_the_hubs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = replace(PRESETS[NAME], sha256={"open_clip_pytorch_model.bin": "f" * 64})
    monkeypatch.setitem(PRESETS, NAME, known)
    with serving(repository()) as server, pytest.raises(DownloadError, match="ffffffffffff"):
        pull(NAME, endpoint=server.endpoint)
    assert cached(PRESETS[NAME]) is None


def test_a_broken_download_goes_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # it waits between its own trials
    long = WEIGHTS * 25  # its library writes pieces of 10 MB
    files = {"open_clip_pytorch_model.bin": long}
    with serving(repository(files=files, cuts=[12_000_000, *[0] * 20])) as server:
        with pytest.raises(DownloadError, match="goes on where it stopped") as caught:
            pull(NAME, endpoint=server.endpoint)
        assert "\n" not in str(caught.value) and cached(PRESETS[NAME]) is None
        server.cuts.clear()
        server.ranges.clear()
        pull(NAME, endpoint=server.endpoint)
    assert server.ranges and all(not asked.startswith("bytes=0-") for asked in server.ranges)
    path = cached(PRESETS[NAME])
    assert path is not None and path.read_bytes() == long


def test_no_connection_is_one_line(cache: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens
        with pytest.raises(DownloadError, match="no connection to the hub") as caught:
            pull(NAME, endpoint=endpoint)
    assert "\n" not in str(caught.value)


def test_no_space_is_said_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(cache.parent)._replace(free=1_000_000)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: usage)
    with serving(repository()) as server, pytest.raises(DownloadError, match=r"needs 0\.00 GB .* HF_HOME"):
        pull(NAME, endpoint=server.endpoint)
    assert server.bodies == 1  # the configuration; never the weights


def test_unknown_names(tmp_path: Path) -> None:
    for name, message in {
        "coca-l1": "did you mean coca-l14",
        "zebra": "the presets are",
        "coca-l14": "img2prompt pull coca-l14",
        "hf-hub:someone/something": "img2prompt pull hf-hub:someone/something",
        "hf-hub:a/b/c": "write hf-hub:OWNER/NAME",
        str(tmp_path): "no open_clip_config.json",
        "storybook": "reinstall",
    }.items():
        with pytest.raises(PresetError, match=message):
            resolve(name)
    with pytest.raises(PresetError, match="nothing to pull"):
        pull("zebra")
    with serving(repository()) as server, pytest.raises(DownloadError, match="no such public repository"):
        pull("hf-hub:nobody/nothing", endpoint=server.endpoint)


def test_bundled_is_the_fallback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PresetError, match="reinstall"):
        best_available()
    folder = bundle(tmp_path)
    assert best_available().folder == folder and best_available().name == "storybook"
    assert main(["pull", "storybook"]) == 0
    out = capsys.readouterr()
    assert out.out == f"storybook\t{folder}\n" and "nothing to download" in out.err


def test_presets_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle(tmp_path)
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(PRESETS)
    assert "bundled" in lines[-1] and "2.55 GB" in lines[2] and "MIT" in lines[2]
    assert main(["presets", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["cached"] for row in rows] == [False, False, False, False, True]


def test_pull_verb_reports_a_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "zebra"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "nothing to pull" in err


def test_no_torch_for_the_table() -> None:
    code = (
        "import sys; from img2prompt.cli import main; main(['presets']);"
        " assert not {'torch', 'open_clip', 'PIL', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
