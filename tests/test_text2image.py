"""A small text-to-image model: how its training noises and weighs, that it goes on after a kill, who can load it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from tiny_training import logged, write_data

pytest.importorskip("diffusers", reason="needs the extra diffusion")

from img2prompt.cli import main
from img2prompt.errors import ConfigError, ModelError, PresetError
from img2prompt.jobs.generators import GENERATORS, open_generator
from img2prompt.jobs.train import RECIPES
from img2prompt.models import diffusion_presets
from img2prompt.models.diffusion import DiffusionGenerator, PictureSettings, RunSettings
from img2prompt.models.text2image_making import TextToImage, load_text_to_image, new_networks, save_pipeline
from img2prompt.models.tokenizer import train_tokenizer
from img2prompt.results import Generated
from img2prompt.training.grounding import Grounding
from img2prompt.training.text2image import TextToImageSettings, TextToImageTraining
from img2prompt.training.text2image_networks import Networks, predict_pictures
from img2prompt.training.text2image_noise import Noise, draw, noised, weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TRANSFORMER = {"patch_size": 8, "hidden_size": 16, "num_heads": 2, "depth": 1, "mlp_ratio": 2.0}
TEXT_ENCODER = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1, "initializer_factor": 5.0}
PROMPTS = ["a red kite", "two dogs on the beach, watercolor", "a castle at night", "three apples"]
SEEDS = [3, 4, 5, 2**53 - 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose words matter."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = train_tokenizer(PROMPTS, 300)
    networks = new_networks(TRANSFORMER, TEXT_ENCODER, tokenizer, seed=1)
    with torch.no_grad():
        for name, weight in networks[0].named_parameters():
            if "modulation" in name:  # zero in a new model, so that every block is the identity
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(len(name)))
    save_pipeline(TextToImage(*networks, tokenizer, image_px=32, max_tokens=24), place, torch.float32)
    return place


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pairs") / "data")


def recipe(tmp: Path, data: Path, model: dict[str, Any] | None = None, **trainer: Any) -> list[str]:
    """The smallest run, as arguments."""
    tmp.mkdir(exist_ok=True)
    new = {"transformer": TRANSFORMER, "text_encoder": TEXT_ENCODER, "vocab_size": 400, "image_px": 32}
    keys = {
        "seed_everything": 1,
        "output": str(tmp / "run"),
        "threads": 1,
        "model": {
            "model": model or {**new, "max_tokens": 64},
            "optimiser": {"lr": 3e-3, "muon_lr": 0.02, "warmup_steps": 2},
            "sheet": {"pictures": 3, "steps": 2},
        },
        "data": {
            "source": {"train": str(data), "held_out": 8},
            "batch_size": 8,
            "manners": {"short": {"column": "short"}, "long": {"column": "long"}},
            "decoding": {"cache_folder": str(tmp / "cache")},
        },
        "ema": {"decay": 0.9},
        "keep": {"steps": 4, "minutes": 1000},
        "trainer": {"max_steps": 8, "log_every_n_steps": 1, "accelerator": "cpu", **trainer},
    }
    (tmp / "recipe.yaml").write_text(yaml.safe_dump(keys))
    return ["train", "text2image", "--config", str(tmp / "recipe.yaml")]


def pictures(rows: list[Any]) -> np.ndarray:
    """(B,H,W,3) int."""
    assert all(isinstance(row, Generated) for row in rows), rows
    return np.stack([np.asarray(row.image, int) for row in rows])


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.5, 3), st.floats(1, 20), st.sampled_from([0.0, 1.0]))
def test_weights_are_those_of_the_paper(time: float, scale: float, cap: float, floor: float) -> None:
    signal_to_noise = ((1 - time) / (scale * time)) ** 2
    found = weights(Noise(scale=scale, snr_cap=cap, snr_floor=floor), torch.tensor([time], dtype=torch.float64))
    assert float(found) == pytest.approx(max(floor, min(signal_to_noise, cap)), rel=1e-6)


def test_the_path_leads_from_the_picture_to_scaled_noise() -> None:
    clean, settings_ = torch.rand(64, 3, 8, 8), Noise(scale=2.0)
    drawn = draw(settings_, tuple(clean.shape), seed=1)
    assert drawn.noise.std() == pytest.approx(2.0, abs=0.05)
    torch.testing.assert_close(noised(clean, torch.zeros(64), drawn.noise), clean)
    torch.testing.assert_close(noised(clean, torch.ones(64), drawn.noise), drawn.noise)
    half = noised(clean, torch.full((64,), 0.25), drawn.noise)
    torch.testing.assert_close(half, 0.75 * clean + 0.25 * drawn.noise)


def test_times_and_dropped_prompts_have_the_asked_distribution() -> None:
    shape = (20_000, 1, 1, 1)
    even, skewed = (
        draw(Noise(times="uniform", drop_prompt=0.0), shape, 1),
        draw(Noise(mean=1.0, std=0.5), shape, 1),
    )
    assert even.times.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert float(skewed.times.median()) == pytest.approx(1 / (1 + np.exp(-1)), abs=0.01)
    assert float(skewed.dropped.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert not even.dropped.any()
    assert torch.equal(draw(Noise(), shape, 7).times, draw(Noise(), shape, 7).times)
    assert not torch.equal(draw(Noise(), shape, 7).times, draw(Noise(), shape, 8).times)


def test_plain_diffusers_loads_what_is_saved(folder: Path) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert json.loads((folder / "model_index.json").read_text())["tokenizer"][1] == "PreTrainedTokenizerFast"
    made = pipeline("a red kite", num_inference_steps=2, use_resolution_binning=False).images[0]
    assert made.size == (32, 32)


def test_a_model_survives_saving_as_half_precision(folder: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    save_pipeline(load_text_to_image(folder), tmp_path / "half")
    kinds = {str(v.dtype) for path in (tmp_path / "half").rglob("*.safetensors") for v in load_file(path).values()}
    assert kinds == {"torch.float16"}
    assert not any(str(folder) in path.read_text() for path in (tmp_path / "half").rglob("*.json"))
    plain = DiffusionPipeline.from_pretrained(tmp_path / "half", local_files_only=True)
    plain("a kite", num_inference_steps=1, use_resolution_binning=False)  # in whatever precision it comes
    first = DiffusionGenerator(str(folder), PictureSettings(steps=3), RunSettings("cpu"))
    second = DiffusionGenerator(str(tmp_path / "half"), PictureSettings(steps=3), RunSettings("cpu"))
    near = pictures(first.generate_many(PROMPTS, SEEDS)) - pictures(second.generate_many(PROMPTS, SEEDS))
    assert np.abs(near).mean() < 1


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 5), st.permutations(range(4)))
def test_paired_noise_whatever_the_batch(folder: Path, size: int, order: list[int]) -> None:
    """With guidance, which diffusers itself only does for one picture at a time with this pipeline."""
    generator = DiffusionGenerator(str(folder), PictureSettings(steps=2), RunSettings("cpu", batch_size=size))
    alone = DiffusionGenerator(str(folder), PictureSettings(steps=2), RunSettings("cpu", batch_size=1))
    found = pictures(generator.generate_many([PROMPTS[i] for i in order], [SEEDS[i] for i in order]))
    wanted = pictures(alone.generate_many(PROMPTS, SEEDS))[list(order)]
    assert np.abs(found - wanted).max() <= 1
    assert np.abs(wanted[0] - wanted[1]).mean() > 2, "no model that always draws the same"


def test_prompts_of_one_image_start_from_one_noise(folder: Path) -> None:
    """Base, predicted and upsampled prompt, two images, two seeds: what the pipeline starts from is the seed's own."""
    generator = DiffusionGenerator(str(folder), PictureSettings(steps=1), RunSettings("cpu", batch_size=5))
    starts: list[torch.Tensor] = []

    def note(module: Any, positional: Any, named: dict[str, Any]) -> None:
        starts.extend(named["hidden_states"][: len(named["hidden_states"]) // 2])

    generator.pipeline.transformer.register_forward_pre_hook(note, with_kwargs=True)
    seeds = [seed for _ in range(3) for seed in (11, 12, 21, 22)]
    generator.generate_many([f"prompt {i}" for i in range(12)], seeds)
    for i in range(4):
        assert torch.equal(starts[i], starts[i + 4]) and torch.equal(starts[i], starts[i + 8])
        assert not torch.equal(starts[i], starts[(i + 1) % 4])
        alone = torch.randn((1, 3, 32, 32), generator=torch.Generator("cpu").manual_seed(seeds[i]))[0]
        torch.testing.assert_close(starts[i], alone)


def test_the_prompt_matters_where_it_is_not_dropped(folder: Path) -> None:
    made = load_text_to_image(folder)
    networks = Networks(made.transformer, made.text_encoder)
    tokens = torch.tensor([[1, 90, 91, 2, 0], [1, 90, 92, 2, 0], [1, 2, 0, 0, 0]])
    pictures_, times = torch.randn(1, 3, 32, 32).expand(3, -1, -1, -1), torch.full((3,), 0.7)
    seen = predict_pictures(networks, pictures_, times, tokens, tokens != 0)
    assert (seen[0] - seen[1]).abs().mean() > 1e-4 and (seen[0] - seen[2]).abs().mean() > 1e-4
    padded = torch.nn.functional.pad(tokens, (0, 9))
    again = predict_pictures(networks, pictures_, times, padded, padded != 0)
    torch.testing.assert_close(again, seen, atol=1e-4, rtol=1e-4)


def test_a_killed_run_goes_on_as_if_never_stopped(data: Path, tmp_path: Path) -> None:
    whole, parts = recipe(tmp_path / "a", data), recipe(tmp_path / "b", data)
    assert main(whole) == 0
    command = [sys.executable, "-m", "img2prompt", *parts]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("step 6/"):
                os.kill(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "b/run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert main([*parts, "--resume"]) == 0
    a, b = (logged(tmp_path / name / "run", "train/loss") for name in "ab")
    assert {s: a[s] for s in range(4, 8)} == {s: b[s] for s in range(4, 8)}
    for part in ("transformer/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (load_file(tmp_path / name / "run" / "last" / f"{part}.safetensors") for name in "ab")
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_leaves_models_that_draw_and_sheets(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(recipe(tmp_path, data, max_steps=2, val_check_interval=1)) == 0
    run = tmp_path / "run"
    first, second = (run / "samples" / f"step-00000{step}.png" for step in (1, 2))
    assert Image.open(first).size == (8 * 32, 32) and first.read_bytes() != second.read_bytes()
    assert len((run / "samples" / "prompts.txt").read_text().splitlines()) == 3
    for name in ("last", "best"):
        generator = open_generator(str(run / name), PictureSettings(steps=2), RunSettings("cpu"))
        assert pictures(generator.generate_many(["a red kite"], [1])).shape == (1, 32, 32, 3)
    for name in ("val/loss", "val/error", "val/loss_short", "val/loss_long"):
        assert len(logged(run, name)) == 2, name
    capsys.readouterr()
    further = recipe(tmp_path / "more", data, {"source": str(run / "last")}, max_steps=1)
    assert main([*further, "--model.sheet.pictures=0"]) == 0
    assert main([*further, "--output", str(tmp_path / "third"), "--model.noise.scale=2"]) == 2
    assert "the model was trained with 1" in capsys.readouterr().err
    assert main([*further, "--output", str(tmp_path / "third"), "--data.manners.short.prefix=short:"]) == 2
    assert "a prefix would be no part of the prompts" in capsys.readouterr().err
    anew = [*recipe(tmp_path / "anew", data, max_steps=1), f"--model.model.source={run / 'last'}"]
    assert main(anew) == 2
    assert "give either source" in capsys.readouterr().err
    assert main([*anew, "--model.model.transformer=null", "--model.sheet.pictures=0"]) == 0


def test_known_scenes_teach_objects_first(data: Path, tmp_path: Path) -> None:
    """What covers a patch can be read from the middle of the transformer, and nothing of that is saved."""
    heads = {"foreground": 4.0, "grounding": {"kinds": 1.0, "colours": 0.3, "centres": 0.3}}
    command = recipe(tmp_path, data, max_steps=60, val_check_interval=60)
    arguments = [f"--model.{name}={value}" for name, value in heads.items()]
    assert main([*command, *arguments, "--data.source.limit=8", "--model.optimiser.lr=1e-2"]) == 0
    kinds = [float(value) for value in logged(tmp_path / "run", "train/kinds").values()]
    assert kinds[-1] < 0.5 * kinds[0]
    assert set(logged(tmp_path / "run", "val/centres")) == {59}
    saved = load_file(tmp_path / "run/last/transformer/diffusion_pytorch_model.safetensors")
    assert not [name for name in saved if "head" in name and "heads" not in name]
    assert load_text_to_image(tmp_path / "run" / "last").image_px == 32


def test_the_foreground_counts_more(data: Path, tmp_path: Path) -> None:
    assert main(recipe(tmp_path / "a", data, max_steps=1)) == 0
    assert main([*recipe(tmp_path / "b", data, max_steps=1), "--model.foreground=3"]) == 0
    plain, heavy = (logged(tmp_path / name / "run", "train/loss")[0] for name in "ab")
    same = [logged(tmp_path / name / "run", "train/error")[0] for name in "ab"]
    assert plain != heavy and same[0] == same[1]


def test_configurations_that_do_not_hold_together(folder: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(PROMPTS, 300)
    with pytest.raises(ConfigError, match="divisible"):
        new_networks({**TRANSFORMER, "num_heads": 3}, TEXT_ENCODER, tokenizer, 0)
    with pytest.raises(ConfigError, match="hiden_size"):
        new_networks({**TRANSFORMER, "hiden_size": 3}, TEXT_ENCODER, tokenizer, 0)
    with pytest.raises(ConfigError, match="give either source"):
        TextToImageTraining(TextToImageSettings())
    with pytest.raises(ConfigError, match=r"kinds, colours and centres are possible here"):
        TextToImageTraining(TextToImageSettings(source=folder), grounding=Grounding(facts=1.0))
    from tiny_diffusion import save_sd

    with pytest.raises(ModelError, match=r"a StableDiffusionPipeline; .*PRXPixelPipeline"):
        load_text_to_image(save_sd(tmp_path / "sd"))


def test_the_bundled_model_has_a_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "storybook-diffusion" in GENERATORS
    monkeypatch.setattr(diffusion_presets, "BUNDLED", tmp_path)
    with pytest.raises(PresetError, match="storybook-diffusion: its files are missing"):
        open_generator("storybook-diffusion", PictureSettings(), RunSettings("cpu"))
    (tmp_path / "text2image").symlink_to(folder)
    made = open_generator("storybook-diffusion", PictureSettings(32, 32), RunSettings("cpu"))
    (row,) = made.generate_many(["a red kite"], [1])
    assert isinstance(row, Generated) and row.made.model == "storybook-diffusion" and row.made.steps == 20


@pytest.mark.parametrize("name", ["storybook_text2image", "storybook_text2image_gpu"])
def test_recipes_can_be_read(name: str, tmp_path: Path) -> None:
    from img2prompt.jobs.train import _parse

    cli = _parse("text2image", ["--config", str(RECIPES / f"{name}.yaml"), "--output", str(tmp_path)])
    asked, tokenizer = cli.model.settings, train_tokenizer(PROMPTS, 300)
    networks = new_networks(asked.transformer, asked.text_encoder, tokenizer, 0)
    numbers = sum(p.numel() for network in networks for p in network.parameters())
    whole = numbers + (asked.vocab_size - tokenizer.get_vocab_size()) * asked.text_encoder["d_model"]
    assert 2 * whole < 23.5e6, "as float16, with 24 MB for the folder"
