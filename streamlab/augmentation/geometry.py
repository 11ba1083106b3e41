"""Images moved, cut and resized: a whole batch in one call, each image by numbers of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[float, float]


def cropped(images: Tensor, padding: int, size: Sequence[int], uniforms: Tensor) -> Tensor:
    """A part of the image in a border of zeros, of this (H, W), or with none given of the image's own."""
    count, channels = images.shape[:2]
    height, width = size or images.shape[2:]
    bordered = F.pad(images, (padding,) * 4)
    high, wide = bordered.shape[2:]
    first = [
        (uniforms[:, n : n + 1] * (room + 1)).long() for n, room in enumerate((high - height, wide - width))
    ]
    rows = first[0] + torch.arange(height, device=images.device)
    columns = first[1] + torch.arange(width, device=images.device)
    places = (rows[:, :, None] * wide + columns[:, None, :]).flatten(1)
    taken = bordered.flatten(2).gather(2, places[:, None].expand(-1, channels, -1))
    return taken.view(count, channels, height, width)


def resized_crop_box(scale: Range, ratio: Range, size: Sequence[int], uniforms: Tensor) -> Tensor:
    """(n, 40) uniforms -> (n, 4) int64 top, left, height, width, as torchvision's RandomResizedCrop draws.

    Of ten tries the first that fits into `size`; where none does, the largest part in the middle whose
    ratio is allowed.
    """
    height, width = size
    boxes, fits = _tried(scale, ratio, size, uniforms)
    drawn = _first(boxes, fits & (boxes[..., 2] <= height) & (boxes[..., 3] <= width))
    middle = torch.tensor(_middle(ratio, height, width), device=uniforms.device)
    return torch.where((drawn[:, 2] > 0)[:, None], drawn, middle)


def erasing_box(scale: Range, ratio: Range, size: Sequence[int], uniforms: Tensor) -> Tensor:
    """(n, 40) uniforms -> (n, 4) int64 top, left, height, width, as torchvision's RandomErasing draws.

    Of ten tries the first that is smaller than `size` on both sides; where none is, of height 0.
    """
    height, width = size
    boxes, fits = _tried(scale, (1 / ratio[1], 1 / ratio[0]), size, uniforms)
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


