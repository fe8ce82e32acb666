"""An authority of our own, and what it signs."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write an authority, and a certificate of its for this machine with its key."""
    names = {
        role: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)]) for role in ("authority", "server")
    }
    keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in names}
    now = dt.datetime.now(dt.UTC)
    for role, name in names.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names["authority"])
            .public_key(keys[role].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=role == "authority", path_length=None), critical=True)
        )
        if role == "server":
            here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([here]), critical=False)
        certificate = builder.sign(keys["authority"], hashes.SHA256())
        (folder / f"{role}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key = keys["server"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(key)
    return folder / "authority.crt", folder / "server.crt", folder / "server.key"
