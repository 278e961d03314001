"""Turn a run into a model: ``python -m bids_segsr.training.export --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bids_segsr.exceptions import ModelError, UserError
from bids_segsr.networks import create
from bids_segsr.training.label_maps import HELD_OUT, VALIDATION
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import save_model

DATA = (
    {
        'source': 'SynthSeg label maps of adult heads (B. Billot et al.)',
        'url': 'https://github.com/BBillot/SynthSeg',
        'licence': 'Apache-2.0',
        'used': 'training_seg_01 to 15 trained on, 16 only followed',
    },
    {
        'source': 'SynthSR label maps of adult brains (B. Billot et al.)',
        'url': 'https://github.com/BBillot/SynthSR',
        'licence': 'Apache-2.0',
        'used': 'brain1 to 3 trained on, brain4 only followed',
    },
    {
        'source': 'Fetal spina bifida brain atlas, label maps (L. Fidon et al. 2021)',
        'url': 'https://github.com/LucasFidon/trustworthy-ai-fetal-brain-segmentation',
        'licence': 'CC0-1.0',
        'used': '21 to 34 weeks, without 28 and 33; 26 and 32 only followed',
    },
)

HISTORY = (
    'The first two phases had 20 % fully random contrasts, and soft Dice alone on the cortex with '
    'weight 0.25; the first one trained the last convolution at the full rate.',
    'At equal CPU time (3.5 minutes with the setting up; 48 voxel patches, Charbonnier penalty on '
    'both channels): standard generator with 16 filters 135 steps, -0.02 dB over cubic spline; '
    'U-Net variant with 8 filters 245 steps, +0.49 dB (378 steps, 4.8 minutes: +0.99 dB); cortex '
    'Dice 0 for both. Hence the U-Net variant.',
    'Adam at its full rate on the last convolution made the output swing by more than its '
    'standard deviation (-6.0 dB without averaging the weights, +0.5 dB with it); at a twentieth '
    'of the rate it does not.',
    'The Charbonnier penalty on the cortex stayed at empty segmentations; soft Dice gave Dice 0.3 '
    'in 200 steps and 0.4 in 1,170; with cross-entropy added 0.5 after 1,560 in all.',
)

LIMITATIONS = (
    'Trained on simulated images alone: no real scan and no newborn was seen.',
    'The fetal label maps are averages of malformed (spina bifida) brains, not individuals.',
    'Expects a skull-stripped, bias-corrected brain; what is left of skull or fetal surroundings '
    'may be labelled cortex.',
    'Lesions, haemorrhage, motion between slices and very preterm anatomy were not simulated: '
    'what the network makes of them is unknown.',
    'Slices thinner than 2 or thicker than 5 output voxels are outside of what it saw.',
    'The segmentation is the weaker half: on simulated images its cortex overlaps less with the '
    'truth than the best intensity window does (dice_network and dice_window in the scores).',
    'The cortex is one class; deep grey matter of similar intensity can be taken for it.',
)

CITATION = (
    'Delannoy Q, et al. SegSRGAN: Super-resolution and segmentation using generative adversarial '
    'networks: application to neonatal brain MRI. Computers in Biology and Medicine '
    '2020;120:103755.',
    'Billot B, et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution '
    'without retraining. Medical Image Analysis 2023;86:102789.',
    'Iglesias JE, et al. Joint super-resolution and synthesis of 1 mm isotropic MP-RAGE volumes '
    'from clinical MRI exams with scans of different orientation, resolution and contrast. '
    'NeuroImage 2021;237:118206.',
    'Fidon L, et al. A spatio-temporal atlas of the developing fetal brain with spina bifida '
    'aperta. Open Research Europe 2021;1:123.',
)


def make_card(state: dict[str, Any], name: str, version: str) -> ModelCard:
    """Describe the weights of a run, without scores.

    Args:
        state: Content of the run's `best.pt` or `last.pt`.
        name: Name of the model.
        version: Version of the weights.

    Returns:
        The card.
    """
    plan = state['plan']
    return ModelCard(
        name=name,
        version=version,
        description=(
            'Super-resolution of the through-plane axis and cortex segmentation of skull-stripped '
            'brain MRI of adults and fetuses, any contrast; trained on images simulated from '
            'label maps. A first model, trained on two CPU cores: read its scores before use. '
            'Research use only; not for diagnosis.'
        ),
        architecture=plan['architecture'],
        options=plan['options'],
        contract=InputContract(
            modalities=('T2w', 'T1w', 'FLAIR', 'PDw'),
            normalisation='patch-standard',
            spacing_mm=(0.5, 1.0),
            slice_thickness_mm=(1.5, 5.0),
        ),
        channels=('intensity', 'cortex'),
        labels={1: 'cortical grey matter'},
        training={
            'data': list(DATA),
            'held_out': [*HELD_OUT],
            'validation': [*VALIDATION],
            'images': 'simulated (bids_segsr.training.synthesis): random contrast around T1w, T2w '
            'and FLAIR priors, 5 % fully random; slices 2 to 5 output voxels thick (half of them '
            '3) along any anatomical axis; noise, bias field; label maps of adults and fetuses, '
            'no newborn',
            'loss': 'Charbonnier on the intensity (SegSRGAN 2020, equation 6), soft Dice and '
            'cross-entropy on the cortex, no adversarial term',
            'optimiser': 'Adam, cosine learning rate in each phase; averaged weights kept',
            'phases': state['phases'],
            'minutes': round(sum(phase['minutes'] for phase in state['phases']), 1),
            'history': list(HISTORY),
            'hardware': 'two CPU cores, bfloat16 autocast',
        },
        limitations=LIMITATIONS,
        licence='Apache-2.0',
        citation=CITATION,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the averaged weights of a run as a model: weights and card, without scores.

    Args:
        arguments: Words of the command; those of the process when None.
    """
    parser = argparse.ArgumentParser(
        prog='python -m bids_segsr.training.export', description='Write a run as a model.'
    )
    parser.add_argument('checkpoint', type=Path, help='best.pt or last.pt of a run')
    parser.add_argument('folder', type=Path, help='folder of the model; its name is the name')
    parser.add_argument('--version', default='1')
    parser.add_argument('--half-precision', action='store_true', help='store float16')
    args = parser.parse_args(arguments)
    if not args.checkpoint.is_file():
        raise ModelError(f'{args.checkpoint}: no such checkpoint')
    state = torch.load(args.checkpoint, 'cpu', weights_only=True)
    card = make_card(state, args.folder.name, args.version)
    network = create(card.architecture, **card.options)
    network.load_state_dict(state['average'])
    save_model(args.folder, network, card, half_precision=args.half_precision)


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
