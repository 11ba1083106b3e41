"""A classifier that is fixed beforehand: rows of length 1 that lie as far from one another as they can."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import StreamlabError


def equiangular_frame(classes: int, size: int) -> Tensor:
    """(classes, size): rows of length 1, any two of which have the cosine -1 / (classes - 1).

    A simplex equiangular tight frame, turned as a matrix says that is drawn from torch's global generator.
    Source: Papyan et al., PNAS 2020, as Yang et al. (ICLR 2023, eq. 1) fix it. Raises StreamlabError for
    fewer than two classes, or more than there are dimensions.
    """
    if not 2 <= classes <= size:
        raise StreamlabError(f"an equiangular frame of {classes} classes does not fit in {size} dimensions")
    directions = torch.linalg.qr(torch.rand(size, classes, dtype=torch.float64)).Q.T
    centred: Tensor = (directions - directions.mean(0)) * (classes / (classes - 1)) ** 0.5
    return centred.to(torch.get_default_dtype())


def dot_regression_loss(cosines: Tensor, weights: Tensor | None = None) -> Tensor:
    """(B,) cosines of features to the rows of their labels -> half the mean of weight · (cosine - 1)².

    weights: (B,), by default 1. A scalar. Source: Yang et al., ICLR 2023, eq. 9 (lengths are 1).
    """
    squares = (cosines - 1).square()
    return 0.5 * (squares if weights is None else weights * squares).mean()
