"""What the numbers about a teacher and its student mean, in words.

A *group* is what is known of a class, a size or everything: `{"objects", "ap", "positives",
"box_error": {"teacher", "student"}, ...}`, see `readings` in usefulness.py. The rules:

- The teacher has **room** to lift the student where its AP is higher by at least `ROOM`.
- The **box bound** can help where the teacher's mean box error is lower.
- **Soft targets** can help where the teacher gives the true class more than the student does, on
  average, and is not nearly one-hot at every temperature: then it only repeats the labels.
- Distillation can help with room and at least one of the two.
"""

import math
from collections.abc import Mapping
from typing import Any

# Less than one point of AP is what another seed changes.
ROOM = 0.01
FEW_OBJECTS = 20
# From this share of positives on the bound is hardly ever off: it is a plain L2 loss.
NEARLY_ALL = 0.95

Group = Mapping[str, Any]


def ap_of(group: Group) -> Mapping[str, float]:
    """AP of both sides and their difference: voc07; COCO where VOC has none, by size."""
    ap: Mapping[str, Mapping[str, float]] = group["ap"]
    return ap["voc07"] if "voc07" in ap else ap["coco"]


def lower(pair: Mapping[str, float]) -> bool:
    """Whether the teacher's value is below the student's."""
    return pair["teacher"] < pair["student"]


def higher(pair: Mapping[str, float]) -> bool:
    """Whether the teacher's value is above the student's."""
    return pair["teacher"] > pair["student"]


def least_temperature(group: Group, nearly_one_hot: float) -> str | None:
    """The lowest temperature at which soft targets are not nearly one-hot, on average."""
    return next((t for t, nats in group["entropy"].items() if nats >= nearly_one_hot), None)


def judge(group: Group, nearly_one_hot: float) -> dict[str, Any]:
    """What of the teacher can help in a group, and why not.

    Returns:
        `{"room": bool, "soft_targets": bool, "box_bound": bool, "helps": bool, "verdict": str}`.
    """
    if not group["objects"]:
        nothing = dict.fromkeys(("room", "soft_targets", "box_bound", "helps"), False)
        return {**nothing, "verdict": "no objects"}
    room = ap_of(group)["difference"] >= ROOM
    surer = higher(group["probability"])
    soft = surer and least_temperature(group, nearly_one_hot) is not None
    box = lower(group["box_error"])
    means = " and ".join(n for n, on in (("soft targets", soft), ("box bound", box)) if on)
    if not room:
        text = "cannot help: the teacher's AP is not above the student's"
    elif not means:
        repeat = "its soft targets only repeat the labels" if surer else "no surer of the classes"
        text = f"cannot help: the teacher's boxes are no better, and {repeat}"
    else:
        text = f"can help: {means}"
    if group["objects"] < FEW_OBJECTS:
        text += f" (only {group['objects']} objects: no more than a hint)"
    helps = room and bool(means)
    flags = {"room": room, "soft_targets": room and soft, "box_bound": room and box, "helps": helps}
    return {**flags, "verdict": text}


def conclusions(report: Mapping[str, Any]) -> list[str]:
    """The report in sentences, the most important first; groups have been judged."""
    everything: Group = report["all"]
    if not everything["positives"]:
        return ["There is no object in the split: nothing can be said about the teacher."]
    return [
        bottom_line(report),
        about_bound(everything),
        about_soft_targets(everything, report["thresholds"]["nearly_one_hot"]),
        about_calibration(report["calibration"]),
        *about_groups(report),
        "In training the student hears what the teacher says about the images of training, which "
        "it may know better: look at a training split, too.",
    ]


def bottom_line(report: Mapping[str, Any]) -> str:
    """How much there is to gain, and by what."""
    ap = ap_of(report["all"])
    room = ap["difference"]
    classes = [g for g in report["classes"].values() if g["objects"]]
    counts = {key: sum(g[key] for g in classes) for key in ("soft_targets", "box_bound")}
    extent = f"room {points(room)} points" if room >= ROOM else "no room"
    return (
        f"Teacher AP {points(ap['teacher'])}, student {points(ap['student'])}: {extent}; soft "
        f"targets can help in {counts['soft_targets']} of {len(classes)} classes, the box bound in "
        f"{counts['box_bound']}; it is active for {percentage(report['all']['bound_active'])} of "
        "the positives."
    )


