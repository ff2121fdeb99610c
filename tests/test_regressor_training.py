"""`img2prompt train regressor` from end to end on the smallest tower: probe, freezing, kills, resumes, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import save_model
from tiny_regressor import TOWER, write_pairs, write_recipe
from tiny_training import logged
from torch import Tensor

from img2prompt.cli import main
from img2prompt.models.regressor import Regressor, RegressorConfig, load_regressor, new_regressor
from img2prompt.models.towers import TowerSpec
from img2prompt.training import embedding_loss, optim, tower_layers
from img2prompt.training.embedding_loss import LOSSES, EmbeddingLoss
from img2prompt.training.learner import Learner
from img2prompt.training.regressor import RegressorTraining
from img2prompt.training.settings import Probe, RegressorModel


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def train(recipe: str, *more: str) -> int:
    return main(["train", "regressor", "--config", recipe, *more])


def tiny(pooling: str = "attention", seed: int = 42) -> Regressor:
    """What the recipe's run starts from."""
    return new_regressor(RegressorConfig(TowerSpec(**TOWER), pooling), seed)


def moved(run: Path, name: str = "last") -> dict[str, bool]:
    """Parameter -> whether it left where it started."""
    before, after = tiny().state_dict(), load_regressor(run / name).state_dict()
    return {key: not torch.equal(before[key], after[key]) for key in before}


def unit(rows: int, seed: int, dimensions: int = 12) -> Tensor:
    x = torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


# --- losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), seed=st.integers(0, 999))
def test_every_loss_is_least_at_the_target(name: str, rows: int, seed: int) -> None:
    target, chosen = unit(rows, seed), EmbeddingLoss({name: 1.0}, margin=0.0)
    at_target = LOSSES[name](target, target, chosen)
    assert at_target == pytest.approx(0, abs=1e-4)
    assert LOSSES[name](unit(rows, seed + 1), target, chosen) > at_target
    predicted = target.clone().requires_grad_()
    LOSSES[name](predicted, target, chosen).backward()
    assert predicted.grad is not None and torch.isfinite(predicted.grad).all()


def test_losses_have_their_scale() -> None:
    p, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    one = {name: float(loss(p, t, EmbeddingLoss())) for name, loss in LOSSES.items()}
    assert one == pytest.approx({"cosine": 1.0, "angular": 0.5, "mse_margin": 2.0})
    assert float(embedding_loss.angular(p, -p, EmbeddingLoss())) == pytest.approx(1.0)
    parts = embedding_loss.losses(p, t, EmbeddingLoss({"cosine": 2.0, "angular": 1.0}))
    assert float(embedding_loss.total(parts, EmbeddingLoss({"cosine": 2.0, "angular": 1.0}))) == pytest.approx(2.5)


def test_the_margin_looks_at_other_prompts_but_not_at_the_same_one() -> None:
    target = torch.eye(3)
    predicted = torch.nn.functional.normalize(target + 0.9 * target.roll(1, 1), dim=1)
    chosen = EmbeddingLoss({"mse_margin": 1.0}, margin=0.5)
    plain = (predicted - target).square().sum(1).mean()
    cosines = predicted @ target.T
    assert float(LOSSES["mse_margin"](predicted, target, chosen) - plain) == pytest.approx(
        0.5 + float(cosines[0, 1] - cosines[0, 0])
    )
    same = target[:1].expand(3, -1)
    assert float(LOSSES["mse_margin"](same, same, chosen)) == pytest.approx(0.0)


