"""The network node and what is drawn from its probability map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch


class _SuperResolveInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='interpolated image, masked')
    mask_file = File(exists=True, mandatory=True, desc='mask on its grid')
    scan_file = File(exists=True, mandatory=True, desc='scan that was interpolated')
    model = traits.Str(mandatory=True, desc='name or path')
    card_json = traits.Str(mandatory=True, desc='its card: renews the result when it changes')
    slice_thickness = traits.Float(desc='mm')
    patch_size = traits.Int(desc='edge in voxels; 0 for the whole volume')
    step = traits.Int(desc='distance of the patches in voxels')
    blending = traits.Enum('gaussian', 'uniform', usedefault=True)
    device = traits.Str('auto', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='takes a GPU slot')
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class _SuperResolveOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='super-resolved image')
    probability_file = File(exists=True, desc='probability of the cortex')
    region_files = traits.List(File(exists=True), desc='probability of each region class')
    entropy_file = File(exists=True, desc='entropy of the first channel, bits')
    disagreement_file = File(exists=True, desc='standard deviation over patches')
    device = traits.Str(desc='where it ran in the end')
    warnings = traits.List(traits.Str)


class SuperResolve(SimpleInterface):
    """Run a generator over the interpolated image (see `bids_segsr.inference.predict`)."""

    input_spec = _SuperResolveInputSpec
    output_spec = _SuperResolveOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        import torch

        from bids_segsr.exceptions import ModelError
        from bids_segsr.imaging.back_projection import Slices
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference.predict import predict
        from bids_segsr.inference.processing import Processing
        from bids_segsr.zoo.find import load_model

        torch.set_num_threads(self.inputs.num_threads)
        model = load_model(self.inputs.model)
        if model.card.to_json() != self.inputs.card_json:
            raise ModelError(f'{model.path}: the model changed during the run; start it again.')
        image, scan = load_volume(self.inputs.in_file), load_volume(self.inputs.scan_file)
        prediction = predict(
            model,
            image.data,
            Slices(scan.data, scan.affine, image.affine, self._given('slice_thickness')),
            mask=load_mask(self.inputs.mask_file, image),
            processing=Processing(
                patch_size=self._given('patch_size'),
                step=self._given('step'),
                blending=self.inputs.blending,
                device=self.inputs.device,
            ),
        )
        if prediction.device != 'cpu':
            torch.cuda.empty_cache()  # the worker process lives on and would keep it

        def save(name: str, data: np.ndarray) -> str:
            return str(save_volume(Path(runtime.cwd, f'{name}.nii.gz'), data, image.affine))

        self._results['out_file'] = save('superresolved', prediction.image)
        if len(prediction.probabilities):
            self._results['probability_file'] = save('cortex', prediction.probabilities[0])
        self._results['region_files'] = [
            save(f'region{index}', data) for index, data in enumerate(prediction.probabilities[1:])
        ]
        self._results['entropy_file'] = save('entropy', prediction.entropy)
        self._results['disagreement_file'] = save('disagreement', prediction.disagreement)
        self._results['device'] = prediction.device
        self._results['warnings'] = list(prediction.warnings)
        return runtime

    def _given(self, name: str) -> Any:
        value = getattr(self.inputs, name)
        return value if isdefined(value) else None


class _SegmentInputSpec(BaseInterfaceInputSpec):
    probability_file = File(exists=True, mandatory=True)
    threshold = traits.Range(0.0, 1.0, value=0.5, usedefault=True)
    keep_largest = traits.Bool(False, usedefault=True)
    label = traits.Int(1, usedefault=True, desc='index of the structure in the segmentation')


class _SegmentOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc='binary mask')
    dseg_file = File(exists=True, desc='the same with the index of the structure')
    qc = traits.Dict(desc='components, holes, Euler number, volume')


class Segment(SimpleInterface):
    """Threshold, count the connected components, keep the largest if asked to."""

    input_spec = _SegmentInputSpec
    output_spec = _SegmentOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.components import keep_largest_component, topology
        from bids_segsr.imaging.volume import load_map, save_volume

        probability = load_map(self.inputs.probability_file)
        mask = probability.data > self.inputs.threshold
        before = topology(mask)
        if self.inputs.keep_largest:
            mask = keep_largest_component(mask)
        after = topology(mask)
        self._results['mask_file'] = str(
            save_volume(Path(runtime.cwd, 'mask.nii.gz'), mask, probability.affine)
        )
        self._results['dseg_file'] = str(
            save_volume(
                Path(runtime.cwd, 'dseg.nii.gz'),
                np.where(mask, self.inputs.label, 0).astype(np.int16),
                probability.affine,
            )
        )
        self._results['qc'] = {
            'cortex_volume_ml': after.voxels * float(np.prod(probability.spacing)) / 1000,
            'components_before': before.components,
            'components_after': after.components,
            'largest_share': before.largest_share,
            'holes': after.holes,
            'euler_number': after.euler_number,
        }
        return runtime


class _ArgMaxInputSpec(BaseInterfaceInputSpec):
    probability_files = traits.List(File(exists=True), mandatory=True, minlen=2)


class _ArgMaxOutputSpec(TraitedSpec):
    dseg_file = File(exists=True)


class ArgMax(SimpleInterface):
    """The most probable class of a voxel; class 0 is the background."""

    input_spec = _ArgMaxInputSpec
    output_spec = _ArgMaxOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import load_map, save_volume

        maps = [load_map(name) for name in self.inputs.probability_files]
        classes = np.argmax([probability.data for probability in maps], axis=0)
        self._results['dseg_file'] = str(
            save_volume(Path(runtime.cwd, 'dseg.nii.gz'), classes.astype(np.int16), maps[0].affine)
        )
        return runtime
