/** The types of the library as `.d.ts` files, made by TypeScript from `mod.ts` and `web/convert.ts`. */

import fs from "node:fs";
import path from "node:path";
import ts from "typescript";
import { ENTRY, type Stage, WORKER } from "./stage.ts";

/**
 * Writes `mod.d.ts`, `web/convert.d.ts` and what they need to `folder`. The sources are checked against what the oldest Node has,
 * so that nothing newer gets in.
 *
 * @throws Error with TypeScript's messages.
 */
export function writeDeclarations(stage: Stage, folder: string): void {
  const entries = ["mod.ts", "web/convert.ts"].map((name) => path.join(stage.path, name));
  const written = new Map<string, string>();
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    lib: [
      "es2023",
      // Features of later years that Node 20 has.
      "es2024.sharedmemory",
      "es2024.string",
      "esnext.disposable",
      "dom",
      "dom.iterable",
    ].map((name) => `lib.${name}.d.ts`),
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    declaration: true,
    emitDeclarationOnly: true,
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    rootDir: stage.path,
    outDir: folder,
    types: ["node"],
    typeRoots: [path.join(stage.path, "node_modules/@types")],
  };
  const ambient = path.join(stage.path, "text_imports.d.ts");
  fs.writeFileSync(
    ambient,
    [
      ...["wgsl", "b64", "css", "js"].map((end) =>
        `declare module "*.${end}" { const text: string; export default text; }`
      ),
      ...["GPUShaderStage", "GPUBufferUsage", "GPUMapMode"].map((name) =>
        `declare const ${name}: any;`
      ),
      'declare module "cli-progress";',
    ].join("\n"),
  );
  const program = ts.createProgram([
    ...entries,
    ambient,
    ...[ENTRY, WORKER].map((name) => path.join(stage.path, name)),
  ], options);
  const { diagnostics } = program.emit(undefined, (file, text) => written.set(file, text));
  const problems = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
  if (problems.length > 0) {
    const host: ts.FormatDiagnosticsHost = {
      getCanonicalFileName: (name) => name,
      getCurrentDirectory: () => stage.path,
      getNewLine: () => "\n",
    };
    throw new Error(`Cannot make the types:\n${ts.formatDiagnostics(problems, host)}`);
  }
  const roots = ["mod.d.ts", "web/convert.d.ts"].map((name) => path.join(folder, name));
  for (const file of reachable(roots, written)) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, asJs(written.get(file)!));
  }
}

const IMPORT = /(from |import\()"(\.[^"]+)\.ts"/g;

/** The files that `entries` need, themselves included. */
function reachable(
  entries: readonly string[],
  files: ReadonlyMap<string, string>,
): Set<string> {
  const found = new Set<string>();
  const open = [...entries];
  for (let file = open.pop(); file !== undefined; file = open.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    for (const [, , target] of files.get(file)!.matchAll(IMPORT)) {
      open.push(path.resolve(path.dirname(file), `${target}.d.ts`));
    }
  }
  return found;
}

/** Imports of sources become imports of what Node would load. */
function asJs(text: string): string {
  return text.replaceAll(IMPORT, '$1"$2.js"');
}
