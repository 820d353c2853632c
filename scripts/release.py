#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a release: the version in all its places, the changelog, the files to publish, and signed checksums.

    scripts/release.py --check                 every place names the same version
    scripts/release.py prepare 0.2.0           set the version, and date the changelog's entry; look at it, commit it
    scripts/release.py build --key KEY         build the files of the committed version into rust/target/release-VERSION
    scripts/release.py verify FOLDER --signers FILE      check such a folder, as whoever downloads it does
    scripts/release.py --dry-run               all of it on a copy, with a key made for that; CI runs this

KEY is an SSH key for signing (`ssh-keygen -t ed25519`, also one on a token); FILE has its public half, as ssh-keygen's allowed
signers (`release@bledfu ssh-ed25519 AAAA…`). Nothing is pushed and nothing is published: at its end, `build` says which commands do.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import dist
import reproducible

NAMESPACE = "bledfu-release"
SIGNER = "release@bledfu"
SUMS = "SHA256SUMS"
UNRELEASED = "## Unreleased\n"
# Crates outside of the workspace that carry the same version, and have a Cargo.lock of their own.
OUTSIDE = ("boot", "firmware", "fuzz", "module", "size")
VERSION_FIELDS = ("VERSION_MAJOR", "VERSION_MINOR", "PATCHLEVEL")


class ReleaseError(Exception):
    """One sentence."""


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


# ---- the version

def zephyr_version(text):
    return ".".join(re.search(rf"^{field} *= *(\d+)", text, re.MULTILINE)[1] for field in VERSION_FIELDS)


def places(root):
    """Every place of the version, and what it says there."""
    workspace = tomllib.loads((root / "rust/Cargo.toml").read_text())["workspace"]
    found = {"VERSION": zephyr_version((root / "VERSION").read_text()), "rust/Cargo.toml": workspace["package"]["version"]}
    for name, dependency in workspace["dependencies"].items():
        if isinstance(dependency, dict) and "path" in dependency and "version" in dependency:
            found[f"rust/Cargo.toml, {name}"] = dependency["version"]
    for crate in OUTSIDE:
        found[f"rust/{crate}/Cargo.toml"] = tomllib.loads((root / f"rust/{crate}/Cargo.toml").read_text())["package"]["version"]
    return found


def check(root):
    version = dist.version(root)
    wrong = [f"{place} says {found}" for place, found in places(root).items() if found != version]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        wrong.append("a version is three numbers")
    if wrong:
        raise ReleaseError(f"rust/Cargo.toml says {version}, but {', '.join(wrong)}")
    return version


def substitute(path, pattern, replacement, at_least=1):
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    if count < at_least:
        raise ReleaseError(f"{path}: the version was not found")
    path.write_text(text)


