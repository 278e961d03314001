"""The network node and what is drawn from its probability maps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.base.support import Bunch


class _SuperResolveInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    fine_file = File(exists=True, mandatory=True, desc='the same on the isotropic grid, masked')
    mask_file = File(exists=True, mandatory=True, desc='brain mask on that grid')
    model = traits.Str(mandatory=True, desc='name or path')
    card_json = traits.Str(mandatory=True, desc='its card: renews the result when it changes')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='takes a GPU slot')
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class _SuperResolveOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='super-resolved image')
    probability_files = traits.List(
        File(exists=True), desc='probability of the cortex, then of each class'
    )
    probability_file = File(exists=True, desc='the first of them')
    entropy_file = File(exists=True, desc='entropy of the first channel, bits')
    disagreement_file = File(exists=True, desc='standard deviation over patches')
    device = traits.Str(desc='where it ran in the end')
    precision = traits.Str(desc='fp32 or bf16')
    warnings = traits.List(traits.Str)


class SuperResolve(SimpleInterface):
    """Let a network restore and segment the scan (see `bids_segsr.inference.steps.restore`)."""

    input_spec = _SuperResolveInputSpec
    output_spec = _SuperResolveOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        import torch

        from bids_segsr.environment import set_torch_threads
        from bids_segsr.exceptions import ModelError
        from bids_segsr.files import write_share
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing
        from bids_segsr.zoo.find import load_model

        set_torch_threads(self.inputs.num_threads)
        model = load_model(self.inputs.model)
        if model.card.to_json() != self.inputs.card_json:
            raise ModelError(f'{model.path}: the model changed during the run; start it again.')
        image = load_volume(self.inputs.fine_file)
        prediction = steps.restore(
            model,
            load_volume(self.inputs.in_file),
            steps.Fine(image.data, load_mask(self.inputs.mask_file, image), image.affine),
            Processing(**self.inputs.processing),
            progress=partial(write_share, Path(runtime.cwd)),
        )
        if prediction.device != 'cpu':
            torch.cuda.empty_cache()  # the worker process lives on and would keep it

        def save(name: str, data: np.ndarray) -> str:
            return str(save_volume(Path(runtime.cwd, f'{name}.nii.gz'), data, image.affine))

        self._results['out_file'] = save('superresolved', prediction.image)
        maps = prediction.probabilities
        files = [save(f'probability{index}', data) for index, data in enumerate(maps)]
        self._results['probability_files'] = files
        if files:
            self._results['probability_file'] = files[0]
        self._results['entropy_file'] = save('entropy', prediction.entropy)
        self._results['disagreement_file'] = save('disagreement', prediction.disagreement)
        self._results['device'] = prediction.device
        self._results['precision'] = prediction.precision
        self._results['warnings'] = list(prediction.warnings)
        return runtime


class _SegmentInputSpec(BaseInterfaceInputSpec):
    probability_files = traits.List(File(exists=True), mandatory=True, minlen=1)
    card_json = traits.Str(mandatory=True, desc='card of the model')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')


class _SegmentOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc='binary mask of the cortex')
    dseg_file = File(exists=True, desc='the same with the index of the structure')
    regions_file = File(exists=True, desc='the likeliest class, for a network that has classes')
    qc = traits.Dict(desc='components, holes, Euler number, volume')


class Segment(SimpleInterface):
    """Draw the cortex and the classes (see `bids_segsr.inference.steps.segment`)."""

    input_spec = _SegmentInputSpec
    output_spec = _SegmentOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import load_map, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing
        from bids_segsr.zoo.card import ModelCard

        maps = [load_map(name) for name in self.inputs.probability_files]
        card = ModelCard.from_json(self.inputs.card_json)
        found = steps.segment(
            [probability.data for probability in maps],
            maps[0].spacing,
            card,
            Processing(**self.inputs.processing),
        )

        def save(name: str, data: np.ndarray) -> str:
            return str(save_volume(Path(runtime.cwd, f'{name}.nii.gz'), data, maps[0].affine))

        self._results['mask_file'] = save('mask', found.cortex)
        self._results['dseg_file'] = save('dseg', found.labelled(min(card.labels)))
        if found.regions is not None:
            self._results['regions_file'] = save('regions', found.regions)
        self._results['qc'] = found.qc
        return runtime
