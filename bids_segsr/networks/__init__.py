"""Networks of the papers, made by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bids_segsr.exceptions import ModelError
from bids_segsr.extensions import extension_names, load_extension

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = {
    'segsrgan': ('bids_segsr.networks.conditional', 'segsrgan'),
    'segsrgan-unet': ('bids_segsr.networks.conditional', 'segsrgan_unet'),
    'segsrgan-critic': ('bids_segsr.networks.critics', 'SegSRGANCritic'),
    'recnn': ('bids_segsr.networks.recnn', 'ReCNN'),
    'srcnn3d': ('bids_segsr.networks.recnn', 'SRCNN3D'),
    'mdcsrn': ('bids_segsr.networks.mdcsrn', 'MDCSRN'),
    'mdcsrn-critic': ('bids_segsr.networks.critics', 'MDCSRNCritic'),
    'rrdg': ('bids_segsr.networks.rrdg', 'RRDG'),
    'rrdg-critic': ('bids_segsr.networks.critics', 'RRDGCritic'),
    'fsrcnn': ('bids_segsr.networks.baselines', 'FSRCNN'),
    'srresnet': ('bids_segsr.networks.baselines', 'SRResNet'),
    'srdensenet': ('bids_segsr.networks.baselines', 'SRDenseNet'),
    'unet': ('bids_segsr.networks.baselines', 'UNet'),
    'tissue-unet': ('bids_segsr.networks.tissue_unet', 'TissueUNet'),
    'tissue-unet-pair': ('bids_segsr.networks.tissue_unet', 'TissueUNetPair'),
}


def create(name: str, **options: Any) -> nn.Module:
    """Make a network with freshly drawn weights.

    Args:
        name: Key of ARCHITECTURES, or of a network that another package brings
            (`bids_segsr.extensions`).
        **options: Arguments of the network's class, e.g. ``base_filters``.

    Returns:
        The network, in training mode.

    Raises:
        ModelError: If the name or an option is unknown.
    """
    if name in ARCHITECTURES:
        module, attribute = ARCHITECTURES[name]
        make = getattr(importlib.import_module(module), attribute)
    else:
        make = load_extension('networks', name)
        if make is None:
            known = ', '.join([*sorted(ARCHITECTURES), *extension_names('networks')])
            raise ModelError(f'unknown architecture {name!r}; known are {known}')
    try:
        network: nn.Module = make(**options)
        return network
    except TypeError as error:
        raise ModelError(f'architecture {name!r}: {error}') from error
