"""Whether images and label maps suit a recipe, before anything is trained on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import nibabel as nib

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import draw_acquisition
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.patch_size import PatchSize, edges_in_image
from bids_segsr.training.data.subjects import Subject, volume_shape
from bids_segsr.training.data.volumes import SubjectVolumes
from bids_segsr.training.recipe import Recipe

T = TypeVar('T')

logger = logging.getLogger(__name__)

MOST_NUMBERS = 20
"""Label numbers that a message lists."""


def check_image(
    image: Path,
    shape: Sequence[int],
    labelled: bool,
    patch: Sequence[int],
    channels: Sequence[str],
) -> None:
    """Check whether patches can be cut from an image.

    Args:
        image: The file, for messages.
        shape: Its voxels along each canonical axis.
        labelled: Whether it has a label map.
        patch: Voxels of a patch along the same axes.
        channels: Names of the target channels, 'intensity' first.

    Raises:
        ImageError: The image is smaller than a patch, or has no label map where one is needed.
    """
    if any(n < edge for n, edge in zip(shape, patch, strict=True)):
        raise ImageError(
            f'{image}: smaller (shape {tuple(shape)}) than a patch of {tuple(patch)} voxels; '
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
            forward = None if recipe.task.input == 'high-resolution' else recipe.forward
            if forward is not None:
                _check_acquisition(forward, subject.image)
            check_image(
                subject.image,
                _canonical(subject.image, volume_shape(subject.image)),
                subject.label is not None,
                patch_in_image(recipe.sampling.patch_size, forward),
                recipe.task.channels,
            )


def patch_in_image(patch_size: PatchSize, forward: ForwardModel | None) -> tuple[int, int, int]:
    """Return the voxels of a patch along each canonical axis of an image.

    Args:
        patch_size: In the order in which the network sees the axes.
        forward: How low-resolution images are made; None for a network that sees the image itself.
    """
    return edges_in_image(patch_size, 2 if forward is None else forward.last_axis)


def _canonical(image: Path, values: Sequence[T]) -> list[T]:
    """Bring values of the axes of a file into the order of its canonical axes."""
    order = nib.io_orientation(nib.load(image).affine)[:, 0].astype(int).tolist()
    return [values[order.index(axis)] for axis in range(3)]


def _check_acquisition(forward: ForwardModel, image: Path) -> None:
    spacing = _canonical(image, spacing_of(nib.load(image).affine))
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
