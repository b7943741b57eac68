import assert from "node:assert/strict";
import {
  type AdapterLimits,
  DEFAULT_PLACEMENT,
  gpuPlacementOf,
  OPERATION_KINDS,
  type OperationKind,
  type Placement,
  placementRules,
  type PlacementSettings,
  placeOperation,
} from "../../src/run/gpu_placement.ts";
import { placementWithin } from "../../src/run/gpu_tasks.ts";

/** Buffers that hold 2^30 numbers in f32: larger than any threshold of a mode. */
const LARGE: AdapterLimits = {
  name: "Large GPU",
  features: ["shader-f16"],
  limits: { maxBufferSize: 2 ** 33, maxStorageBufferBindingSize: 2 ** 32 },
};

/** The least that WebGPU promises. */
const SMALL: AdapterLimits = {
  name: "Small GPU",
  features: [],
  limits: { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 },
};

function place(
  settings: Partial<PlacementSettings>,
  kind: OperationKind,
  size: number,
  adapter = LARGE,
): Placement {
  const rules = placementRules({ ...DEFAULT_PLACEMENT, ...settings }, adapter);
  const operation = kind === "hadamard"
    ? { kind, elements: size, dimension: 4096 }
    : { kind, elements: size * 4096, dimension: size };
  return placeOperation(rules, operation);
}

Deno.test("placeOperation() has the documented threshold of each mode for Hadamard transforms", () => {
  for (
    const [mode, most] of [["minimal", 100e6], ["balanced", 50e6], ["aggressive", 25e6]] as const
  ) {
    assert.equal(place({ mode }, "hadamard", most).device, "gpu", mode);
    const over = place({ mode }, "hadamard", most + 1);
    assert.equal(over.device, "cpu", mode);
    assert.equal(
      over.why,
      `${most + 1} elements, more than the ${most} that --streaming-mode ${mode} allows`,
    );
  }
  assert.equal(place({ mode: "off" }, "hadamard", 900e6).device, "gpu");
});

Deno.test("placementRules() keeps the modes in order for every operation that they limit", () => {
  for (const kind of ["hadamard", "hessian", "ldlq"] as const) {
    const sizes = (["aggressive", "balanced", "minimal", "off"] as const).map((mode) =>
      placementRules({ ...DEFAULT_PLACEMENT, mode }, LARGE).kinds[kind].most
    );
    assert.deepEqual(sizes, sizes.toSorted((a, b) => a - b), kind);
    assert(new Set(sizes).size > 1, kind);
  }
  // A quarter of 8 GB, in f32, squared.
  assert.equal(placementRules(DEFAULT_PLACEMENT, LARGE).kinds.ldlq.most, 22360);
});

Deno.test("placeOperation() lets an override win over the mode, for its operation only", () => {
  const settings = { mode: "aggressive", thresholds: { ldlq: 4096 } } as const;
  assert.equal(place(settings, "ldlq", 4096).device, "gpu");
  const over = place(settings, "ldlq", 4097);
  assert.equal(over.device, "cpu");
  assert.match(over.why, /4097 columns, more than the 4096 that --stream-ldlq-threshold allows/);
  assert.equal(place(settings, "hessian", 4097).device, "gpu");
  const higher = { mode: "aggressive", thresholds: { hadamard: 50e6 } } as const;
  assert.equal(place(higher, "hadamard", 50e6).device, "gpu");
  assert.equal(place({ thresholds: { hadamard: 0 } }, "hadamard", 1).device, "cpu");
});

Deno.test("placeOperation() allows with auto what the buffers hold, and with no mode more", () => {
  const most = 2 ** 27 / 4;
  assert.equal(place({ mode: "auto" }, "hadamard", most, SMALL).device, "gpu");
  for (const mode of ["auto", "off", "minimal"] as const) {
    const over = place({ mode }, "hadamard", most + 1, SMALL);
    assert.equal(over.device, "cpu", mode);
    assert.match(over.why, /that the buffers of Small GPU allows/);
  }
  assert.equal(place({ mode: "auto" }, "hadamard", 2 ** 30, LARGE).device, "gpu");
});

Deno.test("placeOperation() sends everything to the GPU with --no-memory-limits", () => {
  const settings = { mode: "aggressive", hasLimits: false, thresholds: { ldlq: 1 } } as const;
  for (const kind of OPERATION_KINDS) {
    const { device, why } = place(settings, kind, 1e9, SMALL);
    assert.equal(device, "gpu", kind);
    assert.match(why, /of any number \(--no-memory-limits\)/);
  }
});

Deno.test("placeOperation() stores in half width what is asked for and can be", () => {
  const storage = (settings: Partial<PlacementSettings>, kind: OperationKind, adapter = LARGE) =>
    place(settings, kind, 4096, adapter).storage;
  assert.equal(storage({ halfWidth: "on" }, "ldlq"), "f16");
  assert.equal(storage({ halfWidth: "on" }, "ldlq", SMALL), "f16");
  assert.equal(storage({ halfWidth: "off" }, "ldlq"), "f32");
  assert.equal(storage({ halfWidth: "auto" }, "ldlq"), "f32");
  for (const kind of ["hadamard", "hessian"] as const) {
    assert.equal(storage({ halfWidth: "on" }, kind), "f32", kind);
  }
});

Deno.test("placeOperation() takes half width with auto if f32 does not fit, from its threshold on", () => {
  const columns = placementWithin(SMALL.limits).mostLdlq + 1;
  const mode = "auto";
  assert.equal(place({ mode, halfWidth: "off" }, "ldlq", columns, SMALL).device, "cpu");
  const half = place({ mode, halfWidth: "auto" }, "ldlq", columns, SMALL);
  assert.deepEqual([half.device, half.storage], ["gpu", "f16"]);
  assert.equal(place({ mode, halfThreshold: 1e12 }, "ldlq", columns, SMALL).device, "cpu");
  const twice = place({ mode, halfWidth: "auto" }, "ldlq", 2 * columns, SMALL);
  assert.equal(twice.device, "cpu");
});

Deno.test("gpuPlacementOf() gives tasks what placeOperation() says", () => {
  for (const adapter of [SMALL, LARGE]) {
    for (const mode of ["off", "minimal", "balanced", "aggressive", "auto"] as const) {
      for (const halfWidth of ["auto", "on", "off"] as const) {
        const rules = placementRules({ ...DEFAULT_PLACEMENT, mode, halfWidth }, adapter);
        const { mostLdlq, mostHessian, half, linalg } = gpuPlacementOf(rules);
        for (const dimension of [4096, mostLdlq, mostLdlq + 1, 2 * mostLdlq, 2 * mostLdlq + 1]) {
          const elements = dimension * 4096;
          const want = placeOperation(rules, { kind: "ldlq", elements, dimension });
          const isHalf = half !== null && elements >= half.leastElements &&
            dimension > half.aboveColumns;
          const goes = dimension <= (isHalf ? half.mostColumns : mostLdlq);
          assert.equal(goes ? "gpu" : "cpu", want.device);
          if (goes) assert.equal(isHalf ? half.storage : "f32", want.storage);
        }
        assert.equal(mostHessian, rules.kinds.hessian.most);
        assert.equal(linalg.mostHadamard, rules.kinds.hadamard.most);
      }
    }
  }
});

Deno.test("placementRules() and what is made of them cross to workers", () => {
  const settings = { ...DEFAULT_PLACEMENT, hasLimits: false };
  const rules = placementRules(settings, LARGE);
  assert.deepEqual(structuredClone(rules), rules);
  const placement = gpuPlacementOf(rules);
  assert.deepEqual(structuredClone(placement), placement);
});
