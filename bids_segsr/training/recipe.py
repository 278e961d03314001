"""Recipes: everything that decides a training but the data, as one TOML file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data_tables import HEAD_CHANNELS, Augmentation, Heads, LabelMaps, Sampling
from bids_segsr.training.loop_tables import CriticSchedule, Loss, Optimiser, Rates, require

SCORES = ('psnr', 'ssim', 'gain', 'dice', 'loss')
"""What a validation measures; Dice also of single channels, as ``dice_cortex``."""

LIMITS = ('schedule.epochs', 'schedule.steps', 'schedule.minutes')
"""Keys that a resumed run may change, unless the learning rate depends on the length."""


@dataclass(frozen=True)
class Network:
    """A network to be trained; tables ``[network]`` and ``[critic]``.

    Attributes:
        architecture: Name known to `bids_segsr.networks.create`.
        options: Its options.
        start_near_identity: Shrink the last kernels of a residual generator, so that it begins as
            good as interpolation.
        starts_from: Recipe whose trained generator this training goes on from; one that begins
            with random weights instead is warned of.
    """

    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    start_near_identity: bool = False
    starts_from: str = ''

    @property
    def conditional(self) -> bool:
        """Whether it takes the resolution as second input."""
        return bool(self.options.get('conditional'))


@dataclass(frozen=True)
class Task:
    """What the network sees and gives; table ``[task]``.

    Attributes:
        input: 'interpolated' low-resolution image, the 'high-resolution' image itself
            (segmentation alone), or the interpolated image 'super-resolved' by another model.
        super_resolved_by: That model: a name or path of the zoo.
        channels: Names of the output channels: 'intensity', 'cortex', then classes whose
            probabilities sum to one, their background first; or a single class, as 'brain'.
        labels: Channel to numbers of the label image. A class channel without an entry is the
            background: what no other class has.
        modalities: BIDS suffixes of the images that the model is for, the trained one first.
        skull_stripped: Whether the images are 0 outside the brain.
        back_projection: Share of what thick slices show and a restored image lacks that a
            prediction puts back in a step (`imaging.back_projection`); of no effect on the
            training.
        back_projection_steps: How many such steps follow the network at most; they end where what
            the image lacks is small beside the noise of the slices.
        input_back_projection_steps: How many the interpolated image gets before the network sees
            it, in the training too; for training images made from label maps.

    Raises:
        ValueError: If the parts do not fit each other.
    """

    input: Literal['interpolated', 'high-resolution', 'super-resolved'] = 'interpolated'
    super_resolved_by: str | None = None
    channels: tuple[str, ...] = ('intensity', 'cortex')
    labels: dict[str, tuple[int, ...]] = field(default_factory=lambda: {'cortex': (1,)})
    modalities: tuple[str, ...] = ('T2w',)
    skull_stripped: bool = True
    back_projection: float = 0.0
    back_projection_steps: int = 1
    input_back_projection_steps: int = 0

    def __post_init__(self) -> None:
        if self.channels[:1] != ('intensity',) or len(set(self.channels)) < len(self.channels):
            raise ValueError("channels must begin with 'intensity' and name each channel once")
        if (self.input == 'super-resolved') != (self.super_resolved_by is not None):
            raise ValueError("input 'super-resolved' and super_resolved_by go together")
        if not self.modalities:
            raise ValueError('modalities must name at least one')
        if not 0 <= self.back_projection <= 1:
            raise ValueError(f'back_projection is {self.back_projection:g}; give 0 to 1')
        if self.input_back_projection_steps and not self.back_projection:
            raise ValueError('input_back_projection_steps needs the share back_projection')
        if self.back_projection_steps < 0:
            raise ValueError(
                f'back_projection_steps is {self.back_projection_steps}; give 0 or more'
            )


@dataclass(frozen=True)
class Schedule:
    """How long and in which portions; table ``[schedule]``. The first limit reached ends it.

    Attributes:
        epochs: Passes of the generator over the patches.
        steps: Generator updates.
        minutes: Time, validations included.
        batch_size: Patches a process and pass through the network.
        accumulate: Passes whose gradients make up one update.
        ema: Decay of the averaged weights, which then are the ones that are validated and kept;
            None keeps the weights themselves.
        precision: 'fp32', or 'bf16' for mixed precision.
        checkpoint_minutes: Longest time between checkpoints; one is written at every validation.

    Raises:
        ValueError: If there is no limit or a number is out of its range.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 1
    accumulate: int = 1
    ema: float | None = None
    precision: Literal['fp32', 'bf16'] = 'fp32'
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            raise ValueError('give epochs, steps or minutes')
        for key in ('epochs', 'steps', 'minutes'):
            value = getattr(self, key)
            require(key, value is None or value > 0, 'positive', value)
        require('batch_size', self.batch_size > 0, 'positive', self.batch_size)
        require('accumulate', self.accumulate > 0, 'positive', self.accumulate)
        require('ema', self.ema is None or 0 < self.ema < 1, 'between 0 and 1', self.ema)
        require('checkpoint_minutes', self.checkpoint_minutes > 0, 'positive', '0 or less')


