"""What is told before results are trusted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_phantoms import (
    models,
    settings,
    write_model,
)

from bids_segsr.evaluation import protocols
from bids_segsr.evaluation.cases import Imaging
from bids_segsr.evaluation.checks import check_structures
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.subjects import Subject, content_digest
from bids_segsr.training.loop.model_card import SEEN
from bids_segsr.zoo.store import CARD_FILE


def test_a_model_out_of_place_is_told_once(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    told: list[str] = []
    # made for 1 to 6 mm
    thick = Imaging(ForwardModel(spacing_mm=(7.0, 8.0)))
    given = dataclasses.replace(settings(tmp_path), imaging=thick, tell=told.append)
    protocols.ablation(models(root, 'one', 'two'), {'heads': heads}, given)
    warnings = [line for line in told if line.startswith('warning')]
    assert [line.split()[1] for line in warnings] == ['one', 'two']
    assert all('slices of 1 to 6 mm, here 7' in line for line in warnings)


def test_an_image_of_the_training_is_told(heads: list[Subject], tmp_path: Path) -> None:
    known, other = (head.image for head in heads)
    assert known is not None
    assert other is not None
    card = write_model(tmp_path, 'one') / CARD_FILE
    content = json.loads(card.read_text(encoding='utf-8'))
    content['training'] = {SEEN: [content_digest(known)]}
    card.write_text(json.dumps(content), encoding='utf-8')
    told: list[str] = []
    given = dataclasses.replace(settings(tmp_path / 'out'), tell=told.append)
    protocols.compare(models(tmp_path, 'one'), {'heads': heads}, given)
    warnings = [line for line in told if 'the training of one read this image' in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f'warning: {known}: ')


def test_structures_that_nobody_has_are_refused(root: Path, heads: list[Subject]) -> None:
    def check(labels: dict[str, tuple[int, ...]], **given: Any) -> None:
        arguments = {'named': False, 'metrics': None} | given
        check_structures(models(root, 'one'), {'heads': heads}, labels, **arguments)

    check({'cortex': (1,)}, named=True)
    check({'cortex': (1,), 'ventricle': (5,)})
    with pytest.raises(UserError, match=r'--label ventricle: no model has .* they have cortex'):
        check({'ventricle': (5,)}, named=True)
    with pytest.raises(UserError, match='--metrics dice: no model segments ventricle'):
        check({'ventricle': (5,)}, metrics=('dice',))
    with pytest.raises(UserError, match='--label cortex=7,8: no label image of the list'):
        check({'cortex': (7, 8)})
    check({'cortex': (7, 8)}, metrics=('psnr',))
    bare = [dataclasses.replace(head, label=None) for head in heads]
    with pytest.raises(UserError, match='no image has a Label_image'):
        check_structures(
            models(root, 'one'), {'heads': bare}, {'cortex': (1,)}, named=False, metrics=('dice',)
        )
