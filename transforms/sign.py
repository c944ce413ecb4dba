"""Content credentials: derivatives signed as C2PA has it (https://spec.c2pa.org), before they are
digested.

Signed bytes are not the same twice: the library draws names and salts at random.
"""

import datetime
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from models.contract import Contract
from transforms import codec, scratch, storage
from transforms.names import as_text
from transforms.record import Record
from transforms.scratch import Buffer

if TYPE_CHECKING:
    import c2pa
    from cryptography import x509

# Formats that can hold a manifest, and what C2PA calls them.
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}

ASSERTION = "org.heliograph.restoration"
_MANIFEST = 1 << 20  # bytes that a manifest may come to, roughly
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# No thumbnails: they are what makes a manifest large. What was signed is read again.
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": True}}

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LEAST_RSA_BITS = 2048


class SigningError(ValueError):
    """A certificate or key that cannot sign, and what to do. It never tells anything of the key."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How derivatives are signed. The key itself is read by each worker, and is nowhere else.

    Attributes:
        certificate: path of the certificate and those that it was issued by, in PEM.
        key: path of its private key, in PEM.
        fingerprint: SHA-256 of the certificate, in hexadecimal.
        algorithm: of the signature, as C2PA names it.
        software: name and version of this software.
        model: the model's name; None without one.
        model_sha256: its digest.
        source_type: IPTC's digital source type of what the model makes.
    """

    certificate: str
    key: str
    fingerprint: str
    algorithm: str
    software: tuple[str, str]
    model: str | None
    model_sha256: str | None
    source_type: str


def prepare(
    certificate: str,
    key: str,
    software: tuple[str, str],
    contract: Contract | None,
    model_sha256: str | None,
    source_type: str,
) -> Signing:
    """Check that a certificate and a key can sign, by signing something small.

    Args:
        certificate: path of the certificate, in PEM.
        key: path of its private key, in PEM.
        software: name and version of this software.
        contract: of the model, if there is one.
        model_sha256: its digest.
        source_type: a term of IPTC's digital source types.

    Raises:
        SigningError: they cannot, or the libraries for it are missing.
        StorageError: a file cannot be read.
    """
    try:
        import c2pa
        import cryptography  # noqa: F401
    except ImportError as error:
        raise SigningError(
            f"--sign needs {error.name}: install it with pip install 'heliograph[c2pa]'"
        ) from error
    leaf = _certificate(certificate)
    algorithm = _algorithm(leaf, certificate, key)
    signing = Signing(
        certificate=certificate,
        key=key,
        fingerprint=hashlib.sha256(_der(leaf)).hexdigest(),
        algorithm=algorithm,
        software=software,
        model=contract.name if contract else None,
        model_sha256=model_sha256,
        source_type=_SOURCE_TYPES + source_type,
    )
    trial = io.BytesIO()
    Image.new("RGB", (8, 8)).save(trial, "PNG")
    try:
        Signer(signing).sign_bytes(trial.getvalue(), "PNG", {"title": "trial"}, [_CREATED])
    except c2pa.C2paError as error:
        raise SigningError(
            f"{certificate} cannot sign content credentials: {error}; it must be for signing "
            "e-mail or documents, tell its issuer's key, and be no authority's: docs/packages.md"
        ) from None
    return signing


