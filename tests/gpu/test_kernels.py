"""Every kernel gives on a GPU what it gives on a CPU."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Matches, Outputs
from nets.postprocess import postprocess
from nets.priors import prior_boxes
from nets.tasks.pseudo import pseudo_objects
from tests.gpu import scenes
from utils.boxes import Targets, decode, encode, iou
from utils.data.augment import augment, resize, uniforms
from utils.data.photometric import PHOTOMETRIC
from utils.data.windows import choose_windows

CPU = torch.device("cpu")
PRIORS = prior_boxes()


def on(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    return [x.to(device) for x in tensors]


def test_box_arithmetic(device: torch.device) -> None:
    priors = PRIORS.double()
    boxes = scenes.objects().boxes.double()
    offsets = scenes.outputs(0).offsets
    for work, arguments in (
        (iou, (boxes, decode(offsets, priors)[:, :500])),
        (decode, (offsets, priors)),
        (encode, (decode(offsets, priors), priors)),
    ):
        there = work(*on(device, *arguments))
        assert there.device.type == device.type
        torch.testing.assert_close(there.cpu(), work(*arguments))


def matched(device: torch.device) -> Matches:
    return match(scenes.objects().to(device), PRIORS.to(device))


def test_matching(device: torch.device) -> None:
    here, there = matched(CPU), matched(device)
    positive = here.labels > 0
    assert positive.any()
    assert (here.labels < 0).any()
    assert torch.equal(there.labels.cpu(), here.labels)
    assert torch.equal(there.objects.cpu()[positive], here.objects[positive])
    torch.testing.assert_close(there.offsets.cpu()[positive], here.offsets[positive])


@pytest.mark.parametrize("criterion", [MultiBoxLoss(), MultiBoxLoss_KD(temperature=2.0)])
def test_losses_and_their_gradients(criterion: nn.Module, device: torch.device) -> None:
    def run(where: torch.device) -> tuple[dict[str, Tensor], Outputs]:
        student = scenes.moved(scenes.outputs(0), where)
        said = [student]
        if isinstance(criterion, MultiBoxLoss_KD):
            said.append(scenes.moved(scenes.outputs(1), where))
        # The CPU's matches for both, so that a difference is the loss's own.
        terms = criterion(*said, Matches(*on(where, *matched(CPU))))
        torch.stack(list(terms.values())).sum().backward()
        return terms, student

    (here, ours), (there, theirs) = run(CPU), run(device)
    for name, value in here.items():
        torch.testing.assert_close(there[name].cpu(), value, msg=name)
    for a, b in ((ours.logits, theirs.logits), (ours.offsets, theirs.offsets)):
        assert a.grad is not None
        assert b.grad is not None
        assert b.grad.device.type == device.type
        torch.testing.assert_close(b.grad.cpu(), a.grad)


def test_post_processing(device: torch.device) -> None:
    outputs = scenes.outputs(2)
    here = postprocess(outputs, PRIORS.double())
    there = postprocess(Outputs((), *on(device, *outputs[1:])), PRIORS.double().to(device))
    assert (here.labels > 0).any()
    assert torch.equal(there.labels.cpu(), here.labels)
    torch.testing.assert_close(there.scores.cpu(), here.scores)
    torch.testing.assert_close(there.boxes.cpu(), here.boxes)


def test_objects_of_images_without_labels(device: torch.device) -> None:
    outputs, wanted = scenes.outputs(2), torch.tensor([True, False, True, True])
    here = pseudo_objects(outputs, PRIORS.double(), 0.65, wanted)
    moved = Outputs((), *on(device, *outputs[1:]))
    there = pseudo_objects(moved, *on(device, PRIORS.double()), 0.65, *on(device, wanted))
    count = here.labels.shape[1]
    assert 0 < count < 50
    assert not there.labels[:, count:].any()
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(b.cpu()[:, :count], a)


def test_windows(device: torch.device) -> None:
    _, sizes, targets = scenes.pictures()
    for epoch in range(5):
        u = uniforms(len(sizes), seed=0, epoch=epoch)[:, PHOTOMETRIC:]
        here, mirrored = choose_windows(sizes, targets, u)
        there, also = choose_windows(*on(device, sizes), targets.to(device), u.to(device))
        assert torch.equal(also.cpu(), mirrored)
        # In pixels: the same trial was taken, up to the last bits of its numbers.
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-3)


@pytest.mark.parametrize("chance", [False, True])
def test_pictures_and_their_boxes(chance: bool, device: torch.device) -> None:
    images, sizes, targets = scenes.pictures()

    def run(where: torch.device) -> tuple[Tensor, Targets]:
        batch = (*on(where, images, sizes), targets.to(where))
        return augment(*batch, uniforms(4, 0, 0).to(where)) if chance else resize(*batch)

    (here, ours), (there, theirs) = run(CPU), run(device)
    assert torch.equal(theirs.labels.cpu(), ours.labels)
    torch.testing.assert_close(theirs.boxes.cpu(), ours.boxes, rtol=0, atol=1e-5)
    difference = (there.cpu() - here).abs()  # levels of 255; the CPU's OpenCV rounds positions
    assert difference.mean() < 0.5
    assert (difference < 3).float().mean() > 0.99


@pytest.mark.parametrize("name", scenes.TASKS)
def test_objectives(name: str, device: torch.device) -> None:
    # In float64: batch norm over four numbers, as on the last map, makes of float32's rounding
    # differences of some per cent in the gradients.
    task = scenes.TASKS[name]().double()
    images, targets = resize(*scenes.pictures())

    def run(where: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        moved = copy.deepcopy(task).to(where).train()
        terms = moved(images.to(where), targets.to(where))
        terms["loss"].backward()
        gradients = {n: p.grad.cpu() for n, p in moved.named_parameters() if p.grad is not None}
        return {name: term.detach().cpu() for name, term in terms.items()}, gradients

    (here, ours), (there, theirs) = run(CPU), run(device)
    for term, value in here.items():
        torch.testing.assert_close(there[term], value, rtol=1e-4, atol=1e-6, msg=term)
    assert ours.keys() == theirs.keys()
    for weight, gradient in ours.items():
        error = (theirs[weight] - gradient).norm() / gradient.norm().clamp(min=1e-4)
        assert error < 1e-3, weight
