"""Who compares faces: one contract, one module a matcher."""
