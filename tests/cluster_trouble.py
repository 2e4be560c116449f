"""What workers of a cluster of the tests are begun with: they stop or die at a call, when a file of that name says so.

Python tells an audit hook of link and remove before they are done: `os.link` is when an L0 is published, `os.remove` of its draft
comes right after it. The file `os.link.stop` stops the one worker that comes first, `os.link.kill` kills every one, `os.link.hold` holds
every thread as long as the file is there, when the path of the L0 or of its draft contains what the file holds. Who was stopped is in
the file `stopped`.
"""

import os
import signal
import sys
import threading
import time

_PLACE = os.environ.get("CLUSTER_TROUBLE", "")
_EVENTS = ("os.link", "os.remove")
_here = threading.local()


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS or getattr(_here, "busy", False):
        return
    _here.busy = True
    try:
        for action in ("stop", "kill", "hold"):
            _trouble(event, action, str(arguments[0]))
    finally:
        _here.busy = False


def _trouble(event: str, action: str, path: str) -> None:
    told = os.path.join(_PLACE, f"{event}.{action}")
    try:
        with open(told) as file:
            if file.read() not in os.path.basename(path):
                return
        if action == "stop":
            os.rename(told, f"{told}ped")  # the first one takes it away
    except FileNotFoundError:
        return
    if action == "hold":
        while os.path.exists(told):
            time.sleep(0.01)
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    with open(os.path.join(_PLACE, "stopping"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.path.join(_PLACE, "stopping"), os.path.join(_PLACE, "stopped"))
    # To this thread: a signal to the process may be taken by another one, and the call is done meanwhile.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class _NotInstalled:
    """What finds no assembler, though it is there."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == os.environ.get("CLUSTER_WITHOUT"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _NotInstalled)  # type: ignore[arg-type]
if _PLACE:
    sys.addaudithook(_hook)
