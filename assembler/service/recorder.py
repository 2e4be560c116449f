"""Records exposures beside those who make their L0s: in a thread of its own, so that a store that is away delays no L0."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread
from typing import NamedTuple

from assembler.core.instrument import Instrument
from assembler.errors import InputError, OutputError
from assembler.service.l0_records import read_record
from assembler.service.log import Log
from assembler.service.record_store import RecordStore

AGAIN = 30.0
"""How long after a store was away it is called again [s]."""

_PATIENCE = 15.0
"""How long the end waits for what is to be recorded yet [s]."""

MOST_WAITING = 100_000
"""L0s that wait for a store; of more, the ones that have waited longest are left out."""


class _Wanted(NamedTuple):
    """An L0 that is to be recorded; ``number`` tells it from the same one when it has changed meanwhile."""

    instrument: Instrument
    number: int


class Recorder:
    """Writes the records of L0s in the order in which they come, and again those that a store did not take, until it does.

    Parameters
    ----------
    store : RecordStore
    log : Log
    again : float
        How long after a store was away it is called again [s].
    """

    def __init__(self, store: RecordStore, log: Log, again: float = AGAIN) -> None:
        self._store = store
        self._log = log
        self._again = again
        self._changed = Condition()
        self._waiting: dict[str, _Wanted] = {}
        self._number = self._left_out = 0
        self._is_closing = False
        self._trouble = ""
        self._thread = Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, path: Path, instrument: Instrument) -> None:
        """Have an L0 recorded as it will be then; this waits for nothing."""
        with self._changed:
            self._number += 1
            self._waiting.pop(str(path), None)
            self._waiting[str(path)] = _Wanted(instrument, self._number)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
                self._left_out += 1
            self._changed.notify()

    def close(self, patience: float) -> int:
        """Record what is waiting, unless the store is away, and return how many L0s are not recorded.

        Parameters
        ----------
        patience : float
            How long that may take at most [s].
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(patience)
        with self._changed:
            return len(self._waiting) + self._left_out

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    break
                path, wanted = next(iter(self._waiting.items()))
            is_done = self._record(path, wanted.instrument)
            with self._changed:
                if not is_done and self._is_closing:
                    break
                if not is_done:
                    self._changed.wait_for(lambda: self._is_closing, self._again)
                elif (now := self._waiting.get(path)) is not None and now.number == wanted.number:
                    del self._waiting[path]
        self._store.close()

    def _record(self, path: str, instrument: Instrument) -> bool:
        """Record an L0, and return whether there is nothing more to be done about it."""
        try:
            record = read_record(Path(path), instrument)
            self._store.put(record)
        except OutputError as error:
            if error.retry:
                if not self._trouble:
                    self._log.warning("records_wait", reason=str(error))
                self._trouble = str(error)
                return False
            self._log.warning("record_refused", path=path, reason=str(error))
            return True
        except (InputError, OSError) as error:  # such as an L0 that got another name, under which it comes again
            self._log.warning("record_refused", path=path, reason=str(error))
            return True
        if self._trouble:
            self._trouble = ""
            self._log.info("records_go_on")
        if record.problems:
            self._log.warning("record_lacks", path=path, problems=list(record.problems))
        return True


@contextmanager
def recording(store: RecordStore, log: Log) -> Iterator[Recorder]:
    """Lend what records L0s in a store; at the end tell how many it could not."""
    recorder = Recorder(store, log)
    try:
        yield recorder
    finally:
        left = recorder.close(_PATIENCE)
        if left:
            log.warning("records_missing", count=left, store=store.name)
