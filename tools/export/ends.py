"""What comes before and after the network in an exported file, and the constants that it needs.

It is written in ONNX's own text form, operation by operation, because here every tie and threshold
counts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nets.postprocess import Limits
from nets.priors import layout_named, prior_boxes
from utils.boxes import VARIANCES
from utils.data.augment import IMAGE_SIZE

OPSET, IR_VERSION = 20, 10

# [B, 300, 300, 3] as pictures are, or [B, 3, 300, 300] as networks have it.
FROM_BYTES = f"""
from_bytes (uint8[batch, {IMAGE_SIZE}, {IMAGE_SIZE}, 3] images)
=> (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] floats) {{
    channels_first = Transpose <perm = [0, 3, 1, 2]> (images)
    floats = Cast <to = 1> (channels_first)
}}"""

FROM_FLOATS = f"""
from_floats (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] images)
=> (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] floats) {{
    floats = Identity (images)
}}"""

# As `utils.boxes.decode`, and clipped. What `with_priors` adds comes first.
DECODE = """
    prior_centres, prior_sizes = Split <axis = -1, num_outputs = 2> (all_priors)
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
# can have more than `per_image` of the image's best, so suppression may stop there. What it would
# leave out for its score is zero before: TopK is quick to pass over equal numbers.
SUPPRESS = f"""
detect (float[batch, P, columns] logits, float[batch, P, 4] offsets)
=> (float[batch, D, 4] boxes, float[batch, D] scores, int64[batch, D] labels) {{
    {DECODE.replace("boxes =", "all_boxes =").replace(", scores =", ", all_scores =")}
    by_class = Transpose <perm = [0, 2, 1]> (all_scores)
    above = Greater (by_class, score_threshold)
    contenders = Where (above, by_class, zero)
    best, priors = TopK <axis = -1> (contenders, per_class)
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


def constants(classes: int, limits: Limits) -> dict[str, npt.NDArray[Any]]:
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
        "background_and_classes": [1, classes],
        "per_class": [most],
        "per_image": [limits.per_image],
        "most_of_class": limits.per_image,
        "last_axis": [-1],
        "image_then_candidates": [-1, classes * most],
        "groups_of_boxes": [-1, most, 4],
        "groups_of_scores": [-1, 1, most],
        "rows_of_four": [-1, 4],
        "first_label": 1,
        "padding": 0,
    }
    return {
        **{name: np.array(value, np.float32) for name, value in floats.items()},
        **{name: np.array(value, np.int64) for name, value in whole_numbers.items()},
    }


def prior_tables(layout: str) -> dict[str, npt.NDArray[Any]]:
    """Small tables that add up to a layout's priors, map by map: 3 KB instead of 136.

    `map0_1` is the second table of the finest map; that map's broadcast to the priors of its rows,
    columns and kinds of box, `[G, G, N, 4]`.
    """
    tiling = layout_named(layout)
    tables: dict[str, npt.NDArray[Any]] = {}
    sizes = [g * g * n for g, n in zip(tiling.grids, tiling.per_cell, strict=True)]
    for k, priors in enumerate(prior_boxes(layout).split(sizes)):
        parts = summands(priors.view(tiling.grids[k], tiling.grids[k], -1, 4))
        tables |= {f"map{k}_{i}": part.numpy() for i, part in enumerate(parts)}
    return tables


def summands(values: Tensor) -> list[Tensor]:
    """`[A, B, C, 4]` -> few tables whose broadcast sum it is, bit for bit.

    Each column is kept along the axes that it changes along, with zeros in the other columns;
    columns of the same shape share a table. So every number is added to zeros alone.
    """
    tables: dict[torch.Size, Tensor] = {}
    for column in range(4):
        table = torch.zeros_like(values)
        table[..., column] = values[..., column]
        for axis in range(3):
            first = table.narrow(axis, 0, 1)
            table = first if torch.equal(first.expand_as(table), table) else table
        tables[table.shape] = table + tables.get(table.shape, 0)
    return list(tables.values())


def with_priors(text: str, tables: Mapping[str, Any]) -> str:
    """A graph's text that puts `all_priors`, `[P, 4]`, together from their tables first.

    All of it is constant: runtimes work it out once, when they load the file.
    """
    maps = sorted({name.split("_")[0] for name in tables})
    lines = [
        f"{name} = Sum ({', '.join(part for part in tables if part.startswith(name + '_'))})\n"
        f"    {name}_rows = Reshape ({name}, rows_of_four)"
        for name in maps
    ]
    lines.append(f"all_priors = Concat <axis = 0> ({', '.join(f'{name}_rows' for name in maps)})")
    return text.replace("{\n", "{\n    " + "\n    ".join(lines) + "\n", 1)
