"""One page about a data set: no script, no network, pictures inside, light and dark."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from tools.check_data.faults import KINDS
from tools.check_data.pictures import Figure
from utils.files import write_whole

EXAMPLES = 20

STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1c2430; --faint: #667085;
  --line: #e3e6eb; --bad: #c62f2f; --odd: #b26a00; --good: #1c7f4b; --train: #3a6fd8;
  --val: #9dbcf5; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161c; --card: #1b212a; --ink: #e7ebf1;
  --faint: #98a3b3; --line: #2d3643; --bad: #ff7b72; --odd: #e5a94a; --good: #5bc98c;
  --train: #6d9bf5; --val: #3c5788; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1120px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 0 0 12px; font-size: 18px; }
section { margin-top: 20px; padding: 20px 22px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; }
.faint, figcaption, th { color: var(--faint); } .bad { color: var(--bad); }
.odd { color: var(--odd); } .good { color: var(--good); }
.verdict { margin-top: 16px; padding: 12px 18px; border-left: 5px solid currentColor;
  border-radius: 8px; background: var(--card); font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px 40px; }
.tiles b { display: block; font-size: 24px; line-height: 1.2; }
.wide { overflow-x: auto; } table { width: 100%; border-collapse: collapse; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 500; font-size: 13px; } tr:last-child > td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
summary { cursor: pointer; color: var(--faint); }
details li { overflow-wrap: anywhere; font-size: 13px; } ul { margin: 6px 0; padding-left: 20px; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 7px 14px;
  align-items: center; }
.bar { height: 8px; min-width: 1px; border-radius: 3px; background: var(--train); }
.bar.val { background: var(--val); margin-top: 2px; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin: 0 5px 0 14px;
  vertical-align: -1px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr));
  gap: 20px; }
figure { margin: 0; } figure img { display: block; width: 100%; height: 260px;
  object-fit: contain; background: var(--paper); border-radius: 8px; }
@media (min-width: 760px) { .broad { grid-column: span 2; } }
figcaption { margin-top: 6px; font-size: 13px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
"""


