/** The package.json of the npm package. */

import manifest from "../../deno.json" with { type: "json" };

/** The oldest Node that has all that the program uses; `scripts/npm/check_node.js` says so, too. */
export const OLDEST_NODE = "20.12";

/** Returns the package.json, as an object. */
export function npmManifest(): Readonly<Record<string, unknown>> {
  return {
    name: "quantsmith",
    version: manifest.version,
    description:
      "INT8 and other quantized models for ComfyUI, from safetensors: no Python, no torch",
    keywords: ["comfyui", "safetensors", "quantization", "int8", "diffusion"],
    license: manifest.license,
    type: "module",
    bin: { quantsmith: "bin/quantsmith.js" },
    man: "./man/quantsmith.1",
    exports: {
      ".": { types: "./types/mod.d.ts", default: "./lib/mod.js" },
      "./browser": { types: "./types/web/convert.d.ts", default: "./web/convert.js" },
      "./package.json": "./package.json",
    },
    files: ["bin", "lib", "man", "types", "web", "CHANGELOG.md", "THIRD_PARTY_LICENSES"],
    // For `--device gpu` on Node. Not by itself: it holds the builds for all systems, 130 MB.
    peerDependencies: { webgpu: ">=0.6.2" },
    peerDependenciesMeta: { webgpu: { optional: true } },
    engines: { node: `>=${OLDEST_NODE}`, bun: ">=1.2" },
  };
}
