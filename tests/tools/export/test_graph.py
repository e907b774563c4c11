"""The two ends of an exported graph against `nets.postprocess`, run by ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import torch

from nets.outputs import Detections, Outputs
from nets.postprocess import Limits, best_detections, find_candidates, postprocess
from nets.priors import LAYOUTS, prior_boxes
from nets.ssd import SSD300
from tools.export.ends import (
    FROM_BYTES,
    RAW,
    SUPPRESS,
    constants,
    parsed,
    prior_tables,
    with_priors,
)

CLASSES = 3
NETWORK = SSD300("resnet18(width=0.125)", CLASSES)
PRIORS = len(NETWORK.priors)


def run(text, limits, **inputs):
    if inputs.keys() == {"images"}:
        model = parsed(text, {})
    else:
        tables = prior_tables(NETWORK.layout)
        model = parsed(with_priors(text, tables), constants(CLASSES, limits) | tables)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    return [torch.from_numpy(np.array(x)) for x in found]


def both(outputs, limits=None):
    """What the graph and what `postprocess` make of the same numbers."""
    limits = limits or Limits()
    logits, offsets = outputs.logits, outputs.offsets
    theirs = Detections(*run(SUPPRESS, limits, logits=logits, offsets=offsets))
    return theirs, postprocess(outputs, NETWORK.priors, *limits)


def said(batch, seed=0, spread=2.0):
    """What a network might have said."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(batch, PRIORS, CLASSES + 1, generator=generator)
    return Outputs((), logits, torch.randn(batch, PRIORS, 4, generator=generator))


def equal(theirs, ours):
    assert torch.equal(theirs.labels, ours.labels)
    torch.testing.assert_close(theirs.scores, ours.scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(theirs.boxes, ours.boxes, atol=1e-6, rtol=0)
    assert [x.dtype for x in theirs] == [x.dtype for x in ours]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "limits", [Limits(), Limits(0.5, 0.2), Limits(0.0, 0.9), Limits(0.05, 0.45, 50, 20)]
)
def test_the_same_detections(batch, limits):
    equal(*both(said(batch), limits))


def test_fewer_than_fit_are_padded():
    outputs = said(2, spread=0.0)
    outputs.logits[..., 0] = 9  # 3 classes share about 3 e^-9, far below 0.01
    outputs.logits[0, 17, 2] = 20
    found, ours = both(outputs)
    equal(found, ours)
    assert found.labels.sum() == 2  # one object of class 2 in the first image, none in the second
    assert found.boxes[0, 1:].abs().sum() == 0


def test_of_equal_scores_the_lower_class_then_the_lower_prior():
    outputs = said(1, spread=0.0)
    outputs.offsets.zero_()
    outputs.logits[..., 0] = 9
    # Priors far from each other: nothing is suppressed.
    for prior, label in ((4000, 1), (2500, 2), (3000, 1), (3540, 2)):
        outputs.logits[0, prior, label] = 20
    found, ours = both(outputs)
    equal(found, ours)
    assert found.labels[0, :4].tolist() == [1, 1, 2, 2]
    expected = NETWORK.priors[[3000, 4000, 2500, 3540], :2]
    centres = (found.boxes[0, :4, :2] + found.boxes[0, :4, 2:]) / 2
    torch.testing.assert_close(centres, expected, atol=1e-6, rtol=0)


def test_the_lower_prior_of_two_equal_ones_suppresses_the_other():
    outputs = said(1, spread=0.0)
    outputs.offsets.zero_()
    outputs.logits[..., 0] = 9
    # Neighbours of one cell: a square of 30 and one of sqrt(30 60) = 42.4: IoU 900 / 1800 = 0.5.
    outputs.logits[0, 3000:3002, 1] = 20
    found, ours = both(outputs)
    equal(found, ours)
    assert (found.labels > 0).sum() == 1
    both_stay, ours = both(outputs, Limits(iou=0.51))
    equal(both_stay, ours)
    assert (both_stay.labels > 0).sum() == 2


def test_a_score_at_the_threshold_is_not_above_it():
    outputs = said(1, spread=0.0)
    outputs.logits[..., 0] = 30
    outputs.logits[0, 5] = 0  # four equal logits: a quarter each
    assert (both(outputs, Limits(score=0.25))[0].labels > 0).sum() == 0
    assert (both(outputs, Limits(score=0.24))[0].labels > 0).sum() == 3


def test_only_the_best_candidates_of_a_class_count():
    """Of three candidates two may stay: the third, which nothing suppresses, is not looked at."""
    outputs = said(1, spread=0.0)
    outputs.offsets.zero_()
    outputs.logits[..., 0] = 9
    for prior, logit in ((3000, 22), (3001, 21), (100, 20)):
        outputs.logits[0, prior, 1] = logit
    found, ours = both(outputs, Limits(0.01, 0.45, 2, 2))
    equal(found, ours)
    assert (found.labels > 0).sum() == 1


def test_raw_files_say_everything():
    outputs = said(2)
    boxes, scores = run(RAW, Limits(), logits=outputs.logits, offsets=outputs.offsets)
    assert boxes.shape == (2, PRIORS, 4)
    expected = outputs.logits.softmax(-1)[..., 1:]
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)
    assert boxes.min() == 0
    assert boxes.max() == 1
    ours = postprocess(outputs, NETWORK.priors)
    candidates = find_candidates(outputs, NETWORK.priors, 0.01)
    equal(best_detections(candidates, 2, CLASSES), ours)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_priors_add_up_from_small_tables(layout):
    tables = prior_tables(layout)
    text = with_priors("priors () => (float[P, 4] all_priors) {\n}", tables)
    model = parsed(text, constants(CLASSES, Limits()) | tables)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert torch.equal(torch.from_numpy(session.run(None, {})[0]), prior_boxes(layout))
    # 75 rows, 75 columns, the last map's one of each in one table, and 4 + 3 * 6 + 2 * 4 = 30 kinds
    # of box make 181 lines of four. Boxes that are cut at the border change with all three.
    numbers = sum(table.size for table in tables.values())
    assert numbers == 4 * 181 or layout.startswith("bubbliiiing")
    assert numbers < 0.2 * prior_boxes(layout).numel()


def test_bytes_become_floats():
    images = torch.randint(0, 256, (2, 300, 300, 3), dtype=torch.uint8)
    (floats,) = run(FROM_BYTES, Limits(), images=images)
    assert torch.equal(floats, images.permute(0, 3, 1, 2).float())
