"""The whole of `nets.detect.detect` as an ONNX graph: pixels in, boxes, scores and labels out.

The network is PyTorch's to export; what comes before and after it is in `tools.export.ends`.
"""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nets.postprocess import Limits
from nets.saved.exported import FORMAT
from nets.ssd import SSD300
from tools.export.ends import (
    FROM_BYTES,
    FROM_FLOATS,
    OPSET,
    RAW,
    SUPPRESS,
    constants,
    parsed,
    prior_tables,
    with_priors,
)
from tools.export.shrink import shrink
from utils.data.augment import IMAGE_SIZE
from utils.show.report import cost

# The constant in a network's graph. No name of torch's exporter has a slash, so none meets ours.
MEAN = "stem/mean"


class Heads(nn.Module):
    """What of an SSD300 goes into the file: `[B, 3, 300, 300]` -> logits, offsets."""

    def __init__(self, model: SSD300) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `nets.outputs.Outputs`."""
        _, logits, offsets = self.model(images)
        return logits, offsets


def network_graph(model: SSD300) -> Any:
    """The network alone: floats `[B, 3, 300, 300]` -> `logits`, `offsets`; an `onnx.ModelProto`.

    Normalisation is in it; batch norm and the division by the standard deviation are folded into
    the convolutions.
    """
    example = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)  # one image would fix the batch to one
    with warnings.catch_warnings():
        # Of torch's own exporter, about its own insides; which, depends on the version.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            Heads(model).cpu().eval(),
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["floats"],
            output_names=["logits", "offsets"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )
    assert program is not None
    proto = program.model_proto
    fold_normalisation(proto.graph)
    return proto


def fold_normalisation(graph: Any) -> None:
    """Has the first convolution's weights divide by the deviation; keeps the mean as three numbers.

    Its subtraction stays a step of its own: the zeros that a convolution adds at the border stand
    for the mean. It is spelt out for a row when the file is loaded: ONNX Runtime lays out eight
    bits pixel by pixel, and takes a row at a time, but three numbers one after the other.
    """
    from onnx import helper, numpy_helper

    values = {one.name: one for one in graph.initializer}
    divide = next(node for node in graph.node if node.op_type == "Div")
    subtract = next(node for node in graph.node if divide.input[0] in node.output)
    [first] = [node for node in graph.node if divide.output[0] in node.input]
    assert (subtract.op_type, first.op_type) == ("Sub", "Conv")
    mean, deviation = (values[node.input[1]] for node in (subtract, divide))
    weight = values[first.input[1]]
    row, deviations, weights = map(numpy_helper.to_array, (mean, deviation, weight))
    assert row.shape == deviations.shape == (1, 3, 1, IMAGE_SIZE), (row.shape, deviations.shape)

    scaled = weights / deviations[..., :1]
    weight.CopyFrom(numpy_helper.from_array(scaled, weight.name))
    first.input[0] = divide.input[0]
    graph.node.remove(divide)
    graph.initializer.remove(deviation)
    subtract.input[1] = "stem/mean_row"
    graph.node.insert(0, helper.make_node("Expand", [MEAN, "stem/row_shape"], ["stem/mean_row"]))
    shape = np.array(row.shape, np.int64)
    mean.CopyFrom(numpy_helper.from_array(row[..., :1].copy(), MEAN))
    graph.initializer.append(numpy_helper.from_array(shape, "stem/row_shape"))


def whole_graph(
    network: Any,
    model: SSD300,
    class_names: Sequence[str],
    limits: Limits,
    *,
    takes_bytes: bool = False,
    raw: bool = False,
) -> Any:
    """A network's graph with what comes before and after it; an `onnx.ModelProto`, checked.

    Args:
        network: of `network_graph`, perhaps quantised.
        model: what it was made from.
        class_names: of its classes 1..K.
        limits: of post-processing.
        takes_bytes: its input is uint8 `[B, 300, 300, 3]` instead of float `[B, 3, 300, 300]`.
        raw: it ends with boxes `[B, P, 4]` and scores `[B, P, K]`, background left out.
    """
    from onnx import checker, compose, helper

    before = parsed(FROM_BYTES if takes_bytes else FROM_FLOATS, {})
    middle = compose.add_prefix(network, "network/")  # torch's names must not meet ours
    tables = prior_tables(model.layout)
    text = with_priors(RAW if raw else SUPPRESS, tables)
    after = parsed(text, constants(model.classes, limits) | tables)
    whole = compose.merge_models(before, middle, [("floats", "network/floats")])
    joints = [(f"network/{name}", name) for name in ("logits", "offsets")]
    whole = compose.merge_models(whole, after, joints)
    eight_bits = any(node.op_type == "QuantizeLinear" for node in network.graph.node)
    about = facts(model, class_names, limits) | {"dtype": "int8" if eight_bits else "float32"}
    helper.set_model_props(whole, about)
    shrink(whole)
    whole.graph.name = whole.producer_name = "ssd300-distillation"
    checker.check_model(whole, full_check=True)
    return whole


def facts(model: SSD300, class_names: Sequence[str], limits: Limits) -> dict[str, str]:
    """What a file says about itself; `nets.saved.exported.Exported` reads it."""
    return {
        "format": FORMAT,
        "backbone": model.spec,
        "layout": model.layout,
        "class_names": json.dumps(list(class_names)),
        "cost": json.dumps(cost(model)),
        "score_threshold": str(limits.score),
        "iou_threshold": str(limits.iou),
    }


def require_onnx() -> None:
    """Raises ValueError where onnx or onnxscript, an extra, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "this needs onnx and onnxscript; install them with: pip install -e '.[export]'"
        ) from error
