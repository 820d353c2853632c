#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of check_rules.py: each rule about lines, documents, cases and front ends finds what breaks it, and nothing else."""

import unittest

import check_rules as rules

PAGE = """# Cases
| # | Sent | Must happen |
|---|---|---|
| 1 | one | answered |
| 2 | two | answered |
| 3 | three | **Out of scope:** no such thing |
"""
TESTS = "tests/all.rs"


def faults(tests, page=PAGE, path=TESTS):
    return rules.case_faults({"smp": page}, {path: tests})


class Sources(unittest.TestCase):
    def test_a_source_file_of_more_than_800_lines_is_found(self):
        for path in ("rust/a/src/lib.rs", "scripts/a.py", "zephyr/shim/a.c", "zephyr/shim/a.h"):
            self.assertEqual(rules.too_many_lines(path, "\n" * 800), [])
            self.assertEqual(
                rules.too_many_lines(path, "\n" * 801), [f"{path} has 801 lines, 800 is the most: split it by subject"]
            )

    def test_other_files_may_be_longer(self):
        for path in ("rust/Cargo.toml", "scripts/ci.sh"):
            self.assertEqual(rules.too_many_lines(path, "\n" * 801), [])


class Cases(unittest.TestCase):
    def test_a_page_whose_cases_are_all_cited_is_right(self):
        self.assertEqual(faults("// smp case 1\n// smp case 2: two\n"), [])
        self.assertEqual(faults("// smp cases 1, 2\n"), [])
        self.assertEqual(faults("check(); // smp cases 1-2\n"), [])
        self.assertEqual(faults("# smp cases 1, 2\n", path="tests/clients/run.py"), [])
        self.assertEqual(faults("/* smp cases 1, 2 */\n", path="tests/zephyr/flash/src/main.c"), [])

    def test_a_number_without_a_test_is_found(self):
        self.assertEqual(faults("// smp case 2\n"), ["no test cites smp case 1"])

    def test_a_number_that_does_not_exist_is_found(self):
        expected = ["tests/all.rs cites smp case 4, which doc/conformance/smp.md does not have"]
        self.assertEqual(faults("// smp cases 1, 2, 4\n"), expected)
        self.assertEqual(faults("// smp cases 1-2, 4\n"), expected)

    def test_a_number_that_does_not_exist_is_found_in_documents_and_in_shipped_code_too(self):
        pages, tests = {"smp": PAGE}, {TESTS: "// smp cases 1, 2"}
        for path in ("doc/porting.md", "rust/bledfu-swap/src/boot.rs"):
            self.assertEqual(len(rules.case_faults(pages, {**tests, path: "see smp case 9"})), 1)

    def test_shipped_code_is_no_test(self):
        source = "// smp case 1\nfn shipped() {}\n\n#[cfg(test)]\nmod tests {\n    // smp case 2\n}\n"
        path = "rust/bledfu-slot/src/decide.rs"
        self.assertEqual(faults(source, path=path), ["no test cites smp case 1"])
        self.assertEqual(faults("#[cfg(test)]\nextern crate std;\n// smp cases 1, 2\n", path=path).__len__(), 2)
        self.assertEqual(faults("// smp cases 1, 2", path="rust/bledfu-firmware/src/tests.rs"), [])

    def test_a_case_out_of_scope_needs_no_test_and_may_not_have_one(self):
        found = faults("// smp cases 1-3\n")
        self.assertEqual(found, ["smp case 3 has a test, and doc/conformance/smp.md says it is out of scope"])

    def test_an_open_case_needs_no_test_until_it_has_one(self):
        page = PAGE + "| 4 | four | **Open:** answered |\n"
        self.assertEqual(faults("// smp cases 1, 2\n", page=page), [])
        found = faults("// smp cases 1, 2, 4\n", page=page)
        self.assertEqual(found, ["smp case 4 has a test, and doc/conformance/smp.md says it is open"])

    def test_a_page_may_group_its_cases_and_leaves_none_out(self):
        rows = ["| 1 | one | answered |", "| 2 | two | answered |", "| 3 | three | answered |"]
        page = lambda *order: "\n".join(rows[at] for at in order)
        self.assertEqual(faults("// smp cases 1-3\n", page=page(2, 0, 1)), [])
        self.assertEqual(len(faults("// smp cases 1, 3\n", page=page(2, 0))), 1)
        self.assertEqual(len(faults("// smp cases 1-3\n", page=page(2, 0, 1, 0))), 1)

    def test_a_number_without_the_name_of_its_list_is_found(self):
        for line in ("// case 7", "// Cases 3 to 5: more", "fn case_7_is_well() {}"):
            found = faults(f"// smp cases 1, 2\n    {line}\n")
            self.assertEqual(len(found), 1, line)
            self.assertIn(line, found[0])
        self.assertEqual(faults("// smp cases 1, 2\nlet case = 7; // in that case, 7\n"), [])

    def test_numbers_that_are_missing_or_double_are_found(self):
        for page in (PAGE.replace("| 2 |", "| 1 |"), PAGE.replace("| 2 | two | answered |\n", ""), "# nothing\n"):
            self.assertIn("doc/conformance/smp.md: the numbers are not 1, 2, 3 and so on", faults("", page))


