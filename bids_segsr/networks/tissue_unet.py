"""Light residual U-Net that super-resolves and segments tissues.

Not of the papers: a combination of parts of theirs, made for CPUs. As in the U-Net variant of the
SegSRGAN generator, skips carry the resolution of the input to the end, and the intensity is
predicted as a difference to the input. Unlike there, all kernels are 3^3, and the input is
rearranged first: the 2^3 voxels of a block become channels (sub-pixel convolution of Shi et al.,
CVPR 2016, and its inverse), so that no layer runs at full resolution and none of it is lost.
Few features at half resolution suffice for classes, but are a narrow way for an intensity: it can
have a path of its own that sees the voxels as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import check_input, same_conv

AXIS_MULTIPLE = 4
"""What every axis of the input must be a multiple of."""
NORM_EPSILON = 1e-5
BLOCK = 2
"""Edge of the voxel blocks that become channels."""
MOST_LOGIT = 12.0
"""Logits of below minus this are all as good as never."""


def voxels_to_channels(x: Tensor) -> Tensor:
    """Move each block of 2x2x2 voxels into the channels.

    Args:
        x: (B, C, 2X, 2Y, 2Z).

    Returns:
        (B, 8C, X, Y, Z); the eight voxels of a channel follow each other, last axis fastest.
    """
    b, c, i, j, k = x.shape
    x = x.reshape(b, c, i // BLOCK, BLOCK, j // BLOCK, BLOCK, k // BLOCK, BLOCK)
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, c * BLOCK**3, i // BLOCK, j // BLOCK, k // BLOCK)


def channels_to_voxels(x: Tensor) -> Tensor:
    """Undo `voxels_to_channels`.

    Args:
        x: (B, 8C, X, Y, Z).

    Returns:
        (B, C, 2X, 2Y, 2Z).
    """
    b, c, i, j, k = x.shape
    x = x.reshape(b, c // BLOCK**3, BLOCK, BLOCK, BLOCK, i, j, k)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // BLOCK**3, i * BLOCK, j * BLOCK, k * BLOCK)


def convolve_pairs(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Apply a 3x3x3 convolution that gives 8 channels: two voxels of the last axis at once.

    On CPUs 16 channels take as long as 8. The kernels of both voxels are one voxel wider together
    than one of them: the same numbers in three quarters of the time.

    Args:
        conv: Zero-padded, with a bias (`same_conv`).
        x: (B, C, X, Y, Z), Z even.

    Returns:
        (B, filters, X, Y, Z).
    """
    if torch.onnx.is_in_onnx_export():
        found: Tensor = conv(x)
        return found
    x = x.contiguous(memory_format=torch.channels_last_3d)
    first, second = (functional.pad(conv.weight, ends) for ends in ((0, 1), (1, 0)))
    bias = torch.cat([conv.bias, conv.bias])  # type: ignore[list-item]
    both = functional.conv3d(x, torch.cat([first, second]), bias, (1, 1, 2), padding=1)
    b, _, i, j, k = both.shape
    # filters side by side in memory, so are the two voxels: nothing moves
    both = both.permute(0, 2, 3, 4, 1).reshape(b, i, j, 2 * k, -1)
    return both.permute(0, 4, 1, 2, 3)


class SampleNorm(nn.Module):
    """Instance normalisation by the kernels of batch normalisation, which are twice as fast.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every sample and channel over its voxels.

        Args:
            x: Features, (B, C, X, Y, Z).

        Returns:
            Normalised features, same shape; of a single voxel nothing but the shift is left.
        """
        if torch.onnx.is_in_onnx_export():
            return functional.instance_norm(
                x, weight=self.weight, bias=self.bias, eps=NORM_EPSILON
            )
        count = x.shape[0]
        y = torch.batch_norm(
            x.reshape(1, -1, x.shape[2], x.shape[3], x.shape[4]),
            self.weight.repeat(count),
            self.bias.repeat(count),
            None,
            None,
            True,
            0.0,
            NORM_EPSILON,
            False,
        )
        return y.reshape(x.shape)


