"""Read records whose header names are no text.

Kafka says that a header's name is UTF-8 and does not look. aiokafka decodes names while it unpacks a batch, and one that
is none would stop the partition for good. Here such a batch is unpacked once more, slower, and the name is kept: a byte
that is no text becomes a lone surrogate (PEP 383), by which the record is known and set aside like any other bad one.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords

from shared.chassis.unpacking import Sealed, TooLarge

_LENGTH_AT = 8
"""Where a batch tells its length, and so many bytes later what is counted begins."""


def read_every_name() -> None:
    """Let every consumer of this process read such records. A second time nothing happens."""
    fetcher.MemoryRecords = _Records


class _Records:
    """Stands for aiokafka's records of one fetch and remembers the bytes of each batch."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._fast: Any = MemoryRecords(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        return int(self._fast.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._fast.has_next())

    def next_batch(self) -> "_Batch":
        first = self._at
        (length,) = struct.unpack_from(">i", self._data, first + _LENGTH_AT)
        self._at = first + _LENGTH_AT + 4 + length
        return _Batch(self._fast.next_batch(), self._data[first : self._at])


class _Batch:
    """One batch; all but the walk over its records is aiokafka's."""

    def __init__(self, fast: Any, data: memoryview) -> None:  # noqa: ANN401  (aiokafka ships no types)
        self._fast = fast
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._fast, name)

    def __next__(self) -> Any:  # noqa: ANN401
        return next(self._fast)

    def __iter__(self) -> Iterator[Any]:
        given = 0
        try:
            for record in self._fast:
                given += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_Slow(self._data), given, None)
        except TooLarge:
            yield self._sealed()

    def _sealed(self) -> _DefaultRecordPy:
        # At the last offset: whoever stands within the batch must not miss it.
        return _DefaultRecordPy(self._fast.next_offset - 1, self._fast.max_timestamp, self._fast.timestamp_type, None, Sealed(self._data), [])


class _Slow(_DefaultRecordBatchPy):
    """aiokafka's own unpacking in plain Python, which any name passes."""

    def __iter__(self) -> "_Slow":
        super().__iter__()
        self._buffer: bytearray = _Bytes(self._buffer)
        return self


class _Bytes(bytearray):
    """Bytes that can always be decoded, and so can every part of them."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401
        found = super().__getitem__(index)
        return found if isinstance(found, int) else _Bytes(found)

    def decode(self, *_: str) -> str:
        return super().decode("utf-8", "surrogateescape")
