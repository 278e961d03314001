"""What a training ends with."""

from __future__ import annotations

import json
import math
from pathlib import Path

from training_phantoms import DATA, tiny_recipe

from bids_segsr.networks import create
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.model_card import UNTRAINED, Outcome, write_model, write_summary
from bids_segsr.training.loop.progress import Progress
from bids_segsr.zoo.find import load_model


def test_the_scores_of_the_kept_step_are_told() -> None:
    rows = [
        {'step': 0.0, 'psnr': 20.0},
        {'step': 3.0, 'psnr': 21.0, 'dice_cortex': 0.5, 'ssim': math.nan, 'minutes': 7.0},
        {'step': 6.0, 'psnr': 20.5, 'dice_cortex': 0.6},
    ]
    outcome = Outcome(Progress(step=9), None).with_scores(rows, 3)
    assert outcome.kept_step == 3
    assert outcome.scores == {'psnr': 21.0, 'dice_cortex': 0.5}
    assert Outcome(Progress(), None).with_scores([], 0).scores == {}


def test_card_and_summary_tell_recipe_data_and_end(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    network = create(recipe.network.architecture, **recipe.network.options)
    outcome = Outcome(Progress(step=6, best_step=3, seconds=90), None, 3, {'psnr': 30.123456})
    card = load_model(write_model(tmp_path / 'model', network, recipe, DATA, outcome)).card
    assert card.description.startswith('Super-resolution and segmentation of T2w images')
    assert 'on 2 subjects' in card.description
    assert card.contract.spacing_mm == DATA.spacing_mm
    assert card.contract.slice_thickness_mm == DATA.slice_thickness_mm
    assert card.contract.normalisation == 'patch-standard'
    assert card.labels == {1: 'cortex'}
    assert card.scores == {'validation patches': {'psnr': 30.1235}}
    assert (card.training['steps'], card.training['minutes']) == (6, 1.5)
    assert UNTRAINED not in card.limitations

    begun = Outcome(Progress(step=6), None, 0)
    card = load_model(write_model(tmp_path / 'begun', network, recipe, DATA, begun)).card
    assert UNTRAINED in card.limitations

    fabric = make_fabric('cpu', None, 'fp32')
    path = write_summary(tmp_path, recipe, DATA, outcome, fabric, {'patches': 8})
    summary = json.loads(path.read_text(encoding='utf-8'))
    assert summary['subjects'] == {'train': ['a', 'b'], 'validation': ['c']}
    assert (summary['kept_step'], summary['minutes'], summary['patches']) == (3, 1.5, 8)
    assert summary['machine']['processes'] == 1
    assert summary['memory_gb'] > 0.01
