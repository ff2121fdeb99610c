"""Measures of likeness against their libraries called plainly, with random weights at the places of the real ones."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_likeness import add_repository, save_alexnet, save_dreamsim, save_inception, scenes
from tiny_model import save_model
from tiny_towers import add_tokenizer, save_open_clip, save_timm, save_transformers

from img2prompt.companions import Companions, Models
from img2prompt.comparison import Comparer
from img2prompt.models.coca import load_coca
from img2prompt.models.generation import CocaCaptioner
from img2prompt.models.likelihood import Likelihood
from img2prompt.models.ssim import ssim
from img2prompt.presets import BUNDLED, resolve


class Predicting:
    """What a comparer needs of a predictor."""

    def __init__(self, folder: Path) -> None:
        self.rater = self
        self.models = Models(resolve(str(folder)), "cpu", Companions())


class Rows(torch.utils.data.Dataset):
    """Tensors, one after the other, as torch-fidelity takes them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.rows[place]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's hub cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert torch.hub.get_dir() == str(tmp_path / "torch" / "hub")
    return tmp_path / "torch" / "hub"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hugging Face cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


def pixels(image: Image.Image) -> torch.Tensor:
    """(1,3,H,W) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def plain_ssim(one: np.ndarray, two: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, window by window; grey pictures (H,W) in 0..1."""
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    window /= window.sum()
    one, two = np.pad(one, 5, "reflect"), np.pad(two, 5, "reflect")
    values = []
    for y in range(one.shape[0] - 10):
        for x in range(one.shape[1] - 10):
            a, b = one[y : y + 11, x : x + 11], two[y : y + 11, x : x + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            shared = (window * (a - mean_a) * (b - mean_b)).sum()
            top = (2 * mean_a * mean_b + 0.01**2) * (2 * shared + 0.03**2)
            values.append(top / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)))
    return float(np.mean(values))


def test_ssim_is_that_of_its_paper() -> None:
    one, two = np.random.default_rng(0).integers(0, 256, (2, 20, 24), dtype=np.uint8)
    two[:, :12] = one[:, :12]
    rgb = [np.repeat(grey[None, ..., None], 3, axis=3) for grey in (one, two)]
    assert ssim(*rgb) == pytest.approx([plain_ssim(one / 255, two / 255)], abs=1e-4)
    assert ssim(rgb[0], rgb[0]) == pytest.approx([1])


