/** Bundles what runs in a browser, with the modules of `node:` replaced by those of `web/node`. */

import fs from "node:fs";
import path from "node:path";
import { build, type Metafile, type Plugin, stop } from "esbuild";
import { textImports } from "./bundle.ts";
import type { Stage } from "./stage.ts";

/** Packages that the browser needs beside those of the program, by their names in `deno.dev.json`. */
export const WEB_PACKAGES = ["path-browserify", "@noble/hashes"] as const;

/** The oldest browsers that have all that is used: module workers, storage by position, SIMD in threads. */
const TARGET = ["chrome109", "firefox114", "safari17"];

/**
 * Replacements of the modules of Node in a browser; a page connects to nothing, so there is no hub either.
 */
const MODULES: Readonly<Record<string, string>> = {
  "@huggingface/hub": "hub.ts",
  "node:crypto": "crypto.ts",
  "node:fs": "fs.ts",
  "node:fs/promises": "fs_promises.ts",
  "node:os": "os.ts",
  "node:path": "path.ts",
  "node:process": "process.ts",
  "node:timers/promises": "timers_promises.ts",
  "node:util": "util.ts",
  "node:worker_threads": "worker_threads.ts",
  "node:zlib": "zlib.ts",
};

/** Scripts of the threads, by name; whoever starts them finds them beside itself. */
const THREADS = {
  engine: "web/engine/engine.ts",
  disk: "web/files/disk_worker.ts",
  reader: "web/files/reader_worker.ts",
  worker: "src/run/workers/worker.ts",
};

/** Writes the scripts of a browser to `folder`: `entries` by name, and the threads. Returns what is inside. */
export async function bundleWeb(
  stage: Stage,
  folder: string,
  entries: Readonly<Record<string, string>>,
): Promise<Metafile> {
  try {
    const { metafile } = await build({
      entryPoints: { ...entries, ...THREADS },
      outdir: folder,
      bundle: true,
      splitting: true,
      format: "esm",
      chunkNames: "[name]-[hash]",
      absWorkingDir: stage.path,
      platform: "browser",
      target: TARGET,
      legalComments: "inline",
      charset: "utf8",
      metafile: true,
      logLevel: "warning",
      plugins: [browserModules(stage), textImports(stage)],
    });
    return metafile;
  } finally {
    await stop();
  }
}

/** Writes a script that must be one file and no module: not all browsers take modules as service workers. */
export async function bundleScript(stage: Stage, file: string, entry: string): Promise<void> {
  try {
    await build({
      entryPoints: [entry],
      outfile: file,
      bundle: true,
      format: "iife",
      absWorkingDir: stage.path,
      platform: "browser",
      target: TARGET,
      logLevel: "warning",
    });
  } finally {
    await stop();
  }
}

/**
 * Puts the modules of `web/node` in the place of Node's. One without a counterpart is an error; a function that
 * a counterpart lacks fails if it is called.
 */
function browserModules({ path: root }: Stage): Plugin {
  return {
    name: "browser modules",
    setup(build) {
      const byFile = new Map(
        Object.entries(MODULES).map(([name, file]) => [path.join(root, "web/node", file), name]),
      );
      build.onLoad({ filter: /[\\/]web[\\/]node[\\/][a-z_]+\.ts$/ }, async ({ path: file }) => {
        const name = byFile.get(file);
        const source = fs.readFileSync(file, "utf8");
        if (name === undefined || !name.startsWith("node:")) return null;
        const lacking = lackingExports(source, await import(name));
        const absent = lacking.map((each) =>
          `export const ${each} = absent("${each} of ${name}");`
        );
        return {
          contents: [source, 'import { absent } from "./absent.ts";', ...absent].join("\n"),
          loader: "ts",
        };
      });
      build.onResolve({ filter: /^(node:|@huggingface\/hub$)/ }, ({ path: name, importer }) => {
        const file = MODULES[name];
        if (file === undefined) {
          return { errors: [{ text: `${importer} uses ${name}, which web/node does not have` }] };
        }
        return {
          path: path.join(root, "web/node", file),
          sideEffects: name === "node:worker_threads",
        };
      });
    },
  };
}

/** Names that `module` exports and `source` does not declare. */
function lackingExports(source: string, module: object): string[] {
  const own = new Set(
    [...source.matchAll(/^(?:export )?(?:async )?(?:function|const|class) (\w+)/gm)].map(([, n]) =>
      n!
    ),
  );
  for (const [, names] of source.matchAll(/^export const \{([^}]*)\}/gm)) {
    for (const name of names!.split(",")) own.add(name.trim());
  }
  return Object.keys(module).filter((name) => /^[A-Za-z_]\w*$/.test(name) && !own.has(name))
    .filter((name) => name !== "default");
}
