"""signature.json of the first bundles: a list of digests with, or without, an ECDSA signature over their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from robot.signature import BundleRefused, Signed

SCHEMA = 1


def parse(document: dict[str, Any], data: bytes, place: str) -> Signed:
    """What it says; BundleRefused unless every byte of `data` is as it was written then."""
    if document.get("schema") != SCHEMA:
        raise BundleRefused(
            f"{place}: schema {document.get('schema')!r} is unknown; this terrafirma reads {SCHEMA} and the OpenSSF "
            "model-signing format: use the version that made the bundle."
        )
    if (json.dumps(document, indent=1, sort_keys=True) + "\n").encode() != data:
        raise BundleRefused(f"{place}: not as terrafirma writes it: changed or damaged; copy the bundle again.")
    files = document.get("files")
    if set(document) != {"schema", "files", "digest", "ecdsa"} or not isinstance(files, dict):
        raise BundleRefused(f"{place}: its keys are not those of schema {SCHEMA}; copy the bundle again.")
    if document["digest"] != _digest(files):
        raise BundleRefused(f"{place}: its digest does not match its list of files; copy the bundle again.")
    digest, ecdsa = str(document["digest"]), document["ecdsa"]
    if ecdsa is None:
        return Signed(files, digest)
    try:
        public, signature = (bytes.fromhex(ecdsa[name]) for name in ("public_key", "signature"))
        if (public.hex(), signature.hex()) != (ecdsa["public_key"], ecdsa["signature"]) or len(ecdsa) != 2:
            raise ValueError("not canonical")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleRefused(f"{place}: its ECDSA signature is not valid; copy the bundle again.") from error
    return Signed(files, digest, public, signature, digest.encode())


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps({"schema": SCHEMA, "files": files}, sort_keys=True).encode()).hexdigest()
