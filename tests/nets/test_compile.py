"""What runs every step compiles without a graph break and is not compiled again batch by batch.

Tracing alone is tested (backend "eager"): which code the compiler makes of it is not our business.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nets.matching import match
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs, Targets
from nets.priors import prior_boxes
from utils.data import augment as module
from utils.data.augment import augment, show_at_once, uniforms

PRIORS = prior_boxes()[-200:]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def scene(seed: int, objects: int = 4) -> tuple[Targets, Outputs, Outputs]:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(2, objects, 2, generator=rng) * 0.5
    boxes = torch.cat((low, low + 0.1 + 0.4 * torch.rand(2, objects, 2, generator=rng)), -1)
    targets = Targets(boxes, torch.randint(0, 4, (2, objects), generator=rng))
    student, teacher = (
        Outputs((), torch.randn(2, 200, 4, generator=rng), torch.randn(2, 200, 4, generator=rng))
        for _ in range(2)
    )
    return targets, student, teacher


def test_matching_mining_and_losses_are_one_graph_for_all_batches() -> None:
    criterion = MultiBoxLoss_KD()

    def objective(targets: Targets, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        return criterion(student, teacher, match(targets, PRIORS))

    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    expected = objective(*scene(0))
    for name, value in compiled(*scene(0)).items():
        torch.testing.assert_close(value, expected[name])
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in range(1, 5):
            compiled(*scene(seed))


def test_augmentation_on_a_gpu_is_one_graph_for_all_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "form_on", lambda _: show_at_once)
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    sizes = torch.tensor([[64.0, 48.0], [50.0, 64.0]])

    def batch(seed: int) -> tuple[Tensor, Tensor, Targets, Tensor]:
        targets = scene(seed)[0]
        return images, sizes, Targets(targets.boxes * 64, targets.labels), uniforms(2, seed, 0)

    expected, moved = augment(*batch(0))
    found, also_moved = compiled(*batch(0))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(also_moved.boxes, moved.boxes)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in range(1, 5):
            compiled(*batch(seed))
