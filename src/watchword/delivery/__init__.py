"""Who carries a code to a phone: one contract, one module a provider."""