class Documents(unittest.TestCase):
    LIST = '''
    pitfall(
        1,
        "it fails",
        "It cannot.",
        &["a_test", "another"],
    ),
    pitfall(
        2,
        "it hangs",
        "There is no such thing.",
        &[],
    ),
'''
    TABLE = """| # | Saw | Why not | Shown by |
|---|---|---|---|
| 1 | it fails | It cannot. | `a_test` (data.rs)<br>`another` (data.rs) |
| 2 | it hangs | There is no such thing. | – |
"""

    def test_a_line_that_is_too_long_is_found(self):
        self.assertEqual(rules.long_lines("README.md", "x" * 120 + "\n" + "─" * 120), [])
        expected = ["README.md:2 has 121 characters, 120 is the most"]
        self.assertEqual(rules.long_lines("README.md", "short\n" + "x" * 121), expected)

    def test_a_document_that_is_too_long_is_found(self):
        self.assertEqual(rules.too_many_words("A.md", "word " * 1_999), [])
        expected = ["A.md has 2000 words; fewer than 2000 are allowed"]
        self.assertEqual(rules.too_many_words("A.md", "word\n" * 2_000), expected)

    def test_a_page_of_pitfalls_that_says_what_the_list_says_is_right(self):
        self.assertEqual(rules.pitfall_faults(self.TABLE, self.LIST), [])

    def test_a_pitfall_that_differs_is_found(self):
        differs = "doc/pitfalls.md and bledfu-sim/tests/pitfalls.rs differ in number "
        for change in (("it fails", "it failed"), ("It cannot.", "It can."), ("`another`", "`a_third`")):
            self.assertEqual(rules.pitfall_faults(self.TABLE.replace(*change), self.LIST), [differs + "1"])
        shorter = self.TABLE.replace("| 2 | it hangs | There is no such thing. | – |\n", "")
        self.assertEqual(rules.pitfall_faults(shorter, self.LIST), [differs + "2"])
        longer = self.TABLE + "| 3 | it burns | It does not. | – |\n"
        self.assertEqual(rules.pitfall_faults(longer, self.LIST), [differs + "3"])

    def test_a_list_of_another_form_is_found(self):
        self.assertEqual(len(rules.pitfall_faults(self.TABLE, "no list")), 1)


class FrontEnds(unittest.TestCase):
    CALLS = (
        "use bledfu_transfer::secure_dfu::SecureDfu;",
        "use bledfu_transfer::smp::{Config, Smp};",
        "use crate::smp::{\n    Config,\n    Smp,\n};",
        "use crate::secure_dfu::*;",
        "let front = secure_dfu::SecureDfu::new(config);",
        "struct Device<'k> { front: SecureDfu<'k> }",
        "let smp = Smp::new(config, 2475);",
        "fn step(smp: &mut Smp<'_>) {}",
    )
    FINE = (
        "use bledfu_transfer::secure_dfu::{Config, Transport};",
        "use bledfu_wire::smp::{Header, Request};",
        "channel: Channel::Smp,",
        "match protocol { Protocol::SecureDfu => 1, Protocol::Smp => 2 }",
        "use bledfu_wire::smp::Failure; let failure = Failure::Smp(code);",
        "// the service calls SecureDfu<'_>::handle",
        "use bledfu_transfer::service::{Service, Step};",
    )

    def test_code_that_names_a_front_end_is_found(self):
        for path in ("rust/bledfu-firmware/src/lib.rs", "rust/size/src/lib.rs", "rust/fuzz/fuzz_targets/smp_session.rs"):
            for line in self.CALLS:
                self.assertEqual(len(rules.front_end_faults({path: line})), 1, line)

    def test_protocol_names_channels_and_settings_are_fine(self):
        for line in self.FINE:
            self.assertEqual(rules.front_end_faults({"rust/bledfu-sim/src/world.rs": line}), [], line)

    def test_the_service_the_front_ends_and_tests_may_name_them(self):
        names = ("src/service.rs", "src/secure_dfu.rs", "src/secure_dfu/data.rs", "src/smp.rs", "tests/smp.rs")
        for path in (f"rust/bledfu-transfer/{name}" for name in names):
            self.assertEqual(rules.front_end_faults({path: self.CALLS[0]}), [])
        tests = f"#[cfg(test)]\nmod tests {{\n    {self.CALLS[0]}\n}}\n"
        self.assertEqual(rules.front_end_faults({"rust/bledfu-transfer/src/upload.rs": tests}), [])


class Workflow(unittest.TestCase):
    WORKFLOW = "          - name: form\n            steps: format lint\n    steps:\n      - run: bledfu/scripts/ci.sh zephyr\n"

    def test_a_workflow_with_every_step_is_right(self):
        self.assertEqual(rules.workflow_faults(["format", "lint", "zephyr"], self.WORKFLOW), [])

    def test_a_step_without_a_job_is_found(self):
        found = rules.workflow_faults(["format", "lint", "zephyr", "fuzz"], self.WORKFLOW)
        self.assertEqual(found, [".github/workflows/ci.yml does not run the step fuzz of scripts/ci.sh"])

    def test_a_job_for_a_step_that_is_gone_is_found(self):
        found = rules.workflow_faults(["format", "zephyr"], self.WORKFLOW)
        self.assertEqual(found, [".github/workflows/ci.yml names a step lint, which scripts/ci.sh does not have"])


if __name__ == "__main__":
    unittest.main()