def test_cosine_loss_is_one_minus_the_mean_cosine_even_under_autocast() -> None:
    p, t = unit(5, 1), unit(5, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = embedding_loss.losses(p.bfloat16(), t, EmbeddingLoss())["cosine"]
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(1 - float((p.bfloat16().float() * t).sum(1).mean()), abs=1e-6)


# --- layers, rates, schedule -------------------------------------------------------------------------------------


def test_rates_fall_towards_the_input_and_the_head_has_its_own() -> None:
    model = tiny()
    chosen = optim.Optimiser(lr=1.0, layer_decay=0.5, head_lr_factor=8.0, weight_decay=0.3)
    groups = optim.parameter_groups(chosen, model.tower, tower_layers.places(model.tower))
    groups += optim.head_groups(chosen, torch.nn.ModuleDict({"pool": model.pool, "head": model.head}))
    found = {id(p): group for group in groups for p in group["params"]}
    rate = {name: found[id(p)]["lr"] for name, p in model.named_parameters()}
    blocks = [name for name, _ in model.tower.blocks]
    assert [rate[f"tower.{block}.ln_1.weight"] for block in blocks] == [0.125, 0.25, 0.5]
    assert rate["tower.net.conv1.weight"] == rate["tower.net.positional_embedding"] == 0.0625
    assert rate["tower.net.ln_post.weight"] == 1.0
    assert rate["head.weight"] == rate["pool.query.weight"] == 8.0
    decay = {name: found[id(p)]["weight_decay"] for name, p in model.named_parameters()}
    assert decay["tower.net.conv1.weight"] == decay["head.weight"] == 0.3
    assert decay["head.bias"] == decay["tower.net.positional_embedding"] == decay["tower.net.ln_post.weight"] == 0
    muon = optim.parameter_groups(optim.Optimiser(muon_lr=0.1), model.tower, tower_layers.places(model.tower))
    names = {id(p): name for name, p in model.tower.named_parameters()}
    movers = {names[id(p)] for group in muon if group["muon"] for p in group["params"]}
    assert len(movers) == 4 * len(blocks) and all(name.startswith(tuple(blocks)) for name in movers)


@pytest.mark.parametrize(("block", "first"), [("stem", 0), ("0", 1), ("net.transformer.resblocks.1", 2)])
def test_freezing_reaches_up_to_the_named_block(block: str, first: int) -> None:
    model = tiny()
    tower_layers.freeze_up_to(model.tower, block)
    trains = {name for name, p in model.tower.named_parameters() if p.requires_grad}
    names = [name for name, _ in model.tower.blocks]
    for i, name in enumerate(names):
        assert any(t.startswith(f"{name}.") for t in trains) == (i >= first), name
    assert "net.conv1.weight" not in trains and "net.positional_embedding" not in trains
    assert "net.ln_post.weight" in trains


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0, 0.9), warmup=st.integers(0, 20), steps=st.integers(40, 300))
def test_probe_and_fine_tuning_each_have_their_schedule(share: float, warmup: int, steps: int) -> None:
    chosen = optim.Optimiser(lr=1e-3, head_lr_factor=2.0, warmup_steps=warmup)
    module = RegressorTraining(RegressorModel(TowerSpec(**TOWER)), probe=Probe(share, 1e-2), optimiser=chosen)
    module._trainer = type("T", (), {"max_steps": steps})()  # type: ignore[assignment]
    begin = module.probe_steps
    assert begin == round(share * steps)
    assert all(module._tower_factor(step) == 0 for step in range(begin))
    assert all(module._head_factor(step) == module._tower_factor(step) for step in range(begin, steps))
    if begin > 5:
        assert max(module._head_factor(step) for step in range(begin)) * 2e-3 == pytest.approx(1e-2)
    assert all(module._head_factor(step) >= 0 for step in range(steps))


def test_while_probing_no_gradient_goes_through_the_towers_blocks() -> None:
    learner = Learner(tiny().train())
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    blocks = [p for _, block in learner.regressor.tower.blocks for p in block.parameters()]
    learner(images, probing=True).sum().backward()
    assert learner.regressor.head.weight.grad is not None and all(p.grad is None for p in blocks)
    learner(images).sum().backward()
    assert all(p.grad is not None for p in blocks)


# --- runs --------------------------------------------------------------------------------------------------------


