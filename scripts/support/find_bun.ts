/** Finds Bun: named by `BUN_BIN`, on the PATH, or from npm. */

import { spawnSync } from "node:child_process";
import process from "node:process";

/** The version that is fetched if there is none. */
const VERSION = "1.4.5";

/** Returns the path of Bun, or null if it cannot be had. The npm package is kept in npm's cache. */
export function findBun(): string | null {
  const named = process.env["BUN_BIN"];
  if (named !== undefined && named !== "") return named;
  if (spawnSync("bun", ["--version"]).status === 0) return "bun";
  const { status, stdout } = spawnSync(
    process.platform === "win32" ? "npx.cmd" : "npx",
    ["-y", "-p", `bun@${VERSION}`, "-c", "command -v bun"],
    { encoding: "utf8" },
  );
  const path = stdout?.trim().split("\n").at(-1) ?? "";
  return status === 0 && path !== "" && spawnSync(path, ["--version"]).status === 0 ? path : null;
}
