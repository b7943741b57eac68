/**
 * quantsmith as a library: INT8 models for ComfyUI from safetensors, on Deno, Node and Bun.
 *
 * @module
 */

export { convertToInt8, type ConvertToInt8Options } from "./src/convert/convert_to_int8.ts";
export type { ConvertResult, GpuShare, LayerResult } from "./src/convert/convert.ts";
export type { Part } from "./src/convert/parts/part.ts";
export type { PartResult } from "./src/convert/parts/part_run.ts";
export type { CompensatedRows } from "./src/run/layer_notes.ts";
export type { CompensatedNote, Note as LayerNote } from "./src/run/note.ts";
export type { ReplacedShards } from "./src/safetensors/replaced_shards.ts";
export type { OperationKind, PlacementSettings, StreamingMode } from "./src/run/gpu_placement.ts";
export type { DeviceChoice } from "./src/run/workers/choose_gpu.ts";
export type { LayerErrors } from "./src/run/layer_statistics.ts";
export { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "./src/plan/options.ts";
export type {
  GivenLearnedOptions,
  GivenOptions,
  GivenSchedule,
  Loose,
} from "./src/plan/resolve_options.ts";
export type { GridOutput, LevelOutput, WeightOutput } from "./src/formats/outputs.ts";
export type { FloatScheme } from "./src/quant/float_grid.ts";
export type { LevelScheme } from "./src/quant/level_grid.ts";
export type { FitFormat, FitSize } from "./src/plan/fit/fit_options.ts";
export type { FitResult, FittedLayer } from "./src/convert/fit/fit_formats.ts";
export type { LayerFlags } from "./src/config/layer_overrides.ts";
export type { Plan, PlannedTensor } from "./src/plan/plan.ts";

export { UnifiedSafetensorsLoader } from "./src/safetensors/loader.ts";
export { openModel } from "./src/safetensors/reader.ts";
export type { RemoteChannel, RemotePath } from "./src/remote/channel.ts";
export type { StoreSizes } from "./src/remote/store_sizes.ts";
export type { InputPath } from "./src/remote/input_path.ts";
export type { OutputPart } from "./src/safetensors/shard_layout.ts";
export type { RuleChoice } from "./src/presets/explain.ts";
export type { FileStamp } from "./src/safetensors/input_watch.ts";
export type { ModelSource } from "./src/safetensors/model_source.ts";
export type { DType, FloatDType } from "./src/core/dtype.ts";
export type { SourceTensor, Tensor, TensorInfo, Tensors } from "./src/core/tensor.ts";

export { loadLoraForMerging, loadLoraTensors } from "./src/lora/load_lora.ts";
export { LORA_DAMPENING, mergeLoraIntoWeight, mergeMultipleLoras } from "./src/lora/merge.ts";
export { loadLayerConfig } from "./src/config/load_layer_config.ts";

export {
  actDequant,
  actQuant,
  type CodeSpace,
  type Grid,
  int8Addmm,
  int8Gemm,
  type Int8Rows,
  type Int8Weight,
  quipInt8Matmul,
  weightDequant,
  weightQuant,
} from "./src/library/int8.ts";
export type {
  ConvertedWeight,
  LayerInputData,
  WeightMatrix,
} from "./src/library/convert_weight.ts";
export { GPTQInt8Converter, type GPTQInt8Options } from "./src/library/gptq_int8_converter.ts";
export { QuIPInt8Converter, type QuIPInt8Options } from "./src/library/quip_int8_converter.ts";
export {
  type LearnedResult,
  LearnedRoundingConverter,
  type LearnedRoundingOptions,
} from "./src/library/learned_rounding_converter.ts";
export { type SaveOptions, saveTensors, type TensorValues } from "./src/library/save_tensors.ts";
export { QualityReporter } from "./src/library/quality_reporter.ts";
export type { QualityReport, ReportedLayer } from "./src/library/quality_reporter.ts";
export {
  type Layout,
  layoutNames,
  type LayoutOptions,
  type QuantizedParts,
  QuantizedTensor,
  registerLayout,
} from "./src/library/quantized_tensor.ts";
export type { BiasChange } from "./src/convert/finish_layers.ts";
export type { OutputErrors } from "./src/convert/output_errors.ts";
export type { MeasuredOn } from "./src/calibration/layer_inputs.ts";

export { detect } from "./src/presets/detect.ts";
export type { Detection } from "./src/presets/preset.ts";
/** The documented presets: what each keeps and removes, by substring. */
export { DOCUMENTED_PRESETS as MODEL_FILTERS } from "./src/presets/documented.ts";
export { COMPUTE_DTYPE, SCALE_DTYPE, TARGET_INT8_DTYPE } from "./src/library/constants.ts";
export { type LogLevel, setupLogging } from "./src/convert/library_log.ts";
export { decodeFloats } from "./src/lora/decode_floats.ts";
export { INT8_SYMMETRIC_MAX, SCALE_MIN, type Scheme } from "./src/quant/scheme.ts";

export {
  DeviceError,
  FormatError,
  InterruptedError,
  UnsupportedError,
  UsageError,
} from "./src/core/errors.ts";
export { RemoteError, type RemoteFault } from "./src/remote/remote_error.ts";
export { FileError } from "./src/safetensors/io_error.ts";
export { ChangedInputError } from "./src/safetensors/input_watch.ts";

// Types that the options and results above are made of.
export type { LayerConfig, LayerConfigPattern } from "./src/config/layer_config.ts";
export type { LayerOverride, Optimizer } from "./src/config/layer_override.ts";
export type { LayerPattern } from "./src/config/layer_pattern.ts";
export type { LayerFlagOverrides, OverrideSources } from "./src/config/layer_overrides.ts";
export type { LoraForMerging, LoraMatrix } from "./src/lora/load_lora.ts";
export type { LoraConfig } from "./src/lora/merge.ts";
export type { LoraMergeOptions } from "./src/plan/options.ts";
export type { QuipOptions } from "./src/plan/options.ts";
export type { Action, Content, PlannedOutput, PlanTotals } from "./src/plan/plan.ts";
export type { Segments } from "./src/plan/options.ts";
export type { DocumentedPreset } from "./src/presets/documented.ts";
export type { NamePattern, PresetChoice, Stack, Tier } from "./src/presets/preset.ts";
export type {
  LearnedOptimizer,
  LearnedOptions,
  ScheduleOptions,
} from "./src/quant/learned/options.ts";
export type { PlacedTensor } from "./src/safetensors/layout.ts";
export type { StopReason } from "./src/quant/learned/search.ts";
export type { LearnedReport } from "./src/quant/learned/report.ts";
export type { Method, Scaling, Transform } from "./src/quant/scheme.ts";
