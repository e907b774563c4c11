"""The same graph in fewer bytes: without what no runtime reads, and nothing twice.

A small network in eight bits has more names than some layers have weights.
"""

from typing import Any

import numpy as np

# Attributes that are as good as absent where all their numbers are these.
UNSAID = {"strides": 1, "dilations": 1, "pads": 0}


def shrink(model: Any) -> None:
    """Makes an `onnx.ModelProto` smaller in place; it computes what it did, to the last bit.

    Names of nodes and their sources, shapes that follow from the graph and attributes that say the
    default go. Equal constants become one. Tensors other than inputs and outputs get short names.
    """
    graph = model.graph
    for node in graph.node:
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
        for attribute in [one for one in node.attribute if is_default(node, one)]:
            node.attribute.remove(attribute)
    for value in (*graph.input, *graph.output):
        value.ClearField("metadata_props")
    del graph.value_info[:]
    share_constants(graph)
    shorten_names(graph)


def is_default(node: Any, attribute: Any) -> bool:
    """Whether a node does the same without one of its attributes."""
    from onnx import defs

    if attribute.name in UNSAID:
        return set(attribute.ints) == {UNSAID[attribute.name]}
    known = defs.get_schema(node.op_type).attributes
    return bool(attribute == known[attribute.name].default_value)


def share_constants(graph: Any) -> None:
    """Keeps the first of equal constants, and lets all who read another one read it."""
    first: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    for constant in graph.initializer:
        name, constant.name = constant.name, ""
        instead[name] = first.setdefault(constant.SerializeToString(), name)
        constant.name = name
    kept = [one for one in graph.initializer if instead[one.name] == one.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]


def shorten_names(graph: Any) -> None:
    """Numbers tensors, but for inputs and outputs; an empty name is an input left out."""
    short = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    for named in graph.node:
        for names in (named.input, named.output):
            for name in names:
                short.setdefault(name, np.base_repr(len(short), 36).lower())
            names[:] = [short[name] for name in names]
    for constant in graph.initializer:
        constant.name = short[constant.name]
