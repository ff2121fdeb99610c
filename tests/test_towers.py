"""Towers of every family against their own libraries: the same numbers, other sizes, names to freeze by, bad files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_towers import SAVED, TIMM, random_spec, save_open_clip, save_timm, save_transformers
from torch import Tensor

from img2prompt.errors import ConfigError, ModelError, PresetError
from img2prompt.models.pooling import POOLINGS, AttentionPool, GemPool, MeanPool
from img2prompt.models.tower_base import Tokens, resample_positions
from img2prompt.models.towers import Tower, TowerSpec, build_tower

Saved = Callable[[str], TowerSpec]
NO_SUMMARY = ("timm_vit_avg", "timm_convnext", "open_clip_avg")  # these pool by the mean


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The specification of a row of SAVED, written once."""
    root, specs = tmp_path_factory.mktemp("towers"), {}

    def spec(name: str) -> TowerSpec:
        if name not in specs:
            family, write = SAVED[name]
            specs[name] = TowerSpec(family, source=str(write(root / name)))
        return specs[name]

    return spec


def images_for(tower: Tower, count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, tower.image_px, tower.image_px, generator=torch.Generator().manual_seed(seed))


def pooled(tower: Tower, images: Tensor, pooling: str = "") -> Tensor:
    return tower.finish(POOLINGS[pooling or ("class" if tower.has_class_token else "mean")](tower.width)(tower(images)))


def library(spec: TowerSpec, images: Tensor) -> Tensor:
    """What the library that wrote the checkpoint gives for pictures, before any classifier."""
    folder = Path(str(spec.source))
    if spec.family == "timm":
        import timm

        net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        return net.forward_head(net.forward_features(images), pre_logits=True)
    if spec.family == "transformers":
        import transformers

        net = transformers.AutoModel.from_pretrained(folder).eval()
        found = net.get_image_features(images) if hasattr(net, "get_image_features") else net(images)
        return found.pooler_output
    import open_clip

    net = open_clip.create_model(f"local-dir:{folder}").eval()
    return net.encode_image(images, normalize=False)


@pytest.mark.parametrize("name", SAVED)
@torch.no_grad()
def test_gives_what_its_library_gives(saved: Saved, name: str) -> None:
    spec = saved(name)
    tower = build_tower(spec).eval()
    images = images_for(tower)
    # timm's EVA has a class token, but its checkpoints were trained with the mean of the patches.
    found = pooled(tower, images, "mean" if name == "timm_eva" else "")
    if name in ("open_clip", "open_clip_avg", "coca", "hf_clip"):
        assert tower.projection is not None
        found = found @ tower.projection
    torch.testing.assert_close(found, library(spec, images), atol=2e-5, rtol=1e-4)
    assert tower.has_class_token == (name not in NO_SUMMARY)


@pytest.mark.parametrize("name", SAVED)
def test_is_rebuilt_from_its_config_at_another_size(saved: Saved, name: str) -> None:
    first = build_tower(replace(saved(name), image_px=96)).eval()
    config = json.loads(json.dumps(first.config))
    second = build_tower(TowerSpec(saved(name).family, image_px=96, config=config)).eval()
    second.load_state_dict(first.state_dict())
    images = images_for(first)
    assert second.image_px == 96
    assert (second.mean, second.std, second.width) == (first.mean, first.std, first.width)
    torch.testing.assert_close(pooled(second, images), pooled(first, images), atol=0, rtol=0)


@pytest.mark.parametrize("name", [name for name in SAVED if name not in ("coca", "timm_convnext")])
def test_another_size_means_more_patches_of_the_same_positions(saved: Saved, name: str) -> None:
    small, large = build_tower(saved(name)), build_tower(replace(saved(name), image_px=64))
    assert small(images_for(small)).patches.shape[1] == 16
    assert large(images_for(large)).patches.shape[1] == 64
    wide = [key for key, value in large.state_dict().items() if value.shape != small.state_dict()[key].shape]
    assert len(wide) == 1
    assert "pos" in wide[0]
    before, after = small.state_dict()[wide[0]].squeeze(0), large.state_dict()[wide[0]].squeeze(0)
    prefix = len(before) - 16
    torch.testing.assert_close(after[:prefix], before[:prefix], atol=0, rtol=0)
    assert float((after[prefix:].mean(0) - before[prefix:].mean(0)).abs().mean()) < float(before.std()) / 4


@settings(max_examples=30, deadline=None)
@given(old=st.integers(2, 9), new=st.integers(1, 14), prefix=st.integers(0, 2), seed=st.integers(0, 99))
def test_resampled_positions_keep_prefix_constants_and_the_same_grid(
    old: int, new: int, prefix: int, seed: int
) -> None:
    table = torch.randn(prefix + old * old, 3, generator=torch.Generator().manual_seed(seed))
    found = resample_positions(table, prefix, new)
    assert found.shape == (prefix + new * new, 3)
    assert torch.equal(found[:prefix], table[:prefix])
    torch.testing.assert_close(resample_positions(table, prefix, old), table, atol=1e-5, rtol=0)
    flat = table.clone()
    flat[prefix:] = table[-1]
    torch.testing.assert_close(resample_positions(flat, prefix, new)[prefix:], table[-1:].expand(new * new, 3))


