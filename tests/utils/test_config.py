"""Command lines: defaults, presets, refusals."""

import dataclasses
import re
import shlex
from typing import Any

import pytest

from tests.conftest import Refused
from utils.cli import GROUPS, flags_of, parse_arguments
from utils.config import DistillConfig, MapConfig, PredictConfig, TrainConfig


def test_defaults_are_the_schedule_of_the_paper() -> None:
    config = parse_arguments(TrainConfig, [])
    assert config == TrainConfig()
    assert config.train == ("VOC2007/trainval", "VOC2012/trainval")
    assert config.val == ()  # no split chooses a network unless somebody says so
    # 16551 images of VOC07+12 trainval in batches of 32: 517 steps an epoch, 120,000 in 232.
    steps = 16551 // config.batch_size * config.epochs
    assert steps == pytest.approx(120_000, rel=0.001)
    assert [m * steps for m in config.milestones] == pytest.approx([80_000, 100_000], rel=0.001)


def test_a_network_is_chosen_among_several_validations() -> None:
    with pytest.raises(ValueError, match="--patience waits for a better mAP: give --val"):
        TrainConfig(patience=3)
    assert TrainConfig(patience=3, val=("a/b",), val_every=1).patience == 3
    for val, every, chooses in (((), 1, False), (("a/b",), 0, False), (("a/b",), 5, True)):
        assert TrainConfig(val=val, val_every=every, epochs=6).chooses is chooses
    assert not TrainConfig(val=("a/b",), val_every=6, epochs=6).chooses  # at the end alone


def test_what_only_a_first_stage_has() -> None:
    with pytest.raises(ValueError, match="--teacher-epochs is for a teacher that is trained first"):
        DistillConfig(teacher="a.pth", teacher_epochs=7)
    waits: dict[str, Any] = {"patience": 3, "val": ("a/b",), "val_every": 10, "epochs": 100}
    with pytest.raises(ValueError, match="--val-every 10 must be below --teacher-epochs 5"):
        DistillConfig(teacher_epochs=5, **waits)
    assert DistillConfig(teacher_epochs=11, **waits).teacher_epochs == 11


WEIGHTS = ("soft_weight", "conf_weight", "l2_weight", "loc_weight", "temperature", "neg_w")


def numbers(config: DistillConfig) -> list[float]:
    """What a preset decides, but for the distillers and shares."""
    return [getattr(config, name) for name in WEIGHTS]


def test_a_preset_decides_what_is_not_given() -> None:
    expected = {
        "tutorial": ([0.3, 0.7, 0.5, 1.0, 1.0, 1.5], (), ()),
        "paper": ([0.5, 0.5, 0.5, 1.0, 1.0, 1.5], ("hint(weight=0.5)",), ()),
        "soft": ([0.5, 1.0, 0.0, 1.0, 2.0, 1.0], (), ()),
        "objectness": ([0.0, 1.0, 0.0, 1.0, 2.0, 1.0], ("objectness",), ("objectness=0.2",)),
    }
    assert set(DistillConfig.presets) == set(expected)
    for preset, values in expected.items():
        config = DistillConfig(preset=preset)
        assert (numbers(config), config.distill, config.share) == values
        assert parse_arguments(DistillConfig, ["--preset", preset]) == config
    assert (
        DistillConfig() == parse_arguments(DistillConfig, []) == DistillConfig(preset="objectness")
    )


def test_what_is_given_beats_the_preset() -> None:
    flags = (["--preset", "paper"], ["--l2-weight", "2"])
    config = DistillConfig(preset="paper", l2_weight=2)
    assert (config.l2_weight, config.soft_weight) == (2, 0.5)
    assert parse_arguments(DistillConfig, [*flags[0], *flags[1]]) == config
    assert parse_arguments(DistillConfig, [*flags[1], *flags[0]]) == config
    # Also where it is the value of another preset, nothing, or 0.
    assert DistillConfig(preset="soft", neg_w=1.5).neg_w == 1.5
    assert DistillConfig(preset="paper", distill=()).distill == ()
    assert parse_arguments(DistillConfig, ["--preset", "paper", "--distill"]).distill == ()
    assert DistillConfig(preset="paper", soft_weight=0).soft_weight == 0


def test_shares_of_a_preset_are_those_of_its_own_terms() -> None:
    assert DistillConfig(preset="objectness", distill=("cwd",)).share == ()
    assert DistillConfig(preset="objectness", share=()).distill == ("objectness",)
    louder = ["--preset", "objectness", "--share", "objectness=0.3"]
    assert parse_arguments(DistillConfig, louder).share == ("objectness=0.3",)


def test_settings_of_soft_targets_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--temperature 4 is of soft targets, .* or --preset sof"):
        DistillConfig(preset="objectness", temperature=4)
    with pytest.raises(ValueError, match=r"--neg-w 1 is of soft targets.* by --preset tutorial"):
        parse_arguments(
            DistillConfig, ["--preset", "tutorial", "--soft-weight", "0", "--neg-w", "1"]
        )
    config = DistillConfig(preset="objectness", soft_weight=0.5, temperature=4)
    assert config.share == ("objectness=0.2",)
    heard = ("cwd=0.1, soft=0.3",)
    config = DistillConfig(preset="objectness", distill=("cwd",), share=heard, temperature=4)
    assert config.soft_weight == 0


