"""What a strategy holds: buffers of exemplars, the ledger in bytes, and state that travels."""

from .buffer import Buffer
from .policies import BalancedBuffer, GreedyBuffer, HerdedBuffer, ReservoirBuffer

__all__ = ["BalancedBuffer", "Buffer", "GreedyBuffer", "HerdedBuffer", "ReservoirBuffer"]
