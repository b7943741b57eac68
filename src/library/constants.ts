/** The constants that the documents name, as the names of dtypes in safetensors files. */

/** Dtype of the codes. */
export const TARGET_INT8_DTYPE = "I8";

/** Dtype that is computed in. */
export const COMPUTE_DTYPE = "F32";

/** Dtype of the scales. */
export const SCALE_DTYPE = "F32";