def prepare(root, version, date):
    """Sets the version everywhere, and gives the changelog's unreleased entry its heading."""
    old = check(root)
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"{version} is no version: three numbers, such as 0.2.0")
    if [int(part) for part in version.split(".")] < [int(part) for part in old.split(".")]:
        raise ReleaseError(f"{version} is older than {old}")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text()
    if UNRELEASED not in text:
        raise ReleaseError("CHANGELOG.md has no entry `## Unreleased`")
    notes(text, "Unreleased")
    if re.search(rf"^## {re.escape(version)} ", text, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has an entry for {version} already")
    changelog.write_text(text.replace(UNRELEASED, f"{UNRELEASED}\n## {version} ({date})\n", 1))

    for field, number in zip(VERSION_FIELDS, version.split(".")):
        substitute(root / "VERSION", rf"^{field}( *)=.*$", rf"{field}\1= {number}")
    quoted = re.escape(old)
    manifest = root / "rust/Cargo.toml"
    substitute(manifest, rf'^version = "{quoted}"$', f'version = "{version}"')
    substitute(manifest, rf'^(bledfu-[a-z]+ = .*version = )"{quoted}"', rf'\1"{version}"')
    for crate in OUTSIDE:
        substitute(root / f"rust/{crate}/Cargo.toml", rf'^version = "{quoted}"$', f'version = "{version}"')
    # Every Cargo.lock with crates of ours, also those that cargo cannot resolve without Zephyr.
    for lock in sorted(root.glob("rust/**/Cargo.lock")) + sorted(root.glob("samples/**/Cargo.lock")):
        if "target" not in lock.relative_to(root).parts:
            relock(lock, version)
    check(root)


def relock(lock, version):
    """The new version for the packages of a Cargo.lock that come from this repository: those without a source."""
    def one(match):
        block = match[0]
        if "\nsource = " in block or not re.search(r'^name = "(bledfu.*|rustapp)"$', block, re.MULTILINE):
            return block
        return re.sub(r'^version = ".*"$', f'version = "{version}"', block, flags=re.MULTILINE)

    lock.write_text(re.sub(r"^\[\[package\]\]\n(?:.+\n)+", one, lock.read_text(), flags=re.MULTILINE))


def notes(text, name):
    """The entry of the changelog under a heading that begins with `name`."""
    found = re.search(rf"^## {re.escape(name)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        raise ReleaseError(f"CHANGELOG.md says nothing of {name}")
    return found[1].strip() + "\n"


# ---- the files

def build(root, program, folder, key):
    """Fills `folder` with what is published, `program` among it, and signs it."""
    version = check(root)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "NOTES.md").write_text(notes((root / "CHANGELOG.md").read_text(), version))

    name = f"bledfu-{version}"
    run("git", "archive", "--format=tar.gz", f"--prefix={name}/", "-o", str(folder / f"{name}.tar.gz"), "HEAD", cwd=root)
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"^host: (.+)$", host, re.MULTILINE)[1]
    shutil.copy2(program, folder / f"{name}-{host}")

    tools = subprocess.run([str(dist.ROOT / "scripts/tools.sh")], capture_output=True, text=True, check=True).stdout.strip()
    device = dist.BOOT_TARGET
    for crate, package, target, what in (("rust", "bledfu-cli", host, "bledfu"), ("rust/module", "bledfu", device, "module"),
                                         ("rust/boot", "bledfu-boot", device, "boot")):
        run(f"{tools}/python", str(dist.ROOT / "scripts/sbom.py"), str(root / crate), package, target, str(folder / f"{name}-{what}.cdx.json"))

    sums = folder / SUMS
    files = sorted(path for path in folder.iterdir())
    sums.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files))
    run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums))
    return version


def verify(folder, signers):
    """Fails unless the checksums are signed by a known key, and every file has its own."""
    sums = folder / SUMS
    with open(sums, "rb") as file:
        signature = subprocess.run(["ssh-keygen", "-q", "-Y", "verify", "-f", str(signers), "-I", SIGNER, "-n", NAMESPACE,
                                    "-s", f"{sums}.sig"], stdin=file, capture_output=True, text=True)
    if signature.returncode != 0:
        raise ReleaseError(f"{SUMS} is not signed by a key of {signers}: {signature.stdout.strip() or signature.stderr.strip()}")
    expected = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines())
    there = {path.name for path in folder.iterdir()} - {SUMS, f"{SUMS}.sig"}
    if there != set(expected):
        raise ReleaseError(f"not the files of {SUMS}: {', '.join(sorted(there ^ set(expected)))}")
    for name, digest in expected.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ReleaseError(f"{name} differs from its checksum")


def packages(root):
    """Crates that go to a registry, each after those it depends on."""
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=root / "rust",
                              capture_output=True, check=True).stdout
    rest = {package["name"]: {dependency["name"] for dependency in package["dependencies"] if "path" in dependency and dependency["req"] != "*"}
            for package in json.loads(metadata)["packages"] if package["publish"] != []}
    order = []
    while rest:
        ready = sorted(name for name, needs in rest.items() if not needs & set(rest))
        if not ready:
            raise ReleaseError(f"crates depend on each other in a circle: {', '.join(sorted(rest))}")
        order += ready
        for name in ready:
            del rest[name]
    return order


