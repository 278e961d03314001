"""Small heads with labels, and small models, for the tests of the evaluation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from highresnet import HighRes3DNet
from scipy.ndimage import gaussian_filter

from bids_segsr.evaluation.cases import Imaging
from bids_segsr.evaluation.run import Settings
from bids_segsr.evaluation.systems import read_systems
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference.processing import Processing
from bids_segsr.networks import create
from bids_segsr.training.data.subjects import Subject
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import save_model

SHAPE = (26, 24, 30)


def write_head(folder: Path, name: str, seed: int, split: str = 'test') -> Subject:
    """A ball with a wavy bright shell (label 1) around a core (label 2), 1 mm, mask and all."""
    rng = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing='ij'), -1)
    offset = index - (np.array(SHAPE) - 1) / 2
    waves = gaussian_filter(rng.normal(size=SHAPE), 2.5)
    radius = np.linalg.norm(offset, axis=-1) + 12 * waves
    brain, core = radius < 10.5, radius < 7
    image = gaussian_filter(np.where(core, 60.0, np.where(brain, 100.0, 20.0)), 0.5)
    image += rng.normal(0, 1, SHAPE)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-12, -11, -9)
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.where(core, 2, np.where(brain, 1, 0)).astype(np.int16)
    return Subject(
        name,
        save_volume(folder / f'{name}_T2w.nii.gz', image.astype(np.float32), affine),
        save_volume(folder / f'{name}_dseg.nii.gz', labels, affine),
        split,
        save_volume(folder / f'{name}_mask.nii.gz', brain, affine),
    )


def write_list(path: Path, subjects: list[Subject]) -> Path:
    """The CSV list of some subjects."""
    lines = ['Subject,HR_image,Label_image,Mask_image,Base']
    lines += [f'{s.name},{s.image},{s.label},{s.mask},{s.split.capitalize()}' for s in subjects]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def write_model(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    architecture: str = 'segsrgan-unet',
    channels: tuple[str, ...] = ('intensity', 'cortex'),
    **options: object,
) -> Path:
    """An untrained model; the one-filter generator segments about half of the brain."""
    torch.manual_seed(seed)
    options = options or {'base_filters': 2}
    guides = int(str(options.get('guides', 0)))
    network = create(architecture, **options)
    card = ModelCard(
        name=name,
        version='1',
        description='untrained',
        architecture=architecture,
        options=dict(options),
        contract=InputContract(('T2w',), 'patch-standard', (0.5, 1.5), (1.0, 6.0), guides=guides),
        channels=channels,
        labels={1: 'cortex'},
    )
    return save_model(folder / name, network, card)


IMAGING = Imaging(ForwardModel(spacing_mm=(3.0, 3.0)))


def models(root: Path, *names: str) -> Any:
    return read_systems([str(root / name) for name in names])


def how(patch_size: int, step: int) -> Processing:
    return Processing(patch_size=patch_size, step=step, blending='uniform', device='cpu')


def settings(out: Path, **changes: Any) -> Settings:
    out.mkdir(exist_ok=True)
    return Settings(out=out, imaging=IMAGING, processing=how(16, 16), **changes)


def value(rows: pd.DataFrame, **where: Any) -> float:
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return float(rows['value'].iloc[0])


def ball(shape, centre, radius):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    return np.linalg.norm(index - np.array(centre), axis=-1) <= radius


def export_parcellation(folder: Path) -> tuple[Path, HighRes3DNet]:
    """HighRes3DNet as docs/evaluation.md exports it, and itself; weights drawn, not downloaded."""
    page = (Path(__file__).parents[1] / 'docs' / 'evaluation.md').read_text(encoding='utf-8')
    section = page.partition('### A parcellation network')[2].partition('\n## ')[0]
    (snippet,) = re.findall('```python\n(.*?)```', section, re.DOTALL)
    torch.manual_seed(0)
    network = HighRes3DNet(in_channels=1, out_channels=160, add_dropout_layer=True)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    file = folder / 'highres3dnet.pt'
    assert "traced.save('highres3dnet.pt')" in snippet
    program = snippet.replace("'highres3dnet.pt'", repr(str(file)))
    with patch('torch.hub.load_state_dict_from_url', return_value=network.state_dict()) as load:
        exec(program, {})  # noqa: S102
    assert load.call_args.kwargs['weights_only']
    return file, network.eval()
