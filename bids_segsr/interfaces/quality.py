"""Numbers that say how far a result can be trusted."""

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


class _FidelityInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc='super-resolved image')
    interpolated_file = File(exists=True, mandatory=True, desc='what it is compared with')
    mask_file = File(exists=True, mandatory=True, desc='mask on their grid')
    scan_file = File(exists=True, mandatory=True, desc='bias-corrected scan')
    slice_thickness = traits.Float(desc='mm; else the distance of the slices')


class _FidelityOutputSpec(TraitedSpec):
    residual_file = File(exists=True, desc='degraded result minus scan, on the scan grid')
    qc = traits.Dict(desc='agreement of the result, and of plain interpolation')


class FidelityCheck(SimpleInterface):
    """Put the result through the forward model and compare it with the scan."""

    input_spec = _FidelityInputSpec
    output_spec = _FidelityOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.fidelity import fidelity
        from bids_segsr.imaging.volume import load_mask, load_volume, save_volume

        scan = load_volume(self.inputs.scan_file)
        fine = load_volume(self.inputs.in_file)
        interpolated = load_volume(self.inputs.interpolated_file)
        mask = load_mask(self.inputs.mask_file, fine)
        thickness = self.inputs.slice_thickness
        result, spline = (
            fidelity(
                image.data,
                image.affine,
                scan.data,
                scan.affine,
                mask,
                thickness if isdefined(thickness) else None,
            )
            for image in (fine, interpolated)
        )
        self._results['residual_file'] = str(
            save_volume(Path(runtime.cwd, 'residual.nii.gz'), result.residual, scan.affine)
        )
        self._results['qc'] = {
            'fidelity_nrmse': result.nrmse,
            'fidelity_nrmse_spline': spline.nrmse,
            'fidelity_correlation': result.correlation,
            'fidelity_correlation_spline': spline.correlation,
        }
        return runtime


class _CollectQCInputSpec(BaseInterfaceInputSpec):
    facts = traits.Dict(mandatory=True, desc='what is known before the run')
    segmentation = traits.Dict(desc='from Segment')
    fidelity = traits.Dict(mandatory=True, desc='from FidelityCheck')
    scan_file = File(exists=True, mandatory=True)
    mask_file = File(exists=True, mandatory=True, desc='mask on the isotropic grid')
    entropy_file = File(exists=True)
    disagreement_file = File(exists=True)
    header_notes = traits.List(traits.Str, usedefault=True)
    warnings = traits.List(traits.Str, usedefault=True)
    skull_strip = traits.Str(mandatory=True, desc='how the brain mask came about')
    device = traits.Str(mandatory=True)


class _CollectQCOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='all numbers of one image, JSON')


class CollectQC(SimpleInterface):
    """Gather the numbers of one image."""

    input_spec = _CollectQCInputSpec
    output_spec = _CollectQCOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.imaging.conform import slice_axis
        from bids_segsr.imaging.volume import load_map, load_volume
        from bids_segsr.inference.qc import qc_json, qc_record
        from bids_segsr.zoo.contract import mask_warnings

        scan = load_volume(self.inputs.scan_file)
        mask = load_map(self.inputs.mask_file)
        inside = mask.data > 0
        facts: dict[str, Any] = dict(self.inputs.facts)
        warnings = [
            *mask_warnings(self.inputs.skull_strip),
            *facts.pop('warnings'),
            *self.inputs.warnings,
        ]
        masked = self.inputs.skull_strip != 'skipped'
        qc = qc_record(
            **facts,
            device=self.inputs.device,
            spacing_i=scan.spacing[0],
            spacing_j=scan.spacing[1],
            spacing_k=scan.spacing[2],
            slice_axis='ijk'[slice_axis(scan.spacing)],
            skull_strip=self.inputs.skull_strip,
            brain_volume_ml=float(inside.sum() * np.prod(mask.spacing) / 1000) if masked else None,
            **(self.inputs.segmentation or {}),
            **self.inputs.fidelity,
            **{
                f'{name}_mean': float(load_map(path).data[inside].mean())
                for name, path in (
                    ('entropy', self.inputs.entropy_file),
                    ('disagreement', self.inputs.disagreement_file),
                )
                if isdefined(path)
            },
            header_notes=list(self.inputs.header_notes),
            warnings=warnings,
        )
        out_file = Path(runtime.cwd, 'qc.json')
        out_file.write_text(qc_json(qc), encoding='utf-8')
        self._results['out_file'] = str(out_file)
        return runtime
