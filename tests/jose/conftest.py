"""Keys, made once for all tests here: a fresh RSA key each time would be most of their duration."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.jose.support import Client, client_key, published
from watchword.jose.keys import Algorithm, ServerKeys


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """Somebody's RSA key, 2048 bits."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def keys() -> ServerKeys:
    """Our keys, version 1 of each."""
    return ServerKeys.generate(rsa_bits=2048)


@pytest.fixture(scope="session")
def to_us(keys: ServerKeys) -> rsa.RSAPublicKey:
    """What clients encrypt to."""
    key = load_der_public_key(published(keys, Algorithm.RSA_OAEP_256).spki)
    assert isinstance(key, rsa.RSAPublicKey)
    return key


@pytest.fixture(scope="session")
def clients(rsa_key: rsa.RSAPrivateKey) -> dict[str, Client]:
    """A client for each algorithm, with the key that it uploaded."""
    privates: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "ES512": ec.generate_private_key(ec.SECP521R1()),
        "PS256": rsa_key,
        "PS384": rsa_key,
        "PS512": rsa_key,
        "RSA_OAEP_256": rsa_key,
    }
    return {
        algorithm: Client(private=private, key=client_key(private, algorithm))
        for algorithm, private in privates.items()
    }


@pytest.fixture(scope="session")
def client(clients: dict[str, Client]) -> Client:
    """The client that signs with ES512, as the published samples do."""
    return clients["ES512"]
