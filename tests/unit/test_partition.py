"""A patient's partition is the one that Kafka's own clients would choose."""

from __future__ import annotations

import doctest

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from ingest import partition


@given(st.binary(max_size=64))
def test_a_key_is_hashed_as_by_a_client_of_kafka(key: bytes) -> None:
    assert partition.murmur2(key) == murmur2(key)


@given(st.integers(min_value=0, max_value=1 << 62), st.integers(min_value=1, max_value=100))
def test_a_patient_has_a_partition(patient: int, partitions: int) -> None:
    assert partition.partition_of(patient, partitions) == (murmur2(b"%d" % patient) & 0x7FFFFFFF) % partitions


def test_the_example_holds() -> None:
    assert doctest.testmod(partition).failed == 0
