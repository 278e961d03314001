"""Intensities of a scan as acquired: background at 0, nothing below it, no voxel out of range."""

from __future__ import annotations

import itertools

import numpy as np

BACKGROUND_SHARE = 0.1
"""Share of an image that the background of a stripped brain fills, at least."""

EMPTY_FACE_SHARE = 0.995
"""Share of an outermost plane that must have the value of the background."""

FAR_BEYOND = 1000.0
"""Times the 99th percentile of the magnitudes: beyond, a voxel is no signal."""

MOST_BEYOND = 1e-3
"""Share of such voxels that are clipped; more are no accident."""

ALONE = 5.0
"""Times the brightest voxels that are not single: beyond, a single voxel is no signal. Scans of
heads of adults, fetuses and newborns have up to 2.8."""

SINGLE = (10, 1e-5)
"""So many voxels, or that share of them where it is more, are single. Any head, however little of
the image it fills, has more that are about as bright as its brightest."""

MAGNITUDES = (1e-15, 1e15)
"""Of the brightest voxel: sums of squares in float32 hold nothing smaller or larger."""

NOISE_SHARE = 0.01
"""Share of voxels below 0 that noise and interpolation leave behind; more are an offset."""

MOST_LABELS = 10
"""Different values of a mask or a map of tissues; the noise of any scan makes more."""

LONGEST_GAP = 2
"""Neighbouring slices without signal that are filled."""


def outer_background(data: np.ndarray) -> float | None:
    """Find the value of the empty background around a stripped brain.

    As fMRIPrep does, the outermost planes are looked at: they are empty around a stripped brain,
    and cut through neck, scalp or noise otherwise. Empty means that at least 99.5 % of each plane
    has one and the same value, which must fill a tenth of the image. A stripped image that is cut
    so tightly that the brain reaches a border is not recognised.

    Args:
        data: Image of three axes.

    Returns:
        The value, or None where the background is not empty.
    """
    faces = _faces(data)
    background = np.median(np.concatenate([face.ravel() for face in faces]))
    if (data == background).mean() < BACKGROUND_SHARE:
        return None
    if any((face == background).mean() < EMPTY_FACE_SHARE for face in faces):
        return None
    return float(background)


