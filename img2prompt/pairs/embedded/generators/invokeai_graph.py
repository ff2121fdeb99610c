"""InvokeAI's graphs, as they were run ("invokeai_graph") or edited ("invokeai_workflow"), walked as ComfyUI's are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.comfy_graph import MAX_NAME_CHARS, Graph, Link, Node, Value, check_count
from img2prompt.pairs.embedded.generators.comfyui import read_graph
from img2prompt.pairs.embedded.values import dicts, text_of
from img2prompt.results import EmbeddedPrompt


def read_invokeai_graph(fields: Fields) -> EmbeddedPrompt | None:
    """From the executed graph, else from the editor's.

    Raises:
        MetadataError: more than 20,000 nodes, or too many steps to walk them.
    """
    executed = fields.json_object("invokeai_graph") or {}
    edited = fields.json_object("invokeai_workflow") or {}
    for graph in (
        _graph(dicts(executed.get("nodes")), (_ends(edge) for edge in dicts(executed.get("edges")))),
        _graph(
            map(_flat, dicts(edited.get("nodes"))),
            ((edge.get("source"), edge.get("target"), edge.get("targetHandle")) for edge in dicts(edited.get("edges"))),
        ),
    ):
        found = read_graph(graph) if graph.nodes else None
        if found is not None:
            return replace(found, generator="InvokeAI")
    return None


def _flat(node: dict[str, Any]) -> dict[str, Any]:
    """A node of the editor in the form of an executed one: {"id": ..., "type": ..., name of an input: its value}."""
    data = node.get("data")
    data = data if isinstance(data, dict) else {}
    inputs = data.get("inputs")
    values = {
        name: slot.get("value")
        for name, slot in (inputs.items() if isinstance(inputs, dict) else ())
        if isinstance(slot, dict)
    }
    return {**values, "id": node.get("id"), "type": data.get("type")}


def _ends(edge: dict[str, Any]) -> tuple[object, object, object]:
    source, target = edge.get("source"), edge.get("destination")
    if not isinstance(source, dict) or not isinstance(target, dict):
        return None, None, None
    return source.get("node_id"), target.get("node_id"), target.get("field")


def _graph(raw: Iterable[dict[str, Any]], edges: Iterable[tuple[object, object, object]]) -> Graph:
    nodes: dict[str, Node] = {}
    for values in raw:
        key, kind = values.get("id"), values.get("type")
        if isinstance(key, str) and isinstance(kind, str):
            inputs = {name: _value(value) for name, value in values.items() if len(name) <= MAX_NAME_CHARS}
            nodes[key] = Node(key, kind[:MAX_NAME_CHARS], inputs)
    check_count(len(nodes))
    for source, target, name in edges:
        if not (isinstance(source, str) and isinstance(target, str) and isinstance(name, str)):
            continue
        if source in nodes and target in nodes and len(name) <= MAX_NAME_CHARS:
            inputs = nodes[target].inputs
            taken = isinstance(inputs.get(name), Link)  # collectors take many edges into one input
            inputs[f"{name}_{len(inputs)}" if taken else name] = Link(source, 0)
    return Graph(nodes)


def _value(value: object) -> Value:
    """Models are objects with a name; pictures, boards and the like say nothing."""
    if isinstance(value, dict):
        return text_of(value.get("name") or value.get("model_name"))
    return value if isinstance(value, str | int | float) else None
