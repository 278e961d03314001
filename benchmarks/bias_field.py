"""N4 on real scans: ANTsPy and SimpleITK, flatness and time.

    python benchmarks/bias_field.py SCAN[,MASK] ...

For each scan, a tissue class is taken as the middle half of the intensities inside the mask (the
brain mask if one is given, else Otsu's foreground eroded), and its coefficient of variation is
reported before and after: a flatter image has a smaller one. A second, independent number is the
coefficient of joint variation against a smooth field: the spread of the local medians in blocks of
about 2 cm. Time is the ratio to the App's own, measured in the same run.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_erosion

from bids_segsr.imaging.bias_field import ITERATIONS, correct_bias_field
from bids_segsr.imaging.conform import slice_axis
from bids_segsr.imaging.resample import from_sitk, to_sitk
from bids_segsr.imaging.volume import Volume, load_mask, load_volume


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('scan', nargs='+', help='NIfTI file, with its mask after a comma')
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    print(f'{platform.processor() or platform.machine()}, {arguments.threads} threads')
    print(f'{"scan":34}{"method":26}{"tissue CV":>10}{"block CV":>10}{"time":>8}{"ratio":>8}')
    for item in arguments.scan:
        path, _, mask_path = item.partition(',')
        scan = load_volume(path)
        mask = load_mask(mask_path, scan) if mask_path else foreground(scan)
        print(row(Path(path).name, 'acquired', scan.data, mask, scan))
        base = 0.0
        for name, method in methods(arguments.threads).items():
            start = time.perf_counter()
            corrected = method(scan, mask)
            seconds = time.perf_counter() - start
            base = base or seconds
            text = row('', name, corrected, mask, scan)
            print(f'{text}{seconds:7.1f}s{seconds / base:8.2f}', flush=True)


def methods(threads: int) -> dict[str, Callable[[Volume, np.ndarray], np.ndarray]]:
    """Return the corrections to compare, the default of the App first."""
    return {
        'SimpleITK, as in the App': lambda scan, mask: correct_bias_field(
            scan.data, scan.affine, mask, threads
        ),
        'SimpleITK, shrink 4,4,1': lambda scan, mask: simpleitk(scan, mask, 4, threads),
        'SimpleITK, shrink 2,2,1': lambda scan, mask: simpleitk(scan, mask, 2, threads),
        'ANTsPy, shrink 4 (its own)': antspy,
    }


def simpleitk(scan: Volume, mask: np.ndarray, shrink: int, threads: int) -> np.ndarray:
    """N4 by SimpleITK with another shrink factor in plane."""
    factors = [shrink] * 3
    factors[slice_axis(scan.spacing)] = 1
    image = to_sitk(scan.data, scan.affine)
    inside = to_sitk((mask & (scan.data > 0)).astype(np.uint8), scan.affine)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.SetNumberOfThreads(threads)
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(inside, factors))
    return scan.data / np.exp(from_sitk(n4.GetLogBiasFieldAsImage(image))[0])


def antspy(scan: Volume, mask: np.ndarray) -> np.ndarray:
    """N4 by ANTsPy with its defaults."""
    import ants

    flip = np.diag([-1.0, -1.0, 1.0])
    geometry = {
        'origin': list(flip @ scan.affine[:3, 3]),
        'spacing': list(scan.spacing),
        'direction': flip @ scan.affine[:3, :3] / np.array(scan.spacing),
    }
    inside = (mask & (scan.data > 0)).astype(np.float32)
    corrected = ants.n4_bias_field_correction(
        ants.from_numpy(scan.data, **geometry), mask=ants.from_numpy(inside, **geometry)
    )
    return corrected.numpy()


def foreground(scan: Volume) -> np.ndarray:
    """Otsu's foreground without its outermost voxels."""
    otsu = sitk.OtsuThreshold(to_sitk(scan.data, scan.affine), 0, 1, 200)
    return binary_erosion(from_sitk(otsu)[0].astype(bool), iterations=2)


def row(scan_name: str, method: str, data: np.ndarray, mask: np.ndarray, scan: Volume) -> str:
    """Format the flatness of one image."""
    low, high = np.percentile(data[mask], [25, 75])
    tissue = data[mask & (data >= low) & (data <= high)]
    medians = block_medians(np.where(mask, data, np.nan), scan.spacing)
    return (
        f'{scan_name:34.33}{method:26}{tissue.std() / tissue.mean():10.4f}'
        f'{medians.std() / medians.mean():10.4f}'
    )


def block_medians(data: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Medians of the blocks of 2 cm of which at least half lies inside the mask."""
    size = [max(1, round(20 / s)) for s in spacing]
    found = []
    for i in range(0, data.shape[0], size[0]):
        for j in range(0, data.shape[1], size[1]):
            for k in range(0, data.shape[2], size[2]):
                block = data[i : i + size[0], j : j + size[1], k : k + size[2]]
                if np.isfinite(block).mean() > 0.5:
                    found.append(np.nanmedian(block))
    return np.array(found)


if __name__ == '__main__':
    main()
