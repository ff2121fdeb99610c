"""ComfyUI's graph in one form, whichever of its two notations the file holds, with a budget on every walk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from img2prompt.errors import MetadataError
from img2prompt.pairs.embedded.values import whole

MAX_NODES = 20_000
MAX_STEPS = 1_000_000  # inputs looked at by all walks over one graph; a graph of 500 nodes takes some 20,000
MAX_NAME_CHARS = 100  # of a node's kind and of an input: longer ones are no names


class Link(NamedTuple):
    """One output of a node."""

    node: str
    slot: int


def bare(name: str) -> str:
    """The name of an input without the choice that it belongs to: of "model.prompt" the prompt."""
    return name.rpartition(".")[2]


Value: TypeAlias = "Link | str | int | float | bool | None"


@dataclass(slots=True)
class Node:
    """One node; `outputs` holds the names of its outputs where the notation has them."""

    id: str
    kind: str
    inputs: dict[str, Value]
    outputs: tuple[str, ...] = ()

    def links(self) -> Iterator[tuple[str, Link]]:
        """(input name, link) of the inputs that come from other nodes and count."""
        for name, value in active_inputs(self):
            if isinstance(value, Link):
                yield name, value


@dataclass(slots=True)
class Graph:
    """Nodes by id, and how many steps the walks over them have taken."""

    nodes: Mapping[str, Node]
    _steps: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        """What a switch is set to may come from a node that holds just that: then it stands in the switch itself."""
        for node in self.nodes.values():
            if _SWITCH.search(node.kind):
                node.inputs |= {
                    name: self._held(value) for name, value in node.inputs.items() if _CHOICE.fullmatch(name)
                }

    def _held(self, value: Value) -> Value:
        source = self.nodes.get(value.node) if isinstance(value, Link) else None
        held = list(source.inputs.values()) if source is not None else []
        if len(held) != 1:
            return value
        choice = held[0] if isinstance(held[0], bool) else whole(held[0])  # some nodes hold a number as text
        return value if choice is None else choice

    def at(self, link: Link) -> Node | None:
        """The node that a link comes from; counts the steps.

        Raises:
            MetadataError: the walks take more steps than any real graph needs.
        """
        node = self.nodes.get(link.node)
        self._steps[0] += 1 + (len(node.inputs) if node else 0)
        if self._steps[0] > MAX_STEPS:
            raise MetadataError("its ComfyUI graph takes too many steps to walk; the file is damaged or hostile")
        return node


def read_api_graph(data: Mapping[str, Any]) -> Graph | None:
    """The graph as it was executed: {"3": {"class_type": ..., "inputs": {name: value or [node, slot]}}}.

    Raises:
        MetadataError: more than 20,000 nodes.
    """
    if isinstance(data.get("prompt"), dict):  # a request as the server takes it
        data = data["prompt"]
    check_count(len(data))
    nodes = {}
    for key, raw in data.items():
        kind, inputs = (raw.get("class_type"), raw.get("inputs")) if isinstance(raw, dict) else (None, None)
        if isinstance(kind, str) and isinstance(inputs, dict):
            named = ((name, value) for name, value in inputs.items() if len(name) <= MAX_NAME_CHARS)
            nodes[key] = Node(key, kind[:MAX_NAME_CHARS], {name: _value(value, data) for name, value in named})
    return Graph(nodes) if nodes else None


def check_count(count: int) -> None:
    """Raises MetadataError over the limit of nodes."""
    if count > MAX_NODES:
        raise MetadataError(f"its ComfyUI graph has over {MAX_NODES} nodes; the file is damaged or hostile")


def _value(value: object, nodes: Mapping[str, Any]) -> Value:
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str | int) and type(value[1]) is int and str(value[0]) in nodes:
            return Link(str(value[0]), value[1])
        return None
    if isinstance(value, dict):
        inner = value.get("__value__", value.get("content"))
        return inner if isinstance(inner, str | int | float) else None
    return value if isinstance(value, str | int | float) else None


_SWITCH = re.compile(r"switch|selector|conditionalbranch|if_?else", re.IGNORECASE)
_CHOICE = re.compile(r"select|index|input|switch|boolean|condition|cond|choice", re.IGNORECASE)
_YES = re.compile(r"(?:on_?|if_?)?(?:true|tt)(?:_value)?", re.IGNORECASE)
_NO = re.compile(r"(?:on_?|if_?)?(?:false|ff)(?:_value)?", re.IGNORECASE)
_TRAILING = re.compile(r"\D*?_?(\d{1,3})")


def active_inputs(node: Node) -> list[tuple[str, Value]]:
    """The inputs of a node; of a switch only the one that is switched on, where the graph says which."""
    items = list(node.inputs.items())
    if not _SWITCH.search(node.kind):
        return items
    choice = next((value for name, value in items if _CHOICE.fullmatch(name) and isinstance(value, int)), None)
    if isinstance(choice, bool):
        pattern = _YES if choice else _NO
        chosen = [item for item in items if pattern.fullmatch(item[0])]
    elif choice is not None:
        numbers = [(_TRAILING.fullmatch(name), (name, value)) for name, value in items]
        chosen = [item for match, item in numbers if match and int(match[1]) == choice]
    else:  # "any" switches pass on the first input that is connected
        chosen = [item for item in items if isinstance(item[1], Link)][:1]
    return chosen or items
