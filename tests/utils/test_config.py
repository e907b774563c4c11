"""Command lines: defaults, presets, refusals."""

import dataclasses

import pytest

from utils.cli import parse_arguments
from utils.config import DistillConfig, MapConfig, PredictConfig, TrainConfig


def test_defaults_are_the_schedule_of_the_paper() -> None:
    config = parse_arguments(TrainConfig, [])
    assert config == TrainConfig()
    assert config.train == ("VOC2007/trainval", "VOC2012/trainval")
    # 16551 images of VOC07+12 trainval in batches of 32: 517 steps an epoch, 120,000 in 232.
    steps = 16551 // config.batch_size * config.epochs
    assert steps == pytest.approx(120_000, rel=0.001)
    assert [m * steps for m in config.milestones] == pytest.approx([80_000, 100_000], rel=0.001)


def test_a_preset_sets_weights_and_a_flag_beats_it() -> None:
    names = ("soft_weight", "conf_weight", "l2_weight", "loc_weight", "temperature")
    weights = {
        preset: [getattr(parse_arguments(DistillConfig, ["--preset", preset]), n) for n in names]
        for preset in ("tutorial", "paper")
    }
    assert weights == {"tutorial": [0.3, 0.7, 0.5, 1.0, 1.0], "paper": [0.5, 0.5, 0.5, 1.0, 1.0]}
    assert [getattr(DistillConfig(), n) for n in names] == weights["tutorial"]
    flags = (["--preset", "paper"], ["--l2-weight", "2"])
    for arguments in ([*flags[0], *flags[1]], [*flags[1], *flags[0]]):
        config = parse_arguments(DistillConfig, arguments)
        assert (config.l2_weight, config.soft_weight) == (2, 0.5)


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
        (MapConfig, [], "give either --weights"),
        (PredictConfig, ["--weights", "x"], "--weights and --source are needed"),
        (PredictConfig, ["--weights", "x", "--source", "y", "--score", "nan"], "--score must be"),
    ],
)
def test_values_out_of_range_are_refused(
    schema: type[TrainConfig], arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arguments(schema, arguments)


def test_flags_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(TrainConfig, ["--epoch", "3"])
    assert exit_info.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
