/**
 * An edit as a list of operations on the tensors and the metadata of a model, and the file that they
 * make. Pure: what no operation names keeps its name, dtype, shape and bytes.
 */

import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import type { Scheme } from "../quant/scheme.ts";
import { layoutTensors } from "../safetensors/layout.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { ReadBytes } from "../formats/marker_reader.ts";
import type { Content, PlannedOutput } from "../plan/plan.ts";

/** One change. `tensor` names a tensor of the source. */
export type Change =
  /** The tensor goes. */
  | { readonly kind: "remove"; readonly tensor: string }
  /** The same bytes under another name or shape. */
  | {
    readonly kind: "restate";
    readonly tensor: string;
    readonly name: string;
    readonly shape: readonly number[];
  }
  /** A small tensor is added, or replaces the one of its name; a new one stands beside `tensor`. */
  | {
    readonly kind: "write";
    readonly tensor: string;
    readonly info: TensorInfo;
    readonly bytes: Uint8Array;
  }
  /** The values that codes stand for are rounded once more, to `weight`, with what stands beside it. */
  | {
    readonly kind: "requantize";
    readonly tensor: string;
    readonly weight: TensorInfo;
    readonly scheme: Scheme;
    readonly beside: readonly {
      readonly info: TensorInfo;
      readonly content: "scales" | "choices" | "wholeScale" | Uint8Array;
    }[];
  }
  /** A value of the header's `__metadata__`; null: the key goes. */
  | { readonly kind: "metadata"; readonly key: string; readonly value: string | null };

/** A change and what it is for. */
export type Operation = Change & {
  /** The layer or tensor that is changed, for people; empty for the file as a whole. */
  readonly place: string;
  /** The change, as a sentence without its period. */
  readonly detail: string;
};

/** The file that operations make. */
export interface EditedModel {
  readonly source: ModelSource;
  readonly operations: readonly Operation[];
  /** In file order. */
  readonly outputs: readonly PlannedOutput[];
  readonly metadata: Readonly<Record<string, string>> | null;
  /** First bytes of the output: length and JSON. */
  readonly header: Uint8Array;
  readonly totalBytes: number;
}

/** A tensor of the output. */
interface Entry {
  readonly info: TensorInfo;
  readonly content: Content;
}

/**
 * Returns the file that `operations`, in order, make of `source`.
 *
 * @throws RangeError for a tensor that is not there; UnsupportedError if two tensors would have one
 *   name.
 */
export function applyOperations(
  source: ModelSource,
  operations: readonly Operation[],
): EditedModel {
  // A slot per tensor of the source: what becomes of it, and what is added beside it.
  const slots = source.tensors.map((tensor): Entry[] => [copyOf(tensor)]);
  const places = new Map(source.tensors.map(({ name }, index) => [name, index]));
  const slotOf = (tensor: string): Entry[] => {
    const slot = slots[places.get(tensor) ?? -1];
    if (slot === undefined) throw new RangeError(`No tensor ${JSON.stringify(tensor)} to edit`);
    return slot;
  };
  const put = (entry: Entry, beside: string): void => {
    const slot = places.has(entry.info.name) ? slotOf(entry.info.name) : slotOf(beside);
    const at = slot.findIndex(({ info }) => info.name === entry.info.name);
    if (at < 0) slot.unshift(entry);
    else slot[at] = entry;
  };
  const drop = (tensor: string): Entry => {
    const slot = slotOf(tensor);
    const at = slot.findIndex(({ info }) => info.name === tensor);
    if (at < 0) throw new RangeError(`Tensor ${JSON.stringify(tensor)} is edited twice`);
    return slot.splice(at, 1)[0]!;
  };
  const metadata = new Map(Object.entries(source.metadata ?? {}));
  for (const operation of operations) {
    switch (operation.kind) {
      case "remove":
        drop(operation.tensor);
        break;
      case "restate": {
        const { tensor, name, shape } = operation;
        const { info, content } = drop(tensor);
        slotOf(tensor).push({ info: { ...info, name, shape }, content });
        break;
      }
      case "write": {
        const { info, bytes, tensor } = operation;
        put({ info, content: { kind: "inline", bytes } }, tensor);
        break;
      }
      case "requantize": {
        const { tensor, weight, scheme, beside } = operation;
        const codes = source.tensors.at(places.get(tensor)!)!;
        for (const { info, content } of beside) {
          put({ info, content: contentOf(content, codes) }, tensor);
        }
        put({ info: weight, content: { kind: "codes", source: codes, scheme } }, tensor);
        if (weight.name !== tensor) drop(tensor);
        break;
      }
      case "metadata":
        if (operation.value === null) metadata.delete(operation.key);
        else metadata.set(operation.key, operation.value);
    }
  }
  return layOut(source, operations, { entries: slots.flat(), metadata });
}

/**
 * Returns the model as it will be, for the rules of a loader: headers only. `readBytes` reads what is
 * copied or written as it stands.
 */
export function editedSource(
  { source, outputs, metadata, totalBytes }: EditedModel,
  readBytes: ReadBytes,
): { source: ModelSource; readBytes: ReadBytes } {
  const contents = new Map(outputs.map(({ name, content }) => [name, content]));
  return {
    source: {
      ...source,
      tensors: outputs.map(({ content: _, ...placed }): SourceTensor => ({ ...placed, file: 0 })),
      metadata,
      inputBytes: totalBytes,
    },
    readBytes: (tensor) => {
      const content = contents.get(tensor.name);
      if (content?.kind === "inline") return content.bytes;
      if (content?.kind === "copy") return readBytes(content.source);
      throw new RangeError(`Tensor ${JSON.stringify(tensor.name)} is still to be computed`);
    },
  };
}

function contentOf(
  content: Extract<Change, { kind: "requantize" }>["beside"][number]["content"],
  source: SourceTensor,
): Content {
  return typeof content === "string"
    ? { kind: content, source }
    : { kind: "inline", bytes: content };
}

function copyOf(source: SourceTensor): Entry {
  return { info: source, content: { kind: "copy", source } };
}

function layOut(
  source: ModelSource,
  operations: readonly Operation[],
  { entries, metadata: values }: {
    entries: readonly Entry[];
    metadata: ReadonlyMap<string, string>;
  },
): EditedModel {
  const isBare = source.metadata === null && values.size === 0;
  const metadata = isBare ? null : Object.fromEntries(values);
  const contents = new Map<string, Content>();
  for (const { info, content } of entries) {
    if (contents.has(info.name)) {
      throw new UnsupportedError(
        `Cannot edit ${JSON.stringify(source.path)}: it would hold ` +
          `${JSON.stringify(info.name)} twice`,
      );
    }
    contents.set(info.name, content);
  }
  const layout = layoutTensors(entries.map(({ info }) => info), metadata);
  return {
    source,
    operations,
    metadata,
    header: layout.header,
    totalBytes: layout.totalBytes,
    outputs: layout.entries.map((entry) => ({ ...entry, content: contents.get(entry.name)! })),
  };
}
