"""The loop that everything goes through: who is asked again, who fails, when there is no hope. No test waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence

import pytest

import main
from main import DeniedError, LostError, OutsideError, Patience, Refusal, Round, ThrottledError, Work

LOST, DENIED, THROTTLED = LostError("lost"), DeniedError("denied", "Forbidden.RAM"), ThrottledError("wait", "", 17.0)
REFUSED = OutsideError("no", "Strange")


class Clock:
    """A clock that only the loop's own pauses, and tests, move."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "monotonic", clock.now)
    return clock


def work_off(work: Work[int, str], count: int = 100, size: int = 10) -> Round[int, str]:
    return main.work_off(range(count), work, size, Patience())


def answer(batch: Iterable[int]) -> dict[int, str]:
    return dict.fromkeys(batch, "done")


class Log:
    """Work that notes its batches, and fails those that contain `bad`."""

    def __init__(self, bad: int, error: OutsideError, whole_batch: bool) -> None:
        self.bad, self.error, self.whole_batch = bad, error, whole_batch
        self.batches: list[list[int]] = []

    def __call__(self, batch: list[int]) -> Round[int, str]:
        self.batches.append(list(batch))
        if self.bad in batch and self.whole_batch:
            raise self.error
        again = {self.bad: self.error} if self.bad in batch else {}
        return Round(answer(item for item in batch if item != self.bad), again=again)


def test_every_item_gets_an_answer_in_batches() -> None:
    log = Log(-1, LOST, False)
    assert work_off(log, 25) == Round(answer(range(25)))
    assert [len(batch) for batch in log.batches] == [10, 10, 5]


@pytest.mark.parametrize("error", [LOST, DENIED], ids=["lost", "denied"])
def test_item_whose_call_fails_goes_to_the_end_and_fails_if_only_it_is_left_for_a_minute(
    clock: Clock, error: OutsideError
) -> None:
    began, log = clock.seconds, Log(3, error, False)
    result = work_off(log)
    assert result.failed == {3: error}
    assert len(result.answers) == 99
    assert [batch for batch in log.batches[:11] if 3 in batch] == [list(range(10)), [3]]
    assert clock.seconds - began < 66


@pytest.mark.parametrize("error", [LOST, DENIED, REFUSED, KeyError(1)], ids=["lost", "denied", "refused", "unexpected"])
def test_item_that_fails_its_whole_batch_is_found_and_holds_up_nobody(error: OutsideError) -> None:
    log = Log(500, error, True)
    result = work_off(log, 1000, 99)
    assert result.failed.keys() == {500}
    assert str(error) in str(result.failed[500])
    assert len(result.answers) == 999
    assert len(log.batches) < 80


def test_batch_after_a_failed_one_is_a_quarter_and_after_an_answered_one_four_times_as_large() -> None:
    log = Log(5, LOST, True)
    work_off(log, 200, 64)
    assert [len(batch) for batch in log.batches[:10]] == [64, 16, 4, 16, 4, 1, 4, 1, 1, 4]


def test_throttled_call_for_a_whole_batch_blames_nobody_and_keeps_its_size(clock: Clock) -> None:
    sizes: list[int] = []

    def work(batch: list[int]) -> Round[int, str]:
        sizes.append(len(batch))
        if len(sizes) < 10:
            raise THROTTLED
        return Round(answer(batch))

    assert work_off(work, 10) == Round(answer(range(10)))
    assert sizes == [10] * 10
    assert clock.pauses == [17.0] * 9


def test_what_was_done_before_there_was_no_hope_is_in_the_result() -> None:
    """An image that was deleted while another call failed is confirmed, and its snapshot swept."""
    made: list[list[int]] = []

    def work(batch: list[int]) -> Round[int, str]:
        made.append(batch)
        if len(made) > 3:
            raise LOST
        return Round(answer(batch[1:]), {batch[0]: REFUSED})

    result = work_off(work)
    assert len(result.answers) == 27
    assert list(result.failed.values()) == [REFUSED] * 3 + [LOST] * 70
    assert result.hopeless is LOST


def test_what_a_batch_has_settled_stays_although_a_call_for_the_rest_failed() -> None:
    """The rest is tried in smaller batches, until the one to blame is alone."""
    sizes = []

    def work(batch: list[int]) -> Round[int, str]:
        even = [item for item in batch if item % 2 == 0]
        odd = [item for item in batch if item % 2]
        sizes.append(len(odd))
        return Round(answer(even), hopeless=REFUSED) if 7 in odd else Round(answer(batch))

    assert work_off(work, 10) == Round(answer(item for item in range(10) if item != 7), {7: REFUSED})
    assert sizes[:2] == [5, 1]


