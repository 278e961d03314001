"""The five weight files that the authors of SegSRGAN released: names, digests, cards."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bids_segsr.zoo.card import InputContract, ModelCard

REPOSITORY = 'https://github.com/koopa31/SegSRGAN'
FOLDER = 'data/weights'

CITATIONS = (
    'Delannoy Q, Pham C-H, Cazorla C, et al. SegSRGAN: Super-resolution and segmentation using '
    'generative adversarial networks: application to neonatal brain MRI. Computers in Biology and '
    'Medicine 2020;120:103755.',
    'Pham C-H, Tor-Diez C, Meunier H, et al. Simultaneous super-resolution and segmentation using '
    'a generative adversarial network: application to neonatal brain MRI. ISBI 2019.',
    'Makropoulos A, Robinson EC, Schuh A, et al. The developing human connectome project: a '
    'minimal processing pipeline for neonatal cortical surface reconstruction. NeuroImage '
    '2018;173:88-112.',
)
LICENCE = (
    'CeCILL-B (the published weights); their training images are under the terms of use of the '
    'developing Human Connectome Project (dHCP). Research use only.'
)


@dataclass(frozen=True)
class ReleasedWeights:
    """One released file.

    Attributes:
        name: Name of the model here.
        file: Name of the file in the repository of the authors.
        blob: Its git blob id, the SHA-1 of ``blob <size>\\0`` and the content.
        slice_thickness_mm: Thinnest and thickest slices of the training images, mm.
        augmented: Whether contrast and noise were varied during training.
        kind: What sets the network apart from the standard generator; empty for that.
        scores: What the article reports for it.
    """

    name: str
    file: str
    blob: str
    slice_thickness_mm: tuple[float, float]
    augmented: bool
    kind: str = ''
    scores: dict[str, float | str] = dataclasses.field(default_factory=dict)

    def card(self, imported: ModelCard) -> ModelCard:
        """Complete the card that the importer makes from the structure of the file.

        Args:
            imported: That card.

        Returns:
            The card with name, contract, training, licence and citation of this file.
        """
        low, high = self.slice_thickness_mm
        slices = f'{low:g} mm' if low == high else f'{low:g} to {high:g} mm'
        augmentation = (
            'contrast (intensity to a power drawn from 0.5 to 1.5) and Gaussian noise of 3 % of '
            'the maximum varied'
            if self.augmented
            else 'none'
        )
        return dataclasses.replace(
            imported,
            name=self.name,
            version='original',
            description=(
                f'SegSRGAN{self.kind} as its authors released it: super-resolution to 0.5 mm and '
                f'cortex segmentation of skull-stripped neonatal T2w MRI with slices of {slices}. '
                'Research use only; not for diagnosis.'
            ),
            contract=InputContract(
                modalities=('T2w',),
                normalisation='volume-max',
                spacing_mm=(0.5, 0.5),
                slice_thickness_mm=self.slice_thickness_mm,
            ),
            training={
                'data': [
                    {
                        'source': 'developing Human Connectome Project (dHCP), neonatal T2w',
                        'licence': 'dHCP terms of use',
                        'used': '32 images trained on, 8 to validate',
                    }
                ],
                'images': f'slices of {slices} simulated from 0.5 mm images; patches of 64 voxels',
                'augmentation': augmentation,
                'weights': f'{REPOSITORY}, {FOLDER}/{self.file}',
                'git_blob': self.blob,
            },
            scores=self.scores,
            limitations=(
                *imported.limitations,
                'Trained on newborns alone: other ages and other contrasts were not seen.',
            ),
            licence=LICENCE,
            citation=CITATIONS,
        )


_PUBLISHED = 'as the article reports it for 8 dHCP images (patch 128, step 30); not measured here'

RELEASED = {
    weights.name: weights
    for weights in (
        ReleasedWeights(
            name='segsrgan-dhcp',
            file='Perso_without_data_augmentation',
            blob='94b752940de1dc950bc818cced602d9883be1e50',
            slice_thickness_mm=(3.0, 3.0),
            augmented=False,
            scores={
                'note': _PUBLISHED,
                'dice': 0.855,
                'psnr': 26.96,
                'psnr_spline': 24.22,
                'ssim': 0.73,
                'ssim_spline': 0.63,
            },
        ),
        ReleasedWeights(
            name='segsrgan-dhcp-augmented',
            file='Perso_with_constrast_0.5_and_noise_0.03_val_max',
            blob='9362453345e13957774384d807e85046e57724eb',
            slice_thickness_mm=(3.0, 3.0),
            augmented=True,
            scores={'note': _PUBLISHED, 'dice': 0.849},
        ),
        ReleasedWeights(
            name='segsrgan-dhcp-augmented-2-4mm',
            file='Perso_with_constrast_0.5_and_noise_0.03_val_max_res_between_2_and_4',
            blob='9d2913af81f10e069a2a7922b93c5096a162517d',
            slice_thickness_mm=(2.0, 4.0),
            augmented=True,
        ),
        ReleasedWeights(
            name='segsrgan-dhcp-augmented-2-4mm-conditional',
            file='Perso_with_constrast_0.5_and_noise_0.03_val_max_res_between_2_and_4_conditional',
            blob='620a9d656d78b35d1a20a9df172ffd29c13b263b',
            slice_thickness_mm=(2.0, 4.0),
            augmented=True,
            kind=', conditional form,',
        ),
        ReleasedWeights(
            name='segsrgan-dhcp-unet',
            file='Perso_without_data_agmentation_u_net',
            blob='c9cd63d0cb169bb3d0e82aa832a54837aba68736',
            slice_thickness_mm=(3.0, 3.0),
            augmented=False,
            kind=', U-Net variant,',
        ),
    )
}
"""The released weights by the name that they have here."""
