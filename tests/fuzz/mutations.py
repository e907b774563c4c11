"""Ways to break what a user may give: bytes, annotations, checkpoints, lists, values of flags."""

import copy
import io
import math
import pickle
import struct
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ODD_TEXTS = (
    *("", " ", "0", "-1", "1e9", "1e999", "nan", "-inf", "1_000", "0x10", "true", "None", "\x00"),
    *("\n", "a\nb", "a b", "..", "../..", "/", "~", "%s", "$x$", "{}", "猫", "\u202e", "\x1b[31m"),
    *("9" * 30, "9" * 400, "x" * 300, "'", '"', "<b>", "&amp;", "\\", "*", "C:\\x", "a/b"),
)
ODD_VALUES = (
    *(None, True, 0, -1, 10**30, 0.5, math.nan, math.inf, "", "resnet18(width=1e9)", "x" * 300),
    *([], [1], ["a", "a"], [[]], {}, {"a": 1}, {1: 2}, b"bytes", (1, 2), torch.Size([2])),
)


def odd_tensors(like: torch.Tensor) -> list[torch.Tensor]:
    """Tensors that are no substitute for one, among them some that are hard to handle."""
    return [
        torch.zeros(0),
        torch.zeros(()),
        torch.full_like(like, math.nan) if like.is_floating_point() else like - 10**9,
        like.to(torch.complex64) if like.is_floating_point() else like.double(),
        like.double(),
        like.bool(),
        like[..., None],
        like.to("meta"),
        like.to_sparse() if like.ndim else like[None],
        torch.zeros(1).expand(10**9),
    ]


@st.composite
def broken_bytes(draw: DrawFn, whole: bytes) -> bytes:
    """`whole` with one to three injuries: cut off, bits turned, parts gone, repeated or foreign."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from((1, 2, 16, 300, 5000)))
        kind = draw(
            st.sampled_from(("cut", "flip", "drop", "repeat", "insert", "overwrite", "head"))
        )
        if kind == "cut":
            del data[at:]
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "overwrite":
            data[at : at + length] = bytes([draw(st.integers(0, 255))]) * length
        elif kind == "head" and data:  # where formats keep sizes and offsets
            data[draw(st.integers(0, min(63, len(data) - 1)))] = draw(
                st.sampled_from((0, 127, 255))
            )
    return bytes(data)


@st.composite
def broken_annotation(draw: DrawFn, whole: bytes) -> bytes:
    """An annotation with broken bytes, or well-formed and with nonsense in it."""
    if draw(st.booleans()):
        return draw(broken_bytes(whole))
    root = ET.fromstring(whole)
    for _ in range(draw(st.integers(1, 2))):
        element = draw(st.sampled_from(list(root.iter())))
        kind = draw(st.sampled_from(("text", "text", "text", "tag", "clear", "double")))
        if kind == "text":
            texts = [text for text in ODD_TEXTS if "\x00" not in text and "\x1b" not in text]
            element.text = draw(st.sampled_from(texts))
        elif kind == "tag":
            element.tag = draw(st.sampled_from(("object", "bndbox", "name", "x")))
        elif kind == "clear":
            element.clear()
        elif kind == "double":
            element.extend([copy.deepcopy(child) for child in element])
    prefix = draw(st.sampled_from((b"", b"", b"", *PROLOGUES)))
    nested = draw(st.sampled_from((b"", b"", b"", DEEP)))
    return prefix + ET.tostring(root).replace(b"</annotation>", nested + b"</annotation>")


DEEP = b"<object>" * 50_000 + b"</object>" * 50_000
PROLOGUES = (
    b'<?xml version="1.0" encoding="klingon"?>',
    b'<?xml version="1.0" encoding="utf-16"?>',
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    b'<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]>',
    b"\xef\xbb\xbf",
    b" ",
)


@st.composite
def broken_lines(draw: DrawFn, whole: bytes) -> bytes:
    """A text file with broken bytes or with lines, or words of lines, exchanged."""
    if draw(st.integers(0, 3)) == 0:
        return draw(broken_bytes(whole))
    lines = whole.decode().split("\n")
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        text = draw(st.sampled_from(ODD_TEXTS))
        kind = draw(st.sampled_from(("line", "word", "double", "drop")))
        if kind == "line":
            lines[at] = text
        elif kind == "word":
            words = lines[at].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = text
            lines[at] = " ".join(words)
        elif kind == "double":
            lines.insert(at, lines[at])
        else:
            del lines[at]
            lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def places(content: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Each (container, key) of nested dicts and lists, outer ones first."""
    if depth > 5 or not isinstance(content, dict | list):
        return []
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    found = [(content, key) for key in keys]
    for key in keys:
        found += places(content[key], depth + 1)
    return found


