"""Which text of a ComfyUI graph is the prompt: one small graph a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_metadata import _save, exif_of, picture, png

from img2prompt.pairs.metadata import read_prompt
from img2prompt.results import EmbeddedPrompt

Inputs = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node of an executed graph; links are [id, slot]."""
    return {"class_type": kind, "inputs": inputs}


BASE = {
    "ckpt": node("CheckpointLoaderSimple", ckpt_name="m.safetensors"),
    "latent": node("EmptyLatentImage", width=640, height=512, batch_size=1),
    "pos": node("CLIPTextEncode", text="good words", clip=["ckpt", 1]),
    "neg": node("CLIPTextEncode", text="bad words", clip=["ckpt", 1]),
    "decode": node("VAEDecode", samples=["sampler", 0], vae=["ckpt", 2]),
    "save": node("SaveImage", images=["decode", 0], filename_prefix="ComfyUI"),
}


def sampler(**changes: Any) -> dict[str, Any]:
    inputs = {
        "seed": 9,
        "steps": 20,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "model": ["ckpt", 0],
        "positive": ["pos", 0],
        "negative": ["neg", 0],
        "latent_image": ["latent", 0],
    }
    return node("KSampler", **(inputs | changes))


def read(graph: dict[str, Any]) -> EmbeddedPrompt:
    """What a PNG with this executed graph says."""
    found = read_prompt(png({"prompt": json.dumps(graph)}))
    assert found is not None
    return found


def words(graph: dict[str, Any]) -> tuple[str, str | None]:
    found = read(graph)
    return found.prompt, found.negative_prompt


PLAIN = EmbeddedPrompt("good words", "bad words", "ComfyUI", "m.safetensors", 9, 20, 7.0, 640, 512)
FULL = BASE | {"sampler": sampler()}


def test_plain_graph_in_every_container() -> None:
    text = json.dumps(FULL)
    workflow = json.dumps({"nodes": [], "links": []})
    assert read(FULL) == PLAIN
    for kind in ("WEBP", "JPEG", "AVIF"):  # as SaveAnimatedWEBP and the WAS and crystools nodes write them
        assert (
            read_prompt(_save(picture(), kind, exif=exif_of(model=f"prompt:{text}", make=f"workflow:{workflow}")))
            == PLAIN
        )
        assert (
            read_prompt(
                _save(picture(), kind, exif=exif_of(make=f"Prompt: {text}", description=f"Workflow: {workflow}"))
            )
            == PLAIN
        )
        comment = b"UNICODE\0" + json.dumps({"prompt": FULL, "workflow": {}}).encode("utf-16-le")
        assert read_prompt(_save(picture(), kind, exif=exif_of(comment))) == PLAIN


def test_words_before_the_graph_when_a_node_wrote_both() -> None:
    infotext = "resolved words\nNegative prompt: bad\nSteps: 4, Sampler: euler, Seed: 9, Version: ComfyUI"
    found = read_prompt(png({"prompt": json.dumps(FULL), "parameters": infotext}))
    assert found is not None and (found.prompt, found.generator) == ("resolved words", "ComfyUI")


GUIDERS: dict[str, tuple[dict[str, Any], str | None, float | None]] = {
    "BasicGuider": (node("BasicGuider", model=["ckpt", 0], conditioning=["flux", 0]), None, 3.5),
    "CFGGuider": (
        node("CFGGuider", model=["ckpt", 0], positive=["flux", 0], negative=["neg", 0], cfg=5.0),
        "bad words",
        5.0,
    ),
    "DualCFGGuider": (
        node(
            "DualCFGGuider", model=["ckpt", 0], cond1=["flux", 0], cond2=["flux", 0], negative=["neg", 0], cfg_conds=8.0
        ),
        "bad words",
        3.5,
    ),
    "DualCFGGuider, negative words with the picture to edit": (
        node(
            "DualCFGGuider", model=["ckpt", 0], cond1=["flux", 0], cond2=["neg", 0], negative=["neg", 0], cfg_conds=8.0
        ),
        "bad words",
        3.5,
    ),
    "unknown": (
        node("FancyGuider+", model=["ckpt", 0], positive=["flux", 0], negative=["neg", 0], cfg=2.0),
        "bad words",
        2.0,
    ),
}


