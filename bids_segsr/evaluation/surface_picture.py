"""Surfaces of segmentations as pictures (SegSRGAN 2020, Figures 13c and 16)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import gaussian_filter

from bids_segsr.imaging.components import bounding_box

VIEWS = {'from the left': (0, 180), 'from above': (90, -90)}
"""Elevation and azimuth in degrees, for axes that run to the right, forwards and up."""

SMOOTHING = 0.7
"""Standard deviation in voxels by which a mask is smoothed, else its surface is one of steps."""

MANY_VOXELS = 150_000
"""Voxels of a mask from which on every second one is enough for a picture."""

COLOUR = (0.86, 0.78, 0.70)
PANEL = 2.6


def draw_surfaces(named: Sequence[tuple[str, np.ndarray, Sequence[float]]]) -> Figure:
    """Draw the surface of one mask after the other, from two sides.

    Args:
        named: Title, boolean array with axes close to RAS+, and its spacing in mm. A mask that is
            empty leaves its panels empty.

    Returns:
        A row a side, a column a mask.
    """
    figure = Figure(
        figsize=(PANEL * len(named), PANEL * len(VIEWS)), layout='constrained', dpi=130
    )
    for column, (title, mask, spacing) in enumerate(named):
        triangles = surface(mask, spacing)
        for row, (side, (elevation, azimuth)) in enumerate(VIEWS.items()):
            ax = figure.add_subplot(
                len(VIEWS), len(named), row * len(named) + column + 1, projection='3d'
            )
            ax.set_axis_off()
            if row == 0:
                ax.set_title(title, fontsize=9)
            if column == 0:
                ax.text2D(0, 0, side, transform=ax.transAxes, fontsize=7)
            if not len(triangles):
                continue
            light = LightSource(azimuth, 60)
            shown = Poly3DCollection(
                triangles, facecolors=COLOUR, shade=True, lightsource=light, linewidths=0
            )
            # tens of thousands of triangles: pixels, in an SVG too
            shown.set_rasterized(True)
            ax.add_collection3d(shown)
            low, high = triangles.reshape(-1, 3).min(0), triangles.reshape(-1, 3).max(0)
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
            ax.set_box_aspect(high - low, zoom=1.4)
            ax.set_proj_type('ortho')
            ax.view_init(elevation, azimuth)
    return figure


def surface(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the surface of a mask, by marching cubes on the smoothed mask.

    Args:
        mask: Boolean array.
        spacing: In mm.

    Returns:
        Corners of the triangles in mm from the first voxel, (triangles, 3, 3); none where the mask
        is empty, or so thin that smoothing leaves nothing of it.
    """
    from skimage.measure import marching_cubes

    nothing = np.zeros((0, 3, 3))
    if not mask.any():
        return nothing
    box = bounding_box(mask)
    start = np.array([part.start for part in box])
    smooth = gaussian_filter(np.pad(mask[box].astype(np.float32), 2), SMOOTHING)
    if smooth.max() <= 0.5:
        return nothing
    coarse = 2 if mask.sum() > MANY_VOXELS else 1
    corners, faces, _, _ = marching_cubes(smooth, 0.5, step_size=coarse)
    found: np.ndarray = ((corners - 2 + start) * np.array(spacing))[faces]
    return found
