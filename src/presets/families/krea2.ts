/** Krea 2: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const KREA2: Family = {
  id: "krea2",
  title: "Krea 2",
  detect: {
    all: ["txtfusion.projector.weight"],
  },
  // first and last are the input and output projections
  keepBalanced: ["first", "last", "tmlp", "tproj", "txtfusion", "txtmlp"],
  notes: "The official INT8 file keeps the same modules.",
};
