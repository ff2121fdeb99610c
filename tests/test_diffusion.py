"""The generator on tiny random pipelines of diffusers' real classes, saved in its real format."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="needs the extra diffusion")

from tiny_diffusion import PX, save_kandinsky, save_refiner, save_sd, save_sdxl, save_unconditional, tokenizer

from img2prompt.errors import ConfigError, ModelError, PresetError
from img2prompt.models import diffusion_presets
from img2prompt.models.diffusion import DiffusionGenerator, PictureSettings, RunSettings
from img2prompt.models.diffusion_encoders import EncoderRoom
from img2prompt.models.diffusion_loading import fingerprint
from img2prompt.models.diffusion_presets import DIFFUSION_PRESETS, DiffusionPreset, locate
from img2prompt.models.diffusion_schedulers import SCHEDULERS, row_of, sampler_of, set_scheduler
from img2prompt.results import Failed, Generated

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")

PROMPTS = ["a red fox", "two dogs in space, watercolour", "a castle", "the sea at night"]
SEEDS = [11, 12, 13, 2**53 - 1]
FAST = PictureSettings(steps=3)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("pipelines") / "sdxl")


@pytest.fixture(scope="module")
def plain(sd: Path) -> DiffusionGenerator:
    """For tests that leave it as it is."""
    return generator(sd)


@pytest.fixture(scope="module")
def longer(sd: Path) -> DiffusionGenerator:
    """With as many steps as every scheduler can do with."""
    return generator(sd, PictureSettings(steps=5))


@pytest.fixture
def copy(sd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd, tmp_path / "copy"))


def generator(folder: Path, picture: PictureSettings = FAST, **run: Any) -> DiffusionGenerator:
    return DiffusionGenerator(str(folder), picture, RunSettings(device="cpu", **run))


def pictures(made: list[Generated | Failed]) -> np.ndarray:
    """(B,H,W,3) int."""
    assert all(isinstance(item, Generated) for item in made), made
    return np.stack([np.asarray(item.image, int) for item in made if isinstance(item, Generated)])


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_picture_does_not_depend_on_its_batch(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    together = pictures(generator(folder, batch_size=4).generate_many(PROMPTS, SEEDS))
    alone = pictures(generator(folder, batch_size=1).generate_many(PROMPTS, SEEDS))
    assert together.shape == (4, PX, PX, 3)
    assert np.abs(together - alone).max() <= 1
    backwards = pictures(generator(folder, batch_size=3).generate_many(PROMPTS[::-1], SEEDS[::-1]))
    assert np.abs(together - backwards[::-1]).max() <= 1
    # and it is no accident of a model that always paints the same
    assert min(np.abs(together[i] - together[j]).mean() for i in range(4) for j in range(i)) > 2


def joined(base: Path, companion: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> DiffusionPreset:
    """A preset of two folders."""
    row = DiffusionPreset("pair", "nobody/base", "MIT", PX, 5, 4.0, companion="nobody/other", **fields)
    monkeypatch.setitem(DIFFUSION_PRESETS, "pair", row)
    places = {"nobody/base": base, "nobody/other": companion}
    monkeypatch.setattr(diffusion_presets, "_cached", lambda repository, what: places[repository])
    return row


def test_a_refiner_walks_the_last_steps(sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined(sdxl, save_refiner(tmp_path / "refiner", sdxl), monkeypatch, scheduler="ddim")
    whole = DiffusionGenerator("pair", run=RunSettings("cpu", batch_size=3))
    refiner = whole._joined.refiner
    assert refiner is not None and refiner.vae is whole.pipeline.vae, "loaded once"
    steps: list[str] = []
    for name, pipeline in (("base", whole.pipeline), ("refiner", refiner)):
        pipeline.unet.register_forward_pre_hook(lambda *_, name=name: steps.append(name))
    together = pictures(whole.generate_many(PROMPTS[:3], SEEDS[:3]))
    assert steps == ["base"] * 4 + ["refiner"]
    single = DiffusionGenerator("pair", run=RunSettings("cpu", batch_size=1))
    alone = pictures(single.generate_many(PROMPTS[:3], SEEDS[:3]))
    assert np.abs(together - alone).max() <= 1
    unrefined = generator(sdxl, PictureSettings(steps=5, guidance_scale=4.0, scheduler="ddim"))
    assert np.abs(together - pictures(unrefined.generate_many(PROMPTS[:3], SEEDS[:3]))).mean() > 0.1
    assert whole.settings()["companion"] == fingerprint(tmp_path / "refiner")


def test_a_prior_makes_the_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_kandinsky(tmp_path / "decoder", tmp_path / "prior")
    joined(tmp_path / "decoder", tmp_path / "prior", monkeypatch, call={"prior_num_inference_steps": 2})
    whole = DiffusionGenerator("pair", PictureSettings(steps=2), RunSettings("cpu", batch_size=4))
    together = pictures(whole.generate_many(PROMPTS, SEEDS))
    single = DiffusionGenerator("pair", PictureSettings(steps=2), RunSettings("cpu", batch_size=1))
    alone = pictures(single.generate_many(PROMPTS, SEEDS))
    assert together.shape == (4, PX, PX, 3) and np.abs(together - alone).max() <= 1
    long = "x" * 80
    (row,) = whole.generate_many([long], [1])
    assert isinstance(row, Generated) and row.read == long[:75]
    denied = [
        pictures(
            DiffusionGenerator(
                "pair", PictureSettings(steps=2, negative_prompt="blurry"), RunSettings("cpu", batch_size=size)
            ).generate_many(PROMPTS, SEEDS)
        )
        for size in (4, 1)
    ]
    assert np.abs(denied[0] - denied[1]).max() <= 1 and not np.array_equal(denied[0], together)
    with pytest.raises(ModelError, match="makes no pictures from prompts alone"):
        generator(tmp_path / "decoder")


def test_a_companion_needs_a_base_that_takes_one(sd: Path, sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined(sd, sdxl, monkeypatch)
    with pytest.raises(ModelError, match="a StableDiffusionPipeline takes no companion"):
        DiffusionGenerator("pair", run=RunSettings("cpu"))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_keeps_pictures_apart(longer: DiffusionGenerator, name: str) -> None:
    assert set_scheduler(longer.pipeline, name) == row_of(name).sampler == sampler_of(longer.pipeline.scheduler)
    together = longer.generate_many(PROMPTS[:3], SEEDS[:3])
    alone = longer.generate_many(PROMPTS[1:2], SEEDS[1:2])
    assert np.abs(pictures(together)[1] - pictures(alone)[0]).max() <= 1


def test_equal_seeds_start_from_equal_noise(sd: Path) -> None:
    """What compares two prompts of one picture: with no guidance by words at all, they give the same."""
    blind = generator(sd)
    with torch.no_grad():
        for name, weight in blind.pipeline.unet.named_parameters():
            if "attn2.to_out" in name:
                weight.zero_()
    first, second, other = pictures(blind.generate_many(["a", "something else", "a"], [5, 5, 6]))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_what_is_made_is_recorded(sd: Path) -> None:
    wanted = PictureSettings(48, 40, steps=2, guidance_scale=3.5, scheduler="euler-a", negative_prompt="blurry")
    (made,) = generator(sd, wanted).generate_many(["a fox"], [7])
    assert isinstance(made, Generated)
    assert made.image.size == (48, 40)
    facts = made.made
    assert (facts.prompt, facts.negative_prompt, facts.seed, facts.steps) == ("a fox", "blurry", 7, 2)
    assert (facts.guidance_scale, facts.width_px, facts.height_px) == (3.5, 48, 40)
    assert (made.sampler, made.read, made.checked) == ("Euler a", None, False)
    plain = generator(sd, replace(wanted, negative_prompt=None)).generate_many(["a fox"], [7])
    assert not np.array_equal(pictures(plain), pictures([made])), "the negative prompt has to matter"


@pytest.mark.parametrize("size", [1, 4])
def test_each_picture_may_have_its_own_negative_prompt(sd: Path, size: int) -> None:
    negatives = [None, "blurry", "an owl", None]
    made = generator(sd, batch_size=size).generate_many(PROMPTS, SEEDS, negatives)
    assert [one.made.negative_prompt for one in made if isinstance(one, Generated)] == negatives
    plain = pictures(generator(sd).generate_many(PROMPTS, SEEDS))
    same = np.abs(pictures(made) - plain).reshape(4, -1).max(axis=1) <= 1
    assert same.tolist() == [True, False, False, True]
    blurry = pictures(generator(sd, replace(FAST, negative_prompt="blurry")).generate_many(PROMPTS[1:2], SEEDS[1:2]))
    assert np.abs(pictures(made)[1:2] - blurry).max() <= 1
    assert generator(sd).takes_negatives and not generator(sd, replace(FAST, guidance_scale=1.0)).takes_negatives


def test_settings_tell_pictures_apart(sd: Path, copy: Path) -> None:
    base = generator(sd).settings()
    assert json.loads(json.dumps(base)) == base
    assert base["num_inference_steps"] == 3
    assert base["guidance_scale"] == 7.5, "the pipeline's own"
    assert generator(sd, batch_size=2, vae_slicing=True, attention="sliced").settings() == base
    assert generator(sd, replace(FAST, scheduler="dpmpp-2m")).settings() != base
    assert generator(sd, FAST, dtype="bfloat16").settings() != base
    assert fingerprint(copy) == fingerprint(sd)
    assert base["model"] == "sd", "no path: a folder may be moved"
    (copy / "unet" / "more.safetensors").write_bytes(b"x")
    assert fingerprint(copy) != fingerprint(sd)


def test_presets_give_what_was_not_asked_for(sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = DiffusionPreset("tiny", "nobody/tiny", "MIT", 24, steps=2, guidance_scale=4.0, scheduler="unipc")
    monkeypatch.setitem(DIFFUSION_PRESETS, "tiny", row)
    monkeypatch.setattr(diffusion_presets, "_cached", lambda repository, what: sd)
    (usual,) = DiffusionGenerator("tiny", run=RunSettings("cpu")).generate_many(["a"], [1])
    (other,) = DiffusionGenerator("tiny", PictureSettings(steps=3), RunSettings("cpu")).generate_many(["a"], [1])
    assert isinstance(usual, Generated)
    assert isinstance(other, Generated)
    assert (usual.made.steps, usual.made.guidance_scale, usual.image.size) == (2, 4.0, (24, 24))
    assert (usual.sampler, usual.made.model, other.made.steps) == ("UniPC", "tiny", 3)


@pytest.mark.parametrize(
    "run",
    [
        {"vae_slicing": True},
        {"vae_tiling": True},
        {"attention": "sliced"},
        {"dtype": "bfloat16"},
    ],
)
def test_ways_of_working_change_little(plain: DiffusionGenerator, sd: Path, run: dict[str, Any]) -> None:
    base = pictures(plain.generate_many(PROMPTS[:2], SEEDS[:2]))
    other = pictures(generator(sd, **run).generate_many(PROMPTS[:2], SEEDS[:2]))
    assert np.abs(base - other).mean() < (8 if "dtype" in run else 1)


def limit_memory(made: DiffusionGenerator, pictures_at_once: int) -> list[int]:
    """Lets the denoiser run out of memory above some pictures (two samples each: with and without the prompt)."""
    sizes: list[int] = []

    def check(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(arguments[0]) // 2)
        if sizes[-1] > pictures_at_once:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    made.pipeline.unet.register_forward_pre_hook(check)
    return sizes


def test_out_of_memory_halves_the_batch_and_goes_on(sd: Path, caplog: pytest.LogCaptureFixture) -> None:
    free = pictures(generator(sd, batch_size=1).generate_many(PROMPTS, SEEDS))
    tight = generator(sd, batch_size=4)
    sizes = limit_memory(tight, 1)
    with caplog.at_level(logging.WARNING):
        made = pictures(tight.generate_many(PROMPTS, SEEDS))
    assert np.abs(free - made).max() <= 1
    assert sizes == [4, 2] + [1] * 12, "4, 2, then one after the other in 3 steps each"
    assert tight.batch_size == 1
    assert "out of memory with 4 pictures at once; going on with 2" in caplog.text
    # The last, smaller batch runs out as well: it is the pictures there are that are halved, not the batch size.
    rest = generator(sd, batch_size=64)
    limit_memory(rest, 2)
    assert len(pictures(rest.generate_many(PROMPTS[:3], SEEDS[:3]))) == 3
    assert rest.batch_size == 1


TIGHT = """
import re, resource, sys
from pathlib import Path
import torch
from img2prompt.models.diffusion import DiffusionGenerator, PictureSettings, RunSettings
torch.set_num_threads(1)
made = DiffusionGenerator(sys.argv[1], PictureSettings(256, 256, steps=1), RunSettings(device="cpu", batch_size=64))
made.generate_many(["warm"], [1])
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20,) * 2)
rows = made.generate_many([f"picture {i}" for i in range(32)], list(range(32)))
print(made.batch_size, {type(row).__name__ for row in rows}, len(rows))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_really_ends(sd: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", TIGHT, str(sd)], capture_output=True, text=True, env=environment, check=True
    )
    batch_size, *rest = done.stdout.split(maxsplit=1)
    assert int(batch_size) < 32, done.stderr
    assert rest == ["{'Generated'} 32\n"]
    assert "out of memory with 32 pictures at once; going on with 16" in done.stderr