Step = tuple[bool, Sequence[OutsideError], float]  # whether there was an answer, errors, seconds
hanging = LostError("hangs", seconds=40.0)
lost, throttled, denied = (False, [LOST], 20.0), (False, [THROTTLED], 43.0), (False, [DENIED], 9.0)
answered, late = (True, [LOST], 0.0), (True, [hanging] * 4, 40.0)
busy: Step = (True, [], 3600.0)
GIVEN_UP: dict[str, list[Step]] = {
    "three rounds and a minute without an answer": [lost] * 3,
    "a quarter of an hour of throttling": [throttled] * 16,
    "lost rounds and throttled ones are counted apart": [*[throttled] * 14, *[lost] * 3],
    "an answer starts both counts again": [*[throttled] * 14, *[lost] * 2, answered, *[throttled] * 14, *[lost] * 3],
    "a denial does not count, and ends nothing": [*[denied] * 50, lost, lost, denied, lost],
    "calls side by side hang for five minutes": [late] * 8,
    "and for half of the time": [*[late] * 7, (True, [], 400.0), *[late] * 3],
}


@pytest.mark.parametrize("steps", GIVEN_UP.values(), ids=GIVEN_UP)
def test_there_is_no_hope_after_the_last_of_these_rounds(clock: Clock, steps: list[Step]) -> None:
    patience = Patience()
    hope = []
    for step in steps:
        clock.seconds += step[2]
        hope.append(patience.wait(*step))
    assert hope == [True] * (len(steps) - 1) + [False]


def test_rounds_without_answer_or_error_and_fast_ones_are_given_up_after_a_minute(clock: Clock) -> None:
    began = clock.seconds
    result = work_off(lambda _: Round())
    assert str(result.hopeless).startswith(f"no answer was younger than {main.LOOK_SECONDS} seconds")
    assert 60 <= clock.seconds - began < 66


def test_calls_that_hang_now_and_then_cost_nothing(clock: Clock) -> None:
    """Eight of them in as many hours must not give up a region that answered thousands."""
    patience = Patience()
    for _ in range(20):
        for step in (busy, (False, [hanging], 40.0), answered):
            clock.seconds += step[2]
            assert patience.wait(*step)


def test_without_hope_each_later_step_has_one_round_until_there_is_an_answer() -> None:
    patience, made = Patience(), []

    def fail(batch: list[int]) -> Round[int, str]:
        made.append(batch)
        raise LOST

    assert main.work_off(range(9), fail, 9, patience).failed.keys() == set(range(9))
    rounds = len(made)
    for _ in range(3):
        main.work_off(range(9), fail, 9, patience)
        with pytest.raises(LostError):
            main.insist(lambda: fail([]), patience)
    assert len(made) == rounds + 6
    main.insist(lambda: "answer", patience)
    main.work_off(range(9), fail, 9, patience)
    assert len(made) > rounds + 10


def test_with_an_answer_only_throttling_waits(clock: Clock) -> None:
    for errors in ([], [LOST], [LOST, THROTTLED]):
        Patience().wait(True, errors, 0)
    assert clock.pauses == [17.0]


def test_call_after_call_that_is_throttled_once_goes_on() -> None:
    patience, made = Patience(), []

    def call() -> int:
        made.append(1)
        if len(made) % 2:
            raise THROTTLED
        return len(made)

    assert [main.insist(call, patience) for _ in range(200)] == list(range(2, 402, 2))


def test_pause_of_lost_rounds_doubles_with_jitter_up_to_five_seconds(clock: Clock) -> None:
    for _ in range(100):
        patience = Patience()
        for _ in range(8):
            assert patience.wait(False, [LOST], 0)
    for number, most in enumerate([0.5, 1, 2, 4, 5, 5, 5, 5]):
        assert most / 2 <= min(clock.pauses[number::8]) < max(clock.pauses[number::8]) <= most


@pytest.mark.parametrize("error", [THROTTLED, LOST, DENIED], ids=["throttled", "lost", "denied"])
def test_round_ends_early_if_the_others_would_meet_the_same(error: OutsideError) -> None:
    made: list[int] = []

    def fail(item: int) -> str:
        made.append(item)
        raise error

    result = main.try_each(fail, 4, list(range(1000)))
    assert result.hopeless is error
    assert 1 <= len(made) <= 5
    assert result.again == dict.fromkeys(made, error)


def test_refusal_ends_everything_at_once_although_other_calls_hang() -> None:
    """It is the only error that does: not even what was begun is waited for."""
    ended = threading.Event()

    def call(item: int) -> str:
        if item < 3:
            ended.wait(30)
        raise Refusal("the run ends")

    try:
        result = main.work_off(range(1000), lambda batch: main.try_each(call, 4, batch), 1000, Patience())
    finally:
        ended.set()
    assert str(result.hopeless) == "the run ends"
    assert result.failed.keys() == set(range(1000))


def test_lost_call_does_not_end_a_round_in_which_others_are_answered() -> None:
    def call(item: int) -> str:
        if item == 50:
            raise LOST
        return "done"

    result = main.try_each(call, 4, list(range(100)))
    assert (result.again, len(result.answers), result.hopeless) == ({50: LOST}, 99, None)


