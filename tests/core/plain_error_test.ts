import assert from "node:assert/strict";
import * as errors from "../../src/core/errors.ts";
import { JsonError } from "../../src/core/json.ts";
import { CORE_ERRORS, plainError, restoredError } from "../../src/core/plain_error.ts";

/** As it comes to another thread, by message or as JSON. */
function crossed(error: unknown): Error[] {
  const plain = plainError(error);
  return [structuredClone(plain), JSON.parse(JSON.stringify(plain))].map((p) => restoredError(p));
}

const cause = new RangeError("too far");

/** One error of every class of `core`. */
const EXAMPLES: readonly Error[] = [
  new errors.UsageError("Unknown flag"),
  new errors.FormatError("the rule", {
    path: "m.safetensors",
    tensor: "a.weight",
    offsetBytes: 12,
    hint: "do this",
    cause,
  }),
  new errors.UnsupportedError("Cannot do that", { cause }),
  new errors.AlreadyQuantizedError("It is quantized"),
  new errors.DeviceError("The device is lost"),
  new errors.InterruptedError("nothing is lost"),
  new JsonError("a key twice", { fault: "duplicate", offset: 3, key: "k" }),
  Object.assign(new Error("ENOENT: open"), { code: "ENOENT", errno: -2 }),
  new TypeError("no function"),
  new RangeError("too far"),
  new SyntaxError("no JSON"),
];

/** Everything that can be seen of an error; a field without a value is as one that is not there. */
function seen(error: Error): Record<string, unknown> {
  const own = Object.getOwnPropertyNames(error).filter((key) => key !== "cause");
  const fields = Object.fromEntries(
    own.map((key) => [key, error[key as keyof Error]]).filter(([, value]) => value !== undefined),
  );
  return { ...fields, class: error.constructor, name: error.name, text: String(error) };
}

for (const error of EXAMPLES) {
  Deno.test(`restoredError() gives a ${error.name} back with its class and fields`, () => {
    for (const back of crossed(error)) {
      assert.deepEqual(seen(back), seen(error));
      assert.ok(back instanceof error.constructor);
      assert.ok(back instanceof Error);
      assert.equal((back.cause as Error | undefined)?.message, (error.cause as Error)?.message);
      if (error.cause !== undefined) assert.ok(back.cause instanceof RangeError);
    }
  });
}

Deno.test("every class of core/errors.ts crosses, and has an example here", () => {
  const classes = Object.values(errors).filter((value) =>
    typeof value === "function" && value.prototype instanceof Error
  );
  assert.ok(classes.length >= 6);
  for (const made of classes) {
    assert.equal(CORE_ERRORS[made.name], made);
    assert.ok(EXAMPLES.some((error) => error.constructor === made), made.name);
  }
});

Deno.test("restoredError() gives an Error for a class it does not know, and for what is no error", () => {
  class OtherError extends Error {
    override readonly name = "OtherError";
    readonly path = "p";
    readonly socket = { open: () => {} };
  }
  for (const back of crossed(new OtherError("odd"))) {
    assert.equal(back.constructor, Error);
    assert.deepEqual([back.message, (back as OtherError).path], ["odd", "p"]);
  }
  for (const thrown of ["text", 3, null]) {
    for (const back of crossed(thrown)) assert.equal(back.message, String(thrown));
  }
});

Deno.test("plainError() ends if causes go in a circle", () => {
  const a = new Error("a"), b = new Error("b", { cause: a });
  a.cause = b;
  for (const back of crossed(b)) assert.equal((back.cause as Error).message, "a");
});
