// SPDX-License-Identifier: Apache-2.0
// Before all tests: what the devices need is installed, which takes longer than a test may.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "./browser.js";
import { missing } from "./room.js";

export default function prepare(): void {
  if (missing() === undefined) spawnSync("python3", [join(ROOT, "web/tests/room.py"), "--prepare"], { stdio: "inherit" });
}
