/** Advice about weights that cannot be decoded. */
export const START_FROM_ORIGINAL =
  "start from the original weights, or save them as BF16 with the tool that wrote the file";

/** Why a layer with `pre_quant_scale` of ModelOpt's AWQ is not decoded. */
export const SMOOTHED =
  "pre_quant_scale (AWQ of ModelOpt) scales the inputs of the layer, so the weight beside it is not the original one";
