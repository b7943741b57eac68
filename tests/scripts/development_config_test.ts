import assert from "node:assert/strict";
import development from "../../deno.dev.json" with { type: "json" };
import product from "../../deno.json" with { type: "json" };

Deno.test("deno.dev.json has every package of deno.json in the same version, and the same rules", () => {
  const { imports } = development as { imports: Record<string, string> };
  for (const [name, specifier] of Object.entries(product.imports)) {
    assert.equal(imports[name], specifier, name);
  }
  assert.deepEqual(development.compilerOptions, product.compilerOptions);
});

Deno.test("both configs pin the exact version of every package", () => {
  for (const specifier of Object.values({ ...development.imports, ...product.imports })) {
    assert.match(specifier, /^npm:\/?(@[^/]+\/)?[^@/]+@\d+\.\d+\.\d+(\/|$)/);
  }
});
