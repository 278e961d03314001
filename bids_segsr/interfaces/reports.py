"""Nipype interfaces around the figures and the HTML fragments of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch


class _ReportOutputSpec(TraitedSpec):
    out_report = File(exists=True, desc='SVG figure or HTML fragment')


class _FigureInputSpec(BaseInterfaceInputSpec):
    scan_file = File(
        exists=True, desc='acquired scan: tells the through-plane direction on any other grid'
    )


class _Figure(SimpleInterface):
    """Write one figure `report.svg` into the working directory of the node."""

    output_spec = _ReportOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        out_svg = Path(runtime.cwd, 'report.svg').absolute()
        self._plot(out_svg)
        self._results['out_report'] = str(out_svg)
        return runtime

    def _plot(self, out_svg: Path) -> None:
        raise NotImplementedError

    def _slice_axis(self, shown: str) -> int | None:
        if not isdefined(self.inputs.scan_file):
            return None
        import nibabel as nib

        from bids_segsr.imaging.conform import acquired_axis

        return acquired_axis(nib.load(self.inputs.scan_file).affine, nib.load(shown).affine)


class _BeforeAfterInputSpec(_FigureInputSpec):
    before = File(exists=True, mandatory=True)
    after = File(exists=True, mandatory=True, desc='on the same grid')
    before_label = traits.Str(mandatory=True)
    after_label = traits.Str(mandatory=True)
    mask_file = File(exists=True, desc='where the cuts should go, on the same grid')


class BeforeAfterReport(_Figure):
    """Two images of one grid in turn (`bids_segsr.reports.drawing.figures.plot_before_after`)."""

    input_spec = _BeforeAfterInputSpec

    def _plot(self, out_svg: Path) -> None:
        from bids_segsr.reports.drawing.figures import plot_before_after

        plot_before_after(
            self.inputs.before,
            self.inputs.after,
            out_svg,
            before_label=self.inputs.before_label,
            after_label=self.inputs.after_label,
            slice_axis=self._slice_axis(self.inputs.before),
            mask=self.inputs.mask_file if isdefined(self.inputs.mask_file) else None,
        )


class _MaskInputSpec(_FigureInputSpec):
    in_file = File(exists=True, mandatory=True, desc='scan')
    mask_file = File(exists=True, mandatory=True, desc='its mask, on the same grid')


class MaskReport(_Figure):
    """Outline of the brain mask on the slices of the scan."""

    input_spec = _MaskInputSpec

    def _plot(self, out_svg: Path) -> None:
        from bids_segsr.reports.drawing.figures import plot_mask_contours

        plot_mask_contours(
            self.inputs.in_file,
            self.inputs.mask_file,
            out_svg,
            self._slice_axis(self.inputs.in_file),
        )


class _SegmentationInputSpec(_FigureInputSpec):
    in_file = File(exists=True, mandatory=True, desc='super-resolved image')
    segmentation_file = File(
        exists=True, mandatory=True, desc='probabilities or labels on the same grid'
    )
    names = traits.Dict(traits.Int, traits.Str, usedefault=True, desc='what the labels are called')


class SegmentationReport(_Figure):
    """Outline of the segmentation on the super-resolved image."""

    input_spec = _SegmentationInputSpec

    def _plot(self, out_svg: Path) -> None:
        from bids_segsr.reports.drawing.figures import plot_segmentation

        plot_segmentation(
            self.inputs.in_file,
            self.inputs.segmentation_file,
            out_svg,
            names=dict(self.inputs.names),
            slice_axis=self._slice_axis(self.inputs.in_file),
        )


class _FidelityInputSpec(_FigureInputSpec):
    residual_file = File(exists=True, mandatory=True, desc='in the intensities of the scan')
    in_file = File(exists=True, mandatory=True, desc='scan, on the same grid')
    mask_file = File(exists=True, desc='where the two were compared, on the same grid')


class FidelityReport(_Figure):
    """Residual of the fidelity check beside the scan."""

    input_spec = _FidelityInputSpec

    def _plot(self, out_svg: Path) -> None:
        from bids_segsr.reports.drawing.figures import plot_fidelity

        plot_fidelity(
            self.inputs.residual_file,
            self.inputs.in_file,
            out_svg,
            mask=self.inputs.mask_file if isdefined(self.inputs.mask_file) else None,
            slice_axis=self._slice_axis(self.inputs.in_file),
        )


class _UncertaintyInputSpec(_FigureInputSpec):
    entropy_file = File(exists=True, mandatory=True, desc='bits')
    disagreement_file = File(exists=True, mandatory=True, desc='standard deviation over patches')
    in_file = File(exists=True, mandatory=True, desc='super-resolved image, on the same grid')


class UncertaintyReport(_Figure):
    """Entropy and disagreement below the super-resolved image."""

    input_spec = _UncertaintyInputSpec

    def _plot(self, out_svg: Path) -> None:
        from bids_segsr.reports.drawing.figures import plot_uncertainty

        plot_uncertainty(
            self.inputs.entropy_file,
            self.inputs.disagreement_file,
            self.inputs.in_file,
            out_svg,
            slice_axis=self._slice_axis(self.inputs.in_file),
        )


class _ViewerInputSpec(BaseInterfaceInputSpec):
    title = traits.Str(mandatory=True, desc='name of the image')
    in_file = File(exists=True, mandatory=True, desc='super-resolved image')
    interpolated_file = File(exists=True, mandatory=True, desc='on the same grid')
    mask_file = File(exists=True, mandatory=True, desc='brain, on the same grid')
    segmentation_file = File(exists=True, desc='labels, on the same grid')
    scan_file = File(exists=True, mandatory=True, desc='scan')
    residual_file = File(exists=True, mandatory=True, desc='on the grid of the scan')
    names = traits.Dict(traits.Int, traits.Str, usedefault=True, desc='what the labels are called')


class _ViewerOutputSpec(_ReportOutputSpec):
    thumbnail = File(exists=True, desc='JPEG for the group page')


class Viewer(SimpleInterface):
    """The volumes of one image in a page that cuts them anywhere, and a picture of its middle."""

    input_spec = _ViewerInputSpec
    output_spec = _ViewerOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.reports.viewer import Volumes, thumbnail, viewer_page

        inputs = self.inputs
        volumes = Volumes(
            inputs.in_file,
            inputs.interpolated_file,
            inputs.mask_file,
            scan=inputs.scan_file,
            residual=inputs.residual_file,
            segmentation=inputs.segmentation_file if isdefined(inputs.segmentation_file) else None,
            names=dict(inputs.names),
        )
        page = viewer_page(volumes, inputs.title)
        self._results['out_report'] = _written(runtime, page.removesuffix('\n'))
        picture = Path(runtime.cwd, 'thumbnail.jpg').absolute()
        picture.write_bytes(thumbnail(volumes))
        self._results['thumbnail'] = str(picture)
        return runtime


class _QCTableInputSpec(BaseInterfaceInputSpec):
    qc_file = File(exists=True, mandatory=True, desc='QC JSON of one image')


class QCTable(SimpleInterface):
    """The QC numbers of one image as a table."""

    input_spec = _QCTableInputSpec
    output_spec = _ReportOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from bids_segsr.reports.summary_html import qc_table

        self._results['out_report'] = _written(runtime, qc_table(_read(self.inputs.qc_file)))
        return runtime


class _ImageSummaryInputSpec(BaseInterfaceInputSpec):
    file_name = traits.Str(mandatory=True, desc='path of the scan relative to its dataset')
    qc_file = File(exists=True, mandatory=True, desc='QC JSON of the image')
    scan_file = File(exists=True, mandatory=True, desc='scan')
    fine_file = File(exists=True, mandatory=True, desc='super-resolved image')
    metadata = traits.Dict(desc='what its sidecars tell of the scan')


class ImageSummary(SimpleInterface):
    """What was done with one image."""

    input_spec = _ImageSummaryInputSpec
    output_spec = _ReportOutputSpec

    def _run_interface(self, runtime: Bunch) -> Bunch:
        import nibabel as nib
        import numpy as np

        from bids_segsr.imaging.conform import acquired_axis
        from bids_segsr.reports.summary_html import image_summary

        scan = nib.load(self.inputs.scan_file)
        text = image_summary(
            file=self.inputs.file_name,
            metadata=dict(self.inputs.metadata),
            qc=_read(self.inputs.qc_file),
            shape=scan.shape[:3],
            fine_shape=nib.load(self.inputs.fine_file).shape[:3],
            slice_direction=acquired_axis(scan.affine, np.eye(4)),
        )
        self._results['out_report'] = _written(runtime, text)
        return runtime


def _read(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding='utf-8'))
    return content


def _written(runtime: Bunch, text: str) -> str:
    out_file = Path(runtime.cwd, 'report.html').absolute()
    out_file.write_text(text + '\n', encoding='utf-8')
    return str(out_file)
