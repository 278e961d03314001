"""From the acquired scan to what the network takes: conform, bias field, brain mask, grid."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.base.support import Bunch


# The files of the user may go while the run goes on: reading them says so, while Nipype would only
# tell of an input without a value.
class _ConformInputSpec(BaseInterfaceInputSpec):
    in_file = File(mandatory=True, desc='scan as acquired')


class _ConformOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='the same voxels, float32, header mended')
    notes = traits.List(traits.Str, desc='what was mended in the header')


class Conform(SimpleInterface):
    """Check a scan, mend its header and let intensities begin at 0; voxels keep their place."""

    input_spec = _ConformInputSpec
    output_spec = _ConformOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import save_volume
        from bids_segsr.inference import steps

        volume = steps.conform(self.inputs.in_file)
        self._results['out_file'] = str(
            save_volume(Path(runtime.cwd, 'scan.nii.gz'), volume.data, volume.affine)
        )
        self._results['notes'] = list(volume.notes)
        return runtime


class _CorrectBiasFieldInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    mask_file = File(desc='where the field is fitted; else the foreground')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')


class _FileOutputSpec(TraitedSpec):
    out_file = File(exists=True)


class CorrectBiasField(SimpleInterface):
    """N4 on the scan's own grid (see `bids_segsr.imaging.bias_field`), where it is asked for."""

    input_spec = _CorrectBiasFieldInputSpec
    output_spec = _FileOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing

        scan = load_volume(self.inputs.in_file)
        mask = load_mask(self.inputs.mask_file, scan) if self.inputs.mask_file else None
        how = Processing(**self.inputs.processing)
        corrected = steps.correct(scan, how, mask)
        self._results['out_file'] = str(
            save_volume(Path(runtime.cwd, 'corrected.nii.gz'), corrected.data, scan.affine)
        )
        return runtime


class _BrainMaskInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    mask_file = File(desc='existing mask on the same grid')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')
    modality = traits.Str('T2w', usedefault=True, desc='BIDS suffix of the scan')
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class _BrainMaskOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='mask on the scan grid')
    method = traits.Str(desc='how the mask came about')
    stripped = traits.Bool(desc='whether the scan itself holds the brain only')


class BrainMask(SimpleInterface):
    """Take an existing mask, recognise a stripped image, or look for the brain.

    By a network, or by registration of a template (`bids_segsr.inference.brain_extraction`).
    """

    input_spec = _BrainMaskInputSpec
    output_spec = _BrainMaskOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.environment import set_torch_threads
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing

        set_torch_threads(self.inputs.num_threads)
        scan = load_volume(self.inputs.in_file)
        existing = load_mask(self.inputs.mask_file, scan) if self.inputs.mask_file else None
        mask, method = steps.find_brain(
            scan,
            Processing(**self.inputs.processing),
            existing=existing,
            modality=self.inputs.modality,
        )
        self._results['out_file'] = str(
            save_volume(Path(runtime.cwd, 'mask.nii.gz'), mask, scan.affine)
        )
        self._results['method'] = method
        self._results['stripped'] = method == 'stripped already'
        return runtime


class _InterpolateInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    mask_file = File(exists=True, mandatory=True, desc='brain mask on its grid')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')


class _InterpolateOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='cubic B-spline on the isotropic grid, masked')
    mask_file = File(exists=True, desc='mask on the isotropic grid')


class Interpolate(SimpleInterface):
    """Cubic B-spline interpolation to the isotropic grid."""

    input_spec = _InterpolateInputSpec
    output_spec = _InterpolateOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing

        scan = load_volume(self.inputs.in_file)
        mask = load_mask(self.inputs.mask_file, scan)
        fine = steps.interpolate(scan, mask, Processing(**self.inputs.processing))
        self._results['out_file'] = str(
            save_volume(Path(runtime.cwd, 'interpolated.nii.gz'), fine.image, fine.affine)
        )
        self._results['mask_file'] = str(
            save_volume(Path(runtime.cwd, 'mask.nii.gz'), fine.mask, fine.affine)
        )
        return runtime
