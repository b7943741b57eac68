/**
 * Checks the layering of `main.ts`, `mod.ts` and everything in `src/` (rules: `support/layers.ts`) on the
 * module graph that Deno itself resolves. Prints what breaks a rule and exits 1.
 *
 *     deno run -A scripts/check_imports.ts
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { layerViolations, type ModuleNode } from "./support/layers.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ROOT_URL = pathToFileURL(ROOT).href;

/** The parts of `deno info --json` that are used. */
interface DenoInfo {
  readonly modules: readonly {
    readonly specifier: string;
    readonly error?: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly code?: { readonly specifier?: string; readonly error?: string };
      readonly type?: { readonly specifier?: string; readonly error?: string };
    }[];
  }[];
}

/** Paths of what is shipped, from the root. */
function shippedModules(): string[] {
  const inSrc = fs.readdirSync(path.join(ROOT, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `src/${name.split(path.sep).join("/")}`);
  return [...["main.ts", "mod.ts"].filter((name) => fs.existsSync(path.join(ROOT, name))), ...inSrc]
    .sort();
}

/** Returns the graph over `files`, from a throw-away module that imports them all. */
function moduleGraph(files: readonly string[]): DenoInfo {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-imports-"));
  try {
    const entry = path.join(folder, "entry.ts");
    fs.writeFileSync(entry, files.map((file) => `import "${ROOT_URL}${file}";\n`).join(""));
    const config = path.join(ROOT, "deno.json");
    const args = ["info", "--json", "--no-lock", "--config", config, entry];
    return JSON.parse(
      execFileSync(process.execPath, args, { encoding: "utf8", maxBuffer: 1 << 28 }),
    );
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function toPath(specifier: string): string {
  return specifier.startsWith(ROOT_URL) ? specifier.slice(ROOT_URL.length) : specifier;
}

const files = shippedModules();
const faults: string[] = [];
const modules: ModuleNode[] = [];
for (const module of moduleGraph(files).modules) {
  const from = toPath(module.specifier);
  if (module.error !== undefined) faults.push(`${from}: ${module.error}`);
  if (!files.includes(from)) continue;
  const imports = (module.dependencies ?? []).flatMap(({ specifier, code, type }) => {
    const resolved = code ?? type;
    if (resolved?.specifier !== undefined) {
      return [{ specifier, target: toPath(resolved.specifier) }];
    }
    faults.push(`${from} imports "${specifier}": ${resolved?.error ?? "it cannot be resolved"}`);
    return [];
  });
  modules.push({ path: from, imports });
}
const { imports } = JSON.parse(fs.readFileSync(path.join(ROOT, "deno.json"), "utf8"));
faults.push(...layerViolations(modules, new Set(Object.keys(imports))));
for (const fault of faults) console.error(fault);
const count = modules.reduce((sum, module) => sum + module.imports.length, 0);
console.log(`${modules.length} modules, ${count} imports, ${faults.length} faults`);
process.exitCode = faults.length > 0 || modules.length < files.length ? 1 : 0;
