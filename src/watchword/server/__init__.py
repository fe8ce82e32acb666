"""HTTP: the OTT API, its outermost layer, and how it is run."""
