import { deepStrictEqual, match, ok, strictEqual, throws } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { UsageError } from "../../src/core/errors.ts";
import { askedConversion } from "../../src/cli/options.ts";
import { autoOutputName } from "../../src/cli/output_name.ts";
import { parseArgs } from "../../src/cli/parse.ts";
import { resolveMode } from "../../src/plan/scheme_choice.ts";
import { DEFAULT_PLACEMENT } from "../../src/run/gpu_placement.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";

function request(...argv: string[]): ReturnType<typeof askedConversion> {
  return askedConversion(parseArgs(["models/model.safetensors", ...argv]));
}

function refuses(argv: readonly string[], pattern: RegExp): void {
  throws(() => request(...argv), (error: unknown) => {
    ok(error instanceof UsageError, `${argv.join(" ")}: ${error}`);
    match(error.message, pattern);
    return true;
  }, argv.join(" "));
}

Deno.test("askedConversion() gives the documented defaults if nothing is asked", () => {
  const { options, io, warnings } = request();
  deepStrictEqual(options, DEFAULT_CONVERT_OPTIONS);
  deepStrictEqual(warnings, []);
  deepStrictEqual(io, {
    input: "models/model.safetensors",
    output: null,
    part: null,
    partNote: null,
    force: false,
    resume: false,
    dryRun: null,
    json: false,
    verify: false,
    workers: null,
    memoryLimitBytes: null,
    lowMemory: false,
    device: "auto",
    gpuMemory: DEFAULT_PLACEMENT,
    reportQuality: false,
    qualityThreshold: 30,
    strict: false,
    progress: true,
    verbosity: "NORMAL",
    readPaths: [],
    reportPath: null,
    reportLayers: null,
  });
});

Deno.test("askedConversion() carries each ready flag into its option", () => {
  const { options } = request(
    "--scaling-mode=axis",
    "--convrot=64",
    "--scale-search",
    "off",
    "--full_precision_matrix_mult",
    "--save-quant-metadata",
    "--input_scale",
    "--no-normalize-scales",
    "--exclude-layers=^final",
    "--nonfinite=keep",
    "--tier=minimal",
    "--requantize",
    "--heur",
    "--block_size=64",
    "--preset=z-image",
  );
  const { excludeLayers, ...rest } = options;
  strictEqual(excludeLayers?.source, "^final");
  ok(excludeLayers.test("final_layer.weight") && !excludeLayers.test("a.final.weight"));
  const { excludeLayers: _, ...defaults } = DEFAULT_CONVERT_OPTIONS;
  deepStrictEqual(rest, {
    ...defaults,
    scaling: "row",
    convrot: 64,
    scaleSearch: "off",
    fullPrecisionMatrixMult: true,
    saveQuantMetadata: true,
    inputScale: true,
    normalizeScales: false,
    nonfinite: "keep",
    tier: "minimal",
    requantize: true,
    heur: true,
    blockSize: 64,
    preset: { kind: "family", id: "z_image" },
  });
});

Deno.test("askedConversion() resolves presets", () => {
  deepStrictEqual(request("--wan", "--lora").options.preset, {
    kind: "documented",
    names: ["wan", "lora"],
  });
  strictEqual(request("--lora").options.lora, true);
  deepStrictEqual(request("--preset", "none").options.preset, { kind: "none" });
  deepStrictEqual(request("--like", "q.safetensors").options.preset, {
    kind: "like",
    path: "q.safetensors",
  });
  refuses(["--preset", "fluxx"], /Unknown preset "fluxx".*nearest/);
});

Deno.test("askedConversion() uses no keep-list under --target ctq without preset flags", () => {
  deepStrictEqual(request("--target=ctq", "--simple").options.preset, { kind: "none" });
  deepStrictEqual(request("--target=ctq", "--simple", "--qwen").options.preset, {
    kind: "documented",
    names: ["qwen"],
  });
});