def write_page(path: str | Path, report: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Writes the page, whole or not at all; `report` is what tools.check_data writes as JSON."""
    write_whole(path, page(report, figures))


def page(report: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The page as text."""
    state = "good" if report["trainable"] else "bad"
    train, val = (", ".join(report[side]) or "none" for side in ("train", "val"))
    sections = [
        ("", tiles(report)),
        ("Faults", fault_table(report)),
        ("Objects of each class", bars(report)),
        ("Do the priors reach the objects?", prior_table(report)),
        ("Shapes", shape_table(report["shapes"])),
        ("Pictures", "".join(map(figure_html, figures))),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report['data'])}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(report['data'])}</h1>"
        f'<div class="faint">training: {escape(train)} &middot; validation: {escape(val)}</div>'
        f'<div class="verdict {state}">{escape(report["verdict"])}</div>'
        + "".join(section(title, body) for title, body in sections if body)
        + "</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A card of the page."""
    head = f"<h2>{title}</h2>" if title else ""
    inner = f'<div class="pictures">{body}</div>' if body.startswith("<figure") else body
    return f"<section>{head}{inner}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers; all cells are escaped."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = ["", *[' class="number"'] * (len(cells) - 1)]
        parts = zip(marks, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{m}>{escape(c)}</{tag}>" for m, c in parts) + "</tr>"

    body = line("th", head) + "".join(line("td", row) for row in rows)
    return f'<div class="wide"><table>{body}</table></div>'


def tiles(report: Mapping[str, Any]) -> str:
    """The numbers of each split."""
    rows = [
        (split, f"{f['images']}", f"{f['objects']}", percent(f["difficult_share"]))
        for split, f in report["splits"].items()
    ]
    fatal = sum(n for kind, n in report["counts"].items() if KINDS[kind].fatal)
    values = {
        "images": sum(f["images"] for f in report["splits"].values()),
        "objects": sum(f["objects"] for f in report["splits"].values()),
        "classes": len(report["classes"]),
        "faults that training refuses": fatal,
        "oddities": sum(report["counts"].values()) - fatal,
    }
    shown = "".join(f"<div><b>{n}</b>{escape(name)}</div>" for name, n in values.items())
    return f'<div class="tiles">{shown}</div><br>' + table(
        ("split", "images", "objects", "difficult"), rows
    )


def fault_table(report: Mapping[str, Any]) -> str:
    """Each kind with its number, what to do, and examples to unfold."""
    if not report["counts"]:
        return '<span class="good">none</span>'
    rows = []
    for kind, count in report["counts"].items():
        of_kind = [f["message"] for f in report["faults"] if f["kind"] == kind]
        items = "".join(f"<li>{escape(message)}</li>" for message in of_kind[:EXAMPLES])
        rest = f"<li>and {count - EXAMPLES} more</li>" if count > EXAMPLES else ""
        mark, word = ("bad", "refused") if KINDS[kind].fatal else ("odd", "odd")
        rows.append(
            f'<tr><td class="number">{count}</td><td class="{mark}">{word}</td><td>'
            f"<b>{KINDS[kind].title}</b> &ndash; {escape(KINDS[kind].remedy)}"
            f"<details><summary>examples</summary><ul>{items}{rest}</ul></details></td></tr>"
        )
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def bars(report: Mapping[str, Any]) -> str:
    """Objects of each class, training above validation, most first."""
    counts = {
        name: [sum(by_split[s]["objects"] for s in report[side]) for side in ("train", "val")]
        for name, by_split in report["classes"].items()
    }
    most = max(1, *(n for pair in counts.values() for n in pair))
    rows = []
    for name, (train, val) in sorted(counts.items(), key=lambda item: -item[1][0]):
        mark = "" if train and (val or not report["val"]) else ' class="odd"'
        rows.append(
            f"<span{mark}>{escape(name)}</span><div>"
            f'<div class="bar" style="width:{100 * train / most:.2f}%"></div>'
            f'<div class="bar val" style="width:{100 * val / most:.2f}%"></div></div>'
            f'<span class="number">{train} <span class="faint">+ {val}</span></span>'
        )
    return (
        '<p class="faint"><span class="key" style="background:var(--train);margin-left:0"></span>'
        'training<span class="key" style="background:var(--val)"></span>validation</p>'
        f'<div class="bars">{"".join(rows)}</div>'
    )


def prior_table(report: Mapping[str, Any]) -> str:
    """How many objects of each size have no prior, and what that means."""
    head = ("", "objects", "without a prior", "share", "median best IoU", "priors an object")
    limits = {"small": " (area to 32²)", "medium": " (to 96²)", "large": " (above)"}
    rows = []
    for side in ("train", "val"):
        for size, row in report["priors"][side].items():
            if row["objects"]:
                numbers = (row["median_best_iou"], row["priors_per_object"])
                rows.append(
                    (
                        f"{side}: {size}{limits.get(size, '')}",
                        *(str(row["objects"]), str(row["unmatched"])),
                        percent(row["unmatched_share"]),
                        *(f"{number:.2f}" for number in numbers),
                    )
                )
    advice = "".join(f"<li>{escape(line)}</li>" for line in report["advice"])
    return (
        '<p class="faint">A prior answers for an object from IoU 0.5 on. Sizes are those at the '
        f"300 x 300 input, unaugmented; layout {escape(report['priors']['layout'])}; difficult "
        f"objects left out.</p>{table(head, rows)}<ul>{advice}</ul>"
    )


def shape_table(shapes: Mapping[str, Any]) -> str:
    """Percentiles of images and objects."""
    titles = {
        "image_width": "image width, pixels",
        "image_height": "image height, pixels",
        "image_aspect": "image width / height",
        "object_side": "training object: √area at the input, pixels",
        "object_aspect": "training object: width / height at the input",
    }
    rows = [
        (title, *(f"{value:.4g}" for value in shapes[key].values()))
        for key, title in titles.items()
        if shapes[key]
    ]
    common = ", ".join(f"{w} x {h} ({n})" for w, h, n in shapes["commonest_images"])
    squashed = shapes["images_longer_than_2"]
    note = f" {squashed} are longer than 2:1 and reach the network squashed." if squashed else ""
    return (
        table(("", "least", "5 %", "median", "95 %", "most"), rows)
        + f'<p class="faint">Commonest images: {common or "none"}.{note}</p>'
    )


def percent(share: float | None) -> str:
    """0.5 -> `50.0 %`; None, of nothing, -> `-`."""
    return "-" if share is None else f"{100 * share:.1f} %"


def figure_html(figure: Figure) -> str:
    """A figure with its picture inside."""
    file = io.BytesIO()
    Image.fromarray(figure.picture).save(file, "JPEG", quality=82)
    height, width = figure.picture.shape[:2]
    broad = ' class="broad"' if width > 1.7 * height else ""
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure{broad}><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>'
        f"<b>{escape(figure.title)}</b><br>{escape(figure.caption)}</figcaption></figure>"
    )
