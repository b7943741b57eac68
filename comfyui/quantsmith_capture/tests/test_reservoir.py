import pytest

from quantsmith_capture.reservoir import Reservoir


def sample(capacity, counts, seed=0):
    reservoir, kept, at = Reservoir(capacity, seed), {}, 0
    for count in counts:
        for slot, row in reservoir.take(count).items():
            assert 0 <= row < count and 0 <= slot < capacity
            kept[slot] = at + row
        at += count
    return [kept[slot] for slot in range(min(capacity, at))]


def test_take_keeps_everything_while_there_is_room():
    assert sample(8, [3, 4]) == list(range(7))
    assert sample(8, [8]) == list(range(8))


def test_take_keeps_different_rows_spread_over_the_whole_stream():
    kept = sample(1000, [512] * 200)
    assert len(set(kept)) == 1000
    # Each tenth of 102,400 rows has 100 of 1,000 in the mean, deviation 9.5.
    tenths = [sum(1 for row in kept if row * 10 // (512 * 200) == k) for k in range(10)]
    assert all(60 < count < 140 for count in tenths), tenths


def test_take_gives_every_row_the_same_chance():
    hits = [0] * 20
    for seed in range(4000):
        for row in sample(5, [7, 7, 6], seed):
            hits[row] += 1
    # 1,000 each, deviation 27.
    assert all(870 < count < 1130 for count in hits), hits


def test_take_chooses_the_same_rows_for_the_same_stream():
    assert sample(16, [100, 50, 50]) == sample(16, [100, 50, 50])
    assert sample(16, [100, 100]) != sample(16, [100, 100], seed=1)


def test_restore_goes_on_as_if_never_stopped():
    whole, first = Reservoir(32), Reservoir(32)
    for count in (20, 300):
        whole.take(count), first.take(count)
    again = Reservoir(32)
    again.restore(first.state())
    assert again.take(5000) == whole.take(5000)


def test_a_reservoir_without_room_is_refused():
    with pytest.raises(ValueError, match="at least one slot"):
        Reservoir(0)
