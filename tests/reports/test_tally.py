"""What is counted: as much for ten thousand exposures as for ten, and what failed told by its reason."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
from reports_results import failed, made, survey

from assembler.reports.tally import MOST_GROUPS, MOST_NAMES, Tally, alike


def test_exposures_that_fail_alike_are_one_reason_with_their_names():
    tally = Tally()
    for frame in range(215_900, 215_930):
        tally.add(failed(frame, f"/l0/KP.{frame}.fits exists, and is another one (/l0/KP.{frame}.fits: card 12)"))
    tally.add(failed(1, "/l0: the L0 cannot be written: No space left on device"))
    first, example, second, *_ = tally.troubles()
    assert first.startswith("failed, exit code 4: 215900, 215901, ")
    assert first.endswith(f" and {30 - MOST_NAMES} more: ... exists, and is another one")
    assert example.startswith("such as: /l0/KP.215900.fits exists")
    assert second == "failed, exit code 4: 1: /l0: the L0 cannot be written: No space left on device"
    assert tally.line() == "31 exposures: 31 failed; 0 frames that nobody has, 0 stray sub-FITS"


def test_what_is_an_error_in_an_l0_is_told_by_its_code_and_its_exit_code():
    tally = Tally(nights=True)
    tally.add_night(survey(undated=("x.fits",)), [made(7)], left=0)
    assert list(tally.troubles()) == ["finding of severity error, exit code 1: truncated: 2024apr21 7"]
    assert tally.exit_code == 1
    assert tally.line() == "1 exposures: 1 made; 3 frames that nobody has, 1 stray sub-FITS, 1 left out because their begin is not known"


def test_the_exit_code_is_that_of_the_worst_a_night_among_them():
    tally = Tally()
    tally.add(made(7))
    tally.add_bad_night("/data/2024apr22", "/data/2024apr22: there is no such directory", 3)
    assert tally.exit_code == 3
    assert "failed, exit code 3: 2024apr22: /data/2024apr22: there is no such directory" in list(tally.troubles())


def test_what_is_left_where_it_was_stopped_is_said():
    tally = Tally()
    tally.nights_left = 2
    assert tally.line() == "0 exposures: none; 0 frames that nobody has, 0 stray sub-FITS; stopped with 2 nights left; run again to go on"
    tally.add_night(survey(gaps=(), strays=()), [made(7), failed(8, "no room")], left=1)
    tally.add_bad_night("/data/2024apr22", "it went away", 3)
    assert tally.line() == (
        "2 exposures: 1 made, 1 failed, 1 night failed; 0 frames that nobody has, 0 stray sub-FITS; "
        "stopped with 1 exposure and 2 nights left; run again to go on"
    )
    told = tally.plain()
    assert (told["left"], told["nights_left"], told["stopped"]) == (1, 2, tally.stopped())
    assert Tally().plain()["stopped"] == ""


def test_it_is_as_large_for_many_exposures_as_for_few():
    tally, sizes = Tally(), []
    for number in range(5000):
        tally.add(failed(number, "".join(chr(97 + number // 26**place % 26) for place in range(5)) * 200))
        tally.add(made(number))
        if number in (999, 4999):
            sizes.append(len(pickle.dumps(vars(tally))))
    assert len(tally.failures) == MOST_GROUPS + 1
    assert sum(group.count for group in tally.failures.values()) == 5000
    assert sizes[1] < sizes[0] + 200


@given(st.text())
def test_any_reason_has_a_group_of_one_short_line(reason):
    assert 0 < len(alike(reason)) <= 300
    assert alike(reason).isprintable()