@pytest.mark.parametrize("name", GUIDERS)
def test_guiders(name: str) -> None:
    guider, negative, guidance = GUIDERS[name]
    graph = BASE | {
        "flux": node("FluxGuidance", conditioning=["pos", 0], guidance=3.5),
        "guider": guider,
        "noise": node("RandomNoise", noise_seed=5),
        "sigmas": node("BasicScheduler", scheduler="simple", steps=12, denoise=1.0, model=["ckpt", 0]),
        "sampler": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["select", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0],
        ),
        "select": node("KSamplerSelect", sampler_name="euler"),
    }
    expected = EmbeddedPrompt("good words", negative, "ComfyUI", "m.safetensors", 5, 12, guidance, 640, 512)
    assert read(graph) == expected


ROUTES: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "encoder reads a text node": (
        {
            "text": node("PrimitiveStringMultiline", value="from afar"),
            "pos": node("CLIPTextEncode", text=["text", 0], clip=["ckpt", 1]),
        },
        ("from afar", "bad words"),
    ),
    "strings joined": (
        {
            "a": node("PrimitiveString", value="a fox"),
            "join": node("StringConcatenate", string_a=["a", 0], string_b="in snow", delimiter=" "),
            "pos": node("CLIPTextEncode", text=["join", 0], clip=["ckpt", 1]),
        },
        ("a fox in snow", "bad words"),
    ),
    "strings replaced": (
        {
            "swap": node("StringReplace", string="a {x} fox", find="{x}", replace="red"),
            "pos": node("CLIPTextEncode", text=["swap", 0], clip=["ckpt", 1]),
        },
        ("a red fox", "bad words"),
    ),
    "strings replaced by a linked one": (
        {
            "a": node("PrimitiveString", value="red"),
            "swap": node("StringReplace", string="a {x} fox", find="{x}", replace=["a", 0]),
            "pos": node("CLIPTextEncode", text=["swap", 0], clip=["ckpt", 1]),
        },
        ("a red fox", "bad words"),
    ),
    "strings joined in parts": (
        {
            "join": node("CR Combine Prompt", part1="a fox", part2="in snow", part3="", separator=" "),
            "pos": node("CLIPTextEncode", text=["join", 0], clip=["ckpt", 1]),
        },
        ("a fox in snow", "bad words"),
    ),
    "settings that are called like texts": (
        {
            "join": node("StringFunction|pysssss", action="append", tidy_tags="yes", text_a="a fox", text_b="in snow"),
            "pos": node("CLIPTextEncode", text=["join", 0], clip=["ckpt", 1]),
        },
        ("a fox, in snow", "bad words"),
    ),
    "tags that are not to be written": (
        {
            "write": node("TIPO", tags="1girl, fox", nl_prompt="in snow", ban_tags="text, doll", seed=1),
            "pos": node("CLIPTextEncode", text=["write", 0], clip=["ckpt", 1]),
        },
        ("1girl, fox, in snow", "bad words"),
    ),
    "a name of the file that is a prompt": (
        {
            "title": node("CR Prompt Text", prompt="fox pictures"),
            "save": node("SaveImage", images=["decode", 0], filename_prefix=["title", 0]),
        },
        ("good words", "bad words"),
    ),
    "wildcards filled in": (
        {
            "wild": node(
                "ImpactWildcardProcessor", wildcard_text="a __pet__", populated_text="a cat", mode=True, seed=1
            ),
            "pos": node("CLIPTextEncode", text=["wild", 0], clip=["ckpt", 1]),
        },
        ("a cat", "bad words"),
    ),
    "styler with both sides": (
        {
            "style": node("SDXLPromptStyler", text_positive="p words", text_negative="n words", style="base"),
            "pos": node("CLIPTextEncode", text=["style", 0], clip=["ckpt", 1]),
            "neg": node("CLIPTextEncode", text=["style", 1], clip=["ckpt", 1]),
        },
        ("p words", "n words"),
    ),
    "styler with both sides of two encoders": (
        {
            "style": node("SDXLPromptStylerAdvanced", text_positive_g="p words", text_negative="n words", style="base"),
            "pos": node("CLIPTextEncode", text=["style", 0], clip=["ckpt", 1]),
            "neg": node("CLIPTextEncode", text=["style", 5], clip=["ckpt", 1]),
        },
        ("p words", "n words"),
    ),
    "encoder with both sides, nothing negative": (
        {
            "pos": node("TextEncodeBothSides", prompt="blue", caption="sky", negative_prompt="", clip=["ckpt", 1]),
            "more": node("ConditioningConcat", conditioning_to=["pos", 0], conditioning_from=["pos2", 0]),
            "pos2": node("CLIPTextEncode", text="fox", clip=["ckpt", 1]),
            "sampler": sampler(positive=["more", 0], negative=["pos", 1]),
        },
        ("blue, sky, fox", None),
    ),
    "one encoder for both sides": ({"sampler": sampler(negative=["pos", 0])}, ("good words", None)),
    "dual encoder, same words": (
        {"pos": node("CLIPTextEncodeSDXL", width=1, height=1, text_g="one", text_l="one", clip=["ckpt", 1])},
        ("one", "bad words"),
    ),
    "dual encoder, other words": (
        {"pos": node("CLIPTextEncodeFlux", clip_l="fox, snow", t5xxl="A red animal.", guidance=3.5, clip=["ckpt", 1])},
        ("fox, snow, A red animal.", "bad words"),
    ),
    "Qwen image edit": (
        {
            "pos": node(
                "TextEncodeQwenImageEditPlus",
                prompt="make it blue",
                clip=["ckpt", 1],
                vae=["ckpt", 2],
                image1=["load", 0],
            )
        },
        ("make it blue", "bad words"),
    ),
    "Lumina 2": (
        {"pos": node("CLIPTextEncodeLumina2", system_prompt="superior", user_prompt="a tree", clip=["ckpt", 1])},
        ("a tree", "bad words"),
    ),
    "combined": (
        {
            "p2": node("CLIPTextEncode", text="more words", clip=["ckpt", 1]),
            "area": node("ConditioningSetArea", conditioning=["p2", 0], width=64, height=64, x=0, y=0, strength=1.0),
            "both": node("ConditioningCombine", conditioning_1=["pos", 0], conditioning_2=["area", 0]),
            "sampler": sampler(positive=["both", 0]),
        },
        ("good words, more words", "bad words"),
    ),
    "zeroed negative": (
        {"zero": node("ConditioningZeroOut", conditioning=["pos", 0]), "sampler": sampler(negative=["zero", 0])},
        ("good words", None),
    ),
    "control net": (
        {
            "cn": node(
                "ControlNetApplyAdvanced",
                positive=["pos", 0],
                negative=["neg", 0],
                control_net=["x", 0],
                image=["y", 0],
            ),
            "sampler": sampler(positive=["cn", 0], negative=["cn", 1]),
        },
        ("good words", "bad words"),
    ),
    "control net wired crosswise": (
        {
            "cn": node(
                "ControlNetApplyAdvanced",
                positive=["neg", 0],
                negative=["pos", 0],
                control_net=["x", 0],
                image=["y", 0],
            ),
            "sampler": sampler(positive=["cn", 1], negative=["cn", 0]),
        },
        ("good words", "bad words"),
    ),
    "pipe": (
        {
            "loader": node("easy fullLoader", ckpt_name="m.safetensors", positive="pipe words", negative="pipe bad"),
            "pre": node("easy preSampling", pipe=["loader", 0], steps=20, cfg=7.0, seed=9),
            "sampler": node("easy kSampler", pipe=["pre", 0]),
        },
        ("pipe words", "pipe bad"),
    ),
    "video sampler": (
        {
            "embeds": node("WanVideoTextEncode", positive_prompt="a moving fox", negative_prompt="still", t5=["x", 0]),
            "sampler": node("WanVideoSampler", text_embeds=["embeds", 0], model=["ckpt", 0], steps=20, cfg=7.0, seed=9),
        },
        ("a moving fox", "still"),
    ),
    "switch": (
        {
            "p2": node("CLIPTextEncode", text="second words", clip=["ckpt", 1]),
            "switch": node("ImpactSwitch", select=2, input1=["pos", 0], input2=["p2", 0]),
            "sampler": sampler(positive=["switch", 0]),
        },
        ("second words", "bad words"),
    ),
    "switch set by a node": (
        {
            "p2": node("CLIPTextEncode", text="second words", clip=["ckpt", 1]),
            "which": node("PrimitiveBoolean", value=True),
            "switch": node("easy ifElse", boolean=["which", 0], on_false=["pos", 0], on_true=["p2", 0]),
            "sampler": sampler(positive=["switch", 0]),
        },
        ("second words", "bad words"),
    ),
    "switch set by a number in a text": (
        {
            "p2": node("CLIPTextEncode", text="second words", clip=["ckpt", 1]),
            "which": node("Int", Number="2"),
            "switch": node("ImpactSwitch", select=["which", 0], input1=["pos", 0], input2=["p2", 0]),
            "sampler": sampler(positive=["switch", 0]),
        },
        ("second words", "bad words"),
    ),
    "switch with a text of its own": (
        {
            "switch": node("ComfySwitchNode", switch=False, on_false="typed words", on_true=["neg", 0]),
            "pos": node("CLIPTextEncode", text=["switch", 0], clip=["ckpt", 1]),
        },
        ("typed words", "bad words"),
    ),
    "switch to a machine that writes the words anew": (
        {
            "short": node("PrimitiveStringMultiline", value="a fox"),
            "rules": node("PrimitiveStringMultiline", value="You expand prompts."),
            "write": node("TextGenerate", clip=["ckpt", 1], system_prompt=["rules", 0], prompt=["short", 0]),
            "switch": node("ComfySwitchNode", switch=True, on_false=["short", 0], on_true=["write", 0]),
            "pos": node("CLIPTextEncode", text=["switch", 0], clip=["ckpt", 1]),
        },
        ("a fox", "bad words"),
    ),
    "one node with a preset": (
        {"decode": node("ailab_OmniGen", prompt_text="service words", preset_prompt="None", seed=3)},
        ("service words", None),
    ),
    "one node with inputs of a choice": (
        {
            "decode": node(
                "ByteDanceSeedreamNodeV2",
                **{"model": "5.0", "model.prompt": "service words", "model.negative_prompt": "n words"},
            ),
        },
        ("service words", "n words"),
    ),
    "one node does it all": (
        {"decode": node("FluxProUltraImageNode", prompt="service words", seed=3, aspect_ratio="16:9")},
        ("service words", None),
    ),
    "captioning model": (
        {
            "vlm": node("Florence2Run", image=["y", 0], text_input="describe this picture", task="caption"),
            "join": node("StringConcatenate", string_a="a photo of", string_b=["vlm", 0], delimiter=" "),
            "pos": node("CLIPTextEncode", text=["join", 0], clip=["ckpt", 1]),
        },
        ("a photo of", "bad words"),
    ),
    "what is saved goes on": (
        {
            "write": node("TextGenerate", prompt="You expand prompts."),
            "switch": node("ComfySwitchNode", switch=False, on_false="typed words", on_true=["write", 0]),
            "pos": node("CLIPTextEncode", text=["switch", 0], clip=["ckpt", 1]),
            "compare": node("ImageCompare", image_a=["save", 0], image_b=["x", 0]),
        },
        ("typed words", "bad words"),
    ),
    "nothing saved": ({"save": node("PreviewImage", images=["decode", 0])}, ("good words", "bad words")),
    "encoders without a sampler": (
        {"sampler": node("Mystery", thing=["neg", 0]), "other": node("Uses", negative=["neg", 0])},
        ("good words", None),
    ),
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes_to_words(name: str) -> None:
    changes, expected = ROUTES[name]
    assert words(FULL | changes) == expected


