"""Views of training images: each image augmented by draws of its own, in batched operations on its device.

A draw is a hash of a name and of the sample's serial number among all that were served under it, in
integer arithmetic: the same on every device, whatever was served beside it, and after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .pipelines import Crop, Erasing, Flip, Grey, Jitter, Operation, ResizedCrop
from .randomness import hashed, key

_LUMINANCE = (0.2989, 0.587, 0.114)  # ITU-R 601, in torchvision's digits


class Views:
    """Serves images under a pipeline, and counts how many it has served: the next ones' serial numbers.

    seed, path: name the draws. No operations: images come back as they are.
    """

    def __init__(self, operations: Sequence[Operation], seed: int, *path: str | int) -> None:
        self.operations, self.name, self.served = tuple(operations), key(seed, *path), 0

    def of(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> the same, a new view of each."""
        first, self.served = self.served, self.served + len(images)
        return view(images, self.operations, self.name, first)


def view(images: Tensor, operations: Sequence[Operation], name: int, first: int) -> Tensor:
    """(n, C, H, W) uint8 -> the same under the operations; name: of the draws; first: serial number of the
    first image, whose successors have the next ones.
    """
    columns = sum(operation.draws for operation in operations)
    if not columns or not len(images):
        return images
    counters = torch.arange(first * columns, (first + len(images)) * columns, device=images.device)
    numbers = hashed(name, counters).view(len(images), columns)
    uniforms = (numbers >> 39).float() * 2.0**-24  # in [0, 1), exactly
    begin = 0
    for operation in operations:
        images = _applied(images, operation, uniforms[:, begin : begin + operation.draws])
        begin += operation.draws
    return images


def _applied(images: Tensor, operation: Operation, uniforms: Tensor) -> Tensor:
    if isinstance(operation, Crop):
        return _crop(images, operation.padding, uniforms)
    if isinstance(operation, Flip):
        turned = uniforms[:, 0] < operation.chance
        return torch.where(turned[:, None, None, None], images.flip(3), images)
    if isinstance(operation, ResizedCrop):
        return resized(images, resized_crop_box(operation, images.shape[2:], uniforms))
    if isinstance(operation, Grey):
        return torch.where((uniforms[:, 0] < operation.chance)[:, None, None, None], _grey(images), images)
    if isinstance(operation, Erasing):
        return _erased(images, operation, uniforms)
    return _jitter(images, operation, uniforms)


def _crop(images: Tensor, padding: int, uniforms: Tensor) -> Tensor:
    """Pixels from a border of zeros and the image, both sides moved by 0 to 2 * padding."""
    height, width = images.shape[2:]
    bordered = F.pad(images, (padding,) * 4)
    moves = (uniforms * (2 * padding + 1)).long()
    rows = moves[:, :1] + torch.arange(height, device=images.device)
    columns = moves[:, 1:] + torch.arange(width, device=images.device)
    places = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).flatten(1)
    taken = bordered.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1))
    return taken.view_as(images)


def resized_crop_box(operation: ResizedCrop, size: Sequence[int], uniforms: Tensor) -> Tensor:
    """(n, 40) uniforms -> (n, 4) int64 top, left, height, width, as torchvision's RandomResizedCrop draws.

    Of ten tries the first that fits into `size`; where none does, the largest part in the middle whose
    ratio is allowed.
    """
    height, width = size
    boxes, fits = _tried(operation.scale, operation.ratio, size, uniforms)
    drawn = _first(boxes, fits & (boxes[..., 2] <= height) & (boxes[..., 3] <= width))
    middle = torch.tensor(_middle(operation, height, width), device=uniforms.device)
    return torch.where((drawn[:, 2] > 0)[:, None], drawn, middle)


def erasing_box(operation: Erasing, size: Sequence[int], uniforms: Tensor) -> Tensor:
    """(n, 40) uniforms -> (n, 4) int64 top, left, height, width, as torchvision's RandomErasing draws.

    Of ten tries the first that is smaller than `size` on both sides; where none is, of height 0.
    """
    height, width = size
    boxes, fits = _tried(operation.scale, (1 / operation.ratio[1], 1 / operation.ratio[0]), size, uniforms)
    return _first(boxes, fits & (boxes[..., 2] < height) & (boxes[..., 3] < width))


