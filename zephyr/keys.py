#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns P-256 public keys in PEM files into the C source with the firmware's keys.

With --signing FILE nothing is made: the private key that signs images is checked, and with --image whether its public half is one of
those keys. Keys that everybody has (tests/vectors/keys) are refused without --trial.
"""

import argparse
import base64
import binascii
import hashlib
import pathlib
import sys

# SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point (RFC 5480).
HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
OPTION = {"package": "CONFIG_BLEDFU_PACKAGE_KEY_FILE", "image": "CONFIG_BLEDFU_IMAGE_KEY_FILE"}
MOST = 4  # bledfu-firmware's MAX_KEYS
KNOWN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors" / "keys" / "known.txt"
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def known(key):
    """What this key is called, if everybody has its private half."""
    digest = hashlib.sha256(key).hexdigest()
    for line in KNOWN.read_text(encoding="ascii").splitlines():
        number, _, name = line.partition(" ")
        if number == digest:
            return name
    return None


def refuse_known(name, key, trial):
    what = known(key)
    if what and not trial:
        sys.exit(
            f"{name} is {what}: anybody can sign with it. Use a key of your own "
            "(nrfutil keys generate, imgtool keygen), or mark the build as a trial: CONFIG_BLEDFU_TRIAL=y, SB_CONFIG_BLEDFU_TRIAL=y"
        )


def check_signing(name, trial, images):
    """A private key of P-256, SEC1 or PKCS #8, usually ends with its public point. One of another form is for imgtool to judge."""
    option = "SB_CONFIG_BOOT_SIGNATURE_KEY_FILE"
    if not name:
        sys.exit(f"no key signs the application: set {option} in sysbuild.conf to a private P-256 key (imgtool keygen -t ecdsa-p256)")
    try:
        text = pathlib.Path(name).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"cannot read the key that signs images, {name} ({option}): {error}")
    if "PUBLIC KEY" in text:
        sys.exit(f"{name} holds a public key, and {option} needs the private one")
    try:
        der = base64.b64decode("".join(line for line in text.split("-----")[2].split() if ":" not in line), validate=True)
    except (IndexError, binascii.Error):
        return
    kind = kind_of(text, der)
    if kind and not kind.startswith("an encrypted"):
        sys.exit(f"{name} is {kind}; bledfu checks P-256 signatures: name a P-256 key in {option} (imgtool keygen -t ecdsa-p256)")
    refuse_known(name, der[-64:], trial)
    if images and on_curve(der[-64:]) and not any(point(image) == der[-64:] for image in images):
        sys.exit(f"{name} ({option}) signs the application, and its public half is not in CONFIG_BLEDFU_IMAGE_KEY_FILE "
                 f"({' '.join(images)}): the device would refuse its own images; imgtool getpub -e pem -k {name} makes the file")


# The object identifiers of other kinds of keys, as in RFC 8017, RFC 8410 and RFC 5480.
KINDS = {
    "2a864886f70d010101": "an RSA key",
    "2b6570": "an Ed25519 key",
    "2b656e": "an X25519 key",
    "2b81040022": "a key of the curve P-384",
    "2b81040023": "a key of the curve P-521",
    "2b8104000a": "a key of the curve secp256k1",
}


def kind_of(text, der):
    """What the file holds, if it is no P-256 key but something that is known."""
    if "ENCRYPTED" in text:
        return "an encrypted private key"
    if "RSA" in text.split("-----")[1]:
        return "an RSA key"
    if "CERTIFICATE" in text.split("-----")[1]:
        return "a certificate"
    for identifier, kind in KINDS.items():
        encoded = bytes.fromhex(identifier)
        if bytes([6, len(encoded)]) + encoded in der[:40]:
            return kind
    return None


def on_curve(key):
    x, y = int.from_bytes(key[:32], "big"), int.from_bytes(key[32:], "big")
    return len(key) == 64 and x < P and y < P and (y * y - (x * x * x - 3 * x + B)) % P == 0


def point(name):
    try:
        text = pathlib.Path(name).read_text(encoding="ascii")
    except UnicodeDecodeError:
        sys.exit(f"{name} is not a PEM file with a public key; a DER file becomes one by openssl ec -pubin -inform DER -in {name}")
    except OSError as error:
        sys.exit(f"cannot read the key file {name}: {error}")
    if "PRIVATE KEY" in text:
        what = "an encrypted private key" if "ENCRYPTED" in text else "a private key"
        sys.exit(f"{name} holds {what}; firmware gets the public one (openssl ec -in {name} -pubout)")
    lines = [line.strip() for line in text.strip().splitlines()]
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        der = None
    kind = kind_of(text, der or b"") if text.startswith("-----BEGIN") else None
    if kind:
        sys.exit(f"{name} is {kind}; bledfu checks P-256 signatures: use a P-256 key (nrfutil keys generate, imgtool keygen -t ecdsa-p256)")
    if len(lines) < 3 or lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        sys.exit(f"{name} is not a PEM file with a public key")
    if der is None:
        sys.exit(f"{name} is damaged: its text is not Base64")
    if not der.startswith(HEAD) or len(der) != len(HEAD) + 64:
        sys.exit(f"{name} is not a P-256 public key (uncompressed)")
    key = der[len(HEAD) :]
    if not on_curve(key):
        sys.exit(f"{name} is damaged: its key is not a point of P-256")
    return key


def array(kind, names, trial):
    """The keys of one kind; no kind that this image does not check."""
    if names is None:
        return f"static const uint8_t {kind}_keys[0];\n"
    if not names:
        sys.exit(f"no key for {kind}s: set {OPTION[kind]} (to try it out: CONFIG_BLEDFU_DEMO_KEYS=y)")
    if len(names) > MOST:
        sys.exit(f"{OPTION[kind]} names {len(names)} keys; {MOST} is the most")
    rows = []
    for name in names:
        key = point(name)
        refuse_known(name, key, trial)
        rows += [",".join(f"0x{byte:02x}" for byte in key[at : at + 16]) + "," for at in range(0, 64, 16)]
    return f"static const uint8_t {kind}_keys[] = {{\n" + "\n".join(rows) + "\n};\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output")
    parser.add_argument("--signing")
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--package", nargs="*")
    parser.add_argument("--image", nargs="*")
    arguments = parser.parse_args()
    if arguments.signing is not None:
        check_signing(arguments.signing, arguments.trial, arguments.image)
        return
    if not arguments.output:
        parser.error("--output or --signing")
    source = f"""/* SPDX-License-Identifier: Apache-2.0 */
/* Made by bledfu's zephyr/keys.py. */
#include "bledfu_shim.h"

{array("package", arguments.package, arguments.trial)}
{array("image", arguments.image, arguments.trial)}
uint32_t bledfu_shim_keys(uint8_t kind, const uint8_t **bytes)
{{
	*bytes = kind == 0 ? package_keys : image_keys;
	return (kind == 0 ? sizeof(package_keys) : sizeof(image_keys)) / 64;
}}
"""
    output = pathlib.Path(arguments.output)
    if not output.exists() or output.read_text() != source:
        output.write_text(source)


main()
