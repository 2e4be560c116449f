"""TIME: what happens when; one exposure from its sub-FITS to a published L0."""