@dataclass(frozen=True)
class Validation:
    """When the network is judged, and by what; table ``[validation]``.

    Attributes:
        every_epochs: Epochs between validations, without `every_steps`.
        every_steps: Generator updates between validations.
        score: What decides which weights are the best: one of SCORES or ``dice_CHANNEL``, or a
            weighted sum such as ``psnr+10*dice``. A loss counts negatively.
        keep: Which weights become the model: the 'best' by the score, or the 'last'. In a training
            with a critic the weights that it starts from are never the best: no critic has
            taught them.
        dice: Over all voxels of the patches, 'pooled' (as the released code of SegSRGAN does), or
            the mean over 'patches' of the Dice of each (SegSRGAN 2020, section 4.3).
        subjects: Who follows the training: subjects that are set aside ('held-out'), or those that
            are trained on ('trained', where an article sets none aside).
        augmented: Judge on images with the contrast and noise of ``[augmentation]``: their powers
            divide its range evenly, one an image (SegSRGAN 2020, section 5.1, Figure 14), and
            everything is the same at every validation. Otherwise on images as they are.
        patience: Validations without a better score after which the training ends; None for never.
        patches: Validation patches, spread evenly over the validation set; None for all.
        pictures: Validation patches that are drawn.

    Raises:
        ValueError: If a number is out of its range or the score cannot be read.
    """

    every_epochs: int = 1
    every_steps: int | None = None
    score: str = 'psnr'
    keep: Literal['best', 'last'] = 'best'
    dice: Literal['pooled', 'patches'] = 'pooled'
    subjects: Literal['held-out', 'trained'] = 'held-out'
    augmented: bool = False
    patience: int | None = None
    patches: int | None = 64
    pictures: int = 2

    def __post_init__(self) -> None:
        for key in ('every_epochs', 'every_steps', 'patience', 'patches'):
            value = getattr(self, key)
            require(key, value is None or value > 0, 'positive', value)
        require('pictures', self.pictures >= 0, '0 or more', self.pictures)
        _ = self.weights

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every score in the one that decides."""
        found = {}
        for term in self.score.replace(' ', '').split('+'):
            match = re.fullmatch(r'(?:([0-9.eE-]+)\*)?([a-z]+)((?:_\w+)?)', term)
            name = match and match[2] + match[3]
            if not match or not (name in SCORES or (match[2] == 'dice' and match[3])):
                raise ValueError(
                    f'score {self.score!r} cannot be read; allowed are {", ".join(SCORES)}, '
                    'dice_CHANNEL and weighted sums such as psnr+10*dice'
                )
            weight = float(match[1] or 1)
            found[str(name)] = -weight if name == 'loss' else weight
        return found


@dataclass(frozen=True)
class Recipe:
    """A training; one table of the TOML file an attribute, `name` to `seed` at its top.

    Attributes:
        name: Short name; letters, digits and hyphens.
        network: The generator.
        schedule: Length and batches.
        reference: What it follows: article, section.
        seed: Of the first weights, the data and all that is drawn.
        critic: The critic; None for a training without one.
        task: Input and output of the network.
        forward: How low-resolution images are made.
        sampling: Where patches are cut.
        augmentation: What is changed at random.
        loss: What is minimised.
        critic_schedule: When the critic is updated.
        optimiser: Of the generator.
        critic_optimiser: Of the critic.
        rates: How the learning rates change.
        validation: How the training is followed.
        label_maps: Training images of brains made from label maps; None for images.
        heads: Training images of whole heads made from label maps; None for others.

    Raises:
        ValueError: If parts do not fit each other.
    """

    name: str
    network: Network
    schedule: Schedule
    reference: str = ''
    seed: int = 0
    critic: Network | None = None
    task: Task = field(default_factory=Task)
    forward: ForwardModel = field(default_factory=ForwardModel)
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: Loss = field(default_factory=Loss)
    critic_schedule: CriticSchedule = field(default_factory=CriticSchedule)
    optimiser: Optimiser = field(default_factory=Optimiser)
    critic_optimiser: Optimiser = field(default_factory=Optimiser)
    rates: Rates = field(default_factory=Rates)
    validation: Validation = field(default_factory=Validation)
    label_maps: LabelMaps | None = None
    heads: Heads | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch('[A-Za-z0-9][A-Za-z0-9-]*', self.name):
            raise ValueError(f'name {self.name!r}: use letters, digits and hyphens')
        if self.loss.adversarial_weight > 0 and self.critic is None:
            raise ValueError('loss.adversarial_weight is not 0, so a table [critic] is needed')
        intensities = {'psnr', 'ssim', 'gain'} & set(self.validation.weights)
        if intensities and self.loss.intensity == 'none':
            raise ValueError(f'validation.score: {min(intensities)} needs an intensity loss')
        if 'gain' in intensities and self.task.input != 'interpolated':
            raise ValueError("validation.score: gain needs task.input 'interpolated'")
        segmented = len(self.task.channels) > 1 and self.loss.segmentation != 'none'
        if self.loss.intensity == 'none' and not segmented:
            raise ValueError('[loss] has no term for [task] channels')
        for name in self.validation.weights:
            channel = name.removeprefix('dice_')
            if name not in SCORES and channel not in self.task.channels[1:]:
                raise ValueError(f'validation.score: no channel {channel!r} in task.channels')
        if 'dice' in self.validation.weights and len(self.task.channels) < 2:
            raise ValueError('validation.score: dice needs a segmentation in task.channels')
        if self.heads is not None:
            if self.label_maps is not None:
                raise ValueError('[heads] and [label_maps] are two trainings; give one of them')
            if not isinstance(self.sampling.patch_size, int):
                raise ValueError(
                    '[heads] are cut in cubes; give one number as sampling.patch_size'
                )
            if self.task.channels != HEAD_CHANNELS:
                raise ValueError(f'[heads] give the channels {", ".join(HEAD_CHANNELS)}')

    @property
    def slice_axis_last(self) -> bool:
        """Whether the slices of all patches follow each other along the last axis."""
        return self.forward.kind == 'thick-slices' and self.heads is None

    @property
    def adversarial(self) -> bool:
        """Whether a critic is trained."""
        return self.critic is not None and self.loss.adversarial_weight > 0


def changed_key(old: Recipe, new: Recipe) -> str | None:
    """Find what makes two recipes different trainings.

    Args:
        old: Recipe that a run was begun with.
        new: Recipe that it shall go on with.

    Returns:
        ``table.key (old value, new value)`` of the first difference; None if there is none, or
        only one in the length of a training whose learning rate does not depend on it.
    """
    before, after = flattened(old), flattened(new)
    free = () if new.rates.schedule == 'cosine' else LIMITS
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key) and key not in free:
            return f'{key} (was {before.get(key)!r}, is {after.get(key)!r})'
    return None


def flattened(recipe: Recipe) -> dict[str, Any]:
    """Return the values of a recipe by ``table.key``, without those that are None."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {} if value is None else {prefix: value}
        inner = [walk(f'{prefix}.{key}', part) for key, part in value.items()]
        return {key: part for found in inner for key, part in found.items()}

    found: dict[str, Any] = {}
    for key, value in dataclasses.asdict(recipe).items():
        found |= walk(key, value)
    return found
