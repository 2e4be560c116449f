"""What is said of a night while it is made, where no terminal is: the paths, what failed, and a line now and then."""

from reports_results import failed, made

from assembler import console
from assembler.reports.progress import PAUSE, Progress, show_progress


class Clock:
    def __init__(self, step: int) -> None:
        self.now = 0
        self.step = step

    def __call__(self) -> int:
        return self.now


def show(capsys, count: int, step: int, *, paths: bool = True) -> tuple[list[str], list[str]]:
    clock = Clock(step)
    with show_progress("/data/2024apr21", count, out=console.Results() if paths else None, clock=clock) as tell:
        for frame in range(count):
            clock.now += step
            tell(made(frame) if frame else failed(0, "no room\x1b[31m"))
    told = capsys.readouterr()
    return told.out.splitlines(), told.err.splitlines()


def test_there_is_a_line_now_and_then_and_one_at_the_end(capsys):
    paths, lines = show(capsys, 100, PAUSE // 20)
    assert paths == [f"/l0/KP.{frame}.fits" for frame in range(1, 100)]
    assert lines[0] == "0: no room?[31m"
    assert lines[1] == "2024apr21: 20 of 100 exposures, 3 MB/s, 1 failed, 19 errors, 19 warnings, 2 min left"
    assert [line.split()[1] for line in lines[1:]] == ["20", "40", "60", "80", "100"]
    assert lines[-1].endswith("99 errors, 99 warnings, in 2 min")


def test_a_quick_night_is_told_once(capsys):
    paths, lines = show(capsys, 100, PAUSE // 1000, paths=False)
    assert paths == []
    assert len(lines) == 2


def test_a_night_without_exposures_says_nothing(capsys):
    assert show(capsys, 0, 1) == ([], [])


def test_the_rate_of_an_exposure_that_took_no_time_is_a_number():
    so_far = Progress("/", 1, lambda: 0)
    so_far.add(made(1))
    assert so_far.line() == "/: 1 of 1 exposures, 5000 MB/s, 1 errors, 1 warnings, in 0.0 s"


def test_what_is_worth_most_comes_first_where_a_terminal_has_little_room():
    so_far = Progress("/data/2024apr21", 500, lambda: 0)
    assert so_far.short() == "2024apr21 0/500"
    so_far.add(failed(0, "no room"))
    assert so_far.short() == "2024apr21 1/500, 0.0 s left, 0 MB/s, 1 failed, 0 errors, 0 warnings"
