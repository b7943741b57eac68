/** Formats of others that are known by name, so that they can be refused by name. */

import type { SourceTensor } from "../core/tensor.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";
import { type Format, type LayerTensors, unreadable } from "./format.ts";
import { reportForeignLayout } from "./problem.ts";

/** The tensor of a layer that shows that it is stored so: the tensor with the codes. */
export type CodesIn = (layer: LayerTensors) => SourceTensor | null | undefined;

/** Returns a format that is recognised and never decoded. */
export function refusedFormat(
  { id, title, codesIn, advice = START_FROM_ORIGINAL }: {
    id: string;
    title: string;
    codesIn: CodesIn;
    /** Advice. */
    advice?: string;
  },
): Format {
  return {
    id,
    title,
    recognise: (layer) => {
      const codes = codesIn(layer);
      return codes === null || codes === undefined ? null : { codes };
    },
    decode: (_, { codes }) => unreadable(codes, `${title} is not decoded here`, advice),
    problems: (report, _, { codes }) => reportForeignLayout(report, title, codes.name),
    words: () => [title, ""],
  };
}
