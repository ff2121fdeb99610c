"""Chat models: seeded answers, the real format, and the upsampler's training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import logged, write_data

from img2prompt.cli import main
from img2prompt.errors import ConfigError, ModelError
from img2prompt.models.language import ChatModel, Sampling, load_chat_model
from img2prompt.models.language_making import new_chat_model, new_chat_tokenizer, save_chat_model
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.drift import kept_share, lost_facts, made_up
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.training.upsampler import UpsamplerTraining

CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
TEXTS = ["a red kite above two dogs on the beach", "A painting of a Cat, asleep by the fire."]


@pytest.fixture(scope="module")
def model() -> ChatModel:
    tokenizer = new_chat_tokenizer(TEXTS, 300)
    tokenizer.padding_side = "left"
    made = new_chat_model(CONFIG, tokenizer, seed=3)
    made.model.eval()
    return made


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_an_answer_does_not_depend_on_its_company(model: ChatModel) -> None:
    chats = [chat("a cat"), chat("two dogs on the beach, a red kite above them and a cat"), chat("dogs")]
    for sampling in (Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=1.0, top_p=0.9)):
        together = model.answer_many(chats, sampling, [5, 6, 7])
        alone = [model.answer_many([c], sampling, [s])[0] for c, s in zip(chats, (5, 6, 7), strict=True)]
        assert together == alone


def test_seeds_decide_what_is_drawn(model: ChatModel) -> None:
    drawn = Sampling(max_tokens=8, temperature=1.0)
    texts = {answer.text for answer in model.answer_many([chat("a cat")] * 6, drawn, range(6))}
    assert len(texts) == 6
    assert model.answer_many([chat("a cat")], drawn, [2]) == model.answer_many([chat("a cat")], drawn, [2])


def test_draws_follow_the_softmax_of_the_nucleus() -> None:
    from img2prompt.models.language import _Draw

    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = _Draw(Sampling(temperature=1.0, top_p=0.9), list(range(4000)))
    taken = draw(torch.zeros(4000, 1), probabilities.log().expand(4000, 4)).argmax(1)
    shares = torch.bincount(taken, minlength=4) / 4000
    assert shares[3] == 0, "outside the nucleus"
    assert torch.allclose(shares[:3], probabilities[:3] / 0.95, atol=0.03)


def test_a_saved_model_is_what_transformers_reads(model: ChatModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_chat_model(model.model, model.tokenizer, tmp_path / "chat", torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "chat", local_files_only=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "chat", local_files_only=True)
    assert tokenizer.apply_chat_template(chat("a Cat"), tokenize=False, add_generation_prompt=True) == (
        "<|user|>a Cat<|end|><|assistant|>"
    )
    ids = tokenizer.apply_chat_template(
        chat("a Cat"), add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    made = plain.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    ours = load_chat_model(tmp_path / "chat").answer_many([chat("a Cat")], Sampling(max_tokens=8), [0])[0]
    assert tokenizer.decode(made, skip_special_tokens=True).strip() == ours.text


def test_what_is_no_chat_model_is_said_in_one_line(model: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a language model that is on this machine") as caught:
        load_chat_model(tmp_path / "none")
    assert "\n" not in str(caught.value)
    save_chat_model(model.model, model.tokenizer, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_chat_model(tmp_path / "mute")
    with pytest.raises(ModelError, match="shorten the prompt"):
        model.answer_many([chat("dog " * 200)], Sampling(), [0])
    with pytest.raises(ConfigError, match="at least"):
        new_chat_tokenizer(TEXTS, 100)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40))
def test_a_long_prompt_of_the_same_scene_keeps_every_fact(seed: int) -> None:
    scene = sample_scene(seed, "train")
    short, long = describe(scene, "short"), describe(scene, "long")
    assert lost_facts(short, long) == [] and made_up(short, long) == []


def test_lost_and_made_up_facts_are_named() -> None:
    base = "two red cars behind a tiny dog on the beach at night, oil painting"
    assert lost_facts(base, base) == [] and made_up(base, base) == []
    assert "2 car" in lost_facts(base, base.replace("two red cars", "three red cars"))
    assert "red car" in lost_facts(base, base.replace("red", "blue"))
    assert "dog" in lost_facts(base, base.replace("dog", "cat")) and made_up(base, base.replace("dog", "cat")) == [
        "cat"
    ]
    assert "time night" in lost_facts(base, base.replace(" at night", ""))
    assert "style oil painting" in lost_facts(base, base.replace(", oil painting", ""))
    assert kept_share([base, base], [base, base.replace("red", "blue")]) == 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pairs") / "data")


def recipe(tmp: Path, data: Path, **trainer: Any) -> list[str]:
    settings_ = {
        "seed_everything": 1,
        "output": str(tmp / "run"),
        "threads": 1,
        "model": {
            "model": {"vocab_size": 400, "config": {**CONFIG, "max_position_embeddings": 256}},
            "optimiser": {"lr": 3e-3, "muon_lr": 0.02, "warmup_steps": 2},
            "validate": {"texts": 3, "storybook": True, "max_tokens": 20},
        },
        "data": {"source": {"train": str(data), "held_out": 8}, "batch_size": 8},
        "ema": {"decay": 0.9},
        "keep": {"steps": 3},
        "trainer": {"max_steps": 6, "log_every_n_steps": 1, "accelerator": "cpu", **trainer},
    }
    (tmp / "recipe.yaml").write_text(yaml.safe_dump(settings_))
    return ["train", "upsampler", "--config", str(tmp / "recipe.yaml")]


def power_cut(module: UpsamplerTraining, total: torch.Tensor, losses: object, number: int) -> None:
    """Ends a run after its checkpoint at step 3."""
    if number == 4:
        raise InterruptedError


def test_an_upsampler_trains_resumes_and_loads(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert main(recipe(whole, data, val_check_interval=3)) == 0
    losses = {step: float(loss) for step, loss in logged(whole / "run", "train/loss").items()}
    assert set(losses) == set(range(6)) and losses[5] < losses[0]
    assert len(logged(whole / "run", "val/facts_kept")) == 2
    answer = load_chat_model(whole / "run" / "last").answer_many([chat("a cat")], Sampling(max_tokens=5), [0])[0]
    assert answer.tokens <= 5
    assert json.loads((whole / "run" / "last" / "config.json").read_text())["model_type"] == "llama"
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(UpsamplerTraining, "check", power_cut)
        main(recipe(parts, data))
    assert main([*recipe(parts, data), "--resume"]) == 0
    again = {step: float(loss) for step, loss in logged(parts / "run", "train/loss").items()}
    assert again == pytest.approx(losses, abs=1e-5), "a resumed run sees the same batches"
    capsys.readouterr()
    assert main([*recipe(tmp_path, data), "--data.source.long=storys"]) == 2
    assert "storys" in capsys.readouterr().err
