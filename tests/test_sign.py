"""Derivatives with content credentials, held to C2PA's own reader and a certificate authority."""

import argparse
import hashlib
import io
import json
import logging
import sys
from pathlib import Path

import bagit
import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image, ImageCms, PngImagePlugin

from models.contract import Contract
from pipeline.job import JobError
from pipeline.provenance import tool_of
from tests.certificates import DAY, Authority, pem, pem_of_key
from tests.jobs import run
from tests.photographs import saved, small
from tests.test_job import digests, load, rows
from transforms import codec
from transforms.metadata.provenance import ALTERED
from transforms.record import Record, Source
from transforms.sign import ASSERTION, MEDIA_TYPES, Signer, prepare

MASTER = "5f" * 32
MODEL = "ab" * 32
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def signed_by(authority, key, tmp_path_factory):
    """Paths of a certificate and of its key."""
    return files(tmp_path_factory.mktemp("keys"), authority, key)


def files(folder, authority, key, **settings):
    certificate, secret = folder / "chain.pem", folder / "key.pem"
    certificate.write_bytes(authority.chain(authority.issue(key, **settings)))
    secret.write_bytes(pem_of_key(key))
    return str(certificate), str(secret)


def signer(signed_by, contract=None):
    contract = contract or Contract(name="denoise")
    return Signer(prepare(*signed_by, ("Heliograph", "1.2.3"), contract, MODEL, ALTERED))


def record(key="album/photo.tif"):
    return Record(source=Source(key, f"/archive/{key}", 1, 0.0), sha256=MASTER)


def read(data, authority):
    """What C2PA's reader finds: the state of the signature, and the manifest."""
    trust = {"trust_anchors": pem(authority.certificate).decode()}
    context = c2pa.Context(
        c2pa.Settings.from_dict({"trust": trust, "verify": {"verify_trust": True}})
    )
    known = Image.open(io.BytesIO(data)).format
    with c2pa.Reader(MEDIA_TYPES[known], io.BytesIO(data), context=context) as found:
        return found.get_validation_state(), found.get_active_manifest()


def assertion(manifest, label):
    (found,) = [one["data"] for one in manifest["assertions"] if one["label"] == label]
    return found


@pytest.mark.parametrize("known", MEDIA_TYPES)
def test_the_signature_is_valid_and_the_image_is_as_it_was(signed_by, authority, known):
    image = Image.fromarray(small())
    data = saved(image.quantize() if known == "GIF" else image, known)
    made, signed, done = signer(signed_by).sign(record(), "photo", data)
    assert done and made.warnings == ()
    state, manifest = read(signed, authority)
    assert state == "Trusted"
    assert manifest["signature_info"]["common_name"] == "Scanner"
    before, after = (Image.open(io.BytesIO(one)) for one in (data, signed))
    assert before.size == after.size and before.mode == after.mode
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert len(signed) - len(data) < 6000
    # What is signed is an archive for the next job.
    assert np.array_equal(codec.decode(signed).pixels, codec.decode(data).pixels)


XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="box 7"/></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)


def blocks(data):
    """Metadata of an image file: profile, EXIF, XMP and resolution."""
    with Image.open(io.BytesIO(data)) as image:
        exif = {tag: value for tag, value in image.getexif().items() if tag not in _OF_TIFF}
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        return image.info.get("icc_profile"), exif, xmp, image.info.get("dpi")


# Where its strips, EXIF and manifest are: a TIFF is laid out anew.
_OF_TIFF = {273, 279, 34665, 52545}


