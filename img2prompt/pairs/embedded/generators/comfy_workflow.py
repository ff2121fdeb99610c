"""ComfyUI's editor notation ("workflow") as the graph that would run: what the editor does before it queues a prompt.

Subgraphs are unfolded, reroutes and Set/Get nodes become plain links, primitives become values, bypassed nodes pass
their input of the same type on, muted nodes and notes vanish, and widget values get the names of their inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from img2prompt.pairs.embedded.generators.comfy_graph import MAX_NAME_CHARS, Graph, Link, Node, Value, check_count
from img2prompt.pairs.embedded.generators.comfy_widgets import name_widgets
from img2prompt.pairs.embedded.values import dicts

MAX_NESTING = 16  # of subgraphs
_INPUTS, _OUTPUTS = "-10", "-20"  # the ids of a subgraph's own input and output nodes
_MUTED, _BYPASSED = 2, 4
_VALUE_TYPES = frozenset({"STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"})  # set in a widget
_PASSING = frozenset({"Reroute", "Reroute (rgthree)", "SetNode", "easy setNode"})
_GETTING = frozenset({"GetNode", "easy getNode"})
_NOTES = frozenset(
    {"Note", "MarkdownNote", "Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)"}
)


@dataclass(slots=True)
class _Raw:
    """A node of the editor; `types` of its inputs and outputs decide where a bypass leads."""

    kind: str
    mode: int
    inputs: dict[str, Value]
    input_types: list[tuple[str, str]]
    output_names: tuple[str, ...]
    output_types: tuple[str, ...]
    title: str = ""


@dataclass(slots=True)
class _Flat:
    """All subgraphs unfolded into one level."""

    definitions: Mapping[str, Mapping[str, Any]]
    raw: dict[str, _Raw] = field(default_factory=dict)
    aliases: dict[Link, Value] = field(default_factory=dict)  # an output of a subgraph -> what it stands for
    setters: dict[str, str] = field(default_factory=dict)  # the name of a Set node -> its id


def read_workflow_graph(data: Mapping[str, Any]) -> Graph | None:
    """The graph of an editor's JSON, or None where it is something else.

    Raises:
        MetadataError: more than 20,000 nodes after unfolding.
    """
    if not isinstance(data.get("nodes"), list):
        return None
    definitions = data.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    flat = _Flat({str(sub.get("id")): sub for sub in dicts(subgraphs)})
    _unfold(flat, data, "", {}, MAX_NESTING)
    nodes = {}
    for key, raw in flat.raw.items():
        if raw.mode in (_MUTED, _BYPASSED) or raw.kind in _PASSING | _GETTING | _NOTES | {"PrimitiveNode"}:
            continue
        inputs = {
            name: _resolve(flat, value) if isinstance(value, Link) else value for name, value in raw.inputs.items()
        }
        nodes[key] = Node(key, raw.kind, inputs, raw.output_names)
    return Graph(nodes) if nodes else None


def _unfold(
    flat: _Flat, level: Mapping[str, Any], prefix: str, given: Mapping[int, Value], left: int
) -> dict[int, Value]:
    """Adds the nodes of one level; returns what the level's outputs stand for.

    Args:
        given: what the level's inputs are, by slot.
        left: how many levels may still follow.
    """
    links = _links(level.get("links"))
    sources: dict[object, Value] = dict(_broadcast(level, prefix))  # link id -> where it comes from
    for key, (origin, slot, _, _) in links.items():
        sources[key] = given.get(slot) if origin == _INPUTS else Link(prefix + origin, slot)
    for node in dicts(level.get("nodes")):
        check_count(len(flat.raw))
        here = prefix + str(node.get("id"))
        inner = flat.definitions.get(str(node.get("type")))
        raw = _raw(node, sources, _promoted_names(node, inner or {}))
        flat.raw[here] = raw
        if raw.kind in ("SetNode", "easy setNode") and isinstance(name := raw.inputs.get("value"), str):
            flat.setters[name] = here
        if inner is not None and raw.mode not in (_MUTED, _BYPASSED) and left > 0:
            del flat.raw[here]
            for slot, value in _unfold(flat, inner, f"{here}:", _promoted(inner, raw), left - 1).items():
                flat.aliases[Link(here, slot)] = value
    return {slot: sources[key] for key, (_, _, target, slot) in links.items() if target == _OUTPUTS}


def _promoted(inner: Mapping[str, Any], raw: _Raw) -> dict[int, Value]:
    """What the inputs of a subgraph get, by slot; an input that gets nothing leaves the inner widget's own value."""
    names = [str(entry.get("name")) for entry in dicts(inner.get("inputs"))]
    return {slot: raw.inputs[name] for slot, name in enumerate(names) if raw.inputs.get(name) is not None}


