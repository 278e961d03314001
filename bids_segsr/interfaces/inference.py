"""The network node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

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
    probability_file = File(exists=True, desc='probability of the cortex')
    entropy_file = File(exists=True, desc='its entropy, bits')
    disagreement_file = File(exists=True, desc='standard deviation over patches')
    mask_file = File(exists=True, desc='binary mask of the cortex')
    dseg_file = File(exists=True, desc='the same with the index of the structure')
    regions_file = File(exists=True, desc='the likeliest class, for a network that has classes')
    qc = traits.Dict(desc='components, holes, Euler number, volumes')
    device = traits.Str(desc='where it ran in the end')
    precision = traits.Str(desc='fp32 or bf16')
    warnings = traits.List(traits.Str)


class SuperResolve(SimpleInterface):
    """Let a network restore and segment the scan.

    See `restore` and `segment` in `bids_segsr.inference.steps`: probabilities of all classes are
    many times what comes of them, and never leave the memory.
    """

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
        processing = Processing(**self.inputs.processing)
        prediction = steps.restore(
            model,
            load_volume(self.inputs.in_file),
            steps.Fine(image.data, load_mask(self.inputs.mask_file, image), image.affine),
            processing,
            progress=partial(write_share, Path(runtime.cwd)),
        )
        if prediction.device != 'cpu':
            torch.cuda.empty_cache()  # the worker process lives on and would keep it

        maps = {'out_file': prediction.image}
        if len(prediction.probabilities):
            found = steps.segment(prediction.probabilities, image.spacing, model.card, processing)
            maps |= {
                'probability_file': prediction.probabilities[0],
                'entropy_file': prediction.entropy,
                'disagreement_file': prediction.disagreement,
                'mask_file': found.cortex,
                'dseg_file': found.labelled(min(model.card.labels)),
            }
            if found.regions is not None:
                maps['regions_file'] = found.regions
            self._results['qc'] = found.qc

        def save(name: str) -> str:
            path = Path(runtime.cwd, f'{name.removesuffix("_file")}.nii.gz')
            return str(save_volume(path, maps[name], image.affine))

        # compressing takes a third as long as the network
        with ThreadPoolExecutor(self.inputs.num_threads) as threads:
            self._results |= dict(zip(maps, threads.map(save, maps), strict=True))
        self._results['device'] = prediction.device
        self._results['precision'] = prediction.precision
        self._results['warnings'] = list(prediction.warnings)
        return runtime