def test_the_last_sampler_speaks_and_retouching_does_not() -> None:
    second = {
        "p2": node("CLIPTextEncode", text="second pass", clip=["ckpt", 1]),
        "again": sampler(positive=["p2", 0], latent_image=["sampler", 0]),
        "decode2": node("VAEDecode", samples=["again", 0], vae=["ckpt", 2]),
        "save2": node("SaveImage", images=["decode2", 0]),
    }
    assert read(FULL | second).prompt == "second pass"
    face = {
        "p2": node("CLIPTextEncode", text="a detailed face", clip=["ckpt", 1]),
        "face": node("FaceDetailer", image=["decode", 0], positive=["p2", 0], negative=["neg", 0], model=["ckpt", 0]),
        "save": node("SaveImage", images=["face", 0]),
    }
    assert read(FULL | face).prompt == "good words"
    refiner = {
        "sampler": sampler(add_noise="disable", noise_seed=0, latent_image=["first", 0], model=["ckpt2", 0]),
        "ckpt2": node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
        "first": sampler(seed=31),
    }
    found = read(FULL | refiner)
    assert (found.seed, found.model) == (31, "m.safetensors")
    found = read(FULL | {"sampler": sampler(add_noise="disable")})  # nothing to go on from
    assert (found.seed, found.model) == (9, "m.safetensors")


