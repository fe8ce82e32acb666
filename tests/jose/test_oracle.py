"""The hand-made JOSE agrees with the RFCs' own examples, so that it may judge ours."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from tests.jose import oracle

# RFC 7515, appendices A.3 and A.4.
EXAMPLES = [
    pytest.param(
        b"eyJhbGciOiJFUzI1NiJ9"
        b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        b".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ec.SECP256R1(),
        b"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        b"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        id="A.3",
    ),
    pytest.param(
        b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA"
        b".AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xdt"
        b"AG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
        ec.SECP521R1(),
        b"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        b"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        id="A.4",
    ),
]


def _key(curve: ec.EllipticCurve, x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    x_number, y_number = (int.from_bytes(oracle.unb64(part), "big") for part in (x, y))
    return ec.EllipticCurvePublicNumbers(x_number, y_number, curve).public_key()


@pytest.mark.parametrize(("token", "curve", "x", "y"), EXAMPLES)
def test_the_examples_of_rfc_7515_verify(token: bytes, curve: ec.EllipticCurve, x: bytes, y: bytes) -> None:
    oracle.verify_jws(token, _key(curve, x, y))


@pytest.mark.parametrize(("token", "curve", "x", "y"), EXAMPLES)
def test_an_example_with_another_payload_does_not(
    token: bytes, curve: ec.EllipticCurve, x: bytes, y: bytes
) -> None:
    header, payload, signature = token.split(b".")
    with pytest.raises(InvalidSignature):
        oracle.verify_jws(b".".join([header, payload[:-4] + b"AAAA", signature]), _key(curve, x, y))
