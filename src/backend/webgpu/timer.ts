/** How long the kernels of a batch ran, by the clock of the device (`timestamp-query`). */

/** Bytes of the two timestamps. */
export const TIMER_BYTES = 16;

const QUERY_RESOLVE = 0x200, COPY_SRC = 0x04;

/** A running measurement. */
export interface Timer {
  /** For the compute pass that is measured. */
  readonly writes: GPUComputePassTimestampWrites;
  /** Copies the timestamps to `into`, {@link TIMER_BYTES} at `offset`, behind the pass. */
  resolve(encoder: GPUCommandEncoder, into: GPUBuffer, offset: number): void;
  /** Gives back what the measurement took, once the work is done. */
  end(): void;
}

/** Prepares to measure one compute pass. The device has the feature `timestamp-query`. */
export function startTimer(device: GPUDevice): Timer {
  const querySet = device.createQuerySet({ label: "timer", type: "timestamp", count: 2 });
  const buffer = device.createBuffer({
    label: "timer",
    size: TIMER_BYTES,
    usage: QUERY_RESOLVE | COPY_SRC,
  });
  return {
    writes: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    resolve(encoder, into, offset) {
      encoder.resolveQuerySet(querySet, 0, 2, buffer, 0);
      encoder.copyBufferToBuffer(buffer, 0, into, offset, TIMER_BYTES);
    },
    end() {
      querySet.destroy();
      buffer.destroy();
    },
  };
}

/** Milliseconds between the two timestamps, which are in nanoseconds. */
export function elapsedMs(timestamps: Uint8Array<ArrayBuffer>): number {
  const [start, end] = new BigUint64Array(timestamps.buffer);
  return Number(end! - start!) / 1e6;
}