def test_exception_that_nothing_expects_fails_its_item_only() -> None:
    def call(item: int) -> str:
        return ["done"][item % 2]

    result = main.try_each(call, 4, [0, 1, 2])
    assert result.answers == {0: "done", 2: "done"}
    assert "unexpected IndexError" in str(result.failed[1]) and "please report it" in str(result.failed[1])


def acts_of(*items: int, error: OutsideError) -> Work[int, str]:
    """Work whose look settles an item of each batch, and which tries the others in vain."""

    def fail(item: int) -> str:
        raise error

    def work(batch: list[int]) -> Round[int, str]:
        tried = main.try_each(fail, 4, batch[1:])
        return Round({batch[0]: "gone already"}, again=tried.again, hopeless=tried.hopeless)

    return work


@pytest.mark.parametrize("error", [THROTTLED, LOST], ids=["throttled", "lost"])
def test_acts_that_all_fail_are_given_up_although_looks_are_answered(error: OutsideError) -> None:
    """Otherwise the wait would grow with the number of images that are gone already."""
    result = work_off(acts_of(error=error), 10_000)
    assert result.hopeless is error
    assert len(result.answers) < 60


def test_there_is_no_hope_if_the_same_calls_were_all_denied_twice() -> None:
    made: list[int] = []

    def call(item: int) -> str:
        made.append(item)
        raise DENIED

    def work(batch: list[int]) -> Round[int, str]:
        return main.try_each(call, 4, batch)

    result = work_off(work, 1000, 99)
    assert result.failed == dict.fromkeys(range(1000), DENIED)
    assert len(made) <= 10
    assert set(made) <= set(range(6))  # the same ones in both rounds


def test_items_that_were_denied_come_first_in_the_next_round_and_the_rest_goes_on() -> None:
    """Somebody pins images while their deletions are under way, and more of them in the next round."""
    looks: list[list[int]] = []
    kept: set[int] = set()
    pinned = {*range(4), *range(95, 99), 300}

    def delete(item: int) -> str:
        if item in pinned:
            raise DENIED
        return "deleted"

    def work(batch: list[int]) -> Round[int, str]:
        looks.append(batch)
        seen = pinned & {item for look in looks[:-1] for item in look}  # A look shows what was pinned before it.
        kept.update(seen)
        acts = main.try_each(delete, 4, [item for item in batch if item not in seen])
        return Round(acts.answers | dict.fromkeys(seen & set(batch), "kept"), {}, acts.again, acts.hopeless)

    result = work_off(work, 500, 99)
    assert result.failed == {}
    assert {item for item, what in result.answers.items() if what == "kept"} == pinned
    assert looks[1][:4] == [0, 1, 2, 3]


def test_call_for_whole_batches_that_is_denied_again_and_again_is_given_up() -> None:
    sizes: list[int] = []

    def work(batch: list[int]) -> Round[int, str]:
        sizes.append(len(batch))
        raise DENIED

    assert work_off(work, 1000, 99).failed == dict.fromkeys(range(1000), DENIED)
    assert sizes == [99, 24, 6, 1, 1, 1]


def test_refused_item_has_failed_at_once_and_a_late_one_has_no_answer() -> None:
    def call(item: int) -> str | None:
        if item == 1:
            raise REFUSED
        return None if item == 2 else "done"

    assert main.try_each(call, 4, [0, 1, 2]) == Round({0: "done"}, {1: REFUSED})


@pytest.mark.parametrize(("error", "calls"), [(DENIED, 1), (REFUSED, 1), (LOST, 15)], ids=["denied", "refused", "lost"])
def test_single_call_is_repeated_only_if_its_answer_was_lost(error: OutsideError, calls: int) -> None:
    made: list[int] = []

    def call() -> int:
        made.append(1)
        raise error

    with pytest.raises(type(error)):
        main.insist(call, Patience())
    assert calls - 1 <= len(made) <= calls * 2


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_each_item_is_done_once_however_few_threads_there_are(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """RLIMIT_NPROC: a thread that cannot be started must neither lose an item nor hide what became of it."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_within_limit(thread: threading.Thread) -> None:
        if len(started) >= limit:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_within_limit)
    done: list[int] = []

    def call(item: int) -> str:
        done.append(item)
        return "done"

    assert main.try_each(call, 4, list(range(500))) == Round(answer(range(500)))
    assert sorted(done) == list(range(500))


AGES = {"new": (0, 0, True), "59 s": (59, 59, True), "61 s": (61, 61, False), "the machine slept": (70, 5, False)}
AGES |= {"clock set back": (-5, 25, False), "clock set back for long": (10, 70, False)}


@pytest.mark.parametrize(("age", "steady", "fresh"), AGES.values(), ids=AGES)
def test_look_is_fresh_for_a_minute_by_both_clocks(age: float, steady: float, fresh: bool) -> None:
    now, steady_now = main.read_clocks()
    assert main.Look({}, (now - age, steady_now - steady)).is_fresh() == fresh