def _middle(ratio: Range, height: int, width: int) -> list[int]:
    """Top, left, height, width of the largest part in the middle whose ratio is allowed."""
    least, most = ratio
    high, wide = height, width
    if width / height < least:
        high = round(width / least)
    elif width / height > most:
        wide = round(height * most)
    return [(height - high) // 2, (width - wide) // 2, high, wide]


def resized(images: Tensor, boxes: Tensor, side: int = 0) -> Tensor:
    """(n, C, H, W) uint8, (n, 4) top, left, height, width -> each box brought to `side` x `side` (0: H x W),
    bilinearly with antialias, to within one level as torchvision's resized_crop of a tensor.

    Pixels outside a box have no say, as where the box is cut out first. On a CPU image by image, by torch's
    kernel for 8 bits, several times as fast as anything batched there; else by two matrices.
    """
    size = (side, side) if side else (images.shape[2], images.shape[3])
    if images.device.type == "cpu":
        return parts_resized(images.contiguous(memory_format=torch.channels_last), boxes.tolist(), size)
    return resized_by_matrices(images, boxes, size)


def resized_by_matrices(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The same, all images in one: each box is multiplied by what a pixel has of each row and column."""
    top, left, high, wide = boxes.unbind(1)
    rows = _shares(top, high, images.shape[2], size[0])
    columns = _shares(left, wide, images.shape[3], size[1])
    made = rows[:, None] @ images.float() @ columns[:, None].mT
    return made.round_().clamp_(0, 255).to(torch.uint8)


def _shares(first: Tensor, count: Tensor, whole: int, size: int) -> Tensor:
    """(n,) first pixel and number of pixels of a part of `whole` -> (n, size, whole) what each has of each of
    the `size` that the part is brought to: a triangle, as wide as a pixel of what is larger.
    """
    step = (count / size)[:, None, None]
    places = torch.arange(whole, device=first.device) - first[:, None, None]
    middles = (torch.arange(size, device=first.device)[:, None] + 0.5) * step
    heights = 1 - (places + 0.5 - middles).abs() / step.clamp(min=1)
    inside = (places >= 0) & (places < count[:, None, None])
    heights = heights.clamp(min=0) * inside
    return heights / heights.sum(2, keepdim=True)


def parts_resized(
    pictures: Sequence[Tensor] | Tensor, boxes: Sequence[Sequence[int]], size: tuple[int, int]
) -> Tensor:
    """The box of each picture (C, H, W) on the host, whatever its shape -> (n, C, H', W'), with antialias."""
    made = []
    for picture, (top, left, high, wide) in zip(pictures, boxes, strict=True):
        part = picture[None, :, top : top + high, left : left + wide]
        made.append(brought(part, size, "bilinear"))
    return torch.cat(made)


def erased(images: Tensor, boxes: Tensor, level: int) -> Tensor:
    """Each image's box, (n, 4) top, left, height, width, in one level."""
    top, left, tall, wide = boxes[:, :, None].unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    high, broad = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return images.masked_fill((high[:, :, None] & broad[:, None, :])[:, None], level)


def cut_out(images: Tensor, half: int, uniforms: Tensor) -> Tensor:
    """A square of twice `half` pixels a side in black, around the pixel that (n, 2) uniforms name."""
    size = uniforms.new_tensor(images.shape[2:])
    middle = (uniforms * size).long()
    first = (middle - half).clamp(min=0)
    last = torch.minimum(middle + half, size.long())
    return erased(images, torch.cat([first, last - first], 1), 0)


def brought(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """(n, C, H, W) uint8 -> the same of this (H, W), with antialias, as torchvision's resize of a tensor."""
    if images.device.type == "cpu" and interpolation == "bilinear":
        return F.interpolate(images, size, mode=interpolation, antialias=True)
    made = F.interpolate(images.float(), size, mode=interpolation, antialias=True)
    return made.round_().clamp_(0, 255).to(torch.uint8)


def resized_parts(
    pictures: Sequence[Tensor], scale: Range, ratio: Range, uniforms: Tensor, size: tuple[int, int]
) -> Tensor:
    """A part of each picture (C, H, W), which all differ in size, brought to one -> (n, C, H', W') uint8."""
    boxes = [
        resized_crop_box(scale, ratio, picture.shape[1:], drawn[None])[0].tolist()
        for picture, drawn in zip(pictures, uniforms, strict=True)
    ]
    return parts_resized(pictures, boxes, size)


def inverse_maps(angles: Tensor, slants: Tensor, sizes: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(n, 2, 3): where in an image, in pixels from its middle, each pixel of the moved one comes from.

    The move is a slant of x by y, a turn (radians, clockwise), a size and a shift, all (n,).
    """
    cosine, sine, tangent = angles.cos(), angles.sin(), slants.tan()
    of_x = torch.stack([cosine - tangent * sine, sine + tangent * cosine], 1) / sizes[:, None]
    of_y = torch.stack([-sine, cosine], 1) / sizes[:, None]
    linear = torch.stack([of_x, of_y], 1)
    shift = -(linear @ torch.stack([across, down], 1)[:, :, None])
    return torch.cat([linear, shift], 2)


def warped(images: Tensor, maps: Tensor, interpolation: str) -> Tensor:
    """(n, C, H, W) uint8 looked up at (n, 2, 3) maps of pixels from the middle; outside it is black."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    places = torch.stack(
        [
            columns.expand(height, -1),
            rows[:, None].expand(-1, width),
            torch.ones(height, width, device=rows.device),
        ],
        2,
    ).view(-1, 3)
    half = torch.tensor([width / 2, height / 2], device=images.device)
    grid = (places @ maps.transpose(1, 2) / half).view(-1, height, width, 2)
    made = F.grid_sample(images.float(), grid, mode=interpolation, align_corners=False)
    return made.round_().to(torch.uint8)