def test_lpips_is_the_package_called_plainly(hub: Path) -> None:
    lpips = pytest.importorskip("lpips")
    save_alexnet(hub)
    images = scenes(3)
    found = Comparer.open(["lpips"], device="cpu").images(images, [images[0], images[2], images[1]])["lpips"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = lpips.LPIPS(net="alex", verbose=False)
    wanted = plain(pixels(images[1]) * 2 - 1, pixels(images[2]) * 2 - 1).item()
    assert wanted > 0.01
    assert found == pytest.approx([0, wanted, wanted], rel=1e-4, abs=1e-7)


def test_lpips_takes_its_trunk_from_a_folder_too_and_no_other(hub: Path, tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    skipped = Comparer.open(["lpips"], device="cpu").skipped["lpips"]
    assert "alexnet-owt-7be5be79.pth" in skipped and str(hub) in skipped and "get it with: python -c" in skipped
    path = hub / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>not found</html>")
    assert "damaged" in Comparer.open(["lpips"], device="cpu").skipped["lpips"]
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    assert "not the weights of AlexNet" in Comparer.open(["lpips"], device="cpu").skipped["lpips"]
    folder = save_alexnet(tmp_path).parent  # searched before the cache
    assert list(Comparer.open(["lpips"], device="cpu", weights=folder).rows) == ["lpips"]


def test_weights_that_would_run_code_are_not_run(hub: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    path = hub / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True)
    torch.save(Bomb(), path)
    assert "is not run" in Comparer.open(["fid"], device="cpu").skipped["fid"]
    assert not (tmp_path / "ran").exists()


def test_a_missing_library_is_named_with_its_install_line(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lpips", "dreamsim", "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, module, None)
    comparer = Comparer.open(["lpips", "dreamsim", "fid", "ssim"], device="cpu")
    assert list(comparer.rows) == ["ssim"]
    assert all("pip install 'img2prompt[likeness]'" in comparer.skipped[name] for name in ("lpips", "dreamsim", "fid"))


def test_dreamsim_is_the_package_called_plainly(hub: Path) -> None:
    dreamsim = pytest.importorskip("dreamsim").dreamsim
    folder = save_dreamsim(hub)
    one, two = scenes(2)
    found = Comparer.open(["dreamsim"], device="cpu").images([one, one, one], [one, two, two])["dreamsim"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, look = dreamsim(device="cpu", cache_dir=str(folder), dreamsim_type="open_clip_vitb32")
    wanted = model(look(one), look(two)).item()
    assert wanted > 1e-3
    assert found == pytest.approx([0, wanted, wanted], rel=1e-3, abs=1e-6)


def test_fid_and_kid_are_those_of_torch_fidelity(hub: Path) -> None:
    fidelity = pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = save_inception(hub)
    ours, theirs = scenes(3, 48), scenes(3, 48, first=50)
    comparer = Comparer.open(["fid", "kid"], device="cpu")
    found = comparer.sets(ours, theirs)
    first, second = (torch.cat([(pixels(image) * 255).byte() for image in some]) for some in (ours, theirs))
    wanted = fidelity.calculate_metrics(
        input1=Rows(first),
        input2=Rows(second),
        kid=True,
        kid_subset_size=3,
        kid_subsets=1,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(path),
    )
    assert found["kid"] == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-3)
    # Its FID takes the root of a matrix of 2048 x 2048; of three pictures each, its trace is a sum of three numbers.
    net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    one, two = (net(some)[0].double() for some in (first, second))  # (3,2048)
    spread = [some - some.mean(0) for some in (one, two)]
    traces = sum((some**2).sum() / 2 for some in spread) - torch.linalg.svdvals(spread[0] @ spread[1].T).sum()
    assert found["fid"] == pytest.approx(((one.mean(0) - two.mean(0)) ** 2).sum().add(traces).item(), rel=1e-3)
    assert found["fid"] > 1
    few = comparer.sets(ours[:1], theirs)
    assert np.isnan(list(few.values())).all()
    assert comparer.undefined == {f"{name}: a set has fewer than two pictures": 1 for name in ("fid", "kid")}


def test_clip_from_either_format(cache: Path) -> None:
    def write(folder: Path) -> None:
        save_transformers(folder, "clip")
        add_tokenizer(folder)

    names = ["clip_i", "clip_score"]
    assert "img2prompt pull hf-hub:openai/clip" in Comparer.open(names, device="cpu").skipped["clip_score"]
    folder = add_repository(cache, "openai/clip-vit-base-patch32", write)
    images, texts = scenes(3, 32), ["a cat", "two red dogs", "a cat"]
    comparer = Comparer.open(names, device="cpu")
    found = comparer.images(images, images[::-1])["clip_i"]
    scores = comparer.texts(images, texts)["clip_score"]

    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    seen = torch.cat(
        [(pixels(image) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None] for image in images]
    )
    with torch.inference_mode():
        emb = torch.nn.functional.normalize(model.get_image_features(pixel_values=seen).pooler_output, dim=-1)
        rows = tokenizer(texts, padding=True, return_tensors="pt")
        said = torch.nn.functional.normalize(model.get_text_features(**rows).pooler_output, dim=-1)
    assert found == pytest.approx((emb * emb.flip(0)).sum(1).numpy(), abs=1e-4)
    assert scores == pytest.approx(2.5 * (emb * said).sum(1).numpy().clip(0), abs=1e-4)
    assert comparer.settings()["clip_i"] == "transformers:openai/clip-vit-base-patch32"


def test_clip_of_open_clip_needs_the_real_architecture(cache: Path) -> None:
    add_repository(cache, "timm/vit_base_patch32_clip_224.openai", save_open_clip)  # a tiny one under the real name
    skipped = Comparer.open(["clip_i"], device="cpu").skipped["clip_i"]
    assert "the configuration wants" in skipped or "missing" in skipped


def test_dino_is_timm_called_plainly(cache: Path) -> None:
    import timm

    folder = add_repository(cache, "timm/vit_small_patch16_224.dino", save_timm)
    add_repository(cache, "facebook/dinov2-base", lambda folder: save_transformers(folder, "dinov2"))
    images = scenes(2, 32)
    comparer = Comparer.open(["dino_i", "dinov2_i"], device="cpu")
    found = comparer.images(images, images[::-1])
    net = timm.create_model("local-dir:" + str(folder), pretrained=True).eval()
    mean, std = (torch.tensor(net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        emb = net.forward_features(torch.cat([(pixels(image) - mean) / std for image in images]))[:, 0]
    wanted = torch.nn.functional.cosine_similarity(emb[0], emb[1], dim=0).item()
    assert found["dino_i"] == pytest.approx([wanted, wanted], abs=1e-4)
    assert found["dinov2_i"][0] == pytest.approx(found["dinov2_i"][1]) and found["dinov2_i"][0] < 0.99999


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("coca"))


def test_likelihood_of_the_captioners_own_words_is_what_it_says() -> None:
    loaded = load_coca(BUNDLED / "captioner")  # a random model writes bytes that no text encodes to again
    images = scenes(3, 128)
    rows = CocaCaptioner(loaded).caption_many(images, candidates=3, style="short")
    pairs = [(image, candidate) for image, row in zip(images, rows, strict=True) for candidate in row]
    texts, wanted = [c.prompt for _, c in pairs], [c.mean_log_likelihood for _, c in pairs]
    best = Likelihood(loaded).score_many([image for image, _ in pairs], texts)
    assert (best >= np.array(wanted) - 1e-4).all()  # another style may like the words better
    loaded.config["img2prompt"]["prefixes"] = {"short": loaded.prefixes["short"]}
    found = Likelihood(loaded, batch_size=4).score_many([image for image, _ in pairs], texts)
    same = [len(loaded.tokenizer.encode(c.prompt)) + 1 == c.token_count for _, c in pairs]
    assert sum(same) >= 6
    assert found[same] == pytest.approx(np.array(wanted)[same], abs=1e-4)


def test_likelihood_is_that_of_the_model_called_plainly(coca: Path) -> None:
    loaded = load_coca(coca)
    image, text = scenes(1)[0], "two red dogs"
    ids = [loaded.tokenizer.sot_id, *loaded.tokenizer.encode(text), loaded.tokenizer.eot_id]
    with torch.inference_mode():
        out = loaded.model(loaded.transform()(image)[None], torch.tensor([ids[:-1]]), output_labels=False)
    steps = out["logits"][0].log_softmax(-1)
    wanted = np.mean([steps[place, token].item() for place, token in enumerate(ids[1:])])
    assert Likelihood(loaded).score_many([image], [text]) == pytest.approx([wanted], abs=1e-4)


def test_likelihood_takes_the_best_style_and_reads_what_fits(coca: Path, tmp_path: Path) -> None:
    plain, styled = load_coca(coca), load_coca(coca)
    styled.config["img2prompt"] = {"prefixes": {"short": "a", "long": "two"}}
    images, text = scenes(2), "red cat on a beach"
    each = []
    for prefix in ("a", "two"):
        single = load_coca(coca)
        single.config["img2prompt"] = {"prefixes": {"one": prefix}}
        each.append(Likelihood(single).score_many(images, [text] * 2))
    assert Likelihood(styled).score_many(images, [text] * 2) == pytest.approx(np.max(each, axis=0), abs=1e-5)
    assert not np.allclose(*each)
    long = "red cat " * 40
    same = Likelihood(plain).score_many(images[:1] * 2, [long, long + "and more"])
    assert same[0] == pytest.approx(same[1]) and np.isfinite(same).all()
    assert np.isfinite(Likelihood(plain).score_many(images[:1], [""])).all()
    assert Likelihood(plain).score_many([], []).shape == (0,)


def test_coca_cosine_is_open_clips(coca: Path) -> None:
    predictor = Predicting(coca)
    images, texts = scenes(2), ["a red cat", "two dogs"]
    comparer = Comparer.open(["coca_cosine", "regressor_cosine"], device="cpu", predictor=predictor)
    loaded = load_coca(coca)
    from img2prompt.models.tokenizer import token_rows

    with torch.inference_mode():
        emb = loaded.model.encode_image(torch.stack([loaded.transform()(image) for image in images]), normalize=True)
        said = loaded.model.encode_text(token_rows(loaded.tokenizer, texts, loaded.context_length), normalize=True)
    assert comparer.texts(images, texts)["coca_cosine"] == pytest.approx((emb * said).sum(1).numpy(), abs=1e-4)
    assert "brings no regressor" in comparer.skipped["regressor_cosine"]
