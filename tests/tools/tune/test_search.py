"""Ranges and checked flags of a search."""

import json
from pathlib import Path

import pytest

from tools.tune.search import (
    RANGES,
    Range,
    best_command,
    check_training,
    common,
    defaults,
    search_ranges,
    settings_flags,
    trial_words,
    usual_search,
)
from utils.cli import parse_arguments
from utils.config import DistillConfig


def test_every_range_holds_the_presets():
    assert set(DistillConfig.presets["paper"]) - {"distill", "share"} < set(RANGES)
    for preset in DistillConfig.presets:
        config = parse_arguments(DistillConfig, ["--preset", preset])
        for name, (low, high, _) in RANGES.items():
            value = getattr(config, name)
            off = value == 0 and (preset, name) in {
                ("soft", "l2_weight"),
                ("objectness", "l2_weight"),
                ("objectness", "soft_weight"),
            }
            assert off or low <= value <= high


def test_ranges_are_overridden():
    ranges = search_ranges(["temperature", "reg_m"], ["temperature=1:4"])
    assert ranges == {"temperature": Range(1, 4), "reg_m": RANGES["reg_m"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("neg_w=1:2", "not searched; choose one of temperature, reg_m"),
        ("temperature", "write NAME=LOW:HIGH, e.g. temperature=1:4"),
        ("temperature=1:2:3", "write NAME=LOW:HIGH"),
        ("temperature=0:2", "finite numbers with 0 < LOW < HIGH"),
        ("temperature=1:inf", "finite numbers"),
        ("temperature=nan:2", "finite numbers"),
        ("reg_m=-1:1", "0 <= LOW < HIGH"),
        ("reg_m=1:1", "0 <= LOW < HIGH"),
    ],
)
def test_bad_ranges_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        search_ranges(["temperature", "reg_m"], [text])


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    path = tmp_path / "best.pth"
    path.touch()
    return str(path)


def test_shares_are_searched_in_place_of_weights(teacher):
    ranges = search_ranges(["share.soft", "share.cwd", "neg_w"], ["share.cwd=0.1:0.5"])
    assert ranges["share.cwd"] == Range(0.1, 0.5)
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--distill", "cwd"]
    assert defaults(check_training(words, ranges), ranges) == {
        "share.soft": 0.2,
        "share.cwd": 0.2,
        "neg_w": 1.0,
    }
    config = check_training([*words, "--share", "soft=0.3"], ranges)
    assert defaults(config, ranges)["share.soft"] == 0.3
    flags = settings_flags({"share.soft": 0.25, "neg_w": 2.0, "share.cwd": 0.125})
    assert flags == ["--neg-w", "2", "--share", "soft=0.25", "cwd=0.125"]
    # What the search says comes last, and so counts.
    config = parse_arguments(DistillConfig, [*words, "--share", "soft=0.3", *flags])
    assert config.share == ("soft=0.25", "cwd=0.125")


@pytest.mark.parametrize(
    ("search", "extra", "message"),
    [
        (
            ["share.mgd"],
            [],
            "share.mgd: no term of these trials, which are soft, conf, l2, loc, cw",
        ),
        (["share.soft"], ["--share", "cwd=0.1"], "also gives cwd one, .* search share.cwd, too"),
        (["share.soft", "soft_weight"], [], "soft_weight: soft has a share, which decides its wei"),
        (["soft_weight"], ["--share", "soft=0.1"], "--search soft_weight: soft has a share"),
        (["share.cwd"], ["--share", "cwd=0.6"], "leaves out 0.6, the default"),
    ],
)
def test_shares_that_cannot_be_searched(teacher, search, extra, message):
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--distill", "cwd", *extra]
    with pytest.raises(ValueError, match=message):
        check_training(words, search_ranges(search, []))


def test_searched_shares_leave_something():
    search_ranges(["share.soft", "share.cwd"], [])
    with pytest.raises(ValueError, match=r"share.soft, share.cwd, share.mgd may add up to 1 or mo"):
        search_ranges(["share.soft", "share.cwd", "share.mgd"], [])


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--preset", "soft"], "soft_weight conf_weight loc_weight temperature neg_w"),
        (
            ["--preset", "tutorial", "--neg-w=1"],
            "soft_weight conf_weight l2_weight loc_weight temperature",
        ),
        (["--preset", "objectness"], "share.objectness conf_weight loc_weight"),
        (["--preset", "soft", "--share", "soft=0.3"], "conf_weight loc_weight temperature neg_w"),
        (["--preset", "objectness", "--distill", "cwd"], "conf_weight loc_weight"),
    ],
)
def test_a_search_that_nobody_names_is_of_the_terms_there_are(teacher, words, names):
    assert " ".join(usual_search(words)) == names
    words = ["--teacher", teacher, "--val", "VOC2007/val", *words]
    check_training(words, search_ranges(usual_search(words), []))


