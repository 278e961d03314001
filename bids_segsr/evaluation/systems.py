"""What is compared: baselines without a network, a model, or one whose image another segments."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_segsr.evaluation.cases import Case
from bids_segsr.exceptions import UserError
from bids_segsr.imaging import low_rank_total_variation
from bids_segsr.imaging.back_projection import back_projection_alone
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.training.loop.validation_scores import segment
from bids_segsr.zoo.contract import check_guides, check_restores
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel

logger = logging.getLogger(__name__)

SPLINE = 'spline'
"""Cubic B-spline interpolation, whatever the recipe of a model says."""
IBP = 'ibp'
"""The same and five half steps of back-projection: what a network has to beat."""
BASELINES = (SPLINE, IBP)
NEAREST = 'nearest'
BICUBIC = 'bicubic'
"""Nearest neighbour and cubic convolution, the baselines of mDCSRN (Table 2)."""
LRTV = 'lrtv'
"""Low-rank total variation, a baseline of ReCNN (Table 2)."""
TRUTH = 'truth'
"""The true image itself, for measures without a reference (mDCSRN, Table 2)."""
UNTRAINED = (*BASELINES, NEAREST, BICUBIC, LRTV, TRUTH)
"""All systems without a network; the first two are always compared with."""
_NAMED = re.compile(r'([^=/]+)=(.+)')


@dataclass(frozen=True)
class System:
    """One row of a table.

    Attributes:
        name: What it is called there.
        models: None for what is UNTRAINED; a generator; or a generator and the network that
            segments what it made (SegSRGAN 2020, section 5.2, 'SRReCNN3D + U-Net').
    """

    name: str
    models: tuple[TrainedModel, ...] = ()

    @property
    def parameters(self) -> int:
        """Trained values, all models together."""
        return sum(p.numel() for model in self.models for p in model.network.parameters())

    def suits(self, forward: ForwardModel) -> bool:
        """Whether it can be run on such scans: back-projection alone needs slices."""
        return self.name != IBP or forward.kind == 'thick-slices'

    @property
    def identity(self) -> list[dict[str, str]]:
        """What it is made of, for hashes and records."""
        return [
            {
                'name': model.card.name,
                'version': model.card.version,
                'sha256': model.card.sha256,
                'architecture': model.card.architecture,
            }
            for model in self.models
        ]


@dataclass(frozen=True)
class Output:
    """What a system makes of one image.

    Attributes:
        image: (X, Y, Z) float32.
        structures: Name to boolean array; none where nothing segments.
        seconds: Wall clock time from the interpolated image to the result; for a baseline, from
            the scan.
        cpu_seconds: Time of all processor cores.
        device: Where it ran in the end.
    """

    image: np.ndarray
    structures: dict[str, np.ndarray]
    seconds: float
    cpu_seconds: float
    device: str


def read_systems(texts: Sequence[str]) -> list[System]:
    """Load what is to be compared, the baselines first.

    Args:
        texts: A model as `zoo.find.load_model` takes it (name, path, blend ``A:B:0.6``);
            ``SR+SEGMENTER`` for a pipeline of two; either after ``NAME=``. Also `nearest` and
            `bicubic`, interpolations, `lrtv` (Shi et al. 2015), and `truth`, the true image.

    Returns:
        The systems, `spline` and `ibp` first whether they were given or not.

    Raises:
        UserError: A model cannot be loaded, or two have the same name.
    """
    systems = [
        *map(System, BASELINES),
        *(read_system(text) for text in texts if text not in BASELINES),
    ]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name}: two models have this name; write them as NAME=MODEL.')
    return systems


def read_system(text: str) -> System:
    """Load one system other than the baselines; see `read_systems`."""
    if text in UNTRAINED:
        return System(text)
    named = None if Path(text).exists() else _NAMED.fullmatch(text)
    name, what = (named[1].strip(), named[2]) if named else ('', text)
    if name in UNTRAINED:
        raise UserError(f'{text}: {name} is taken; give the model another name.')
    parts = [what] if Path(what).exists() else what.split('+')
    if len(parts) > 2 or not all(parts):
        raise UserError(f'{text}: give one model, or SR+SEGMENTER for a pipeline of two.')
    models = tuple(load_model(part) for part in parts)
    for model in models:
        check_restores(model.card)
    return System(name or ' + '.join(model.card.name for model in models), models)


def run_system(system: System, case: Case, processing: Processing) -> Output:
    """Run a system over a simulated scan.

    Args:
        system: What to run.
        case: The scan.
        processing: Patch size, step, blending and device.

    Returns:
        Image, segmentation and cost. A pipeline gives the image of its first model and the
        segmentation of its second. Models that need guides get those of the reference.

    Raises:
        UserError: The device cannot be used, or the image does not suit the model.
    """
    if system.name == TRUTH:
        return Output(case.reference.image, {}, 0.0, 0.0, 'cpu')
    if system.name == IBP:
        started, cpu_started = time.perf_counter(), time.process_time()
        image = back_projection_alone(case.slices, case.seen)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Output(image, {}, seconds, cpu_seconds, 'cpu')
    if system.name in (NEAREST, BICUBIC):
        started, cpu_started = time.perf_counter(), time.process_time()
        image = case.interpolated_by('nearest' if system.name == NEAREST else 'bicubic')
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Output(image, {}, seconds, cpu_seconds, 'cpu')
    if system.name == LRTV:
        started, cpu_started = time.perf_counter(), time.process_time()
        spline = dataclasses.replace(case.acquisition, interpolation='cubic')
        reference = case.reference
        image = low_rank_total_variation.restore(
            case.slices.data, reference.image.shape, reference.affine, spline
        )
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Output(np.where(case.seen, image, 0), {}, seconds, cpu_seconds, 'cpu')
    if not system.models:
        return Output(case.interpolated, {}, case.seconds, case.cpu_seconds, 'cpu')
    guides = case.reference.guides
    for model in system.models:
        if model.card.contract.guides:
            check_guides(model.card, len(guides), 'the columns Guide_image')
    first, *_ = models = [fitting(model, case) for model in system.models]
    image, images = case.fed(first.card), []
    started, cpu_started = time.perf_counter(), time.process_time()
    for model in models:
        prediction = predict(
            model,
            image,
            case.slices,
            guides=guides if model.card.contract.guides else (),
            mask=case.seen,
            processing=processing,
        )
        image = prediction.image
        images.append(image)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    channels = models[-1].card.channels
    return Output(
        image=images[0],
        structures=segment(np.concatenate([image[None], prediction.probabilities]), channels),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        device=prediction.device,
    )


def fitting(model: TrainedModel, case: Case) -> TrainedModel:
    """Return a model as far as a simulated scan allows: without slices, nothing is put back."""
    contract = model.card.contract
    if case.sliced or not contract.back_projection:
        return model
    logger.warning('%s: no back-projection, for the scan has no slices', model.card.name)
    contract = dataclasses.replace(contract, back_projection=0.0)
    return dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
