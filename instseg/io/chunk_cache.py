"""A cache of decoded chunks, for images whose parts are read more than once.

Of Zarr's own stores only the experimental `CacheStore` does that. It keeps nothing of a file of one large chunk, which
would then be decoded as a whole for each of its parts.
"""

from collections import OrderedDict

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore


class ChunkCache(WrapperStore[Store]):
    """A Zarr store that keeps the values that were read last.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Read only, and of values whose parts are never asked for.
    max_bytes : int
        Most bytes that are kept; the value that was read last is kept whatever its size.
    """

    def __init__(self, store: Store, max_bytes: int) -> None:
        super().__init__(store)
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, Buffer] = OrderedDict()
        self._bytes = 0

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the value of a key, None where there is none."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = await self._store.get(key, prototype, byte_range)
        # Another reader may have read the same value in the meantime.
        if value is not None and key not in self._values:
            self._values[key] = value
            self._bytes += len(value)
            while self._bytes > self._max_bytes and len(self._values) > 1:
                self._bytes -= len(self._values.popitem(last=False)[1])
        return value
