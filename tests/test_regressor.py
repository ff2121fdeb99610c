"""The regressor: its folder gives it back, pictures go in alone or in batches, a head can be fitted from texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_model import picture
from tiny_towers import SAVED, random_spec, save_open_clip, save_timm, save_transformers

from img2prompt.errors import ConfigError, DataError, ModelError, OutputError
from img2prompt.models.clip_texts import ClipTexts
from img2prompt.models.pooling import POOLINGS
from img2prompt.models.regressor import (
    HEADS,
    VIEWS,
    EmbeddingRegressor,
    Regressor,
    RegressorConfig,
    is_regressor,
    load_regressor,
    new_regressor,
    save_regressor,
)
from img2prompt.models.text_map import fit_head
from img2prompt.models.towers import TowerSpec


def tiny(seed: int = 1, **settings: Any) -> Regressor:
    return new_regressor(RegressorConfig(random_spec(), **{"dimensions": 12, "hidden": 20, **settings}), seed).eval()


def pictures(count: int) -> list[Image.Image]:
    return [picture(seed, px=40 + 7 * seed) for seed in range(count)]


def fit_inputs(model: Regressor, count: int = 3) -> torch.Tensor:
    side = model.tower.image_px
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_a_folder_gives_the_regressor_back(tmp_path: Path, pooling: str, head: str) -> None:
    model = tiny(pooling=pooling, head=head)
    images = fit_inputs(model)
    folder = save_regressor(model, tmp_path / "best", {"cosine": 0.5})
    assert is_regressor(folder)
    loaded = load_regressor(folder)
    assert not loaded.training
    assert torch.equal(loaded(images), model(images))
    assert torch.equal(loaded.features(images), model.features(images))
    assert loaded.config == replace(
        model.config, tower=replace(model.config.tower, image_px=32, config=model.tower.config)
    )
    assert json.loads((folder / "regressor.json").read_text())["extra"] == {"cosine": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best"]
    again = save_regressor(loaded, tmp_path / "again")  # what was loaded can be saved, byte for byte
    assert (again / "regressor.safetensors").read_bytes() == (folder / "regressor.safetensors").read_bytes()


@pytest.mark.parametrize("name", SAVED)
@torch.no_grad()
def test_every_tower_survives_its_folder_without_its_source(tmp_path: Path, name: str) -> None:
    family, write = SAVED[name]
    spec = TowerSpec(family, source=str(write(tmp_path / "source")), image_px=64 if name != "coca" else 72)
    model = new_regressor(RegressorConfig(spec, "gem", "mlp", hidden=16)).eval()
    folder = save_regressor(model, tmp_path / "regressor")
    (tmp_path / "source").rename(tmp_path / "gone")
    images = fit_inputs(model)
    assert torch.equal(load_regressor(folder)(images), model(images))


@torch.no_grad()
def test_half_precision_in_the_file_and_in_memory(tmp_path: Path) -> None:
    model = tiny()
    images = fit_inputs(model)
    whole = save_regressor(model, tmp_path / "whole")
    half = save_regressor(model, tmp_path / "half", dtype=torch.float16)
    sizes = [(folder / "regressor.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    read = load_regressor(half)
    assert {value.dtype for value in read.state_dict().values()} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(read(images), model(images)).min() > 0.9999
    fast = load_regressor(half, dtype=torch.bfloat16)
    assert fast(images).dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(fast(images), model(images)).min() > 0.99
    assert EmbeddingRegressor(fast).embed_many(pictures(2)).dtype == np.float32


def test_output_is_of_unit_length_in_float32_under_autocast_too() -> None:
    model = tiny(head="mlp", pooling="attention")
    with torch.autocast("cpu", torch.bfloat16):
        rows = model(fit_inputs(model))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(3), atol=1e-6, rtol=0)


def test_random_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, same, other = tiny(3), tiny(3), tiny(4)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_picture_gives_the_same_alone_and_in_any_batch() -> None:
    images = pictures(7)
    model = tiny()
    alone = np.concatenate([EmbeddingRegressor(model, batch_size=1).embed_many([image]) for image in images])
    np.testing.assert_allclose(EmbeddingRegressor(model, batch_size=3).embed_many(images), alone, atol=1e-5)
    np.testing.assert_allclose(EmbeddingRegressor(model).embed_many(images[::-1])[::-1], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3, "different pictures, different rows"


def test_no_pictures_give_no_rows() -> None:
    regressor = EmbeddingRegressor(tiny())
    assert regressor.embed_many([]).shape == (0, 12)
    assert regressor.features_many([]).shape == (0, 32)


@torch.no_grad()
def test_pictures_are_cut_and_normalised_as_the_tower_wants(tmp_path: Path) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    spec = TowerSpec("transformers", source=str(save_transformers(tmp_path / "dinov2", "dinov2")))
    model = new_regressor(RegressorConfig(spec)).eval()
    settings = PreprocessCfg(size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    image = picture(3, 64).crop((0, 0, 64, 48))
    pixels = image_transform_v2(settings, is_train=False)(image)[None]
    embedded, features = EmbeddingRegressor(model).both_many([image])
    np.testing.assert_allclose(embedded, model(pixels), atol=1e-6)
    np.testing.assert_allclose(features, model.features(pixels), atol=1e-5)


def test_views_are_averaged() -> None:
    model = tiny()
    image = picture(5, 64)
    single: dict[str, NDArray[np.float32]] = {
        view: EmbeddingRegressor(model, views=(view,)).embed_many([image]) for view in VIEWS
    }
    mean = sum(single.values()) / len(single)
    both = EmbeddingRegressor(model, views=tuple(VIEWS)).embed_many([image])
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-6)
    assert np.abs(single["flip"] - single["plain"]).max() > 1e-3
    assert np.abs(single["zoom"] - single["plain"]).max() > 1e-3
    mirrored = EmbeddingRegressor(model, views=("plain", "flip")).embed_many(
        [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    )
    np.testing.assert_allclose(mirrored[0], mirrored[1], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tiny(pooling="median"), "choose one of class, mean, gem, attention"),
        (lambda: tiny(head="forest"), "choose one of linear, mlp"),
        (lambda: tiny(dimensions=0), "at least 1"),
        (lambda: EmbeddingRegressor(tiny(), views=("upside down",)), "choose from plain, flip, zoom"),
        (lambda: EmbeddingRegressor(tiny(), views=()), "choose from plain, flip, zoom"),
        (lambda: EmbeddingRegressor(tiny(), batch_size=0), "batch_size 0"),
    ],
)
def test_wrong_settings_say_what_is_possible(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_pooling_by_a_class_token_needs_one(tmp_path: Path) -> None:
    spec = TowerSpec("timm", source=str(save_timm(tmp_path / "convnext", "convnext")))
    with pytest.raises(ConfigError, match="no class token; choose mean"):
        new_regressor(RegressorConfig(spec, pooling="class"))


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "regressor.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def _reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "regressor.safetensors"
        state = {name: value.clone() for name, value in load_file(path).items()}
        change(state)
        save_file(state, path)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda folder: (folder / "regressor.json").unlink(), "no regressor.json"),
    "no weights": (lambda folder: (folder / "regressor.safetensors").unlink(), "no regressor.safetensors"),
    "cut weights": (lambda folder: (folder / "regressor.safetensors").write_bytes(b"x" * 99), "damaged"),
    "broken description": (lambda folder: (folder / "regressor.json").write_text("{"), "cannot be read"),
    "a list": (lambda folder: (folder / "regressor.json").write_text("[1]"), "not a configuration"),
    "of the future": (_edit(lambda content: content.update(format=9)), "format 9"),
    "without a part": (_edit(lambda content: content.pop("head")), "head"),
    "unknown head": (_edit(lambda content: content.update(head="forest")), "choose one of linear, mlp"),
    "wrong type": (_edit(lambda content: content.update(hidden="many")), "not a regressor's description"),
    "unknown key": (_edit(lambda content: content["tower"].update(colour="red")), "colour"),
    "another tower": (_edit(lambda content: content["tower"]["config"]["model_args"].update(depth=3)), "is missing"),
    "another size": (_edit(lambda content: content["tower"].update(image_px=64)), "but the configuration wants"),
    "a missing weight": (_reweigh(lambda state: state.pop("head.weight")), "head.weight is missing"),
    "a weight too many": (_reweigh(lambda state: state.update(more=torch.ones(1))), "more is not part"),
    "a wrong shape": (_reweigh(lambda state: state.update({"head.bias": torch.ones(5)})), "head.bias is (5,)"),
    "not a number": (_reweigh(lambda state: state["head.bias"].fill_(float("nan"))), "head.bias holds NaN"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    folder = save_regressor(tiny(), tmp_path / "model")
    hurt, words = DAMAGES[damage]
    hurt(folder)
    with pytest.raises(ModelError) as caught:
        load_regressor(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose a folder"):
        save_regressor(tiny(), tmp_path / "file" / "model")


def _texts(count: int, width: int, dimensions: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Random texts in a shared space, a map that keeps lengths, and what it makes of them."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, width))
    true = np.linalg.qr(generator.normal(size=(dimensions, width)))[0].T  # (E,D), orthonormal rows
    return x.astype(np.float32), true, (x @ true).astype(np.float32)


CLIPS: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "open_clip": ("open_clip", save_open_clip, "class"),
    "avg": ("open_clip", SAVED["open_clip_avg"][1], "mean"),
    "coca": ("open_clip", SAVED["coca"][1], "class"),
    "clip": ("transformers", save_transformers, "class"),
    "siglip": ("transformers", SAVED["hf_siglip"][1], "class"),
}


@pytest.mark.parametrize("name", CLIPS)
@torch.no_grad()
def test_a_map_of_texts_serves_pictures(tmp_path: Path, name: str) -> None:
    family, write, pooling = CLIPS[name]
    model = new_regressor(
        RegressorConfig(TowerSpec(family, source=str(write(tmp_path))), pooling, dimensions=48)
    ).eval()
    projection = model.tower.projection
    assert projection is not None
    x, true, y = _texts(400, projection.shape[1], 48, seed=2)
    found = fit_head(model, x, y, ridge=1e-10)
    assert found.rows == 400
    assert min(found.cosine, found.held_out_cosine) > 0.99999
    images = fit_inputs(model)
    shared = torch.nn.functional.normalize(model.features(images) @ projection, dim=-1)  # as CLIP embeds a picture
    torch.testing.assert_close(model(images), shared @ torch.from_numpy(true).float(), atol=1e-4, rtol=0)


def test_held_out_texts_judge_the_map_honestly() -> None:
    """Random targets are fitted by as many dimensions as texts, but not foretold."""
    generator = np.random.default_rng(0)
    model = tiny(pooling="class")
    model.tower.projection = torch.eye(32)
    x, y = generator.normal(size=(40, 32)), generator.normal(size=(40, 12))
    found = fit_head(model, x.astype(np.float32), y.astype(np.float32), ridge=1e-6)
    assert found.cosine > 0.7
    assert found.held_out_cosine < 0.5


def test_a_larger_ridge_means_a_smaller_head() -> None:
    x, _, y = _texts(200, 32, 48, seed=1)
    norms = []
    for ridge in (1e-8, 1e-2, 1.0):
        model = tiny(pooling="class", dimensions=48)
        model.tower.projection = torch.eye(32)
        fit_head(model, x, y, ridge)
        norms.append(float(model.head.weight.detach().norm()))
    assert norms[0] > norms[1] > norms[2] > 0


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    x, _, y = _texts(30, 32, 48, seed=1)
    with pytest.raises(ConfigError, match="no space with texts"):
        fit_head(tiny(pooling="class", dimensions=48), x, y)

    def shared(**settings: Any) -> Regressor:
        model = tiny(**{"pooling": "class", "dimensions": 48, **settings})
        model.tower.projection = torch.eye(32)
        return model

    with pytest.raises(ConfigError, match="needs pooling class"):
        fit_head(shared(pooling="mean"), x, y)
    with pytest.raises(ConfigError, match="only the head linear"):
        fit_head(shared(head="mlp"), x, y)
    with pytest.raises(ConfigError, match="above 0"):
        fit_head(shared(), x, y, ridge=0)
    with pytest.raises(DataError, match="same texts"):
        fit_head(shared(), x, y[:-1])
    with pytest.raises(DataError, match=r"expected \(N,32\)"):
        fit_head(shared(), x[:, :5], y)
    with pytest.raises(DataError, match="row 3 holds NaN"):
        fit_head(shared(), np.where(np.arange(30)[:, None] == 3, np.float32("nan"), x), y)
    loaded = load_regressor(save_regressor(shared(), tmp_path / "saved"))
    assert loaded.tower.projection is None


@pytest.mark.parametrize("name", ["open_clip", "coca", "clip", "siglip"])
@torch.no_grad()
def test_the_text_side_embeds_as_its_library(tmp_path: Path, name: str) -> None:
    from tiny_towers import add_tokenizer

    family, write, _ = CLIPS[name]
    folder = write(tmp_path)
    texts = ["a red cat", "two dogs", "a", "dogs in space, watercolour" if family == "open_clip" else "sixteen letters"]
    if family == "transformers":
        import transformers

        add_tokenizer(folder)
        net = transformers.AutoModel.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        padding = {"siglip": "max_length"}.get(name, True)
        settings: dict[str, Any] = {"truncation": True, "max_length": 16, "return_tensors": "pt", "padding": padding}
        alone = [tokenizer([text], **settings).input_ids for text in texts]
        rows = torch.cat([net.get_text_features(ids).pooler_output for ids in alone])
    else:
        import open_clip

        net = open_clip.create_model(f"local-dir:{folder}").eval()
        rows = net.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=False)
    expected = torch.nn.functional.normalize(rows, dim=-1)
    found = ClipTexts(TowerSpec(family, source=str(folder))).embed_many(texts, batch_size=2)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_towers_without_texts_have_no_text_side(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text side"):
        ClipTexts(TowerSpec("timm", source=str(save_timm(tmp_path / "timm"))))
    with pytest.raises(ConfigError, match="no text side"):
        ClipTexts(TowerSpec("open_clip", "ViT-B-16"))
    with pytest.raises(ModelError, match="no text side"):
        ClipTexts(TowerSpec("transformers", source=str(save_transformers(tmp_path / "dinov2", "dinov2"))))
