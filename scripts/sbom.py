#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A list of the components that a crate is built from (CycloneDX 1.6, JSON), from its Cargo.lock.

    $(scripts/tools.sh)/python scripts/sbom.py rust bledfu-cli TARGET FILE

Only what is linked for that target: build and development dependencies and procedural macros are left out. Needs
cyclonedx-python-lib (scripts/tools.sh).
"""

import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def linked(metadata, name):
    """Identifiers of the packages that `name` links, itself first, and for each what it links."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(package["id"] for package in metadata["packages"]
                if package["name"] == name and package["id"] in metadata["workspace_members"])
    macros = {package["id"] for package in metadata["packages"]
              if any("proc-macro" in target["kind"] for target in package["targets"])}
    edges, queue = {}, [root]
    while queue:
        at = queue.pop()
        if at in edges:
            continue
        edges[at] = [dependency["pkg"] for dependency in nodes[at]["deps"]
                     if dependency["pkg"] not in macros and any(kind["kind"] is None for kind in dependency["dep_kinds"])]
        queue += edges[at]
    return root, edges


def make(folder, name, target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout)
    lock = tomllib.loads((folder / "Cargo.lock").read_text())
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root, edges = linked(metadata, name)
    licenses = LicenseFactory()

    components = {}
    for at in edges:
        package = packages[at]
        checksum = checksums[package["name"], package["version"]]
        components[at] = Component(
            type=ComponentType.APPLICATION if at == root else ComponentType.LIBRARY,
            name=package["name"],
            version=package["version"],
            bom_ref=f"{package['name']}@{package['version']}",
            description=package["description"],
            licenses=[licenses.make_from_string(package["license"])] if package["license"] else [],
            purl=PackageURL("cargo", None, package["name"], package["version"]),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
        )
    identity = f"{name} {packages[root]['version']} {sorted(map(str, edges))}"
    # The same sources make the same file: no random serial number, and no time.
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, identity))
    bom.metadata.component = components[root]
    for at, component in components.items():
        if at != root:
            bom.components.add(component)
        bom.register_dependency(component, [components[on] for on in edges[at]])
    text = json.loads(JsonV1Dot6(bom).output_as_string())
    text["metadata"].pop("timestamp", None)
    return text


def main():
    folder, name, target, file = sys.argv[1:]
    text = make(pathlib.Path(folder), name, target)
    pathlib.Path(file).write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
    print(f"{name}: {len(text['components'])} components")


if __name__ == "__main__":
    main()
