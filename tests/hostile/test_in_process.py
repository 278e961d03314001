"""Hundreds of hostile inputs: each is used, or refused in one line; none costs another one."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import mutations
import numpy as np
import pytest
import torch
from outcome import Tally
from torch import nn

from bids_segsr.bids.query import collect_scans, open_layout
from bids_segsr.execution.preflight import preflight
from bids_segsr.execution.settings import read_toml
from bids_segsr.imaging.volume import load_map, load_scan
from bids_segsr.inference.image_lists import listed_images
from bids_segsr.inference.one_image import Source, process_image, write_result
from bids_segsr.inference.processing import Processing
from bids_segsr.training.data.subjects import read_csv
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import TrainedModel


class Stub(nn.Module):
    """The image, and bright voxels as cortex."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.sigmoid(x)], dim=1)


CARD = ModelCard(
    name='stub',
    version='1',
    description='',
    architecture='segsrgan',
    options={},
    contract=InputContract(('T2w',), 'volume-max', (0.5, 4.0), (1.0, 9.0)),
    channels=('intensity', 'cortex'),
    labels={1: 'cortical grey matter'},
)
MODEL = TrainedModel(Stub(), CARD, Path('stub'))


@pytest.mark.parametrize(
    ('mutate', 'count'),
    [
        (mutations.header, 120),
        (mutations.stream, 40),
        (mutations.voxels, 60),
        (mutations.shapes, 60),
    ],
    ids=['headers', 'streams', 'voxels', 'shapes'],
)
def test_images(
    tmp_path: Path, seed: int, mutate: Callable[[random.Random, Path], Path], count: int
) -> None:
    tally = Tally()
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng = random.Random(f'{mutate.__name__} {seed} {number}')
        path = mutate(rng, folder)
        tally.run(f'{mutate.__name__} {number}', lambda path=path: wrong_with(path))
    tally.check()
    # neither may swallow the other
    assert tally.counts['refused'] > count / 10
    assert tally.counts['fine'] > 0 or mutate is mutations.stream


def wrong_with(path: Path) -> str | None:
    scan = load_scan(path)
    if not np.isfinite(scan.data).all() or scan.data.min() < 0 or np.ptp(scan.data) == 0:
        return 'intensities that are none'
    axes = scan.affine[:3, :3] / scan.spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        return 'axes that are not orthogonal'
    if not all(0.05 <= size <= 25 for size in scan.spacing):
        return f'voxels of {scan.spacing} mm'
    return None


def test_predictions(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    processing = Processing(resolution=3.0, patch_size=16, skull_strip='skip', device='cpu')
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng = random.Random(f'predictions {seed} {number}')
        path = rng.choice((mutations.header, mutations.voxels))(rng, folder)

        def work(path: Path = path, folder: Path = folder) -> str | None:
            source = Source(path)
            outputs = source.outputs(folder, 3.0, CARD.name)
            written = write_result(process_image(source, MODEL, processing), outputs)
            if not all(file.is_file() for file in written.values()):
                return 'a result is missing'
            images = [file for file in written.values() if file.name.endswith('.nii.gz')]
            if not all(np.isfinite(load_map(image).data).all() for image in images):
                return 'results that are no numbers'
            return None

        tally.run(f'prediction {number}', work)
    tally.check()


def test_trees(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    for number in range(40):
        root = tmp_path / str(number)
        mutations.tree(random.Random(f'trees {seed} {number}'), root)

        def work(root: Path = root, number: int = number) -> str | None:
            scans, unusable = collect_scans(open_layout(root))
            good, problems = preflight(scans)
            if 'sub-02_T2w' not in [scan.label for scan in good]:
                tally.add('lost', f'tree {number}', f'{unusable} {problems}')
            messages = [item.message for item in (*unusable, *problems)]
            if any('\n' in text or str(root) not in text for text in messages):
                return f'messages without a file: {messages}'
            named = {scan.path for scan in scans}
            told = ' '.join((*messages, *(item.image for item in unusable)))
            left = [
                path
                for path in root.glob('sub-*/anat/*T2w.nii*')
                if path not in named
                and path.name.partition('.')[0] not in told
                and not left_out(path, root)
            ]
            return f'not a word of {left}' if left else None

        tally.run(f'tree {number}', work)
    tally.check()


def left_out(path: Path, root: Path) -> bool:
    """Whether an image is none that is asked for: ignored, a part, or no file."""
    return (
        (root / '.bidsignore').exists()
        or '_part-' in path.name
        or (path.is_dir() and not path.is_symlink())
    )


def test_cards(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    for number in range(60):
        rng = random.Random(f'cards {seed} {number}')
        text = mutations.mutated_json(rng, CARD.to_json())

        def work(text: str = text) -> str | None:
            card = ModelCard.from_json(text)
            contract = dataclasses.asdict(card.contract)
            finite = all(np.isfinite(x) for pair in ('spacing_mm', 'slice_thickness_mm')
                         for x in contract[pair])  # fmt: skip
            return None if finite and card.channels else 'a card of nothing'

        tally.run(f'card {number}', work)
    tally.check()


def test_recipes_and_settings(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    recipes = sorted((files('bids_segsr.training') / 'recipes').iterdir(), key=lambda p: p.name)
    for number in range(60):
        rng = random.Random(f'recipes {seed} {number}')
        path = tmp_path / f'{number}.toml'
        path.write_bytes(mutations.mutated_text(rng, rng.choice(recipes).read_text('utf-8')))
        tally.run(f'recipe {number}', lambda path=path: read_recipe(str(path)) and None)
    record = 'bids_dir = "/in"\nthreshold = 0.5\nnprocs = 2\nmodality = "T2w"\nverbose = 1\n'
    for number in range(20):
        rng = random.Random(f'settings {seed} {number}')
        path = tmp_path / f'settings{number}.toml'
        path.write_bytes(mutations.mutated_text(rng, record))
        tally.run(f'settings {number}', lambda path=path: read_toml(path) and None)
    tally.check()


def test_lists(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    scan = mutations.write(tmp_path / 'a.nii', mutations.sound(random.Random(0)))
    train = f'HR_image,Label_image,Base\n{scan.name},{scan.name},Train\n{scan.name},,Test\n'
    predict = f'image,mask,guide\n{scan.name},{scan.name},\n{scan.name},,{scan.name}\n'
    for number in range(60):
        rng = random.Random(f'lists {seed} {number}')
        path = tmp_path / f'{number}.csv'
        reader, text = rng.choice(((read_csv, train), (listed_images, predict)))
        path.write_bytes(mutations.mutated_text(rng, text))
        tally.run(f'list {number}', lambda path=path, reader=reader: reader(path) and None)
    tally.check()
