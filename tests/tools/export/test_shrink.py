"""A graph in fewer bytes: what goes, what stays, and that it computes what it did."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, parser

from tools.export.shrink import shrink

# Two convolutions that say what is the default, or what is not, with weights of equal numbers.
TEXT = """
two (float[B, 3, 9, 9] images) => (float[B, 3, H, W] boxes) {
    first_with_a_long_name = Conv <group = 1, auto_pad = "NOTSET", strides = [1, 1],
        dilations = [2, 2], pads = [0, 0, 0, 0], kernel_shape = [3, 3]> (images, weight)
    mean = ReduceMean <keepdims = 1> (first_with_a_long_name)
    centred = Sub (first_with_a_long_name, mean)
    boxes = Conv <strides = [2, 1], dilations = [1, 1], pads = [0, 1, 0, 1]> (centred, again)
}"""


def model():
    graph = parser.parse_graph(TEXT)
    weight = np.random.default_rng(0).random((3, 3, 3, 3), np.float32)
    graph.initializer.extend(numpy_helper.from_array(weight, name) for name in ("weight", "again"))
    for k, node in enumerate(graph.node):
        node.name = f"node {k}"
        node.metadata_props.add(key="source", value="line 7")
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def results(of):
    session = onnxruntime.InferenceSession(of.SerializeToString())
    return session.run(None, {"images": np.random.default_rng(1).random((2, 3, 9, 9), np.float32)})


def shrunk():
    small = model()
    shrink(small)
    onnx.checker.check_model(small, full_check=True)
    return small


def test_it_computes_what_it_did():
    (before,), (after,) = results(model()), results(shrunk())
    assert np.array_equal(before, after)


def test_only_what_is_not_the_default_is_said():
    said = [{one.name for one in node.attribute} for node in shrunk().graph.node]
    assert said == [{"dilations", "kernel_shape"}, set(), set(), {"strides", "pads"}]


def test_equal_constants_are_one():
    graph = shrunk().graph
    assert len(graph.initializer) == 1
    assert graph.node[0].input[1] == graph.node[3].input[1] == graph.initializer[0].name


def test_constants_of_other_shapes_or_types_are_not():
    ones = [np.ones((1, 4), np.float32), np.ones((4, 1), np.float32), np.ones((1, 4), np.int32)]
    graph = parser.parse_graph("g (float[1] x) => (float[1] y) { y = F (a, b, c, x) }")
    parts = zip("abc", ones, strict=True)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in parts)
    from tools.export.shrink import share_constants

    share_constants(graph)
    assert len(graph.initializer) == 3


def test_inputs_and_outputs_keep_their_names():
    graph = shrunk().graph
    assert [graph.input[0].name, graph.output[0].name] == ["images", "boxes"]
    inner = {name for node in graph.node for name in node.output} - {"boxes"}
    assert all(len(name) == 1 for name in inner)
    assert not any(node.name or node.metadata_props for node in graph.node)
