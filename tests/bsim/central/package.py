#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A package of nrfutil as C arrays: package.py PACKAGE.zip OUTPUT.c"""

import hashlib
import json
import struct
import sys
import zipfile


def array(name, data):
    lines = [",".join(map(str, data[at:at + 64])) for at in range(0, len(data), 64)]
    return "const uint8_t %s[] = {\n%s};\nconst size_t %s_size = sizeof(%s);\n" % (name, ",\n".join(lines), name, name)


def digest_of(image):
    """The SHA-256 entry of an MCUboot image."""
    header_size, protected_size, size = struct.unpack_from("<HHI", image, 8)
    at = header_size + size + protected_size + 4
    while True:
        kind, length = struct.unpack_from("<HH", image, at)
        if kind == 0x10:
            return image[at + 4:at + 4 + length]
        at += 4 + length


def main():
    package, output = sys.argv[1:]
    with zipfile.ZipFile(package) as archive:
        application = json.loads(archive.read("manifest.json"))["manifest"]["application"]
        init, image = archive.read(application["dat_file"]), archive.read(application["bin_file"])
    with open(output, "w") as file:
        file.write('#include "package.h"\n' + array("package_init", init) + array("package_image", image)
                   + array("package_sha", hashlib.sha256(image).digest()) + array("package_hash", digest_of(image)))


if __name__ == "__main__":
    main()