@st.composite
def broken_content(draw: DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds, with one entry dropped, added or of another kind."""
    content = copy.deepcopy(whole)
    container: Any = content
    key: Any = draw(st.sampled_from(list(container)))
    for _ in range(draw(st.integers(0, 4))):  # every level as likely as the next
        if isinstance(container[key], dict | list) and container[key]:
            container = container[key]
            size = range(len(container))
            key = draw(st.sampled_from(list(container) if isinstance(container, dict) else size))
    kind = draw(st.sampled_from(("drop", "value", "value", "value", "add")))
    if kind == "drop":
        del container[key]
    elif kind == "add" and isinstance(container, dict):
        container["odd"] = draw(st.sampled_from(ODD_VALUES))
    elif isinstance(container[key], torch.Tensor) and draw(st.booleans()):
        container[key] = draw(st.sampled_from(odd_tensors(container[key])))
    else:
        container[key] = draw(st.sampled_from(ODD_VALUES))
    return content


class Payload:
    """What an attacker would put into a pickle: it makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.file,)


def malicious(file: Path, ours: dict[str, Any]) -> dict[str, bytes]:
    """Checkpoints in every format that would make `file` if they were trusted."""
    found = {f"pickle {p}": pickle.dumps(Payload(file), protocol=p) for p in (0, 2, 4)}
    for name, content in (
        ("entry", {**ours, "training": Payload(file)}),
        ("key", {**ours, Payload(file): 1}),
        ("model", {**ours, "model": Payload(file)}),
        ("alone", Payload(file)),
    ):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            found[f"{name}, {'zip' if zipped else 'legacy'}"] = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file_:
        file_.writestr("archive/data.pkl", pickle.dumps(Payload(file), protocol=2))
        file_.writestr("archive/version", "3\n")
    found["hand-made zip"] = buffer.getvalue()
    found["torchscript"] = struct.pack("<I", 0x04034B50) + b"constants.pkl" * 9
    return found


NUMBERS = {
    int: ("-1", "0", "1", "2", "7", "1_0", "2147483648", "9223372036854775808", "1" + "0" * 30),
    float: ("-1", "0", "1e-300", "1e-7", "0.5", "1", "1.0000001", "1e4", "1e300", "1e999", "nan"),
}
TEXTS = tuple(text for text in ODD_TEXTS if "\x00" not in text and not text.startswith("/"))


def flag_values(kind: type) -> SearchStrategy[str]:
    """Values for a flag of a type: most of that type, and still what no program should be given.

    No absolute paths: root may write anywhere.
    """
    if kind is bool:
        return st.nothing()
    if kind in NUMBERS:
        return st.sampled_from(3 * NUMBERS[kind] + TEXTS)
    signs = st.characters(exclude_characters="\x00/", exclude_categories=())
    return st.one_of(st.sampled_from(TEXTS), st.sampled_from(SPECS), st.text(signs, max_size=6))


SPECS = (
    *("resnet18(width=1e9)", "mobilenetv2(width=1e9)", "resnet18(width=1e999)", "vgg16(width=1)"),
    *(
        "resnet18(width=0)",
        "resnet18(width=True)",
        "resnet18(width=[1])",
        "resnet18(width={[]: 1})",
    ),
    *("resnet18(", "resnet18)", "resnet18(width='\\d')", "resnet18(width=1if)", "resnet18(*[1])"),
    *("resnet18(width=1, width=1)", "(" * 300 + ")" * 300, "resnet18(width=" + "-" * 5000 + "1)"),
    *("resnet18(depth=2)", "resnet18(pretrained=True)", "resnet18(width=__import__('os'))"),
    *("hint(weight='a')", "cwd(tau=nan)", "cwd(tau=1e999)", "cwd(tau=True)", "cwd(tau=None)"),
    *(
        "hint(student_channels=1)",
        "attention(weight=-1)",
        "lambda: 0",
        "resnet18\x0b",
        "\uff32esnet18",
    ),
    *("VOC2007", "VOC2007/", "VOC2007/../train", "VOC2007/train/x", "camera:-1"),
    *("camera:99999999999999999999", "camera:0x1", "camera:²"),
)