def test_a_run_leaves_models_logs_and_settings(
    pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, pairs, trainer__val_check_interval=3)
    assert train(recipe) == 0
    run = tmp_path / "run"
    assert capsys.readouterr().out == f"{run / 'last'}\n"
    for name in ("last", "best"):
        assert load_regressor(run / name).tower.image_px == 32
    assert set(logged(run, "train/loss")) == set(logged(run, "train/cosine")) == set(range(6))
    scores = [float(value) for value in logged(run, "val/cosine").values()]
    assert len(scores) == len(logged(run, "val/loss")) == 2 and all(-1 <= score <= 1 for score in scores)
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert saved["callbacks"]["Keep"]["best"] == pytest.approx(max(scores), abs=1e-6), "the highest cosine is best"
    assert (run / "metrics.jsonl").exists() and (run / "plots.png").exists()
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["model"]["model"]["pooling"] == "attention" and resolved["keep"]["monitor"] == "val/cosine"
    assert train(recipe) == 2 and "--resume" in capsys.readouterr().err, "a run is not overwritten"


def test_a_small_set_can_be_learned_by_heart(pairs: dict[str, Path], tmp_path: Path) -> None:
    changes = {"trainer__max_steps": 100, "trainer__log_every_n_steps": 25, "ema__decay": 0, "model__probe__until": 0.2}
    source = {"path": str(pairs["train"]), "prompt_column": "short", "limit": 8}
    still = {"crop": 1.0, "stretch": 0.0, "erase": 0.0, "colour": 0.0}
    recipe = write_recipe(tmp_path, pairs, data__sources=[source], data__pictures__augment=still, **changes)
    assert train(recipe, "--model.optimiser.lr=8e-3") == 0
    cosines = logged(tmp_path / "run", "train/cosine")
    assert float(cosines[99]) > 0.9 > 0.6 > float(cosines[24])


