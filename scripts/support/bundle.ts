/** Bundles the sources with esbuild: for npm as files that load one another, or as one file. */

import fs from "node:fs";
import { isBuiltin } from "node:module";
import path from "node:path";
import { build, type BuildOptions, type Metafile, type Plugin, stop } from "esbuild";
import { OLDEST_NODE } from "./npm_manifest.ts";
import type { Stage } from "./stage.ts";

/** Files that sources import as text. */
const TEXT = /\.(wgsl|b64|css|min\.js)$|report\/page\.js$/;

const WORKER_NAME = "worker.js";

/**
 * Writes `main.js`, `mod.js` and `worker.js` with what they share to `folder`; what a command does not need
 * is in files of its own, which it does not load. Returns what is inside.
 */
export async function bundlePackage(stage: Stage, folder: string): Promise<Metafile> {
  const inside = await bundle(stage, {
    entryPoints: {
      main: "scripts/npm/main.ts",
      mod: "mod.ts",
      worker: "src/run/workers/worker.ts",
    },
    outdir: folder,
    format: "esm",
    splitting: true,
    chunkNames: "[name]-[hash]",
    plugins: [textImports(stage), workerBeside(stage)],
  });
  for (const name of Object.keys(inside.outputs)) giveRequire(path.resolve(stage.path, name));
  return inside;
}

/** Gives a module `require` if a package in it asks for what is built in: modules have none of their own. */
function giveRequire(file: string): void {
  const body = fs.readFileSync(file, "utf8");
  if (!body.includes("Dynamic require of")) return;
  const lines = [
    'import { createRequire } from "node:module";',
    "const require = createRequire(import.meta.url);",
  ];
  fs.writeFileSync(file, `${lines.join("\n")}\n${body}`);
}

/** Writes the program as one file, which is its own worker, and a module as well as a script of CommonJS. */
export async function bundleOneFile(stage: Stage, file: string, licenses: string): Promise<void> {
  await bundle(stage, {
    entryPoints: ["scripts/npm/one_file.ts"],
    outfile: file,
    format: "cjs",
    plugins: [textImports(stage)],
  });
  const body = fs.readFileSync(file, "utf8");
  // Packages name what is built in without the prefix that Deno asks for.
  const builtins = [
    ...new Set([...body.matchAll(/\brequire\("([^"]+)"\)/g)].map(([, name]) => name!)),
  ].filter((name) => isBuiltin(name));
  const notice = `/*\n${licenses.replaceAll("*/", "* /")}*/\n`;
  fs.writeFileSync(file, asAnyScript(body, builtins.sort()) + notice);
}

/**
 * Returns `body`, a module of CommonJS, as a script that has no need of `require`: what is built in is
 * imported before it runs, which modules and scripts may do alike.
 */
function asAnyScript(body: string, builtins: readonly string[]): string {
  const imports = builtins.map((name) =>
    `import(${JSON.stringify(name.startsWith("node:") ? name : `node:${name}`)})`
  ).join(", ");
  const check = fs.readFileSync(new URL("../npm/check_node.js", import.meta.url), "utf8")
    .replace("export function", "function");
  return `#!/usr/bin/env node
(async () => {
${check}
if (!checkNode()) return;
const builtins = await Promise.all([${imports}]);
const names = ${JSON.stringify(builtins)};
const require = (name) => builtins[names.indexOf(name)].default;
const module = { exports: {} };
${body}
})();
`;
}

async function bundle(stage: Stage, options: BuildOptions): Promise<Metafile> {
  try {
    const { metafile } = await build({
      bundle: true,
      absWorkingDir: stage.path,
      platform: "node",
      target: [`node${OLDEST_NODE}`],
      // Not minified: people read traces, and lines as long as a file drown them.
      legalComments: "inline",
      charset: "utf8",
      metafile: true,
      logLevel: "warning",
      ...options,
    });
    return metafile!;
  } finally {
    await stop();
  }
}

/** `import x from "./x.wgsl" with { type: "text" }`. */
export function textImports({ path: root }: Stage): Plugin {
  return {
    name: "text imports",
    setup(build) {
      build.onLoad(
        { filter: TEXT },
        ({ path: file, with: attributes }) =>
          attributes["type"] === "text"
            ? { contents: fs.readFileSync(path.resolve(root, file), "utf8"), loader: "text" }
            : null,
      );
    },
  };
}

/** Lets the library find the worker beside its own file. */
function workerBeside({ path: root }: Stage): Plugin {
  return {
    name: "worker beside",
    setup(build) {
      build.onLoad({ filter: /worker_url\.ts$/ }, ({ path: file }) => {
        const source = fs.readFileSync(path.resolve(root, file), "utf8");
        const contents = source.replace('"./worker.ts"', JSON.stringify(`./${WORKER_NAME}`));
        if (contents === source) throw new Error(`Cannot bundle: "${file}" names no worker`);
        return { contents, loader: "ts" };
      });
    },
  };
}
