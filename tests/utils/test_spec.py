"""Specs: what is read, what is refused and how it is said."""

from functools import partial

import pytest

from utils.spec import build, parse, write


class Thing:
    def __init__(self, *, size: float = 1.0, colour: str = "red", fixed: int = 0) -> None:
        self.size, self.colour, self.fixed = size, colour, fixed


REGISTRY = {"thing": Thing, "big": partial(Thing, size=9.0)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thing", ("thing", {})),
        (" thing() ", ("thing", {})),
        ("thing(size=0.5)", ("thing", {"size": 0.5})),
        ("thing(size=-1e-3, colour='a b')", ("thing", {"size": -1e-3, "colour": "a b"})),
        ("thing(size=None, sizes=(1, [2]))", ("thing", {"size": None, "sizes": (1, [2])})),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


def test_what_is_written_is_read_again():
    for options in ({}, {"size": 1e-5, "sizes": (0, 1), "colour": "a 'b'", "x": None, "y": True}):
        assert parse(write("thing", options)) == ("thing", options)
    assert write("thing", {"size": 0.5}) == "thing(size=0.5)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thing(",
        "thing(1)",
        "thing(**{'size': 1})",
        "thing(size=1, size=2)",
        "thing(size=__import__('os').getcwd())",
        "thing(size=other)",
        "a.thing(size=1)",
        "thing()(size=1)",
        "3",
        "a + b",
        "thing; thing",
        "thing(size={[]: 1})",
        "thing(size='\\d')",
        "thing(size=1if)",
        "(" * 300 + ")" * 300,
        "thing(size=" + "-" * 20_000 + "1)",
        "thing\0",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"write name or name\(key=value, ...\)"):
        parse(text)


def test_build():
    thing = build("thing(size=2, colour='blue')", REGISTRY, "thing", fixed=7)
    assert (thing.size, thing.colour, thing.fixed) == (2, "blue", 7)
    assert build("big", REGISTRY, "thing").size == 9.0


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown thing 'other'; choose one of big, thing"):
        build("other", REGISTRY, "thing")


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="thing 'thing' has no option 'width'; it has size, col"):
        build("thing(width=1)", REGISTRY, "thing")


def test_what_the_program_decides_is_no_option():
    with pytest.raises(ValueError, match=r"no option 'fixed'; it has size, colour$"):
        build("thing(fixed=1)", REGISTRY, "thing", fixed=7)


def test_no_options_at_all():
    with pytest.raises(ValueError, match="no option 'x'; it has none"):
        build("f(x=1)", {"f": lambda: 1}, "function")