def test_the_probe_leaves_the_tower_alone_and_fine_tuning_moves_it(pairs: dict[str, Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, pairs, model__probe={"until": 0.5, "lr": 1e-2}, ema__decay=0)
    assert train(recipe) == 0
    whole = moved(tmp_path / "run")
    assert all(whole.values()), [name for name, changed in whole.items() if not changed]
    half = write_recipe(tmp_path / "half", pairs, model__probe={"until": 0.99, "lr": 1e-2}, ema__decay=0)
    assert train(half) == 0
    probed = moved(tmp_path / "half/run")
    assert {name for name, changed in probed.items() if changed} == {"head.weight", "head.bias", "pool.query.weight"}


def test_frozen_blocks_are_the_same_to_the_bit_after_training(pairs: dict[str, Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, pairs, model__model__freeze="1", model__optimiser__weight_decay=0.5)
    assert train(recipe) == 0
    found = moved(tmp_path / "run")
    stem = [f"tower.net.{part}" for part in ("conv1", "class_embedding", "positional_embedding", "ln_pre")]
    frozen = (*stem, *(f"tower.net.transformer.resblocks.{i}." for i in (0, 1)))
    assert [name for name, changed in found.items() if changed == name.startswith(frozen)] == []


def test_a_killed_run_goes_on_with_the_same_batches_and_losses(pairs: dict[str, Path], tmp_path: Path) -> None:
    steps = {"trainer__max_steps": 10, "keep__steps": 4, "model__probe": {"until": 0.5}}
    assert train(write_recipe(tmp_path / "a", pairs, **steps)) == 0
    recipe = write_recipe(tmp_path / "b", pairs, **steps)
    command = [sys.executable, "-m", "img2prompt", "train", "regressor", "--config", recipe]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("step 6/"):
                os.kill(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    saved = torch.load(tmp_path / "b/run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 4 and saved["EmbeddingPairs"] == {"next_batch": 4}
    assert train(recipe, "--resume") == 0
    whole, resumed = tmp_path / "a/run", tmp_path / "b/run"
    for name in ("train/batch", "train/loss"):
        a, b = logged(whole, name), logged(resumed, name)
        assert {s: a[s] for s in range(4, 10)} == {s: b[s] for s in range(4, 10)}, name
    a, b = (load_regressor(run / "last").state_dict() for run in (whole, resumed))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_nan_stops_and_keeps_the_last_checkpoint(
    pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, pairs, trainer__max_steps=3)
    assert train(recipe) == 0
    path = tmp_path / "run/checkpoints/last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["learner.regressor.head.weight"][0, 0] = math.nan
    torch.save(saved, path)
    before, weights = path.read_bytes(), (tmp_path / "run/last/regressor.safetensors").read_bytes()
    capsys.readouterr()
    assert train(recipe, "--resume", "--trainer.max_steps=6") == 2
    error = capsys.readouterr().err
    assert "the loss of batch 3 is not finite" in error and "Traceback" not in error
    assert path.read_bytes() == before
    assert (tmp_path / "run/last/regressor.safetensors").read_bytes() == weights


def test_a_run_does_not_go_on_from_what_is_not_its_own(
    pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, pairs, trainer__max_steps=1)
    assert train(recipe) == 0
    run = tmp_path / "run"
    settings = (run / "config.yaml").read_bytes()
    capsys.readouterr()
    resume = ("--resume", "--trainer.max_steps=2")
    assert train(recipe, *resume, "--model.model.head=mlp") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "another model: learner.regressor.head.0.weight is absent there and (1024, 32) here" in error
    assert (run / "config.yaml").read_bytes() == settings, "the run's own settings stand"
    path = run / "checkpoints/last.ckpt"
    for damaged in (path.read_bytes()[:-500], b"", b"nothing"):
        path.write_bytes(damaged)
        assert train(recipe, *resume) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"img2prompt: {path}: damaged checkpoint (") and error.count("\n") == 1
    torch.save({"weights": 1}, path)
    assert train(recipe, *resume) == 2 and "holds no model" in capsys.readouterr().err


def test_a_list_on_the_command_line_takes_the_place_of_the_recipes(
    pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, pairs, data__sources=[{"path": "a", "prompt_column": "words", "limit": 3}])
    for words in (["--data.sources=[{path: b}]"], ["--data.sources", "[{path: b}]"]):
        with pytest.raises(SystemExit, match="0"):
            train(recipe, *words, "--print_config")
        found = yaml.safe_load(capsys.readouterr().out)["data"]["sources"]
        assert found == [{"path": "b", "weight": 1.0, "prompt_column": None, "image_column": None, "limit": None}]


def test_a_second_stage_takes_larger_pictures_from_a_finished_run(pairs: dict[str, Path], tmp_path: Path) -> None:
    assert train(write_recipe(tmp_path / "a", pairs, trainer__max_steps=2)) == 0
    changes = {"model__model": {"source": str(tmp_path / "a/run/last"), "image_px": 64}, "ema__decay": 0}
    changes |= {"model__optimiser": {"lr": 0.0, "weight_decay": 0.0}, "trainer__max_steps": 2}
    assert train(write_recipe(tmp_path / "b", pairs, **changes)) == 0
    first, second = (load_regressor(tmp_path / name / "run/last") for name in "ab")
    assert (first.tower.image_px, second.tower.image_px) == (32, 64)
    a, b = first.state_dict(), second.state_dict()
    assert {key for key in a if a[key].shape != b[key].shape} == {"tower.net.positional_embedding"}
    assert all(torch.equal(a[key], b[key]) for key in a if a[key].shape == b[key].shape)


def test_the_heads_first_weights_can_come_from_texts(
    pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = {**TOWER, "source": str(save_model(tmp_path / "coca")), "config": None}
    pooling = new_regressor(RegressorConfig(TowerSpec(**tower))).tower.projected
    model = {"tower": tower, "pooling": pooling, "head_init": "text_map"}
    recipe = write_recipe(tmp_path, pairs, model__model=model, trainer__max_steps=1, model__optimiser__lr=0.0)
    assert train(recipe) == 0
    assert "head from 40 texts: cosine" in capsys.readouterr().err
    assert not load_regressor(tmp_path / "run/last").head.bias.any()


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"model__loss": {"weights": {"angular": 1.0}}}, ["--trainer.precision=bf16-mixed"]),
        ({"model__loss": {"weights": {"mse_margin": 1.0}}}, ["--trainer.accumulate_grad_batches=2"]),
        ({"model__model__grad_checkpointing": True, "model__model__head": "mlp"}, ["--model.model.pooling=gem"]),
        ({"model__optimiser": {"lr": 1e-3, "muon_lr": 0.01}}, ["--trainer.gradient_clip_val=0.1"]),
    ],
)  # fmt: skip
def test_what_a_recipe_can_choose_trains(
    changes: dict[str, Any], options: list[str], pairs: dict[str, Path], tmp_path: Path
) -> None:
    assert train(write_recipe(tmp_path, pairs, trainer__max_steps=3, **changes), *options) == 0
    losses = [float(value) for value in logged(tmp_path / "run", "train/loss").values()]
    assert len(losses) == 3 and all(map(math.isfinite, losses))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.model.freeze=nose"], "no block 'nose'"),
        (["--model.loss.weights={cosines: 1}"], "no loss cosines"),
        (["--model.loss.weights={cosine: 0}"], "above 0"),
        (["--model.probe.until=1.0"], "model.probe.until"),
        (["--model.model.source=nowhere"], "either tower"),
        (["--model.model.tower=null", "--model.model.source=nowhere"], "holds no regressor.json"),
        (["--model.model.dimensions=100"], "have 384"),
        (["--model.model.image_px=40"], "multiple"),
        (["--model.model.head_init=text_map"], "text"),
        (["--data.sources=[{path: nowhere}]"], "nowhere"),
        (["--model.optimiser.speed=3"], "speed"),
    ],
)
def test_a_users_mistake_is_one_line(
    arguments: list[str], said: str, pairs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(write_recipe(tmp_path, pairs), *arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err and not captured.out
    assert not (tmp_path / "run").exists(), "nothing was trained, so nothing is left"


def test_help_needs_no_torch() -> None:
    run = "main(['train', 'regressor', '-h'])"
    code = f"import sys; from img2prompt.cli import main; {run}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "storybook_regressor" in done.stdout and "coca" not in done.stdout


# --- several processes -------------------------------------------------------------------------------------------


def several(recipe: str, strategy: str, *more: str) -> subprocess.CompletedProcess[str]:
    """A run of two processes."""
    command = [sys.executable, "-m", "img2prompt", "train", "regressor", "--config", recipe, "--trainer.devices=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = [f"--trainer.strategy={strategy}", *more]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environment, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(strategy: str, pairs: dict[str, Path], tmp_path: Path) -> None:
    still = {"crop": 1.0, "stretch": 0.0, "erase": 0.0, "colour": 0.0}
    same = {"data__pictures__augment": still, "model__probe": {"until": 0.5}, "trainer__val_check_interval": 3}
    one = write_recipe(tmp_path / "one", pairs, **same)
    assert train(one) == 0
    two = write_recipe(tmp_path / "two", pairs, keep__steps=4, **same)
    done = several(two, strategy)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{tmp_path / 'two/run/last'}\n", "one of them speaks"
    a, b = (load_regressor(tmp_path / name / "run/last").state_dict() for name in ("one", "two"))
    for key in a:  # half the batch each: together the same gradient
        torch.testing.assert_close(a[key], b[key], atol=2e-4, rtol=1e-3, msg=lambda m, key=key: f"{key}: {m}")
    for name, count in (("train/loss", 6), ("train/batch", 6), ("val/cosine", 2)):
        first, second = ({s: float(v) for s, v in logged(tmp_path / n / "run", name).items()} for n in ("one", "two"))
        assert first == pytest.approx(second, abs=1e-3) and len(first) == count, name
    lines = [json.loads(line) for line in (tmp_path / "two/run/metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "val/cosine" in line]) == 2
    done = several(two, strategy, "--resume", "--trainer.max_steps=8")
    assert done.returncode == 0, done.stderr[-3000:]
    saved = torch.load(tmp_path / "two/run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 8 and saved["EmbeddingPairs"] == {"next_batch": 8}
