"""Metadata written to hurt: a MetadataError, a clean string or None, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_metadata import (
    GENERATED,
    INFOTEXT,
    INVOKE_OLD,
    _raw_text_chunk,
    _save,
    exif_of,
    picture,
    png,
    stealth,
    utf16,
    xmp,
)

from img2prompt.errors import Img2PromptError, MetadataError
from img2prompt.pairs.embedded.fields import read_fields
from img2prompt.pairs.embedded.values import clean, parse_json, parse_object, real, whole
from img2prompt.pairs.metadata import read_prompt


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


def graph(**nodes: dict[str, object]) -> bytes:
    return png({"prompt": json.dumps(nodes)})


def cycle() -> bytes:
    return graph(
        s=node("KSampler", positive=["a", 0], negative=["b", 0], latent_image=["s", 0], model=["m", 0], seed=["a", 0]),
        a=node("ConditioningCombine", conditioning_1=["b", 0], conditioning_2=["a", 0]),
        b=node("ConditioningCombine", conditioning_1=["a", 0], conditioning_2=["b", 0], text="round and round"),
        m=node("ModelMerge", model1=["m", 0], model2=["m", 0]),
        save=node("SaveImage", images=["s", 0]),
    )


def doubling(levels: int) -> bytes:
    """Each string node joins the one before with itself: 2**levels words."""
    nodes = {"n0": node("PrimitiveString", value="ha")}
    for level in range(1, levels):
        before = [f"n{level - 1}", 0]
        nodes[f"n{level}"] = node("StringConcatenate", string_a=before, string_b=before, delimiter=",")
    nodes["e"] = node("CLIPTextEncode", text=[f"n{levels - 1}", 0])
    nodes["s"] = node("KSampler", positive=["e", 0], negative=["e", 0])
    nodes["save"] = node("SaveImage", images=["s", 0])
    return graph(**nodes)


def dense(count: int) -> bytes:
    """Every node is fed by a hundred others."""
    nodes = {
        f"n{i}": node("ConditioningCombine", **{f"c{j}": [f"n{(i * 7 + j) % count}", j] for j in range(100)})
        for i in range(count)
    }
    nodes["s"] = node("KSampler", positive=["n0", 0], negative=["n1", 0], latent_image=["n2", 0], model=["n3", 0])
    nodes["save"] = node("SaveImage", images=["s", 0])
    return graph(**nodes)


def reroutes() -> bytes:
    """An editor's graph whose reroutes lead in a circle, with a subgraph that holds itself."""
    loop = {"id": 1, "type": "Reroute", "inputs": [{"name": "", "link": 1}], "outputs": [{"name": "", "type": "*"}]}
    user = {"id": 2, "type": "KSampler", "inputs": [{"name": "positive", "link": 2}, {"name": "negative", "link": 1}]}
    inner = {"id": "self", "nodes": [{"id": n, "type": "self"} for n in range(40)], "links": []}
    workflow = {
        "nodes": [loop, user, {"id": 3, "type": "self"}],
        "links": [[1, 1, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"]],
        "definitions": {"subgraphs": [inner]},
    }
    return png({"workflow": json.dumps(workflow)})


def collectors(count: int) -> bytes:
    """InvokeAI's graph, in which every node is fed by every other one through one input, and by itself."""
    nodes = {f"n{i}": {"id": f"n{i}", "type": "compel", "prompt": f"word {i}"} for i in range(count)}
    nodes["s"] = {"id": "s", "type": "denoise_latents", "steps": "30"}
    edges = [("n0", "s", "positive_conditioning"), *((f"n{i % count}", f"n{i // count}", "x") for i in range(count**2))]
    graph_ = {
        "nodes": nodes,
        "edges": [{"source": {"node_id": a}, "destination": {"node_id": b, "field": name}} for a, b, name in edges],
    }
    return png({"invokeai_graph": json.dumps(graph_)})


def lists() -> bytes:
    """An editor's graph with lists where names, types and slots belong."""
    wrong: list[object] = [[]]
    slot = {"name": wrong, "type": wrong, "link": wrong, "widget": {"name": wrong}}
    sent = {"upstream": wrong, "upstream_slot": wrong, "downstream": wrong, "downstream_slot": wrong}
    inner = {"id": "inner", "nodes": wrong, "links": wrong, "inputs": [slot], "outputs": [slot]}
    user = {"id": wrong, "type": "inner", "inputs": [slot], "outputs": [slot], "widgets_values": wrong}
    workflow = {"nodes": [user], "links": [wrong * 6], "definitions": {"subgraphs": [inner]}}
    return png({"workflow": json.dumps(workflow | {"extra": {"ue_links": [sent]}})})


def bomb(size: int) -> bytes:
    return zlib.compress(b"a" * size, 1)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
HOSTILE: dict[str, bytes] = {
    "cyclic graph": cycle(),
    "doubling strings": doubling(60),
    "long chain": graph(
        **{f"n{i}": node("ConditioningSetArea", conditioning=[f"n{i + 1}", 0]) for i in range(5000)},
        s=node("KSampler", positive=["n0", 0], negative=["n0", 0]),
        save=node("SaveImage", images=["s", 0]),
    ),
    "dense graph": dense(400),
    "many nodes": graph(**{f"n{i}": node("X") for i in range(30_000)}),
    "self-holding subgraph": reroutes(),
    "lists where names belong": lists(),
    "deep JSON": png({"prompt": "[" * 500_000}),
    "deep JSON object": png({"workflow": '{"nodes":' * 5_000 + "1" + "}" * 5_000}),
    "deep JSON comment": _save(picture(), "JPEG", exif=exif_of(utf16('{"c":' * 2_000))),
    "JSON of escaped quotes": png({"prompt": '{"' + '\\"' * 1_000_000}),
    "wide JSON": png({"prompt": "[" + "[]," * 300_000 + "[]]", "workflow": "{" + "[]," * 300_000}),
    "zip bomb": _raw_text_chunk(b"parameters", b"\0" + bomb(100_000_000), b"zTXt"),
    "international zip bomb": _raw_text_chunk(b"parameters", b"\1\0\0\0" + bomb(100_000_000), b"iTXt"),
    "stealth bomb": stealth("a" * 30_000_000, width=4_000),
    "many fields": png({f"field{i}": "x" for i in range(12_000)}),
    "entity bomb": _save(
        picture(), "WEBP", xmp=f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'.encode() + xmp({"dc:description": "&l9;"})
    ),
    "outer entity": _save(
        picture(),
        "WEBP",
        xmp=b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x><description>&e;</description></x>',
    ),
    "deep XMP": _save(picture(), "WEBP", xmp=b"<a>" * 100_000),
    "huge prompt": png({"parameters": "word " * 500_000}),
    "commas": png({"parameters": "Steps: 1, Seed: 2" + "," * 2_000_000 + "x: y"}),
    "colons": png({"parameters": "Steps: 1, " + "a: b," * 300_000}),
    "quotes": png({"parameters": 'Steps: 1, Seed: 2, Hashes: {"' + '\\"' * 500_000}),
    "many setting lines": png({"parameters": "Steps: 1\n" * 200_000 + "x"}),
    "blanks": png({"Description": " " * 3_000_000 + "x Job ID: 1b3c2d4e-1111"}),
    "flags": png({"Description": "--ar " * 15_000, "Software": "Midjourney"}),
    "dream": png({"Dream": '"a ' + "[" * 1_000_000 + '" ' + " " * 1_000_000 + "-s"}),
    "InvokeAI model weights": png({"sd-metadata": json.dumps({**INVOKE_OLD, "model_weights": [None]})}),
    "dream without end": png({"Dream": '"' + '" -s ' * 4_000}),
    "InvokeAI collectors": collectors(150),
    "InvokeAI many nodes": png(
        {"invokeai_graph": json.dumps({"nodes": [{"id": str(n), "type": "x"} for n in range(30_000)]})}
    ),
    "long names": graph(
        s=node("K" * 1_000_000, **{"_pos" * 200_000 + "\n": ["s", 0], "positive": "x"}),
        save=node("SaveImage", images=["s", 0]),
    ),
    "escapes": png({"parameters": "\x1b]" * 500_000}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_soon(name: str) -> None:
    start = time.process_time()
    try:
        found = read_prompt(HOSTILE[name])
    except MetadataError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
    else:
        assert found is None or len(found.prompt) <= 100_000
    assert time.process_time() - start < 10, "too slow"


@pytest.mark.parametrize(
    "name", ["doubling strings", "zip bomb", "deep JSON", "entity bomb", "huge prompt", "many nodes", "stealth bomb"]
)
def test_limits_say_so(name: str) -> None:
    with pytest.raises(MetadataError, match="hostile"):
        read_prompt(HOSTILE[name])


def test_an_honest_field_beside_a_hostile_one_is_read() -> None:
    found = read_prompt(png({"prompt": "[" * 100_000, "parameters": INFOTEXT}))
    assert found is not None and found.seed == 1234567890


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_a_bomb_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_raw_text_chunk(b"parameters", b"\0" + bomb(300_000_000), b"zTXt"))
    code = (
        "import sys\nfrom img2prompt.pairs.metadata import read_prompt\n"
        "from img2prompt.errors import MetadataError\n"
        "try:\n    read_prompt(sys.argv[1])\nexcept MetadataError:\n"
        "    print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) // 1024 < 200, "MiB at the peak"


def test_what_comes_out_is_clean() -> None:
    dirty = "\x1b[31mred\x1b[0m \x1b]0;title\x07fox\x00\x08\x7f \x9b1mx \u202eevil\u202c \ud800 a\r\nb\x1b[2J"
    graph_ = {
        "s": node("KSampler", positive="good " + dirty, negative=dirty, model=dirty),
        "o": node("SaveImage", i=["s", 0]),
    }
    found = read_prompt(png({"prompt": json.dumps(graph_)}))
    assert found is not None and found.prompt == "good red fox x evil  a\nb"
    assert found.negative_prompt == "red fox x evil  a\nb"
    for settings_ in ("Seed: 1e999", "Seed: " + "9" * 400, "Seed: NaN", "Seed: -1"):
        found = read_prompt(png({"parameters": f"a\nSteps: 5, {settings_}, CFG scale: inf, Size: 0x99999999999"}))
        assert found is not None and (found.seed, found.guidance_scale, found.steps) == (None, None, 5)
    found = read_prompt(_raw_text_chunk(b"parameters", b"caf\xe9 \xff\xfe fox\nSteps: 1, Seed: 2"))
    assert found is not None and found.prompt == "café ÿþ fox"


@given(st.text(), st.text())
def test_clean_text_holds_no_control(text: str, tail: str) -> None:
    out = clean(f"{text}\x1b[{tail}")
    out.encode()
    assert not any((ord(char) < 32 and char not in "\t\n") or 127 <= ord(char) < 160 for char in out)
    assert clean(out) == out


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.integers())))
def test_numbers_are_plain(value: object) -> None:
    number, integer = real(value), whole(value)
    assert number is None or abs(number) <= 1e30
    assert integer is None or 0 <= integer < 2**64


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_json_within_limits_is_json(value: object) -> None:
    expected = value if isinstance(value, list | dict) else None
    assert parse_json(json.dumps(value)) == expected


def test_json_numbers_that_are_none() -> None:
    assert parse_json('{"a": NaN, "b": -Infinity, "c": ' + "9" * 5000 + "}") == {"a": None, "b": None, "c": None}


SEEDS = [data for data, _ in GENERATED.values()] + [cycle(), reroutes(), doubling(5), stealth(INFOTEXT)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_mutated_files(data: st.DataObject) -> None:
    """Real files with bytes changed, cut or doubled."""
    raw = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "drop", "double", "brace"]))
        if how == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "cut" and at > 40:
            del raw[at:]
        elif how == "drop":
            del raw[at : at + data.draw(st.integers(1, 30))]
        elif how == "double":
            raw[at:at] = raw[at : at + 40]
        else:
            raw[at : at + 1] = data.draw(st.sampled_from([b'"', b"{", b"}", b"[", b"]", b"\\", b"\0", b"\x1b["]))
        raw = raw or bytearray(b"x")
    check_read(bytes(raw))


