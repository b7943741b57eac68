/** A worker of `team_test.ts`: meets its team for some rounds, then gives up if it is asked to. */

import { AtomicsTeam } from "../../src/linalg/team.ts";

/** Parameters of a member. */
export interface MemberTask {
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly index: number;
  readonly size: number;
  /** Its values, by round. */
  readonly values: readonly number[];
  readonly abort: boolean;
}

/** Its message at the end. */
export interface MemberReport {
  /** The maximum of each round. */
  readonly seen: readonly number[];
  readonly error: string | null;
}

interface WorkerScope {
  onmessage: ((event: MessageEvent<MemberTask>) => void) | null;
  postMessage(message: MemberReport): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data: task }) => {
  const team = new AtomicsTeam(task.control, task.index, task.size);
  const seen: number[] = [];
  let error: string | null = null;
  try {
    for (const value of task.values) seen.push(team.max(value));
    if (task.abort) team.abort();
    else team.barrier();
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  scope.postMessage({ seen, error });
};
