"""Other projects' keys: recognised, renamed, refused."""

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import SSD300_VGG16_Weights

from nets.foreign.class_names import COCO, VOC
from nets.foreign.convert import PROJECTS, convert
from tests.foreign import listing
from utils.data.voc import read_classes

# What each project is served by, and what it subtracts from red, green and blue.
FACTS = {
    "amdegroot": ("vgg16", "paper", (123, 117, 104)),
    "lufficc": ("vgg16", "paper", (123, 117, 104)),
    "bubbliiiing_vgg": ("vgg16", "bubbliiiing", (104, 117, 123)),
    "bubbliiiing_resnet50": ("bubbliiiing_resnet50", "bubbliiiing", (104, 117, 123)),
    "bubbliiiing_mobilenetv2": (
        "bubbliiiing_mobilenetv2",
        "bubbliiiing_mobilenetv2",
        (104, 117, 123),
    ),
}


def empty(project: str, classes: int = 20) -> dict[str, torch.Tensor]:
    """Every key, no values."""
    shapes = listing(project, classes)
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("project", FACTS)
class TestRecognition:
    def test_everything_but_the_weights_follows_from_the_keys(self, project):
        state = empty(project, classes=7)
        foreign = convert(state)
        assert (foreign.project, foreign.classes) == (project, 7)
        assert (foreign.backbone, foreign.layout, foreign.mean) == FACTS[project]
        assert foreign.std == (1, 1, 1)
        assert len(foreign.state) == len(state)

    def test_names_change_and_shapes_do_not(self, project):
        state = empty(project)
        renamed = convert(state).state
        pairs = zip(state.values(), renamed.values(), strict=True)
        assert all(before.shape == after.shape for before, after in pairs)

    def test_wrappers_are_taken_off(self, project):
        state = empty(project)
        plain = convert(state)
        parallel = {f"module.{key}": value for key, value in state.items()}
        for content in (
            {"model": state, "iteration": 120000},
            {"state_dict": state, "epoch": 3},
            parallel,
            {"model": parallel},
        ):
            foreign = convert(content)
            assert foreign.project == project
            assert list(foreign.state) == list(plain.state)

    def test_foreign_keys_are_named(self, project):
        state = empty(project) | {"mask_head.weight": torch.zeros(1)}
        with pytest.raises(ValueError, match=f"taken for {project}.* 1 keys: mask_head.weight"):
            convert(state)


class TestRenaming:
    @pytest.mark.parametrize(
        ("project", "theirs", "ours"),
        [
            ("amdegroot", "vgg.28.bias", "backbone.features.28.bias"),
            ("amdegroot", "vgg.31.weight", "backbone.fc6.weight"),
            ("amdegroot", "vgg.33.bias", "backbone.fc7.bias"),
            ("amdegroot", "extras.0.weight", "extras.0.0.weight"),
            ("amdegroot", "extras.7.bias", "extras.3.2.bias"),
            ("lufficc", "backbone.l2_norm.weight", "backbone.l2norm.weight"),
            ("lufficc", "box_head.predictor.cls_headers.5.bias", "conf.5.bias"),
            ("lufficc", "box_head.predictor.reg_headers.0.weight", "loc.0.weight"),
            ("bubbliiiing_resnet50", "resnet.1.running_var", "backbone.bn1.running_var"),
            ("bubbliiiing_resnet50", "resnet.6.5.bn3.bias", "backbone.layer3.5.bn3.bias"),
            ("bubbliiiing_mobilenetv2", "mobilenet.0.0.weight", "backbone.features.0.0.weight"),
            ("bubbliiiing_mobilenetv2", "extras.3.conv.2.weight", "extras.3.0.conv.2.weight"),
        ],
    )
    def test_by_hand(self, project, theirs, ours):
        names = dict(zip(listing(project), convert(empty(project)).state, strict=True))
        assert names[theirs] == ours


class TestOneSetOfKeysTwoProjects:
    def test_order_decides(self):
        ours, theirs = listing("amdegroot"), listing("bubbliiiing_vgg")
        assert ours == theirs
        assert list(ours) != list(theirs)

    def test_another_order_is_refused_and_a_name_accepted(self):
        state = dict(sorted(empty("amdegroot").items()))
        with pytest.raises(ValueError, match=r"no known project with the keys L2Norm\.weight"):
            convert(state)
        for project in ("amdegroot", "bubbliiiing_vgg"):
            assert convert(state, project).layout == FACTS[project][1]


class TestRefusals:
    @pytest.mark.parametrize("content", [None, [], {}, 3, {"epoch": 3}, {1: torch.zeros(1)}])
    def test_no_state_dict(self, content):
        with pytest.raises(ValueError, match="no state dict"):
            convert(content)

    def test_unknown_networks(self):
        with pytest.raises(ValueError, match=r"keys fc.weight, .* has torchvision, lufficc"):
            convert({"fc.weight": torch.zeros(2, 2)})

    def test_unknown_project(self):
        with pytest.raises(ValueError, match="no known project 'mmdet'"):
            convert(empty("amdegroot"), "mmdet")

    def test_the_project_named_is_the_wrong_one(self):
        with pytest.raises(ValueError, match=r"taken for lufficc.* lacks"):
            convert(empty("amdegroot"), "lufficc")

    @pytest.mark.parametrize("columns", [4, 83])
    def test_heads_that_do_not_fit(self, columns):
        # Four priors a cell: 4 columns would be background alone, 83 are no multiple of 4.
        state = empty("amdegroot") | {"conf.0.bias": torch.zeros(columns)}
        with pytest.raises(ValueError, match="do not fit together"):
            convert(state)

    def test_no_heads(self):
        state = {k: v for k, v in empty("amdegroot").items() if not k.startswith("loc")}
        with pytest.raises(ValueError, match="heads on the first source are missing"):
            convert(state)


class TestClassNames:
    def test_voc_is_the_list_that_comes_with_the_program(self):
        shipped = Path(__file__).parents[3] / "model_data" / "voc_classes.txt"
        assert read_classes(shipped) == VOC
        assert sorted(VOC) == list(VOC)

    def test_coco_is_torchvisions(self):
        theirs = SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]
        expected = [f"unused {i}" if t == "N/A" else t for i, t in enumerate(theirs, start=1)]
        assert list(COCO) == expected
        assert len(set(COCO)) == 90

    def test_projects_have_different_names(self):
        assert len({row.name for row in PROJECTS}) == len(PROJECTS)
