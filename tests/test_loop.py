"""The loop that everything goes through: who is tried again, who fails, when there is no hope. No test waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

import main
from main import Job, LostError, OutsideError, Patience, State, ThrottledError, call_each, work_off

LOST, THROTTLED = LostError("lost"), ThrottledError("wait", "", 17.0)
DENIED = main.DeniedError("denied", "Forbidden.RAM")
HANGING, REFUSED = LostError("hangs", seconds=40.0), OutsideError("no", "Strange")
ERRORS = {"lost": LOST, "denied": DENIED, "refused": REFUSED, "unexpected": KeyError(1)}


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


def make_jobs(count: int) -> list[Job]:
    return [Job() for _ in range(count)]


def accept(job: Job) -> None:
    job.settle(State.ACCEPTED)


class Work:
    """Work that notes its batches, and whose call for a batch with one of the bad jobs in it ends in an error."""

    def __init__(self, bad: Sequence[Job] = (), error: Exception = LOST, act: Callable[[Job], None] = accept) -> None:
        self.bad, self.error, self.act = bad, error, act
        self.batches: list[list[Job]] = []

    def __call__(self, batch: list[Job]) -> None:
        self.batches.append(list(batch))
        if set(self.bad) & set(batch):
            raise self.error
        call_each(self.act, batch, 4)


def failed(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.state is State.FAILED]


def raising(error: Exception, bad: Sequence[Job]) -> Callable[[Job], None]:
    def act(job: Job) -> None:
        if job in bad:
            raise error
        accept(job)

    return act


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("count", [3, 99, 1000])
def test_job_that_fails_its_whole_batch_is_found_and_holds_up_nobody(error: Exception, count: int) -> None:
    jobs = make_jobs(count)
    work = Work([jobs[count // 2]], error)
    work_off(jobs, work, 99, Patience())
    assert failed(jobs) == [jobs[count // 2]]
    assert str(error) in str(jobs[count // 2].error)
    assert len(work.batches) < 60


def test_throttled_call_for_a_batch_blames_nobody_and_keeps_its_place(clock: Clock) -> None:
    jobs, work, calls = make_jobs(20), Work(), 0

    def throttled_at_first(batch: list[Job]) -> None:
        nonlocal calls
        calls += 1
        if calls < 10:
            raise THROTTLED
        work(batch)

    work_off(jobs, throttled_at_first, 10, Patience())
    assert work.batches == [jobs[:10], jobs[10:]]
    assert clock.pauses == [17.0] * 9


def test_job_with_an_error_goes_to_the_end_and_one_that_was_not_reached_comes_first() -> None:
    jobs, work = make_jobs(12), Work()
    work.act = raising(LOST, jobs[:1])

    def reach_five(batch: list[Job]) -> None:
        work(batch[:5])

    work_off(jobs, reach_five, 6, Patience())
    assert work.batches[:3] == [jobs[:5], jobs[5:10], jobs[10:] + jobs[:1]]
    assert failed(jobs) == jobs[:1]


@pytest.mark.parametrize("error", [THROTTLED, LOST, DENIED], ids=["throttled", "lost", "denied"])
def test_acts_that_all_fail_are_given_up_although_looks_settle_others(clock: Clock, error: OutsideError) -> None:
    """Otherwise the wait would grow with the number of images that are gone already."""
    jobs, began = make_jobs(10_000), clock.seconds

    def work(batch: list[Job]) -> None:
        batch[0].settle(State.GONE)
        call_each(raising(error, jobs), batch[1:], 4)

    work_off(jobs, work, 99, Patience())
    assert sum(job.state is State.GONE for job in jobs) < 60
    assert clock.seconds - began < (1000 if error is THROTTLED else 100)


def test_denied_jobs_among_others_fail_alone() -> None:
    jobs = make_jobs(900)
    work_off(jobs, Work(act=raising(DENIED, jobs[::3])), 99, Patience())
    assert failed(jobs) == jobs[::3]


Step = tuple[bool, Sequence[OutsideError], float]  # whether anything was accepted, errors, seconds
lost, throttled, denied = (False, [LOST], 20.0), (False, [THROTTLED], 43.0), (False, [DENIED], 9.0)
answered, late, hung = (True, [LOST], 0.0), (True, [HANGING] * 4, 40.0), (False, [HANGING], 40.0)
busy: Step = (True, [], 400.0)
GIVEN_UP: dict[str, list[Step]] = {
    "three rounds and a minute without an answer": [lost] * 3,
    "a quarter of an hour of throttling": [throttled] * 16,
    "lost rounds and throttled ones are counted apart": [*[throttled] * 14, lost, throttled],
    "an answer starts both anew": [*[throttled] * 14, *[lost] * 2, answered, *[throttled] * 14, *[lost] * 3],
    "three rounds in which a call was denied": [denied] * 3,
    "nine rounds in which all was refused": [(False, [REFUSED], 1.0)] * 9,
    "a denial is no lost answer": [lost, lost, denied, lost],
    "an answer starts the denials anew": [*[denied] * 2, answered, *[denied] * 3],
    "calls side by side hang for five minutes": [late] * 8,
    "and for half of the time": [*[late] * 7, busy, *[late] * 3],
    "calls that hang in a region that answers for hours cost nothing": [*[busy, hung, answered] * 20, *[lost] * 3],
}


@pytest.mark.parametrize("steps", GIVEN_UP.values(), ids=GIVEN_UP)
def test_there_is_no_hope_after_the_last_of_these_rounds(clock: Clock, steps: list[Step]) -> None:
    patience, hope = Patience(), []
    for step in steps:
        clock.seconds += step[2]
        hope.append(patience.wait(*step))
    assert hope == [True] * (len(steps) - 1) + [False]


def test_looks_that_are_always_too_old_are_given_up_after_a_minute(clock: Clock) -> None:
    jobs, began = make_jobs(100), clock.seconds
    work_off(jobs, lambda _: None, 10, Patience())
    assert failed(jobs) == jobs and "no answer was younger than" in str(jobs[0].error)
    assert 60 <= clock.seconds - began < 66


def test_documents_of_which_every_third_hangs_are_given_up_in_minutes_whatever_their_number(clock: Clock) -> None:
    def fetch(number: int) -> int:
        if number % 3:
            return number
        clock.seconds += 40 / main.WEB_THREADS
        raise HANGING

    web, began = main.Web(main.Environment("key ID", "secret", "", "", True, True)), clock.seconds
    answers, failed = main.fetch_all(web, fetch, range(9000), "documents")
    assert len(answers) + len(failed) == 9000 and clock.seconds - began < 1000


@pytest.mark.parametrize("state", [State.KEPT, State.GONE, State.TO_DELETE])
def test_losses_far_apart_give_up_nothing_although_nothing_has_to_be_changed(clock: Clock, state: State) -> None:
    jobs, calls = make_jobs(3000), 0

    def look(batch: list[Job]) -> None:
        nonlocal calls
        calls += 1
        clock.seconds += 20
        if calls % 8 == 5:
            raise LOST
        for job in batch:
            job.settle(state)

    work_off(jobs, look, 99, Patience())
    assert {job.state for job in jobs} == {state}


def test_without_hope_each_later_step_has_one_round_until_there_is_an_answer() -> None:
    patience, jobs = Patience(), make_jobs(9)
    work = Work(jobs)
    work_off(jobs, work, 9, patience)
    rounds = len(work.batches)
    for _ in range(3):
        work_off(later := make_jobs(1), Work(later), 9, patience)
        with pytest.raises(LostError):
            main.insist(lambda: work(jobs), patience)
    assert len(work.batches) == rounds + 3
    main.insist(lambda: "answer", patience)
    again = Work(last := make_jobs(1))
    work_off(last, again, 9, patience)
    assert len(again.batches) > 10


def test_listing_of_which_each_page_is_throttled_once_goes_on() -> None:
    asked: list[int] = []

    def fetch(page: int) -> dict[str, int]:
        asked.append(page)
        if len(asked) % 2:
            raise THROTTLED
        return {f"{page} {number}": page for number in range(100 if page < 200 else 1)}

    assert len(main.list_all(fetch, Patience())) == 19_901


@pytest.mark.parametrize("error", [THROTTLED, LOST, DENIED], ids=["throttled", "lost", "denied"])
def test_calls_side_by_side_end_early_if_the_others_would_meet_the_same(error: OutsideError) -> None:
    jobs = make_jobs(1000)
    call_each(raising(error, jobs), jobs, 4)
    assert 1 <= sum(job.error is error for job in jobs) <= 5
    assert all(job.state is State.OPEN for job in jobs)


def test_lost_call_ends_nothing_if_others_are_answered_and_a_refused_or_unexpected_one_fails_its_job() -> None:
    jobs = make_jobs(100)
    errors = {jobs[50]: LOST, jobs[60]: REFUSED, jobs[70]: IndexError("x")}
    jobs[80].settle(State.KEPT)  # by a newer look, while it waited for a thread

    def act(job: Job) -> None:
        if job in errors:
            raise errors[job]
        accept(job)

    call_each(act, jobs, 4)
    assert sum(job.state is State.ACCEPTED for job in jobs) == 96 and jobs[80].state is State.KEPT
    assert (jobs[50].state, jobs[50].error, failed(jobs)) == (State.OPEN, LOST, [jobs[60], jobs[70]])
    assert "unexpected IndexError" in str(jobs[70].error) and "please report it" in str(jobs[70].error)
