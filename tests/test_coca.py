"""CoCa in open_clip's own folder format: what we write it reads, and what it writes we read."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from img2prompt.errors import ConfigError, ModelError, OutputError, PresetError
from img2prompt.models.coca import encode_images, freeze, load_coca, new_coca, save_coca
from img2prompt.models.tokenizer import ClipTokenizer, own_tokenizer, token_rows, train_tokenizer

TEXTS = ["a red cat on a beach, watercolour", "two dogs in space, oil painting", "short: three blue boats at night"]


def tiny_config(vocab_size: int = 320) -> dict[str, Any]:
    sizes = {"width": 32, "heads": 2, "layers": 2, "context_length": 16, "vocab_size": vocab_size}
    vision = {"image_size": 24, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2, "output_tokens": True}
    pool = {"attentional_pool": True, "attn_pooler_queries": 6, "attn_pooler_heads": 2}
    return {
        "model_cfg": {
            "embed_dim": 32,
            "vision_cfg": vision | pool,
            "text_cfg": sizes | {"embed_cls": True, "output_tokens": True},
            "multimodal_cfg": sizes | {"attn_pooler_heads": 2},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        "img2prompt": {"prefixes": {"short": "short:", "long": "long:"}},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(TEXTS * 3, 320)
    return save_coca(new_coca(tiny_config(), 0), tiny_config(), tmp_path_factory.mktemp("models") / "tiny", tokenizer)


def picture(width: int = 50, height: int = 37) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_open_clip_loads_the_folder_and_agrees(folder: Path) -> None:
    loaded = load_coca(folder)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    rows = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    assert torch.equal(rows, token_rows(loaded.tokenizer, TEXTS, 16))
    images = encode_images(loaded, [picture(), picture(24, 90)])
    theirs = torch.stack([transform(picture()), transform(picture(24, 90))])
    assert (images - theirs).abs().max() <= 1e-6
    with torch.inference_mode():
        expected = model.eval()(theirs, rows[:2])["logits"]
        assert torch.allclose(loaded.model(images, rows[:2])["logits"], expected, atol=1e-6)
    assert loaded.image_px == 24
    assert loaded.mean == (0.5, 0.4, 0.3)
    assert loaded.prefixes == {"short": "short:", "long": "long:"}


def test_schema_prefix_and_half_precision(folder: Path, tmp_path: Path) -> None:
    loaded = load_coca(f"local-dir:{folder}")
    half = save_coca(loaded.model, loaded.config, tmp_path / "half", half=True)
    assert {value.dtype for value in load_file(half / "open_clip_model.safetensors").values()} == {torch.float16}
    again = load_coca(tmp_path / "half") if (tmp_path / "half" / "tokenizer.json").exists() else None
    assert again is None  # the vocabulary must be given again, and its absence is an error, not CLIP's by accident
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_coca(half)


def test_saving_again_replaces_files_and_keeps_others(tmp_path: Path) -> None:
    config = tiny_config()
    tokenizer = train_tokenizer(TEXTS, 320)
    save_coca(new_coca(config, 0), config, tmp_path / "model", tokenizer)
    (tmp_path / "model" / "notes.txt").write_text("mine")
    save_coca(new_coca(config, 1), config, tmp_path / "model", tokenizer)
    expected = new_coca(config, 1).state_dict()["text_decoder.text_projection"]
    assert torch.equal(load_coca(tmp_path / "model").model.text_decoder.text_projection, expected)
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_coca(new_coca(config, 1), config, tmp_path / "file" / "model")


def test_random_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, two, other = (new_coca(tiny_config(), seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["text_decoder.text_projection"], other["text_decoder.text_projection"])
    assert 0.1 < one["text_decoder.text_projection"].std() < 0.3  # 32 ** -0.5 = 0.18


def test_clip_vocabulary_when_the_model_has_none_of_its_own(tmp_path: Path) -> None:
    config = tiny_config(49408)
    loaded = load_coca(save_coca(new_coca(config, 0), config, tmp_path / "clip"))
    assert isinstance(loaded.tokenizer, ClipTokenizer)
    rows = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'clip'}")(TEXTS)
    assert torch.equal(token_rows(loaded.tokenizer, TEXTS, 16), rows)
    assert loaded.tokenizer.decode(rows[0].tolist()) == "a red cat on a beach , watercolour"


def broken(folder: Path, to: Path, part: str) -> str:
    """A copy of the model with one thing wrong."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    config, weights = to / "open_clip_config.json", to / "open_clip_model.safetensors"
    if part == "no config":
        config.unlink()
    elif part == "bad config":
        config.write_text("{")
    elif part == "no weights":
        weights.unlink()
    elif part == "two weights":
        (to / "a.pt").write_bytes(b"")
        weights.rename(to / "b.safetensors")
    elif part == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif part == "code":
        weights.unlink()
        with (to / "model.bin").open("wb") as file:
            pickle.dump({"logit_scale": Path}, file, protocol=2)
    elif part in ("shape", "missing", "extra"):
        state = load_file(weights)
        if part == "shape":
            state["text.token_embedding.weight"] = state["text.token_embedding.weight"][:-1].contiguous()
        elif part == "missing":
            del state["visual.conv1.weight"]
        else:
            state["visual.more"] = torch.zeros(1)
        save_file(state, weights)
    else:
        changed = json.loads(config.read_text())
        if part == "no coca":
            del changed["model_cfg"]["multimodal_cfg"]
        elif part == "no pooler":
            changed["model_cfg"]["vision_cfg"] |= {"attentional_pool": False, "output_tokens": False}
        elif part == "no pooler, other width":
            changed["model_cfg"]["vision_cfg"] |= {"attentional_pool": False, "width": 48}
        elif part == "widths":
            changed["model_cfg"]["embed_dim"] = 48
        elif part == "unknown key":
            changed["model_cfg"]["vision_cfg"]["colour"] = 1
        config.write_text(json.dumps(changed))
    return str(to)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("no config", "open_clip_config.json: missing"),
        ("bad config", "cannot be read"),
        ("no weights", "needs one weights file"),
        ("two weights", "several"),
        ("truncated", "damaged weights"),
        ("code", "pickled code"),
        ("shape", "text.token_embedding.weight is (319, 32), but the configuration wants (320, 32)"),
        ("missing", "visual.conv1.weight is missing"),
        ("extra", "visual.more is not part"),
        ("no coca", "not a CoCa"),
        ("no pooler", "attentional_pool"),
        ("no pooler, other width", "vision_cfg.width 48"),
        ("widths", "embed_dim 48"),
        ("unknown key", "colour"),
    ],
)
def test_unusable_folders_say_why_in_one_line(folder: Path, tmp_path: Path, part: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_coca(broken(folder, tmp_path / "broken", part))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_without_code_load(folder: Path, tmp_path: Path) -> None:
    path = Path(broken(folder, tmp_path / "pickled", "nothing"))
    state = load_file(path / "open_clip_model.safetensors")
    (path / "open_clip_model.safetensors").unlink()
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path / "epoch_1.pt")
    loaded = load_coca(path, dtype=torch.bfloat16)
    assert loaded.model.visual.conv1.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.model.logit_scale, state["logit_scale"].bfloat16())


