/** What to do with weights that cannot be decoded. */
export const START_FROM_ORIGINAL =
  "start from the original weights, or save them as BF16 with the tool that wrote the file";
