"""Batches are unpacked up to a bound, and below it as ever."""

import pytest
from aiokafka import codec
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as fast_records
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from shared.chassis import unpacking

CODES = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (default_records, fast_records):
        for name in CODES:
            monkeypatch.setattr(module, f"{name}_decode", getattr(codec, f"{name}_decode"))
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 1_048_576)
    unpacking.bound()
    return


def _batch(code: int, size: int) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, code, 0, -1, -1, -1, 2**30)
    builder.append(0, timestamp=1, key=b"k", value=bytes(range(256)) * (size // 256), headers=[])
    return bytes(builder.build())


def _values(data: bytes, *, fast: bool) -> list[bytes | None]:
    batch = MemoryRecords(data).next_batch() if fast else _DefaultRecordBatchPy(data)
    assert batch is not None
    return [record.value for record in batch]


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_a_batch_is_unpacked_up_to_the_bound(code: int, *, fast: bool) -> None:
    (value,) = _values(_batch(code, 1_000_192), fast=fast)
    assert value == bytes(range(256)) * (1_000_192 // 256)
    with pytest.raises(unpacking.TooLarge):
        _values(_batch(code, 1_100_032), fast=fast)


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_as_it_comes_there_is_no_bound(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CODES:
        monkeypatch.setattr(fast_records, f"{name}_decode", getattr(codec, f"{name}_decode"))
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 1_048_576)
    assert len(_values(_batch(code, 1_100_032), fast=True)) == 1
