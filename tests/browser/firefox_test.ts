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