def settle(data: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Let intensities begin at 0, and the empty background of a stripped brain be 0.

    N4 takes logarithms, networks divide by a mean or a maximum, and what is outside the brain is
    set to 0: an offset would make the background the brightest of all. What is below 0 in less
    than 1 % of the voxels is noise, or swings of an interpolation, and becomes 0. More is an
    offset, and all intensities are shifted by it; but a background that lies further below a brain
    without negative values than that brain spans is a filling (-1000), and the brain stays.
    Single voxels more than a thousand times as bright as the 99th percentile are clipped to that,
    and ten voxels or fewer (of a million or less) that are more than five times as bright as the
    brightest of all others to those: a network that divides by the maximum would see next to
    nothing.

    Args:
        data: Finite intensities of three axes, not all alike.

    Returns:
        Intensities, float32, at or above 0; and a sentence for what was done that nobody asked
        for.

    Raises:
        ValueError: More than 0.1 % of the voxels are that far beyond, the brightest is outside
            1e-15 to 1e15, or nothing is above 0 and the outside is brighter than the inside.
    """
    warnings: list[str] = []
    data = np.asarray(data, dtype=np.float32)
    outside = float(np.median(np.concatenate([face.ravel() for face in _faces(data)])))
    if data.max() <= 0 and outside > data.mean(dtype=np.float64):
        raise ValueError(
            'no voxel is above 0, and what lies outside is brighter than the inside: the '
            'intensities are inverted, or were shifted before the brain was cut out'
        )
    background = outer_background(data)
    if background is None:
        return _shifted(_clipped(data, warnings), warnings), warnings
    brain = data != np.float32(background)
    values = _clipped(data[brain], warnings)
    darkest, brightest = float(values.min()), float(values.max())
    if background < 0 <= darkest and darkest - background > brightest - darkest:
        warnings.append(f'The empty background is {background:g}, a filling: it was set to 0.')
    elif background < darkest:
        values = values - np.float32(background)
        if background:
            warnings.append(
                f'The empty background is {background:g}: it was set to 0, and all intensities '
                'were shifted with it.'
            )
    else:
        values = _shifted(values, warnings)
        if background:
            warnings.append(f'The empty background is {background:g}: it was set to 0.')
    settled = np.zeros_like(data)
    settled[brain] = values
    return settled, warnings


def few_values(data: np.ndarray) -> int | None:
    """Count the values of a map of labels, which a scan is not.

    Args:
        data: Image of three axes.

    Returns:
        How many different values there are; None where there are more than `MOST_LABELS`.
    """
    flat = data.ravel()
    for step in (max(flat.size // 10_000, 1), 1):
        count = np.unique(flat[::step]).size
        if count > MOST_LABELS:
            return None
    return int(count)


def lost_slices(data: np.ndarray, axis: int) -> list[int]:
    """Return the slices that hold no signal, between slices that do.

    Args:
        data: Image of three axes.
        axis: Along which the slices follow each other.
    """
    slices = np.moveaxis(data, axis, 0)
    empty = slices.min(axis=(1, 2)) == slices.max(axis=(1, 2))
    held = np.flatnonzero(~empty)
    if held.size == 0:
        return []
    return [k for k in range(int(held[0]), int(held[-1]) + 1) if empty[k]]


def fill_lost_slices(data: np.ndarray, axis: int) -> tuple[np.ndarray, list[str]]:
    """Fill slices that hold no signal, between slices that do, from their neighbours.

    A spline would spread a black slice over its neighbours, and what lies on either side of it
    would be two pieces. One or two lost slices in a row are interpolated linearly; more are left
    as they are.

    Args:
        data: Image of three axes.
        axis: Along which the slices follow each other.

    Returns:
        The image, and a sentence where slices are lost.

    Raises:
        ValueError: More than half of the slices between the first and the last one with signal
            hold none.
    """
    slices = np.moveaxis(data, axis, 0)
    lost = lost_slices(data, axis)
    if not lost:
        return data, []
    held = np.flatnonzero(slices.min(axis=(1, 2)) != slices.max(axis=(1, 2)))
    inner = int(held[-1] - held[0]) + 1
    if 2 * len(lost) > inner:
        raise ValueError(f'{len(lost)} of {inner} slices hold no signal')
    filled = slices.copy()
    warnings = []
    # neighbouring indices keep their distance to their rank
    for _, group in itertools.groupby(enumerate(lost), key=lambda item: item[1] - item[0]):
        run = [k for _, k in group]
        before, after = run[0] - 1, run[-1] + 1
        many = len(run) > 1
        told = f'Slice{"s" if many else ""} {run[0] + 1}{f" to {run[-1] + 1}" if many else ""}'
        told += f' of {len(slices)} hold{"" if many else "s"} no signal'
        if len(run) > LONGEST_GAP:
            warnings.append(f'{told}.')
            continue
        for k in run:
            share = np.float32((k - before) / (after - before))
            filled[k] = (1 - share) * slices[before] + share * slices[after]
        warnings.append(f'{told}: filled from the neighbours.')
    return np.ascontiguousarray(np.moveaxis(filled, 0, axis)), warnings


def _faces(data: np.ndarray) -> list[np.ndarray]:
    return [np.take(data, plane, axis=axis) for axis in range(3) for plane in (0, -1)]


def _clipped(data: np.ndarray, warnings: list[str]) -> np.ndarray:
    magnitude = np.abs(data)
    seen = magnitude[data != np.median(data)]
    usual = float(np.percentile(seen, 99)) if seen.size else 0.0
    beyond = magnitude > min(FAR_BEYOND * usual, float(np.finfo(np.float32).max))
    count = int(beyond.sum()) if usual else 0
    if count > max(MOST_BEYOND * data.size, 1):
        raise ValueError(
            f'{count} of {data.size} voxels are more than {FAR_BEYOND:g} times as bright as the '
            f'99th percentile ({usual:.3g})'
        )
    brightest = float(magnitude.max())
    if count:
        warnings.append(
            f'{count} of {data.size} voxels, up to {brightest:.3g}, are no signal: clipped to the '
            f'99th percentile ({usual:.3g}).'
        )
        data = np.where(beyond, np.sign(data) * np.float32(usual), data)
    data = _despiked(data, warnings)
    brightest = float(np.abs(data).max())
    least, most = MAGNITUDES
    if not least <= brightest <= most:
        raise ValueError(f'intensities up to {brightest:.3g} (outside {least:g} to {most:g})')
    return data


def _despiked(data: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Clip single voxels that are far brighter than all others to the brightest of those."""
    magnitude = np.abs(data).ravel()
    least, share = SINGLE
    rank = max(least, int(share * magnitude.size))
    if rank >= magnitude.size:
        return data
    others = float(np.partition(magnitude, -1 - rank)[-1 - rank])
    spikes = np.abs(data) > ALONE * others
    if not others or not spikes.any():
        return data
    # of the single ones, those that are not spikes are signal
    others = float(magnitude[~spikes.ravel()].max())
    warnings.append(
        f'{int(spikes.sum())} of {magnitude.size} voxels, up to {float(magnitude.max()):.3g}, are '
        f'{float(magnitude[spikes.ravel()].min()) / others:.3g} times or more as bright as all '
        f'others: clipped to the brightest of those ({others:.3g}).'
    )
    return np.where(spikes, np.sign(data) * np.float32(others), data)


def _shifted(values: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Bring values to 0 and above."""
    below = float((values < 0).mean())
    if below == 0:
        return values
    lowest = float(values.min())
    if below < NOISE_SHARE:
        return np.maximum(values, 0)
    warnings.append(
        f'{below:.0%} of the intensities are below 0: all were shifted by {-lowest:g} to begin '
        'at 0.'
    )
    return values - np.float32(lowest)
