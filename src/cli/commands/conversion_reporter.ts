/** What a conversion says while it runs: lines for people, and the events of `--json`. */

import type { ConvertStart, LayerResult } from "../../convert/convert.ts";
import { displayName } from "../../remote/location.ts";
import { type PlacementRules, placementRules } from "../../run/gpu_placement.ts";
import { describeNote } from "../../run/layer_notes.ts";
import type { PlannedTensor } from "../../plan/plan.ts";
import type { GpuService } from "../../run/workers/gpu_service.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { outputNames } from "../../safetensors/shard_layout.ts";
import { errorsJson, learnedJson } from "../errors_json.ts";
import type { EventWriter } from "../events.ts";
import { operationLines, operationsOnCpu, placementJson } from "../placement_report.ts";
import { lorasJson, tensorJson, totalsJson } from "../plan_report.ts";
import { checkReportLayers } from "../report/report_layers.ts";
import { compensatedJson, noteJson } from "../report_json.ts";
import { announce } from "./announce.ts";
import { checkReport } from "./check_report.ts";
import { keepHeapSmall } from "../small_heap.ts";
import type { ConversionRequest } from "./conversion_request.ts";

/** Reports one conversion. */
export class ConversionReporter {
  /** Names of the files that are written, once the plan is made. */
  outputs: readonly string[] = [];
  readonly #request: ConversionRequest;
  readonly #model: ModelSource;
  readonly #events: EventWriter | null;
  /** Tensors of the plan by name, for events. */
  readonly #planned = new Map<string, PlannedTensor>();
  #rules: PlacementRules | null = null;

  constructor(request: ConversionRequest, model: ModelSource, events: EventWriter | null) {
    this.#request = request;
    this.#model = model;
    this.#events = events;
  }

  /** The device is known: null means the CPU. */
  onDevice(gpu: GpuService | null): void {
    const { io, log, warningsOnCpu } = this.#request;
    if (gpu === null) { for (const warning of warningsOnCpu) log.warn(warning); }
    else this.#rules = placementRules(io.gpuMemory, gpu.adapter);
  }

  /** The plan is made. Refuses a report that cannot be written: before the work. */
  onPlan(start: ConvertStart): void {
    const { io, log, options } = this.#request, rules = this.#rules;
    keepHeapSmall({
      tensors: start.plan.tensors.length,
      hasData: options.calibrationPath !== null,
    });
    const { files, index } = outputNames(start.output, start.plan.parts.length);
    this.outputs = index === null ? files : [index, ...files];
    checkReport(io, { inputs: this.#model.paths, outputs: this.outputs });
    checkReportLayers(io, start.plan);
    announce(start, this.#request);
    const onCpu = rules === null ? [] : operationsOnCpu(rules, start.plan);
    // A user who asks for the GPU wants to know what stays on the CPU.
    const say = io.device === "gpu" ? log.info : log.verbose;
    for (const line of operationLines(onCpu)) say(line);
    if (this.#events === null) return;
    for (const tensor of start.plan.tensors) this.#planned.set(tensor.source.name, tensor);
    this.#events.start({
      input: displayName(io.input),
      output: start.output,
      device: start.gpu === null ? "cpu" : "gpu",
      adapter: start.gpu,
      gpu_memory: rules === null ? null : placementJson(rules, onCpu),
      workers: start.workers,
      resumed: start.resumed,
      family: start.plan.detection.family,
      target: start.plan.target,
      totals: totalsJson(start.plan),
      loras: lorasJson(start.loras),
    });
  }

  /** A layer is done. */
  onLayer(layer: LayerResult): void {
    const planned = this.#planned.get(layer.name);
    this.#events?.tensor({
      ...(planned === undefined ? {} : tensorJson(planned)),
      name: layer.name,
      errors: errorsJson(layer.errors),
      ...noteJson(layer),
      ...compensatedJson(layer.compensated),
      ...(layer.learned === null ? {} : { learned: learnedJson(layer.learned) }),
    });
    const words = describeNote(layer.note, layer.compensated);
    if (words !== null) this.#request.log.verbose(`${layer.name}: ${words}`);
  }

  /** The outputs of a layer are measured, or its bias is corrected. */
  onMeasured({ name, output, bias }: LayerResult): void {
    this.#events?.measured({ name, output, bias });
  }
}