class LightBlock(nn.Module):
    """Two normalised 3x3x3 convolutions, added to their input.

    Both are normalised, as in the SegSRGAN generators, so that one step of the optimiser cannot
    move the sum by much more than its standard deviation.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = same_conv(channels, channels, 3, bias=False)
        self.norm_a = SampleNorm(channels)
        self.conv_b = same_conv(channels, channels, 3, bias=False)
        self.norm_b = SampleNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, C, X, Y, Z).

        Returns:
            Features, same shape.
        """
        added: Tensor = self.norm_b(self.conv_b(torch.relu_(self.norm_a(self.conv_a(x)))))
        return added.add_(x)


class Merge(nn.Module):
    """Doubles the resolution of coarse features and joins them with the finer ones of a skip.

    Args:
        coarse: Channels of the coarse features.
        fine: Channels of the fine ones and of the result.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(coarse, fine, 1, bias=False)
        self.conv = same_conv(2 * fine, fine, 3, bias=False)
        self.norm = SampleNorm(fine)
        self.block = LightBlock(fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Join.

        Args:
            coarse: (B, coarse, X, Y, Z).
            fine: (B, fine, 2X, 2Y, 2Z).

        Returns:
            (B, fine, 2X, 2Y, 2Z).
        """
        up = functional.interpolate(self.reduce(coarse), scale_factor=2, mode='nearest')
        return self.block(torch.relu_(self.norm(self.conv(torch.cat([up, fine], dim=1)))))


