/** What a conversion to nearest loads: code of other methods and kinds of tasks would cost it time and memory. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../", import.meta.url);

/** The parts of `deno info --json` that are used. */
interface DenoInfo {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier?: string };
      readonly isDynamic?: boolean;
    }[];
  }[];
}

/**
 * Returns the paths of all modules that `entry` imports, from the root, and of those that they do.
 *
 * @param deferred whether to count imports that wait, if a literal names them; default: false.
 */
function loadedBy(entry: string, { deferred = false } = {}): string[] {
  const args = ["info", "--json", "--config", "deno.dev.json", entry];
  const info: DenoInfo = JSON.parse(
    execFileSync(process.execPath, args, {
      cwd: fileURLToPath(ROOT),
      encoding: "utf8",
      maxBuffer: 1 << 28,
    }),
  );
  const importsOf = new Map(info.modules.map(({ specifier, dependencies = [] }) => [
    specifier,
    dependencies.flatMap(({ code, isDynamic }) =>
      (isDynamic === true && !deferred) || code?.specifier === undefined ? [] : [code.specifier]
    ),
  ]));
  const loaded = new Set([new URL(entry, ROOT).href]);
  for (const specifier of loaded) {
    for (const target of importsOf.get(specifier) ?? []) loaded.add(target);
  }
  return [...loaded].map((url) => url.replace(ROOT.href, ""));
}

function loadsNone(entry: string, unwanted: RegExp): void {
  const loaded = loadedBy(entry);
  assert.ok(
    loaded.includes("src/run/chunks/quantize_chunk.ts"),
    `${entry} is a part of conversions`,
  );
  assert.deepEqual(loaded.filter((path) => unwanted.test(path)), [], entry);
}

const METHODS =
  /^src\/(quant\/(learned\/(?!options|report)|gptq|row_space\.)|linalg\/(ldlq|hessian)|run\/(encoder|more_kinds)|run\/chunks\/(methods|gptq|quip|learned|measure|load_hessian|quantize_levels|quantize_floats))/;

Deno.test("a worker loads no code of GPTQ, QuIP, learned rounding, measuring, the GPU or linear algebra before a run needs it", () => {
  loadsNone("src/run/workers/run_worker.ts", METHODS);
  loadsNone("src/run/workers/run_worker.ts", /gpu_client|wasm_linalg|linalg\.wasm|cholesky/);
});

Deno.test("the main thread loads neither these methods nor the choice of formats to plan a conversion to nearest", () => {
  loadsNone("src/cli/commands/convert.ts", METHODS);
  loadsNone("src/cli/commands/convert.ts", /^src\/convert\/fit\/(?!prepare_fitted)|wasm_linalg/);
  loadsNone("src/cli/commands/convert.ts", /remote_input|gpu_service|convert\/smoothing/);
});

Deno.test("Deno reads no command before it is asked for, as no import of main.ts names one by a literal", () => {
  const read = loadedBy("main.ts", { deferred: true });
  assert.ok(read.includes("src/cli/run.ts"));
  assert.deepEqual(read.filter((path) => /^src\/(cli\/commands|convert)\//.test(path)), []);
});

Deno.test("Deno reads no code of other methods, of smoothing or of the choice of formats for a conversion to nearest", () => {
  const read = loadedBy("src/cli/commands/convert.ts", { deferred: true });
  assert.ok(read.includes("src/convert/convert.ts"));
  const rare = /^src\/(run\/more_kinds|remote\/fetch_thread|convert\/(smoothing|fit\/fit_))/;
  assert.deepEqual(read.filter((path) => METHODS.test(path) || rare.test(path)), []);
});

Deno.test("a worker reads its part alone, as no import of worker.ts and of what it loads names another by a literal", () => {
  const begun = loadedBy("src/run/workers/worker.ts", { deferred: true });
  assert.ok(begun.length < 10, begun.join("\n"));
  const read = loadedBy("src/run/workers/run_worker.ts", { deferred: true });
  const other = /gpu_owner|webgpu|fetch_thread|worker_devices|more_kinds/;
  assert.deepEqual(read.filter((path) => METHODS.test(path) || other.test(path)), []);
});

Deno.test("the library names all modules by literals or has them at once, so that its users can bundle it", () => {
  const read = loadedBy("mod.ts", { deferred: true });
  for (const name of ["run/more_kinds", "convert/smoothing", "convert/fit/fit_formats"]) {
    assert.ok(read.includes(`src/${name}.ts`), name);
  }
});
