"""The first convolution in a form that eight bits are quick at; it computes what it did."""

from typing import Any

import numpy as np
import numpy.typing as npt

from utils.data.augment import IMAGE_SIZE

PIXELS = 4  # beside each other, of three colours: twelve bytes, which a CPU multiplies by fours
STRIDE = 2
ACTIVATIONS = {"Relu", "Clip"}  # ONNX Runtime makes one kernel of a convolution and one of these


def read_by_fours(network: Any) -> None:
    """Has a first convolution of stride 2 read four pixels of a row as one with twelve channels.

    It answers for two of its outputs at once, as one with twice the channels. In eight bits, where
    pixels lie one after the other with their channels, both are the same bytes under another shape,
    so nothing is moved. ONNX Runtime's kernels multiply four channels at a time, for sixteen
    outputs at a time: with three and eight most of the work was for nothing. Any other first
    convolution stays as it is.

    Args:
        network: of `tools.export.graph.network_graph`; changed in place.
    """
    from onnx import helper, numpy_helper

    graph = network.graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    activation = next(node for node in graph.node if first.output[0] in node.input)
    known = {one.name: helper.get_attribute_value(one) for one in first.attribute}
    constants = {one.name: one for one in graph.initializer}
    kernel, *bias = (numpy_helper.to_array(constants[name]) for name in first.input[1:])
    size, pad = kernel.shape[-1], kernel.shape[-1] // 2
    by_two = known["strides"] == [STRIDE] * 2 and known["pads"] == [pad] * 4
    if not by_two or activation.op_type not in ACTIVATIONS:
        return

    wide, left, right = two_outputs(kernel, pad)
    place, result = list(graph.node).index(first), activation.output[0]
    graph.node.remove(first)
    graph.node.remove(activation)
    for name in first.input[1:]:
        graph.initializer.remove(constants[name])
    new = {
        "stem/fours": np.array([-1, IMAGE_SIZE, IMAGE_SIZE // PIXELS, wide.shape[1]]),
        "stem/apart": np.array([-1, IMAGE_SIZE // STRIDE, IMAGE_SIZE // STRIDE, len(kernel)]),
        "stem/wide": wide,
    }
    if bias:  # the exporter leaves one of zeros out
        new["stem/wide_bias"] = np.tile(bias[0], PIXELS // STRIDE)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in new.items())
    first_wide = helper.make_node(
        "Conv",
        ["stem/pixels", *(name for name in new if name.startswith("stem/wide"))],
        ["stem/pairs"],
        strides=[STRIDE, 1],
        pads=[pad, left, pad, right],
        kernel_shape=[size, wide.shape[-1]],
    )
    activation.input[0], activation.output[0] = "stem/pairs", "stem/active"
    nodes = [
        *reshaped_by_pixel(first.input[0], "stem/fours", "stem/pixels"),
        first_wide,
        activation,
        *reshaped_by_pixel("stem/active", "stem/apart", result),
    ]
    for node in reversed(nodes):
        graph.node.insert(place, node)


def reshaped_by_pixel(value: str, shape: str, result: str) -> list[Any]:
    """Nodes that see a `[B, C, H, W]` under another shape of its pixels, `[B, H, W', C']`."""
    from onnx import helper

    by_pixel, other = f"{value}/by_pixel", f"{result}/by_pixel"
    return [
        helper.make_node("Transpose", [value], [by_pixel], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [by_pixel, shape], [other]),
        helper.make_node("Transpose", [other], [result], perm=[0, 3, 1, 2]),
    ]


def two_outputs(
    kernel: npt.NDArray[np.float32], pad: int
) -> tuple[npt.NDArray[np.float32], int, int]:
    """A kernel of stride 2 over pixels -> one of stride 1 over blocks of four, along a row.

    Output s = 0, 1 of block j stands at pixel 4j + 2s. Pixel i of block j + k is under the kernel's
    column 4k + i - 2s + pad.

    Args:
        kernel: `[O, C, S, S]`.
        pad: zeros that the convolution adds before a row.

    Returns:
        `[2O, 4C, S, blocks]`, channels by pixel, then colour; the blocks before j; those after it.
    """
    outs, colours, size, _ = kernel.shape
    pairs = PIXELS // STRIDE
    before = -(-pad // PIXELS)
    after = (STRIDE * (pairs - 1) + size - 1 - pad) // PIXELS
    blocks = before + 1 + after
    wide = np.zeros((pairs, outs, PIXELS, colours, size, blocks), kernel.dtype)
    for s, i, k in np.ndindex(pairs, PIXELS, blocks):
        column = PIXELS * (k - before) + i - STRIDE * s + pad
        if 0 <= column < size:
            wide[s, :, i, :, :, k] = kernel[..., column]
    return wide.reshape(pairs * outs, PIXELS * colours, size, blocks), before, after