def _certificate(path: str) -> "x509.Certificate":
    from cryptography import x509

    found = _PEM.findall(storage.read(path))
    if not found:
        raise SigningError(
            f"{path} holds no certificate in PEM; say first the certificate, then the key: "
            "--sign CERT KEY"
        )
    try:
        leaf = x509.load_pem_x509_certificate(found[0])
    except ValueError:
        raise SigningError(f"the certificate in {path} is damaged") from None
    now = datetime.datetime.now(datetime.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise SigningError(
            f"the certificate in {path} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}, which today is not: have it renewed"
        )
    return leaf


def _algorithm(leaf: "x509.Certificate", certificate: str, key: str) -> str:
    """Hold a key to its certificate, and name the algorithm that it signs by."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    # From here on no exception is a cause of ours: what theirs say could quote the file.
    try:
        private = serialization.load_pem_private_key(storage.read(key), None)
    except TypeError:
        raise SigningError(f"the key in {key} is encrypted: decrypt it for the job") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{key} holds no private key in PEM that we can read") from None
    if private.public_key() != leaf.public_key():
        raise SigningError(f"the key in {key} is not that of the certificate in {certificate}")
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in curves:
            return curves[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _LEAST_RSA_BITS:
        return "ps256"
    raise SigningError(
        f"C2PA does not sign with the key in {key}: it takes P-256, P-384, P-521, Ed25519, and RSA "
        f"from {_LEAST_RSA_BITS} bits"
    )


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.DER)


def _pkcs8(path: str) -> bytes:
    """Read a private key, and give it in the one form that C2PA takes."""
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(storage.read(path), None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Signer:
    """Signs derivatives, in one thread.

    Args:
        signing: how.
    """

    def __init__(self, signing: Signing) -> None:
        self.signing = signing

    @cached_property
    def _context(self) -> "c2pa.Context":
        import c2pa

        return c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))

    @cached_property
    def _signer(self) -> "c2pa.Signer":
        import c2pa

        signing = self.signing
        chain = b"\n".join(_PEM.findall(storage.read(signing.certificate)))
        info = c2pa.C2paSignerInfo(signing.algorithm, chain, _pkcs8(signing.key), None)
        return c2pa.Signer.from_info(info)

    def sign(self, record: Record, name: str, data: Buffer) -> tuple[Record, Buffer, bool]:
        """Sign an encoded derivative.

        Args:
            record: what it was made of.
            name: its path below the output.
            data: its bytes.

        Returns:
            The record, with a warning where the format cannot hold a manifest; the bytes; whether
            they are signed.

        Raises:
            C2paError: the library refuses to.
        """
        known = codec.format_of(bytes(data[:16]))
        if known not in MEDIA_TYPES:
            warning = f"not signed: {known or 'its format'} cannot hold content credentials"
            return record.replace(warnings=(*record.warnings, warning)), data, False
        head, actions, done = self._statement(record, name)
        return record, self.sign_bytes(data, known, head, actions, done), True

    def _statement(self, record: Record, name: str) -> tuple[dict, list, dict]:
        """Give the head of a derivative's manifest, C2PA's actions, and an assertion of ours."""
        signing, sha256 = self.signing, record.sha256
        master_format = record.form.format if record.form else None
        ingredient: dict[str, Any] = {
            "title": as_text(record.key),
            "format": MEDIA_TYPES.get(master_format or "", "application/octet-stream"),
            "relationship": "parentOf",
            "label": "master",
            "instance_id": f"sha256:{sha256}",
            "description": f"the master; its SHA-256 is {sha256}",
        }
        edited: dict[str, Any] = {
            "action": "c2pa.edited",
            "digitalSourceType": signing.source_type,
            "description": f"restored by {signing.model}" if signing.model else "written anew",
        }
        if signing.model:
            edited["softwareAgent"] = {
                "name": signing.model,
                "version": f"sha256:{signing.model_sha256}",
            }
        done = {
            "master_sha256": sha256,
            "model": signing.model,
            "model_sha256": signing.model_sha256,
            "recipe": record.recipe,
        }
        opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["master"]}}
        done = {fact: value for fact, value in done.items() if value is not None}
        return {"title": as_text(name), "ingredients": [ingredient]}, [opened, edited], done

    def sign_bytes(
        self,
        data: Buffer,
        known: str,
        head: Mapping[str, Any],
        actions: list[Any],
        done: Mapping[str, Any] | None = None,
    ) -> Buffer:
        """Sign the bytes of an image.

        Args:
            data: the encoded image.
            known: its format, a key of `MEDIA_TYPES`.
            head: fields of the manifest, as c2pa's builder takes them.
            actions: C2PA's, in their order.
            done: an assertion of our own.

        Raises:
            C2paError: the library refuses to.
        """
        import c2pa

        name, version = self.signing.software
        media_type = MEDIA_TYPES[known]
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]
        if done:
            assertions.append({"label": ASSERTION, "data": dict(done)})
        manifest = {
            **head,
            "claim_generator_info": [{"name": name, "version": version}],
            "format": media_type,
            "assertions": assertions,
        }
        with scratch.spool(len(data) + _MANIFEST) as out:
            with c2pa.Builder(manifest, self._context) as builder:
                builder.sign(self._signer, media_type, scratch.opened(data), out)
            return scratch.contents(out)


_CREATED = {"action": "c2pa.created", "digitalSourceType": f"{_SOURCE_TYPES}digitalCreation"}
