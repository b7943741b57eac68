import assert from "node:assert/strict";
import fc from "fast-check";
import type { MemberReport, MemberTask } from "./team_member.ts";
import {
  AtomicsTeam,
  createTeamControl,
  shareOf,
  SOLO,
  triangleShareOf,
} from "../../src/linalg/team.ts";

const teamSizes = fc.integer({ min: 1, max: 9 });

function members(size: number) {
  return Array.from({ length: size }, (_, index) => ({ ...SOLO, index, size }));
}

Deno.test("shareOf() and triangleShareOf() cover everything once, in whole units", () => {
  fc.assert(
    fc.property(
      teamSizes,
      fc.nat(50),
      fc.nat(300),
      fc.integer({ min: 1, max: 40 }),
      (size, start, n, unit) => {
        const row = members(size).map((team) => shareOf(team, start, start + n, unit));
        const triangle = members(size).map((team) => triangleShareOf(team, n, unit));
        for (const [shares, from, to] of [[row, start, start + n], [triangle, 0, n]] as const) {
          let next = from;
          for (const share of shares) {
            assert.equal(share.start, next);
            assert(share.end >= share.start);
            if (share.end < to) assert.equal((share.end - from) % unit, 0);
            next = share.end;
          }
          assert.equal(next, to);
        }
      },
    ),
  );
});

Deno.test("triangleShareOf() gives parts of about equal area", () => {
  const areas = members(4).map((team) => {
    const { start, end } = triangleShareOf(team, 4096, 128);
    return (end * end - start * start) / 4096 ** 2;
  });
  for (const area of areas) assert(Math.abs(area - 0.25) < 0.05, `areas ${areas}`);
});

Deno.test("AtomicsTeam.max() returns the value of this round, also below zero, many times", () => {
  const team = new AtomicsTeam(createTeamControl(), 0, 1);
  for (const value of [5, -1, -1000, 0, 3, -(2 ** 31), 2 ** 31 - 1, -7]) {
    assert.equal(team.max(value), value);
  }
});

Deno.test("AtomicsTeam.barrier() throws if a member has given up", () => {
  const control = createTeamControl();
  new AtomicsTeam(control, 1, 2).abort();
  const team = new AtomicsTeam(control, 0, 2);
  assert.throws(() => team.barrier(), /another worker of the team has stopped/);
  assert.throws(() => team.max(1), /another worker of the team has stopped/);
});

/** The value of member `index` in `round`. */
function valueOf(round: number, index: number): number {
  return (round * 7 + index * 3) % 11 - 5;
}

async function runMembers(
  size: number,
  rounds: number,
  aborting: number,
): Promise<MemberReport[]> {
  const url = new URL("./team_member.ts", import.meta.url), control = createTeamControl();
  const workers = Array.from({ length: size }, () => new Worker(url, { type: "module" }));
  const reports = await Promise.all(
    workers.map((worker, index) =>
      new Promise<MemberReport>((resolve, reject) => {
        worker.onmessage = ({ data }: MessageEvent<MemberReport>) => resolve(data);
        worker.onerror = (event) => reject(new Error(event.message));
        const values = Array.from({ length: rounds }, (_, round) => valueOf(round, index));
        const task: MemberTask = { control, index, size, values, abort: index === aborting };
        worker.postMessage(task);
      })
    ),
  );
  for (const worker of workers) worker.terminate();
  return reports;
}

Deno.test("AtomicsTeam gives every worker the largest value of every round", async () => {
  const size = 3, rounds = 500;
  const want = Array.from(
    { length: rounds },
    (_, round) => Math.max(...[0, 1, 2].map((index) => valueOf(round, index))),
  );
  for (const { seen, error } of await runMembers(size, rounds, -1)) {
    assert.equal(error, null);
    assert.deepEqual(seen, want);
  }
});

Deno.test("AtomicsTeam.abort() frees the workers that wait", async () => {
  const reports = await runMembers(3, 4, 1);
  assert.equal(reports[1]!.error, null);
  for (const { error } of [reports[0]!, reports[2]!]) {
    assert.match(error!, /another worker of the team has stopped/);
  }
});