def test_numbers_behind_links() -> None:
    graph = FULL | {
        "number": node("PrimitiveInt", value=77),
        "size": node("PrimitiveInt", value=960),
        "latent": node("EmptySD3LatentImage", width=["size", 0], height=["size", 0], batch_size=1),
        "sampler": sampler(seed=["number", 0], model=["lora", 0]),
        "lora": node("LoraLoader", lora_name="x.safetensors", model=["ckpt", 0], clip=["ckpt", 1]),
    }
    found = read(graph)
    assert (found.seed, found.width_px, found.height_px, found.model) == (77, 960, 960, "m.safetensors")
    efficient = {
        "load": node("Efficient Loader", positive="p", negative="n", empty_latent_width=768, empty_latent_height=960),
        "sampler": sampler(positive=["load", 1], negative=["load", 2], latent_image=["load", 3]),
    }
    found = read(FULL | efficient)
    assert (found.prompt, found.negative_prompt, found.width_px, found.height_px) == ("p", "n", 768, 960)
    embeds = {
        "embeds": node("HyVideoTextEncode", prompt="a moving fox", text_encoders=["x", 0]),
        "sampler": node("HyVideoSampler", hyvid_embeds=["embeds", 0], model=["ckpt", 0], steps=20, seed=9),
    }
    found = read(FULL | embeds)
    assert (found.prompt, found.seed, found.steps) == ("a moving fox", 9, 20)
    tuples = {
        "load": node("Eff. Loader SDXL", base_ckpt_name="x.safetensors", positive="p", negative="n", positive_ascore=6),
        "sampler": node(
            "KSampler SDXL (Eff.)", sdxl_tuple=["load", 0], latent_image=["load", 1], noise_seed=5, steps=8
        ),
    }
    found = read(FULL | tuples)
    assert (found.prompt, found.negative_prompt, found.seed, found.steps) == ("p", "n", 5, 8)
    assert found.model == "x.safetensors"
    saver = {"save": node("Image Saver", images=["decode", 0], positive="p", modelname="x.safetensors", seed_value=5)}
    found = read(FULL | saver)
    assert (found.prompt, found.seed, found.model) == ("p", 5, "x.safetensors")