def test_a_config_holds_numbers_whatever_is_replaced_in_it() -> None:
    config = DistillConfig(preset="soft", temperature=3)
    assert None not in [getattr(config, name) for name in DistillConfig.presets["soft"]]
    assert dataclasses.replace(config, resume=True) == DistillConfig(
        preset="soft", temperature=3, resume=True
    )
    with pytest.raises(
        ValueError, match=r"--preset must be one of tutorial, paper, soft, .*: 'best'"
    ):
        DistillConfig(preset="best")


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(epochs=3, pretrained=False, milestones=(), val=("A/x", "B/y"), lr=1 / 3),
        TrainConfig(weights="a b.pth"),
        DistillConfig(),
        DistillConfig(preset="soft", soft_weight=0.3, distill=("cwd(tau=1)", "mgd")),
        DistillConfig(preset="soft"),
        DistillConfig(preset="objectness", distill=("objectness(weight=300.0)",)),
        DistillConfig(preset="paper", distill=(), weights="x.pth", backbone="vgg16", kd_epochs=-2),
        DistillConfig(reg_m=-1e-5),
        DistillConfig(share=("soft=0.4, cwd=0.2",), distill=("cwd",), name="it's"),
    ],
)
def test_flags_make_the_same_settings(config: TrainConfig) -> None:
    assert parse_arguments(type(config), flags_of(config)) == config


def test_flags_say_what_is_not_so_anyway() -> None:
    assert flags_of(TrainConfig()) == []
    paper = DistillConfig(preset="paper", conf_weight=0.6, pretrained=False)
    assert flags_of(paper) == ["--no-pretrained", "--conf-weight", "0.6", "--preset", "paper"]


def test_help_says_what_each_preset_decides(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(DistillConfig, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "the background column in the soft-target loss (default: tutorial 1.5, paper" in text
    assert "(default: tutorial none, paper hint(weight=0.5), soft none, objectness" in text
    assert "soft none, objectness objectness=0.2)" in text
    assert "in squared encoded units (default: 0.0)" in text


def test_values_are_parsed_by_their_type() -> None:
    arguments = ["--train", "A/x", "B/y", "--no-pretrained", "--milestones", "0.5", "--ema", "0.9"]
    config = parse_arguments(TrainConfig, arguments)
    assert config.train == ("A/x", "B/y")
    assert config.pretrained is False
    assert config.milestones == (0.5,)
    assert config.ema == 0.9
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.ema = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("schema", "arguments", "message"),
    [
        (TrainConfig, ["--milestones", "1.5"], "--milestones must be parts of the run"),
        (TrainConfig, ["--ema", "1"], r"--ema must be in \[0, 1\)"),
        (TrainConfig, ["--momentum", "-0.1"], r"--momentum must be in \[0, 1\)"),
        (TrainConfig, ["--workers", "0"], "--workers must be at least 1"),
        (TrainConfig, ["--lr", "0"], "--lr must be above 0"),
        (TrainConfig, ["--weight-decay", "inf"], "--weight-decay must be at most 1e\\+09"),
        (TrainConfig, ["--lr", "1e300"], "--lr must be at most 1e\\+09"),
        (DistillConfig, ["--reg-m", "nan"], "--reg-m must be at least -1000000000.0, not nan"),
        (TrainConfig, ["--name", ""], "--name must be a folder name"),
        (DistillConfig, ["--neg-w", "-1"], "--neg-w must be at least 0"),
        (
            DistillConfig,
            ["--share", "soft=0.4", "--ledger-every", "0"],
            "--share soft=0.4 .given, or",
        ),
        (DistillConfig, ["--kd-epochs", "-3", "--epochs", "2"], "--kd-epochs -3 is more than the"),
        (MapConfig, [], "give either --weights"),
        (PredictConfig, ["--weights", "x"], "--weights and --source are needed"),
        (PredictConfig, ["--weights", "x", "--source", "y", "--score", "nan"], "--score must be"),
        (PredictConfig, ["--weights", "x", "--source", "y", "--score", "30"], "in 0 .. 1, not 30"),
        (MapConfig, ["--weights", "x", "--split"], "--split names no split; give at least one"),
    ],
)
def test_values_out_of_range_are_refused(
    schema: type[TrainConfig], arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arguments(schema, arguments)


def test_flags_are_not_abbreviated(refused: Refused) -> None:
    line = refused("train_teacher", "--epoch", "3")
    assert "unrecognized arguments: --epoch 3" in line


SCHEMAS = {
    "train_teacher.py": TrainConfig,
    "train_kd.py": DistillConfig,
    "get_map.py": MapConfig,
    "predict.py": PredictConfig,
}


def test_every_setting_of_training_has_its_place_in_the_help() -> None:
    placed = " ".join(GROUPS.values()).split()
    assert len(placed) == len(set(placed))
    assert {field.name for field in dataclasses.fields(DistillConfig)} == set(placed)


@pytest.mark.parametrize("script", SCHEMAS)
def test_the_examples_of_the_help_are_command_lines(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = SCHEMAS[script]
    assert len(schema.example_lines) == 3
    for example in schema.example_lines:
        program, *words = shlex.split(example)
        assert program == script
        parse_arguments(schema, words)
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(schema, ["--help"])
    text = capsys.readouterr().out
    assert all(example in text for example in schema.example_lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batchsize", "3"], "unrecognized arguments: --batchsize 3; perhaps '--batch-size' is"),
        (["--batchsize=3"], "perhaps '--batch-size' is meant"),
        (["--recipe", "scrach"], "perhaps 'scratch' is meant"),
        (["--xyz"], "unrecognized arguments: --xyz (see --help)"),
    ],
)
def test_a_misspelt_flag_says_what_was_probably_meant(arguments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_arguments(TrainConfig, arguments)
