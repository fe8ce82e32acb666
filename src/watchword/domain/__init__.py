"""
The rules, pure and complete: what a one-time token is, what may happen to it, and when.

Nothing here does I/O, reads a clock or draws a random number: time and randomness are
arguments. Verbs take records and return what shall be stored, a ``Change``, or why nothing
shall happen, a ``Refusal``. The engine is the only caller.
"""
