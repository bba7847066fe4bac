"""The loop that everything goes through: who is asked again, who fails, when there is no hope. No test waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import main
from main import DeniedError, Errors, LostError, Outcomes, OutsideError, Patience, ThrottledError, Work

LOST, DENIED, THROTTLED = LostError("lost"), DeniedError("denied", "Forbidden.RAM"), ThrottledError("wait", "", 17.0)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the loop would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def work_off(work: Work, count: int = 100, size: int = 10) -> Outcomes:
    outcomes: Outcomes = {}
    main.work_off(range(count), outcomes, work, size, Patience())
    return outcomes


def answer(batch: list[Any], outcomes: Outcomes) -> Errors:
    outcomes.update((item, "done") for item in batch)
    return {}


class Log:
    """Work that notes its batches, and fails those that contain `bad`."""

    def __init__(self, bad: int, error: OutsideError, whole_batch: bool) -> None:
        self.bad, self.error, self.whole_batch = bad, error, whole_batch
        self.batches: list[list[int]] = []

    def __call__(self, batch: list[Any], outcomes: Outcomes) -> Errors:
        self.batches.append(list(batch))
        if self.bad in batch and self.whole_batch:
            raise self.error
        answer([item for item in batch if item != self.bad], outcomes)
        return {self.bad: self.error} if self.bad in batch else {}


def test_every_item_gets_an_outcome_in_batches() -> None:
    log = Log(-1, LOST, False)
    assert work_off(log, 25) == dict.fromkeys(range(25), "done")
    assert [len(batch) for batch in log.batches] == [10, 10, 5]


@pytest.mark.parametrize("error", [LOST, DENIED], ids=["lost", "denied"])
def test_item_whose_call_fails_goes_to_the_end_and_fails_after_the_sixth_time(error: OutsideError) -> None:
    log = Log(3, error, False)
    outcomes = work_off(log)
    assert outcomes.pop(3) is error
    assert set(outcomes.values()) == {"done"}
    assert sum(3 in batch for batch in log.batches) == 6
    assert 3 in log.batches[0]
    assert 3 not in log.batches[1]


@pytest.mark.parametrize("error", [LOST, DENIED, OutsideError("no", "Strange")], ids=["lost", "denied", "refused"])
def test_item_that_fails_its_whole_batch_is_found_and_holds_up_nobody(error: OutsideError) -> None:
    log = Log(500, error, True)
    outcomes = work_off(log, 1000, 99)
    assert outcomes.pop(500) is error
    assert len(outcomes) == 999
    assert len(log.batches) < 80


def test_batch_after_a_failed_one_is_a_quarter_and_after_an_answered_one_four_times_as_large() -> None:
    log = Log(5, LOST, True)
    work_off(log, 200, 64)
    assert [len(batch) for batch in log.batches[:10]] == [64, 16, 4, 16, 4, 1, 4, 1, 1, 4]


def test_throttled_call_for_a_whole_batch_blames_nobody_and_keeps_its_size(pauses: list[float]) -> None:
    sizes: list[int] = []

    def work(batch: list[Any], outcomes: Outcomes) -> Errors:
        sizes.append(len(batch))
        if len(sizes) < 10:
            raise THROTTLED
        return answer(batch, outcomes)

    assert set(work_off(work, 10).values()) == {"done"}
    assert sizes == [10] * 10
    assert pauses == [17.0] * 9


Round = tuple[bool, Sequence[OutsideError], float]  # whether there was an answer, errors, seconds
lost, throttled, answered = (False, [LOST], 0.0), (False, [THROTTLED], 0.0), (True, [LOST], 0.0)
hanging = (True, [LostError("hangs", seconds=40.0)] * 4, 40.0)  # side by side
refused = (False, [LostError("503", seconds=0.1)], 40.0)
GIVEN_UP: dict[str, list[Round]] = {
    "lost": [lost] * 8,
    "throttled": [throttled] * 15,
    "denied": [(False, [DENIED], 0.0)] * 8,
    "neither answers nor errors": [(False, [], 0.0)] * 8,
    "lost rounds and throttled ones are counted apart": [*[throttled] * 14, *[lost] * 8],
    "an answer starts both counts again": [*[throttled] * 14, *[lost] * 7, answered, *[throttled] * 14, *[lost] * 8],
    "five minutes without an answer": [hanging] * 8,
    "what is answered, or refused at once, goes on": [*[hanging] * 7, answered, (True, [], 40.0), refused, hanging],
}


@pytest.mark.parametrize("rounds", GIVEN_UP.values(), ids=GIVEN_UP)
def test_there_is_no_hope_after_the_last_of_these_rounds(rounds: list[Round]) -> None:
    patience = Patience()
    for each in rounds[:-1]:
        patience.wait(*each)
    with pytest.raises(OutsideError):
        patience.wait(*rounds[-1])


def test_with_an_answer_only_throttling_waits(pauses: list[float]) -> None:
    for errors in ([], [LOST], [LOST, THROTTLED]):
        Patience().wait(True, errors, 0)
    assert pauses == [17.0]


def test_next_kind_of_work_goes_on_waiting_where_the_last_one_ended_but_for_lost_rounds() -> None:
    patience = Patience(lost_rounds=7, throttled_rounds=14)
    made = []

    def work(_: list[Any], outcomes: Outcomes) -> Errors:
        made.append(1)
        raise LOST if len(made) < 5 else THROTTLED

    with pytest.raises(ThrottledError):
        main.work_off([1, 2], {}, work, 1, patience)
    assert len(made) == 5


def test_call_after_call_that_is_throttled_once_goes_on_for_ever() -> None:
    patience, made = Patience(), []

    def call() -> int:
        made.append(1)
        if len(made) % 2:
            raise THROTTLED
        return len(made)

    assert [main.insist(call, patience) for _ in range(40)] == list(range(2, 82, 2))


def test_pause_of_lost_rounds_doubles_with_jitter_up_to_five_seconds(pauses: list[float]) -> None:
    for _ in range(100):
        patience = Patience(rounds=9)
        for _ in range(8):
            patience.wait(False, [LOST], 0)
    for number, most in enumerate([0.5, 1, 2, 4, 5, 5, 5, 5]):
        assert most / 2 <= min(pauses[number::8]) < max(pauses[number::8]) <= most


@pytest.mark.parametrize("error", [THROTTLED, LOST], ids=["throttled", "more lost than answered"])
def test_round_ends_early_if_the_others_would_meet_the_same(pool: ThreadPoolExecutor, error: OutsideError) -> None:
    made: list[int] = []

    def fail(item: int) -> str:
        made.append(item)
        raise error

    with contextlib.suppress(ThrottledError):
        main.try_each(fail, pool, list(range(1000)), {})
    assert 1 <= len(made) <= 4


def test_lost_call_does_not_end_a_round_in_which_others_are_answered(pool: ThreadPoolExecutor) -> None:
    def call(item: int) -> str:
        if item == 50:
            raise LOST
        return "done"

    outcomes: Outcomes = {}
    assert main.try_each(call, pool, list(range(100)), outcomes) == {50: LOST}
    assert len(outcomes) == 99


def test_what_is_throttled_for_ever_is_given_up_even_if_looks_are_answered(pool: ThreadPoolExecutor) -> None:
    def throttle(_: int) -> str:
        raise THROTTLED

    def work(batch: list[Any], outcomes: Outcomes) -> Errors:
        outcomes[batch.pop()] = "gone already"
        return main.try_each(throttle, pool, batch, outcomes)

    outcomes: Outcomes = {}
    with pytest.raises(ThrottledError):
        main.work_off(range(100), outcomes, work, 10, Patience())
    assert len(outcomes) == 15


def test_there_is_no_hope_if_several_calls_were_all_denied(pool: ThreadPoolExecutor) -> None:
    made: list[int] = []
    all_under_way = threading.Barrier(4)

    def call(item: int) -> str:
        made.append(item)
        all_under_way.wait(5)
        raise DENIED

    def work(batch: list[Any], outcomes: Outcomes) -> Errors:
        outcomes[batch.pop()] = "gone already"
        return main.try_each(call, pool, batch, outcomes)

    with pytest.raises(DeniedError):
        work_off(work, 1000, 99)
    assert len(made) == 4


def test_refused_item_has_its_outcome_at_once_and_a_late_one_has_none(pool: ThreadPoolExecutor) -> None:
    refusal = OutsideError("used", "ImageUsingByInstance")

    def call(item: int) -> str | None:
        if item == 1:
            raise refusal
        return None if item == 2 else "done"

    outcomes: Outcomes = {}
    assert main.try_each(call, pool, [0, 1, 2], outcomes) == {}
    assert outcomes == {0: "done", 1: refusal}


@pytest.mark.parametrize(("error", "calls"), [(DENIED, 1), (OutsideError("no"), 1), (LOST, 6)], ids=str)
def test_single_call_is_repeated_only_if_its_answer_was_lost(error: OutsideError, calls: int) -> None:
    made: list[int] = []

    def call() -> int:
        made.append(1)
        raise error

    with pytest.raises(type(error)):
        main.insist(call, Patience())
    assert len(made) == calls


AGES = {"new": (0, 0, True), "59 s": (59, 59, True), "61 s": (61, 61, False), "the machine slept": (70, 5, False)}
AGES |= {"clock set back": (-5, 25, False), "clock set back for long": (10, 70, False)}


@pytest.mark.parametrize(("age", "steady", "fresh"), AGES.values(), ids=AGES)
def test_look_is_fresh_for_a_minute_by_both_clocks(age: float, steady: float, fresh: bool) -> None:
    clock, steady_clock = main.read_clocks()
    assert main.Look({}, (clock - age, steady_clock - steady)).is_fresh() == fresh
