"""ComfyUI: the executed graph ("prompt"), else the editor's ("workflow"), in PNG chunks or EXIF camera tags.

No list of samplers: from what is saved the walk goes back along pictures and latents to the first node that takes a
positive side, a guider or a prompt, and from there to the texts (comfy_texts.py) and settings.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from img2prompt.errors import MetadataError
from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.comfy_graph import Graph, Link, Node, Value, bare, read_api_graph
from img2prompt.pairs.embedded.generators.comfy_texts import Texts, carries_words, join_distinct, side_of
from img2prompt.pairs.embedded.generators.comfy_workflow import read_workflow_graph
from img2prompt.pairs.embedded.values import embedded, parse_object, real, whole
from img2prompt.results import EmbeddedPrompt

_SAVES = re.compile(r"save|output", re.IGNORECASE)
_SHOWS = re.compile(r"preview|combine", re.IGNORECASE)
_RETOUCH = re.compile(r"detailer|ultimatesdupscale|inpaint.*stitch|seedvr|supir|upscaler", re.IGNORECASE)
_WORDS_IN = re.compile(
    r"positive|negative|(?:\w*_)?cond(?:itioning)?\w*|control_?net|model|clip|vae|style_model|text\w*|prompt\w*|string\w*|"
    r"file\w*|\w*prefix|\w*path",
    re.IGNORECASE,
)
_TAKES_WORDS = re.compile(
    r"(?:\w*_)?(?:positive|pos)(?:_\w*)?|guider|(?:\w*_)?cond(?:itioning|\d)?|(?!image_)\w+_embeds|(?:user_|text_|main_)?prompt(?:_text)?",
    re.IGNORECASE,
)
_PIPES = re.compile(r"(?:.*_)?pipe|sdxl_tuple|(?:base_)?(?:ctx|context)", re.IGNORECASE)
# What Lumina 2 is told before the prompt; the words before the mark are the same in every picture.
_PREAMBLE = re.compile(r"You are an assistant designed.{0,400}?<Prompt Start>", re.DOTALL | re.IGNORECASE)


def read_comfyui(fields: Fields) -> EmbeddedPrompt | None:
    """From the executed graph, where it has a prompt, else from the editor's."""
    comment = fields.json_object("UserComment", "comment", "Comment", "parameters") or {}
    sources: tuple[tuple[str, Callable[[dict[str, Any]], Graph | None]], ...] = (
        ("prompt", read_api_graph),
        ("workflow", read_workflow_graph),
    )
    error: MetadataError | None = None
    for name, read in sources:
        try:
            data = fields.json_object(name, name.capitalize()) or _graph_of(comment, name)
            graph = read(data) if isinstance(data, dict) else None
            found = read_graph(graph) if graph is not None else None
        except MetadataError as hostile:
            error = error or hostile
            continue
        if found is not None:
            return found
    if error is not None:
        raise error
    return None


def _graph_of(comment: dict[str, Any], name: str) -> object:
    """The graph in a comment: an object or a text under its name, or (Civitai) the comment itself."""
    inner = comment.get(name, comment)
    return parse_object(inner) if isinstance(inner, str) else inner


def read_graph(graph: Graph) -> EmbeddedPrompt | None:
    """The prompt and settings of what a graph saves.

    Raises:
        MetadataError: the walks take too many steps.
    """
    texts = Texts(graph)
    retouched: tuple[Node, str] | None = None
    for node in _producers(graph):
        prompt = texts.positive(node)
        if prompt and not _RETOUCH.search(node.kind):
            return _result(graph, texts, node, prompt)
        if prompt and retouched is None:
            retouched = node, prompt
    if retouched is not None:
        return _result(graph, texts, *retouched)
    # No path from a picture to words: what encoders say that feed no negative side.
    negative = {link.node for node in graph.nodes.values() for name, link in node.links() if side_of(name) is False}
    encoders = [node for node in graph.nodes.values() if "TextEncode" in node.kind and node.id not in negative]
    loose = join_distinct(texts.positive(node) for node in encoders[:20])
    return embedded("ComfyUI", {"prompt": loose}) if loose else None


