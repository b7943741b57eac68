/** Opens an address in the browser of the person at this machine. */

import { spawn } from "node:child_process";
import process from "node:process";

/** The command that opens addresses, by system. */
const OPENERS: Readonly<Record<string, readonly string[]>> = {
  darwin: ["open"],
  // `start` is no program but a word of the shell; the empty text is the title that it wants first.
  win32: ["cmd", "/c", "start", ""],
};

/**
 * Opens `url`, and does not wait for it.
 *
 * @returns false if there is surely nobody to see it: no display.
 */
export function openInBrowser(url: string): boolean {
  const { platform, env } = process;
  const isLinux = OPENERS[platform] === undefined;
  if (isLinux && env["DISPLAY"] === undefined && env["WAYLAND_DISPLAY"] === undefined) return false;
  const [command, ...args] = OPENERS[platform] ?? ["xdg-open"];
  const child = spawn(command!, [...args, url], { stdio: "ignore", detached: true });
  // It is missing: the address was printed, and can be opened by hand.
  child.on("error", () => {});
  child.unref();
  return true;
}
