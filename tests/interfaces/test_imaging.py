"""From the acquired scan to what the network takes: each interface gives what its step gives."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from test_brain_extraction import Bright, ball, model_of

from bids_segsr.imaging.volume import load_map, load_mask, load_volume, save_volume
from bids_segsr.inference import brain_extraction as brain_mask
from bids_segsr.inference import steps
from bids_segsr.inference.processing import Processing
from bids_segsr.interfaces.imaging import BrainMask, Conform, CorrectBiasField, Interpolate


def test_interface_runs_the_network_where_no_template_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(brain_mask, 'load_model', lambda _: model_of(Bright(0.5)))
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    inside = ball((36, 36, 24), affine, np.array([35.0, 35, 34]), 24)
    noise = np.random.default_rng(0).uniform(1, 30, inside.shape)
    path = save_volume(tmp_path / 'head.nii', (500 * inside + noise).astype(np.float32), affine)
    threads = torch.get_num_threads()
    try:
        result = BrainMask(in_file=str(path), processing={}).run(cwd=str(tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert result.outputs.method == 'network bright 4'
    assert not result.outputs.stripped
    found = load_map(Path(result.outputs.out_file)).data > 0
    assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.95


def test_conform_gives_the_scan_of_the_step_and_what_was_mended(tmp_path, scan):
    image = nib.load(scan)
    image.header['xyzt_units'] = 1  # metres, which no voxel of a head has
    image.set_sform(np.diag([1e-3, 1e-3, 1e-3, 1]) @ image.affine, 1)
    image.set_qform(image.get_sform(), 1)
    path = tmp_path / 'metres.nii'
    nib.save(image, path)
    result = Conform(in_file=str(path)).run(cwd=str(tmp_path)).outputs
    made, expected = load_volume(Path(result.out_file)), steps.conform(path)
    np.testing.assert_array_equal(made.data, expected.data)
    np.testing.assert_allclose(made.affine, load_volume(scan).affine, atol=1e-3)
    assert result.notes == list(expected.notes) != []


@pytest.mark.parametrize('how', ['n4', 'none'])
def test_the_bias_field_is_corrected_as_the_step_does_where_it_is_asked_for(tmp_path, scan, how):
    choices = {'bias_correction': how}
    node = CorrectBiasField(in_file=str(scan), processing=choices)
    made = load_volume(Path(node.run(cwd=str(tmp_path)).outputs.out_file))
    given = load_volume(scan)
    expected = steps.correct(given, Processing(**choices))
    np.testing.assert_array_equal(made.data, expected.data)
    assert (how == 'none') == np.array_equal(made.data, given.data)


def test_a_mask_that_was_given_comes_first_and_a_stripped_scan_is_recognised(
    tmp_path, scan, brain
):
    given = BrainMask(in_file=str(scan), mask_file=str(brain), processing={})
    result = given.run(cwd=str(tmp_path)).outputs
    assert (result.method, result.stripped) == ('existing mask', False)
    volume = load_volume(scan)
    expected = load_mask(brain, volume)
    np.testing.assert_array_equal(load_mask(Path(result.out_file), volume), expected)
    result = BrainMask(in_file=str(scan), processing={}).run(cwd=str(tmp_path)).outputs
    assert (result.method, result.stripped) == ('stripped already', True)
    np.testing.assert_array_equal(load_mask(Path(result.out_file), volume), volume.data > 0)


def test_interpolation_is_that_of_the_step(tmp_path, scan, brain):
    node = Interpolate(in_file=str(scan), mask_file=str(brain), processing={'resolution': 1.5})
    result = node.run(cwd=str(tmp_path)).outputs
    volume = load_volume(scan)
    expected = steps.interpolate(volume, load_mask(brain, volume), Processing(resolution=1.5))
    made = load_volume(Path(result.out_file))
    np.testing.assert_allclose(made.spacing, 1.5, atol=1e-5)
    np.testing.assert_allclose(made.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(made.data, expected.image)
    np.testing.assert_array_equal(load_mask(Path(result.mask_file), made), expected.mask)
