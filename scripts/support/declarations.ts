/** The types of the library as `.d.ts` files, made by TypeScript from `mod.ts`. */

import fs from "node:fs";
import path from "node:path";
import ts from "typescript";
import { ENTRY, type Stage, WORKER } from "./stage.ts";

/**
 * Writes `mod.d.ts` and what it needs to `folder`. The sources are checked against what the oldest Node has,
 * so that nothing newer gets in.
 *
 * @throws Error with TypeScript's messages.
 */
export function writeDeclarations(stage: Stage, folder: string): void {
  const entry = path.join(stage.path, "mod.ts");
  const written = new Map<string, string>();
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    lib: [
      "es2023",
      // What Node 20 has of later years.
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
    entry,
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
  for (const file of reachable(path.join(folder, "mod.d.ts"), written)) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, asJs(written.get(file)!));
  }
}

const IMPORT = /(from |import\()"(\.[^"]+)\.ts"/g;

/** The files that `entry` needs, itself included. */
function reachable(entry: string, files: ReadonlyMap<string, string>): Set<string> {
  const found = new Set<string>();
  const open = [entry];
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
