"""What the pages claim, worked out from the runs: python -m benchmarks.evidence.claims

Every interval in docs/evidence.md, benchmarks/evidence/README.md and README.md is one of these; a
test reads them there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools.compare.paired import Difference, paired_difference

RESULTS = Path(__file__).parents[1] / "results"


class Claim(NamedTuple):
    """What `richer` adds to `plain`, each `FOLDER: VARIANT` of `RESULTS`, on those splits."""

    plain: str
    richer: str
    splits: tuple[str, ...] = ("test", "val")
    metric: str = "voc07"

    def differences(self) -> dict[str, Difference]:
        """By split, over the seeds that both have."""
        return {
            split: paired_difference(
                read_variant(self.richer, split, self.metric),
                read_variant(self.plain, split, self.metric),
            )
            for split in self.splits
        }


FIFTH = "fifth_neu_det: alone, 5400 steps"
FIFTH_FOD = "fifth_fod20: "
CUT = "cut_fifth_neu_det: "
CUT_FOD = "cut_fifth_fod20: "
ALL = "all_labels_neu_det: "
ALL_FOD = "all_labels_fod20: "
LONGER = "longer_neu_det: "
LONGER_FOD = "longer_fod20: "
TERMS = "terms_confirmed_neu_det: "
TERMS_FOD = "terms_confirmed_fod20: "
OWN = "own_labels_neu_det: "
TEST = ("test",)

CLAIMS = (
    # A fifth of the labels.
    Claim(FIFTH, CUT + "unlabelled"),
    Claim(FIFTH, CUT + "alone"),
    Claim(FIFTH, "fifth_neu_det: unlabelled, teacher of all labels"),
    Claim(FIFTH, "fifth_neu_det: unlabelled, teacher of all labels", TEST, "coco"),
    Claim(FIFTH, "fifth_neu_det: alone, 10800 steps"),
    Claim("fifth_neu_det: alone, 10800 steps", CUT + "alone"),
    Claim("fifth_neu_det: alone, 10800 steps", CUT + "unlabelled"),
    Claim("fifth_neu_det: alone, 5400 steps, float32", FIFTH),
    Claim(CUT + "alone", CUT + "unlabelled"),
    Claim(CUT + "twice as long", CUT + "unlabelled"),
    Claim(OWN + "alone", OWN + "unlabelled"),
    Claim(OWN + "alone", OWN + "objectness"),
    Claim(OWN + "alone", OWN + "twice as long"),
    Claim(OWN + "twice as long", OWN + "objectness"),
    Claim(OWN + "twice as long", OWN + "unlabelled"),
    Claim(TERMS + "alone", TERMS + "objectness"),
    Claim(TERMS + "alone", TERMS + "twice as long"),
    Claim(TERMS + "twice as long", TERMS + "objectness"),
    Claim(TERMS + "alone", TERMS + "pictures"),
    Claim(TERMS + "twice as long", TERMS + "pictures"),
    Claim(TERMS + "alone", TERMS + "pictures, objectness"),
    Claim(TERMS + "twice as long", TERMS + "pictures, objectness"),
    Claim(TERMS + "objectness", TERMS + "pictures"),
    Claim(TERMS + "pictures", TERMS + "pictures, objectness"),
    Claim(TERMS + "objectness", TERMS + "pictures, objectness"),
    Claim(TERMS_FOD + "alone", TERMS_FOD + "objectness"),
    Claim(TERMS_FOD + "alone", TERMS_FOD + "twice as long"),
    Claim(TERMS_FOD + "twice as long", TERMS_FOD + "objectness"),
    Claim(CUT + "alone", CUT + "twice as long"),
    Claim(FIFTH_FOD + "alone", FIFTH_FOD + "unlabelled"),
    Claim(CUT_FOD + "alone", CUT_FOD + "unlabelled"),
    Claim(CUT_FOD + "twice as long", CUT_FOD + "unlabelled"),
    Claim(FIFTH_FOD + "twice as long", CUT_FOD + "unlabelled"),
    Claim("views_neu_det: live", "views_neu_det: 10", TEST),
    # All labels.
    Claim("cut_neu_det: alone", "cut_neu_det: cut"),
    Claim(ALL + "alone", ALL + "cut"),
    Claim(ALL + "alone", ALL + "cut, 120 epochs"),
    Claim(ALL + "cut", ALL + "cut, 120 epochs"),
    Claim(ALL + "cut", ALL + "cut, soft"),
    Claim(ALL + "cut, 120 epochs", ALL + "cut, soft"),
    Claim("all_objectness_neu_det: alone", "all_objectness_neu_det: objectness"),
    Claim(ALL + "alone", LONGER + "alone"),
    Claim(LONGER + "alone", ALL + "cut"),
    Claim(LONGER + "alone", ALL + "cut, 120 epochs"),
    Claim(LONGER + "alone", LONGER + "cut"),
    Claim(ALL + "cut, 120 epochs", LONGER + "cut"),
    Claim(ALL_FOD + "alone", ALL_FOD + "cut"),
    Claim(ALL_FOD + "cut", ALL_FOD + "cut, soft"),
    Claim(ALL_FOD + "alone", LONGER_FOD + "alone"),
    Claim(ALL_FOD + "cut", LONGER_FOD + "cut"),
    Claim(LONGER_FOD + "cut", ALL_FOD + "cut, soft"),
    Claim(LONGER_FOD + "alone", LONGER_FOD + "cut"),
    Claim(ALL_FOD + "alone", LONGER_FOD + "cut"),
    # Five epochs.
    Claim("confirmation_neu_det: alone", "confirmation_neu_det: soft 3 T4", TEST),
    *(Claim("evidence_neu_det: alone", f"evidence_neu_det: {name}", TEST)
      for name in ("soft 3 T2", "tutorial", "paper", "conf 3", "longer")),
    *(Claim("evidence_fod20: alone", f"evidence_fod20: {name}", TEST)
      for name in ("soft 3 T2", "tutorial", "paper", "longer")),
    Claim("evidence_neu_det: soft 3 T2", "evidence_neu_det: longer", TEST),
    Claim("evidence_fod20: soft 3 T2", "evidence_fod20: longer", TEST),
)  # fmt: skip


def read_variant(name: str, split: str, metric: str = "voc07") -> dict[int, float]:
    """The AP in percent of each seed of `FOLDER: VARIANT` on `split`.

    Raises:
        ValueError: no run of it is on file.
    """
    folder, variant = name.split(": ", 1)
    found: dict[int, float] = {}
    for path in sorted((RESULTS / folder).glob("*.json")):
        content = json.loads(path.read_text())
        if path.stem == "runs":
            runs = [run for run in content["runs"] if run["variant"] == variant and split in run]
            found |= {run["seed"]: mean_ap(run[split], metric) for run in runs}
        elif path.stem == "comparison" and content["test"][0].endswith(split):
            if metric == content["metric"]:
                seeds = content["variants"].get(variant, {"seeds": {}})["seeds"].items()
                found |= {int(seed): value for seed, value in seeds}
        elif path.stem == "validation" and content["split"][0].endswith(split):
            networks = content["networks"].get(variant, {}).items()
            found |= {int(seed): mean_ap(scores, metric) for seed, scores in networks}
    if not found:
        raise ValueError(f"{RESULTS / folder}: no {metric} of {variant!r} on {split!r}")
    return found


def mean_ap(scores: Mapping[str, Any], metric: str) -> float:
    """What `get_map.py --json` writes, in percent."""
    return float(100 * scores[metric]["AP" if metric == "coco" else "mAP"])


def interval(difference: Difference) -> str:
    """As the pages have it: `(+0.2 to +5.9)`."""
    return "({:+.1f} to {:+.1f})".format(*difference.t)


if __name__ == "__main__":
    for claim in CLAIMS:
        print(f"{claim.richer}  -  {claim.plain}")
        for split, found in claim.differences().items():
            words = f"{found.mean:+5.1f} {interval(found)}, {found.seeds} seeds: {found.verdict}"
            print(f"    {claim.metric} on {split:4}  {words}")