def _links(raw: object) -> dict[int, tuple[str, int, str, int]]:
    """Link id -> (origin node, its output, target node, its input), from both notations."""
    links = {}
    for entry in raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ():
        if isinstance(entry, list) and len(entry) >= 5:
            key, origin, slot, target, into = entry[:5]
        elif isinstance(entry, dict):
            key, origin, slot, target, into = (
                entry.get(name) for name in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            )
        else:
            continue
        if isinstance(key, int) and isinstance(slot, int) and isinstance(into, int):
            links[key] = (str(origin), slot, str(target), into)
    return links


def _broadcast(level: Mapping[str, Any], prefix: str) -> Iterable[tuple[object, Value]]:
    """What "Anything Everywhere" nodes send without a link: (node, input) -> where it comes from."""
    extra = level.get("extra")
    for entry in dicts(extra.get("ue_links")) if isinstance(extra, dict) else ():
        slot, into = entry.get("upstream_slot"), entry.get("downstream_slot")
        if isinstance(slot, int) and isinstance(into, int):
            yield (str(entry.get("downstream")), into), Link(f"{prefix}{entry.get('upstream')}", slot)


def _promoted_names(node: Mapping[str, Any], inner: Mapping[str, Any]) -> list[object]:
    """Names of the widget values of a subgraph's node: it lists them itself, or they follow the subgraph's inputs."""
    properties = node.get("properties")
    proxies = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if isinstance(proxies, list) and proxies:
        return [entry[1] for entry in proxies if isinstance(entry, list) and len(entry) == 2]
    return [entry.get("name") for entry in dicts(inner.get("inputs")) if str(entry.get("type")) in _VALUE_TYPES]


def _raw(node: Mapping[str, Any], sources: Mapping[object, Value], promoted: Sequence[object]) -> _Raw:
    slots, outputs = dicts(node.get("inputs")), dicts(node.get("outputs"))
    kind, mode = str(node.get("type"))[:MAX_NAME_CHARS], node.get("mode")
    inputs: dict[str, Value] = {}
    linked: dict[str, Value] = {}
    stale = 0  # texts of widgets that became inputs
    for index, slot in enumerate(slots):
        name = _slot_name(slot, index)
        key = slot.get("link")
        value = sources.get(key) if isinstance(key, int) else None
        if value is None:
            value = sources.get((str(node.get("id")), index))
        if value is not None:
            linked[name] = value
            stale += slot.get("type") == "STRING" and "widget" in slot
        inputs.setdefault(name, None)
    inputs |= name_widgets(kind, slots, node.get("widgets_values"), promoted, stale)
    return _Raw(
        kind=kind,
        mode=mode if isinstance(mode, int) else 0,
        inputs=inputs | linked,
        input_types=[(_slot_name(slot, index), str(slot.get("type"))) for index, slot in enumerate(slots)],
        output_names=tuple(str(slot.get("name") or "") for slot in outputs),
        output_types=tuple(str(slot.get("type")) for slot in outputs),
    )


def _slot_name(slot: Mapping[str, Any], index: int) -> str:
    return str(slot.get("name") or f"input_{index}")[:MAX_NAME_CHARS]


def _resolve(flat: _Flat, value: Value) -> Value:
    """Follows what only the editor knows until a node that runs, a value, or nothing."""
    for _ in range(1000):
        if not isinstance(value, Link):
            return value
        if value in flat.aliases:
            value = flat.aliases[value]
            continue
        raw = flat.raw.get(value.node)
        if raw is None or raw.mode == _MUTED:
            return None
        if raw.kind == "PrimitiveNode":
            return raw.inputs.get("value")
        if raw.kind in _GETTING:
            setter = flat.setters.get(str(raw.inputs.get("value")))
            value = Link(setter, 0) if setter else None
        elif raw.kind in _PASSING:
            value = next((item for item in raw.inputs.values() if isinstance(item, Link)), None)
        elif raw.mode == _BYPASSED:
            value = _bypass(raw, value.slot)
        else:
            return value
    return None  # a cycle


def _bypass(raw: _Raw, slot: int) -> Value:
    """A bypassed node passes on the input at the output's own place, if the type fits, else the first that fits."""
    kind = raw.output_types[slot] if 0 <= slot < len(raw.output_types) else None
    names = [name for name, type_ in raw.input_types if type_ == kind and isinstance(raw.inputs.get(name), Link)]
    if 0 <= slot < len(raw.input_types) and raw.input_types[slot][0] in names:
        return raw.inputs[raw.input_types[slot][0]]
    return raw.inputs[names[0]] if names else None
