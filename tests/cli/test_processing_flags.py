"""The flags of both front doors: one a choice, and silence leaves the defaults."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from bids_segsr.cli.processing_flags import add_processing_flags
from bids_segsr.inference.processing import CHOICES, Processing, flag


def read(*words: str, **options: Any) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_processing_flags(parser, '--mask', **options)
    return vars(parser.parse_args(words))


def test_every_choice_has_its_flag_and_what_is_not_given_is_not_set() -> None:
    parser = argparse.ArgumentParser()
    add_processing_flags(parser, '--mask')
    text = parser.format_help()
    assert [name for name in CHOICES if f'{flag(name)} ' not in text.replace(',', ' ')] == []
    assert read() == {}
    assert Processing(**read()) == Processing()


def test_values_arrive_as_the_choices_take_them() -> None:
    words = '--resolution 0.7 --patch-size 64x40x64 --step 20 --no-keep-largest --threshold 0.4'
    given = Processing(**read(*words.split(), '--bias-correction=none'))
    assert given == Processing(
        resolution=0.7,
        patch_size=(64, 40, 64),
        step=20,
        keep_largest=False,
        threshold=0.4,
        bias_correction='none',
    )
    assert read('--resolution', 'auto') == {'resolution': None}


def test_mistakes_and_flags_that_a_command_varies_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, options in (
        (('--resolution', 'fine'), {}),
        (('--blending', 'linear'), {}),
        (('--step', '4'), {'patches': False}),
    ):
        with pytest.raises(SystemExit):
            read(*words, **options)
        assert words[1] in capsys.readouterr().err