def about_bound(group: Group) -> str:
    """What the teacher bound does to this student."""
    active = group["bound_active"]
    text = (
        f"Boxes: mean squared error {group['box_error']['teacher']:.2f} against the student's "
        f"{group['box_error']['student']:.2f}, IoU {group['iou']['teacher']:.3f} against "
        f"{group['iou']['student']:.3f}."
    )
    if active >= NEARLY_ALL:
        return f"{text} The bound is hardly ever off: it acts as a plain L2 loss."
    if active <= 1 - NEARLY_ALL:
        return f"{text} The bound is hardly ever on: --l2-weight has no effect."
    return text


def about_soft_targets(group: Group, nearly_one_hot: float) -> str:
    """Whether soft targets say more than labels do."""
    first = next(iter(group["entropy"]))
    nats, between = group["entropy"][first], group["between_classes"][first]
    text = (
        f"Soft targets at T = {first}: {nats:.2f} nats on a positive, {between:.2f} of them about "
        f"which class, the rest about object or background; {percentage(group['one_hot'][first])} "
        f"of the positives are nearly one-hot (below {nearly_one_hot} nats)."
    )
    if group["accuracy"]["teacher"] < 0.5:
        text += (
            f" Only on {percentage(group['accuracy']['teacher'])} of them the teacher finds the "
            "true class the likeliest (background on "
            f"{percentage(group['background']['teacher'])}): on the others soft "
            "targets pull against the labels."
        )
    enough = least_temperature(group, nearly_one_hot)
    if enough is None:
        return f"{text} On average they are, at every temperature: nothing beyond the labels."
    if enough != first:
        softened = group["entropy"][enough]
        return (
            f"{text} On average they are: nothing beyond the labels; --temperature {enough} gives "
            f"{softened:.2f} nats."
        )
    return text


def about_calibration(calibration: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether scores mean what they say."""

    def words(side: str) -> str:
        error, excess = calibration[side]["error"], calibration[side]["excess"]
        if math.isnan(error):
            return f"{side} none scores that much"
        leaning = "overconfident" if excess > 0 else "underconfident"
        return (
            f"{side} {points(error)} points ({leaning} by {points(abs(excess))}; "
            f"{calibration[side]['detections']} detections)"
        )

    return (
        f"Calibration error of detections scored {calibration['least_score']} or more: "
        f"{words('teacher')}, {words('student')}."
    )


def about_groups(report: Mapping[str, Any]) -> list[str]:
    """Which classes and sizes can be helped, which cannot, and where the teacher is the worse."""
    sizes = {f"{size} objects": group for size, group in report["sizes"].items()}
    groups = {**report["classes"], **sizes}  # a class may be called large
    groups = {name: group for name, group in groups.items() if group["objects"]}
    helped = [
        f"{n} ({points(ap_of(g)['difference'], '+')})" for n, g in groups.items() if g["helps"]
    ]
    others = [f"{n} ({reason(g)})" for n, g in groups.items() if not g["helps"]]
    worse = {
        "AP": [n for n, g in groups.items() if lower(ap_of(g))],
        "box error": [n for n, g in groups.items() if higher(g["box_error"])],
        "probability of the true class": [n for n, g in groups.items() if lower(g["probability"])],
    }
    where = "; ".join(f"{what}: {', '.join(names)}" for what, names in worse.items() if names)
    cannot = [f"It cannot help: {', '.join(others)}."] if others else []
    return [
        f"Distillation can help (points of AP to gain): {', '.join(helped) or 'nothing'}.",
        *cannot,
        f"The teacher is worse than the student in {where}."
        if where
        else "The teacher is nowhere worse than the student.",
    ]


def reason(group: Group) -> str:
    """Why a group cannot be helped, short."""
    gain = points(ap_of(group)["difference"], "+")
    return f"AP {gain}" if not group["room"] else f"AP {gain}, but neither surer nor closer"


def points(value: float, sign: str = "") -> str:
    """0.238 -> `23.8`; nan -> `-`; with sign `+` -> `+23.8`."""
    return "-" if math.isnan(value) else f"{100 * value:{sign}.1f}"


def percentage(value: float) -> str:
    """0.81 -> `81 %`; nan -> `-`."""
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"
