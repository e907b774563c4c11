"""The whole of `nets.detect.detect` as an ONNX graph: network, softmax, boxes, suppression.

The network is PyTorch's to export. What comes before and after it is written here in ONNX's own
text form, operation by operation, because there every tie and threshold counts.
"""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nets.exported import FORMAT
from nets.postprocess import Limits
from nets.ssd import SSD300
from utils.boxes import VARIANCES
from utils.data.augment import IMAGE_SIZE
from utils.show.report import cost

OPSET, IR_VERSION = 20, 10

# [B, 300, 300, 3] as pictures are, or [B, 3, 300, 300] as networks have it.
FROM_BYTES = f"""
from_bytes (uint8[batch, {IMAGE_SIZE}, {IMAGE_SIZE}, 3] images)
=> (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] floats) {{
    pixels = Cast <to = 1> (images)
    floats = Transpose <perm = [0, 3, 1, 2]> (pixels)
}}"""

FROM_FLOATS = f"""
from_floats (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] images)
=> (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] floats) {{
    floats = Identity (images)
}}"""

# As `utils.boxes.decode`, and clipped.
DECODE = """
    class_probabilities = Softmax <axis = -1> (logits)
    background, scores = Split <axis = -1> (class_probabilities, background_and_classes)
    towards, by = Split <axis = -1, num_outputs = 2> (offsets)
    moved = Mul (towards, centre_variance)
    distance = Mul (moved, prior_sizes)
    centres = Add (prior_centres, distance)
    grown = Mul (by, size_variance)
    factors = Exp (grown)
    sizes = Mul (prior_sizes, factors)
    halves = Mul (sizes, half)
    low = Sub (centres, halves)
    high = Add (centres, halves)
    corners = Concat <axis = -1> (low, high)
    boxes = Clip (corners, zero, one)
"""

RAW = f"""
raw (float[batch, P, columns] logits, float[batch, P, 4] offsets)
=> (float[batch, P, 4] boxes, float[batch, P, K] scores) {{
    {DECODE}
}}"""

# As `nets.postprocess`. ONNX takes the lower index of equal values, in TopK and in suppression:
# by class, then by rank in the class, which is the lower class and then the lower prior. No class
# can have more than `per_image` of the image's best, so suppression may stop there.
SUPPRESS = f"""
detect (float[batch, P, columns] logits, float[batch, P, 4] offsets)
=> (float[batch, D, 4] boxes, float[batch, D] scores, int64[batch, D] labels) {{
    {DECODE.replace("boxes =", "all_boxes =").replace(", scores =", ", all_scores =")}
    by_class = Transpose <perm = [0, 2, 1]> (all_scores)
    best, priors = TopK <axis = -1> (by_class, per_class)
    rows = Reshape (priors, image_then_candidates)
    row_columns = Unsqueeze (rows, last_axis)
    four_rows = Concat <axis = -1> (row_columns, row_columns, row_columns, row_columns)
    candidates = GatherElements <axis = 1> (all_boxes, four_rows)

    group_boxes = Reshape (candidates, groups_of_boxes)
    group_scores = Reshape (best, groups_of_scores)
    chosen = NonMaxSuppression <center_point_box = 0> (
        group_boxes, group_scores, most_of_class, iou_threshold, score_threshold)
    chosen_scores = GatherND (group_scores, chosen)
    nothing = Mul (group_scores, zero)
    survivors = ScatterND (nothing, chosen, chosen_scores)

    by_image = Reshape (survivors, image_then_candidates)
    scores, places = TopK <axis = -1> (by_image, per_image)
    real = Greater (scores, zero)
    classes = Div (places, per_class)
    from_one = Add (classes, first_label)
    labels = Where (real, from_one, padding)
    place_columns = Unsqueeze (places, last_axis)
    four_places = Concat <axis = -1> (place_columns, place_columns, place_columns, place_columns)
    unpadded = GatherElements <axis = 1> (candidates, four_places)
    ones = Cast <to = 1> (real)
    one_column = Unsqueeze (ones, last_axis)
    boxes = Mul (unpadded, one_column)
}}"""


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

    Normalisation is in it, and batch norm is folded into the convolutions.
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
    for node in proto.graph.node:  # where in our source it came from: a third of a small file
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del value.metadata_props[:]
    return proto


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
    after = parsed(RAW if raw else SUPPRESS, constants(model, limits))
    whole = compose.merge_models(before, middle, [("floats", "network/floats")])
    joints = [(f"network/{name}", name) for name in ("logits", "offsets")]
    whole = compose.merge_models(whole, after, joints)
    helper.set_model_props(whole, facts(model, class_names, limits))
    for node in whole.graph.node:  # names that nothing needs are a tenth of a small file
        node.ClearField("name")
    del whole.graph.value_info[:]
    whole.graph.name = whole.producer_name = "ssd300-distillation"
    checker.check_model(whole, full_check=True)
    return whole


def parsed(text: str, values: dict[str, Any]) -> Any:
    """A graph in ONNX's text form, with those `values` as constants that it uses; a model."""
    from onnx import helper, numpy_helper, parser

    graph = parser.parse_graph(text)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in values.items() if name in used
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def constants(model: SSD300, limits: Limits) -> dict[str, npt.NDArray[Any]]:
    """What the two graphs that end a file look up by name."""
    most = limits.per_class
    floats = {
        "centre_variance": VARIANCES[0],
        "size_variance": VARIANCES[1],
        "half": 0.5,
        "zero": 0.0,
        "one": 1.0,
        "iou_threshold": limits.iou,
        "score_threshold": limits.score,
    }
    whole_numbers = {
        "background_and_classes": [1, model.classes],
        "per_class": [most],
        "per_image": [limits.per_image],
        "most_of_class": limits.per_image,
        "last_axis": [-1],
        "image_then_candidates": [-1, model.classes * most],
        "groups_of_boxes": [-1, most, 4],
        "groups_of_scores": [-1, 1, most],
        "first_label": 1,
        "padding": 0,
    }
    priors = model.priors.cpu().numpy()
    return {
        "prior_centres": priors[:, :2].copy(),
        "prior_sizes": priors[:, 2:].copy(),
        **{name: np.array(value, np.float32) for name, value in floats.items()},
        **{name: np.array(value, np.int64) for name, value in whole_numbers.items()},
    }


def facts(model: SSD300, class_names: Sequence[str], limits: Limits) -> dict[str, str]:
    """What a file says about itself; `nets.exported.Exported` reads it."""
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
