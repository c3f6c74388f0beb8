"""signature.json: which bytes belong to a bundle, and who says so.

It lists the sha256 of each file, a digest over that list, and optionally an ECDSA P-256 signature of the
digest. The file has one valid serialization only, so that no byte of it can change unnoticed either.
Without a key it proves that a bundle is whole; with a pinned public key, also who made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from robot.config import ConfigError

SCHEMA = 1
NAME = "signature.json"


class BundleRefused(ConfigError):
    """A bundle must not run here; the message names the file and the reason."""

    exit_code = 4


def sign(contents: Mapping[str, bytes], key: Path | None = None) -> bytes:
    """The bytes of signature.json for these files.

    `key` is a PEM file with an ECDSA P-256 private key. The signature is deterministic (RFC 6979): the same
    files and key give the same bytes.
    """
    digests = {name: sha256(data) for name, data in contents.items()}
    document: dict[str, Any] = {"schema": SCHEMA, "files": digests, "digest": _digest(digests), "ecdsa": None}
    if key is not None:
        private = _private_key(key)
        signature = private.sign(document["digest"].encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        document["ecdsa"] = {"public_key": _encoded(private.public_key()), "signature": signature.hex()}
    return _canonical(document)


def parse(data: bytes, place: str) -> dict[str, Any]:
    """signature.json as a dict; BundleRefused unless every byte of it is as `sign` writes it."""
    try:
        document = json.loads(data)
        whole = _canonical(document) == data
    except ValueError:
        whole = False
    if not whole or not isinstance(document, dict):
        raise BundleRefused(f"{place}: not as terrafirma writes it: changed or damaged; copy the bundle again.")
    if document.get("schema") != SCHEMA:
        raise BundleRefused(
            f"{place}: schema {document.get('schema')!r} is unknown; this terrafirma reads {SCHEMA}: "
            "use the version that made the bundle."
        )
    digests = document.get("files")
    if set(document) != {"schema", "files", "digest", "ecdsa"} or not isinstance(digests, dict):
        raise BundleRefused(f"{place}: its keys are not those of schema {SCHEMA}; copy the bundle again.")
    if document["digest"] != _digest(digests):
        raise BundleRefused(f"{place}: its digest does not match its list of files; copy the bundle again.")
    return document


def check(document: Mapping[str, Any], place: str, key: Path | None) -> str:
    """Verify the ECDSA signature, with `key` against that PEM public key alone; returns a sentence."""
    ecdsa = document["ecdsa"]
    if ecdsa is None:
        if key is not None:
            raise BundleRefused(f"{place}: the bundle is not signed, and {key} was asked for; export it with key=.")
        return "not signed: whole, but by nobody in particular"
    try:
        encoded, signature = ecdsa["public_key"], bytes.fromhex(ecdsa["signature"])
        public = serialization.load_der_public_key(bytes.fromhex(encoded))
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise ValueError("no P-256 key")
        # hex has two spellings of a digit and keys more than one encoding; only ours is valid
        if set(ecdsa) != {"public_key", "signature"} or signature.hex() != ecdsa["signature"]:
            raise ValueError("not canonical")
        if _encoded(public) != encoded:
            raise ValueError("not canonical")
        public.verify(signature, document["digest"].encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError, TypeError) as error:
        raise BundleRefused(f"{place}: its ECDSA signature is not valid; copy the bundle again.") from error
    if key is not None and _encoded(_public_key(key)) != encoded:
        raise BundleRefused(f"{place}: signed by another key than {key}; get the bundle from who holds that key.")
    return "signed" + (f" by {key}" if key is not None else "; pin the signer with key=FILE")


def sha256(data: bytes) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _digest(digests: Mapping[str, str]) -> str:
    return sha256(json.dumps({"schema": SCHEMA, "files": digests}, sort_keys=True).encode())


def _canonical(document: Any) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _encoded(public: ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.DER, form).hex()


def _read_key(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"key={path}: cannot be read ({error.strerror}).") from error


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read_key(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"key={path}: not an unencrypted PEM private key.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"key={path}: not a P-256 key; make one: openssl ecparam -name prime256v1 -genkey -noout.")
    return key


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(_read_key(path))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"key={path}: not a PEM public key; make one: openssl ec -in PRIVATE -pubout.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"key={path}: not a P-256 public key.")
    return key
