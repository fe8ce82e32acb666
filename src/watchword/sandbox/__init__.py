"""
The sandbox: the whole product on one machine, with a demo bank, an outbox and a clock that moves.

It is for trying and for testing, and says so in every answer; nothing else imports it.
"""