Deno.test("askedConversion() refuses contradictions", () => {
  refuses(["--int8", "--fp16"], /--int8 with --fp16/);
  refuses(["--no-int8"], /--no-int8 without --fp16/);
  refuses(["--simple", "--optimizer", "gptq"], /--simple with --optimizer gptq/);
  refuses(["--convrot", "--scaling_mode", "tensor"], /--convrot with --scaling_mode tensor/);
  refuses(["--convrot", "--scaling_mode", "block"], /--convrot with --scaling_mode block/);
  refuses(["--convrot=64", "--target=ctq", "--simple"], /--convrot with --scaling_mode block/);
  refuses(["--convrot", "--no-comfy-quant"], /--convrot with --no-comfy-quant/);
  for (const group of ["0", "1", "2", "8", "128", "100", "512"]) {
    refuses([`--convrot=${group}`], /power of 4/);
  }
  refuses(["--exclude-layers", "("], /--exclude-layers/);
  refuses(["--preset=flux2", "--like=q.safetensors"], /--preset with --like/);
  refuses(["--preset=flux2", "--wan"], /--preset with --wan/);
  refuses(["--like=q.safetensors", "--wan"], /--like with --wan/);
  refuses(["-i", "other.safetensors"], /name the model once/);
  refuses(["out.safetensors", "-o", "b.safetensors"], /name the output once/);
  refuses(["out.safetensors", "more"], /Unexpected argument "more"/);
  refuses(["out.bin"], /Cannot write "out\.bin": its name must end with \.safetensors/);
  refuses(["-o", "out"], /must end with \.safetensors/);
  refuses(["-o", "out.safetensors", "--dry-run=create-template"], /must end with \.json/);
  refuses(["--report", "r.txt"], /ends with \.html or \.json/);
  throws(() => askedConversion(parseArgs([])), /Missing model/);
});

Deno.test("askedConversion() takes rotation groups that are powers of 4", () => {
  for (const group of [4, 16, 64, 256, 1024, 4096]) {
    strictEqual(request(`--convrot=${group}`).options.convrot, group);
  }
});

Deno.test("askedConversion() gives options that the pipeline accepts", () => {
  const lines = [
    [],
    ["--simple"],
    ["--scaling_mode=tensor"],
    ["--scaling_mode=block", "--convrot=off"],
    ["--no-comfy-quant"],
    ["--target=ctq", "--simple"],
    ["--target=ctq", "--simple", "--scaling_mode=row", "--convrot"],
  ];
  for (const argv of lines) ok(resolveMode(request(...argv).options), argv.join(" "));
});

Deno.test("askedConversion() reports each flag that changes nothing once", () => {
  const told: readonly (readonly [readonly string[], RegExp])[] = [
    [["--block_size=64"], /^--block_size has no effect with row scaling/],
    [["--quality-threshold=20"], /without --report-quality/],
    [["--fp16", "--strict"], /^--strict has no effect with --fp16/],
    [["--merge-lora-scale=2", "--no-merge-lora-dampen"], /without --merge-lora/],
    [["--merge-lora=l", "--no-merge-lora-dampen"], /with one LoRA/],
    [["--fullmatch"], /without --layer-config/],
    [["--manual_seed=1"], /not random/],
    [["--fp16", "--scaling_mode=row", "--simple"], /^--scaling_mode, --simple have no effect/],
    [
      ["--streaming-mode=off", "--bf16-compute=on"],
      /^--streaming-mode, --bf16-compute have no effect/,
    ],
    [["--no-memory-limits"], /without calibration data/],
    [["--device=cpu", "--no-memory-limits"], /on the CPU/],
    [["--dry-run", "--verify"], /with --dry-run/],
    [["--dry-run", "--force"], /writes nothing/],
    [["--scaling_mode=tensor", "--heur"], /fits every shape/],
    [["--no-normalize-scales"], /no scalar scales/],
    [["--no-comfy-quant", "--full_precision_matrix_mult"], /entry of the marker/],
    [["--quip-seed=3"], /^--quip-seed has no effect without --optimizer quip/],
    [["--optimizer=quip", "--quip-seed=3"], /--quip-seed has no effect without --quip-store/],
    [
      ["--optimizer=quip", "--quip-checkpointed"],
      /--quip-checkpointed .* without --calibration-data/,
    ],
    [
      ["--optimizer=quip", "--convrot", "--quip-requant-scheme=block"],
      /--quip-requant-scheme has no effect with row scaling/,
    ],
    [["--preset=none", "--tier=minimal"], /--tier has no effect/],
    [["--low-memory", "--workers=4"], /--workers has no effect with --low-memory/],
    [["--fp16", "--block_size=4"], /^--block_size has no effect with --fp16/],
    [["--format=w4a8", "--block_size=4"], /^--block_size has no effect with --format w4a8/],
    [["--format=fp8", "--simple"], /^--simple has no effect with --format fp8/],
    [["--format=w6a8", "--calibration-data=d", "--smoothquant"], /^--smoothquant has no effect/],
  ];
  for (const [argv, pattern] of told) {
    const { warnings } = request(...argv);
    strictEqual(warnings.length, 1, `${argv.join(" ")}: ${warnings.join("; ")}`);
    match(warnings[0]!, pattern);
  }
});

