"""`img2prompt train captioner` from end to end on the smallest model: runs, kills, resumes, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from tiny_model import save_model
from tiny_training import MODEL, logged, write_data, write_recipe

from img2prompt.cli import main
from img2prompt.jobs.train import RECIPES, TRAINEES
from img2prompt.models.coca import load_coca
from img2prompt.training.judging import Judge


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pairs") / "data")


def train(recipe: str, *more: str) -> int:
    return main(["train", "captioner", "--config", recipe, *more])


def test_a_run_leaves_models_logs_and_settings(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"model__grounding": {"kinds": 1.0, "facts": 0.1}, "model__validate_captions": 4}
    recipe = write_recipe(tmp_path, data, trainer__val_check_interval=3, **changes)
    assert train(recipe) == 0
    run = tmp_path / "run"
    assert capsys.readouterr().out == f"{run / 'last'}\n"
    for name in ("last", "best"):
        loaded = load_coca(run / name)
        assert loaded.prefixes == {"short": "short:", "tags": "tags:"} and loaded.image_px == 32
        with safe_open(run / name / "open_clip_model.safetensors", "pt") as weights:
            assert set(weights.keys()) == set(loaded.model.state_dict()), "heads for training are not saved"
    assert set(logged(run, "train/caption")) == set(range(6))
    for name in ("val/loss", "val/loss_short", "val_short/bleu", "val_tags/identical_share", "val_short/object_f1"):
        assert len(logged(run, name)) == 2, name
    assert json.loads((run / "versions.json").read_text())["packages"]["torch"] in torch.__version__
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["model"]["model"]["config"]["embed_dim"] == MODEL["embed_dim"] and resolved["seed_everything"] == 1
    assert list(run.glob("tensorboard/events*"))
    assert train(recipe) == 2, "a run is not overwritten"
    assert "--resume" in capsys.readouterr().err


def test_a_small_set_can_be_learned_by_heart(data: Path, tmp_path: Path) -> None:
    changes = {"data__source__limit": 8, "data__phases": [{"until": 1.0, "weights": {"short": 1.0}}], "ema__decay": 0}
    recipe = write_recipe(tmp_path, data, trainer__max_steps=150, trainer__log_every_n_steps=50, **changes)
    assert train(recipe, "--model.optimiser.lr=1e-2") == 0
    losses = logged(tmp_path / "run", "train/caption")
    assert float(losses[149]) < 1.5, "log(400) = 6 is guessing"


def test_a_killed_run_goes_on_with_the_same_batches_and_losses(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    steps = {"trainer__max_steps": 9, "trainer__accumulate_grad_batches": 1, "keep__steps": 4}
    assert train(write_recipe(tmp_path / "a", data, **steps)) == 0
    recipe = write_recipe(tmp_path / "b", data, **{**steps, "trainer__max_steps": 9})
    command = [sys.executable, "-m", "img2prompt", "train", "captioner", "--config", recipe]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("step 6/"):
                os.kill(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "b/run/csv-1").exists() or max(logged(tmp_path / "b/run", "train/batch")) < 8
    saved = torch.load(tmp_path / "b/run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert train(recipe, "--resume") == 0
    whole, resumed = tmp_path / "a/run", tmp_path / "b/run"
    for name in ("train/batch", "train/loss"):
        a, b = logged(whole, name), logged(resumed, name)
        assert {s: a[s] for s in range(4, 9)} == {s: b[s] for s in range(4, 9)}, name
    a, b = (load_coca(run / "last").model.state_dict() for run in (whole, resumed))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_nan_stops_and_keeps_the_last_checkpoint(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, data, trainer__max_steps=3)
    assert train(recipe) == 0
    path = tmp_path / "run/checkpoints/last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["coca.text_decoder.text_projection"][0, 0] = math.nan
    torch.save(saved, path)
    before = path.read_bytes()
    weights = (tmp_path / "run/last/open_clip_model.safetensors").read_bytes()
    capsys.readouterr()
    assert train(recipe, "--resume", "--trainer.max_steps=6") == 2
    error = capsys.readouterr().err
    assert "the loss of batch 3 is not finite" in error and "Traceback" not in error
    assert path.read_bytes() == before
    assert (tmp_path / "run/last/open_clip_model.safetensors").read_bytes() == weights


def test_average_counts_optimiser_steps_and_contrast_can_train(data: Path, tmp_path: Path) -> None:
    changes = {"trainer__accumulate_grad_batches": 2, "model__loss": {"contrastive": 0.5}}
    assert train(write_recipe(tmp_path, data, trainer__max_steps=3, **changes)) == 0
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    (average,) = (state for name, state in saved["callbacks"].items() if name.startswith("Ema"))
    assert average["steps"] == 3 and saved["CaptionPairs"] == {"next_batch": 6}
    assert logged(tmp_path / "run", "train/contrastive")


@pytest.mark.parametrize("recipe", TRAINEES["captioner"].recipes)
def test_every_recipe_runs(recipe: str, data: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())
    more = [f"--data.source.train={data}", "--data.source.validation=null", "--data.source.held_out=8"]
    more += [f"--output={tmp_path / 'run'}", "--data.batch_size=4", f"--data.decoding.cache_folder={tmp_path / 'c'}"]
    more += ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--trainer.precision=32-true", "--threads=1"]
    more += ["--trainer.val_check_interval=1000", "--data.decoding.workers=0", "--model.model.compile=false"]
    more += ["--model.grounding.window=2"]
    if settings["model"]["model"].get("source"):
        more.append(f"--model.model.source={save_model(tmp_path / 'model')}")
    else:
        tiny = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "image_size": 48}}
        more += [f"--model.model.config={json.dumps(tiny)}", "--model.model.vocab_size=400"]
    assert train(recipe, *more) == 0
    assert load_coca(tmp_path / "run/last").image_px in (48, 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["painter"], "choose captioner or regressor"),
        (["captioner", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["captioner", "--config", "RECIPE", "--model.optimiser.speed=3"], "speed"),
        (["captioner", "--config", "RECIPE", "--data.source.train=nowhere"], "no manifest.json"),
        (["captioner", "--config", "RECIPE", "--data.batch_size=4000"], "batch_size 4000"),
        (["captioner", "--config", "RECIPE", "--model.model.freeze=[nose]"], "cannot freeze 'nose'"),
        (["captioner", "--config", "RECIPE", "--logger=mlflow"], "pip install"),
        (["captioner", "--config", "RECIPE", "--data.batch_size=0"], "data.batch_size: must be 1 or more"),
        (
            ["captioner", "--config", "RECIPE", "--data.phases=[{until: 1, weights: {short: 0}}]"],
            "data.phases: weights",
        ),
        (["captioner", "--config", "RECIPE", "--data.phases=[{until: 1, weights: {}}]"], "data.phases: weights"),
        (["captioner", "--config", "RECIPE", "--data.source.limit=-3"], "data.source: held_out"),
        (["captioner", "--config", "RECIPE", "--data.decoding.workers=-1"], "data.decoding.workers"),
        (["captioner", "--config", "RECIPE", "--model.optimiser.lr=-1"], "model.optimiser.lr: must not"),
        (["captioner", "--config", "RECIPE", "--model.optimiser.muon_lr=.nan"], "model.optimiser.muon_lr: must not"),
        (["captioner", "--config", "RECIPE", "--model.optimiser.betas=[2, 0.9]"], "model.optimiser.betas"),
        (["captioner", "--config", "RECIPE", "--model.loss.label_smoothing=7"], "label_smoothing: lies"),
        (["captioner", "--config", "RECIPE", "--trainer.max_steps=-5"], "trainer: `max_steps`"),
        (["captioner", "--config", "RECIPE", "--trainer.accelerator=abacus"], "abacus"),
        (["captioner", "--config", "RECIPE", "--trainer.strategy=luck"], "luck"),
        (
            ["captioner", "--config", "RECIPE", "--trainer.accumulate_grad_batches=0"],
            "trainer.accumulate_grad_batches: must",
        ),
        (["captioner", "--config", "RECIPE", "--trainer.val_check_interval=0"], "trainer.val_check_interval: must"),
        (["captioner", "--config", "RECIPE", "--threads=-1"], "threads: must"),
        (["captioner", "--config", "RECIPE", "--output=FILE/run"], "Not a directory"),
    ],
)
def test_a_users_mistake_is_one_line(
    arguments: list[str], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, data)
    (tmp_path / "file").write_text("precious")
    words = (word.replace("FILE", str(tmp_path / "file")) for word in arguments)
    assert main(["train", *(recipe if word == "RECIPE" else word for word in words)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and len(captured.err.splitlines()) == 1 and not captured.out


def test_the_judge_sees_a_collapse() -> None:
    judge = Judge(cosine=False)
    truth = ["a red car on a beach", "two cats in space", "an owl at night"]
    collapsed = judge.score(["a cat"] * 3, truth, None)
    fine = judge.score(truth, truth, None)
    assert collapsed["identical_share"] == 1.0 and fine["identical_share"] == 0.0
    assert fine["bleu"] > 0.99 > collapsed["bleu"]


def test_help_needs_no_torch() -> None:
    code = "import sys; from img2prompt.cli import main; main(['train', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "coca_l14_sd" in done.stdout