@pytest.mark.parametrize("known", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_metadata_are_as_they_were(signed_by, authority, known):
    exif = Image.Exif()
    exif[270] = "Hans, 1931"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    settings = {"exif": exif, "icc_profile": profile, "dpi": (600, 600)}
    if known == "PNG":
        settings["pnginfo"] = PngImagePlugin.PngInfo()
        settings["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    else:
        settings["xmp"] = XMP
    data = saved(small(), known, **settings)
    _, signed, _ = signer(signed_by).sign(record(), "photo", data)
    assert read(signed, authority)[0] == "Trusted"
    assert blocks(signed) == blocks(data)
    assert blocks(data)[0] == profile


def test_a_changed_image_has_no_valid_signature(signed_by, authority):
    _, signed, _ = signer(signed_by).sign(record(), "photo.png", saved(small(), "PNG"))
    at = signed.rindex(b"IDAT") + 100
    changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    assert read(changed, authority)[0] == "Invalid"


def test_a_signature_of_an_unknown_authority_is_valid_and_not_trusted(signed_by):
    _, signed, _ = signer(signed_by).sign(record(), "photo.png", saved(small(), "PNG"))
    assert read(signed, Authority())[0] == "Valid"


def test_the_manifest_tells_the_master_the_model_and_what_was_done(signed_by, authority):
    data = saved(small(), "JPEG")
    told = record().replace(recipe="mask:1")
    _, signed, _ = signer(signed_by).sign(told, "album/photo.tif.jpg", data)
    _, manifest = read(signed, authority)
    assert manifest["title"] == "album/photo.tif.jpg"
    (generator,) = manifest["claim_generator_info"]
    assert (generator["name"], generator["version"]) == ("Heliograph", "1.2.3")
    (master,) = manifest["ingredients"]
    assert master["relationship"] == "parentOf"
    assert master["title"] == "album/photo.tif"
    assert master["instance_id"] == f"sha256:{MASTER}"
    opened, edited = assertion(manifest, "c2pa.actions.v2")["actions"]
    assert opened["action"] == "c2pa.opened"
    assert master["label"] in opened["parameters"]["ingredients"][0]["url"]
    assert edited["action"] == "c2pa.edited"
    assert edited["digitalSourceType"] == f"{VOCABULARY}algorithmicallyEnhanced"
    assert edited["softwareAgent"] == {"name": "denoise", "version": f"sha256:{MODEL}"}
    assert assertion(manifest, ASSERTION) == {
        "master_sha256": MASTER,
        "model": "denoise",
        "model_sha256": MODEL,
        "recipe": "mask:1",
    }


@pytest.mark.parametrize(
    ("contract", "term"),
    [
        ({}, "algorithmicallyEnhanced"),
        ({"input_space": "gray", "output_space": "gray"}, "algorithmicallyEnhanced"),
        ({"input_space": "L", "output_space": "ab"}, "compositeWithTrainedAlgorithmicMedia"),
        ({"input_space": "gray", "output_space": "RGB"}, "compositeWithTrainedAlgorithmicMedia"),
        ({"keep_luminance": True}, "compositeWithTrainedAlgorithmicMedia"),
        ({"mask_input": "mask"}, "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_what_a_model_invents_is_told_from_what_it_enhances(contract, term):
    args = argparse.Namespace(command="restore")
    assert tool_of(args, Contract(name="model", **contract), {}).source_type == term


def test_signed_bytes_are_not_the_same_twice_and_the_image_in_them_is(signed_by):
    data = saved(small(), "PNG")
    made = signer(signed_by)
    first, second = (made.sign(record(), "photo.png", data)[1] for _ in range(2))
    assert first != second
    assert len(first) == len(second)
    pixels = [np.asarray(Image.open(io.BytesIO(one))) for one in (data, first, second)]
    assert np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])


@pytest.mark.parametrize("known", ["BMP", "PPM", "JPEG2000"])
def test_what_cannot_be_signed_is_written_as_it_is_with_a_warning(signed_by, known):
    data = saved(small(), known)
    made, written, done = signer(signed_by).sign(record(), "photo", data)
    assert not done and written == data
    (warning,) = made.warnings
    assert warning.startswith("not signed: ") and "cannot hold content credentials" in warning


@pytest.mark.parametrize("name", ["caf\udce9.png", "bell\x07.png", "é \U0001f5bc.png"])
def test_any_name_can_be_told(signed_by, authority, name):
    _, signed, _ = signer(signed_by).sign(record(name), name, saved(small(), "PNG"))
    state, manifest = read(signed, authority)
    assert state == "Trusted"
    assert manifest["title"] == name.replace("\udce9", "\\xe9").replace("\x07", "\\x07")


KEYS = {
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_keys_of_every_kind_sign(authority, tmp_path, algorithm):
    paths = files(tmp_path, authority, KEYS[algorithm]())
    made = signer(paths)
    assert made.signing.algorithm == algorithm
    _, signed, _ = made.sign(record(), "photo.png", saved(small(), "PNG"))
    assert read(signed, authority)[0] == "Trusted"


def test_a_key_may_be_in_openssls_own_form(authority, key, signed_by, tmp_path):
    path = tmp_path / "ec.pem"
    path.write_bytes(pem_of_key(key, style=serialization.PrivateFormat.TraditionalOpenSSL))
    _, signed, _ = signer((signed_by[0], str(path))).sign(
        record(), "photo.png", saved(small(), "PNG")
    )
    assert read(signed, authority)[0] == "Trusted"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    for name, known in {"a.jpg": "JPEG", "b.png": "PNG", "c.tif": "TIFF", "d.bmp": "BMP"}.items():
        (folder / name).write_bytes(saved(small(), known))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_a_job_signs_before_it_digests_and_tells_which(
    photos, models, signed_by, authority, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    output = tmp_path / "out"
    command = ("restore", photos, output, "--model", models / "identity", "--sign", *signed_by)
    run(*command, "--package", "bagit,premis")
    results = output / "data"
    assert bagit.Bag(str(output)).validate()
    found = rows(results)
    assert {key: row["signed"] for key, row in found.items()} == {
        "a.jpg": True,
        "b.png": True,
        "c.tif": True,
        "d.bmp": False,
        "broken.png": None,
    }
    assert found["d.bmp"]["warnings"] == ["not signed: BMP cannot hold content credentials"]
    for key in ("a.jpg", "b.png", "c.tif"):
        data = (results / "images" / key).read_bytes()
        assert found[key]["derivative_sha256"] == hashlib.sha256(data).hexdigest()
        state, manifest = read(data, authority)
        assert state == "Trusted"
        told = assertion(manifest, ASSERTION)
        assert told["master_sha256"] == found[key]["source_sha256"]
        assert told["model"] == "identity"
        assert np.array_equal(load(results / "images" / key), load(photos / key)) or key == "a.jpg"
        assert "digital signature generation" in (results / "premis" / f"{key}.xml").read_text()
    assert "signature" not in (results / "premis" / "d.bmp.xml").read_text()
    secret = "".join(Path(signed_by[1]).read_text().splitlines()[1:-1])
    for piece in (secret, secret[:40], signed_by[1]):
        assert piece not in caplog.text
        for path in output.rglob("*"):
            assert path.is_dir() or piece.encode() not in path.read_bytes()


def test_the_certificate_is_part_of_what_a_job_is(
    photos, models, signed_by, authority, key, tmp_path
):
    command = ("restore", photos, tmp_path / "out", "--model", models / "identity")
    run(*command, "--sign", *signed_by)
    before = digests(tmp_path / "out")
    signed = tmp_path / "out" / "images"
    leaf = x509.load_pem_x509_certificate(Path(signed_by[0]).read_bytes())
    der = leaf.public_bytes(serialization.Encoding.DER)
    job = json.loads((tmp_path / "out" / "summary.json").read_text())["job"]
    assert job["certificate_sha256"] == hashlib.sha256(der).hexdigest()
    ended = [run(*command)]
    other = files(tmp_path, authority, key)  # another certificate for the same key
    ended.append(run(*command, "--sign", *other))
    after = digests(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert len({one.output for one in ended} | {str(signed.parent)}) == 3


def refused(photos, tmp_path, certificate, key, said):
    with pytest.raises(JobError, match=said) as error:
        run("restore", photos, tmp_path / "out", "--sign", certificate, key)
    assert "PRIVATE" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_what_is_asked_for_are_refused(photos, signed_by, tmp_path):
    certificate, key = signed_by
    missing = tmp_path / "missing.pem"
    refused(photos, tmp_path, missing, key, r"cannot read .*missing\.pem")
    refused(photos, tmp_path, certificate, missing, r"cannot read .*missing\.pem")
    refused(photos, tmp_path, key, certificate, "holds no certificate in PEM; say first the cert")
    refused(photos, tmp_path, certificate, certificate, "holds no private key in PEM")
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(b"-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
    refused(photos, tmp_path, damaged, key, r"the certificate in .* is damaged")


def test_keys_and_certificates_that_cannot_sign_are_refused(
    photos, authority, key, signed_by, tmp_path
):
    other = tmp_path / "other.pem"
    other.write_bytes(pem_of_key(ec.generate_private_key(ec.SECP256R1())))
    refused(photos, tmp_path, signed_by[0], other, "is not that of the certificate in")
    other.write_bytes(pem_of_key(key, b"password"))
    refused(photos, tmp_path, signed_by[0], other, "is encrypted: decrypt it")
    weak = files(tmp_path, authority, ec.generate_private_key(ec.SECP256K1()))
    refused(photos, tmp_path, *weak, "C2PA does not sign with the key")
    expired = files(tmp_path, authority, key, valid_for=-DAY)
    refused(photos, tmp_path, *expired, "which today is not: have it renewed")
    server = files(tmp_path, authority, key, use=ExtendedKeyUsageOID.SERVER_AUTH)
    refused(photos, tmp_path, *server, "cannot sign content credentials: .* for signing e-mail")


@pytest.mark.parametrize("library", ["c2pa", "cryptography"])
def test_a_missing_library_is_an_error_that_says_what_to_install(
    photos, signed_by, tmp_path, monkeypatch, library
):
    monkeypatch.setitem(sys.modules, library, None)
    said = rf"--sign needs {library}: .*pip install 'heliograph\[c2pa\]'"
    refused(photos, tmp_path, *signed_by, said)