def _result(graph: Graph, texts: Texts, node: Node, prompt: str) -> EmbeddedPrompt | None:
    def number(names: str, via: str) -> float | None:
        found: float | None = _search(graph, node, names, via, real)
        return found

    guidance = number("cfg|cfg_scale|guidance_scale", "guider|.*pipe|context|cfg.*")
    if guidance in (None, 1.0):  # no classifier-free guidance: the model's own guidance is in charge
        guidance = number("guidance", r"guider|positive|(?:\w*_)?cond\w*|.*pipe") or guidance
    seeds = "seed|noise_seed|seed_value"
    main = _before(graph, node) if node.inputs.get("add_noise") in ("disable", False) else node
    negative = texts.negative(node)
    width, height = (
        number(f"(?:empty_latent_)?{side}", r"(?:\w*_)?latent\w*|samples|.*pipe|pixels|images?|positive|noise")
        for side in ("width", "height")
    )
    return embedded(
        "ComfyUI",
        {
            "prompt": _PREAMBLE.sub("", prompt) or prompt,
            # One encoder for both sides: no classifier-free guidance, or the same words without the picture to edit.
            "negative_prompt": _PREAMBLE.sub("", negative) if negative != prompt else None,
            "model": _search(
                graph,
                main,
                r"(?:ckpt|unet|model|gguf|base_ckpt|checkpoint|transformer)(?:_?name)?",
                r"(?:\w*_)?model\d?|guider|.*pipe|sdxl_tuple|context",
                _name,
            ),
            "seed": _search(graph, main, seeds, "noise|.*pipe|context|.*seed.*", whole),
            "steps": number("(?:num_)?steps", r"sigmas|scheduler|.*pipe|context|steps"),
            "guidance_scale": guidance,
            "width_px": width,
            "height_px": height,
        },
    )


def _before(graph: Graph, node: Node) -> Node:
    """The sampler that a refiner goes on from: it has the noise and the main model."""
    sources = (graph.at(link) for name, link in node.links() if "latent" in name)
    return next((before for before in sources if before is not None and _takes_words(before)), node)


def _name(value: Value) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _search(graph: Graph, start: Node, names: str, via: str, convert: Callable[[Value], Any]) -> Any:
    """The nearest value of an input called like `names`, going back along inputs called like `via`.

    A link in a `names` input leads to a node whose own number counts, whatever that node calls it.
    """
    wanted, roads = re.compile(names, re.IGNORECASE), re.compile(via, re.IGNORECASE)
    queue, seen = deque([(start, False)]), {(start.id, False)}
    while queue:
        node, is_source = queue.popleft()
        for name, value in node.inputs.items():
            fits = wanted.fullmatch(name) or (
                is_source and re.fullmatch(r"value|int|float|number|Value|a|\w*seed", name)
            )
            if fits and not isinstance(value, Link | bool) and (result := convert(value)) is not None:
                return result
        for name, link in node.links():
            into = wanted.fullmatch(name) is not None
            behind = graph.at(link) if into or roads.fullmatch(name) or is_source else None
            if behind is not None and (behind.id, into or is_source) not in seen:
                seen.add((behind.id, into or is_source))
                queue.append((behind, into or is_source))
    return None


def _producers(graph: Graph) -> Iterator[Node]:
    """Nodes that turn words into a picture, those nearest to what is saved first."""
    used = {value.node for node in graph.nodes.values() for value in node.inputs.values() if isinstance(value, Link)}
    ends = [node for node in graph.nodes.values() if node.id not in used or _SAVES.search(node.kind)]
    ends = ends or list(graph.nodes.values())
    for pattern in (_SAVES, _SHOWS, re.compile("")):
        chosen = [node for node in ends if pattern.search(node.kind)]
        if chosen and (found := list(_walk_back(graph, chosen))):
            yield from _latest_first(graph, found) if len(chosen) > 1 else found
            return


def _walk_back(graph: Graph, ends: list[Node]) -> Iterator[Node]:
    queue, seen = deque(ends), {node.id for node in ends}
    while queue:
        node = queue.popleft()
        if _takes_words(node):
            yield node
        for name, link in node.links():
            behind = graph.at(link) if not _WORDS_IN.fullmatch(bare(name)) else None
            if behind is not None and behind.id not in seen:
                seen.add(behind.id)
                queue.append(behind)


def _takes_words(node: Node) -> bool:
    for name, value in node.inputs.items():
        wanted = _TAKES_WORDS.fullmatch(bare(name)) and side_of(name) is not False
        if isinstance(value, Link):
            if wanted and carries_words(name):
                return True
            if _PIPES.fullmatch(name) and "sampler" in node.kind.lower():
                return True
        elif wanted and isinstance(value, str) and value.strip():
            return True
    return False


def _latest_first(graph: Graph, producers: list[Node]) -> list[Node]:
    """Several saved pictures, one made from another: a sampler that another one starts from comes later."""
    few = producers[:10]
    earlier = set()
    for node in few:
        starts = [
            behind for name, link in node.links() if not _WORDS_IN.fullmatch(bare(name)) and (behind := graph.at(link))
        ]
        earlier |= {behind.id for behind in _walk_back(graph, starts) if behind.id != node.id}
    return sorted(producers, key=lambda node: node.id in earlier)
