import assert from "node:assert/strict";
import fc from "fast-check";
import { TaskList } from "../../src/run/task_list.ts";
import { CHUNK_ELEMENTS, chunkCount, chunkRect } from "../../src/run/chunk_grid.ts";
import { provideMoreKinds } from "../../src/run/loaded_kinds.ts";
import { MORE_KINDS } from "../../src/run/more_kinds.ts";
import { chunkGrid, isDoneAlone } from "../../src/run/task_kinds.ts";
import type { Compensation } from "../../src/calibration/compensation.ts";
import type { QuantizeTask, Task } from "../../src/run/tasks.ts";
import type { MatrixSource } from "../../src/formats/matrix_source.ts";

provideMoreKinds(MORE_KINDS);

function matrix(rows: number, cols: number): MatrixSource {
  return {
    name: "w",
    file: 0,
    offsetBytes: 0,
    dtype: "BF16",
    rows,
    cols,
    scale: null,
    convrotGroupSize: null,
  };
}

function quantize(
  source: MatrixSource,
  groupRows: number,
  groupCols: number,
  convrotGroupSize: number | null = null,
): QuantizeTask {
  return {
    kind: "quantize",
    name: "w",
    source,
    groupRows,
    groupCols,
    convrotGroupSize,
    scaleSearch: false,
    compensation: null,
    codesOffsetBytes: 0,
    scalesOffsetBytes: 0,
  };
}

/** Every element of the matrix is in exactly one chunk: areas add up and no chunk leaves the matrix. */
function assertTiles(task: Task): void {
  const grid = chunkGrid(task);
  let area = 0;
  const starts = new Set<string>();
  for (let i = 0; i < chunkCount(grid); i++) {
    const rect = chunkRect(grid, i);
    assert.ok(rect.rows > 0 && rect.cols > 0);
    assert.ok(rect.row + rect.rows <= grid.rows && rect.col + rect.cols <= grid.cols);
    assert.equal(rect.row % grid.rowStep, 0);
    assert.equal(rect.col % grid.colStep, 0);
    starts.add(`${rect.row},${rect.col}`);
    area += rect.rows * rect.cols;
  }
  assert.equal(starts.size, chunkCount(grid));
  assert.equal(area, grid.rows * grid.cols);
}

Deno.test("chunkGrid() tiles every matrix without overlap for row scaling", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: 5000 }),
    fc.integer({ min: 0, max: 40_000 }),
    (rows, cols) => assertTiles(quantize(matrix(rows, cols), 1, Math.max(1, cols))),
  ));
});

Deno.test("chunkGrid() keeps blocks whole", () => {
  fc.assert(fc.property(
    fc.constantFrom(16, 64, 128),
    fc.integer({ min: 1, max: 40 }),
    fc.integer({ min: 1, max: 300 }),
    (size, down, across) => {
      const task = quantize(matrix(down * size, across * size), size, size);
      assertTiles(task);
      const grid = chunkGrid(task);
      assert.equal(grid.rowStep % size, 0);
      assert.equal(grid.colStep % size, 0);
    },
  ));
});

Deno.test("chunkGrid() streams what one scale covers beyond a chunk", () => {
  assert.equal(chunkGrid(quantize(matrix(4096, 4096), 4096, 4096)).streamed, true);
  assert.equal(
    chunkGrid(quantize(matrix(2, CHUNK_ELEMENTS + 1), 1, CHUNK_ELEMENTS + 1)).streamed,
    true,
  );
  assert.equal(chunkGrid(quantize(matrix(4096, 4096), 1, 4096)).streamed, false);
});

Deno.test("chunkGrid() cuts a long row at rotation groups when it is only read", () => {
  const source = { ...matrix(1, 3 * CHUNK_ELEMENTS), convrotGroupSize: 4096 };
  const grid = chunkGrid({ kind: "scan", name: "w", source, limit: Infinity });
  assert.equal(grid.colStep % 4096, 0);
  assertTiles({ kind: "scan", name: "w", source, limit: Infinity });
});

Deno.test("TaskList finds the task of every chunk, empty tensors included", () => {
  const copy = (byteLength: number): Task => ({
    kind: "copy",
    name: `c${byteLength}`,
    file: 0,
    offsetBytes: 0,
    byteLength,
    outOffsetBytes: 0,
  });
  const list = new TaskList([copy(0), copy(5), copy(0), copy(9_000_000), copy(1), copy(0)]);
  const owners = Array.from({ length: list.chunkCount }, (_, chunk) => list.taskOf(chunk));
  assert.deepEqual(owners, [1, 3, 3, 3, 3, 3, 4]);
});

/** A layer with 1,024 rows of inputs. */
function withInputs(rows: number, cols: number): QuantizeTask {
  const dtype = "F32" as const;
  const compensation: Compensation = {
    ...{
      statistic: "activations",
      rows: 1024,
      cols,
      heldOut: null,
      directions: null,
      segments: null,
    },
    data: { kind: "file", path: "in", name: "w.activations", file: 1, offsetBytes: 0, dtype },
    ...{ damping: 0.1, actOrder: false, turbo: true, guarded: false, pairs: 1 },
    ...{ weightedScales: false, fallbackScaleSearch: true },
  } as unknown as Compensation;
  return { ...quantize(matrix(rows, cols), 1, cols), compensation };
}

Deno.test("isDoneAlone() is true of small layers with data, which come behind those of the team", () => {
  const small = withInputs(384, 1536), large = withInputs(4096, 4096);
  const plain = quantize(matrix(8, 16), 1, 16);
  assert.deepEqual([small, large, plain].map(isDoneAlone), [true, false, false]);
  const list = new TaskList([large, small, small, plain]);
  assert.deepEqual([list.teamCount, list.aloneCount, list.endAlone], [1, 2, 3]);
  assert.throws(() => new TaskList([small, large, plain]), /must come first/);
});
