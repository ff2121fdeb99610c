"""Random pipelines of diffusers' real classes in its real folder format, small enough to make in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers

PX = 32  # of their pictures
TOKENS = 77  # start and end included; a letter is a token


def save_sd(folder: Path, *, seed: int = 0, safety: str | None = None) -> Path:
    """A StableDiffusionPipeline.

    Args:
        folder: to be made.
        seed: of the weights.
        safety: None: without a checker; "passes" or "flags": with one that does so for every picture.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPImageProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=tokenizer(),
            unet=_unet(cross_attention_dim=16),
            scheduler=DDIMScheduler(**_schedule(), clip_sample=False, set_alpha_to_one=False),
            safety_checker=None if safety is None else _safety_checker(flags=safety == "flags"),
            feature_extractor=None if safety is None else CLIPImageProcessor(size=16, crop_size=16),
            requires_safety_checker=safety is not None,
        )
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """A StableDiffusionXLPipeline: two text encoders, the sizes among the inputs, no checker."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionXLPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            text_encoder_2=_text_encoder(projected=True),
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            unet=_unet(
                cross_attention_dim=32,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=6 * 4 + 16,
            ),
            scheduler=EulerDiscreteScheduler(**_schedule(), timestep_spacing="leading"),
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def save_refiner(folder: Path, base: Path, *, seed: int = 1) -> Path:
    """A StableDiffusionXLImg2ImgPipeline without first text encoder, with the rest of a pipeline of `save_sdxl`."""
    from diffusers import DiffusionPipeline, StableDiffusionXLImg2ImgPipeline

    shared = DiffusionPipeline.from_pretrained(base, local_files_only=True).components
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _unet(
            cross_attention_dim=16,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=5 * 4 + 16,
        )
    pipeline = StableDiffusionXLImg2ImgPipeline(
        vae=shared["vae"],
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=shared["text_encoder_2"],
        tokenizer_2=shared["tokenizer_2"],
        unet=unet,
        scheduler=shared["scheduler"],
        requires_aesthetics_score=True,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_kandinsky(decoder: Path, prior: Path, *, seed: int = 0) -> None:
    """A KandinskyV22Pipeline, which takes embeddings, and the KandinskyV22PriorPipeline that makes them."""
    from diffusers import (
        DDPMScheduler,
        KandinskyV22Pipeline,
        KandinskyV22PriorPipeline,
        PriorTransformer,
        UnCLIPScheduler,
        UNet2DConditionModel,
        VQModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=PX // 2,
            in_channels=4,
            out_channels=8,
            addition_embed_type="image",
            encoder_hid_dim=16,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=8,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(4, 8),
            layers_per_block=1,
            attention_head_dim=2,
            norm_num_groups=2,
            resnet_time_scale_shift="scale_shift",
        )
        movq = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(32, 32),  # its norms have 32 groups, whatever is asked for
            latent_channels=4,
            vq_embed_dim=4,
            num_vq_embeddings=8,
            norm_num_groups=2,
            norm_type="spatial",
        )
        vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        before = KandinskyV22PriorPipeline(
            prior=PriorTransformer(num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=16),
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(**vision, image_size=16, patch_size=8, projection_dim=16)
            ),
            text_encoder=_text_encoder(projected=True),
            tokenizer=tokenizer(),
            scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0),
            image_processor=CLIPImageProcessor(size=16, crop_size=16),
        )
    schedule = DDPMScheduler(variance_type="learned_range", beta_start=0.00085, beta_end=0.012)
    KandinskyV22Pipeline(unet=unet, scheduler=schedule, movq=movq).save_pretrained(decoder)
    before.save_pretrained(prior)


def save_unconditional(folder: Path) -> Path:
    """A DDPMPipeline, which takes no prompt."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(4,), layers_per_block=1, norm_num_groups=2, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """CLIP's tokenizer without merges."""
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: place for place, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TOKENS)


def _schedule() -> dict[str, Any]:
    return {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=PX,
    )


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=PX // 2,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 8),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=2,
        **more,
    )


def _text_encoder(projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocab_size = len(pre_tokenizers.ByteLevel.alphabet()) * 2 + 2
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        initializer_factor=30.0,  # so that other words make another picture
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _safety_checker(flags: bool) -> Any:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=8)
    )
    with torch.no_grad():  # cosines above the weight of a concept are flagged
        checker.concept_embeds_weights.fill_(-1.01 if flags else 1.01)
        checker.special_care_embeds_weights.fill_(1.01)
    return checker
