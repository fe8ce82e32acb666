"""
JOSE: bodies that are signed or encrypted beyond TLS.

``keys`` holds our private halves, ``client_keys`` reads the public halves that applications
upload, ``compact`` reads tokens in one way only, ``envelope`` opens, verifies, seals and signs.
"""
