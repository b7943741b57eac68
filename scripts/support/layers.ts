/** The rules of imports, as data and as a pure check over a module graph.
 *
 *     main -> cli -> {edit, library, verify} -> convert -> run -> calibration -> plan -> config -> formats
 *          -> {quant, lora, presets, safetensors} -> {backend/backend.ts, linalg, remote} -> core
 *     web/page -> web/convert -> web/engine -> {cli, ..., web/node} -> web/files -> web/threads
 *
 * The same rules hold for imports of types: a type names an idea, and ideas have layers too.
 */

/** An import as written, and what it resolves to. Paths are relative to the root, with `/`. */
export interface ModuleImport {
  readonly specifier: string;
  /** A path for files of the project; otherwise the resolved specifier (`node:fs`, `npm:...`). */
  readonly target: string;
}

/** A module of the project and what it imports. */
export interface ModuleNode {
  readonly path: string;
  readonly imports: readonly ModuleImport[];
}

/** The rooms of a conversion, from the top: each may use those below it. */
const FLOORS = ["convert", "run", "calibration", "plan", "config", "formats"];

/**
 * Layers on top of the floors; these three do not know one another, but edits apply the rules of verify.
 */
const ROOFS = ["edit", "library", "verify"];

/** Layers that share a rank and do not know one another. */
const MIDDLE = ["quant", "lora", "presets", "safetensors"];

/** Files on servers, as files: models are read through it, so it lies below what reads models. */
const REMOTE = "remote";

/** Layers that every floor may import besides the floors below it. */
const GROUND = [...MIDDLE, REMOTE, "backend", "linalg", "core"];

/** The layers that a layer may import, besides itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  main: ["cli", ...ROOFS, ...FLOORS, ...GROUND],
  mod: [...ROOFS, ...FLOORS, ...GROUND],
  cli: [...ROOFS, ...FLOORS, ...GROUND, "backend/select"],
  ...Object.fromEntries(ROOFS.map((layer) => [layer, [...FLOORS, ...GROUND]])),
  edit: ["verify", ...FLOORS, ...GROUND],
  ...Object.fromEntries(
    FLOORS.map((layer, floor) => [layer, [...FLOORS.slice(floor + 1), ...GROUND]]),
  ),
  ...Object.fromEntries(MIDDLE.map((layer) => [layer, ["backend", "linalg", "core"]])),
  safetensors: [REMOTE, "backend", "linalg", "core"],
  [REMOTE]: ["core"],
  linalg: ["backend", "core"],
  backend: ["core"],
  "backend/reference": ["backend", "core"],
  "backend/cpu": ["backend", "core"],
  "backend/webgpu": ["backend", "core"],
  // The one place that knows every backend: what `doctor` compares.
  "backend/select": ["backend", "backend/reference", "backend/cpu", "backend/webgpu", "core"],
  kernels: ["kernels"],
  core: [],
  // The page: its files know nothing of a conversion, its engine nothing of what a person sees.
  "web/threads": [],
  "web/files": ["web/threads", "core"],
  "web/node": ["web/files", "web/threads"],
  "web/engine": ["web/threads", "web/files", "web/node", "cli", ...ROOFS, ...FLOORS, ...GROUND],
  "web/convert": ["web/engine", "web/files", "web/threads", "formats", "plan", "run"],
  "web/page": ["web/convert", "web/engine", "cli", "core"],
};

/** Imports beyond the layers, of files that put a thing together from its parts. `/` at the end: a folder. */
const EXCEPTIONS: readonly { readonly from: string; readonly to: string }[] = [
  { from: "src/run/workers/run_worker.ts", to: "src/backend/cpu/" },
  { from: "src/run/workers/worker_pool.ts", to: "src/backend/cpu/" },
  { from: "src/run/workers/run_bytes.ts", to: "src/backend/cpu/arena.ts" },
  { from: "src/run/workers/worker_devices.ts", to: "src/backend/cpu/" },
  { from: "src/run/workers/check_kernels.ts", to: "src/backend/cpu/" },
  { from: "src/run/workers/own_kernels.ts", to: "src/backend/cpu/" },
  { from: "src/run/workers/gpu_owner.ts", to: "src/backend/webgpu/" },
  // The reference that the device is compared with before it is used.
  {
    from: "src/run/workers/gpu_owner.ts",
    to: "src/backend/reference/linalg/reference_linalg.ts",
  },
  { from: "src/run/workers/gpu_owner.ts", to: "src/backend/reference/reference_kernels.ts" },
  { from: "src/run/workers/gpu_operations.ts", to: "src/backend/webgpu/" },
  // In plain code: the owner of the GPU has no WebAssembly memory of its own.
  {
    from: "src/run/workers/gpu_operations.ts",
    to: "src/backend/reference/linalg/unit_lower_panel.ts",
  },
  { from: "src/run/workers/gpu_descents.ts", to: "src/backend/webgpu/" },
  ...["protocol", "service"].flatMap((name) =>
    ["adapter", "device"].map((type) => ( // types of the owner's messages
      { from: `src/run/workers/gpu_${name}.ts`, to: `src/backend/webgpu/${type}.ts` }
    ))
  ),
  // A sample of every layer is measured before formats are chosen, on the calling thread.
  { from: "src/convert/fit/", to: "src/backend/cpu/" },
  // Baselines of a report: a sample of rows, in plain code.
  { from: "src/convert/plain_rows.ts", to: "src/backend/reference/reference_kernels.ts" },
  { from: "src/library/", to: "src/backend/cpu/" }, // functions that bring their own kernels
  { from: "src/lora/", to: "src/safetensors/loader.ts" },
  { from: "src/lora/", to: "src/safetensors/adapter_config.ts" },
  { from: "src/backend/webgpu/", to: "wgsl/" },
  { from: "src/cli/", to: "deno.json" }, // its version
  // The interface of the matrix kernels stands in linalg, as that of the others does in backend.ts.
  ...["reference", "cpu", "webgpu"].flatMap((device) =>
    ["linalg_kernels", "linalg_checks", "matrix"].map((name) => (
      { from: `src/backend/${device}/`, to: `src/linalg/${name}.ts` }
    ))
  ),
];