# The editor's notation ------------------------------------------------------------------------------------------------


def box(
    id_: int | str,
    kind: str,
    inputs: dict[str, tuple[str, int | None]],
    outputs: dict[str, str],
    values: Any = (),
    **more: Any,
) -> Inputs:
    """A node of the editor: inputs are name -> (type, link), outputs name -> type."""
    return {
        "id": id_,
        "type": kind,
        "mode": 0,
        "widgets_values": values if isinstance(values, dict) else list(values),
        "inputs": [{"name": name, "type": type_, "link": link} for name, (type_, link) in inputs.items()],
        "outputs": [{"name": name, "type": type_, "links": []} for name, type_ in outputs.items()],
    } | more


def editor(extra: list[Inputs], links: list[Any], positive: int, /, **top: Any) -> EmbeddedPrompt | None:
    """A workflow whose sampler gets link `positive` as its positive side; links 1-7 are taken."""
    cond = {"CONDITIONING": "CONDITIONING"}
    nodes = [
        box(1, "CheckpointLoaderSimple", {}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}, ["m.safetensors"]),
        box(2, "CLIPTextEncode", {"clip": ("CLIP", 1)}, cond, ["good words"]),
        box(3, "CLIPTextEncode", {"clip": ("CLIP", 2)}, cond, ["bad words"]),
        box(4, "EmptyLatentImage", {}, {"LATENT": "LATENT"}, [640, 512, 1]),
        box(
            5,
            "KSampler",
            {
                "model": ("MODEL", 3),
                "positive": ("CONDITIONING", positive),
                "negative": ("CONDITIONING", 5),
                "latent_image": ("LATENT", 6),
            },
            {"LATENT": "LATENT"},
            [9, "randomize", 20, 7, "euler", "normal", 1],
        ),
        box(6, "SaveImage", {"images": ("IMAGE", 7)}, {}, ["ComfyUI"]),
    ]
    base = [
        [1, 1, 1, 2, 0, "CLIP"],
        [2, 1, 1, 3, 0, "CLIP"],
        [3, 1, 0, 5, 0, "MODEL"],
        [4, 2, 0, 5, 1, "CONDITIONING"],
        [5, 3, 0, 5, 2, "CONDITIONING"],
        [6, 4, 0, 5, 3, "LATENT"],
        [7, 5, 0, 6, 0, "IMAGE"],
    ]
    workflow = {"nodes": nodes + extra, "links": base + links, "version": 0.4} | top
    return read_prompt(png({"workflow": json.dumps(workflow)}))


