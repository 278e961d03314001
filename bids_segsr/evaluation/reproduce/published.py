"""What SegSRGAN (2020) used and what it reports, as files that lie beside this one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

SPLINE = 'spline'
"""Cubic spline interpolation, in the column ``system`` of the numbers."""
SUPER_RESOLVER = 'recnn-20l-3mm'
"""Recipe whose images the U-Nets segment."""

_PACKAGE = 'bids_segsr.evaluation.reproduce'

TITLES = {
    '2': 'SSIM on noisy and non-noisy images',
    '3': 'PSNR on noisy and non-noisy images',
    '4': 'Dice with and without data augmentation',
    '5': 'Number of connected components with and without data augmentation',
    '7': 'Ablation of the adversarial term',
    '8': 'Super-resolution of several methods',
    '9': 'Dice of several methods',
    '10': 'Number of connected components of several methods',
}
"""Tables of the article that hold numbers of dHCP; mean over its 8 test images."""


@dataclass(frozen=True)
class PublishedScore:
    """One number of a table.

    Attributes:
        table: Number of the table in the article.
        row: Label of its row.
        system: Recipe (or recipes, joined by ``+``) that makes it; 'spline'; empty for a method
            that is not part of this package.
        metric: Key of `evaluation.scores.METRICS`.
        step: Voxels between the patches of 128.
        image: 'original', or 'noisy': with Gaussian noise of standard deviation 2.
        mean: Over the test images.
        sd: Standard deviation; None where the article has none.
        printed: Both as the article prints them.
    """

    table: str
    row: str
    system: str
    metric: str
    step: int
    image: str
    mean: float
    sd: float | None
    printed: str


def published_scores() -> list[PublishedScore]:
    """Read the numbers of Tables 2 to 5 and 7 to 10, in their order."""
    return [
        PublishedScore(
            table=row['table'],
            row=row['row'],
            system=row['system'],
            metric=row['metric'],
            step=int(row['step']),
            image=row['image'],
            mean=float(row['mean']),
            sd=float(row['sd']) if row['sd'] else None,
            printed=f'{row["mean"]} ± {row["sd"]}' if row['sd'] else row['mean'],
        )
        for row in _rows('segsrgan_2020_scores.tsv')
    ]


def trained_recipes() -> list[str]:
    """Names of the recipes that the tables need; each comes after those that it needs."""
    parts = (part for number in published_scores() for part in number.system.split('+'))
    return [part for part in dict.fromkeys(parts) if part not in ('', SPLINE)]


def published_subjects() -> dict[str, str]:
    """Read the lists of appendix A.4.

    Returns:
        Participant (with prefix) to 'Train' or 'Test', in the order of the article.
    """
    return {row['participant_id']: row['base'] for row in _rows('segsrgan_2020_subjects.tsv')}


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files(_PACKAGE) / name).read_text(encoding='utf-8')
    return csv.DictReader(text.splitlines(), delimiter='\t')
