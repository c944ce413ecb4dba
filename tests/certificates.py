"""A certificate authority for tests, and what it issues for content credentials."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)

# What a certificate may be used for, in the order of `x509.KeyUsage`.
_SIGNING = (True, *(False,) * 8)
_ISSUING = (*(False,) * 5, True, True, False, False)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key, password=None, style=serialization.PrivateFormat.PKCS8):
    how = serialization.NoEncryption()
    if password:
        how = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, style, how)


def _name(common_name):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Archive of Tests"),
        ]
    )


class Authority:
    """A root that issues certificates."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (
            self._about("Root", self.key, 30 * DAY)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(*_ISSUING), True)
            .sign(self.key, hashes.SHA256())
        )

    def _about(self, name, key, valid_for):
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("Root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(NOW + valid_for)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )

    def issue(self, key, valid_for=DAY, use=ExtendedKeyUsageOID.EMAIL_PROTECTION):
        """Issue a certificate for a key, and give it as X.509."""
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            self._about("Scanner", key, valid_for)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(*_SIGNING), True)
            .add_extension(x509.ExtendedKeyUsage([use]), False)
            .add_extension(by, False)
            .sign(self.key, hashes.SHA256())
        )

    def chain(self, certificate):
        """Give a certificate with the root behind it, in PEM."""
        return pem(certificate) + pem(self.certificate)
