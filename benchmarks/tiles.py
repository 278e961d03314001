"""What the distance and size of patches, the mirror image and mixed precision do to the scores.

    python benchmarks/tiles.py --data DIR [--model NAME|PATH] [--subjects brain5 GA33]

Slices are simulated of held-out label maps as in `default_model.py`. Every row but the first is
told as the difference to the first one: PSNR (dB) and Dice of the cortex inside the brain.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from held_out import ADULTS, CONDITIONS, FETUSES, PLAIN, Simulated, make_slices, simulated_cases

from bids_segsr.imaging.measures.metrics import dice, psnr
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.feeding import interpolated
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel


@dataclasses.dataclass(frozen=True)
class Way:
    """How a network is put over a volume.

    Attributes:
        step: Largest distance of the patches, voxels.
        patch: Their edge.
        mirrored: Whether the mirror image is shown, too; None for what the card says.
        precision: 'fp32' or 'bf16'.
    """

    step: int
    patch: int = 96
    mirrored: bool | None = None
    precision: str = 'fp32'

    def __str__(self) -> str:
        """Return a row's name."""
        mirror = {None: '', True: ', mirrored', False: ', not mirrored'}[self.mirrored]
        return f'{self.patch}, step {self.step}, {self.precision}{mirror}'


WAYS = (
    Way(64),
    Way(64, precision='bf16'),
    Way(80, precision='bf16'),
    Way(96, precision='bf16'),
    Way(96, 128, precision='bf16'),
    Way(80, mirrored=True, precision='bf16'),
    Way(80, mirrored=False, precision='bf16'),
)


def run(model: TrainedModel, made: Simulated, way: Way) -> tuple[dict[str, float], float]:
    """Return the scores and the CPU seconds of one way."""
    given = model.card.contract
    mirrored = given.mirrored if way.mirrored is None else way.mirrored
    contract = dataclasses.replace(given, mirrored=mirrored, precision=way.precision)
    asked = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    image = interpolated(model.card, made.slices, made.mask)
    how = Processing(patch_size=way.patch, step=way.step, device='cpu')
    started = time.process_time()
    found = predict(asked, image, made.slices, mask=made.mask, processing=how)
    seconds = time.process_time() - started
    scores = {'psnr': psnr(made.truth, found.image, made.inside)}
    if made.tissues is not None and len(found.probabilities):
        cortex = (found.probabilities[0] > 0.5) & made.inside
        scores['dice'] = dice(made.tissues == 1, cortex)
    return scores, seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for every case."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--subjects', nargs='+', default=['brain5', 'GA33'])
    args = parser.parse_args(arguments)
    # spinning threads on a busy machine would count as work
    torch.set_num_threads(1)
    model = load_model(args.model)
    adults, fetuses = (
        [path for path in paths if any(name in path for name in args.subjects)]
        for paths in (ADULTS, FETUSES)
    )
    for case in simulated_cases(args.data / 'labels', adults, fetuses):
        made = make_slices(case, CONDITIONS[PLAIN])
        print(f'{case.group}, {case.name}', flush=True)
        first: dict[str, float] = {}
        for way in WAYS:
            scores, seconds = run(model, made, way)
            told = [
                f'{name} {value - first[name]:+.4f}' if first else f'{name} {value:.4f}'
                for name, value in scores.items()
            ]
            first = first or scores
            print(f'  {way!s:36}{seconds:7.1f} s  {"  ".join(told)}', flush=True)


if __name__ == '__main__':
    main()