@pytest.mark.parametrize("name", ["hf-hub:nobody/nothing", "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k"])
def test_models_of_the_hub_are_never_fetched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PresetError, match="img2prompt pull"):
        load_coca(name)


def test_names_that_are_nothing() -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_coca("/nowhere/at/all")
    with pytest.raises(PresetError, match="no such weights"):
        load_coca("coca_ViT-B-32/never_trained")
    with pytest.raises(PresetError, match="ORG/NAME"):
        load_coca("hf-hub:one/two/three/four")


@pytest.mark.parametrize(
    ("parts", "frozen"),
    [
        (["image"], "visual."),
        (["image.0-1"], "visual.transformer.resblocks."),
        (["image.1"], "visual.transformer.resblocks.1."),
        (["text"], "text."),
        (["decoder.0"], ("text_decoder.resblocks.0.", "text_decoder.cross_attn.0.")),
        (["vocabulary", "embedding"], ("text_decoder.text_projection", "text.token_embedding.")),
    ],
)
def test_freezing_stops_exactly_the_named_parts(parts: list[str], frozen: str | tuple[str, ...]) -> None:
    model = new_coca(tiny_config(), 0).train()
    count = freeze(model, [*parts, *parts])
    before = deepcopy(model.state_dict())
    learner = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    out = model(torch.randn(2, 3, 24, 24), torch.randint(3, 300, (2, 16)))
    (out["logits"].square().mean() + out["text_features"][:, 0].sum() + out["image_features"][:, 0].sum()).backward()
    learner.step()
    still = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    named = {name for name, _ in model.named_parameters() if name.startswith(frozen)}
    assert named <= still
    assert not {name for name in still - named if not name.endswith("logit_scale") and "bias" not in name}
    assert count == sum(before[name].numel() for name in named) > 0


@pytest.mark.parametrize("part", ["images", "image.2-9", "image.1-0", "text.x", "", "pooler.0"])
def test_freezing_nothing_is_an_error(part: str) -> None:
    with pytest.raises(ConfigError, match="cannot freeze"):
        freeze(new_coca(tiny_config(), 0), [part])


def test_draft_decoding_of_jpeg_stays_close(folder: Path, tmp_path: Path) -> None:
    smooth = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    smooth.save(tmp_path / "a.jpg", quality=95)
    loaded = load_coca(folder)
    exact = encode_images(loaded, [Image.open(tmp_path / "a.jpg")])
    quick = encode_images(loaded, [Image.open(tmp_path / "a.jpg")], draft=True)
    assert (exact - quick).abs().max() < 0.15
    assert encode_images(loaded, []).shape == (0, 3, 24, 24)


TOKENIZER = own_tokenizer(train_tokenizer(TEXTS, 300))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_its_tokens(text: str) -> None:
    import unicodedata

    plain = " ".join(unicodedata.normalize("NFC", text).split())
    ids = TOKENIZER.encode(text)
    assert all(3 <= token < TOKENIZER.vocab_size for token in ids) or "<" in text
    if "<" not in text:
        assert TOKENIZER.decode([TOKENIZER.sot_id, *ids, TOKENIZER.eot_id, *ids]) == TOKENIZER.decode(ids)
        once = TOKENIZER.decode(ids)
        assert TOKENIZER.decode(TOKENIZER.encode(once)) == once
        if plain.isascii():
            assert once == plain.lower()


def test_vocabulary_starts_with_the_special_tokens_and_is_never_too_small() -> None:
    assert (TOKENIZER.pad_id, TOKENIZER.sot_id, TOKENIZER.eot_id) == (0, 1, 2)
    with pytest.raises(ModelError, match="259"):
        train_tokenizer(TEXTS, 100)
