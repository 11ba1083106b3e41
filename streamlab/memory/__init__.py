"""What a strategy holds: buffers of exemplars, the ledger in bytes, and state that travels."""

from .buffer import BalancedBuffer, Buffer, ReservoirBuffer

__all__ = ["BalancedBuffer", "Buffer", "ReservoirBuffer"]
