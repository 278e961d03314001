"""Time and size of the group level for a large cohort: `python benchmarks/group_level.py [N]`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bids_segsr.inference.qc import QUANTITIES
from bids_segsr.reports.group import write_group
from bids_segsr.reports.subject import generate_report


def write_cohort(root: Path, count: int) -> Path:
    """Write QC records, ratings and tables of participants, of whom every tenth has two runs.

    Args:
        root: Folder for `out` and `raw`.
        count: Participants.

    Returns:
        The root of the derivatives.
    """
    rng = np.random.default_rng(5)
    out, raw = root / 'out', root / 'raw'
    raw.mkdir(parents=True)
    rows = ['participant_id\tage\tsex\tgroup']
    report = ''
    for number in range(1, count + 1):
        subject = f'sub-{number:04d}'
        age = rng.uniform(26, 44)
        group = 'preterm' if age < 37 else 'term'
        rows.append(f'{subject}\t{age:.1f}\t{"FM"[rng.integers(2)]}\t{group}')
        brain = 30 * (age - 20) + rng.normal(0, 25) - 60
        folder = out / subject / 'anat'
        folder.mkdir(parents=True)
        for run in ('_run-1', '_run-2') if number % 10 == 0 else ('',):
            name = f'{subject}{run}_T2w'
            record = {'bids_name': name, 'warnings': [], 'versions': {}}
            record |= {q.key: float(q.low or 0) + rng.gamma(4) * 0.01 for q in QUANTITIES}
            record |= {
                'brain_volume_ml': brain * rng.normal(1, 0.01),
                'cortex_volume_ml': brain * rng.normal(0.35, 0.02),
                'brain_solidity': rng.normal(0.88, 0.01),
                'brain_brightness': rng.normal(0.8, 0.03),
                'brain_pieces': 1,
                'brain_at_border': 0.01 * float(rng.gamma(2)),
                'largest_share': 1 - rng.gamma(2) * 0.004,
                'fidelity_nrmse': rng.gamma(20) * 0.002 * (6 if number % 17 == 0 else 1),
                'fidelity_correlation': rng.uniform(0.97, 0.99),
                'fidelity_correlation_spline': rng.uniform(0.95, 0.97),
                'holes': int(rng.poisson(4)),
                'euler_number': -int(rng.poisson(30)),
                'slice_axis': 'k',
                'spacing_i': 0.8,
                'spacing_j': 0.8,
                'spacing_k': float(rng.choice([3.0, 3.5, 4.0])),
            }
            (folder / f'{subject}{run}_qc.json').write_text(json.dumps(record), encoding='utf-8')
        page = out / f'{subject}.html'
        report = report or generate_report(out, subject, '', {}).read_text(encoding='utf-8')
        page.write_text(report, encoding='utf-8')
    (raw / 'participants.tsv').write_text('\n'.join(rows) + '\n', encoding='utf-8')
    return out


def main() -> None:
    """Print images, seconds and megabytes."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        out = write_cohort(Path(folder), count)
        start = time.perf_counter()
        paths = write_group(out, 'T2w', bids_dir=Path(folder) / 'raw')
        seconds = time.perf_counter() - start
        sizes = ', '.join(f'{path.name} {path.stat().st_size / 1e6:.2f} MB' for path in paths)
    print(f'{count} participants: {seconds:.1f} s, {sizes}')


if __name__ == '__main__':
    main()
