import assert from "node:assert/strict";
import { gpuMemoryOf } from "../../src/cli/gpu_flags.ts";
import { askedConversion } from "../../src/cli/options.ts";
import { parseArgs } from "../../src/cli/parse.ts";
import { DEFAULT_PLACEMENT } from "../../src/run/gpu_placement.ts";
import { UsageError } from "../../src/core/errors.ts";

const VARIABLES = ["ENABLE_MIXED_HADAMARD", "MIXED_HADAMARD_DTYPE", "STREAMING_AGGRESSIVENESS"];

/** Runs `body` with these environment variables and none of the others. */
function withVariables<T>(values: Readonly<Record<string, string>>, body: () => T): T {
  for (const name of VARIABLES) Deno.env.delete(name);
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    return body();
  } finally {
    for (const name of VARIABLES) Deno.env.delete(name);
  }
}

function settings(argv: readonly string[], values: Readonly<Record<string, string>> = {}) {
  return withVariables(values, () => gpuMemoryOf(parseArgs(["m.safetensors", ...argv])));
}

function request(argv: readonly string[], values: Readonly<Record<string, string>> = {}) {
  return withVariables(values, () => askedConversion(parseArgs(["m.safetensors", ...argv])));
}

const GPTQ = ["--optimizer=gptq", "--calibration-data=c.safetensors"];

Deno.test("gpuMemoryOf() gives the documented defaults if nothing is asked", () => {
  assert.deepEqual(settings([]), DEFAULT_PLACEMENT);
});

Deno.test("gpuMemoryOf() carries each flag into its setting", () => {
  assert.deepEqual(
    settings([
      "--streaming-mode=aggressive",
      "--stream-hadamard-threshold=50000000",
      "--stream-hessian-threshold=1",
      "--stream-ldlq-threshold=2",
      "--stream-ortho-threshold=3",
      "--no-memory-limits",
      "--bf16-compute=on",
      "--bf16-threshold=4",
      "--bf16-hadamard-threshold=5",
      "--bf16-hessian-threshold=6",
    ]),
    {
      mode: "aggressive",
      thresholds: { hadamard: 50_000_000, hessian: 1, ldlq: 2 },
      hasLimits: false,
      halfWidth: "on",
      halfThreshold: 4,
    },
  );
});

Deno.test("gpuMemoryOf() takes defaults from the environment, and flags over them", () => {
  const values = {
    STREAMING_AGGRESSIVENESS: "conservative",
    ENABLE_MIXED_HADAMARD: "1",
    MIXED_HADAMARD_DTYPE: "float16",
  };
  // Hadamard transforms stay in f32, so two of them have no effect.
  assert.deepEqual(settings([], values), { ...DEFAULT_PLACEMENT, mode: "minimal" });
  const flags = settings(["--streaming-mode=off", "--bf16-hadamard-threshold=9"], values);
  assert.deepEqual(flags, { ...DEFAULT_PLACEMENT, mode: "off" });
});

Deno.test("gpuMemoryOf() refuses a value of the environment that is not documented", () => {
  assert.throws(
    () => settings([], { STREAMING_AGGRESSIVENESS: "agressive" }),
    (error: unknown) =>
      error instanceof UsageError &&
      /STREAMING_AGGRESSIVENESS: it takes conservative, balanced, aggressive; the nearest is aggressive$/
        .test(error.message),
  );
  for (const name of ["ENABLE_MIXED_HADAMARD", "MIXED_HADAMARD_DTYPE"]) {
    assert.throws(() => settings([], { [name]: "2" }), new RegExp(`${name}: it takes`));
  }
});

Deno.test("idleGpuFlags() reports at once what changes nothing on the CPU that is asked for", () => {
  const flags = [...GPTQ, "--streaming-mode=off", "--bf16-compute=on"];
  for (const cpu of ["--device=cpu", "--low-memory"]) {
    const { warnings, warningsOnCpu } = request([cpu, ...flags]);
    assert.deepEqual(warnings, [
      "--streaming-mode, --bf16-compute have no effect on the CPU: it concerns computing on a GPU",
    ]);
    assert.deepEqual(warningsOnCpu, []);
  }
});

Deno.test("idleGpuFlags() waits with that if a GPU may be found", () => {
  const { warnings, warningsOnCpu } = request([...GPTQ, "--streaming-mode=off"], {
    STREAMING_AGGRESSIVENESS: "balanced",
  });
  assert.deepEqual(warnings, [
    "STREAMING_AGGRESSIVENESS has no effect with --streaming-mode, which wins",
  ]);
  assert.deepEqual(warningsOnCpu, [
    "--streaming-mode has no effect on the CPU: it concerns computing on a GPU",
  ]);
});

Deno.test("idleGpuFlags() reports what changes nothing on a GPU either", () => {
  const told: readonly (readonly [readonly string[], RegExp])[] = [
    [["--streaming-mode=off"], /^--streaming-mode has no effect without calibration data/],
    [["--optimizer=gptq", "--bf16-compute=on"], /^--bf16-compute .* without calibration data/],
    [["--optimizer=original", "--stream-ldlq-threshold=1"], /without calibration data/],
    [
      ["--optimizer=original", "--calibration-data=c.safetensors", "--bf16-compute=on"],
      /^--bf16-compute has no effect with learned rounding/,
    ],
    [[...GPTQ, "--stream-ortho-threshold=1"], /nothing makes random orthogonal matrices/],
    [
      [...GPTQ, "--bf16-hadamard-threshold=1", "--bf16-hessian-threshold=1"],
      /^--bf16-hadamard-threshold, --bf16-hessian-threshold have no effect here: .* f32/,
    ],
    [
      [...GPTQ, "--bf16-compute=on", "--bf16-threshold=1"],
      /--bf16-threshold .* it applies only to --bf16-compute auto/,
    ],
    [
      [...GPTQ, "--no-memory-limits", "--streaming-mode=auto", "--stream-ldlq-threshold=4"],
      /^--streaming-mode, --stream-ldlq-threshold have no effect with --no-memory-limits/,
    ],
  ];
  for (const [argv, pattern] of told) {
    const { warnings } = request(argv);
    assert.equal(warnings.length, 1, warnings.join("; "));
    assert.match(warnings[0]!, pattern);
  }
});

Deno.test("idleGpuFlags() says nothing of flags that do their work on a GPU", () => {
  for (
    const argv of [
      [...GPTQ, "--streaming-mode=auto", "--stream-ldlq-threshold=4", "--bf16-threshold=1"],
      [...GPTQ, "--no-memory-limits", "--streaming-mode=off"],
      ["--optimizer=original", "--calibration-data=c", "--stream-hessian-threshold=1"],
      ["--optimizer=quip", "--quip-store-transformed", "--stream-hadamard-threshold=1"],
    ]
  ) {
    assert.deepEqual(request(argv).warnings, [], argv.join(" "));
  }
});
