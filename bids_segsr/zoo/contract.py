"""Is an image one that a model was made for?"""

from __future__ import annotations

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import ModelCard

TOLERANCE_MM = 0.02

FOUND_BY_NETWORK = 'network'
"""How the method of a mask begins that a network found."""


def check_guides(card: ModelCard, given: int, how: str) -> None:
    """Make sure that a model gets as many guide images as it was trained with.

    Args:
        card: Card of the model.
        given: Number of guide images.
        how: What guide images are given with, for the message.

    Raises:
        ModelError: If it gets another number.
    """
    wanted = card.contract.guides
    if given == wanted:
        return
    if not wanted:
        raise ModelError(f'{card.name} takes no guide image, {given} given; leave out {how}.')
    images = 'image' if wanted == 1 else 'images'
    raise ModelError(
        f'{card.name} needs {wanted} guide {images} (another contrast, registered to the image), '
        f'{given} given; give {wanted} with {how}.'
    )


def check_restores(card: ModelCard) -> None:
    """Make sure that a model restores images: one that finds the brain hands them through.

    Args:
        card: Card of the model.

    Raises:
        ModelError: If it finds the brain.
    """
    if card.finds_brain:
        raise ModelError(
            f'{card.name} finds the brain (for --skull-strip) and super-resolves nothing; '
            'give another model (segsr models list).'
        )


def contract_warnings(
    card: ModelCard,
    *,
    modality: str | None,
    resolution: float,
    slice_thickness: float,
    skull_stripped: bool,
) -> list[str]:
    """Compare an image with what a model expects.

    Args:
        card: Card of the model.
        modality: BIDS suffix of the image; None where it is not known.
        resolution: Spacing of the isotropic grid in mm.
        slice_thickness: Slice thickness in mm.
        skull_stripped: Whether everything but the brain is 0.

    Returns:
        A sentence for each expectation that is not met; none when all are.
    """
    contract = card.contract
    found = []
    if modality is not None and modality not in contract.modalities:
        found.append(
            f'{card.name} was made for {" and ".join(contract.modalities)} images, this one is '
            f'{modality}.'
        )
    for what, value, (low, high) in (
        ('an output grid', resolution, contract.spacing_mm),
        ('slices', slice_thickness, contract.slice_thickness_mm),
    ):
        if not low - TOLERANCE_MM <= value <= high + TOLERANCE_MM:
            allowed = f'{low:g} mm' if low == high else f'{low:g} to {high:g} mm'
            found.append(f'{card.name} was made for {what} of {allowed}, here {value:.3g} mm.')
    if contract.skull_stripped and not skull_stripped:
        found.append(f'{card.name} was made for skull-stripped images, this one is not masked.')
    return found


def mask_note(method: str) -> str:
    """Tell what a reader should know about how brain masks of a kind come about.

    It holds for every mask of that kind, and is no doubt about this one.

    Args:
        method: From `inference.brain_extraction.find_brain_mask`.

    Returns:
        A sentence where a network found the brain, whose masks are not those of a person; else
        nothing.
    """
    if not method.startswith(FOUND_BY_NETWORK):
        return ''
    return (
        'A network found the brain: it misses parts of some heads and adds parts of others. Look '
        'at the mask before anything else, or give one.'
    )