class ClassHead(nn.Module):
    """Tissue classes at full resolution, from features at half of it and the image.

    Classes of the voxels of a block that are predicted apart do not know their neighbours in the
    next block: probabilities show a checkerboard (docs/networks). Here every voxel sees them.

    Args:
        channels: Features in.
        filters: Features of a voxel at full resolution.
        classes: Classes out.
    """

    def __init__(self, channels: int, filters: int, classes: int) -> None:
        super().__init__()
        self.spread = nn.Conv3d(channels, filters * BLOCK**3, 1)
        self.conv = same_conv(filters + 1, filters, 3)
        self.classes = same_conv(filters, classes, 3)

    @torch.no_grad()
    def start_from_blocks(self, weight: Tensor, bias: Tensor) -> None:
        """Predict what a head of voxel blocks predicted, so that a training goes on from there.

        Args:
            weight: Of that 1x1x1 convolution, (8 * classes, channels, 1, 1, 1).
            bias: (8 * classes,).

        Raises:
            ModelError: There are fewer filters than classes.
        """
        classes, filters = self.classes.weight.shape[:2]
        if filters < classes:
            raise ModelError(f'class_filters: give {classes} or more, one a class')
        used = classes * BLOCK**3
        self.spread.weight[:used], self.spread.bias[:used] = weight, bias  # type: ignore[index]
        middle = self.conv.kernel_size[0] // 2
        for conv in (self.conv, self.classes):
            for number in range(classes):
                conv.weight[number] = 0
                conv.weight[number, number, middle, middle, middle] = 1
        self.conv.bias[:classes] = MOST_LOGIT  # type: ignore[index]
        self.classes.bias[:] = -MOST_LOGIT  # type: ignore[index]

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Predict.

        Args:
            features: (B, channels, X, Y, Z).
            image: (B, 1, 2X, 2Y, 2Z).

        Returns:
            Logits, (B, classes, 2X, 2Y, 2Z).
        """
        fine = channels_to_voxels(self.spread(features))
        # in one precision: else both would be copied to the finer one first
        fine = torch.cat([fine, image.to(fine.dtype)], dim=1)
        return convolve_pairs(self.classes, torch.relu_(convolve_pairs(self.conv, fine)))


class TissueUNet(nn.Module):
    """Intensity and tissue classes of an interpolated image.

    Three levels, at a half, a quarter and an eighth of the resolution of the input.

    Args:
        base_filters: Filters at half resolution; three and six times as many below, where they
            cost little.
        classes: Tissue classes, background first; the second is the structure that matters, such
            as the cortex. 0 for the intensity alone.
        intensity: False for a network that segments and hands the intensity through.
        detail_filters: Filters of a second, shallow path to the intensity, which sees the voxels
            themselves beside the features; 0 for none.
        class_filters: Filters at full resolution that the classes are made of (`ClassHead`); 0 for
            classes of blocks of voxels.

    Raises:
        ModelError: If there are no filters, a single class, nothing to predict, or detail
            without an intensity.
    """

    block = BLOCK
    """Voxels along each axis that become one, with channels of their own."""

    def __init__(
        self,
        base_filters: int = 16,
        classes: int = 8,
        intensity: bool = True,
        detail_filters: int = 0,
        class_filters: int = 0,
    ) -> None:
        super().__init__()
        if base_filters < 1:
            raise ModelError(f'base_filters must be positive, not {base_filters}')
        if detail_filters < 0 or (detail_filters and not intensity):
            raise ModelError('detail_filters: give 0 or more, and 0 without intensity')
        if classes == 1 or classes < 0 or not (classes or intensity):
            raise ModelError('classes: give at least 2 (background is one), or 0 with intensity')
        k = base_filters
        self.classes = classes
        self.intensity = intensity
        self.stem = same_conv(BLOCK**3, k, 3)
        # Without these, what comes from above outgrows what the blocks of a level add to it.
        self.level1 = nn.Sequential(SampleNorm(k), LightBlock(k))
        self.down1 = nn.Conv3d(k, 3 * k, 3, stride=2, padding=1)
        self.level2 = nn.Sequential(SampleNorm(3 * k), LightBlock(3 * k))
        self.down2 = nn.Conv3d(3 * k, 6 * k, 3, stride=2, padding=1)
        self.level3 = nn.Sequential(SampleNorm(6 * k), LightBlock(6 * k), LightBlock(6 * k))
        self.up2 = Merge(6 * k, 3 * k)
        self.up1 = Merge(3 * k, k)
        # Deblurring takes the neighbours; what is in a voxel, its features already know.
        self.heads = nn.ModuleDict()
        if intensity:
            self.heads['intensity'] = same_conv(k, BLOCK**3, 3)
        if classes and class_filters:
            self.heads['classes'] = ClassHead(k, class_filters, classes)
        elif classes:
            self.heads['classes'] = nn.Conv3d(k, classes * BLOCK**3, 1)
        self.detail: nn.Sequential | None = None
        if detail_filters:
            self.detail = nn.Sequential(
                same_conv(k + BLOCK**3, detail_filters, 3),
                nn.ReLU(inplace=True),
                same_conv(detail_filters, detail_filters, 3),
                nn.ReLU(inplace=True),
                same_conv(detail_filters, BLOCK**3, 3),
            )
            # So that a network that had no such path goes on from where it was.
            for parameter in self.detail[-1].parameters():
                nn.init.zeros_(parameter)

    def start_near_identity(self) -> None:
        """Shrink the last kernels: the intensity then is almost the input, all classes alike."""
        with torch.no_grad():
            for head in self.heads.values():
                last = head.classes if isinstance(head, ClassHead) else head
                for parameter in last.parameters():
                    parameter.mul_(0.01 if parameter.ndim > 1 else 0)

    def logits(self, x: Tensor) -> Tensor:
        """Everything but the softmax.

        Args:
            x: As for `forward`.

        Returns:
            (B, intensity + classes, X, Y, Z): the difference to the intensity of x, where that is
            predicted, and the logits of the classes.
        """
        blocks = voxels_to_channels(x)
        if not torch.onnx.is_in_onnx_export():
            # On CPUs this order of the memory makes the convolutions a fifth faster.
            blocks = blocks.contiguous(memory_format=torch.channels_last_3d)
        stem = self.stem(blocks)
        half = self.level1(stem)
        quarter = self.level2(self.down1(half))
        y = self.up2(self.level3(self.down2(quarter)), quarter)
        features = self.up1(y, half)
        outputs = []
        if self.intensity:
            # The long skip is a linear filter of the image: most of what deblurring takes.
            sharpened = self.heads['intensity'](features + stem)
            if self.detail is not None:
                both = torch.cat([blocks.to(features.dtype), features], dim=1)
                sharpened = sharpened + self.detail(both)
            outputs.append(channels_to_voxels(sharpened))
        if self.classes:
            head = self.heads['classes']
            if isinstance(head, ClassHead):
                outputs.append(head(features, x))
            else:
                outputs.append(channels_to_voxels(head(features)))
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]

    def maps(self, x: Tensor) -> list[Tensor]:
        """Super-resolve and segment, without putting the channels into one tensor.

        Args:
            x: As for `forward`.

        Returns:
            What `forward` joins, (B, C, X, Y, Z) each: the intensity; with classes also the
            probability of the second, and more than two of them all.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x, multiple=AXIS_MULTIPLE)
        # The levels halve the axes three times; what is lacking is repeated from the border.
        lacking = [-n % (4 * BLOCK) for n in x.shape[2:]]
        behind = [pad for n in reversed(lacking) for pad in (0, n)]
        padded = functional.pad(x, behind, mode='replicate')
        # Under autocast: a softmax in half precision is too coarse for a loss. Into this order of
        # the memory it would bring the channels itself, in a second copy.
        y = self.logits(padded).to(x.dtype, memory_format=torch.contiguous_format)
        y = y[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]
        outputs = [x + y[:, :1] if self.intensity else x]
        if self.classes:
            classes = torch.softmax(y[:, int(self.intensity) :], dim=1)
            outputs.append(classes[:, 1:2])
            if self.classes > 2:
                outputs.append(classes)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve and segment.

        Args:
            x: Interpolated, standardised image, (B, 1, X, Y, Z), through-plane axis last; every
                axis a multiple of 4.

        Returns:
            (B, C, X, Y, Z): channel 0 the intensity; with classes also channel 1, the probability
            of the second of them. More than two, which sum to one, all follow.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        return torch.cat(self.maps(x), dim=1)