Deno.test("askedConversion() says nothing about flags that do their work", () => {
  const lines = [
    ["--scaling_mode=block", "--block_size=64", "--heur"],
    ["--report-quality", "--quality-threshold=20", "--strict"],
    ["--json", "--quality-threshold=20"],
    ["--strict"],
    ["--strict", "--quality-threshold=20"],
    ["--scaling_mode=tensor", "--no-normalize-scales"],
    ["--input_scale", "--no-normalize-scales"],
    ["--heur"],
    ["--tier=minimal", "--preset=flux2"],
    ["--like=q.safetensors", "--block_size=64"],
  ];
  for (const argv of lines) deepStrictEqual(request(...argv).warnings, [], argv.join(" "));
});

Deno.test("askedConversion() takes flags that every quantized format heeds as they are", () => {
  for (const format of ["int8", "w6a8", "w4a8", "w4a4", "fp8", "mxfp8", "nvfp4"]) {
    for (
      const flags of [
        ["--calibration-data=d"],
        ["--calibration-data=d", "--simple"],
        ["--report-quality", "--quality-threshold=20", "--strict"],
        ["--full_precision_matrix_mult", "--save-quant-metadata"],
      ]
    ) {
      strictEqual(
        request(`--format=${format}`, ...flags).warnings.join(),
        "",
        `${format} ${flags}`,
      );
    }
  }
  for (const flag of ["--scale-search=off", "--simple"]) {
    strictEqual(request("--format=nvfp4", flag).warnings.join(), "");
  }
});

Deno.test("askedConversion() reports environment variables that concern a GPU", () => {
  Deno.env.set("ENABLE_MIXED_HADAMARD", "1");
  try {
    match(
      request().warnings.join("\n"),
      /ENABLE_MIXED_HADAMARD has no effect without calibration data/,
    );
  } finally {
    Deno.env.delete("ENABLE_MIXED_HADAMARD");
  }
});

Deno.test("autoOutputName() says what the output holds, beside the input", () => {
  const name = (argv: string[], convrotGroupSize: number | null, input = "m/model.safetensors") =>
    autoOutputName(input, request(...argv).options, {
      convrotGroupSize,
      isCompensated: argv.includes("--calibration-data=d.json"),
    });
  strictEqual(name([], 256), join("m", "model_int8_row_convrot256_mse.safetensors"));
  strictEqual(basename(name([], null)), "model_int8_row_mse.safetensors");
  strictEqual(
    basename(name(["--scaling_mode=tensor", "--simple"], null)),
    "model_int8_tensor.safetensors",
  );
  strictEqual(
    basename(name(["--target=ctq", "--simple"], null)),
    "model_int8_block128.safetensors",
  );
  strictEqual(
    basename(name(["--calibration-data=d.json"], 256)),
    "model_int8_row_convrot256_mse_gptq.safetensors",
  );
  strictEqual(
    basename(name(["--calibration-data", "d.json"], 256)), // data for none of the layers
    "model_int8_row_convrot256_mse.safetensors",
  );
  strictEqual(basename(name(["--fp16"], null)), "model_fp16.safetensors");
  strictEqual(
    name(["--fp16"], null, "m/big.safetensors.index.json"),
    join("m", "big_fp16.safetensors"),
  );
  strictEqual(basename(name(["--fp16"], null, "m/v1.5.safetensors")), "v1.5_fp16.safetensors");
});

Deno.test("autoOutputName() names a folder's output after the folder, beside it", () => {
  const folder = mkdtempSync(join(tmpdir(), "quantsmith-"));
  try {
    const path = autoOutputName(`${folder}/`, DEFAULT_CONVERT_OPTIONS, {
      convrotGroupSize: null,
      isCompensated: false,
    });
    strictEqual(path, join(dirname(folder), `${basename(folder)}_int8_row_mse.safetensors`));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
