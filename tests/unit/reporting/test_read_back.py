from services.reporting.publication.read_back import _told


def test_what_no_publisher_of_ours_has_written_is_nobodys_cell() -> None:
    # A tombstone, bytes, JSON of another kind: whoever wrote them, a publisher that dies of them would die again after each restart.
    assert [_told(value) for value in (None, b"\xff", b"{}", b"7")] == [None] * 4
