"""Whether images and label maps suit a recipe, before anything is trained on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import draw_acquisition
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.subjects import Subject, volume_shape
from bids_segsr.training.data.volumes import SubjectVolumes
from bids_segsr.training.recipe import Recipe

logger = logging.getLogger(__name__)

MOST_NUMBERS = 20
"""Label numbers that a message lists."""


def check_image(
    image: Path, shape: Sequence[int], labelled: bool, patch_size: int, channels: Sequence[str]
) -> None:
    """Check whether patches can be cut from an image.

    Args:
        image: The file, for messages.
        shape: Its voxels along each axis.
        labelled: Whether it has a label map.
        patch_size: Edge of the patches in voxels.
        channels: Names of the target channels, 'intensity' first.

    Raises:
        ImageError: The image is smaller than a patch, or has no label map where one is needed.
    """
    if min(shape) < patch_size:
        raise ImageError(
            f'{image}: smaller (shape {tuple(shape)}) than a patch of {patch_size} voxels; '
            'leave it out, or give a smaller patch_size.'
        )
    if len(channels) > 1 and not labelled:
        raise ImageError(
            f'{image}: has no label map, which the channels {", ".join(channels[1:])} need; '
            'add Label_image.'
        )


def check_fit(recipe: Recipe, subjects: Sequence[Subject]) -> None:
    """Check by the headers whether patches of a recipe can be cut from images.

    Args:
        recipe: What is trained.
        subjects: The list, checked by `subjects.check_subjects`; those to test are left alone.

    Raises:
        ImageError: An image is smaller than a patch, finer than the slices that shall be made of
            it, or has no label map where one is needed.
        UserError: The network takes another number of guides than the list has.
    """
    takes = int(recipe.network.options.get('guides', 0))
    for subject in subjects:
        if subject.split != 'test' and subject.image is not None:
            if len(subject.guides) != takes:
                raise UserError(
                    f'subject {subject.name}: {len(subject.guides)} guide images, the network of '
                    f'{recipe.name} takes {takes}; give another list (columns Guide_image) or '
                    'recipe.'
                )
            if recipe.task.input != 'high-resolution':
                _check_acquisition(recipe.forward, subject.image)
            check_image(
                subject.image,
                volume_shape(subject.image),
                subject.label is not None,
                recipe.sampling.patch_size,
                recipe.task.channels,
            )


def _check_acquisition(forward: ForwardModel, image: Path) -> None:
    affine = nib.load(image).affine
    order = nib.io_orientation(affine)[:, 0].astype(int)
    spacing = [0.0] * 3
    for axis, edge in zip(order, spacing_of(affine), strict=True):
        spacing[axis] = edge
    try:
        draw_acquisition(forward, spacing, None)
    except UserError as error:
        raise ImageError(f'{image}: {error}') from None


def check_numbers(volumes: Sequence[SubjectVolumes], recipe: Recipe) -> None:
    """Check whether the label maps hold what is to be learnt; warn of single missing numbers.

    Args:
        volumes: Of the training subjects.
        recipe: Has the label numbers of the channels.

    Raises:
        UserError: None of the numbers of a channel is in any label map.
    """
    labels = [subject.label for subject in volumes if subject.label is not None]
    found = {number for label in labels for number in label.numbers}
    for channel in recipe.task.channels[1:]:
        wanted = recipe.task.labels.get(channel, ())
        absent = [number for number in wanted if number not in found]
        told = ', '.join(map(str, absent))
        if absent and len(absent) == len(wanted):
            there = ', '.join(map(str, sorted(found)[:MOST_NUMBERS]))
            raise UserError(
                f'[task] labels: no training label map has {told} of the channel {channel} '
                f'({labels[0].source} and the others have {there}); give the numbers of your maps.'
            )
        if absent:
            logger.warning('channel %s: no training label map has %s', channel, told)
