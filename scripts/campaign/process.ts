/** Runs the program in a process of its own, to its end or to a kill. */

import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stderr: string;
  readonly elapsedMs: number;
}

/** Action on a process. */
export interface Fault {
  /** Kill it so many milliseconds after its start. */
  readonly killAfterMs?: number;
  /** Arguments of strace that inject a fault; absent: it runs by itself. */
  readonly strace?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Called once the process runs, with its number. */
  readonly onStart?: (pid: number) => void;
  /** Called before its number is of another process. */
  readonly onEnd?: () => void;
}

/** No run of the campaign takes so long: it hangs. */
const HANGS_MS = 120_000;

/** Runs `quantsmith ...args`. */
export function runToEnd(args: readonly string[], fault: Fault = {}): Promise<Ended> {
  const command = [process.execPath, "run", "-A", "--quiet", "--no-check", MAIN, ...args];
  const line = fault.strace === undefined ? command : ["strace", ...fault.strace, ...command];
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(line[0]!, line.slice(1), {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, NO_COLOR: "1", ...fault.env },
      // strace and what it runs are killed as one.
      detached: true,
    });
    const kill = () => {
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    };
    let stderr = "";
    child.stderr.on("data", (part: Uint8Array) => stderr += new TextDecoder().decode(part));
    const timers = [setTimeout(kill, HANGS_MS)];
    if (fault.killAfterMs !== undefined) timers.push(setTimeout(kill, fault.killAfterMs));
    fault.onStart?.(child.pid!);
    child.on("error", reject);
    child.on("exit", () => fault.onEnd?.());
    child.on("close", (code, signal) => {
      for (const timer of timers) clearTimeout(timer);
      kill(); // what strace may have left
      resolve({ code, signal, stderr, elapsedMs: performance.now() - started });
    });
  });
}
