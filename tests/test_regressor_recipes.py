"""Every recipe of a regressor is read and runs, on a tiny random tower of its own family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_regressor import TOWER, data_of, write_pairs

from img2prompt.cli import main
from img2prompt.jobs.train import RECIPES, TRAINEES
from img2prompt.metrics import mean_cosine
from img2prompt.models.embedder import EmbeddingRegressor
from img2prompt.models.regressor import RegressorConfig, load_regressor, new_regressor, save_regressor
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.models.towers import TowerSpec
from img2prompt.pairs.images import open_image
from img2prompt.pairs.storybook.dataset import StorybookRows
from img2prompt.presets import PRESETS, companion, resolve

TOWERS: dict[str, dict[str, Any]] = {  # family -> a tiny tower of it
    "open_clip": TOWER,
    "transformers": {
        "family": "transformers",
        "source": None,
        "config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
    },
    "timm": {
        "family": "timm",
        "name": "vit_tiny_patch16_224",
        "source": None,
        "config": {"model_args": {"embed_dim": 32, "depth": 3, "num_heads": 2, "img_size": 32}},
    },
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def settings_of(recipe: str) -> dict[str, Any]:
    found = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())
    assert isinstance(found, dict)
    return found


def test_every_recipe_belongs_to_one_trainee() -> None:
    listed = [recipe for trainee in TRAINEES.values() for recipe in trainee.recipes]
    assert sorted(listed) == sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("recipe", TRAINEES["regressor"].recipes)
def test_every_header_says_what_to_run_where_and_what_comes_of_it(recipe: str) -> None:
    text = (RECIPES / f"{recipe}.yaml").read_text()
    header = text[: text.index("\nseed_everything")]
    for word in (f"img2prompt train regressor --config {recipe}", "# Hardware:", "# Expected:"):
        assert word in header, word
    if "GPU" in header:
        assert header.count("not run here") + header.count("Not run here") == 2, "no score or time is claimed"


@pytest.mark.parametrize("recipe", TRAINEES["regressor"].recipes)
def test_every_recipe_runs(recipe: str, pairs: dict[str, Path], tmp_path: Path) -> None:
    model = settings_of(recipe)["model"]["model"]
    data = data_of(pairs)
    more = [f"--data.{key}={json.dumps(data[key])}" for key in ("sources", "validation")]
    more += [f"--data.{key}.cache_folder={pairs['cache']}" for key in ("prompts", "pictures")]
    more += ["--data.batch_size=4", "--data.pictures.workers=0", f"--output={tmp_path / 'run'}", "--threads=1"]
    more += ["--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    more += ["--trainer.val_check_interval=2", "--model.model.compile=false", "--model.model.head_init=random"]
    if model.get("source"):
        first = new_regressor(RegressorConfig(TowerSpec(**TOWERS["transformers"]), "class"))
        more += [f"--model.model.source={save_regressor(first, tmp_path / 'first')}", "--model.model.image_px=48"]
    else:
        more.append(f"--model.model.tower={json.dumps(TOWERS[model['tower']['family']])}")
    assert main(["train", "regressor", "--config", recipe, *more]) == 0
    trained = load_regressor(tmp_path / "run/best")
    assert trained.tower.image_px == (48 if model.get("source") else 32)
    assert (trained.config.pooling, trained.config.head) == (model.get("pooling", "class"), model.get("head", "linear"))


def test_the_bundled_regressor_stays_small() -> None:
    model = settings_of("storybook_regressor")["model"]["model"]
    source = resolve(model["tower"]["source"]).source
    spec = TowerSpec(model["tower"]["family"], source=source)
    regressor = new_regressor(RegressorConfig(spec, model["pooling"], model["head"], model["hidden"]))
    count = sum(p.numel() for p in regressor.parameters())
    assert 3_000_000 < count <= 6_000_000 and model["hidden"] <= 1024


@pytest.mark.parametrize(("split", "least"), [("test", 0.88), ("test_pairs", 0.85)])
def test_the_bundled_regressor_knows_scenes_that_it_never_saw(split: str, least: float, pairs: dict[str, Path]) -> None:
    """Against real embeddings; an untrained one, or one whose pictures go in wrongly, stays below 0.6."""
    folder = companion(PRESETS["storybook"])
    if folder is None:
        pytest.skip("no regressor is bundled in this tree")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12_000_000
    rows = list(StorybookRows(31, split)(range(96)))
    found = EmbeddingRegressor(load_regressor(folder)).embed_many([open_image(row["image"]) for row in rows])
    truth = SentenceEncoder().encode_many([row["short"] for row in rows])
    assert mean_cosine(found, truth) >= least
    assert mean_cosine(found, np.roll(truth, 1, axis=0)) < 0.6, "of other pictures"
