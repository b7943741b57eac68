import { deepStrictEqual, ok, strictEqual, throws } from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import { compilePatterns } from "../../src/presets/pattern.ts";
import { familyById, listFamilies, presetByName, refusalOf } from "../../src/presets/registry.ts";
import { detected } from "./model_names.ts";

Deno.test("listFamilies() holds families with unique ids, titles and valid patterns", () => {
  const families = listFamilies();
  strictEqual(new Set(families.map(({ id }) => id)).size, families.length);
  strictEqual(new Set(families.map(({ title }) => title)).size, families.length);
  for (const { id, keepBalanced, keepConservative, remove, detect } of families) {
    ok(keepBalanced.length > 0, id);
    compilePatterns([...keepBalanced, ...keepConservative ?? [], ...remove ?? []]);
    ok((detect.all?.length ?? 0) + (detect.any?.length ?? 0) > 0, `${id} is detected by something`);
    for (const sizes of [detect.shape ?? {}, ...detect.notShape ?? []]) {
      ok(Object.keys(sizes).every((place) => /^[\w.]+\[\d\]$/.test(place)), id);
    }
  }
});

Deno.test("listFamilies() marks CLIP, and only CLIP, as not to be converted", () => {
  const refused = listFamilies().filter(({ refuse }) => refuse !== undefined);
  deepStrictEqual(refused.map(({ id }) => id), ["te_clip_l_g"]);
});

Deno.test("familyById() finds ids in both spellings and names the nearest for an unknown one", () => {
  strictEqual(familyById("z_image").title, "Z-Image");
  strictEqual(familyById("Z-Image").id, "z_image");
  throws(() => familyById("flux3"), (error) => {
    ok(error instanceof UsageError);
    ok(/Unknown model family "flux3": the nearest is "flux\d"/.test(error.message), error.message);
    return true;
  });
});

Deno.test("presetByName() prefers a family to the documented preset of the same name", () => {
  deepStrictEqual(presetByName("auto"), { kind: "auto" });
  deepStrictEqual(presetByName("none"), { kind: "none" });
  deepStrictEqual(presetByName("wan"), { kind: "family", id: "wan" });
  deepStrictEqual(presetByName("zimage-refiner"), {
    kind: "documented",
    names: ["zimage_refiner"],
  });
  throws(() => presetByName("wann"), /Unknown preset "wann": the nearest is "wan"$/);
});

Deno.test("refusalOf() reports why CLIP is not converted, detected or named", () => {
  const reason = "stock ComfyUI has no quantized path for CLIP text encoders";
  strictEqual(refusalOf(detected("te_clip_l_g"), { kind: "auto" }), reason);
  strictEqual(refusalOf(detected("te_clip_l_g"), { kind: "none" }), reason);
  strictEqual(refusalOf(detected(null), { kind: "family", id: "te_clip_l_g" }), reason);
  strictEqual(refusalOf(detected("wan"), { kind: "auto" }), null);
  strictEqual(refusalOf(detected(null), { kind: "auto" }), null);
});