def test_resampling_keeps_the_order_of_rows_and_columns() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    found = resample_positions(torch.stack([rows, columns], -1).flatten(0, 1), 0, 8).unflatten(0, (8, 8))
    assert (found[1:, :, 0] > found[:-1, :, 0]).all()
    assert (found[:, 1:, 1] > found[:, :-1, 1]).all()


@pytest.mark.parametrize("name", SAVED)
def test_blocks_name_modules_and_depths_rise_from_input_to_output(saved: Saved, name: str) -> None:
    tower = build_tower(saved(name))
    modules = dict(tower.named_modules())
    blocks = tower.blocks
    assert len(blocks) == {"timm_convnext": 4, "coca": 1}.get(name, 2)
    assert all(modules[block] is module for block, module in blocks)
    depths = tower.depths()
    assert list(depths) == [key for key, _ in tower.named_parameters()]
    assert set(depths.values()) == set(range(len(blocks) + 2))
    for number, (block, module) in enumerate(blocks, start=1):
        inside = {f"{block}.{key}" for key, _ in module.named_parameters()}
        assert {key for key, depth in depths.items() if depth == number} == inside
    early = {key.split(".")[1] for key, depth in depths.items() if depth == 0}
    late = {key.split(".")[0 if key.startswith("after") else 1] for key, depth in depths.items() if depth > len(blocks)}
    assert not any("post" in key or key in ("norm", "after", "layernorm", "attn_pool", "head") for key in early), early
    assert not any("embed" in key or "patch" in key or "stem" in key or "cls" in key for key in late), late