# ---- rehearsal

def dry_run():
    """A whole release of the next version, on a copy and with a key that is thrown away; then two frauds that must be found."""
    with tempfile.TemporaryDirectory(prefix="bledfu-release-") as temporary:
        temporary = pathlib.Path(temporary)
        root = temporary / "sources"
        reproducible.copy_sources(root)
        major, minor, _ = check(root).split(".")
        version = f"{major}.{int(minor) + 1}.0"
        prepare(root, version, datetime.date.today().isoformat())
        print(f"version {version} in {len(places(root))} places")

        identity = ("-c", "user.name=release", "-c", f"user.email={SIGNER}", "-c", "commit.gpgsign=false")
        run("git", "init", "-q", cwd=root)
        run("git", "add", "-A", cwd=root)
        run("git", *identity, "commit", "-q", "-m", f"release: {version}", cwd=root)

        key, signers = temporary / "key", temporary / "signers"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f", str(key))
        signers.write_text(f"{SIGNER} {(temporary / 'key.pub').read_text()}")
        folder = temporary / "files"
        # The program of this version stands for that of the next: building it again would show nothing new.
        program = dist.build_command(dist.ROOT, dist.ROOT / "rust/target")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if said != f"bledfu {dist.version()}":
            raise ReleaseError(f"the program says `{said}`, not `bledfu {dist.version()}`")
        build(root, program, folder, key)
        verify(folder, signers)
        for path in sorted(folder.iterdir()):
            print(f"{path.stat().st_size:>10}  {path.name}")
        print(f"to a registry: {', '.join(packages(root))}")

        published = next(folder.glob("*.tar.gz"))
        must_fail("a changed file", folder, signers, lambda: published.write_bytes(published.read_bytes() + b"\0"))
        strangers = temporary / "strangers"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(strangers))
        strangers.write_text(f"{SIGNER} {(temporary / 'strangers.pub').read_text()}")
        must_fail("a stranger's key", folder, strangers, lambda: None)
    print("a release can be made: a changed file and a stranger's key are found")


def must_fail(what, folder, signers, spoil):
    spoil()
    try:
        verify(folder, signers)
    except ReleaseError as error:
        print(f"{what}: {error}".replace(str(signers), "the signers"))
    else:
        raise ReleaseError(f"{what} was not found")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="every place names the same version")
    parser.add_argument("--dry-run", action="store_true", help="rehearse a release on a copy")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("prepare", help="set the version").add_argument("version")
    commands.add_parser("build", help="build and sign the files").add_argument("--key", required=True)
    verifying = commands.add_parser("verify", help="check a folder of files")
    verifying.add_argument("folder", type=pathlib.Path)
    verifying.add_argument("--signers", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    root = dist.ROOT
    if arguments.command == "prepare":
        prepare(root, arguments.version, datetime.date.today().isoformat())
        print("look at `git diff`, then commit it as `release: " + arguments.version + "`")
    elif arguments.command == "build":
        if subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True).stdout:
            raise ReleaseError("there are uncommitted changes: a release is built from a commit")
        version = dist.version()
        folder = root / "rust/target" / f"release-{version}"
        build(root, dist.build_command(root, root / "rust/target"), folder, arguments.key)
        print(f"in {folder.relative_to(root)}. What is left to do, in this order:")
        print(f"  git tag -s v{version} && git push origin v{version}")
        for name in packages(root):
            print(f"  cargo publish --locked -p {name}      (in rust/)")
        print("  publish the files with NOTES.md as text")
    elif arguments.command == "verify":
        verify(arguments.folder, arguments.signers)
        print("signed, and complete")
    elif arguments.dry_run:
        dry_run()
    elif arguments.check:
        print(f"version {check(root)} everywhere")
    else:
        parser.print_help()
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ReleaseError, dist.BuildError) as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} failed{': ' + error.stderr.strip() if isinstance(error.stderr, str) else ''}")