class TissueUNetPair(nn.Module):
    """One tissue U-Net for the intensity, another for the classes, trained and used as one.

    Trained at once in a single one, the classes take its few features for themselves: the image
    gains half of what it gains when it is trained alone (docs/model-trials.md). Both share
    their input and nothing else, so each learns as its twin for a single task does.

    Args:
        base_filters: See `TissueUNet`; of either.
        classes: See there; two or more.
        detail_filters: See there.
        class_filters: See there.

    Raises:
        ModelError: If there are no filters or no classes.
    """

    block = BLOCK

    def __init__(
        self,
        base_filters: int = 16,
        classes: int = 8,
        detail_filters: int = 32,
        class_filters: int = 0,
    ) -> None:
        super().__init__()
        self.intensity = TissueUNet(base_filters, 0, detail_filters=detail_filters)
        self.tissues = TissueUNet(
            base_filters, classes, intensity=False, class_filters=class_filters
        )

    def start_near_identity(self) -> None:
        """Shrink the last kernels: the intensity then is almost the input, all classes alike."""
        self.intensity.start_near_identity()
        self.tissues.start_near_identity()

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve and segment.

        Args:
            x: See `TissueUNet.forward`.

        Returns:
            (B, C, X, Y, Z): see there.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        # The first channel of the tissues is the input handed through.
        return torch.cat([self.intensity(x), *self.tissues.maps(x)[1:]], dim=1)
