"""Suggestions for words that nobody knows."""

import pytest

from utils.suggest import meant


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("vgg", ["resnet18", "vgg16"], "; perhaps 'vgg16' is meant"),
        ("VOC2007", ["voc2007"], "; perhaps 'voc2007' is meant"),
        ("quite_another", ["resnet18", "vgg16"], ""),
        ("anything", [], ""),
    ],
)
def test_the_closest_known_word_is_suggested_or_none(
    word: str, known: list[str], said: str
) -> None:
    assert meant(word, known) == said
