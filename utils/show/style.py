"""The look of all pages: colours for light and dark, and the style sheet."""

# Name -> its colour on a light page and on a dark one. All but the surfaces (paper, card, line) are
# legible as text on paper and card: WCAG 2.2, sec. 1.4.3, contrast 4.5 or more.
COLOURS = {
    "paper": ("#f6f7f9", "#12161c"),
    "card": ("#ffffff", "#1b212a"),
    "line": ("#dfe3e9", "#323c4a"),
    "ink": ("#1c2430", "#e7ebf1"),
    "faint": ("#5c6675", "#98a3b3"),
    "bad": ("#c02626", "#ff7b72"),
    "odd": ("#985a00", "#e5a94a"),
    "good": ("#187045", "#5bc98c"),
    # Of series, neighbours unlike each other in hue and, for the colour-blind, in brightness.
    "c0": ("#2460c4", "#6ea0f7"),
    "c1": ("#b04a00", "#f3a04d"),
    "c2": ("#187045", "#5bc98c"),
    "c3": ("#a81e6b", "#f38cc0"),
    "c4": ("#0b6e87", "#4cc3d9"),
    "c5": ("#6f35d6", "#b99cf9"),
    "c6": ("#b32424", "#ff7b72"),
    "c7": ("#6b5f00", "#d6c449"),
}
SERIES = sum(name[1:].isdigit() for name in COLOURS)

RULES = """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px; max-width: 1160px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 10px; font-size: 19px; } h3 { margin: 22px 0 6px; font-size: 15px; }
p { margin: 6px 0; } ul { margin: 6px 0; padding-left: 20px; }
section { margin-top: 18px; padding: 18px 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; }
section > :first-child { margin-top: 0; }
.faint, figcaption, th, summary { color: var(--faint); } .bad { color: var(--bad); }
.odd { color: var(--odd); } .good { color: var(--good); }
.verdict { margin-top: 14px; padding: 12px 18px; border-left: 5px solid currentColor;
  border-radius: 8px; background: var(--card); font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 6px 0; }
.tiles b { display: block; font-size: 23px; line-height: 1.25; }
.wide { overflow-x: auto; margin: 8px 0; } table { border-collapse: collapse; min-width: 50%; }
th, td { padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 500; font-size: 13px; } tr:last-child > td { border-bottom: 0; }
.words td:first-child { white-space: nowrap; }
.words td + td { overflow-wrap: anywhere; min-width: 110px; }
.number { text-align: right; white-space: nowrap; }
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
code span, pre span { display: inline-block; max-width: 100%; }
pre { white-space: pre-wrap; margin: 6px 0; }
summary { cursor: pointer; } details { margin: 8px 0; }
details li { overflow-wrap: anywhere; font-size: 13px; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 7px 14px;
  align-items: center; }
.bar { height: 8px; min-width: 1px; margin-top: 2px; border-radius: 3px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px; }
.keys { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr));
  gap: 18px 22px; }
.pictures { display: flex; flex-wrap: wrap; gap: 20px; }
.pictures > figure { flex: 1 1 calc(var(--n) * 250px); max-width: calc(var(--n) * 340px); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 6px; }
.row span { font-size: 12px; color: var(--faint); }
figure { margin: 0; min-width: 0; } img { display: block; width: 100%; height: auto;
  border-radius: 4px; }
figcaption { margin: 4px 0; font-size: 13px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; }
"""
DRAWN = """
svg text { fill: var(--ink); } svg .grid { stroke: var(--line); } svg .axis { fill: var(--faint); }
"""


def style() -> str:
    """The style sheet of every page."""
    return palette() + RULES + DRAWN


def palette() -> str:
    """The colours by their names, for whichever mode the reader is in."""
    light, dark = (
        " ".join(f"--{name}: {pair[side]};" for name, pair in COLOURS.items()) for side in (0, 1)
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
