"""REPORTS: what a command tells of many exposures, while it works and when it is done; small however many there are."""
