"""Cached decoding: the tokens of open_clip's own `generate`, and what it has beyond them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import TopPLogitsWarper

from img2prompt.errors import ConfigError, ModelError
from img2prompt.models.coca import load_coca, new_coca, save_coca
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.generation import CocaCaptioner, Hypothesis, decode, fast_dtype, generate
from img2prompt.models.packed_linear import PackedLinear
from img2prompt.models.sampling import draw, log_normalizer, top_values, uniforms
from img2prompt.models.tokenizer import token_rows, train_tokenizer
from img2prompt.models.writing import decode_together

PAD, START, END = 0, 1, 2
IDS = TokenIds(START, END, PAD)
LENGTH = 14


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products lose time when two threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bench() -> ModuleType:
    """The benchmark's part that makes open_clip's own loop run beside transformers 5."""
    path = Path(__file__).parents[1] / "scripts" / "bench" / "captioning_peer.py"
    spec = importlib.util.spec_from_file_location("captioning_peer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(
    vocab_size: int, heads: int = 2, layers: tuple[int, int] = (2, 2), pool: Any = True, **more: Any
) -> dict[str, Any]:
    vision = {"image_size": 24, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1, "output_tokens": True}
    sizes = {"width": 32, "heads": heads, "context_length": 24, "vocab_size": vocab_size}
    return {
        "embed_dim": 32,
        "vision_cfg": vision | {"attentional_pool": pool, "attn_pooler_queries": 6, "attn_pooler_heads": 2},
        "text_cfg": sizes | {"embed_cls": True, "output_tokens": True, "layers": layers[0]},
        "multimodal_cfg": sizes | {"attn_pooler_heads": 2, "layers": layers[1]},
    } | more


def lively(cfg: dict[str, Any], seed: int, likes_padding: float = 0.0) -> Any:
    """A random model whose captions differ, end at different places and use the padding token now and then."""
    model = new_coca(cfg, seed).eval()
    with torch.no_grad():
        model.text_decoder.text_projection.mul_(3)
        model.text.token_embedding.weight.mul_(20)
        padding = model.text_decoder.text_projection[:, PAD]
        model.text_decoder.ln_final.bias.copy_(likes_padding * padding / padding.square().sum())  # adds to its logit
    return model


CONFIGS = {
    "own": config(97),
    "vocabulary of 3000": config(3000, heads=4, layers=(1, 3)),
    "tiny vocabulary": config(24, layers=(3, 1)),
    "parallel": config(60, pool="parallel"),
    "cascade": config(60, pool="cascade"),
    "patches": config(60, pool=False),
    "quick gelu": config(60, quick_gelu=True),
}
SEARCHES: dict[str, tuple[dict[str, Any], Decoding]] = {
    "greedy": ({"generation_type": "top_k", "top_k": 1}, Decoding("greedy", LENGTH)),
    "greedy, penalties": (
        {"generation_type": "top_k", "top_k": 1, "repetition_penalty": 1.7, "min_seq_len": 8},
        Decoding("greedy", LENGTH, 8, repetition_penalty=1.7),
    ),
    "beam": ({"generation_type": "beam_search"}, Decoding("beam", LENGTH)),
    "beam, one group": (
        {"generation_type": "beam_search", "num_beams": 5, "num_beam_groups": 1, "min_seq_len": 1},
        Decoding("beam", LENGTH, 1, beams=5, groups=1),
    ),
    "beam, penalties": (
        {"generation_type": "beam_search", "num_beams": 4, "num_beam_groups": 2, "repetition_penalty": 1.3},
        Decoding("beam", LENGTH, beams=4, groups=2, repetition_penalty=1.3),
    ),
}


def pictures(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(count)) * 3


def ours(model: Any, images: torch.Tensor, settings: Decoding, **more: Any) -> list[tuple[Hypothesis, ...]]:
    decoder = CachedDecoder(model)
    with torch.inference_mode():
        tokens = decoder.encode(images)[1]
    return decode(decoder, tokens, settings, IDS, **more)


@pytest.mark.parametrize("name", ["own", "tiny vocabulary", "patches"])
def test_searches_that_go_together_find_what_each_finds_alone(name: str) -> None:
    model = lively(CONFIGS[name], 3, likes_padding=2.0)
    images, seeds = pictures(5), [4, 0, 4, 9, 1]
    plans = [
        Decoding("beam", LENGTH, beams=3, groups=1, candidates=2),
        Decoding("sample", LENGTH, top_p=0.9, candidates=4),
        Decoding("greedy", LENGTH),
    ]
    decoder = CachedDecoder(model)
    with torch.inference_mode():
        tokens = decoder.encode(images)[1]
    together = decode_together(decoder, tokens, plans, IDS, seeds=seeds)
    for plan, found in zip(plans, together, strict=True):
        alone = decode(decoder, tokens, plan, IDS, seeds=seeds)
        for image, one, two in zip(images, alone, found, strict=True):
            assert len(one) == len(two) == plan.candidates
            for a, b in zip(one, two, strict=True):
                assert a.tokens == b.tokens or tied(model, image[None], list(a.tokens), list(b.tokens))


def test_searches_of_different_lengths_do_not_go_together() -> None:
    decoder = CachedDecoder(lively(CONFIGS["own"], 0))
    with pytest.raises(ValueError, match="one max_tokens"):
        decode_together(decoder, torch.zeros(1, 5, 32), [Decoding(max_tokens=8), Decoding(max_tokens=9)], IDS)


def trimmed(row: list[int]) -> list[int]:
    row = row[: row.index(END) + 1] if END in row else list(row)
    while row[-1] == PAD:
        row.pop()
    return row


def logits_of(model: Any, image: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """(T,V) of the plain uncached model."""
    with torch.no_grad():
        out: torch.Tensor = model(image, torch.tensor([tokens]), output_labels=False)["logits"][0]
    return out


def tied(model: Any, image: torch.Tensor, one: list[int], two: list[int]) -> bool:
    """Whether two captions part where two tokens, or end with scores, that rounding can turn round."""
    at = next(i for i, (a, b) in enumerate(zip([*one, -1], [*two, -1], strict=False)) if a != b)
    scores = [
        logits_of(model, image, t)[:-1].gather(1, torch.tensor(t[1:])[:, None]).sum() / len(t) for t in (one, two)
    ]
    step = logits_of(model, image, one[:at])[-1].topk(2).values
    return bool(abs(scores[0] - scores[1]) < 1e-4 or step[0] - step[1] < 1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_those_of_open_clip(name: str) -> None:
    bench().enable_generate()
    tiny = name == "tiny vocabulary"
    lengths, with_padding, same, count = set(), 0, 0, 0
    for seed in range(3 if tiny else 1):
        model, images = lively(CONFIGS[name], seed, 4.0 if tiny else 0.0), pictures(3)
        for arguments, search in SEARCHES.values():
            with torch.no_grad():
                rows = model.generate(images, seq_len=LENGTH, sot_token_id=START, eos_token_id=END, **arguments)
            found = ours(model, images, search)
            for image, row, (best, *_) in zip(images, rows.tolist(), found, strict=True):
                theirs, mine = trimmed(row), trimmed(list(best.tokens))
                assert mine == theirs or tied(model, image[None], mine, theirs)
                lengths.add(len(mine))
                with_padding += PAD in mine
                same += mine == theirs
                count += 1
    assert same >= 0.9 * count  # ties are an exception
    if tiny:
        assert len(lengths) > 2 and with_padding  # else neither early ends nor the padding mask were tried


@pytest.mark.parametrize("arguments", [{"top_p": 0.7, "temperature": 1.5}, {"top_k": 7}, {"top_p": 0.9}])
def test_with_its_own_draws_sampling_is_open_clips(arguments: dict[str, Any]) -> None:
    bench().enable_generate()
    model, images = lively(CONFIGS["tiny vocabulary"], 3), pictures(5)
    kind = "top_p" if "top_p" in arguments else "top_k"
    torch.manual_seed(0)
    rows = model.generate(
        images, seq_len=LENGTH, sot_token_id=START, eos_token_id=END, generation_type=kind, **arguments
    )
    temperature = arguments.get("temperature", 1.0)

    def drawn_by(logits: torch.Tensor) -> torch.Tensor:
        if kind == "top_p":
            logits = TopPLogitsWarper(arguments["top_p"])(None, logits)
        else:
            logits = logits.masked_fill(logits < logits.topk(7).values[:, -1:], -torch.inf)
        return torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]

    torch.manual_seed(0)
    found = ours(model, images, Decoding("sample", LENGTH), drawn_by=drawn_by)
    assert [trimmed(list(best.tokens)) for best, *_ in found] == [trimmed(row) for row in rows.tolist()]


@pytest.mark.parametrize("search", [Decoding("greedy", LENGTH), Decoding("beam", LENGTH, normalized=True)])
def test_a_forced_prefix_is_read_and_the_likelihoods_are_the_models(search: Decoding) -> None:
    model, images, prefix = lively(CONFIGS["own"], 1), pictures(3), [7, PAD, 9]
    for image, (best, *_) in zip(images, ours(model, images, search, prefix=prefix), strict=True):
        tokens = list(best.tokens)
        assert tokens[:4] == [START, *prefix]
        logits = logits_of(model, image[None], tokens)
        expected = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[3:, 0]
        assert torch.allclose(torch.tensor(best.log_likelihoods), expected, atol=1e-4)
        if search.strategy == "greedy":
            logits[:4, END] = -torch.inf  # 5 tokens at least
            assert tokens[4:-1] == logits[3:-2].argmax(-1).tolist()
        else:
            assert best.score == pytest.approx(float(expected.sum()) / len(tokens), abs=1e-4)


@pytest.mark.parametrize("search", [Decoding("sample", LENGTH, top_p=0.8, candidates=3), Decoding("sample", LENGTH)])
def test_a_seeded_caption_is_the_same_alone_and_in_a_batch(search: Decoding) -> None:
    model, images, seeds = lively(CONFIGS["own"], 0), pictures(64), list(range(100, 164))
    batch = ours(model, images, search, seeds=seeds)
    assert len({best.tokens for best, *_ in batch}) > 32
    for index in (0, 17, 63):
        alone = ours(model, images[index : index + 1], search, seeds=seeds[index : index + 1])
        assert [h.tokens for h in alone[0]] == [h.tokens for h in batch[index]]
    other = ours(model, images[:1], search, seeds=[7])
    assert [h.tokens for h in other[0]] != [h.tokens for h in batch[0]]


@pytest.mark.parametrize(("hypotheses", "count"), [(1, 3), (1, 12), (2, 3)])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_norms_biases_and_scales_that_were_trained_are_read(hypotheses: int, count: int, scale: float | None) -> None:
    """Random models have none, and some of them are folded into weights."""
    cfg = config(60)
    cfg["text_cfg"]["ls_init_value"] = cfg["multimodal_cfg"]["ls_init_value"] = scale
    model, noise = new_coca(cfg, 5).eval(), torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() == 1 and not name.startswith("visual"):
                value.add_(0.5 * torch.randn(value.shape, generator=noise))
    images, tokens = pictures(3), torch.randint(1, 60, (3, count), generator=noise)
    decoder = CachedDecoder(model)
    with torch.inference_mode():
        cache = decoder.start(decoder.encode(images)[1], hypotheses, count, count + 2)
        logits = decoder.read_texts(cache, tokens)
        assert len({image.dim() for image in cache.image}) == 1
        assert (cache.image[0].dim() == 3) == (hypotheses == 1 and count == 3)
    for image, row, found in zip(images, tokens.tolist(), logits, strict=True):
        assert torch.allclose(found, logits_of(model, image[None], row), atol=1e-4)


def test_pictures_are_encoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = lively(CONFIGS["own"], 0), pictures(5)
    with torch.inference_mode():
        pooled, tokens = CachedDecoder(model).encode(images)
        monkeypatch.setattr(
            "img2prompt.models.decoding_cache._WIDEST", 2 * 4 * 10 * 32 * 4
        )  # two pictures of 10 places
        seen: list[int] = []
        whole = model._encode_image

        def counted(some: torch.Tensor) -> Any:
            seen.append(len(some))
            return whole(some)

        monkeypatch.setattr(model, "_encode_image", counted)
        again = CachedDecoder(model).encode(images)
    assert seen == [2, 2, 1]
    assert torch.allclose(again[0], pooled, atol=1e-6) and torch.allclose(again[1], tokens, atol=1e-5)


@pytest.mark.parametrize("shape", [(48, 32), (520, 512), (8200, 32)])  # small, packed, as wide as a vocabulary
@pytest.mark.parametrize("rows", [1, 3, 5, 300])
def test_what_follows_a_packed_product_comes_with_it(shape: tuple[int, int], rows: int) -> None:
    weight, bias, x = torch.randn(shape), torch.randn(shape[0]), torch.randn(rows, shape[1])
    plain = torch.nn.functional.linear(x, weight, bias)
    for gelu in (False, True):
        expected = torch.nn.functional.gelu(plain) if gelu else plain
        layer, residual = PackedLinear(weight, bias, gelu), torch.randn_like(plain)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer(x, residual.clone()), expected + residual, atol=1e-4, rtol=1e-4)


def many_uniforms(rows: int) -> torch.Tensor:
    """What `uniforms` gives, in one piece: (rows, trials + 1)."""
    trials = uniforms([0], 1, 1).shape[2]
    return torch.rand(rows, trials, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(("top_p", "temperature"), [(0.9, 1.0), (0.3, 1.0), (0.05, 1.0), (0.8, 2.0)])
def test_draws_follow_the_nucleus_without_a_sort(top_p: float, temperature: float) -> None:
    row = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 2
    count = 20_000
    drawn = draw(row.expand(count, -1), many_uniforms(count), temperature=temperature, top_k=None, top_p=top_p)
    expected = (TopPLogitsWarper(top_p)(None, row) / temperature).softmax(-1)[0]
    seen = drawn.bincount(minlength=50) / count
    assert not (seen[expected == 0] > 0).any()
    assert (seen - expected).abs().max() < 5 * (0.25 / count) ** 0.5


def test_draws_of_top_k_and_of_everything_follow_their_distributions() -> None:
    row, count = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)), 20_000
    random = many_uniforms(count)
    for top_k, top_p in ((None, None), (5, None), (20, 0.5)):
        kept = row if top_k is None else row.masked_fill(row < row.topk(top_k).values[:, -1:], -torch.inf)
        kept = kept if top_p is None else TopPLogitsWarper(top_p)(None, kept)
        drawn = draw(row.expand(count, -1), random, temperature=0.7, top_k=top_k, top_p=top_p)
        seen = drawn.bincount(minlength=50) / count
        assert (seen - (kept / 0.7).softmax(-1)[0]).abs().max() < 5 * (0.25 / count) ** 0.5


@given(st.integers(1, 6000), st.integers(1, 12), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_top_values_are_those_of_topk(size: int, count: int, seed: int) -> None:
    scores = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    count = min(count, size)
    values, indices = top_values(scores, count)
    assert torch.equal(values, scores.topk(count).values)
    assert torch.equal(scores.gather(1, indices), values)
    assert torch.allclose(log_normalizer(scores), scores.logsumexp(-1, keepdim=True), atol=1e-5)


def test_groups_with_a_penalty_differ_and_candidates_come_best_first() -> None:
    model, images = lively(CONFIGS["own"], 2), pictures(3)
    search = Decoding("beam", LENGTH, beams=4, groups=2, diversity_penalty=50.0, candidates=4, normalized=True)
    for found in ours(model, images, search):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({h.tokens for h in found}) >= 3
        assert len({h.tokens[1] for h in found}) >= 2  # the second group may not begin like the first
    plain = ours(model, images, Decoding("beam", LENGTH, beams=4, groups=1, candidates=4))
    assert all(len({h.tokens for h in found}) == 4 for found in plain)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "best"},
        {"max_tokens": 5},
        {"groups": 1, "beams": 1},
        {"beams": 5, "groups": 2},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"top_k": 0},
        {"candidates": 3},
        {"strategy": "greedy", "candidates": 2},
        {"repetition_penalty": 0.0},
    ],
)
def test_settings_out_of_range_name_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=list(wrong)[-1].split("_")[0]):
        Decoding(**wrong)


def test_what_a_model_cannot_do_is_said() -> None:
    model = lively(CONFIGS["own"], 0)
    with pytest.raises(ConfigError, match="positions for 24"):
        ours(model, pictures(1), Decoding(max_tokens=25))
    with pytest.raises(ConfigError, match="prefix"):
        ours(model, pictures(1), Decoding(max_tokens=8), prefix=list(range(3, 10)))
    with pytest.raises(ConfigError, match="seeds"):
        ours(model, pictures(2), Decoding("sample", LENGTH), seeds=[1])
    with pytest.raises(ModelError, match="causal"):
        cfg = config(60)
        cfg["text_cfg"]["no_causal_mask"] = True
        CachedDecoder(new_coca(cfg, 0))
    assert decode(CachedDecoder(model), torch.zeros(0, 5, 32), Decoding(max_tokens=9), IDS) == []


TEXTS = ["short: a red cat", "long: a red cat sleeps on a green beach", "tags: cat, beach", "short: two blue boats"]


def image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> CocaCaptioner:
    """A model that has learned two pictures by heart, through open_clip's own forward and its shifted labels."""
    cfg, tokenizer = config(330), train_tokenizer(TEXTS * 2, 330)
    prefixes = {"short": "short:", "long": "long:", "tags": "tags:"}
    folder = save_coca(
        new_coca(cfg, 0),
        {"model_cfg": cfg, "img2prompt": {"prefixes": prefixes}},
        tmp_path_factory.mktemp("t") / "m",
        tokenizer,
    )
    loaded = load_coca(folder)
    rows = token_rows(loaded.tokenizer, TEXTS, 24)
    pixels = torch.stack([loaded.transform()(image(seed)) for seed in (0, 0, 0, 1)])
    learner = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    for _ in range(80):
        out = loaded.model.train()(pixels, rows)
        loss = torch.nn.functional.cross_entropy(out["logits"].transpose(1, 2), out["labels"], ignore_index=PAD)
        learner.zero_grad()
        loss.backward()
        learner.step()
    loaded.model.eval()
    assert float(loss.detach()) < 0.2  # the first word of three texts of one picture cannot be known: 0.12
    return CocaCaptioner(loaded)