def test_one_picture_that_does_not_fit_is_a_users_error(sd: Path) -> None:
    made = generator(sd)
    limit_memory(made, 0)
    with pytest.raises(ModelError, match=r"out of memory with a single picture on cpu; ask for a smaller --size"):
        made.generate_many(PROMPTS, SEEDS)


def test_other_runtime_errors_are_not_taken_for_it(sd: Path) -> None:
    made = generator(sd)

    def fail(module: Any, arguments: Any) -> None:
        raise RuntimeError("a defect")

    made.pipeline.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="a defect"):
        made.generate_many(PROMPTS, SEEDS)


def test_black_and_broken_pictures_fail(sd: Path) -> None:
    """The decoder's last layer is made to give, by the seed's place in the batch, black, NaN and the picture itself."""
    made = generator(sd)

    def spoil(module: Any, arguments: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[0] = -1.0
        out[1, 0, 0, 0] = torch.nan
        return out

    made.pipeline.vae.decoder.register_forward_hook(spoil)
    black, nan, good = made.generate_many(PROMPTS[:3], SEEDS[:3])
    assert (type(black), type(nan), type(good)) == (Failed, Failed, Generated)
    assert isinstance(black, Failed)
    assert isinstance(nan, Failed)
    assert (black.kind, nan.kind) == ("BlackPicture", "NotFinite")
    assert black.source == PROMPTS[0]
    assert "float32" in nan.error


def test_the_safety_checker_is_heard(tmp_path: Path) -> None:
    strict, mild = save_sd(tmp_path / "strict", safety="flags"), save_sd(tmp_path / "mild", safety="passes")
    (withheld,) = generator(strict).generate_many(["a"], [1])
    assert isinstance(withheld, Failed)
    assert withheld.kind == "Withheld"
    (passed,) = generator(mild).generate_many(["a"], [1])
    assert isinstance(passed, Generated)
    assert passed.checked
    (unchecked,) = generator(strict, replace(FAST, safety_checker=False)).generate_many(["a"], [1])
    assert isinstance(unchecked, Generated)
    assert not unchecked.checked


def test_what_the_encoder_has_no_room_for_is_told(plain: DiffusionGenerator) -> None:
    letters = "x" * 75
    fits, long = plain.generate_many([letters, f"{letters[:74]}A Bc"], [1, 2])
    assert isinstance(fits, Generated)
    assert isinstance(long, Generated)
    assert fits.read is None
    assert long.read == letters[:74] + "A", "case kept, and nothing but the start"
    assert long.made.prompt.endswith("A Bc"), "the prompt stays whole"


def test_the_roomiest_encoder_counts(sd: Path) -> None:
    pipeline = generator(sd).pipeline
    small = tokenizer()
    small.model_max_length = 12
    pipeline.register_modules(tokenizer=small)
    assert EncoderRoom(pipeline).read_part("abcdefghijklmno") == "abcdefghij"
    pipeline.components["tokenizer"].model_max_length = 10**30  # unset: then it is the encoder's own
    assert EncoderRoom(pipeline).read_part("abcdefghijklmno") is None


@pytest.mark.parametrize("prompt", ["🦊 狐 лиса\n\nSteps: 3", "\ud83d broken", " ", "a" * 5000, "<|endoftext|> x"])
def test_any_text_gives_a_picture(plain: DiffusionGenerator, prompt: str) -> None:
    (made,) = plain.generate_many([prompt], [1])
    assert isinstance(made, Generated)
    assert made.made.prompt == prompt


def test_unknown_schedulers_are_listed(sd: Path) -> None:
    with pytest.raises(ConfigError, match=r"'dpmpp-2n': did you mean dpmpp-2s\? choose from dpmpp-2m, .*unipc"):
        generator(sd, PictureSettings(scheduler="dpmpp-2n"))


def test_a_scheduler_of_another_kind_of_model_is_refused(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"})
    )
    index = json.loads((copy / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="does not fit a StableDiffusionPipeline with a FlowMatchEuler"):
        generator(copy, PictureSettings(scheduler="ddim"))


def test_code_of_a_folder_is_never_run(copy: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    code = f"open({str(proof)!r}, 'w')\nfrom diffusers import StableDiffusionPipeline as Own\n"
    for place in (copy, copy / "unet"):
        (place / "pipeline.py").write_text(code)
        (place / "own_code.py").write_text(code)
    index = json.loads((copy / "model_index.json").read_text())
    for change in (
        {"_class_name": ["pipeline", "Own"]},
        {"_class_name": "Own"},
        {"unet": ["own_code", "Own"]},
        {"unet": ["os", "system"]},
    ):
        (copy / "model_index.json").write_text(json.dumps(index | change))
        with pytest.raises(ModelError, match="code that a folder brings along is not run"):
            generator(copy)
    assert not proof.exists()


def test_pickles_only_when_asked_for(copy: Path) -> None:
    from safetensors.torch import load_file

    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelError, match=r"unet: its weights are no safetensors but \.bin, .*--allow-pickle"):
        generator(copy)
    assert generator(copy, allow_pickle=True).generate_many(["a"], [1])


def test_weights_in_half_precision_only(copy: Path) -> None:
    base = pictures(generator(copy).generate_many(["a"], [1]))
    for path in (*copy.glob("unet/*.safetensors"), *copy.glob("vae/*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert np.array_equal(pictures(generator(copy).generate_many(["a"], [1])), base)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "holds no model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), "not JSON"),
        (lambda f: (f / "model_index.json").write_text("{}"), "names no pipeline class"),
        (lambda f: shutil.rmtree(f / "vae"), "no pipeline that can be loaded"),
        (lambda f: (f / "unet" / "config.json").write_text("{}"), "no pipeline that can be loaded"),
        (lambda f: next((f / "unet").glob("*.safetensors")).write_bytes(b"cut"), "no pipeline that can be loaded"),
    ],
)
def test_damaged_folders_are_one_line(copy: Path, spoil: Any, message: str) -> None:
    spoil(copy)
    with pytest.raises(ModelError, match=message) as error:
        generator(copy)
    assert "\n" not in str(error.value)


