"""`METRICS`: one row a metric, whatever computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from img2prompt.metrics.pictures import colour_distance
from img2prompt.metrics.statistics import auroc
from img2prompt.metrics.texts import bleu, cider_d, identical_share, mean_cosine

Kind = Literal["texts", "images", "image-text", "sets", "statistic"]

_LIKENESS = "likeness"
_CLIP = (
    "CLIP ViT-B/32 of OpenAI in the Hugging Face cache, as openai/clip-vit-base-patch32 (transformers' format) or as"
    " timm/vit_base_patch32_clip_224.openai (open_clip's)"
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of `METRICS`.

    Attributes:
        function: arrays or texts in, one float out; None: a model measures it, see the room `comparison`.
        range: smallest and largest value.
        higher_is_better: the direction.
        source: where the definition comes from.
        kind: what it compares: texts with texts, pictures with pictures, a picture with a text, sets of pictures with
            each other; or a statistic of scores.
        weights: what has to lie on this machine for it, where, and who publishes it; None: nothing but the package.
        needs: the extra that installs its library; None: none.
    """

    function: Callable[..., float] | None
    range: tuple[float, float]
    higher_is_better: bool
    source: str
    kind: Kind = "texts"
    weights: str | None = None
    needs: str | None = None


METRICS: dict[str, Metric] = {
    "mean_cosine": Metric(mean_cosine, (-1.0, 1.0), True, "Kaggle: Stable Diffusion - Image to Prompts, 2023"),
    "bleu": Metric(bleu, (0.0, 1.0), True, "Papineni et al., ACL 2002"),
    "cider_d": Metric(cider_d, (0.0, 10.0), True, "Vedantam, Zitnick and Parikh, CVPR 2015"),
    "identical_share": Metric(identical_share, (0.0, 1.0), False, "this project"),
    "auroc": Metric(auroc, (0.0, 1.0), True, "Hanley and McNeil, 1982", "statistic"),
    "ssim": Metric(None, (-1.0, 1.0), True, "Wang et al., IEEE Transactions on Image Processing 2004", "images"),
    "lpips": Metric(
        None,
        (0.0, math.inf),
        False,
        "Zhang et al., CVPR 2018; AlexNet, linear weights 0.1",
        "images",
        weights="alexnet-owt-7be5be79.pth of torchvision (download.pytorch.org/models) in checkpoints/ of torch's hub"
        " cache, as torchvision.models.alexnet(weights='DEFAULT') leaves it",
        needs=_LIKENESS,
    ),
    "dreamsim": Metric(
        None,
        (0.0, 2.0),
        False,
        "Fu et al., NeurIPS 2023; the authors' OpenCLIP ViT-B/32 variant",
        "images",
        weights="open_clip_vitb32_pretrain.pth.tar and open_clip_vitb32_single_lora/ of DreamSim"
        " (github.com/ssundaram21/dreamsim, releases) in dreamsim/ of torch's hub cache",
        needs=_LIKENESS,
    ),
    "clip_i": Metric(
        None,
        (-1.0, 1.0),
        True,
        "Gal et al., ICLR 2023; image embeddings of Radford et al., ICML 2021",
        "images",
        weights=_CLIP,
    ),
    "dino_i": Metric(
        None,
        (-1.0, 1.0),
        True,
        "Ruiz et al. (DreamBooth), CVPR 2023; ViT-S/16 of Caron et al., ICCV 2021",
        "images",
        weights="DINO ViT-S/16 of Meta in the Hugging Face cache, as timm/vit_small_patch16_224.dino",
    ),
    "dinov2_i": Metric(
        None,
        (-1.0, 1.0),
        True,
        "as dino_i, with ViT-B/14 of Oquab et al., TMLR 2024",
        "images",
        weights="DINOv2 ViT-B/14 of Meta in the Hugging Face cache, as facebook/dinov2-base",
    ),
    "regressor_cosine": Metric(
        None,
        (-1.0, 1.0),
        True,
        "this project: cosine of the prompt embeddings that the regressor estimates for both pictures",
        "images",
        weights="the regressor of the preset",
    ),
    "colour_distance": Metric(colour_distance, (0.0, 1.0), False, "Swain and Ballard, IJCV 1991", "images"),
    "clip_score": Metric(
        None,
        (0.0, 2.5),
        True,
        "Hessel et al., EMNLP 2021, without its words before the text",
        "image-text",
        weights=_CLIP,
    ),
    "coca_likelihood": Metric(
        None,
        (-math.inf, 0.0),
        True,
        "after VQAScore (Lin et al., ECCV 2024): mean log-likelihood of a token of the text under the captioner",
        "image-text",
        weights="the captioner of the preset",
    ),
    "coca_probability": Metric(
        None,
        (0.0, 1.0),
        True,
        "coca_likelihood as the probability of a token, its geometric mean",
        "image-text",
        weights="the captioner of the preset",
    ),
    "coca_cosine": Metric(
        None,
        (-1.0, 1.0),
        True,
        "Yu et al. (CoCa), TMLR 2022: the captioner's contrastive embeddings",
        "image-text",
        weights="the captioner of the preset, where it was trained with the contrastive loss",
    ),
    "prompt_cosine": Metric(
        None,
        (-1.0, 1.0),
        True,
        "Reimers and Gurevych, EMNLP 2019: sentence embeddings of two prompts, all-MiniLM-L6-v2",
        "texts",
        weights="sentence-transformers/all-MiniLM-L6-v2 in the Hugging Face cache, or in the package of the extra",
        needs="offline",
    ),
    "fid": Metric(
        None,
        (0.0, math.inf),
        False,
        "Heusel et al., NeurIPS 2017, as torch-fidelity; too high by chance with few pictures",
        "sets",
        weights="weights-inception-2015-12-05-6726825d.pth of torch-fidelity (github.com/toshas/torch-fidelity,"
        " releases) in checkpoints/ of torch's hub cache",
        needs=_LIKENESS,
    ),
    "kid": Metric(
        None,
        (-math.inf, math.inf),
        False,
        "Binkowski et al., ICLR 2018, as torch-fidelity; no bias, so it may fall a little below 0",
        "sets",
        weights="as fid",
        needs=_LIKENESS,
    ),
}
