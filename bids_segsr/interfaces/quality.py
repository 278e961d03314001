"""Numbers that say how far a result can be trusted."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch


class _FidelityInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='super-resolved image')
    fine_file = File(exists=True, mandatory=True, desc='what it is compared with')
    mask_file = File(exists=True, mandatory=True, desc='mask on their grid')
    scan_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    processing = traits.Dict(mandatory=True, desc='choices of Processing that matter here')


class _FidelityOutputSpec(TraitedSpec):
    residual_file = File(exists=True, desc='degraded result minus scan, on the scan grid')
    qc = traits.Dict(desc='agreement of the result, and of plain interpolation')


class FidelityCheck(SimpleInterface):
    """Compare the result with the scan (see `bids_segsr.inference.steps.check`)."""

    input_spec = _FidelityInputSpec
    output_spec = _FidelityOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume
        from bids_segsr.inference import steps
        from bids_segsr.inference.processing import Processing

        scan, spline = (load_volume(self.inputs.scan_file), load_volume(self.inputs.fine_file))
        found = steps.check(
            load_volume(self.inputs.in_file).data,
            steps.Fine(spline.data, load_mask(self.inputs.mask_file, spline), spline.affine),
            scan,
            Processing(**self.inputs.processing),
        )
        self._results['residual_file'] = str(
            save_volume(Path(runtime.cwd, 'residual.nii.gz'), found.residual, scan.affine)
        )
        self._results['qc'] = found.qc
        return runtime


class _CollectQCInputSpec(BaseInterfaceInputSpec):
    facts = traits.Dict(mandatory=True, desc='what is known before the run')
    segmentation = traits.Dict(usedefault=True, desc='of the cortex, from SuperResolve')
    fidelity = traits.Dict(mandatory=True, desc='from FidelityCheck')
    scan_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    mask_file = File(exists=True, mandatory=True, desc='mask on the isotropic grid')
    entropy_file = File(exists=True)
    disagreement_file = File(exists=True)
    regions_file = File(exists=True, desc='tissues on the isotropic grid')
    names = traits.List(traits.Str, usedefault=True, desc='what they are called, from 1 on')
    header_notes = traits.List(traits.Str, usedefault=True)
    warnings = traits.List(traits.Str, usedefault=True)
    skull_strip = traits.Str(mandatory=True, desc='how the brain mask came about')
    device = traits.Str(mandatory=True)
    precision = traits.Str('fp32', usedefault=True)


class _CollectQCOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='all numbers of one image, JSON')


class CollectQC(SimpleInterface):
    """Make the QC record of one image (see `bids_segsr.inference.qc_numbers.quality`)."""

    input_spec = _CollectQCInputSpec
    output_spec = _CollectQCOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from dataclasses import replace

        import numpy as np

        from bids_segsr.imaging.volume import load_map, load_volume
        from bids_segsr.inference.qc import qc_json
        from bids_segsr.inference.qc_numbers import quality

        mask = load_map(self.inputs.mask_file)
        record = quality(
            facts=self.inputs.facts,
            corrected=replace(
                load_volume(self.inputs.scan_file), notes=tuple(self.inputs.header_notes)
            ),
            mask=mask.data > 0,
            affine=mask.affine,
            method=self.inputs.skull_strip,
            device=self.inputs.device,
            precision=self.inputs.precision,
            warnings=self.inputs.warnings,
            numbers={**self.inputs.segmentation, **self.inputs.fidelity},
            maps={
                name: load_map(path).data
                for name, path in (
                    ('entropy', self.inputs.entropy_file),
                    ('disagreement', self.inputs.disagreement_file),
                )
                if isdefined(path)
            },
            regions=load_map(self.inputs.regions_file).data.astype(np.int16)
            if isdefined(self.inputs.regions_file)
            else None,
            names=self.inputs.names,
        )
        out_file = Path(runtime.cwd, 'qc.json')
        out_file.write_text(qc_json(record), encoding='utf-8')
        self._results['out_file'] = str(out_file)
        return runtime