ANY = {"*": "*"}
COND = {"CONDITIONING": "CONDITIONING"}


def test_editor_plain() -> None:
    assert editor([], [], 4) == PLAIN


def test_editor_reroutes_and_set_get() -> None:
    reroute = box(10, "Reroute", {"": ("*", 20)}, ANY)
    assert editor([reroute], [[20, 2, 0, 10, 0, "*"], [21, 10, 0, 5, 1, "*"]], 21) == PLAIN
    setter = box(11, "SetNode", {"CONDITIONING": ("CONDITIONING", 30)}, ANY, ["pos"])
    getter = box(12, "GetNode", {}, COND, ["pos"])
    links = [[30, 2, 0, 11, 0, "CONDITIONING"], [31, 12, 0, 5, 1, "CONDITIONING"]]
    assert editor([setter, getter], links, 31) == PLAIN


def test_editor_bypassed_and_muted_nodes() -> None:
    encoder = box(10, "CLIPTextEncode", {"clip": ("CLIP", 20)}, COND, ["unused words"])
    combine_in = {"conditioning_1": ("CONDITIONING", 21), "conditioning_2": ("CONDITIONING", 22)}
    links = [[20, 1, 1, 10, 0, "CLIP"], [21, 2, 0, 11, 0, "C"], [22, 10, 0, 11, 1, "C"], [23, 11, 0, 5, 1, "C"]]
    both = editor([encoder, box(11, "ConditioningCombine", combine_in, COND)], links, 23)
    assert both is not None and both.prompt == "good words, unused words"
    bypassed = editor([encoder, box(11, "ConditioningCombine", combine_in, COND, mode=4)], links, 23)
    assert bypassed == PLAIN
    muted = editor([encoder | {"mode": 2}, box(11, "ConditioningCombine", combine_in, COND)], links, 23)
    assert muted == PLAIN


def test_editor_primitive_and_named_widgets() -> None:
    primitive = box(10, "PrimitiveNode", {}, {"STRING": "STRING"}, ["typed words", "fixed"])
    encoder = box(11, "CLIPTextEncode", {"clip": ("CLIP", 20), "text": ("STRING", 21)}, COND, ["stale words"])
    links = [[20, 1, 1, 11, 0, "CLIP"], [21, 10, 0, 11, 1, "STRING"], [22, 11, 0, 5, 1, "C"]]
    found = editor([primitive, encoder], links, 22)
    assert found is not None and found.prompt == "typed words"
    named = box(12, "NewEncoder", {"clip": ("CLIP", 20)}, COND, ["a", "new words"])
    named["inputs"] += [
        {"name": name, "type": "STRING", "link": None, "widget": {"name": name}} for name in ("mode", "prompt")
    ]
    found = editor([named], [[20, 1, 1, 12, 0, "CLIP"], [22, 12, 0, 5, 1, "C"]], 22)
    assert found is not None and found.prompt == "new words"


