"""signature.json: which bytes belong to a bundle, and who says so, in the OpenSSF model-signing format.

A sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement, whose predicate
`https://model_signing/signature/v1.0` lists the sha256 of each file; the signature is ECDSA P-256 over the envelope.
`model_signing verify key` reads it. Three things are stricter here than there: the file has one valid serialization
only, so that no byte of it can change unnoticed; the envelope's keyid holds the public key, so that a damaged signature
is found without the key at hand; and a bundle without a key has an envelope without signatures, which proves that it is
whole, and nothing about who made it.

Sources: model-signing 1.1 and its docs/model_signing_format.md; DSSE 1.0, protocol.md; in-toto attestation v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from robot.config import ConfigError

NAME = "signature.json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SUBJECT = "terrafirma-controller-bundle"


class BundleRefused(ConfigError):
    """A bundle must not run here; the message names the file and the reason."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Signed:
    """What signature.json says."""

    files: Mapping[str, str]
    """name -> sha256 (hex)."""
    digest: str
    """Over all of them; the same with and without a signature."""
    public_key: bytes = b""
    """DER (SubjectPublicKeyInfo); empty where nobody signed."""
    signature: bytes = b""
    message: bytes = b""
    """What the signature is over."""


def sign(contents: Mapping[str, bytes], key: Path | None = None) -> bytes:
    """The bytes of signature.json for these files.

    `key` is a PEM file with an ECDSA P-256 private key. The signature is deterministic (RFC 6979): the same
    files and key give the same bytes.
    """
    files = {name: sha256(data) for name, data in contents.items()}
    if key is None:
        return _document(files)
    private = private_key(key)
    deterministic = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return _document(files, der(private.public_key()), private.sign(_envelope(_statement(files)), deterministic))


def parse(data: bytes, place: str) -> Signed:
    """What signature.json says; BundleRefused unless every byte of it is as `sign` writes it."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BundleRefused(f"{place}: not as terrafirma writes it: changed or damaged; copy the bundle again.")
    if "mediaType" not in document:
        from robot.migrations import signature_1

        return signature_1.parse(document, data, place)
    if document["mediaType"] != MEDIA_TYPE:
        raise BundleRefused(
            f"{place}: media type {document['mediaType']!r} is unknown; this terrafirma reads {MEDIA_TYPE}."
        )
    try:
        signed = _signed(document)
        whole = _document(signed.files, signed.public_key, signed.signature) == data
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, UnsupportedAlgorithm):
        whole = False
    if not whole:
        raise BundleRefused(f"{place}: not as terrafirma writes it: changed or damaged; copy the bundle again.")
    return signed


def check(signed: Signed, place: str, key: Path | None) -> str:
    """Verify the ECDSA signature, with `key` against that PEM public key alone; returns a sentence."""
    if not signed.signature:
        if key is not None:
            raise BundleRefused(f"{place}: the bundle is not signed, and {key} was asked for; export it with key=.")
        return "not signed: whole, but by nobody in particular"
    try:
        public = serialization.load_der_public_key(signed.public_key)
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise ValueError("no P-256 key")
        if der(public) != signed.public_key:  # keys have more than one encoding; only ours is valid
            raise ValueError("not canonical")
        public.verify(signed.signature, signed.message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise BundleRefused(f"{place}: its ECDSA signature is not valid; copy the bundle again.") from error
    if key is not None and der(public_key(key)) != signed.public_key:
        raise BundleRefused(f"{place}: signed by another key than {key}; get the bundle from who holds that key.")
    return "signed" + (f" by {key}" if key is not None else "; pin the signer with key=FILE")


def sha256(data: bytes) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _statement(files: Mapping[str, str]) -> bytes:
    """The in-toto statement; its subject's digest is over the files' digests in the order of their names."""
    resources = [{"name": n, "algorithm": "sha256", "digest": files[n]} for n in sorted(files)]
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [NAME]}
    return _json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": SUBJECT, "digest": {"sha256": _root(files)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {"serialization": how, "resources": resources},
        }
    )


def _root(files: Mapping[str, str]) -> str:
    return sha256(b"".join(bytes.fromhex(files[n]) for n in sorted(files)))


def _envelope(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _document(files: Mapping[str, str], public: bytes = b"", signature: bytes = b"") -> bytes:
    signatures = [{"sig": _base64(signature), "keyid": _base64(public)}] if signature else []
    return (
        _json(
            {
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": {"publicKey": {"hint": _hint(public)}, "tlogEntries": []},
                "dsseEnvelope": {
                    "payload": _base64(_statement(files)),
                    "payloadType": PAYLOAD_TYPE,
                    "signatures": signatures,
                },
            },
            indent=1,
        )
        + b"\n"
    )


def _signed(document: dict[str, Any]) -> Signed:
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
    files = {str(r["name"]): str(r["digest"]) for r in statement["predicate"]["resources"]}
    public = signature = b""
    if envelope["signatures"]:
        only = envelope["signatures"][0]
        public, signature = (base64.b64decode(only[name], validate=True) for name in ("keyid", "sig"))
    return Signed(files, _root(files), public, signature, _envelope(_statement(files)))


def _hint(public: bytes) -> str:
    """sha256 of the PEM of a key, by which model-signing recognizes it; empty without one."""
    if not public:
        return ""
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(serialization.load_der_public_key(public).public_bytes(pem, form))


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, sort_keys=True).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(public: ec.EllipticCurvePublicKey) -> bytes:
    """The one encoding of a public key that is valid here."""
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _read_key(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"key={path}: cannot be read ({error.strerror}).") from error


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 private key in a PEM file; ConfigError when it holds none."""
    try:
        key = serialization.load_pem_private_key(_read_key(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"key={path}: not an unencrypted PEM private key.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"key={path}: not a P-256 key; make one: openssl ecparam -name prime256v1 -genkey -noout.")
    return key


def public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The P-256 public key in a PEM file; ConfigError when it holds none."""
    try:
        key = serialization.load_pem_public_key(_read_key(path))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"key={path}: not a PEM public key; make one: openssl ec -in PRIVATE -pubout.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"key={path}: not a P-256 public key.")
    return key
