"""Two sets of weights of one architecture, blended tensor by tensor (RRDG article, equation 3).

The first model is the one trained for fidelity (PSNR), the second the one trained against a
critic (GAN); alpha is the weight of the second:

    theta = (1 - alpha) theta_PSNR + alpha theta_GAN

This is the meaning of alpha in the article's figure 5 and in ESRGAN, where the idea comes from;
equation 3 as printed gives alpha to the PSNR model and contradicts that figure.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import math
import re
from typing import Any

from bids_segsr.exceptions import ModelError
from bids_segsr.imaging.patch_size import edges
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import TrainedModel, outline, shapes


def blend_models(first: TrainedModel, second: TrainedModel, alpha: float) -> TrainedModel:
    """Blend the weights of two models.

    Args:
        first: Model that is had back with alpha = 0, trained for fidelity.
        second: Model that is had back with alpha = 1, trained against a critic.
        alpha: Weight of the second, 0 to 1.

    Returns:
        The blend; its path is that of the first model's weights. Counters and other integers are
        those of the first model.

    Raises:
        ModelError: As `blend_cards`.
    """
    import torch

    card = blend_cards(first.card, second.card, alpha)
    one, other = first.network.state_dict(), second.network.state_dict()
    if shapes(one) != shapes(other):
        raise ModelError(f'{_names(first.card, second.card)}: their tensors differ in shape')
    with torch.no_grad():
        # lerp gives back either end exactly.
        blended = {
            name: torch.lerp(tensor, other[name], alpha) if tensor.is_floating_point() else tensor
            for name, tensor in one.items()
        }
    network = copy.deepcopy(first.network)
    network.load_state_dict(blended)
    return TrainedModel(network, card, first.path)


def blend_cards(first: ModelCard, second: ModelCard, alpha: float) -> ModelCard:
    """Make the card of a blend.

    Args:
        first: Card of the model that is had back with alpha = 0.
        second: Card of the model that is had back with alpha = 1.
        alpha: Weight of the second, 0 to 1.

    Returns:
        A card that names both parents with their hashes, holds for inputs that both were made
        for, and has no scores, since nobody measured the blend. Its `sha256` is made of the
        parents' hashes and alpha, until the blend is saved and has a file of its own.

    Raises:
        ModelError: If alpha is outside 0 to 1, or the models differ in architecture, options,
            normalisation, channels or labels, or have no input in common.
    """
    if not 0 <= alpha <= 1:
        raise ModelError(f'blend weight {alpha:g}: give 0 (first model) to 1 (second model)')
    both = _names(first, second)
    _agree(both, 'architecture', first.architecture, second.architecture)
    if first.options != second.options:
        # An option that a card leaves out has its default.
        _agree(both, 'options', _all_options(first), _all_options(second))
    _agree(both, 'channels', first.channels, second.channels)
    _agree(both, 'labels', first.labels, second.labels)
    parents = [
        {'name': card.name, 'version': card.version, 'sha256': card.sha256, 'weight': weight}
        for card, weight in ((first, 1 - alpha), (second, alpha))
    ]
    identity = f'{first.sha256}:{second.sha256}:{alpha!r}'
    return dataclasses.replace(
        first,
        name=_name(first, second, alpha),
        version=f'{first.version}+{second.version}',
        description=(
            f'Blend of {first.name} ({1 - alpha:g}) and {second.name} ({alpha:g}), weights '
            'averaged (RRDG article, equation 3). Research use only; not for diagnosis.'
        ),
        contract=_common_contract(both, first.contract, second.contract),
        training={
            'blend_of': parents,
            first.name: first.training,
            second.name: second.training,
        },
        scores={},
        limitations=(
            'A blend of two models: not measured itself.',
            *dict.fromkeys((*first.limitations, *second.limitations)),
        ),
        licence=' | '.join(dict.fromkeys(filter(None, (first.licence, second.licence)))),
        citation=tuple(dict.fromkeys((*first.citation, *second.citation))),
        sha256=hashlib.sha256(identity.encode()).hexdigest(),
    )


def _names(first: ModelCard, second: ModelCard) -> str:
    return f'{first.name} and {second.name} cannot be blended'


def _agree(both: str, what: str, one: Any, other: Any) -> None:
    if one != other:
        raise ModelError(f'{both}: their {what} differ ({one} and {other})')


def _all_options(card: ModelCard) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for kind in reversed(type(outline(card.architecture, card.options)).__mro__):
        for name, parameter in inspect.signature(kind.__init__).parameters.items():  # type: ignore[misc]
            if parameter.default is not parameter.empty:
                options[name] = parameter.default
    return {n: value for n, value in (options | card.options).items() if value is not None}


def _name(first: ModelCard, second: ModelCard, alpha: float) -> str:
    return re.sub('[^A-Za-z0-9]+', '-', f'{first.name}-{second.name}-{alpha:g}'.replace('.', 'p'))


def _common_contract(both: str, one: InputContract, other: InputContract) -> InputContract:
    for what in (
        'normalisation',
        'skull_stripped',
        'slice_axis_last',
        'guides',
        'mirrored',
        'back_projection',
        'interpolation',
        'back_projection_steps',
        'input_back_projection_steps',
        'precision',
    ):
        _agree(both, what, getattr(one, what), getattr(other, what))
    modalities = tuple(m for m in one.modalities if m in other.modalities)
    if not modalities:
        raise ModelError(f'{both}: they were made for different contrasts')
    return dataclasses.replace(
        one,
        modalities=modalities,
        spacing_mm=_overlap(both, 'spacing', one.spacing_mm, other.spacing_mm),
        slice_thickness_mm=_overlap(
            both, 'slice thickness', one.slice_thickness_mm, other.slice_thickness_mm
        ),
        patch_size=max(one.patch_size, other.patch_size, key=lambda size: math.prod(edges(size))),
    )


def _overlap(
    both: str, what: str, one: tuple[float, float], other: tuple[float, float]
) -> tuple[float, float]:
    low, high = max(one[0], other[0]), min(one[1], other[1])
    if low > high:
        raise ModelError(f'{both}: they were made for a different {what}')
    return low, high
