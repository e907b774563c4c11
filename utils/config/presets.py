"""What each preset of stage 2 decides where no flag does; docs/losses.md has them side by side."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {
        "soft_weight": 0.3,
        "conf_weight": 0.7,
        "l2_weight": 0.5,
        "loc_weight": 1.0,
        "temperature": 1.0,
        "neg_w": 1.5,
        "distill": (),
        "share": (),
    },
    # Chen et al., NIPS 2017, sec. 4: mu = 0.5 shares the classification loss, nu = 0.5; the
    # hint has gamma = 0.5 in eq. 1.
    "paper": {
        "soft_weight": 0.5,
        "conf_weight": 0.5,
        "l2_weight": 0.5,
        "loc_weight": 1.0,
        "temperature": 1.0,
        "neg_w": 1.5,
        "distill": ("hint(weight=0.5)",),
        "share": (),
    },
    # docs/evidence.md: objects as without a teacher, and soft targets that nowhere did harm;
    # with neg_w 1 the teacher itself is the optimum.
    "soft": {
        "soft_weight": 0.5,
        "conf_weight": 1.0,
        "l2_weight": 0.0,
        "loc_weight": 1.0,
        "temperature": 2.0,
        "neg_w": 1.0,
        "distill": (),
        "share": (),
    },
    # docs/evidence.md, and therefore the default: the one term that brought a student more than
    # its labels did. What a weight means differs by hundreds between teachers, hence a share.
    "objectness": {
        "soft_weight": 0.0,
        "conf_weight": 1.0,
        "l2_weight": 0.0,
        "loc_weight": 1.0,
        "temperature": 2.0,
        "neg_w": 1.0,
        "distill": ("objectness",),
        "share": ("objectness=0.2",),
    },
}
