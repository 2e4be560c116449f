"""Do jobs side by side in threads: reading, summing and writing let go of the interpreter's lock.

`concurrent.futures` would do, and takes longer to import than a small exposure takes to copy.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

WORKERS = 2

Job = TypeVar("Job")
Result = TypeVar("Result")


def side_by_side(call: Callable[[Job], Result], jobs: Sequence[Job], workers: int = WORKERS) -> list[Result]:
    """Call a function with each job, and return the results in the order of the jobs.

    After the first exception no more jobs are begun; it is raised when those that were have ended.

    >>> side_by_side(abs, [-1, -2, -3])
    [1, 2, 3]
    """
    if len(jobs) < 2 or workers < 2:
        return [call(job) for job in jobs]
    results: dict[int, Result] = {}
    trouble: list[BaseException] = []
    waiting = list(enumerate(jobs))[::-1]
    lock = threading.Lock()

    def work() -> None:
        while not trouble:
            with lock:
                if not waiting:
                    return
                number, job = waiting.pop()
            try:
                results[number] = call(job)
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                trouble.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers - 1)]
    for thread in threads:
        thread.start()
    try:
        work()
    except BaseException as error:
        trouble.append(error)
        raise
    finally:
        for thread in threads:
            thread.join()
    if trouble:
        raise trouble[0]
    return [results[number] for number in range(len(jobs))]
