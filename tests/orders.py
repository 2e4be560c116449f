"""What the exposures of a night have in common, as most tests have it."""

from assembler.service.night import Order


def night_order(instrument, out, **more):
    """Return an order without history, corrections or pace, that supersedes nothing; ``more`` is what a test has otherwise."""
    usual = {"corrections": (), "opening": None, "patience": 1.0, "pacing": None, "supersede": None, "version": "test", "clock": int}
    return Order(instrument=instrument, out=out, **(usual | more))
