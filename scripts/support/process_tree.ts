/** Resources that a process and its children use, from `/proc`. Linux only. */

import fs from "node:fs";

/** Of the system: `getconf CLK_TCK` is 100 wherever Linux runs. */
const TICKS_PER_SECOND = 100;

/** Resources that a tree of processes uses now. */
export interface TreeUse {
  /** Bytes in memory; what processes share is counted once. */
  readonly bytes: number;
  /** Seconds of processor time of the living ones, and of those they waited for. */
  readonly cpuSeconds: number;
}

/** Returns what `root` and all below it take. Processes that end meanwhile are left out. */
export function treeUse(root: number): TreeUse {
  let bytes = 0, cpuSeconds = 0;
  for (const pid of treeOf(root)) {
    try {
      const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
      bytes += 1024 * Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0);
      // Behind the name, which may hold spaces: state is field 3, utime 14 to cstime 17.
      const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
      cpuSeconds += fields.slice(11, 15).map(Number).reduce((a, b) => a + b) / TICKS_PER_SECOND;
    } catch {
      continue;
    }
  }
  return { bytes, cpuSeconds };
}

function treeOf(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.split(") ").at(-1)!.split(" ")[1]);
      children.set(parent, [...children.get(parent) ?? [], Number(name)]);
    } catch {
      continue;
    }
  }
  const found = [root];
  for (let i = 0; i < found.length; i++) found.push(...children.get(found[i]!) ?? []);
  return found;
}