@pytest.mark.parametrize("given", ["inner", "widget", "listed", "link"])
def test_editor_subgraphs(given: str) -> None:
    """The text of a subgraph's encoder: its own widget, the instance's widget or value, or a node outside."""
    inner = {
        "id": "aaaa-bbbb",
        "nodes": [box(40, "CLIPTextEncode", {"clip": ("CLIP", 1), "text": ("STRING", 2)}, COND, ["inner words"])],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 40, "target_slot": 0, "type": "CLIP"},
            {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 40, "target_slot": 1, "type": "STRING"},
            {"id": 3, "origin_id": 40, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "CONDITIONING"},
        ],
        "inputs": [
            {"name": "clip", "type": "CLIP"},
            {"name": "text", "type": "STRING"},
            {"name": "width", "type": "INT"},
        ],
        "outputs": [{"name": "CONDITIONING", "type": "CONDITIONING"}],
    }
    instance = box(10, "aaaa-bbbb", {"clip": ("CLIP", 20)}, COND, ["widget words"] if given == "widget" else [])
    if given == "listed":  # newer editors keep values of all inputs, but list only the linked ones
        instance["widgets_values"] = ["listed words", 1024]
    else:
        instance["inputs"].append(
            {"name": "text", "type": "STRING", "link": 23 if given == "link" else None, "widget": {"name": "text"}}
        )
    links = [[20, 1, 1, 10, 0, "CLIP"], [22, 10, 0, 5, 1, "C"]]
    extra = [instance]
    if given == "link":
        extra.append(box(13, "PrimitiveStringMultiline", {}, {"STRING": "STRING"}, ["link words"]))
        extra[-1]["inputs"] = [{"name": "value", "type": "STRING", "link": None, "widget": {"name": "value"}}]
        links.append([23, 13, 0, 10, 1, "STRING"])
    found = editor(extra, links, 22, definitions={"subgraphs": [inner]})
    assert found is not None and (found.prompt, found.negative_prompt) == (f"{given} words", "bad words")


UNNAMED: dict[str, tuple[list[Any], str]] = {  # widget values of encoders that no list names -> the text
    "short": (["a fox", "comfy", "A1111"], "a fox"),
    "short, in another script": (["狐狸", "comfy", "A1111"], "狐狸"),
    "choices": (["a fox in snow", "index_timestep_zero", "length+mean"], "a fox in snow"),
    "menus": (
        ["a fox in snow", "Select the LoRA to add to the text", "Select the Wildcard to add to the text"],
        "a fox in snow",
    ),
    "numbers": (["1.0, 0.978453, 0.95418, 0.0", "a fox in snow"], "a fox in snow"),
}


@pytest.mark.parametrize("name", UNNAMED)
def test_editor_texts_without_names(name: str) -> None:
    values, expected = UNNAMED[name]
    encoder = box(10, "FancyTextEncode", {"clip": ("CLIP", 20)}, COND, values)
    found = editor([encoder], [[20, 1, 1, 10, 0, "CLIP"], [22, 10, 0, 5, 1, "C"]], 22)
    assert found is not None and found.prompt == expected


def test_editor_texts_of_primitives_and_stale_widgets() -> None:
    primitive = box(10, "PrimitiveStringMultiline", {}, {"STRING": "STRING"}, ["fox"])
    encoder = box(
        11, "FancyTextEncode", {"clip": ("CLIP", 20), "text": ("STRING", 21)}, COND, ["stale words, old", "A1"]
    )
    encoder["inputs"][1]["widget"] = {"name": "text"}
    links = [[20, 1, 1, 11, 0, "CLIP"], [21, 10, 0, 11, 1, "STRING"], [22, 11, 0, 5, 1, "C"]]
    found = editor([primitive, encoder], links, 22)
    assert found is not None and found.prompt == "fox"
    machine = box(12, "OllamaGenerate", {}, {"STRING": "STRING"}, ["Describe a fox in a few words."])
    shown = box(10, "ShowText|pysssss", {"text": ("STRING", 23)}, {"STRING": "STRING"}, ["", "a fox in snow"])
    shown["inputs"][0]["widget"] = {"name": "text"}
    found = editor([machine, shown, encoder], [*links, [23, 12, 0, 10, 0, "STRING"]], 22)
    assert found is not None and found.prompt == "a fox in snow"


def test_editor_broadcasts() -> None:
    """What cg-use-everywhere sends from node to node without a link."""
    sent = [{"downstream": 5, "downstream_slot": 1, "upstream": "2", "upstream_slot": 0, "type": "CONDITIONING"}]
    assert editor([], [], 99, extra={"ue_links": sent}) == PLAIN


def test_executed_graph_first_and_editor_when_it_is_broken() -> None:
    workflow = {
        "nodes": [box(1, "SaveImage", {}, {}), box(2, "OpenAIDalle3", {}, {}, ["words of the editor, not run"])],
        "links": [],
    }
    both = read_prompt(png({"prompt": json.dumps(FULL), "workflow": json.dumps(workflow)}))
    assert both == PLAIN
    broken = read_prompt(png({"prompt": "{broken", "workflow": json.dumps(workflow)}))
    assert broken is not None and broken.prompt == "words of the editor, not run"
