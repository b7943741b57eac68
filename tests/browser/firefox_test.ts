import assert from "node:assert/strict";
import { join } from "node:path";
import { findBrowser, openPage } from "../support/browser.ts";
import { convertInPage, hashByProgram } from "../support/browser_runs.ts";
import { writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import { fluxLikeTensors, MODEL_SIZES } from "../support/synthetic_shapes.ts";

const hasBrowser = findBrowser("firefox") !== null;
if (!hasBrowser) console.warn("ignored: tests of the page in Firefox, as there is none");

Deno.test({
  name: "convert() writes the bytes of the program in Firefox, with threads and without",
  ignore: !hasBrowser,
  fn: async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    const model = at("flux.safetensors"),
      small = at("model.safetensors"),
      data = at("data.safetensors");
    writeSyntheticModel(model, fluxLikeTensors(MODEL_SIZES.tiny), { seed: 1 });
    writeSmallModel(small);
    writeCalibration(data);
    const plain = await hashByProgram(model, at("plain.safetensors"), [
      "--simple",
      "--scaling_mode",
      "row",
    ]);
    const byDefault = await hashByProgram(model, at("default.safetensors"), []);
    const gptq = await hashByProgram(small, at("gptq.safetensors"), ["--calibration-data", data]);
    for (const isIsolated of [true, false]) {
      await using open = await openPage({ kind: "firefox", isIsolated });
      const { page } = open;
      assert.equal(await page.evaluate("crossOriginIsolated"), isIsolated);
      const options = { method: "simple", scaling: "row" };
      const rows = await convertInPage(page, { model: [model], options });
      assert.equal(rows.error, null);
      assert.equal(rows.hash, plain);
      const other = await convertInPage(page, { model: [model] });
      assert.equal(other.error, null);
      assert.equal(other.hash, byDefault);
      const compensated = await convertInPage(page, { model: [small], calibration: data });
      assert.equal(compensated.error, null);
      assert.equal(compensated.hash, gptq);
      assert.deepEqual([...rows.left, ...other.left, ...compensated.left], []);
    }
  },
});

/** Conversions one after the other: each starts and ends six threads. */
const CONVERSIONS = 4;

Deno.test({
  name: "convert() comes to its end in Firefox on a page that is slow to answer",
  ignore: !hasBrowser,
  fn: async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    const model = at("model.safetensors"), data = at("data.safetensors");
    writeSmallModel(model);
    writeCalibration(data);
    const expected = await hashByProgram(model, at("out.safetensors"), [
      "--calibration-data",
      data,
    ]);
    await using open = await openPage({ kind: "firefox" });
    // A thread that starts another one waits for the page in Firefox; nobody must wait for both.
    await open.page.evaluate(() => {
      setInterval(() => {
        const end = performance.now() + 30;
        while (performance.now() < end);
      }, 31);
    });
    for (let run = 0; run < CONVERSIONS; run++) {
      const result = await convertInPage(open.page, { model: [model], calibration: data });
      assert.equal(result.error, null);
      assert.equal(result.hash, expected);
    }
  },
});
