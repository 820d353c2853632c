#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the house that no compiler knows.

- who may know whom: the dependency table of ARCHITECTURE.md, for normal dependencies (tests may use more);
- logic crates are no_std and forbid unsafe code; `unsafe` appears nowhere else either;
- every source file begins with its licence, and none of Rust, Python or C has more than 800 lines;
- crates that go to a registry say what it asks for, and their README has an example that is tested;
- README shows the very commands that scripts/ci.sh runs, and its lines have at most 120 characters;
- ARCHITECTURE.md can be read at one sitting: fewer than 2,000 words;
- doc/pitfalls.md says what the list in bledfu-sim/tests/pitfalls.rs says;
- every numbered case of doc/conformance has a test that cites it, and every citation names a case that exists;
- nobody but the service calls the front ends of bledfu-transfer;
- every step of scripts/ci.sh is in a job of .github/workflows/ci.yml, and no other.

scripts/test_check_rules.py tests the rules about lines, documents, cases and front ends.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

LOGIC = ("bledfu-wire", "bledfu-slot", "bledfu-transfer", "bledfu-swap", "bledfu-client", "bledfu-patch", "bledfu-text")
MAY_DEPEND_ON = {
    "bledfu-wire": {"bledfu-text", "base64", "crc", "minicbor", "micropb"},
    "bledfu-slot": {"bledfu-text", "embedded-storage", "sha2", "p256", "p256-cm4"},
    "bledfu-transfer": {
        "bledfu-wire", "bledfu-slot", "bledfu-patch", "bledfu-text", "defmt", "embedded-storage", "heapless", "log",
    },
    "bledfu-swap": {"bledfu-slot", "embedded-storage", "log"},
    "bledfu-client": {"bledfu-wire", "crc", "heapless"},
    # The packer sorts; the decoder needs nothing.
    "bledfu-patch": {"bledfu-text", "divsufsort"},
    "bledfu-zephyr": {"bledfu-text", "embedded-storage", "heapless", "log"},
    "bledfu-firmware": {"bledfu-wire", "bledfu-slot", "bledfu-transfer", "bledfu-text", "bledfu-zephyr", "heapless", "log"},
    "bledfu-text": set(),
    "bledfu-testkit": {"embedded-storage", "p256", "sha2"},
}
# Crates of the PC may use what they like, except this. Only bledfu-cli has a command line.
MUST_NOT_DEPEND_ON = {
    "bledfu-sim": {"bledfu-zephyr", "bledfu-firmware", "bledfu-cli", "anyhow", "clap", "ctrlc", "env_logger", "indicatif"},
    "bledfu-explain": {"bledfu-zephyr", "bledfu-firmware", "bledfu-cli", "bledfu-sender", "clap", "ctrlc", "env_logger", "indicatif", "rustix"},
    "bledfu-sender": {"bledfu-zephyr", "bledfu-firmware", "bledfu-cli", "bledfu-transfer", "clap", "ctrlc", "env_logger", "indicatif", "rustix"},
    "bledfu-cli": {"bledfu-zephyr", "bledfu-firmware"},
}
# Crates that may hold unsafe code, each block with a SAFETY line.
MAY_BE_UNSAFE = {"bledfu-zephyr"}
# The entry of an interrupt, in the example for embassy.
MAY_BE_UNSAFE |= {"nrf52840.rs"}
# An exception handler for QEMU, never in a product.
MAY_BE_UNSAFE |= {"arm-check"}
SOURCES = {".rs": "//", ".py": "#", ".sh": "#", ".toml": "#", ".c": "/*", ".h": "/*"}
CASE_LISTS = ("secure-dfu", "smp", "mcuboot", "boot-trust", "small-updates")
OUT_OF_SCOPE = "**Out of scope:**"
OPEN = "**Open:**"
MOST_COLUMNS = 120
MOST_WORDS = 2_000
MOST_LINES = 800
COMMANDS = ("cd rust && cargo run --release -- update", "cd rust && cargo test")

wrong = []


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


