import assert from "node:assert/strict";
import { assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { groupedLevels, levelsOf, levelTables } from "../../src/quant/level_grid.ts";
import { uniform } from "./values.ts";

for (const bits of [4, 6] as const) {
  const scheme = groupedLevels({ bits, groupCols: 64 }), sets = 127, cols = 64;
  Deno.test(`packLevels() finds the codes of the table in sets, too: ${bits} bits`, () =>
    assertSameOnAllBackends("all levels of all sets", async (subject) => {
      const tables = levelTables(scheme, (count) => new Uint8Array(count));
      const rounding = {
        ...tables.rounding!,
        steps: subject.input<Int8Array | Uint8Array>(tables.rounding!.steps),
      } as NonNullable<typeof tables.rounding>;
      const levels = Int8Array.from({ length: sets * cols }, (_, i) => {
        const own = levelsOf(scheme, Math.floor(i / cols));
        return own[i % own.length]!;
      });
      const packed = subject.output(new Uint8Array(), sets * cols * bits / 8);
      await subject.kernels.packLevels(packed, subject.input(levels), {
        ...{ bits, cols, groupCols: cols, rounding },
        choices: subject.input(Uint8Array.from({ length: sets }, (_, set) => set)),
        codes: subject.input(tables.codes),
      });
      return [packed];
    }));
}

for (const bits of [4, 6] as const) {
  for (const [rows, cols, groupCols] of [[3, 16, 16], [5, 96, 48], [2, 512, 16], [9, 256, 256]]) {
    const next = uniform(rows! * cols!), below = (n: number) => Math.floor(n * next());
    const sets = 5,
      choices = Uint8Array.from(
        { length: rows! * cols! / groupCols! },
        () => below(sets),
      );
    const levels = Int8Array.from({ length: rows! * cols! }, () => below(256) - 128);
    const codes = Uint8Array.from({ length: sets * 256 }, () => below(2 ** bits));
    const packing = { bits, cols: cols!, groupCols: groupCols!, choices, codes };
    const name = `${bits} bits, [${rows}, ${cols}], groups of ${groupCols}`;

    testEachBackend(
      `packLevels() puts every bit at the place of the format: ${name}`,
      async (subject) => {
        const rowBytes = cols! * bits / 8;
        const packed = subject.output(new Uint8Array(), rows! * rowBytes);
        await subject.kernels.packLevels(packed, subject.input(levels), {
          ...packing,
          choices: subject.input(choices),
          codes: subject.input(codes),
        });
        levels.forEach((level, i) => {
          const row = Math.floor(i / cols!) * rowBytes, c = i % cols!;
          const low = packed[row + (c >> 1)]! >> 4 * (c % 2) & 15;
          const high = bits === 4 ? 0 : packed[row + cols! / 2 + (c >> 2)]! >> 2 * (c % 4) & 3;
          const want = codes[choices[Math.floor(i / groupCols!)]! * 256 + level + 128];
          assert.equal(low | high << 4, want, `element ${i}`);
        });
      },
    );

    Deno.test(`packLevels() gives the same on every backend: ${name}`, () =>
      assertSameOnAllBackends(name, async (subject) => {
        const packed = subject.output(new Uint8Array(), rows! * cols! * bits / 8);
        await subject.kernels.packLevels(packed, subject.input(levels), {
          ...packing,
          choices: subject.input(choices),
          codes: subject.input(codes),
        });
        return [packed];
      }));
  }
}

testEachBackend(
  "packLevels() refuses sizes that do not fit, and sets that are not there",
  async (subject) => {
    const packed = subject.output(new Uint8Array(), 16), levels = subject.input(new Int8Array(32));
    const good = { bits: 4, cols: 32, groupCols: 16, choices: new Uint8Array(2) } as const;
    const codes = new Uint8Array(256);
    const bad: [object, RegExp][] = [
      [{ groupCols: 8 }, /no multiple of 16/],
      [{ cols: 40 }, /do not tile 40 columns/],
      [{ bits: 6 }, /packed has 16 elements, needs 24/],
      [{ choices: Uint8Array.of(0, 1) }, /set 1 is not among the 1/],
      [{ choices: new Uint8Array(3) }, /levels has 32 elements, needs 48/],
    ];
    for (const [more, message] of bad) {
      await assert.rejects(
        async () => await subject.kernels.packLevels(packed, levels, { ...good, codes, ...more }),
        message,
      );
    }
    packed.fill(0);
  },
);
