import { deepStrictEqual, match, ok, strictEqual, throws } from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import { PRESET_FLAGS } from "../../src/cli/flags/table.ts";
import { parseArgs } from "../../src/cli/parse.ts";
import { nearest } from "../../src/core/nearest.ts";
import { DOCUMENTED_NAMES } from "../../src/presets/documented.ts";
import { SWITCHES, VALUED } from "./documented_flags.ts";

/** Asserts that parsing is refused with a usage message that `pattern` matches. */
function refuses(argv: readonly string[], pattern: RegExp): void {
  throws(() => parseArgs(argv), (error: unknown) => {
    ok(error instanceof UsageError, `${argv.join(" ")}: ${error}`);
    match(error.message, pattern);
    return true;
  });
}

/** The spellings of one flag. */
function spellings(name: string): string[] {
  return [`--${name.replaceAll("_", "-")}`, `--${name.replaceAll("-", "_")}`];
}

Deno.test("parseArgs() takes every documented switch in both spellings, negated, with a word", () => {
  for (const name of SWITCHES) {
    for (const typed of spellings(name)) {
      strictEqual(parseArgs(["m.safetensors", typed]).bool(name), true, typed);
      for (const word of ["False", "false", "0", "no"]) {
        strictEqual(parseArgs([`${typed}=${word}`]).bool(name, true), false, `${typed}=${word}`);
      }
      for (const word of ["True", "1", "yes"]) {
        strictEqual(parseArgs([`${typed}=${word}`]).bool(name), true, `${typed}=${word}`);
      }
    }
    const opposite = name.startsWith("no-") ? `--${name.slice(3)}` : `--no-${name}`;
    for (const typed of spellings(opposite.slice(2))) {
      strictEqual(parseArgs([typed]).bool(name, true), false, typed);
    }
  }
});

Deno.test("parseArgs() takes every documented flag with its value in both spellings", () => {
  for (const [name, value] of Object.entries(VALUED)) {
    for (const typed of spellings(name)) {
      for (const argv of [[typed, value], [`${typed}=${value}`]]) {
        const parsed = parseArgs(argv);
        ok(parsed.has(name), argv.join(" "));
        deepStrictEqual([...parsed.given], [name]);
        deepStrictEqual(parsed.positionals, [], argv.join(" "));
      }
    }
  }
});

Deno.test("parseArgs() knows exactly the documented presets as preset flags", () => {
  deepStrictEqual([...PRESET_FLAGS].sort(), [...DOCUMENTED_NAMES].sort());
});

Deno.test("parseArgs() reads typed values", () => {
  const parsed = parseArgs([
    "--block_size=64",
    "--quality-threshold",
    "-3.5",
    "--memory-limit",
    "500MB",
    "--scaling_mode",
    "AXIS",
    "-i",
    "in.safetensors",
  ]);
  strictEqual(parsed.number("block-size"), 64);
  strictEqual(parsed.number("quality-threshold"), -3.5);
  strictEqual(parsed.number("memory-limit"), 500e6);
  strictEqual(parsed.string("scaling_mode"), "axis");
  strictEqual(parsed.string("input"), "in.safetensors");
  const bytes = (size: string) => parseArgs(["--memory-limit", size]).number("memory-limit");
  deepStrictEqual(["2GiB", "2G", "2GB", "1048576"].map(bytes), [2 ** 31, 2 ** 31, 2e9, 2 ** 20]);
});

Deno.test("parseArgs() takes the last of a repeated flag", () => {
  const parsed = parseArgs(["--block_size", "64", "--heur", "--block-size=32", "--no-heur"]);
  strictEqual(parsed.number("block_size"), 32);
  strictEqual(parsed.bool("heur"), false);
});

Deno.test("parseArgs() takes list values up to the next flag", () => {
  const parsed = parseArgs(["m.safetensors", "--merge-loras", "a", "b", "c", "--simple"]);
  deepStrictEqual(parsed.list("merge-loras"), ["a", "b", "c"]);
  deepStrictEqual(parsed.positionals, ["m.safetensors"]);
});

Deno.test("parseArgs() takes an optional value only if it is one of the words", () => {
  const convrot = (argv: readonly string[]) => {
    const parsed = parseArgs(argv);
    return [parsed.string("convrot"), ...parsed.positionals];
  };
  deepStrictEqual(convrot(["--convrot", "m.safetensors"]), ["auto", "m.safetensors"]);
  deepStrictEqual(convrot(["--convrot", "off", "m.safetensors"]), ["off", "m.safetensors"]);
  deepStrictEqual(convrot(["--convrot", "64", "m.safetensors"]), ["64", "m.safetensors"]);
  deepStrictEqual(convrot(["--convrot=1024"]), ["1024"]);
  const dry = parseArgs(["--dry-run", "m.safetensors"]);
  strictEqual(dry.string("dry-run"), "analyze");
  deepStrictEqual(dry.positionals, ["m.safetensors"]);
  refuses(["--convrot=of"], /it takes auto, off, GROUP; the nearest is off/);
});

