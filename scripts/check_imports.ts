/**
 * Checks the layering of `main.ts`, `mod.ts` and everything in `src/` and `web/` (rules: `support/layers.ts`) on the
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
  const inFolders = ["src", "web"].flatMap((folder) =>
    fs.readdirSync(path.join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => `${folder}/${name.split(path.sep).join("/")}`)
  );
  return [
    ...["main.ts", "mod.ts"].filter((name) => fs.existsSync(path.join(ROOT, name))),
    ...inFolders,
  ]
    .sort();
}

/** Returns the graph over `files`, from a throw-away module that imports them all by the map of `configName`. */
function moduleGraph(files: readonly string[], configName: string): DenoInfo {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-imports-"));
  try {
    const entry = path.join(folder, "entry.ts");
    fs.writeFileSync(entry, files.map((file) => `import "${ROOT_URL}${file}";\n`).join(""));
    const config = path.join(ROOT, configName);
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

const shipped = shippedModules();
const isOfPage = (file: string) => file.startsWith("web/");
const faults: string[] = [];
let importCount = 0;
// The page is bundled: its packages are needed to build it only.
for (
  const [files, config] of [
    [shipped.filter((file) => !isOfPage(file)), "deno.json"],
    [shipped, "deno.dev.json"],
  ] as const
) {
  const modules: ModuleNode[] = [];
  for (const module of moduleGraph(files, config).modules) {
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
  if (modules.length < files.length) faults.push(`${config}: modules are missing in the graph`);
  const { imports } = JSON.parse(fs.readFileSync(path.join(ROOT, config), "utf8"));
  faults.push(...layerViolations(modules, new Set(Object.keys(imports))));
  importCount = modules.reduce((sum, module) => sum + module.imports.length, 0);
}
for (const fault of new Set(faults)) console.error(fault);
console.log(`${shipped.length} modules, ${importCount} imports, ${faults.length} faults`);
process.exitCode = faults.length > 0 ? 1 : 0;
