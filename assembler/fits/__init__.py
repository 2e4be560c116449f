"""FILES: FITS and nothing else: find the HDUs of a file, write an L0, verify it."""