def _tried(
    scale: tuple[float, float], ratio: tuple[float, float], size: Sequence[int], uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Ten boxes (n, 10, 4) of uniform shares of the area and log-uniform ratios of width to height, each
    anywhere where it fits; and which have an extent (n, 10).
    """
    height, width = size
    tries = uniforms.view(-1, 10, 4)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * tries[..., 0])
    low, high = (math.log(bound) for bound in ratio)
    ratios = torch.exp(low + (high - low) * tries[..., 1])
    wide, tall = (area * ratios).sqrt().round().long(), (area / ratios).sqrt().round().long()
    top = (tries[..., 2] * (height - tall + 1)).long()
    left = (tries[..., 3] * (width - wide + 1)).long()
    return torch.stack([top, left, tall, wide], 2), (wide > 0) & (tall > 0)


def _first(boxes: Tensor, fits: Tensor) -> Tensor:
    """(n, 4) the first box of each that fits; zeros where none does."""
    chosen = fits.long().argmax(1)[:, None, None].expand(-1, 1, 4)
    return boxes.gather(1, chosen)[:, 0] * fits.any(1, keepdim=True)


def _middle(operation: ResizedCrop, height: int, width: int) -> list[int]:
    """Top, left, height, width of the largest part in the middle whose ratio is allowed."""
    least, most = operation.ratio
    high, wide = height, width
    if width / height < least:
        high = round(width / least)
    elif width / height > most:
        wide = round(height * most)
    return [(height - high) // 2, (width - wide) // 2, high, wide]


def resized(images: Tensor, boxes: Tensor) -> Tensor:
    """(n, C, H, W) uint8, (n, 4) top, left, height, width -> each box brought to (H, W), bilinearly.

    Pixels outside a box have no say, as where the box is cut out first.
    """
    height, width = images.shape[2:]

    def places(first: Tensor, count: Tensor, size: int) -> Tensor:
        at = (torch.arange(size, device=images.device) + 0.5) * (count / size)[:, None] - 0.5
        inside = torch.minimum(at.clamp(min=0), (count - 1)[:, None].float()) + first[:, None]
        return (2 * inside + 1) / size - 1

    top, left, high, wide = boxes.unbind(1)
    rows, columns = places(top, high, height), places(left, wide, width)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], 3
    )
    return F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False).round_().to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Luminance in every channel, in whole levels."""
    weights = torch.tensor(_LUMINANCE, device=images.device)[:, None, None]
    return (images.float() * weights).sum(1, keepdim=True).to(torch.uint8).expand_as(images)


def _erased(images: Tensor, operation: Erasing, uniforms: Tensor) -> Tensor:
    """The box of some images in one level."""
    top, left, tall, wide = erasing_box(operation, images.shape[2:], uniforms[:, 1:])[:, :, None].unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    high, broad = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    inside = high[:, :, None] & broad[:, None, :] & (uniforms[:, 0] < operation.chance)[:, None, None]
    return images.masked_fill(inside[:, None], operation.level)


def _jitter(images: Tensor, operation: Jitter, uniforms: Tensor) -> Tensor:
    """Each change in a drawn order, in whole levels after each, as torchvision's on uint8 images."""
    amounts = {name: amount for name, amount in vars(operation).items() if amount}
    order = uniforms[:, 4 : 4 + len(amounts)].argsort(1)
    for place in range(len(amounts)):
        changed = images
        for number, (name, amount) in enumerate(amounts.items()):
            least, most = (-amount, amount) if name == "hue" else (max(0.0, 1 - amount), 1 + amount)
            factors = least + (most - least) * uniforms[:, number]
            made = turned(images, factors) if name == "hue" else blended(images, name, factors)
            here = (order[:, place] == number)[:, None, None, None]
            changed = made if len(amounts) == 1 else torch.where(here, made, changed)
        images = changed
    return images


def blended(images: Tensor, change: str, factors: Tensor) -> Tensor:
    """(n, C, H, W) uint8, (n,) factors -> the images' brightness, contrast or saturation times its factor.

    A mix of the image and black, its mean luminance, or its greys, cut to whole levels.
    """
    pixels = images.float()
    if change == "brightness":
        other = torch.zeros((), device=images.device)
    else:
        grey = _grey(images)[:, :1] if images.shape[1] == 3 else images
        other = grey.float()
        if change == "contrast":
            other = other.mean((1, 2, 3), keepdim=True)
    scale = factors[:, None, None, None]
    return (scale * pixels + (1 - scale) * other).clamp_(0, 255).to(torch.uint8)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """(n, 3, H, W) uint8, (n,) shares of the circle -> the images with their hue turned, by way of HSV."""
    pixels = images.float() / 255
    value, least = pixels.amax(1), pixels.amin(1)
    span = value - least
    some = torch.where(span > 0, span, 1.0)
    red, green, blue = ((value[:, None] - pixels) / some[:, None]).unbind(1)
    is_red, is_green = pixels[:, 0] == value, pixels[:, 1] == value
    sector = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red))
    hue = (sector / 6 + turns[:, None, None]) % 1 * 6
    saturation = torch.where(span > 0, span / torch.where(span > 0, value, 1.0), 0.0)

    def channel(shift: int) -> Tensor:
        """Full within a third of the circle around its own hue, nothing opposite, lines between."""
        place = (shift + hue) % 6
        return value * (1 - saturation * torch.minimum(place, 4 - place).clamp(0, 1))

    made = torch.stack([channel(5), channel(3), channel(1)], 1)
    return (made * 255.999).to(torch.uint8)