Deno.test("parseArgs() takes what follows -- as files", () => {
  const parsed = parseArgs(["--simple", "--", "--odd.safetensors"]);
  deepStrictEqual(parsed.positionals, ["--odd.safetensors"]);
});

Deno.test("parseArgs() knows subcommands in the first place only", () => {
  const parsed = parseArgs(["verify", "a.safetensors", "--source", "b.safetensors"]);
  strictEqual(parsed.command, "verify");
  deepStrictEqual(parsed.positionals, ["a.safetensors"]);
  strictEqual(parseArgs(["./verify"]).command, "convert");
  refuses(["--json", "inspect", "a.safetensors"], /the subcommand comes first/);
  refuses(["inspekt", "a.safetensors"], /"inspekt": the nearest subcommand is inspect/);
});

Deno.test("parseArgs() suggests only what was probably meant", () => {
  refuses(["--nope"], /^Unknown flag --nope: `--help` lists the flags$/);
  refuses(["quantize"], /"quantize": a conversion is `quantsmith model\.safetensors`/);
  refuses(["--device", "quantum"], /"quantum" for --device: it takes auto, cpu, gpu$/);
});

Deno.test("parseArgs() refuses words that the command would ignore, and - for a file", () => {
  refuses(["verify", "a", "b"], /argument "b": `quantsmith verify` takes one word/);
  refuses(["inspect", "a", "b"], /argument "b"/);
  refuses(["doctor", "a"], /argument "a": `quantsmith doctor` takes no words/);
  refuses(["dequantize", "a", "b", "c"], /argument "c": .* takes SRC and DST/);
  refuses(["./a", "b", "c"], /argument "c": a conversion takes SRC and DST/);
  for (const argv of [["-"], ["a.safetensors", "-"], ["-i", "-"], ["a.safetensors", "-o=-"]]) {
    refuses(argv, /Cannot use "-" as a file/);
  }
  refuses(["a.safetensors", "--merge-loras", "b.safetensors", "-"], /Cannot use "-" as a file/);
  refuses(["verify", "a.safetensors", "--source", "-"], /Cannot use "-" as a file/);
});

Deno.test("parseArgs() takes the flags of every working command with calibrate", () => {
  const parsed = parseArgs(
    "calibrate -i a.safetensors -o b.json --json --workers 2 --verbose DEBUG".split(" "),
  );
  strictEqual(parsed.string("input"), "a.safetensors");
  strictEqual(parsed.number("workers"), 2);
});

Deno.test("parseArgs() refuses flags of other subcommands, naming whose they are", () => {
  refuses(["inspect", "a", "--block_size", "4"], /--block_size with `quantsmith inspect`/);
  refuses(["a.safetensors", "--source", "b"], /it belongs to verify/);
});

Deno.test("parseArgs() names the nearest if a flag or value is unknown", () => {
  refuses(["--scalingmode", "row"], /Unknown flag --scalingmode: the nearest is --scaling_mode/);
  refuses(["--simpel"], /--simpel: the nearest is --simple/);
  refuses(["--no-simpel"], /Unknown flag --no-simpel/);
  refuses(["--no-block_size"], /Unknown flag --no-block_size/);
  refuses(["--scaling_mode", "tensors"], /"tensors".*tensor, axis, row, block.*nearest is tensor/);
  refuses(["-x"], /Unknown flag -x/);
});

Deno.test("parseArgs() checks numbers, ranges, switches and missing values", () => {
  for (const word of ["1.5", "NaN", "0x10", "Infinity", "0", "1e99", "many"]) {
    refuses(["--block_size", word], /it takes a whole number/);
  }
  for (const word of ["NaN", "Infinity", "1e999"]) {
    refuses(["--quality-threshold", word], /it takes a number/);
  }
  refuses(["--workers", "65"], /from 1 to 64/);
  refuses(["--workers", "0"], /from 1 to 64/);
  for (const word of ["2XB", "-5", "0", "GB"]) refuses([`--memory-limit=${word}`], /a size/);
  refuses(["--simple=maybe"], /it takes True, False/);
  refuses(["--output"], /Missing value: --output FILE/);
  refuses(["--output", "--simple"], /Missing value: --output FILE/);
  refuses(["--output="], /empty value/);
  refuses(["--merge-loras", "--simple"], /Missing value: --merge-loras/);
});

Deno.test("nearest() returns the closest name whatever the case", () => {
  strictEqual(nearest("ROV", ["tensor", "row", "block"]), "row");
});

Deno.test("Parsed throws for a flag that no table knows", () => {
  throws(() => parseArgs([]).bool("nonsense"), RangeError);
});

Deno.test("parseArgs() takes the value of a short flag from the same word", () => {
  const parsed = parseArgs(["-ia=b/m.safetensors", "-oout.safetensors"]);
  strictEqual(parsed.string("input"), "a=b/m.safetensors");
  strictEqual(parsed.string("output"), "out.safetensors");
});
