/**
 * Gives every property the same cases in every run, so that a failure is due to the change under test.
 * `deno task test` loads this before the tests; `FC_SEED=random` leaves the choice to chance, any other
 * number repeats what a failure printed.
 */

import fc from "fast-check";
import process from "node:process";
import "./large_arrays.ts";

const seed = process.env["FC_SEED"] ?? "1";
if (seed !== "random") fc.configureGlobal({ seed: Number(seed) });