def test_a_pipeline_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a DDPMPipeline makes no pictures from prompts alone"):
        generator(save_unconditional(tmp_path / "ddpm"))


def test_settings_that_do_not_fit(sd: Path) -> None:
    with pytest.raises(ModelError, match="divisible by 8"):
        generator(sd, PictureSettings(33, 33, steps=1)).generate_many(["a"], [1])
    with pytest.raises(ConfigError, match="offload 'model': needs an accelerator"):
        generator(sd, offload="model")
    with pytest.raises(ConfigError, match="dtype 'int3'"):
        generator(sd, dtype="int3")
    if "xformers" not in sys.modules:
        with pytest.raises(ConfigError, match="xformers"):
            generator(sd, attention="xformers")


def test_names_are_found_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(PresetError, match=r"pipeline sdxl: not on this machine; get it with: hf download stabilityai/"):
        locate("sdxl")
    with pytest.raises(PresetError, match="nobody/nothing: not on this machine; get it with: hf download nobody/nothi"):
        locate("hf-hub:nobody/nothing")
    with pytest.raises(PresetError, match=r"sd-2\.2: neither a pipeline's name nor a folder; did you mean sd-2\.1\?"):
        locate("sd-2.2")
    with pytest.raises(PresetError, match="neither a pipeline's name nor a folder"):
        locate(str(tmp_path / "absent"))


def test_presets_are_sound() -> None:
    for name, preset in DIFFUSION_PRESETS.items():
        assert name == preset.name
        assert preset.bundled or preset.repository.count("/") == 1
        assert preset.companion is None or preset.companion.count("/") == 1
        assert preset.licence
        assert preset.image_px % 8 == 0
        assert preset.steps >= 1
        assert preset.guidance_scale >= 0
        assert preset.scheduler is None or row_of(preset.scheduler)
