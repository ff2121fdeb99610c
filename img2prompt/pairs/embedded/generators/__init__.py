"""One file a family of generators; a row of GENERATORS reads one family's fields into an EmbeddedPrompt.

The order matters: files often carry fields of two families (SwarmUI and Forge nodes also keep ComfyUI's graph, newer
NovelAI files also a plain description), and the more explicit statement comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.a1111 import read_a1111
from img2prompt.pairs.embedded.generators.comfyui import read_comfyui
from img2prompt.pairs.embedded.generators.described import read_described
from img2prompt.pairs.embedded.generators.drawthings import read_drawthings
from img2prompt.pairs.embedded.generators.easydiffusion import read_easydiffusion
from img2prompt.pairs.embedded.generators.fooocus import read_fooocus
from img2prompt.pairs.embedded.generators.invokeai import read_invokeai
from img2prompt.pairs.embedded.generators.novelai import read_novelai
from img2prompt.pairs.embedded.generators.sites import read_sites
from img2prompt.pairs.embedded.generators.swarmui import read_swarmui
from img2prompt.results import EmbeddedPrompt

GENERATORS: Mapping[str, Callable[[Fields], EmbeddedPrompt | None]] = MappingProxyType(
    {
        "SwarmUI": read_swarmui,
        "Fooocus": read_fooocus,
        "NovelAI": read_novelai,
        "InvokeAI": read_invokeai,
        "Draw Things": read_drawthings,
        "AUTOMATIC1111": read_a1111,
        "Civitai, TensorArt": read_sites,
        "ComfyUI": read_comfyui,
        "Easy Diffusion": read_easydiffusion,
        "described": read_described,  # Midjourney, DALL-E and others that write a description
    }
)
