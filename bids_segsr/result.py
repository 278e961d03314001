"""What is made of one image: maps as nibabel images, numbers, files, a viewer."""

from __future__ import annotations

import logging
import sys
import tempfile
import webbrowser
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_segsr.files import make_folder, write_text
from bids_segsr.inference.one_image import Processed, write_result
from bids_segsr.inference.verdict import Verdict, judge

_VIEWER_HEIGHT = 720


@dataclass(frozen=True)
class Viewer:
    """The viewer of one image; a notebook shows it where it stands last in a cell.

    Attributes:
        html: A page of its own that asks for nothing.
    """

    html: str

    def save(self, path: str | Path) -> Path:
        """Write the page, and return its path."""
        return write_text(Path(path), self.html)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{escape(self.html)}" title="Viewer" '
            f'style="width: 100%; height: {_VIEWER_HEIGHT}px; border: 0"></iframe>'
        )


@dataclass(frozen=True)
class Result:
    """What is made of one image.

    Attributes:
        processed: The arrays of every step.
    """

    processed: Processed

    @property
    def image(self) -> nib.Nifti1Image:
        """The super-resolved image, float32, isotropic, 0 outside the brain."""
        return self._on_fine(self.processed.prediction.image)

    @property
    def tissues(self) -> nib.Nifti1Image | None:
        """The segmentation, int16, numbered as `tissue_names`; None where nothing segments."""
        found = self.processed.segmentation
        if found is None:
            return None
        label = min(self.processed.card.labels, default=1)
        regions = found.regions
        return self._on_fine(found.labelled(label) if regions is None else regions)

    @property
    def tissue_names(self) -> dict[int, str]:
        """Number in `tissues` to name; 0 is the background."""
        card = self.processed.card
        return dict(enumerate(card.regions, start=1)) if card.regions else dict(card.labels)

    @property
    def probabilities(self) -> dict[str, nib.Nifti1Image]:
        """Probability, 0 to 1, of each channel of the network by its name."""
        made = self.processed
        maps = zip(made.card.channels[1:], made.prediction.probabilities, strict=True)
        return {name: self._on_fine(data) for name, data in maps}

    @property
    def brain(self) -> nib.Nifti1Image:
        """The brain mask on the grid of the scan, uint8."""
        made = self.processed
        return nib.Nifti1Image(made.brain.astype(np.uint8), made.scan.affine)

    @property
    def qc(self) -> dict[str, Any]:
        """The QC record; `bids_segsr.inference.qc` says how each number is read."""
        return dict(self.processed.qc)

    @property
    def verdict(self) -> Verdict:
        """Whether it can be used: `usable`, `look` or `failed`, with the reasons."""
        return judge(self.processed.qc)

    def save(
        self, folder: str | Path, *, report: bool = True, overwrite: bool = False
    ) -> dict[str, Path]:
        """Write what `segsr predict` writes.

        Args:
            folder: Where to; made if missing.
            report: Whether the HTML report is drawn, too.
            overwrite: Whether files of these names are replaced.

        Returns:
            The files by what they are, such as `superresolved`, `regions`, `qc`, `report`.

        Raises:
            UserError: A file is there already, or results of another image; or one cannot be
                written.
        """
        made, folder = self.processed, Path(folder)
        place = folder, made.processing.resolution or 0.0, made.card.name
        made.source.check_free(*place, overwrite=overwrite)
        make_folder(folder)
        outputs = made.source.outputs(*place)
        written = write_result(made, outputs)
        if report:
            written['report'] = _write_report(made, written, outputs['report'])
        return written

    def show(self) -> Viewer:
        """Show the three planes of the image, its tissues and what it came from.

        Outside of a notebook, the page opens in the browser.

        Returns:
            The viewer, which a notebook shows.
        """
        from bids_segsr.reports.viewer import Volumes, viewer_page

        made, found = self.processed, self.tissues
        fine = made.fine.affine
        volumes = Volumes(
            (made.prediction.image, fine),
            (made.fine.image, fine),
            (made.fine.mask, fine),
            scan=(made.corrected.data, made.scan.affine),
            residual=(made.residual, made.scan.affine),
            segmentation=None if found is None else (np.asarray(found.dataobj), fine),
            names=self.tissue_names,
        )
        viewer = Viewer(viewer_page(volumes, made.source.name))
        if 'ipykernel' not in sys.modules:
            path = Path(tempfile.mkdtemp(prefix='bids_segsr-'), 'viewer.html')
            webbrowser.open(viewer.save(path).as_uri())
        return viewer

    def _on_fine(self, data: np.ndarray) -> nib.Nifti1Image:
        return nib.Nifti1Image(data, self.processed.fine.affine)


def _write_report(made: Processed, written: dict[str, Path], target: Path) -> Path:
    from bids_segsr.inference.methods_text import methods_text
    from bids_segsr.workflows.single_report import write_report

    # Nipype tells of every node that draws a figure
    for name in ('nipype.workflow', 'nipype.interface', 'nipype.utils'):
        logging.getLogger(name).setLevel(logging.ERROR)
    given = made.source.mask
    text = methods_text(
        made.card,
        made.chosen,
        modality=made.source.modality,
        masks=[given.name] if given else (),
        all_masked=given is not None,
    )
    return write_report(made, written, target, text)
