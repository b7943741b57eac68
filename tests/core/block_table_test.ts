import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockTable } from "../../src/core/block_table.ts";
import { ChannelClient, createChannel, killChannel } from "../../src/remote/channel.ts";
import type { StoreSizes } from "../../src/remote/store_sizes.ts";

const SIZES: StoreSizes = {
  blockBytes: 1000,
  requestBlocks: 1,
  connections: 1,
  windowBlocks: 2,
  urgentBlocks: 1,
};

Deno.test("BlockTable finds a block by file and number while its slot is open", () => {
  const table = new BlockTable(BlockTable.create(2), () => {});
  table.open(1, { file: 3, block: 7 }, 400, 0);
  assert.deepEqual(table.pin({ file: 3, block: 7 }), { slot: 1, length: 400 });
  assert.equal(table.pin({ file: 7, block: 3 }), null);
  table.unpin(1, 0);
  assert.equal(table.close(1), true);
  assert.equal(table.pin({ file: 3, block: 7 }), null);
});

Deno.test("BlockTable closes a slot only when no thread reads it and all that is wanted was read", () => {
  let idle = 0;
  const table = new BlockTable(BlockTable.create(1), () => idle++);
  table.open(0, { file: 0, block: 0 }, 1000, 600);
  table.pin({ file: 0, block: 0 });
  table.unpin(0, 500);
  assert.deepEqual([idle, table.close(0)], [0, false]); // 100 are wanted
  table.pin({ file: 0, block: 0 });
  table.pin({ file: 0, block: 0 });
  table.unpin(0, 100);
  assert.deepEqual([idle, table.close(0)], [0, false]); // one pin is left
  table.want(0, 50);
  table.unpin(0, 0);
  assert.deepEqual([idle, table.close(0)], [0, false]); // 50 more are wanted
  table.forget(0);
  assert.equal(table.close(0), true);
});

Deno.test("BlockTable reports the release of the last pin of a block that is not wanted", () => {
  let idle = 0;
  const table = new BlockTable(BlockTable.create(1), () => idle++);
  table.open(0, { file: 0, block: 0 }, 1000, 1000);
  table.pin({ file: 0, block: 0 });
  table.unpin(0, 1000);
  assert.equal(idle, 1);
});

/** A channel that is not answered, with the blocks `names` of 1,000 bytes each that count from their number. */
function filled(names: readonly { file: number; block: number }[]) {
  const channel = createChannel(SIZES);
  const table = new BlockTable(channel.table, () => {});
  for (const [slot, name] of names.entries()) {
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => byteAt(name.file, name.block, i));
    new Uint8Array(channel.blocks).set(bytes, slot * 1000);
    table.open(slot, name, 1000, 1000);
  }
  killChannel(channel); // who would wait fails instead
  return { channel, table };
}

function byteAt(file: number, block: number, within: number): number {
  return (file * 101 + block * 31 + within) & 255;
}

Deno.test("ChannelClient reads from memory without an answer, across blocks", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: 1999 }).chain((begin) =>
      fc.tuple(fc.constant(begin), fc.integer({ min: 1, max: 2000 - begin }))
    ),
    ([begin, length]) => {
      const { channel } = filled([{ file: 1, block: 6 }, { file: 0, block: 5 }, {
        file: 1,
        block: 5,
      }]);
      const client = new ChannelClient(channel);
      const view = new Uint8Array(length);
      client.read(1, view, 5000 + begin);
      for (const [i, byte] of view.entries()) {
        const at = begin + i;
        assert.equal(byte, byteAt(1, 5 + Math.floor(at / 1000), at % 1000));
      }
      client.close();
    },
  ));
});

Deno.test("ChannelClient lets go of what it has read, and asks for what is not there", () => {
  const { channel, table } = filled([{ file: 0, block: 0 }]);
  const client = new ChannelClient(channel);
  assert.throws(() => client.read(0, new Uint8Array(1001), 0), /the download has ended/);
  assert.equal(table.close(0), true);
  client.close();
});

Deno.test("ChannelClient reads no byte beyond the last of a short block", () => {
  const channel = createChannel(SIZES);
  new BlockTable(channel.table, () => {}).open(0, { file: 0, block: 0 }, 300, 300);
  killChannel(channel);
  const client = new ChannelClient(channel);
  client.read(0, new Uint8Array(300), 0);
  assert.throws(() => client.read(0, new Uint8Array(1), 300), /the download has ended/);
  client.close();
});