def check_read(data: bytes) -> None:
    """Our errors only, and clean strings."""
    try:
        found = read_prompt(data)
    except Img2PromptError as error:
        assert "\n" not in str(error)
    else:
        assert found is None or clean(found.prompt) == found.prompt


def stated(data: bytes) -> dict[str, str]:
    """The fields of a file in which JSON stands."""
    return {name: text for name, text in read_fields(data).texts.items() if parse_object(text)}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside a value, with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(inner)


STATED = [found for data, _ in GENERATED.values() if (found := stated(data))]
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_where_generators_state_facts(data: st.DataObject) -> None:
    texts = data.draw(st.sampled_from(STATED))
    name = data.draw(st.sampled_from(sorted(texts)))
    statement = parse_object(texts[name])
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(statement)) or [([0], 0)]))
        container[key] = data.draw(ANY_VALUE)
    check_read(png(texts | {name: json.dumps(statement)}))


def test_stealth_that_lies_about_its_length() -> None:
    import numpy as np
    from PIL import Image

    for count in (0, 7, 8, 2**32 - 1, 8 * 9_000):
        body = b"stealth_pngcomp" + struct.pack(">I", count) + gzip.compress(b"hello")[:20]
        pixels = np.full((50, 60, 4), 255, np.uint8)
        lanes = pixels[..., 3].T.reshape(-1)
        bits = np.unpackbits(np.frombuffer(body, np.uint8))
        lanes[: bits.size] = lanes[: bits.size] & 0xFE | bits
        pixels[..., 3] = lanes.reshape(60, 50).T
        assert read_prompt(_save(Image.fromarray(pixels), "PNG")) is None
