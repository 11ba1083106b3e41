"""The metric losses, for strategies and notebooks: `from streamlab.strategies.losses import icnn_loss`.

They are the kernel's (streamlab.parts.metric_losses), where its diagnostics use them too.
"""

from streamlab.parts.metric_losses import (
    VARIANTS,
    MetricTerms,
    Variant,
    icnn_loss,
    icnn_score,
    icnn_score_of,
    proto_triplet_loss,
    prototypes_of,
)

__all__ = [
    "VARIANTS",
    "MetricTerms",
    "Variant",
    "icnn_loss",
    "icnn_score",
    "icnn_score_of",
    "proto_triplet_loss",
    "prototypes_of",
]
