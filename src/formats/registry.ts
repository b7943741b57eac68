/**
 * All ways to store a weight that are known here. A layer that none of them claims is refused: the list is
 * closed.
 */

import { asymW4a8 } from "./asym_w4a8_int8.ts";
import { awqW4a16 } from "./awq_w4a16.ts";
import { bitsandbytes4bit } from "./bitsandbytes_4bit.ts";
import { bitsandbytesInt8 } from "./bitsandbytes_int8.ts";
import { compressedTensors } from "./compressed_tensors.ts";
import { convrotW4a4 } from "./convrot_w4a4.ts";
import { exllama } from "./exllama.ts";
import { float8Blockwise, float8E4m3, float8E5m2, float8Rowwise } from "./float8.ts";
import { float8Scaled } from "./float8_scaled.ts";
import type { Format } from "./format.ts";
import { ggufBlocks } from "./gguf_blocks.ts";
import { gptossMxfp4 } from "./gptoss_mxfp4.ts";
import { gptqAwq } from "./gptq_awq.ts";
import { hqq } from "./hqq.ts";
import { int8Axiswise } from "./int8_axiswise.ts";
import { int8Blockwise } from "./int8_blockwise.ts";
import { int8Tensorwise } from "./int8_tensorwise.ts";
import { int8Transformed } from "./int8_transformed.ts";
import { int8Unmarked } from "./int8_unmarked.ts";
import { mlx } from "./mlx.ts";
import { mxfp8 } from "./mxfp8.ts";
import { nunchaku } from "./nunchaku.ts";
import { nvfp4 } from "./nvfp4.ts";
import { nvfp4Modelopt } from "./nvfp4_modelopt.ts";
import { quanto } from "./quanto.ts";
import { sdnq } from "./sdnq.ts";
import { torchao } from "./torchao.ts";
import { vectorCodes } from "./vector_codes.ts";

/** The formats, in any order: exactly one claims a layer. */
export const FORMATS: readonly Format[] = Object.freeze([
  // Stock ComfyUI loads these.
  int8Tensorwise,
  float8E4m3,
  float8E5m2,
  nvfp4,
  mxfp8,
  asymW4a8,
  convrotW4a4,
  awqW4a16,
  // Decoded here.
  int8Axiswise,
  int8Blockwise,
  int8Transformed,
  int8Unmarked,
  float8Rowwise,
  float8Blockwise,
  float8Scaled,
  nvfp4Modelopt,
  gptossMxfp4,
  torchao,
  // Refused by name.
  bitsandbytesInt8,
  bitsandbytes4bit,
  compressedTensors,
  exllama,
  ggufBlocks,
  gptqAwq,
  hqq,
  mlx,
  nunchaku,
  quanto,
  sdnq,
  vectorCodes,
]);