def check_dependencies():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT / "rust", capture_output=True, check=True).stdout)
    packages = {package["name"]: package for package in metadata["packages"]}
    for name, allowed in MAY_DEPEND_ON.items():
        for dependency in packages[name]["dependencies"]:
            if dependency["kind"] is None and dependency["name"] not in allowed:
                wrong.append(f"{name} must not know {dependency['name']} (ARCHITECTURE.md, crate rule)")
    for name, forbidden in MUST_NOT_DEPEND_ON.items():
        for dependency in packages[name]["dependencies"]:
            if dependency["kind"] is None and dependency["name"] in forbidden:
                wrong.append(f"{name} must not know {dependency['name']} (ARCHITECTURE.md, crate rule)")
    for name in set(packages) - set(MAY_DEPEND_ON) - set(MUST_NOT_DEPEND_ON):
        wrong.append(f"crate {name} has no row in the crate rule")
    table = (ROOT / "ARCHITECTURE.md").read_text()
    for name in packages:
        if f"\n| `{name}` | " not in table:
            wrong.append(f"crate {name} has no row in the table of ARCHITECTURE.md")


def check_packages():
    """What a registry wants to know, and an example that is compiled, for every crate that goes to one."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT / "rust", capture_output=True, check=True).stdout)
    packages = {package["name"]: package for package in metadata["packages"]}
    unpublished = {name for name, package in packages.items() if package["publish"] == []}
    for name, package in packages.items():
        folder = pathlib.Path(package["manifest_path"]).parent
        readme = folder / "README.md"
        if not readme.is_file():
            wrong.append(f"{name} has no README.md")
        if name in unpublished:
            if not re.search(r"^# .+\npublish = false$", (folder / "Cargo.toml").read_text(), re.MULTILINE):
                wrong.append(f"{name}/Cargo.toml does not say why it is not published")
            continue
        for field in ("description", "license", "repository", "readme", "keywords", "categories"):
            if not package[field]:
                wrong.append(f"{name}/Cargo.toml lacks {field}")
        if '#![doc = include_str!("../README.md")]' not in (folder / "src" / "lib.rs").read_text():
            wrong.append(f"{name}/src/lib.rs does not include README.md, so its example is not tested")
        if readme.is_file() and not re.search(r"^```rust$", readme.read_text(), re.MULTILINE):
            wrong.append(f"{name}/README.md has no example")
        if not (folder / "LICENSE").is_file():
            wrong.append(f"{name} has no link to LICENSE")
        for dependency in package["dependencies"]:
            if "path" not in dependency:
                continue
            dev_only = dependency["kind"] == "dev" and dependency["name"] in unpublished
            if (dependency["req"] == "*") != dev_only:
                wrong.append(f"{name} depends on {dependency['name']} with" + ("out" * (not dev_only)) + " a version")
        # What a crate includes from outside its folder is not in its package.
        for source in (folder / "src").rglob("*.rs"):
            up = "../" * len(source.relative_to(folder).parts)
            if re.search(rf'include_(str|bytes)!\((concat!\()?"{re.escape(up)}', source.read_text()):
                wrong.append(f"{source.relative_to(ROOT)} includes a file from outside its crate")


def check_sources():
    for name in LOGIC:
        head = (ROOT / "rust" / name / "src" / "lib.rs").read_text()
        for attribute in ("#![no_std]", "#![forbid(unsafe_code)]"):
            if attribute not in head:
                wrong.append(f"{name}/src/lib.rs lacks {attribute}")
    for path in tracked():
        comment = SOURCES.get(path.suffix)
        if comment is None or not path.is_file() or path.name == "Cargo.lock":
            continue
        text = path.read_text()
        shown = path.relative_to(ROOT)
        wrong.extend(too_many_lines(shown, text))
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in text.splitlines()[:3]):
            wrong.append(f"{shown} does not begin with its licence")
        if path.suffix == ".rs" and not MAY_BE_UNSAFE & set(shown.parts):
            code = re.sub(r"//.*", "", text)
            if re.search(r"\bunsafe\b(?!_code)", code):
                wrong.append(f"{shown} holds unsafe code")


def long_lines(name, text):
    """Lines of a document that are longer than MOST_COLUMNS characters."""
    lines = enumerate(text.splitlines(), 1)
    return [
        f"{name}:{number} has {len(line)} characters, {MOST_COLUMNS} is the most"
        for number, line in lines
        if len(line) > MOST_COLUMNS
    ]


def too_many_lines(path, text):
    """A fault if a source file of Rust, Python or C has more than MOST_LINES lines: it is about more than one subject."""
    lines = text.count("\n")
    if lines <= MOST_LINES or pathlib.PurePath(path).suffix not in {".rs", ".py", ".c", ".h"}:
        return []
    return [f"{path} has {lines} lines, {MOST_LINES} is the most: split it by subject"]


def too_many_words(name, text):
    """A fault if a document has MOST_WORDS words or more, counted as `wc -w` counts."""
    words = len(text.split())
    return [f"{name} has {words} words; fewer than {MOST_WORDS} are allowed"] if words >= MOST_WORDS else []


# A row of the list in pitfalls.rs: number, what others saw, why it cannot happen, tests.
PITFALL = re.compile(r'^    pitfall\(\n +(\d+),\n +"([^\n]*)",\n +"([^\n]*)",\n(.*?)^    \),$', re.MULTILINE | re.DOTALL)


def pitfall_faults(page, source):
    """What differs between the table of doc/pitfalls.md and the list in pitfalls.rs."""
    listed = {m[1]: (m[2], m[3], re.findall(r'"(\w+)"', m[4])) for m in PITFALL.finditer(source)}
    if not listed:
        return ["bledfu-sim/tests/pitfalls.rs has no list that this script understands"]
    shown = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdigit():
            shown[cells[0]] = (cells[1], cells[2], re.findall(r"`(\w+)` \(", cells[3]))
    return [
        f"doc/pitfalls.md and bledfu-sim/tests/pitfalls.rs differ in number {number}"
        for number in sorted(listed.keys() | shown.keys(), key=int)
        if listed.get(number) != shown.get(number)
    ]


def check_documents():
    wrong.extend(long_lines("README.md", (ROOT / "README.md").read_text()))
    wrong.extend(too_many_words("ARCHITECTURE.md", (ROOT / "ARCHITECTURE.md").read_text()))
    pitfalls = (ROOT / "rust" / "bledfu-sim" / "tests" / "pitfalls.rs").read_text()
    wrong.extend(pitfall_faults((ROOT / "doc" / "pitfalls.md").read_text(), pitfalls))


def check_readme():
    readme = (ROOT / "README.md").read_text()
    script = (ROOT / "scripts" / "ci.sh").read_text()
    for command in COMMANDS:
        if f"\n{command}\n" not in readme:
            wrong.append(f"README.md does not show the command `{command}`")
        if command not in script:
            wrong.append(f"scripts/ci.sh does not run the README's command `{command}`")


def split_tests(path, text):
    """The shipped part of a source file and its tests: all of it below a folder `tests`, else the module at its end."""
    path = pathlib.PurePath(path)
    if "tests" in path.parts[:-1] or path.name == "tests.rs":
        return "", text
    if path.suffix != ".rs":
        return text, ""
    module = re.search(r"^#\[cfg\(test\)\]\s+mod \w+ \{", text, re.MULTILINE)
    return (text[: module.start()], text[module.start() :]) if module else (text, "")


def parse_cases(name, text):
    """The cases of a page: which numbers there are, which of them have no test for a reason, and what is wrong with the page."""
    numbers, outside, faults = [], {}, []
    for line in text.splitlines():
        row = re.match(r"\| *(\d+) *\|", line)
        if row:
            numbers.append(int(row[1]))
            if OUT_OF_SCOPE in line:
                outside[int(row[1])] = "out of scope"
            if OPEN in line:
                outside[int(row[1])] = "open"
    # A page may put them in another order.
    if sorted(numbers) != list(range(1, len(numbers) + 1)) or not numbers:
        faults.append(f"doc/conformance/{name}.md: the numbers are not 1, 2, 3 and so on")
    return set(numbers), outside, faults


CITATION = re.compile(rf"\b({'|'.join(CASE_LISTS)}) cases? (\d+(?:-\d+)?(?:, \d+(?:-\d+)?)*)")
NAMELESS = re.compile(r"(?:\bcases? |\bfn case_)\d", re.IGNORECASE)


def citations(text):
    """List and number of every case cited, `smp cases 4, 7-9` being four."""
    for name, numbers in CITATION.findall(text):
        for part in numbers.split(", "):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                yield name, number


def case_faults(pages, sources):
    """What is wrong between the pages of cases (name -> text) and the sources that cite them (path -> text)."""
    faults, cases, outside, tested = [], {}, {}, {name: set() for name in pages}
    for name, text in pages.items():
        cases[name], outside[name], found = parse_cases(name, text)
        faults += found
    for path, text in sources.items():
        for name, number in citations(text):
            if number not in cases[name]:
                faults.append(f"{path} cites {name} case {number}, which doc/conformance/{name}.md does not have")
        tests = split_tests(path, text)[1]
        for name, number in citations(tests):
            tested[name].add(number)
        for line in CITATION.sub("", tests).splitlines():
            if NAMELESS.search(line):
                faults.append(f"{path}: `{line.strip()}` does not say which list of doc/conformance it means")
    for name in pages:
        for number in sorted(cases[name] - set(outside[name]) - tested[name]):
            faults.append(f"no test cites {name} case {number}")
        for number in sorted(set(outside[name]) & tested[name]):
            faults.append(f"{name} case {number} has a test, and doc/conformance/{name}.md says it is {outside[name][number]}")
    return faults


def check_cases():
    pages = {name: (ROOT / "doc" / "conformance" / f"{name}.md").read_text() for name in CASE_LISTS}
    sources = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in tracked()
        if path.suffix in {".rs", ".py", ".c", ".h", ".sh", ".md"} and path.is_file()
        and not path.match("doc/conformance/*") and path.name != "test_check_rules.py"
    }
    wrong.extend(case_faults(pages, sources))


# The front ends of bledfu-transfer, and the files that may name them.
FRONT_END = re.compile(
    r"\b(?:secure_dfu|smp)::(?:\*|\{[^}]*\b(?:SecureDfu|Smp)\b(?!::)|(?:SecureDfu|Smp)\b)"  # imported or with its path
    r"|(?<!::)\b(?:SecureDfu|Smp)(?:<|::<|::[a-z_])"  # as a type, or to call one of its functions
)
MAY_CALL_FRONT_ENDS = re.compile(r"rust/bledfu-transfer/src/(service\.rs|(secure_dfu|smp)(\.rs|/\w+\.rs))")


def front_end_faults(sources):
    """Shipped Rust code (path -> text) that makes or calls a front end past the service: a second loop begins so."""
    faults = []
    for path, text in sources.items():
        code = re.sub(r"//.*", "", split_tests(path, text)[0])
        if not MAY_CALL_FRONT_ENDS.fullmatch(path) and (found := FRONT_END.search(code)):
            faults.append(f"{path}: `{found[0]}`: only bledfu-transfer/src/service.rs may call a front end")
    return faults


def check_front_ends():
    for name, front_end in (("secure_dfu", "SecureDfu"), ("smp", "Smp")):
        if f"pub struct {front_end}<" not in (ROOT / "rust/bledfu-transfer/src" / f"{name}.rs").read_text():
            wrong.append(f"bledfu-transfer/src/{name}.rs has no {front_end}: give the rule about front ends its new name")
    sources = [path for path in tracked() if path.suffix == ".rs" and path.is_file()]
    wrong.extend(front_end_faults({str(path.relative_to(ROOT)): path.read_text() for path in sources}))


def workflow_faults(steps, workflow):
    """What is wrong between the steps of ci.sh and the text of the workflow, which names them behind `steps:` or `ci.sh`."""
    named = set()
    for words in re.findall(r"^ *steps: (\w[\w ]*)$|ci\.sh (\w[\w ]*)$", workflow, re.MULTILINE):
        named |= set(" ".join(words).split())
    return [f".github/workflows/ci.yml does not run the step {step} of scripts/ci.sh" for step in sorted(set(steps) - named)] + [
        f".github/workflows/ci.yml names a step {step}, which scripts/ci.sh does not have" for step in sorted(named - set(steps))
    ]


def check_workflow():
    steps = subprocess.run(["scripts/ci.sh", "--list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wrong.extend(workflow_faults(steps, (ROOT / ".github/workflows/ci.yml").read_text()))


def main():
    check_dependencies()
    check_packages()
    check_sources()
    check_readme()
    check_documents()
    check_cases()
    check_front_ends()
    check_workflow()
    for line in wrong:
        print(line)
    print(f"rules: {'broken, see above' if wrong else 'kept'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
