"""The first convolution over blocks of four pixels: the same numbers from the same bytes."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch

from nets.ssd import SSD300
from tools.export.graph import network_graph
from tools.export.stem import read_by_fours, two_outputs

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 3, 300, 300)).astype(np.float32)


def graph_of(backbone):
    torch.manual_seed(0)
    return network_graph(SSD300(backbone, 2).eval())


def results(network):
    session = onnxruntime.InferenceSession(network.SerializeToString())
    return session.run(None, {"floats": IMAGES})


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18(width=0.125)",
        "mobilenetv2(width=0.1)",
        "resnet18(width=0.125, attention='cbam')",  # whose graph has a mean of its own
    ],
)
def test_it_computes_what_it_did(backbone):
    before = graph_of(backbone)
    after = copy.deepcopy(before)
    read_by_fours(after)
    first = next(node for node in after.graph.node if node.op_type == "Conv")
    assert first.input[1] == "stem/wide"
    for old, new in zip(results(before), results(after), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-4 * np.abs(old).max())


def test_a_convolution_of_stride_one_stays():
    network = graph_of("vgg16")
    before = network.SerializeToString()
    read_by_fours(network)
    assert network.SerializeToString() == before


def test_where_the_columns_of_a_kernel_go():
    # One colour, one output; columns a b c, one zero before the row. Output 0 of a block of pixels
    # 0 1 2 3 is over -1 0 1, output 1 over 1 2 3; pixel -1 is the last of the block before.
    wide, before, after = two_outputs(np.array([[[[2.0, 3.0, 5.0]] * 3]], np.float32), 1)
    assert (before, after) == (1, 0)
    assert wide.shape == (2, 4, 3, 2)
    assert wide[0, :, 0].T.tolist() == [[0, 0, 0, 2], [3, 5, 0, 0]]
    assert wide[1, :, 0].T.tolist() == [[0, 0, 0, 0], [0, 2, 3, 5]]


def test_seven_columns_reach_into_both_neighbours():
    # Output 0 is over pixels -3..3, output 1 over -1..5 of its block.
    row = np.arange(1.0, 8.0, dtype=np.float32)
    wide, before, after = two_outputs(np.tile(row, (1, 1, 7, 1)), 3)
    assert (before, after) == (1, 1)
    assert wide[0, :, 0].T.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 0, 0, 0]]
    assert wide[1, :, 0].T.tolist() == [[0, 0, 0, 1], [2, 3, 4, 5], [6, 7, 0, 0]]
