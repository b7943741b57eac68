/** How many bytes quantized weights take: their codes, scales and tables, without markers and biases. */

import type { Plan } from "./plan.ts";

/** Returns the bytes of every quantized tensor of a plan, by the name of its weight. */
export function storedBytes({ outputs }: Pick<Plan, "outputs">): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const { content, byteLength } of outputs) {
    if (content.kind === "copy" || content.kind === "cast" || content.kind === "inline") continue;
    const { name } = content.source;
    bytes.set(name, (bytes.get(name) ?? 0) + byteLength);
  }
  return bytes;
}