/** Modules that touch files, processes, threads, devices or the network. */
const OUTSIDE_WORLD = new Set(
  ["fs", "fs/promises", "child_process", "process", "os", "net", "http", "https", "worker_threads"]
    .map((name) => `node:${name}`),
);

/** Files in which they may be used. */
const MAY_TOUCH_THE_WORLD = [
  "main.ts",
  "src/cli/",
  "src/safetensors/adapter_config.ts",
  "src/safetensors/reader.ts",
  "src/safetensors/input_files.ts",
  "src/safetensors/output_file.ts",
  "src/safetensors/write_exactly.ts",
  "src/safetensors/output_set.ts",
  "src/safetensors/replaced_shards.ts",
  "src/safetensors/interim_shards.ts",
  "src/safetensors/leftovers.ts",
  "src/safetensors/output_lock.ts",
  "src/safetensors/journal_file.ts",
  "src/safetensors/input_identity.ts",
  "src/safetensors/input_watch.ts",
  "src/safetensors/part_files.ts",
  "src/safetensors/small_file.ts",
  "src/safetensors/written_bytes.ts",
  "src/safetensors/loader.ts",
  "src/remote/spill_file.ts",
  "src/config/load_layer_config.ts",
  "src/safetensors/calibration_json.ts",
  "src/backend/cpu/",
  "src/backend/webgpu/",
  "src/run/workers/",
];

function matches(path: string, pattern: string): boolean {
  return pattern.endsWith("/") ? path.startsWith(pattern) : path === pattern;
}

/** Returns the layer that a file of the project belongs to, null if it has none. */
export function layerOf(path: string): string | null {
  if (path === "main.ts") return "main";
  if (path === "mod.ts") return "mod";
  if (path === "web/convert.ts") return "web/convert";
  const [, room] = /^(web\/[^/]+)\//.exec(path) ?? [];
  if (room !== undefined) return Object.hasOwn(ALLOWED, room) ? room : null;
  if (path.startsWith("wgsl/")) return "kernels";
  const [, layer] = /^src\/(backend\/(?:reference|cpu|webgpu|select)|[^/]+)\//.exec(path) ?? [];
  return layer !== undefined && Object.hasOwn(ALLOWED, layer) ? layer : null;
}

function layerFault(from: string, to: string): string | null {
  const layer = layerOf(from);
  const other = layerOf(to);
  if (/^(tests|scripts)\//.test(to)) return "nothing imports tests or scripts";
  const isException = EXCEPTIONS.some((rule) => matches(from, rule.from) && matches(to, rule.to));
  if (isException) return null;
  if (layer === null) return `"${from}" lies in no layer`;
  if (other === null) return `"${to}" lies in no layer`;
  if (layer === other || ALLOWED[layer]!.includes(other)) return null;
  return `${layer} may not import ${other}`;
}

function outsideFault(
  from: string,
  { specifier, target }: ModuleImport,
  bareNames: ReadonlySet<string>,
): string | null {
  if (target.startsWith("node:")) {
    if (!OUTSIDE_WORLD.has(target)) return null;
    if (MAY_TOUCH_THE_WORLD.some((pattern) => matches(from, pattern))) return null;
    return "files and processes are touched at the edge only";
  }
  // A key with a slash at its end stands for the files of a package.
  const isMapped = bareNames.has(specifier) ||
    [...bareNames].some((name) => name.endsWith("/") && specifier.startsWith(name));
  return isMapped ? null : "it is not in the import map of deno.json";
}

/**
 * Returns one line per broken rule, `FILE imports SPECIFIER: RULE`, in the order of the modules.
 *
 * @param modules every module of the project that is shipped.
 * @param bareNames the keys of the import map.
 */
export function layerViolations(
  modules: readonly ModuleNode[],
  bareNames: ReadonlySet<string>,
): string[] {
  const faults: string[] = [];
  const paths = new Set(modules.map((module) => module.path));
  for (const module of modules) {
    for (const item of module.imports) {
      const isOwn = paths.has(item.target) || /^[^:]+\.[a-z0-9]+$/i.test(item.target);
      const fault = isOwn
        ? layerFault(module.path, item.target)
        : outsideFault(module.path, item, bareNames);
      if (fault !== null) faults.push(`${module.path} imports "${item.specifier}": ${fault}`);
    }
  }
  const cycle = findCycle(modules);
  if (cycle !== null) faults.push(`Modules import one another: ${cycle.join(" -> ")}`);
  return faults;
}

/** Returns the paths of a cycle, its first repeated at the end; null if there is none. */
export function findCycle(modules: readonly ModuleNode[]): string[] | null {
  const importsOf = new Map(modules.map((module) => [module.path, module.imports]));
  const done = new Set<string>();
  const open: string[] = [];
  function visit(path: string): string[] | null {
    if (done.has(path)) return null;
    const at = open.indexOf(path);
    if (at >= 0) return [...open.slice(at), path];
    open.push(path);
    for (const { target } of importsOf.get(path) ?? []) {
      const cycle = visit(target);
      if (cycle !== null) return cycle;
    }
    open.pop();
    done.add(path);
    return null;
  }
  for (const { path } of modules) {
    const cycle = visit(path);
    if (cycle !== null) return cycle;
  }
  return null;
}