def test_a_captioner_says_what_it_has_learned_in_the_style_asked_for(taught: CocaCaptioner) -> None:
    said = {style: taught.caption_many([image(0)], style=style)[0][0] for style in ("short", "long", "tags")}
    assert said["short"].prompt == "a red cat"
    assert said["long"].prompt == "a red cat sleeps on a green beach"
    assert said["tags"].prompt == "cat, beach"
    assert -1.0 < said["short"].log_likelihood <= 0.0
    assert said["short"].token_count == len(taught.loaded.tokenizer.encode(" a red cat")) + 1
    assert taught.caption_many([image(1)])[0][0].prompt == "two blue boats"
    with pytest.raises(ConfigError, match="long, short, tags"):
        taught.caption_many([image(0)], style="poem")


def test_several_candidates_and_the_embedding(taught: CocaCaptioner) -> None:
    images = [image(seed) for seed in range(20)]  # more than one batch
    found = taught.describe_many(images, candidates=4, seed=5)
    assert [len(some) for some in found.candidates] == [4] * 20
    assert all(len({candidate.prompt for candidate in some}) == 4 for some in found.candidates)
    best = taught.caption_many(images[:3])
    assert [some[0].prompt for some in found.candidates[:3]] == [some[0].prompt for some in best]
    sampler = CocaCaptioner(taught.loaded, Decoding("sample", 24, 2, top_p=0.5))
    assert len(sampler.caption_many(images[:1], candidates=6)[0]) == 6, (
        "samples that were asked for stay, repeated or not"
    )
    assert found.features.shape == (20, 32) and found.features.dtype == torch.float32
    assert torch.allclose(found.features.norm(dim=1), torch.ones(20), atol=1e-5)
    alone = taught.describe_many(images[3:4], candidates=4, seed=5)
    assert [c.prompt for c in alone.candidates[0]] == [c.prompt for c in found.candidates[3]]
    greedy = CocaCaptioner(taught.loaded, Decoding("greedy", 24, 2))
    assert greedy.caption_many(images[:2])[0][0].prompt == "a red cat"
    assert len(greedy.caption_many(images[:1], candidates=3)[0]) == 3
    assert taught.caption_many([]) == []


def test_the_function_reads_the_prefix_from_the_settings(taught: CocaCaptioner) -> None:
    pixels = taught.loaded.transform()(image(0))[None]
    settings = Decoding("beam", 24, 2, beams=3, groups=1, normalized=True, prefix="tags:")
    ((best,),) = generate(taught.loaded, pixels, settings)
    assert taught.loaded.tokenizer.decode(best.tokens) == "tags: cat, beach"


def test_bfloat16_gives_a_caption_too(taught: CocaCaptioner) -> None:
    loaded = load_coca(taught.loaded.source, dtype=torch.bfloat16)
    loaded.model.load_state_dict(taught.loaded.model.state_dict())
    assert CocaCaptioner(loaded).caption_many([image(0)])[0][0].prompt == "a red cat"
    assert fast_dtype("cpu") in (torch.float32, torch.bfloat16)