def test_what_is_given_is_not_searched(teacher):
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "soft", "--temperature", "3"]
    assert "temperature" not in usual_search(words)
    with pytest.raises(ValueError, match=r"--temperature \(after --\) is searched; leave it out"):
        check_training(words, search_ranges(["temperature"], []))
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "objectness"]
    with pytest.raises(ValueError, match=r"--temperature 8 is of soft targets, whose weight is 0"):
        check_training(words, search_ranges(["temperature"], []))
    words = ["--preset", "objectness", "--share", "objectness=0.3"]
    with pytest.raises(ValueError, match="nothing is left to search: all is given"):
        usual_search([*words, "--conf-weight", "1", "--loc-weight=1"])


def test_training_flags_decide_the_default(teacher):
    ranges = search_ranges(["soft_weight"], [])
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "paper", "--neg-w=2"]
    config = check_training(words, ranges)
    assert (config.soft_weight, config.neg_w) == (0.5, 2)
    fixed = common(config, ranges)
    assert fixed["search"] == {"soft_weight": [0.05, 4]}
    assert fixed["neg_w"] == 2
    assert "soft_weight" not in fixed
    assert "device" not in fixed
    assert json.loads(json.dumps(fixed)) == fixed  # or a study would refuse its own command
    for changed in (["--recipe", "paper"], ["--val-every", "1"], ["--accumulate", "4"]):
        assert common(check_training([*words, *changed], ranges), ranges) != fixed
    another = [*words, "--ledger-every", "5"]
    assert common(check_training(another, ranges), ranges) == fixed
    shares = search_ranges(["share.soft"], [])
    without, with_it = (common(check_training(w, shares), shares) for w in (words, another))
    assert without != with_it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--soft-weight", "1"], "--soft-weight .* is searched; leave it out, or out of --search"),
        (["--soft-weight=1"], "--soft-weight .* is searched"),
        (["--name", "x"], "--name .* is not for trials"),
        (["--logs=x"], "--logs .* is not for trials"),
        (["--resume"], "--resume .* is not for trials"),
        (["--teacher", ""], "--teacher is missing"),
        (["--val"], "--val names no split"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--preset", "paper"], "soft_weight=0.1:0.4 leaves out 0.5, the default"),
    ],
)
def test_training_flags_that_are_refused(teacher, words, message):
    ranges = search_ranges(["soft_weight"], ["soft_weight=0.1:0.4"])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_training(["--teacher", teacher, "--val", "VOC2007/val", *words], ranges)


def test_a_term_that_is_off_is_not_searched(teacher):
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "soft"]
    with pytest.raises(ValueError, match="l2_weight is 0 here; leave it out of --search"):
        check_training(words, search_ranges(["l2_weight"], []))


def test_a_validation_split_has_to_be_named(teacher):
    with pytest.raises(ValueError, match="--val names no split"):
        check_training(["--teacher", teacher], search_ranges(["temperature"], []))


def test_trials_are_validated_on_their_way_unless_told_how():
    for epochs, every in ((1, 1), (19, 1), (60, 6)):
        words = ["--teacher", "t", *trial_words([], epochs)]
        assert parse_arguments(DistillConfig, words).val_every == every
    words = trial_words(["--val-every", "3"], 60)
    assert parse_arguments(DistillConfig, words).val_every == 3


@pytest.mark.parametrize(("gpu", "amp"), [(True, "auto"), (False, "off")])
def test_no_trial_chooses_its_arithmetic_by_itself(gpu, amp, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert parse_arguments(DistillConfig, ["--teacher", "t", *trial_words([], 1)]).amp == amp
    words = trial_words(["--amp", "bf16"], 1)
    assert parse_arguments(DistillConfig, ["--teacher", "t", *words]).amp == "bf16"


def test_the_best_command_says_what_was_trained():
    words = ["--teacher", "my logs/best.pth", "--backbone", "resnet18(width=0.125)"]
    command = best_command(words, {"soft_weight": 0.812, "reg_m": 0.0})
    assert command == (
        "python train_kd.py --teacher 'my logs/best.pth' --backbone 'resnet18(width=0.125)' "
        "--soft-weight 0.812 --reg-m 0 --name tuned"
    )
