"""Which texts feed a conditioning: the walk back from a sampler's positive or negative side.

Names of inputs are the only types that an executed graph has, so the walk is ruled by names: what carries models,
pictures and latents is not followed, what names a side ("positive", "neg_text") must name the wanted one, and texts
are taken from inputs that are called text, prompt, string, clip_l, t5xxl and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from img2prompt.errors import MetadataError
from img2prompt.pairs.embedded.generators.comfy_graph import Graph, Link, Node, Value, active_inputs, bare
from img2prompt.pairs.embedded.values import MAX_PROMPT_CHARS

MAX_WALK_DEPTH = 150

_CARRIERS = re.compile(  # inputs that carry no words
    r"(?:\w*_)?(?:model|clip|vae|image|images|latent|latents|latent_image|samples|mask|masks|pixels|control_?net|sampler|sigmas|noise|"
    r"clip_vision|clip_vision_output|style_model|loras?|lora_stack|ipadapter|bbox_detector|segm_detector|sam_model\w*|empty_conditioning|"
    r"seed|steps|cfg|width|height|video|audio|hooks?|options|settings)\d*",
    re.IGNORECASE,
)
_TEXT = re.compile(
    r"(?!system_|filename|file_|output_|.*_(?:format|weight|strength|scale|path)$)(?:[a-z]+_){0,2}"
    r"(?:texts?|prompts?|string|str|part|caption|captions|tags|lyrics|t5xxl|t5|llama|bert|mt5xl|gemma|qwen|instructions?|description|value|content)"
    r"(?:_?(?:[a-z]|\d{1,2}|positive|negative|pos|neg|input|override|global|local)){0,2}"
    r"|clip_[lgh]|(?:positive|negative)(?:_?(?:[a-z]|\d{1,2}))?|on_(?:true|false)",
    re.IGNORECASE,
)
_POSITIVE = re.compile(r"(?:.*[_ ])?(?:positive|pos)(?:[_ \d].*)?|\+.*|.*\+", re.IGNORECASE)
_NEGATIVE = re.compile(
    r"(?:.*[_ ])?(?:negative|neg|ban|uncond|unconditional|unconditioning)(?:[_ \d].*)?|-.*|.*-", re.IGNORECASE
)
_ROUTES = re.compile(
    r"guider|sdxl_tuple|(?:.*_)?pipe(?:_.*)?|(?:base_)?(?:ctx|context)|(?!image_)\w+_embeds?|(?:.*_)?params|refiner_\w+|any_\d+|input\d*",
    re.IGNORECASE,
)
_PAIRS = re.compile(
    r"ControlNet|Conditioning|ToVideo|PixToPix|ReferenceLatent", re.IGNORECASE
)  # outputs 0: positive, 1: negative
_SILENT = re.compile(r"ConditioningZeroOut|^Note$|MarkdownNote")
_MACHINES = re.compile(  # what they say is not in the graph, what they are asked is no prompt
    r"florence|ollama|llm|chatgpt|gemini(?!image)|joy_?caption|tagger|interrogat|blip|moondream|vlm?\b|captioner|claude|minicpm|searge.*llm|textgenerate",
    re.IGNORECASE,
)
_SETTINGS = re.compile(r"(?:yes|no|none|true|false|on|off|enabled?|disabled?)?", re.IGNORECASE)  # no words
_PUT = ("replace", "replacement")  # for what is found
_DELIMITERS = ("delimiter", "separator", "join_with", "deliminator")


@lru_cache(4096)
def side_of(name: str) -> bool | None:
    """True: the name says positive; False: negative; None: neither."""
    if _NEGATIVE.fullmatch(bare(name)):
        return False
    return True if _POSITIVE.fullmatch(bare(name)) else None


def join_distinct(texts: Iterable[str]) -> str:
    """The texts joined by ", ", without those that another one contains (dual encoders mostly get the same text)."""
    kept: list[str] = []
    for text in (text.strip() for text in texts):
        if not text or any(text in other for other in kept):
            continue
        kept = [other for other in kept if other not in text]
        kept.append(text)
        if sum(map(len, kept)) > MAX_PROMPT_CHARS:
            raise MetadataError(
                f"its ComfyUI graph makes a prompt of over {MAX_PROMPT_CHARS} characters; the file is hostile"
            )
    return ", ".join(kept)


@lru_cache(4096)
def is_text(name: str) -> bool:
    """Whether an input of this name holds words for the model."""
    return _TEXT.fullmatch(bare(name)) is not None


@lru_cache(4096)
def carries_words(name: str) -> bool:
    """Whether a link into an input of this name may come from words."""
    return _CARRIERS.fullmatch(bare(name)) is None


class Texts:
    """Texts of one graph; what a node says is worked out once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[tuple[str, int, bool], list[str]] = {}
        self._open: set[tuple[str, int, bool]] = set()

    def positive(self, node: Node) -> str:
        """What feeds the positive side of a sampler."""
        return join_distinct(self._gather(_side_inputs(node, positive=True), True))

    def negative(self, node: Node) -> str:
        """What feeds the negative side of a sampler; only from where an input says that it is negative."""
        return join_distinct(self._seek_negative(node, 0))

    def _seek_negative(self, node: Node, depth: int) -> list[str]:
        items = active_inputs(node)
        sided = [item for item in items if side_of(item[0]) is False and carries_words(item[0])]
        negative = [item for item in sided if _says(item[1])]
        if negative:
            return self._gather(negative, False)
        texts: list[str] = []
        for name, link in node.links() if depth < MAX_WALK_DEPTH else ():
            behind = self._graph.at(link) if _ROUTES.fullmatch(name) else None
            if behind is not None:
                texts += self._seek_negative(behind, depth + 1)
        return texts

    def _gather(self, items: Iterable[tuple[str, Value]], positive: bool) -> list[str]:
        """Texts of inputs, those behind links first: a node's own words follow what it is given."""
        linked: list[str] = []
        own: list[str] = []
        for name, value in items:
            if isinstance(value, Link):
                if carries_words(name):
                    linked += self._behind(value, positive)
            elif isinstance(value, str) and is_text(name) and not _SETTINGS.fullmatch(value.strip()):
                own.append(value)
        return linked + own

    def _behind(self, link: Link, positive: bool) -> list[str]:
        node = self._graph.at(link)
        if node is None or _SILENT.search(node.kind) or _MACHINES.search(node.kind):
            return []
        side = _side_of_output(node, link.slot)
        key = (node.id, link.slot, positive if side is None else side)
        if key in self._known:
            return self._known[key]
        if key in self._open or len(self._open) > MAX_WALK_DEPTH:
            return []  # a cycle, or deeper than any real graph
        self._open.add(key)
        try:
            texts = self._said_by(node, key[2])
        finally:
            self._open.discard(key)
        self._known[key] = texts
        return texts

    def _said_by(self, node: Node, positive: bool) -> list[str]:
        populated = node.inputs.get("populated_text")  # wildcards filled in
        if isinstance(populated, str) and populated.strip():
            return [populated]
        items = _side_inputs(node, positive)
        delimiter = next((node.inputs[name] for name in _DELIMITERS if isinstance(node.inputs.get(name), str)), None)
        find = node.inputs.get("find")
        if isinstance(delimiter, str):
            parts = [join_distinct(self._gather([item], positive)) for item in items if item[0] not in _DELIMITERS]
            texts = [delimiter.replace("\\n", "\n").join(part for part in parts if part)]
        elif isinstance(find, str) and find:
            put = join_distinct(self._gather([("text", value) for name, value in items if name in _PUT], positive))
            whole = join_distinct(self._gather([item for item in items if item[0] not in ("find", *_PUT)], positive))
            grown = len(whole) + whole.count(find) * len(put)
            texts = [whole.replace(find, put) if grown <= MAX_PROMPT_CHARS else whole]
        else:
            # Where a machine is switched on to write the words anew, what is switched off are the words it was given.
            texts = self._gather(items, positive) or self._gather(
                _side_inputs(node, positive, switched=False), positive
            )
        if sum(map(len, texts)) > MAX_PROMPT_CHARS:
            join_distinct(texts)  # raises, unless they are repetitions
            texts = list(dict.fromkeys(texts))
        return texts


def _side_of_output(node: Node, slot: int) -> bool | None:
    """Which side an output of a node with both sides carries."""
    if 0 <= slot < len(node.outputs):
        return side_of(node.outputs[slot])
    linked = {side_of(name) for name, _ in node.links()}
    return slot == 0 if slot in (0, 1) and {True, False} <= linked and _PAIRS.search(node.kind) else None


def _says(value: Value) -> bool:
    return isinstance(value, Link) or (isinstance(value, str) and value != "")


def _side_inputs(node: Node, positive: bool, *, switched: bool = True) -> list[tuple[str, Value]]:
    """The inputs that may hold the wanted side: those that name it, else those that name none.

    A node that takes a negative text and got none says nothing negative: its other texts are for the positive side.
    A guider's "cond2" goes with the picture that is edited and mostly has the negative words.
    """
    given = active_inputs(node) if switched else node.inputs.items()
    items = [item for item in given if item[0] != "cond2"]
    sided = [item for item in items if side_of(item[0]) is positive]
    if any(_says(value) for _, value in sided):
        return sided
    neutral = [item for item in items if side_of(item[0]) is None]
    return [item for item in neutral if _ROUTES.fullmatch(item[0])] if sided and not positive else neutral
