"""Unpack compressed batches up to a bound. `max.message.bytes` bounds what is sent, and zeros pack a thousand times and more.

aiokafka unpacks whatever comes, at twice its size in memory, so a batch of one megabyte can end every worker that gets it,
one after the other. Here the whole batch is one record that is set aside as it came, and its neighbours go on.
"""

import gzip
import io
import mmap
import struct
from typing import Any

import cramjam
from aiokafka import codec
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as fast_records

UNPACKED_BYTES = 128 * 1_048_576
"""Most bytes of a batch when it is unpacked: what any honest producer packs into a megabyte, several times."""

_XERIAL_HEADER = 16
"""Bytes before the first block of snappy as the Java library writes it; each block has its length before it."""


class TooLarge(Exception):
    """A batch unpacks to more than is taken."""


class Sealed(bytes):
    """A batch as it came, packed: the value of the one record that stands for all of its records."""

    __slots__ = ()


def bound() -> None:
    """Let every consumer of this process unpack so much and no more. A second time nothing happens."""
    for module in (default_records, fast_records):
        module.gzip_decode, module.zstd_decode, module.lz4_decode, module.snappy_decode = _gzip, _zstd, _lz4, _snappy


def _gzip(packed: Any) -> bytes:  # noqa: ANN401  (any buffer)
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        found = file.read(UNPACKED_BYTES + 1)
    if len(found) > UNPACKED_BYTES:
        raise TooLarge
    return found


def _zstd(packed: Any) -> bytes:  # noqa: ANN401
    return _into(cramjam.zstd, packed)


def _lz4(packed: Any) -> bytes:  # noqa: ANN401
    return _into(cramjam.lz4, packed)


def _into(way: Any, packed: Any) -> bytes:  # noqa: ANN401
    # Memory that is not touched costs nothing, so the bound is reserved and what is needed is used.
    with mmap.mmap(-1, UNPACKED_BYTES) as room:
        try:
            length = way.decompress_into(packed, room)
        except cramjam.DecompressionError as error:
            if "whole buffer" in str(error):
                raise TooLarge from error
            raise
        return room[:length]


def _snappy(packed: bytes) -> bytes:
    length = 0
    if codec._detect_xerial_stream(packed):
        at = _XERIAL_HEADER
        while at < len(packed):
            (size,) = struct.unpack_from("!i", packed, at)
            length += cramjam.snappy.decompress_raw_len(packed[at + 4 : at + 4 + size])
            at += 4 + size
    else:
        length = cramjam.snappy.decompress_raw_len(packed)
    if length > UNPACKED_BYTES:
        raise TooLarge
    return bytes(codec.snappy_decode(packed))
