/** Waits for a conversion in a process of its own to begin. */

import { readdirSync } from "node:fs";

/**
 * Returns once a partial file in `folder` shows that the work has begun, however busy the machine is.
 *
 * @throws Error if the process ends before.
 */
export async function untilBegun(folder: string, child: Deno.ChildProcess): Promise<void> {
  let code: number | null = null;
  child.status.then((status) => code = status.code);
  while (!readdirSync(folder).some((name) => name.includes(".partial"))) {
    if (code !== null) throw new Error(`the run ended with ${code} before its work began`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
