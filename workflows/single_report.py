"""The report of one image that is in no BIDS dataset: the figures and page of the App."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.workflows.reportlets import init_figures_wf

from bids_segsr.bids.citation import write_citation
from bids_segsr.bids.query import Scan
from bids_segsr.files import write_text
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference.qc import qc_json
from bids_segsr.reports.subject import export_single_file, generate_report

if TYPE_CHECKING:
    from bids_segsr.inference.one_image import Processed

RUN = 'predict'


def write_report(result: Processed, files: dict[str, Path], target: Path, methods: str) -> Path:
    """Draw what the App draws of an image and put it into one HTML file.

    Args:
        result: Of `inference.one_image.process_image`.
        files: What `inference.one_image.write_result` wrote.
        target: The report.
        methods: Methods text with citation keys.

    Returns:
        The report.
    """
    from nipype import config

    subject = re.sub('[^A-Za-z0-9]', '', result.source.name.removeprefix('sub-')) or 'image'
    suffix = result.source.modality or 'image'
    entities = {'subject': subject, 'suffix': suffix, 'datatype': 'anat'}
    scan = Scan(result.source.image, entities, result.source.metadata())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'report')
        workflow = init_figures_wf(
            root=root,
            scan=scan,
            file_name=str(result.source.image),
            card=result.card,
            masked=result.masked,
            corrected=result.processing.bias_correction != 'none',
            fine_gb=0.0,
        )
        workflow.base_dir = folder
        shown = {
            'scan': (result.scan.data, result.scan.affine),
            'brain_mask': (result.brain, result.scan.affine),
            'interpolated': (result.fine.image, result.fine.affine),
            'fine_mask': (result.fine.mask, result.fine.affine),
        }
        for field, image in shown.items():
            saved = save_volume(Path(folder, f'{field}.nii.gz'), *image)
            setattr(workflow.inputs.inputnode, field, str(saved))
        for field, path in files.items():
            if field not in shown and field in workflow.inputs.inputnode.get():
                # nodes run in folders of their own
                setattr(workflow.inputs.inputnode, field, str(path.absolute()))
        config.set('execution', 'crashdump_dir', folder)
        workflow.run(plugin='Linear')
        write_citation(root, methods)
        record = {**result.qc, 'bids_name': scan.label}
        write_text(root / f'sub-{subject}' / 'anat' / f'{scan.label}_qc.json', qc_json(record))
        page = generate_report(root, subject, RUN, asdict(result.processing))
        return export_single_file(page, target)
