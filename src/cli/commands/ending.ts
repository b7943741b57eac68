/** What the end of a conversion needs: loaded and measured while the system makes the output durable. */

import { later } from "../../core/later.ts";
import type { LayerResult } from "../../convert/convert.ts";
import type { PlainRows } from "../../convert/plain_rows.ts";
import type { conclude, plainRowsOf } from "./conclude.ts";

/** The code of the end, and what it compares with. */
export interface End {
  readonly conclude: typeof conclude;
  /** What plain rows would have given; null if that cannot be said. */
  readonly plain: PlainRows | null;
}

/** Source, options and log of a conversion. */
export type EndingRequest = Parameters<typeof plainRowsOf>[1];

/** The end of one conversion. */
export class Ending {
  readonly #request: EndingRequest;
  #end: Promise<End> | null = null;

  constructor(request: EndingRequest) {
    this.#request = request;
  }

  /** Prepares it for a conversion that made `layers`. */
  begin(layers: readonly LayerResult[]): void {
    this.#end ??= endOf(layers, this.#request);
    // If the conversion fails meanwhile, nobody waits for it.
    this.#end.catch(() => {});
  }

  /** Returns what was prepared, which begins now if it has not. */
  async ready(layers: readonly LayerResult[]): Promise<End> {
    this.begin(layers);
    return await this.#end!;
  }
}

async function endOf(layers: readonly LayerResult[], request: EndingRequest): Promise<End> {
  const { conclude, plainRowsOf } = await import(
    later("./conclude.ts")
  ) as typeof import("./conclude.ts");
  return { conclude, plain: plainRowsOf(layers, request) };
}
