"""Chat models that have a name. Repositories and licences are those of the models' cards; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LanguagePreset:
    """One chat model of the Hugging Face hub."""

    name: str
    repository: str
    licence: str
    size_gb: float  # of the weights, 10**9 bytes
    gated: bool = False  # the hub gives it to accounts that agreed to the licence


LANGUAGE_PRESETS: dict[str, LanguagePreset] = {
    preset.name: preset
    for preset in (
        LanguagePreset("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "Apache-2.0", 0.7),
        LanguagePreset("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0", 3.4),
        LanguagePreset("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", "Apache-2.0", 3.1),
        LanguagePreset("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", "Apache-2.0", 15.2),
        LanguagePreset("qwen3-4b", "Qwen/Qwen3-4B-Instruct-2507", "Apache-2.0", 8.0),
        LanguagePreset("llama-3.2-1b", "meta-llama/Llama-3.2-1B-Instruct", "Llama 3.2 Community", 2.5, gated=True),
        LanguagePreset("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", "Llama 3.2 Community", 6.4, gated=True),
        LanguagePreset("zephyr-7b", "HuggingFaceH4/zephyr-7b-beta", "MIT", 14.5),
    )
}
