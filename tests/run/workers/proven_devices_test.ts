import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  cacheFolder,
  driverIdentity,
  ProvenDevice,
} from "../../../src/run/workers/proven_devices.ts";
import { GpuService } from "../../../src/run/workers/gpu_service.ts";
import { WORKER_URL } from "../../support/encode.ts";
import { testGpuOnly } from "../../support/gpu.ts";
import { temporaryFolder } from "../../support/model_files.ts";

Deno.test("cacheFolder() is the system's folder for files that programs can do without", () => {
  assert.equal(cacheFolder({ XDG_CACHE_HOME: "/x", HOME: "/h" }, "linux"), "/x/quantsmith");
  assert.equal(cacheFolder({ XDG_CACHE_HOME: "", HOME: "/h" }, "linux"), "/h/.cache/quantsmith");
  assert.equal(cacheFolder({ HOME: "/h" }, "darwin"), "/h/Library/Caches/quantsmith");
  assert.match(cacheFolder({ LOCALAPPDATA: "/l" }, "win32")!, /quantsmith$/);
  assert.equal(cacheFolder({}, "linux"), null);
});

Deno.test("ProvenDevice remembers passes of the same device, driver and kernels only", () => {
  using folder = temporaryFolder();
  new ProvenDevice(["a", 1], folder.path).remember(["decode", "absmax"]);
  new ProvenDevice(["a", 1], folder.path).remember(["rotate"]);
  new ProvenDevice(["b", 1], folder.path).remember(["quantize"]);
  const passed = (identity: unknown[]) => [...new ProvenDevice(identity, folder.path).passed()];
  assert.deepEqual(passed(["a", 1]), ["absmax", "decode", "rotate"]);
  assert.deepEqual(passed(["b", 1]), ["quantize"]);
  assert.deepEqual(passed(["a", 2]), []);
  assert.deepEqual(readdirSync(folder.path), ["gpu-self-test.json"]);
});

Deno.test("ProvenDevice forgets old passes", () => {
  using folder = temporaryFolder();
  const device = new ProvenDevice(["a"], folder.path),
    path = join(folder.path, "gpu-self-test.json");
  device.remember(["decode"]);
  const memory = JSON.parse(readFileSync(path, "utf8"));
  for (const entry of Object.values(memory) as { day: number }[]) entry.day -= 31;
  writeFileSync(path, JSON.stringify(memory));
  assert.equal(device.passed().size, 0);
});

Deno.test("ProvenDevice does without a file that is broken, and without a folder", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "gpu-self-test.json");
  for (const text of ["{", "[]", '{"a": {"day": "x"}}', "\0\0"]) {
    writeFileSync(path, text);
    const device = new ProvenDevice(["a"], folder.path);
    assert.equal(device.passed().size, 0);
    device.remember(["decode"]);
    assert.deepEqual([...device.passed()], ["decode"]);
  }
  const nowhere = new ProvenDevice(["a"], null);
  nowhere.remember(["decode"]);
  assert.equal(nowhere.passed().size, 0);
});

Deno.test("ProvenDevice does without a folder that cannot be written", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "file"), closed = join(folder.path, "closed");
  writeFileSync(file, "");
  mkdirSync(closed);
  chmodSync(closed, 0o500);
  for (const place of [join(file, "below"), closed]) {
    const device = new ProvenDevice(["a"], place);
    device.remember(["decode"]);
    // An administrator may write everywhere.
    assert(device.passed().size === 0 || process.getuid?.() === 0);
  }
});

Deno.test("driverIdentity() is the same while nothing changes, and changes with the driver that is asked for", () => {
  using folder = temporaryFolder();
  const manifest = join(folder.path, "icd.json"), library = join(folder.path, "driver.so");
  writeFileSync(library, "one");
  writeFileSync(manifest, JSON.stringify({ ICD: { library_path: library } }));
  const before = process.env["VK_DRIVER_FILES"];
  process.env["VK_DRIVER_FILES"] = manifest;
  try {
    const first = driverIdentity();
    assert.deepEqual(driverIdentity(), first);
    writeFileSync(library, "another");
    assert.notDeepEqual(driverIdentity(), first);
  } finally {
    if (before === undefined) delete process.env["VK_DRIVER_FILES"];
    else process.env["VK_DRIVER_FILES"] = before;
  }
});

testGpuOnly("GpuService.prove() passes a device that is right, and remembers it", async () => {
  using folder = temporaryFolder();
  const before = process.env["XDG_CACHE_HOME"];
  process.env["XDG_CACHE_HOME"] = folder.path;
  try {
    using gpu = await GpuService.start(WORKER_URL);
    assert(await gpu.prove(["rounding"]));
    const text = readFileSync(join(folder.path, "quantsmith", "gpu-self-test.json"), "utf8");
    assert.match(text, /"quantize"/);
    assert.doesNotMatch(text, /"gemmI8"/);
    assert(await gpu.prove(["rounding", "int8 products"]));
    assert.match(
      readFileSync(join(folder.path, "quantsmith", "gpu-self-test.json"), "utf8"),
      /gemmI8/,
    );
  } finally {
    process.env["XDG_CACHE_HOME"] = before;
  }
});