@pytest.mark.parametrize("use", ["class", "mean"])
@pytest.mark.parametrize("name", SAVED)
def test_every_weight_learns(saved: Saved, name: str, use: str) -> None:
    """A parameter without a gradient stops distributed training."""
    tower = build_tower(saved(name), class_token=use == "class")
    if use == "class" and not tower.has_class_token:
        pytest.skip("no class token")
    pooled(tower, images_for(tower), use).square().sum().backward()
    assert [key for key, value in tower.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize("name", SAVED)
def test_gradient_checkpointing_keeps_less_and_changes_nothing(saved: Saved, name: str) -> None:
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        tower = build_tower(saved(name))
        assert tower.training, "a network in evaluation mode would not be checkpointed"
        tower.set_grad_checkpointing(enable)
        kept = 0

        def pack(value: Tensor) -> Tensor:
            nonlocal kept
            kept += value.numel()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            out = pooled(tower, images_for(tower), "mean")
        counted = kept
        out.square().sum().backward()
        results.append((out.detach(), counted, [p.grad for p in tower.parameters() if p.grad is not None]))
    (plain, much, first), (same, less, second) = results
    torch.testing.assert_close(same, plain)
    assert less < much
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_mean_and_std_are_the_towers_own(saved: Saved) -> None:
    assert build_tower(saved("hf_dinov2")).mean == (0.4, 0.5, 0.6)
    assert build_tower(saved("open_clip")).std == (0.25, 0.25, 0.25)
    assert build_tower(saved("hf_siglip")).mean == (0.5, 0.5, 0.5)
    assert build_tower(saved("hf_clip")).mean[0] == pytest.approx(0.48145466)
    assert build_tower(saved("timm_convnext")).mean == (0.485, 0.456, 0.406)


def test_arguments_of_the_model_reach_timm() -> None:
    name, arguments = TIMM["vit"]
    tower = build_tower(TowerSpec("timm", name, config={"model_args": {**arguments, "depth": 3}}))
    assert len(tower.blocks) == 3


def test_a_class_token_that_is_not_used_brings_no_weights(saved: Saved) -> None:
    for name in ("timm_siglip", "hf_siglip"):
        tower = build_tower(saved(name), class_token=False)
        assert not tower.has_class_token
        assert tower(images_for(tower)).class_token is None
        assert not any("head" in key or "attn_pool" in key for key in tower.state_dict())


def test_the_bundled_captioner_lends_its_tower() -> None:
    from img2prompt.presets import BUNDLED

    tower = build_tower(TowerSpec("open_clip", source=str(BUNDLED / "captioner"))).eval()
    tokens = tower(images_for(tower))
    assert (tower.width, tower.image_px, tuple(tokens.patches.shape)) == (192, 128, (2, 64, 192))


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (TowerSpec("onnx"), ConfigError, "choose one of timm, transformers, open_clip"),
        (TowerSpec("timm"), ConfigError, "name the architecture"),
        (TowerSpec("timm", "vit_colossal"), ModelError, "vit_colossal"),
        (TowerSpec("timm", "vit_tiny_patch16_224", config={"model_args": {"depht": 2}}), ModelError, "depht"),
        (TowerSpec("transformers"), ConfigError, "needs a source"),
        (TowerSpec("transformers", config={"model_type": "bert"}), ModelError, "'bert' is not supported"),
        (TowerSpec("open_clip"), ConfigError, "give a source, or an architecture"),
        (TowerSpec("open_clip", config={"embed_dim": 8}), ModelError, "vision_cfg"),
        (TowerSpec("transformers", source="nobody/nothing"), PresetError, "img2prompt pull hf-hub:nobody/nothing"),
        (TowerSpec("timm", source="nobody/nothing"), PresetError, "img2prompt pull hf-hub:nobody/nothing"),
        (TowerSpec("open_clip", source="nobody/nothing"), PresetError, "img2prompt pull hf-hub:nobody/nothing"),
        (TowerSpec("open_clip", source="/no/such/folder"), ModelError, "/no/such/folder"),
        (replace(random_spec(), image_px=33), ConfigError, "image_px 33"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(spec: TowerSpec, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        build_tower(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "timm": save_timm,
    "transformers": save_transformers,
    "open_clip": save_open_clip,
}


def _without_one(state: dict[str, Any]) -> dict[str, Any]:
    key = next(key for key in state if "0.mlp" in key and not key.startswith(("text", "transformer")))
    return {name: value for name, value in state.items() if name != key}


def _of_another_width(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: torch.cat([value, value]) if "patch" in name or "conv1" in name else value
        for name, value in state.items()
    }


def _not_a_number(state: dict[str, Any]) -> dict[str, Any]:
    key = next(key for key in state if "pos" in key and "text" not in key and state[key].is_floating_point())
    return {**state, key: state[key] * float("nan")}


@pytest.mark.parametrize("damage", [_without_one, _of_another_width, _not_a_number])
@pytest.mark.parametrize("family", WRITERS)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, family: str, damage: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = next(WRITERS[family](tmp_path / "model").glob("*.safetensors"))
    if family == "open_clip" and damage is _not_a_number:
        state = load_file(path)
        state["visual.positional_embedding"] *= float("nan")
    else:
        state = damage(load_file(path))
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        build_tower(TowerSpec(family, source=str(tmp_path / "model")))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "model") in str(caught.value)


@pytest.mark.parametrize("family", WRITERS)
def test_damaged_files_are_refused(tmp_path: Path, family: str) -> None:
    path = next(WRITERS[family](tmp_path / "model").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError):
        build_tower(TowerSpec(family, source=str(tmp_path / "model")))


def test_a_folder_of_another_family_or_architecture_is_refused(tmp_path: Path) -> None:
    save_timm(tmp_path / "timm")
    save_transformers(tmp_path / "hf")
    for family, name, folder in (
        ("timm", "", "hf"),
        ("transformers", "", "timm"),
        ("open_clip", "", "timm"),
        ("timm", "vit_base_patch16_224", "timm"),
        ("transformers", "dinov2", "hf"),
    ):
        with pytest.raises(ModelError):
            build_tower(TowerSpec(family, name, source=str(tmp_path / folder)))


@st.composite
def tokens(draw: st.DrawFn) -> Tokens:
    count, patches, width = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.sampled_from([4, 6, 8, 16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    return Tokens(None, torch.rand(count, patches, width, generator=generator) + 0.1)


@settings(max_examples=40, deadline=None)
@given(seen=tokens(), seed=st.integers(0, 99))
def test_poolings_keep_their_rules(seen: Tokens, seed: int) -> None:
    width = seen.patches.shape[-1]
    mean, gem, attention = MeanPool(width), GemPool(width), AttentionPool(width)
    expected = seen.patches.mean(1)
    torch.testing.assert_close(mean(seen), expected)
    torch.testing.assert_close(attention(seen), expected)  # until it has learned
    with torch.no_grad():
        gem.exponent.fill_(1.0)
        torch.testing.assert_close(gem(seen), expected)
        gem.exponent.fill_(60.0)
        assert (gem(seen) >= expected - 1e-5).all()
        assert (gem(seen) <= seen.patches.amax(1) + 1e-4).all()
        gem.exponent.fill_(3.0)
        attention.query.weight.normal_(generator=torch.Generator().manual_seed(seed))
    weights = attention.weights(seen)
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights.sum(1)))
    shuffled = Tokens(None, seen.patches[:, torch.randperm(seen.patches.shape[1])])
    for pool in (mean, gem, attention):
        torch.testing.assert_close(pool(shuffled), pool(seen))
        assert ((pool(seen) >= seen.patches.amin(1) - 1e-5) & (pool(seen) <= seen.patches.amax(1) + 1e-5)).all()


def test_negative_values_do_not_break_gem() -> None:
    seen = Tokens(None, torch.randn(2, 5, 4, requires_grad=True) - 2)
    out = GemPool(4)(seen)
    out.sum().backward()
    assert torch.isfinite(out).all()
